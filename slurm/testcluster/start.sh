#!/usr/bin/env bash
# A real SLURM on one machine: several nodes, fake GPUs, a partition that preempts, optional accounting.
# For tests and for trying things out; Debian 12 or Ubuntu, as root. Everything lives under one root folder,
# has its own ports and its own munge key, and leaves /etc alone. Running it again revives what has died.
#
#   start.sh [--root DIR] [--nodes 4] [--cpus 2] [--memory 4000] [--gpus 2] [--port 26800] [--accounting]
#            [--while PID]     stop the cluster once process PID is gone
#
# Then: source DIR/env
set -euo pipefail

ROOT=/var/tmp/equipoise-testcluster NODES=4 CPUS=2 MEMORY=4000 GPUS=2 PORT=26800 ACCOUNTING=0 WHILE=
while [ $# -gt 0 ]; do
  case $1 in
    --root) ROOT=$2 ;; --nodes) NODES=$2 ;; --cpus) CPUS=$2 ;; --memory) MEMORY=$2 ;; --gpus) GPUS=$2 ;;
    --port) PORT=$2 ;; --while) WHILE=$2 ;;
    --accounting) ACCOUNTING=1; shift; continue ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit ;;
    *) echo "test cluster: $1 is no option; see the head of $0" >&2; exit 2 ;;
  esac
  shift 2
done
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(realpath -m "$ROOT")
. "$HERE/common.sh"

# --- refuse what is not ours ------------------------------------------------------------------------------------
[ "$(id -u)" = 0 ] || refuse "must be started as root: slurmd starts jobs as their users"
case $ROOT in *[!A-Za-z0-9/._-]*) refuse "root $ROOT: only letters, digits and / . _ - are allowed" ;; esac
for number in "$NODES" "$CPUS" "$MEMORY" "$GPUS" "$PORT" "${WHILE:-1}"; do
  case $number in ''|*[!0-9]*) refuse "'$number' is no whole number" ;; esac
done
[ "$NODES" -ge 1 ] || refuse "--nodes $NODES: a cluster needs at least one node"
if [ -d "$ROOT" ] && [ -n "$(ls -A "$ROOT")" ] && ! head -1 "$CONF" 2>/dev/null | grep -qxF "$MARK"; then
  refuse "$ROOT exists and is no test cluster"
fi
case ${SLURM_CONF:-$CONF} in "$CONF") ;; *)
  head -1 "$SLURM_CONF" 2>/dev/null | grep -qxF "$MARK" || refuse "SLURM_CONF=$SLURM_CONF: this shell uses another SLURM"
esac
for conf in /etc/slurm/slurm.conf /etc/slurm-llnl/slurm.conf; do
  [ ! -e "$conf" ] || refuse "$conf exists: this machine belongs to a SLURM already"
done
for pid in $(pgrep -x slurmctld || true) $(pgrep -x slurmd || true); do
  other=$(tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -A1 -x -- -f | tail -1) || true
  [ -n "$other" ] && head -1 "$other" 2>/dev/null | grep -qxF "$MARK" || ! alive "$pid" \
    || refuse "process $pid is a $(cat "/proc/$pid/comm") that is not a test cluster's"
done

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port_free() { # PORT PIDFILE: free, or held by our own daemon
  pid_of "$2" >/dev/null || ! taken "$1" || refuse "port $1 is in use; choose others with --port"
}
port_free "$PORT" "$ROOT/run/slurmctld.pid"
[ "$ACCOUNTING" = 0 ] || port_free $((PORT + 1)) "$ROOT/run/slurmdbd.pid"
for ((i = 0; i < NODES; i++)); do port_free $((PORT + 2 + i)) "$ROOT/run/slurmd.n$i.pid"; done

mkdir -p "$ROOT"/{etc,run,log,state,dev}
chmod 755 "$ROOT" "$ROOT"/{etc,run,log,state,dev}
exec 9>"$ROOT/run/lock"
flock -w 60 9 || refuse "another start of $ROOT is still at work"

# --- packages ---------------------------------------------------------------------------------------------------
need=()
want() { command -v "$1" >/dev/null || need+=("$2"); } # COMMAND PACKAGE
want munged munge; want slurmctld slurmctld; want slurmd slurmd; want sbatch slurm-client
if [ "$ACCOUNTING" = 1 ]; then
  want slurmdbd slurmdbd; want mariadbd mariadb-server-core; want mariadb mariadb-client-core
  compgen -G '/usr/lib/*/slurm-wlm/accounting_storage_mysql.so' >/dev/null || need+=(slurm-wlm-mysql-plugin)
fi
if [ ${#need[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || refuse "${need[*]} missing, and there is no apt-get to install them"
  say "installing ${need[*]}"
  export DEBIAN_FRONTEND=noninteractive
  install() { apt-get install -y -qq --no-install-recommends "${need[@]}" >>"$ROOT/log/apt.log" 2>&1; }
  install || { apt-get update -qq >>"$ROOT/log/apt.log" 2>&1; install; } \
    || refuse "cannot install ${need[*]}: $(grep -m1 '^E:' "$ROOT/log/apt.log" || echo "see $ROOT/log/apt.log")"
fi

# --- configuration ----------------------------------------------------------------------------------------------
HOST=$(hostname -s) LAST=$((NODES - 1))
for ((i = 0; i < NODES; i++)); do
  mkdir -p "$ROOT/spool/n$i"
  for ((g = 0; g < GPUS; g++)); do
    # slurmd sets CUDA_VISIBLE_DEVICES only for character devices: copies of /dev/null
    [ -c "$ROOT/dev/n$i-gpu$g" ] || mknod -m 666 "$ROOT/dev/n$i-gpu$g" c 1 3
  done
done
{
  cat <<CONF
$MARK
ClusterName=equipoise
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# short credentials: a requeued job starts again after seconds, not two minutes
AuthInfo=socket=$ROOT/run/munge.socket,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$ROOT/state
SlurmdSpoolDir=$ROOT/spool/%n
SlurmctldPidFile=$ROOT/run/slurmctld.pid
SlurmdPidFile=$ROOT/run/slurmd.%n.pid
SlurmctldLogFile=$ROOT/log/slurmctld.log
SlurmdLogFile=$ROOT/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
# nodes may claim more cores and memory than the machine has
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=5
SlurmdTimeout=30
SlurmctldTimeout=30
# finished jobs stay visible to squeue, which is all there is without accounting
MinJobAge=3600
MaxJobCount=20000
MaxArraySize=1001
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# a preempted job is told with the signal it asked for, not with SIGTERM alone
SlurmctldParameters=preempt_send_user_signal
GresTypes=gpu
CONF
  if [ "$ACCOUNTING" = 1 ]; then
    cat <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PORT + 1))
# with munge, the "password" is the socket
AccountingStoragePass=$ROOT/run/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations
CONF
  else
    echo "AccountingStorageType=accounting_storage/none"
  fi
  gres=; [ "$GPUS" = 0 ] || gres=" Gres=gpu:fake:$GPUS"
  for ((i = 0; i < NODES; i++)); do
    echo "NodeName=n$i NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((PORT + 2 + i)) CPUs=$CPUS RealMemory=$MEMORY$gres State=UNKNOWN"
  done
  common="Nodes=n[0-$LAST] MaxTime=INFINITE DefMemPerCPU=500 State=UP"
  echo "PartitionName=main $common Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=30"
  echo "PartitionName=urgent $common PriorityTier=10 PreemptMode=OFF"
} >"$CONF.new"
{
  echo "AutoDetect=off"
  for ((i = 0; i < NODES && GPUS > 0; i++)); do
    echo "NodeName=n$i Name=gpu Type=fake Flags=nvidia_gpu_env File=$ROOT/dev/n$i-gpu[0-$((GPUS - 1))]"
  done
} >"$ROOT/etc/gres.conf"
mv "$CONF.new" "$CONF"
echo "export SLURM_CONF=$CONF" >"$ROOT/env"
export SLURM_CONF=$CONF

if [ -n "$WHILE" ] && ! pid_of "$ROOT/run/watch.pid" >/dev/null; then
  setsid bash -c 'while kill -0 "$1" 2>/dev/null; do sleep 2; done; rm -f "$2/run/watch.pid"; exec bash "$3/stop.sh" --root "$2" --purge' \
    "$ROOT/watch" "$WHILE" "$ROOT" "$HERE" </dev/null >/dev/null 2>&1 9<&- &
  echo $! >"$ROOT/run/watch.pid"
fi

# --- daemons: each closes the lock (9<&-), or it would hold it for life --------------------------------------------
if ! pid_of "$ROOT/run/munged.pid" >/dev/null; then
  [ -s "$ROOT/etc/munge.key" ] || (umask 077; head -c 128 /dev/urandom >"$ROOT/etc/munge.key")
  rm -f "$ROOT"/run/munge.socket*
  munged --socket="$ROOT/run/munge.socket" --key-file="$ROOT/etc/munge.key" --pid-file="$ROOT/run/munged.pid" \
    --log-file="$ROOT/log/munged.log" --seed-file="$ROOT/state/munged.seed" 9<&- \
    || refuse "munged does not start: $(tail -1 "$ROOT/log/munged.log")"
fi

if [ "$ACCOUNTING" = 1 ]; then
  db="$ROOT/mysql/mysqld.sock"
  if ! pid_of "$ROOT/run/mariadbd.pid" >/dev/null; then
    mkdir -p "$ROOT/mysql"; chmod 700 "$ROOT/mysql"
    [ -d "$ROOT/mysql/mysql" ] || mariadb-install-db --no-defaults --user=root --datadir="$ROOT/mysql" --skip-test-db \
      --auth-root-authentication-method=socket >"$ROOT/log/mariadb-install.log" 2>&1
    setsid mariadbd --no-defaults --user=root --datadir="$ROOT/mysql" --socket="$db" --pid-file="$ROOT/mysql/pid" \
      --skip-networking --innodb-buffer-pool-size=128M --innodb-lock-wait-timeout=900 \
      --log-error="$ROOT/log/mariadb.log" </dev/null >/dev/null 2>&1 9<&- &
    echo $! >"$ROOT/run/mariadbd.pid"
    for ((t = 0; t < 300; t++)); do mariadb --no-defaults --socket="$db" -e '' >/dev/null 2>&1 && break; sleep 0.1; done
    mariadb --no-defaults --socket="$db" -e "CREATE DATABASE IF NOT EXISTS slurm_acct_db" \
      || refuse "mariadbd does not answer: $(tail -1 "$ROOT/log/mariadb.log")"
  fi
  if ! pid_of "$ROOT/run/slurmdbd.pid" >/dev/null; then
    (umask 077; cat >"$ROOT/etc/slurmdbd.conf" <<CONF
DbdHost=$HOST
DbdAddr=127.0.0.1
DbdPort=$((PORT + 1))
AuthType=auth/munge
AuthInfo=socket=$ROOT/run/munge.socket
SlurmUser=root
PidFile=$ROOT/run/slurmdbd.pid
LogFile=$ROOT/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
CONF
    )
    MYSQL_UNIX_PORT="$db" slurmdbd 9<&-
    for ((t = 0; t < 300; t++)); do timeout 5 sacctmgr -n show cluster >/dev/null 2>&1 && break; sleep 0.1; done
    for what in "cluster equipoise" "account research" "user root account=research"; do
      sacctmgr -i add $what >>"$ROOT/log/sacctmgr.log" 2>&1 || true   # fails when it is there already
    done
  fi
fi

if pid_of "$ROOT/run/slurmctld.pid" >/dev/null; then scontrol reconfigure >/dev/null 2>&1 || true
else slurmctld -f "$CONF" 9<&- >>"$ROOT/log/slurmctld.out" 2>&1 || refuse "slurmctld does not start: $(tail -1 "$ROOT/log/slurmctld.log")"; fi
for ((i = 0; i < NODES; i++)); do
  pid_of "$ROOT/run/slurmd.n$i.pid" >/dev/null || slurmd -f "$CONF" -N "n$i" 9<&- >>"$ROOT/log/slurmd.out" 2>&1 \
    || refuse "slurmd n$i does not start: $(tail -1 "$ROOT/log/slurmd.n$i.log")"
done
for ((t = 0; t < 300; t++)); do
  up=$(sinfo -h -N -p main -o '%T' 2>/dev/null | grep -cxE 'idle|mixed|allocated|completing' || true)
  [ "$up" -lt "$NODES" ] || break
  sleep 0.1
done
[ "$up" -ge "$NODES" ] || refuse "only $up of $NODES nodes came up; see $ROOT/log"

say "$NODES nodes are up; source $ROOT/env"
