#!/usr/bin/env bash
# Trains on one card that is lent for a limited time, and leaves the averaged weights in half
# precision in a folder that is small enough to take home.
#
#   rcodec data photos FOLDER... --out photos.npz --max-mb 35      (before, at home)
#   launch/accelerator.sh -m 9 -o out configs/tiny64.py --data photos.npz \
#     --init-from rcodec_jax/assets/tiny --set train.lpips_dir=FOLDER
#
#   -m MIN    minutes in all: reading, compiling, training, saving (default 9); writing the result
#             comes after, half a minute
#   -o DIR    folder of the result: weights/, config.json, metrics.jsonl (default ./out)
#   -w DIR    folder of the run; the same again goes on with it (default: OUT-run, beside OUT)
#   the rest  goes to `rcodec train` as it is; RCODEC="python -m rcodec_jax.cli" names another one
#
# All pictures are decoded onto the card at the start, and crops are drawn there; the networks
# compute in bfloat16. Neither grain nor TFDS nor ArrayRecord need be installed. Where training is
# stopped early (code 75: saved, run me again) the weights so far are written all the same, and the
# script ends with that code; the same command goes on with the time that is left.
set -u

readonly BAD_INPUT=2 AGAIN=75

usage() {
  sed -n '2,/^set -u/s/^# \{0,1\}//p' "$0" >&2
  exit "$BAD_INPUT"
}

minutes=9 out=out run=
while getopts 'm:o:w:h' option; do
  case $option in
    m) minutes=$OPTARG ;;
    o) out=$OPTARG ;;
    w) run=$OPTARG ;;
    *) usage ;;
  esac
done
shift $((OPTIND - 1))
(($#)) || usage
out=${out%/}
run=${run:-$out-run}
read -ra rcodec <<<"${RCODEC:-rcodec}"

"${rcodec[@]}" train "$1" --resident --minutes "$minutes" --workdir "$run" \
  --set train.dtype=bfloat16 --set train.log_every=100 --set train.save_every=5000 \
  --set train.sample_every=0 "${@:2}" &
training=$!
stopped=
trap 'stopped=yes; kill -TERM "$training" 2>/dev/null' TERM INT
wait "$training"
code=$?
if [[ -n $stopped ]] && ((code > 128)); then # the signal ended the wait, and the run saves
  wait "$training"
  code=$?
fi
if ((code != 0 && code != AGAIN)); then exit "$code"; fi
mkdir -p "$out" || exit
"${rcodec[@]}" export "$run" --format safetensors --half --force --out "$out/weights" || exit
cp "$run/config.json" "$run/metrics.jsonl" "$out/" || exit
exit "$code"
