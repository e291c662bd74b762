#!/usr/bin/env bash
# The cases of `bench` on this machine's CPU, ours and PyTorch's in turns.
#
#   tests/bench/compare.sh OUT [ROUNDS]
#
# OUT gets the lines of both and table.md with the ratios of medians. PYTHON names a Python with torch and transformers;
# CASES, THREADS and RUNS choose what runs. Nothing else should run beside it.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$1 rounds=${2:-2}
threads=${THREADS:-$(nproc)} runs=${RUNS:-3} python=${PYTHON:-python3}
cases=${CASES:-image_encoder/tiny,image_encoder/large,memory_attention/7,memory_encoder,mask_decoder,vit_b/10,distilroberta/25,vggish/10,fusion_step,train_step/nano}
mkdir -p "$out"
cargo build --release -q -p burn-love-cli
for round in $(seq "$rounds"); do
  for case in ${cases//,/ }; do
    echo "round $round of $rounds: $case" >&2
    target/release/burn-love-cli bench -q --device cpu --threads "$threads" --json --runs "$runs" --warm-up 1 --cases "$case" >>"$out/bench-cpu.jsonl"
    "$python" tests/bench/torch_baseline.py --threads "$threads" --runs "$runs" --cases "$case" 2>/dev/null >>"$out/torch.jsonl"
  done
done
"$python" tests/bench/table.py "$out" | tee "$out/table.md"
