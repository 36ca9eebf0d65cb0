#!/usr/bin/env bash
# On each host of a TPU pod: what launch/tpu_pod.sh asks for through ssh.
#
#   tpu_worker.sh install [SHARE MOUNT_POINT]   mounts the NFS share, installs JAX and the rest
#   tpu_worker.sh start ARGUMENTS               starts training, which outlives the connection
#   tpu_worker.sh state [WORKDIR]               prints "INDEX STATE CHECKPOINT", see `state` below
#   tpu_worker.sh log [OFFSET]                  prints the log, without its first OFFSET bytes
#   tpu_worker.sh stop                          SIGTERM: training saves and ends
#   tpu_worker.sh kill                          SIGKILL, for what waits for a host that is lost
set -euo pipefail

base=$HOME/speedpaper_jax
code=$base/code
venv=$base/venv
run=$base/run           # supervisor, process: their numbers; status; stopped; log
coordinator_port=8482   # JAX's own choice on TPUs

# What Google's metadata server knows about this host.
metadata() {
  curl --fail --silent --header "Metadata-Flavor: Google" \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

# The pod's hosts as `HOST,HOST,…`, or as `NAME:NUMBER:HOST,…`; the first has process 0.
host_flags() {
  local hosts
  IFS=, read -ra hosts < <(metadata worker-network-endpoints; echo)
  if ((${#hosts[@]} > 1)); then
    echo "--coordinator_address=${hosts[0]##*:}:$coordinator_port"
    echo "--process_count=${#hosts[@]}"
    echo "--process_index=$(metadata agent-worker-number)"
  fi
}

mount_share() {
  mountpoint --quiet "$2" && return
  if ! command -v mount.nfs > /dev/null; then
    # A fresh host still installs updates, and holds the lock.
    sudo apt-get -o DPkg::Lock::Timeout=600 --quiet update
    sudo apt-get -o DPkg::Lock::Timeout=600 --quiet --yes install nfs-common
  fi
  sudo mkdir -p "$2"
  sudo mount -t nfs "$1" "$2"
}

install() {
  if (($# == 2)); then
    mount_share "$1" "$2"
  fi
  if [[ ! -x $venv/bin/pip ]]; then
    if python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      python3 -m venv "$venv"
    else
      # The images have Ubuntu 22.04 with Python 3.10.
      python3 -m pip install --quiet --user uv
      python3 -m uv venv --quiet --seed --python 3.12 "$venv"
    fi
  fi
  local version
  version=$(sed -n 's/^jax==\([^ ]*\).*/\1/p' "$code/requirements.txt")
  "$venv/bin/pip" install --quiet -r "$code/requirements.txt" "jax[tpu]==$version"
}

# Numbers of processes are given again after a host has restarted: is it this script?
is_running() {
  [[ -e $run/supervisor ]] &&
    grep --quiet tpu_worker.sh "/proc/$(< "$run/supervisor")/cmdline" 2> /dev/null
}

start() {
  if is_running; then
    echo "Training is running here already."
    return
  fi
  mkdir -p "$run"
  rm -f "$run"/{supervisor,process,status,stopped}
  local flags
  mapfile -t flags < <(host_flags)
  setsid nohup "$0" supervise "$@" "${flags[@]}" >> "$run/log" 2>&1 < /dev/null &
  echo $! > "$run/supervisor.new"
  # Once it is there, the state is never unknown.
  mv "$run/supervisor.new" "$run/supervisor"
}

supervise() {
  cd "$code"
  "$venv/bin/python" -m speedpaper_jax.main "$@" &
  echo $! > "$run/process"
  local status=0
  wait $! || status=$?
  echo "$status" > "$run/status.new"
  mv "$run/status.new" "$run/status"
}

# One of: running; exited:STATUS, with 128 added to a signal's number; stopped, after `stop`; lost,
# when the host was restarted below it; never, when nothing was started.
state() {
  local word=never checkpoint=-
  if is_running; then
    word=running
  elif [[ -e $run/status ]]; then
    word=exited:$(< "$run/status")
    # `stop` may come too late.
    if [[ -e $run/stopped && $word != exited:0 ]]; then
      word=stopped
    fi
  elif [[ -e $run/supervisor ]]; then
    word=lost
  fi
  if (($# == 1)) && [[ -d $1/checkpoints ]]; then
    checkpoint=$(find "$1/checkpoints" -mindepth 1 -maxdepth 1 -regex '.*/[0-9]+' -printf '%f\n' |
      sort --numeric-sort | tail -n 1)
  fi
  echo "$(metadata agent-worker-number) $word ${checkpoint:--}"
}

# Whether training has ended in a way after which tpu_pod.sh starts it anew.
asks_for_a_start() {
  local status
  [[ -e $run/status ]] && status=$(< "$run/status") &&
    ((status == 75 || (status > 128 && status != 130)))
}

send() {
  if is_running && [[ -e $run/process ]]; then
    kill "-$1" "$(< "$run/process")" 2> /dev/null || true
  fi
}

case ${1:-} in
  install | start | supervise | state) "$@" ;;
  log)
    if [[ -e $run/log ]]; then
      tail --bytes=+$((${2:-0} + 1)) "$run/log"
    fi
    ;;
  stop)
    # It may have ended with another host's just before, and would be started anew.
    if is_running || asks_for_a_start; then
      touch "$run/stopped"
      send TERM
    fi
    ;;
  kill) send KILL ;;
  *)
    sed -n 's/^#  *\(tpu_worker.sh\)/\1/p' "$0" >&2
    exit 1
    ;;
esac
