# Shared by start.sh and stop.sh: what a process of this cluster is, and how to end one.
# Expects ROOT; sets CONF. Nothing here looks at a process by name alone.

CONF="$ROOT/etc/slurm.conf"
MARK="# Equipoise test cluster"

say() { printf 'test cluster: %s\n' "$*"; }
refuse() { printf 'test cluster: %s\n' "$*" >&2; exit 2; }

alive() { kill -0 "$1" 2>/dev/null && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; }

# ours PID: a live process that was started from this root (a recycled pid is somebody else's)
ours() {
  alive "$1" || return 1
  tr '\0' '\n' <"/proc/$1/cmdline" 2>/dev/null | grep -qF "$ROOT/" && return 0
  tr '\0' '\n' <"/proc/$1/environ" 2>/dev/null | grep -qxF "SLURM_CONF=$CONF"
}

pid_of() { local pid; pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] && ours "$pid" && echo "$pid"; }

# end SIGNAL SECONDS PIDFILE…: signal all of them, wait, kill what is left
end() {
  local signal=$1 tenths=$(( $2 * 10 )) file pid; local -a pids=(); shift 2
  for file in "$@"; do pid=$(pid_of "$file") && kill "-$signal" "$pid" && pids+=("$pid"); done
  for pid in "${pids[@]}"; do
    while alive "$pid" && [ "$tenths" -gt 0 ]; do sleep 0.1; tenths=$((tenths - 1)); done
    alive "$pid" && kill -KILL "$pid"
  done
  rm -f -- "$@"
}
