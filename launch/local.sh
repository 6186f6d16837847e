#!/usr/bin/env bash
# Trains on this machine with several processes of several virtual CPU devices each: the very
# program of a pod, to try out a recipe, a mesh or a failure without one.
#
#   launch/local.sh -n 2 -d 4 configs/nano.py --data FOLDER --workdir runs/nano
#
#   -n N      processes (default 2)
#   -d N      virtual devices of each (default 4)
#   -r N      restarts after failures before giving up (default 3)
#   -l DIR    folder of the logs, process-0.log and so on (default ./logs)
#   the rest  goes to `rcodec train` as it is; RCODEC="python -m rcodec_jax.cli" names another one
#
# A process that dies takes the others with it, and all start again from the last checkpoint. Code
# 75 ("saved, run me again": a process was sent SIGTERM) restarts without counting. SIGTERM to this
# script is passed on: all processes save at the same step, and it exits with 75; Ctrl-C the same
# with 130. Bad input, code 2, is final. The script ends with the code of the run.
set -u

readonly AGAIN=75 BAD_INPUT=2 INTERRUPTED=130 KILLED_BY_TERM=143
readonly GRACE_SECONDS=120 # to save in, once asked to or once another process has

usage() {
  sed -n '2,/^set -u/s/^# \{0,1\}//p' "$0" >&2
  exit "$BAD_INPUT"
}

say() { printf 'local.sh: %s\n' "$*" >&2; }

processes=2 devices=4 restarts=3 logs=logs
while getopts 'n:d:r:l:h' option; do
  case $option in
    n) processes=$OPTARG ;;
    d) devices=$OPTARG ;;
    r) restarts=$OPTARG ;;
    l) logs=$OPTARG ;;
    *) usage ;;
  esac
done
shift $((OPTIND - 1))
[[ $# -gt 0 && $processes =~ ^[1-9][0-9]*$ && $devices =~ ^[1-9][0-9]*$ && $restarts =~ ^[0-9]+$ ]] || usage
read -ra rcodec <<<"${RCODEC:-rcodec}"
mkdir -p "$logs" || exit "$BAD_INPUT"

pids=()
stopped_by=
# shellcheck disable=SC2317,SC2329 # the traps call it
forward() { # the name of a signal
  stopped_by=$1
  say "SIG$1: asking the processes to save and stop"
  ((${#pids[@]})) && kill -TERM "${pids[@]}" 2>/dev/null
}
trap 'forward TERM' TERM
trap 'forward INT' INT
trap '((${#pids[@]})) && kill -KILL "${pids[@]}" 2>/dev/null' EXIT

start_all() {
  local port i
  # Another one each time: the last one may be held for a minute by what was killed.
  port=$("${PYTHON:-python3}" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])') || return
  export JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=$devices
  export JAX_COORDINATOR_ADDRESS=localhost:$port JAX_NUM_PROCESSES=$processes
  pids=()
  for ((i = 0; i < processes; i++)); do
    [[ -n $stopped_by ]] && return # the signal came while there was nobody to hand it to
    JAX_PROCESS_ID=$i "${rcodec[@]}" train "$@" >>"$logs/process-$i.log" 2>&1 &
    pids+=($!)
    say "process $i is pid $!, log $logs/process-$i.log"
  done
}

# Waits for all; `code` becomes that of the first that failed, `culprit` its number.
wait_for_all() {
  local left=(${pids[@]+"${!pids[@]}"}) still i status deadline=0
  code=0 culprit=
  while ((${#left[@]})); do
    sleep 0.2
    still=()
    for i in "${left[@]}"; do
      if kill -0 "${pids[i]}" 2>/dev/null; then
        still+=("$i")
        continue
      fi
      wait "${pids[i]}"
      status=$?
      if ((status && !code)); then
        code=$status culprit=$i
        # What has not failed waits for the failed one in vain, unless all are about to stop.
        deadline=$((SECONDS + (code == AGAIN ? GRACE_SECONDS : 2)))
      fi
    done
    left=(${still[@]+"${still[@]}"})
    if [[ -n $stopped_by && $deadline -eq 0 ]]; then deadline=$((SECONDS + GRACE_SECONDS)); fi
    if ((deadline && SECONDS >= deadline)); then
      for i in ${left[@]+"${left[@]}"}; do kill -KILL "${pids[i]}" 2>/dev/null; done
    fi
  done
  pids=()
}

failures=0
while :; do
  start_all "$@" || exit
  # None where the signal came before any had begun.
  if ((${#pids[@]})); then wait_for_all; else code=$KILLED_BY_TERM; fi
  if [[ $stopped_by == INT ]]; then exit "$INTERRUPTED"; fi
  # Before training has begun there is nothing to save, and SIGTERM simply ends a process.
  if [[ $stopped_by == TERM && $code -eq $KILLED_BY_TERM ]]; then exit "$AGAIN"; fi
  if [[ $code -eq 0 || -n $stopped_by ]]; then break; fi
  if ((code == AGAIN)); then
    say "saved and stopped; starting again"
    continue
  fi
  say "process $culprit ended with code $code; the end of its log:"
  tail -n 3 "$logs/process-$culprit.log" >&2
  # 126 and 127: there is no such command.
  if ((code == BAD_INPUT || code == 126 || code == 127 || failures == restarts)); then break; fi
  ((failures++))
  say "starting all again ($failures of $restarts)"
done
exit "$code"
