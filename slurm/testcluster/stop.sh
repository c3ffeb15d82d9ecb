#!/usr/bin/env bash
# Stop the cluster that start.sh started, and nothing else.   stop.sh [--root DIR] [--purge]     --purge: remove DIR too
set -uo pipefail

ROOT=/var/tmp/equipoise-testcluster PURGE=0
while [ $# -gt 0 ]; do
  case $1 in
    --root) ROOT=$2; shift 2 ;;
    --purge) PURGE=1; shift ;;
    *) echo "test cluster: $1 is no option; see the head of $0" >&2; exit 2 ;;
  esac
done
ROOT=$(realpath -m "$ROOT")
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ -d "$ROOT" ] || { say "$ROOT is not there"; exit 0; }
head -1 "$CONF" 2>/dev/null | grep -qxF "$MARK" || refuse "$ROOT is no test cluster"
export SLURM_CONF=$CONF

end TERM 2 "$ROOT/run/watch.pid"
if pid_of "$ROOT/run/slurmctld.pid" >/dev/null && [ -n "$(timeout 5 squeue -h 2>/dev/null)" ]; then
  timeout 5 squeue -h -o %A 2>/dev/null | sort -u | timeout 5 xargs -r scancel >/dev/null 2>&1
  for ((t = 0; t < 80; t++)); do [ -n "$(timeout 2 squeue -h 2>/dev/null)" ] || break; sleep 0.1; done
fi
end TERM 10 "$ROOT/run/slurmctld.pid" "$ROOT"/run/slurmd.*.pid
end TERM 10 "$ROOT/run/slurmdbd.pid"
end TERM 20 "$ROOT/run/mariadbd.pid"
# what a killed slurmd or slurmstepd left behind: jobs and daemons that name this root
for dir in /proc/[0-9]*; do
  pid=${dir#/proc/}
  [ "$pid" != $$ ] && [ "$pid" != "$PPID" ] && grep -qzxF "SLURM_CONF=$CONF" "$dir/environ" 2>/dev/null \
    && grep -qz '^SLURM_JOB_ID=' "$dir/environ" 2>/dev/null && kill -KILL "$pid" 2>/dev/null
done
end TERM 5 "$ROOT/run/munged.pid"
if [ "$PURGE" = 1 ]; then rm -rf -- "$ROOT"; fi
say "stopped"
