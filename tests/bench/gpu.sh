#!/usr/bin/env bash
# Parity, speed beside PyTorch, and a training with its memory watched, on a machine with an NVIDIA GPU.
#
#   tests/bench/gpu.sh BINARIES OUT [PART…]
#
# BINARIES holds what was built elsewhere (no toolkit is needed, neither there nor here):
#   CUDARC_CUDA_VERSION=13000 cargo build --profile dist -p burn-love-cli --features cuda   burn-love-cli
#   CUDARC_CUDA_VERSION=13000 cargo test --release -p burn-love-tests --features cuda --test parity --no-run    parity
# OUT gets a file for each part, and table.md. Python needs torch and transformers.
# PARTs: parity, bench, torch, compiled, wgpu, train; all of them without any.
set -uo pipefail
cd "$(dirname "$0")/../.."
bin=$(realpath "$1") out=$2
mkdir -p "$out"
out=$(realpath "$out")
shift 2
parts=${*:-parity bench torch compiled wgpu train}
here=tests/bench
cases=${CASES:-image_encoder/tiny,image_encoder/large,memory_attention/7,memory_encoder,mask_decoder,vit_b/10,distilroberta/25,vggish/10,fusion_step,love_video/10,train_step/nano,train_step/paper}
step() { printf '\n=== %s (%s)\n' "$1" "$(date +%T)"; }

nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | tee "$out/device.txt"
for part in $parts; do
  step "$part"
  case $part in
    parity)
      # The fixtures are found where the tests were compiled: PARITY_ROOT says where that was.
      if [ -n "${PARITY_ROOT:-}" ] && [ ! -e "$PARITY_ROOT" ]; then
        mkdir -p "$(dirname "$PARITY_ROOT")" && ln -s "$PWD" "$PARITY_ROOT"
      fi
      for gpu in cuda cuda_f32 cuda_f16 cuda_bf16 wgpu wgpu_f16; do
        BURN_LOVE_REQUIRE_GPU=1 "$bin/parity" "gpu::$gpu::" --nocapture --test-threads 1 >"$out/parity-$gpu.txt" 2>&1
        grep -E '^test result|FAILED|panicked|largest relative' "$out/parity-$gpu.txt" | head -60
      done
      ;;
    bench)
      for precision in tf32 f32 bf16; do
        "$bin/burn-love-cli" bench --device cuda --precision $precision --json --runs 5 --warm-up 3 --cases "$cases"
      done | tee "$out/bench-cuda.jsonl"
      ;;
    wgpu)
      for precision in f32 f16; do
        "$bin/burn-love-cli" bench --device wgpu --precision $precision --json --runs 3 --warm-up 2 --cases "$cases"
      done | tee "$out/bench-wgpu.jsonl"
      ;;
    torch)
      for precision in f32 tf32 bf16; do
        python3 $here/torch_baseline.py --device cuda --precision $precision --cases "$cases" 2>/dev/null
      done | tee "$out/torch.jsonl"
      ;;
    compiled)
      python3 $here/torch_baseline.py --device cuda --precision tf32 --compile \
        --cases "${COMPILED:-image_encoder/tiny,memory_attention/7,train_step/paper}" 2>/dev/null | tee "$out/torch-compiled.jsonl"
      ;;
    train)
      work=$(mktemp -d)
      "$bin/burn-love-cli" data synth --out "$work/data" --train 16 --val 4 --test-seen 2 --test-unseen 2 --test-null 2 -q
      nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -l 2 >"$out/train-memory.txt" &
      watch=$!
      "$bin/burn-love-cli" train --device cuda --data "$work/data" --out "$work/run" --set train.steps=200 \
        >"$out/train.txt" 2>&1
      echo "exit $?" >>"$out/train.txt"
      kill $watch
      cp "$work/run/metrics.jsonl" "$out/train-metrics.jsonl"
      tail -3 "$out/train.txt"
      rm -rf "$work"
      ;;
    *) echo "no part $part" && exit 2 ;;
  esac
done
step "table"
python3 $here/table.py "$out" | tee "$out/table.md"
