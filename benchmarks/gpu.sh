#!/usr/bin/env bash
# What has to be measured on a GPU, the most valuable first, within nine minutes. Installs nothing and fetches nothing:
# the base is random, of full 7B width with fewer layers. A step that fails or takes too long does not stop the next one.
#
#   bash benchmarks/gpu.sh                          results in benchmarks/results/gpu/
#   LAYERS=32 MINUTES=45 bash benchmarks/gpu.sh     the whole 7B
#   bash benchmarks/gpu.sh --tiny                   a rehearsal on a CPU, minutes
#   bash benchmarks/gpu.sh [--tiny] --list          the commands alone
#
# Reads: PYTHON (python), OUT (results), WORK (scratch, 4 GB; 14 GB for 32 layers), LAYERS, MINUTES.
set -u
cd "$(dirname "$0")/.." || exit 1
export HF_HUB_OFFLINE=1 WANDB_MODE=offline
LAYERS=${LAYERS:-8} OUT=${OUT:-benchmarks/results/gpu} PYTHON=${PYTHON:-python}
TINY='' LIST=''
for word in "$@"; do
  case $word in
    --tiny) TINY=yes ;;
    --list) LIST=yes ;;
    *) echo "unknown: $word (expected --tiny, --list)" >&2; exit 2 ;;
  esac
done
MINUTES=${MINUTES:-$([ "$TINY" ] && echo 30 || echo 9)} # a busy CPU may be slow

if [ "$LIST" ]; then
  WORK=${WORK:-WORK}
else
  made=''
  [ "${WORK:-}" ] || { WORK=$(mktemp -d) && made=$WORK; }
  trap '[ -z "$made" ] || rm -rf "$made"' EXIT
  mkdir -p "$OUT" "$WORK"
fi
FAILED=0

step() { # step NAME SHARE COMMAND…: at most SHARE percent of the time, and no more than is left
  local name=$1 limit=$((MINUTES * 60 * $2 / 100)) left=$((MINUTES * 60 - SECONDS)) started=$SECONDS code
  shift 2
  if [ "$LIST" ]; then echo "$*"; return; fi
  [ "$limit" -le "$left" ] || limit=$left
  if [ "$limit" -lt 5 ]; then echo "== $name: no time left"; FAILED=$((FAILED + 1)); return; fi
  echo "== $name (at most $limit s): $*"
  timeout --kill-after=5 "$limit" "$@" >"$OUT/$name.log" 2>&1
  code=$?
  if [ "$code" = 0 ]; then
    echo "   done in $((SECONDS - started)) s"
  else
    FAILED=$((FAILED + 1))
    echo "   FAILED with code $code after $((SECONDS - started)) s; the end of $OUT/$name.log:"
    tail -n 5 "$OUT/$name.log" | sed 's/^/   | /'
  fi
}

if [ "$TINY" ]; then
  size=(--tiny) sampled=(--responses 4 --max-new-tokens 4) repeats=(--repeats 1)
  narrow=(--layers 2 --rows 2 4 --tokens 2) doctor=(configs/tiny/sft.yaml)
  ppo=("${size[@]}" --dtype bfloat16)
else
  size=(--layers "$LAYERS") sampled=(--responses 64 --max-new-tokens 64) repeats=(--repeats 1)
  narrow=(--rows 16 128) doctor=(configs/llama-7b/sft.yaml "model.base=$WORK/base" data.max_length=1024)
  ppo=("${size[@]}" --episodes 64 --iterations 2)
fi

# Reward phase, ratio's noise, decode steps and memory beside the plan are all in the first one.
step ppo 31 "$PYTHON" -m benchmarks.ppo_7b "${ppo[@]}" --folder "$WORK" --out "$OUT/ppo_7b.json"
step ppo-merged 17 "$PYTHON" -m benchmarks.ppo_7b "${ppo[@]}" --engine merged --folder "$WORK" --out "$OUT/ppo_7b_merged.json"
step engines 12 "$PYTHON" -m benchmarks.rollout_engines --start "$WORK/sft" --reward "$WORK/reward" \
  --prompts "$WORK/data/prompts.jsonl" "${sampled[@]}" "${repeats[@]}" --out "$OUT/rollout_engines.json"
step host 12 "$PYTHON" -m benchmarks.decode_host_cost "${narrow[@]}" "${repeats[@]}" --out "$OUT/decode_host_cost.json"
step sft 14 "$PYTHON" -m benchmarks.sft_7b "${size[@]}" "${repeats[@]}" --folder "$WORK" --out "$OUT/sft_7b.json"
step doctor 14 "$PYTHON" -m workbench doctor "${doctor[@]}" --measure

[ "$LIST" ] || echo "== $((SECONDS / 60)) min $((SECONDS % 60)) s, $FAILED steps failed; results in $OUT/"
[ "$FAILED" = 0 ]
