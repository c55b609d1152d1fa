#!/usr/bin/env bash
# Trains and judges the main arms of R²ec on films and on a shop, in the minutes of one card and without a network.
#
#   studies/cuda.sh --weights SMOLLM2 --films ML100K --shop AMAZON_2018 --out cuda/ [--minutes 8] [--quick]
#
# SMOLLM2 is a folder of SmolLM2-135M-Instruct (config.json, a tokenizer, *.safetensors), ML100K one of MovieLens-100K,
# AMAZON_2018 one of Amazon Office Products (2018); without --films or --shop that one is left out. Arms run beside one
# another, so that the card never waits for one of them. When the minutes are over everything is stopped, and the same
# command goes on from the last checkpoints. Results are the files that studies/r2ec/study.py writes, in OUT/results.
# --quick makes two updates of a tiny model and judges few samples: it shows on a CPU that everything runs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
weights="" films="" shop="" out=cuda minutes=8 quick=0
while [ $# -gt 0 ]; do
  case $1 in
    --weights) weights=$(realpath "$2"); shift ;;
    --films) films=$(realpath "$2"); shift ;;
    --shop) shop=$(realpath "$2"); shift ;;
    --out) out=$2; shift ;;
    --minutes) minutes=$2; shift ;;
    --quick) quick=1 ;;
    *) echo "$1: unknown; see the head of $0" >&2; exit 2 ;;
  esac
  shift
done
[ -n "$films$shop" ] || { echo "give --films FOLDER, --shop FOLDER or both" >&2; exit 2; }
[ -n "$weights" ] || [ $quick = 1 ] || { echo "give --weights FOLDER" >&2; exit 2; }
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 PYTHONUNBUFFERED=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
mkdir -p "$out/logs"
changes=()
[ -z "$weights" ] || changes+=(--set "model.backbone=$weights")
if [ $quick = 1 ]; then
  [ -n "$weights" ] || changes+=(--set model.backbone=tiny)
  for change in study.samples=20 training.steps=2 training.batch_size=2 training.validate_every=2 \
    training.validation_samples=10 recpo.steps=2 recpo.users=2 recpo.group_size=2 recpo.validate_every=2 \
    recpo.validation_samples=10 recpo.checkpoint_every=1 model.thought.max_new_tokens=4 \
    arms.no_reasoning.training.steps=2; do
    changes+=(--set "$change")
  done
fi

study() { # NAME PATH ARM...
  local name=$1 path=$2 arms=()
  for arm in "${@:3}"; do arms+=(--arm "$arm"); done
  "$python" "$here/r2ec/study.py" "$here/cuda/$name.toml" --path "$path" --runs "$out/runs" --results "$out/results" \
    "${arms[@]}" "${changes[@]}" >>"$out/logs/$name-$3.log" 2>&1
}

waited() { # PID...
  local failed=0
  for job in "$@"; do wait "$job" || failed=1; done
  return $failed
}

all() { # NAME PATH: arms that share a warm start wait until it is trained
  local jobs=() first
  study "$1" "$2" no_reasoning & jobs+=($!)
  [ $quick = 1 ] || { study "$1" "$2" baselines & jobs+=($!); } # searching their settings takes minutes on a CPU
  study "$1" "$2" recpo & first=$!
  jobs+=("$first")
  until [ -f "$out/runs/$1/warm-0/model/config.json" ] || ! kill -0 "$first" 2>/dev/null; do sleep 1; done
  study "$1" "$2" frozen & jobs+=($!)
  waited "${jobs[@]}"
}

run() {
  local jobs=()
  [ -z "$films" ] || { all films "$films" & jobs+=($!); }
  [ -z "$shop" ] || { all shop "$shop" & jobs+=($!); }
  waited "${jobs[@]}"
}

set -m # a group of its own, so that the end of the minutes reaches everything
run & whole=$!
set +m
( sleep $((minutes * 60)); kill -TERM -- -$whole 2>/dev/null ) & clock=$!
code=0
wait $whole || code=$?
kill $clock 2>/dev/null || true
if [ $code -eq 143 ]; then
  echo "the minutes are over; the same command goes on. Done so far:"
elif [ $code -ne 0 ]; then
  echo "an arm failed; see $out/logs:" >&2
  tail -n 3 "$out"/logs/*.log >&2
fi
find "$out/results" -name '*.json' 2>/dev/null | sort
exit $code
