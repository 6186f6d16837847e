#!/usr/bin/env bash
# Trains on every host of a TPU VM pod, from any machine with gcloud.
#
#   gcloud compute tpus tpu-vm create POD --zone ZONE --accelerator-type v5litepod-256 --version IMAGE
#   gcloud compute tpus tpu-vm ssh POD --zone ZONE --worker=all \
#       --command "git clone REPOSITORY rcodec && pip install ./rcodec 'jax[tpu]'"
#   launch/tpu_vm.sh POD ZONE configs/paper.py --data DIR --workdir DIR
#
# The recipe is a path on the hosts, and both folders are on a file system that all of them mount.
# What follows POD and ZONE goes to `rcodec train` as it is. RESTARTS says how often a run that
# failed, or was sent SIGTERM on some host (saved, code 75), is started again (default 20). Ctrl-C
# leaves the hosts training; after it, to have them save and stop:
#
#   launch/tpu_vm.sh POD ZONE --stop
set -u

readonly BAD_INPUT=2

if (($# < 3)); then
  sed -n '2,/^set -u/s/^# \{0,1\}//p' "$0" >&2
  exit "$BAD_INPUT"
fi
pod=$1 zone=$2
shift 2

on_all_hosts() {
  gcloud compute tpus tpu-vm ssh "$pod" --zone "$zone" --worker=all --command "$1"
}

# A lost connection leaves the program running, and two of them cannot hold one TPU.
# The dollars below are the hosts', not this script's.
# shellcheck disable=SC2016
readonly STOP='if read -r pid <rcodec.pid && grep -q rcodec "/proc/$pid/cmdline"; then
  kill -TERM "$pid"
  for _ in $(seq 120); do kill -0 "$pid" || break; sleep 1; done
  kill -KILL "$pid" || :
fi 2>/dev/null'

if [[ $1 == --stop ]]; then
  on_all_hosts "$STOP"
  exit
fi

printf -v arguments '%q ' "$@"
# shellcheck disable=SC2016
start="$STOP"'
echo $$ >rcodec.pid; export RCODEC_DISTRIBUTED=auto; exec rcodec train '"$arguments"

failures=0
until on_all_hosts "$start"; do
  code=$?
  failures=$((failures + 1))
  echo "tpu_vm.sh: a host ended with code $code (failure $failures)" >&2
  if ((code == BAD_INPUT || failures > ${RESTARTS:-20})); then exit "$code"; fi
  sleep 10
done
