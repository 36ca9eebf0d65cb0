#!/usr/bin/env bash
# Trains on all hosts of a Cloud TPU slice, also on one that is taken away now and then.
#
#   tpu_pod.sh COMMAND [--SETTING=VALUE …] [-- FLAGS OF speedpaper_jax.main]
#
#   run      all of it: gets the TPU, copies, installs, starts, shows the log, and starts again from
#            the newest checkpoint as often as it has to. Ended and called again, it goes on with
#            what it finds. Its status: 0 finished, 1 failed, 75 stopped by `stop`.
#   create   gets the TPU, and waits for it     copy     the files that git tracks, to all hosts
#   install  Python's packages, NFS share       start    training, without waiting for its end
#   follow   shows the log as it grows          log      shows all of it
#   status   of the TPU, of each host's training, and the newest checkpoint
#   stop     SIGTERM: training saves and ends   delete   the TPU
#
# --dry_run prints the gcloud commands instead. launch/README.md has an example.
set -euo pipefail

# Settings. Each can be given as --SETTING=VALUE.
name=speedpaper-jax                     # of the TPU, and of the request for it
zone=us-west4-a
project=                                # gcloud's own if empty
accelerator_type=v5litepod-16           # `gcloud compute tpus accelerator-types list --zone=ZONE`
runtime_version=v2-alpha-tpuv5-lite     # v2-alpha-tpuv6e for v6e, tpu-ubuntu2204-base for v4
capacity=queued                         # queued: wait for it in the queue; direct: now or never
spot=yes                                # yes: cheaper, and may be taken away; no
share=                                  # NFS share to mount, SERVER:/PATH; none if empty
mount_point=/mnt/shared                 # where; --workdir lies below it
worker=0                                # whose log is shown
poll=30                                 # seconds between two looks
grace=600                               # seconds for the others, once the first host's has ended
max_fruitless=5                         # starts anew without a new checkpoint, then it gives up
dry_run=

settings=(name zone project accelerator_type runtime_version capacity spot share mount_point worker
  poll grace max_fruitless)
repository=$(cd "$(dirname "$0")/.." && pwd)
on_worker=speedpaper_jax/code/launch/tpu_worker.sh
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
exec 3>&1                               # where gcloud's commands are printed, within $(…) too

say() {
  echo "tpu_pod.sh $(date +%T): $*"
}

fail() {
  echo "error: $*" >&2
  exit 1
}

pause() {
  [[ -n $dry_run ]] || sleep "$poll"
}

# Words as a shell reads them, with quotes only where it needs them.
quote() {
  local word quoted=()
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=@%+-]+$ ]] || word=${word@Q}
    quoted+=("$word")
  done
  echo "${quoted[*]}"
}

# `gcloud compute tpus …`, or its text.
tpus() {
  local words=(gcloud --quiet compute tpus "$@" "--zone=$zone")
  if [[ -n $project ]]; then
    words+=("--project=$project")
  fi
  if [[ -n $dry_run ]]; then
    quote "${words[@]}" >&3
  else
    "${words[@]}" < /dev/null
  fi
}

# A shell command on one host, by number, or on all.
on() {
  tpus tpu-vm ssh "$name" "--worker=$1" "--command=$2"
}

# The TPU ------------------------------------------------------------------------------------------

# A field of what `tpus … describe` tells; NOT_FOUND, or nothing if gcloud cannot say.
describe() {
  if tpus "$1" describe "$name" "--format=value($2)" 2> "$scratch/errors"; then
    return
  elif grep --quiet NOT_FOUND "$scratch/errors"; then
    echo NOT_FOUND
  else
    cat "$scratch/errors" >&2
  fi
}

# One of: absent; waiting; ready; gone, when it was taken away; deleting; failed, of a request that
# cannot be met; unknown, when gcloud cannot say, which need not mean that the TPU has changed.
tpu_state() {
  local request=ACTIVE node
  if [[ $capacity == queued ]]; then
    request=$(describe queued-resources state.state)
  elif [[ -n $dry_run ]]; then
    describe tpu-vm state
  fi
  if [[ -n $dry_run ]]; then
    echo "${dry_run_state:-absent}"
    return
  fi
  case $request in
    ACTIVE) ;;
    NOT_FOUND) echo absent; return ;;
    FAILED) echo failed; return ;;
    SUSPENDED) echo gone; return ;;
    DELETING) echo deleting; return ;;
    "") echo unknown; return ;;
    *) echo waiting; return ;;  # also while it is being taken away
  esac
  node=$(describe tpu-vm state)
  case $node in
    READY) echo ready ;;
    PREEMPTED | TERMINATED | STOPPED) echo gone ;;
    DELETING) if [[ $capacity == queued ]]; then echo gone; else echo deleting; fi ;;
    NOT_FOUND) if [[ $capacity == queued ]]; then echo gone; else echo absent; fi ;;
    "") echo unknown ;;
    *) echo waiting ;;
  esac
}

request() {
  local options=("--accelerator-type=$accelerator_type")
  if [[ $spot == yes ]]; then
    options+=(--spot)
  fi
  if [[ $capacity == queued ]]; then
    tpus queued-resources create "$name" "--node-id=$name" "--runtime-version=$runtime_version" \
      "${options[@]}"
  else
    tpus tpu-vm create "$name" "--version=$runtime_version" "${options[@]}"
  fi
  dry_run_state=ready
}

delete() {
  if [[ $capacity == queued ]]; then
    tpus queued-resources delete "$name" --force
  else
    tpus tpu-vm delete "$name"
  fi
}

# Waits until the TPU can be used; asks for it where there is none.
create() {
  local state before=
  while true; do
    state=$(tpu_state)
    if [[ $state != "$before" ]]; then
      say "the TPU $name ($accelerator_type, $zone): $state"
    fi
    before=$state
    case $state in
      ready) return ;;
      absent) request || fail "the TPU cannot be asked for; gcloud says above why." ;;
      gone) delete || pause ;;
      failed)
        tpus queued-resources describe "$name" || true
        fail "the request has failed, see above;" \
          "remove it with: $0 delete --name=$name --zone=$zone"
        ;;
      *) pause ;;
    esac
  done
}

# Its hosts ----------------------------------------------------------------------------------------

copy() {
  local archive=$scratch/speedpaper_jax.tar.gz
  # As they are now, not as they were committed.
  (
    cd "$repository"
    git ls-files -z | while IFS= read -rd '' file; do
      if [[ -e $file ]]; then
        printf '%s\0' "$file"
      fi
    done | tar --create --gzip --file="$archive" --null --files-from=-
  ) || return
  tpus tpu-vm scp "$archive" "$name:" --worker=all || return
  on all "rm -rf speedpaper_jax/code && mkdir -p speedpaper_jax/code && \
tar --extract --gzip --file=speedpaper_jax.tar.gz --directory=speedpaper_jax/code"
}

install() {
  on all "$on_worker install${share:+ $(quote "$share" "$mount_point")}"
}

start() {
  on all "$on_worker start $(quote "${training[@]}")"
}

# A line for each host: number, state (see tpu_worker.sh), newest checkpoint.
states() {
  on all "$on_worker state${workdir:+ $(quote "$workdir")}"
  if [[ -n $dry_run ]]; then
    echo "0 ${dry_run_training:-never} -"
  fi
}

# What was added to the log since the last time.
show_log() {
  if on "$worker" "$on_worker log $log_offset" > "$scratch/log"; then
    cat "$scratch/log"
    log_offset=$((log_offset + $(wc -c < "$scratch/log")))
  fi
}

stop() {
  local now=running
  on all "$on_worker stop"
  dry_run_training=stopped
  while [[ $now == *running* ]]; do
    now=$(states) || now=running
    [[ $now != *running* ]] || pause
  done
  echo "$now"
}

# All of it ----------------------------------------------------------------------------------------

set_up() {
  local attempt state
  log_offset=0
  for attempt in 1 2 3 4 5; do
    if copy && install && start; then
      dry_run_training=exited:0
      return
    fi
    state=$(tpu_state)
    case $state in
      ready | unknown) say "attempt $attempt to set up the hosts has failed" ;;
      *) return 0 ;;  # taken away meanwhile, which is noticed elsewhere
    esac
    pause
  done
  fail "the hosts cannot be set up; see above."
}

# Shows the log until all hosts' training has ended or the TPU is gone. `outcome` is then one of
# finished, failed, stopped, again or gone.
watch() {
  local lines first_end='' state
  outcome=
  while true; do
    if lines=$(states) && [[ -n $lines ]]; then
      show_log
      judge "$lines"
      if [[ -n $outcome ]]; then
        return
      fi
      if [[ $lines =~ (exited|stopped|lost|never) ]]; then
        first_end=${first_end:-$SECONDS}
        if ((SECONDS - first_end >= grace)); then
          say "the other hosts' training does not end by itself, and is killed"
          on all "$on_worker kill" || true
        fi
      fi
    else
      state=$(tpu_state)
      case $state in
        ready | unknown) say "the hosts cannot be reached at the moment" ;;
        absent | deleting) fail "somebody has deleted the TPU; it is not asked for again." ;;
        *)
          say "the TPU has been taken away"
          outcome=gone
          return
          ;;
      esac
    fi
    pause
  done
}

# Sets `outcome` from the hosts' states, unless some still run; sets `checkpoint`.
judge() {
  local index word newest running='' all_done=yes stopped='' status
  while read -r index word newest; do
    if [[ $newest != - ]]; then
      checkpoint=$newest
    fi
    case $word in
      running) running=yes ;;
      stopped) stopped=yes ;;
      exited:0) ;;
      exited:*)
        status=${word#exited:}
        # 75 asks for a new start, and so does the end by a signal, but for Ctrl-C.
        if ((status != 75 && (status <= 128 || status == 130))); then
          outcome=failed
          say "training on host $index ended with status $status; its log ends:"
          on "$index" "$on_worker log | tail --lines=30" || true
          return
        fi
        ;;
    esac
    [[ $word == exited:0 ]] || all_done=
  done <<< "$1"
  if [[ -n $running ]]; then
    return
  elif [[ -n $all_done ]]; then
    outcome=finished
  elif [[ -n $stopped ]]; then
    outcome=stopped
  else
    outcome=again
  fi
}

# Gives up if it starts again and again without getting further.
count_restart() {
  if [[ $checkpoint == "$checkpoint_before" ]]; then
    fruitless=$((fruitless + 1))
  else
    fruitless=1
  fi
  checkpoint_before=$checkpoint
  if ((fruitless > max_fruitless)); then
    fail "$max_fruitless starts anew have brought no new checkpoint;" \
      "the newest is ${checkpoint:-none}."
  fi
  say "start anew from checkpoint ${checkpoint:-none}"
}

run() {
  local lines
  checkpoint='' checkpoint_before='' fruitless=0 log_offset=0
  # Not where the command that the signal interrupts may write: into a file.
  trap 'say "looks no longer; training goes on, and the same command looks again" >&3; exit 130' \
    INT TERM
  create
  if lines=$(states 2> /dev/null) && [[ $lines == *running* ]]; then
    say "training is running already"
  else
    set_up
  fi
  while true; do
    watch
    case $outcome in
      finished) say "finished"; return ;;
      failed)
        on all "$on_worker kill" || true
        return 1
        ;;
      stopped) say "stopped; the state is saved"; return 75 ;;
      again)
        count_restart
        start || say "training cannot be started on all hosts"
        ;;
      gone)
        count_restart
        create
        set_up
        ;;
    esac
  done
}

# --------------------------------------------------------------------------------------------------

((BASH_VERSINFO[0] >= 5)) || fail "bash 5 or newer is needed; this is $BASH_VERSION."
command=${1:-}
case $command in
  run | create | copy | install | start | follow | log | status | stop | delete) shift ;;
  *)
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
    exit 1
    ;;
esac
while (($#)) && [[ $1 != -- ]]; do
  setting=${1%%=*} setting=${setting#--}
  if [[ $1 == --dry_run ]]; then
    dry_run=yes
  elif [[ $1 == --*=* && " ${settings[*]} " == *" $setting "* ]]; then
    printf -v "$setting" %s "${1#*=}"
  else
    fail "$1 is no setting; they are --dry_run and ${settings[*]/#/--}, each with =VALUE." \
      "Training's own flags come after --."
  fi
  shift
done
training=("${@:2}")
workdir=
for argument in ${training[@]+"${training[@]}"}; do
  if [[ $argument == --workdir=* ]]; then
    workdir=${argument#*=}
  fi
done
[[ $capacity == queued || $capacity == direct ]] ||
  fail "--capacity=$capacity is neither queued nor direct."
[[ $spot == yes || $spot == no ]] || fail "--spot=$spot is neither yes nor no."
if [[ $command == run || $command == start ]]; then
  [[ $workdir == /* ]] ||
    fail "give --workdir=/DIRECTORY after --, on a file system that all hosts share;" \
      "a new start finds its checkpoints there."
fi
[[ -n $dry_run ]] || type gcloud &> /dev/null ||
  fail "there is no gcloud; install Google Cloud's command line, or add --dry_run."

case $command in
  follow) on "$worker" "tail --lines=20 --follow=name --retry speedpaper_jax/run/log" ;;
  log) on "$worker" "$on_worker log" ;;
  status)
    say "the TPU $name: $(tpu_state)"
    states
    ;;
  *) "$command" ;;
esac
