#!/usr/bin/env bash
# A Slurm cluster of two nodes on this machine, to try launch/slurm.sbatch with.
#
#   local_slurm.sh start DIRECTORY   a controller, two node daemons, munge; all files lie below it
#   local_slurm.sh stop DIRECTORY    cancels its jobs and ends all of it
#
# Afterwards `export SLURM_CONF=DIRECTORY/slurm.conf`, and sbatch, squeue and scancel reach it. It
# needs root and, on Debian, `apt-get install slurm-wlm munge`. A Slurm that is already there is
# left alone.
set -euo pipefail

usage() {
  echo "usage: $0 start|stop DIRECTORY" >&2
  exit 1
}

free_ports() {
  python3 -c '
import socket
sockets = [socket.socket() for _ in range(3)]
for each in sockets:
  each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in sockets))'
}

write_configuration() {
  local controller first second
  read -r controller first second < <(free_ports)
  cat > "$directory/slurm.conf" <<CONFIGURATION
ClusterName=local
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=$controller
SlurmUser=root
AuthInfo=socket=$directory/munge.socket,cred_expire=5
SlurmctldPidFile=$directory/slurmctld.pid
SlurmctldLogFile=$directory/slurmctld.log
SlurmdPidFile=$directory/slurmd.%n.pid
SlurmdLogFile=$directory/slurmd.%n.log
SlurmdSpoolDir=$directory/spool.%n
StateSaveLocation=$directory/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=15
SchedulerParameters=sched_interval=2
NodeName=node1 NodeAddr=127.0.0.1 Port=$first CPUs=2
NodeName=node2 NodeAddr=127.0.0.1 Port=$second CPUs=2
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONFIGURATION
}

# A node daemon with a host name of its own, and with a hosts file that resolves the nodes' names:
# in namespaces, so that the machine keeps its own.
start_node() {
  # shellcheck disable=SC2016 # expanded within
  unshare --uts --mount bash -c '
    hostname "$1"
    mount --bind "$2" /etc/hosts
    exec slurmd' start_node "$1" "$directory/hosts"
}

start() {
  mkdir -p "$directory/state"
  trap stop EXIT # unless all goes well
  chmod 755 "$directory"
  write_configuration
  { cat /etc/hosts; echo "127.0.0.1 node1 node2"; } > "$directory/hosts"
  (
    umask 077
    head -c 128 /dev/urandom > "$directory/munge.key"
  )
  # With --force, as munge would have its files in directories of its own.
  munged --force --key-file="$directory/munge.key" --socket="$directory/munge.socket" \
    --pid-file="$directory/munged.pid" --log-file="$directory/munged.log" \
    --seed-file="$directory/munged.seed" --num-threads=2
  export SLURM_CONF=$directory/slurm.conf
  slurmctld
  start_node node1
  start_node node2
  for _ in {1..100}; do
    if [[ $(sinfo --noheader --states=idle --format=%D 2> /dev/null) == 2 ]]; then
      trap - EXIT
      sinfo
      echo "export SLURM_CONF=$SLURM_CONF"
      return
    fi
    sleep 0.2
  done
  echo "The two nodes have not come up in 20 seconds; see $directory/*.log." >&2
  return 1
}

stop() {
  export SLURM_CONF=$directory/slurm.conf
  scancel --me 2> /dev/null || true
  for _ in {1..100}; do
    [[ -n $(squeue --noheader 2> /dev/null) ]] || break
    sleep 0.2
  done
  local name
  for name in slurmd.node2 slurmd.node1 slurmctld munged; do
    end "$directory/$name.pid"
  done
}

# Ends the process whose number a file has, and waits for it.
end() {
  [[ -e $1 ]] || return 0
  local process
  process=$(< "$1")
  kill "$process" 2> /dev/null || return 0
  for _ in {1..50}; do
    kill -0 "$process" 2> /dev/null || return 0
    sleep 0.1
  done
  kill -KILL "$process" 2> /dev/null || true
}

(($# == 2)) || usage
mkdir -p "$2"
directory=$(realpath "$2")
case $1 in
  start) start ;;
  stop) stop ;;
  *) usage ;;
esac
