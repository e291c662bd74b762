#!/usr/bin/env bash
# What `--cache-features` saves: the seconds of an epoch without the cache, filling it, and reading it, on the CPU.
#
#   tests/bench/cache.sh [SETTING…]      SETTINGs are --set values of the training, such as sam2.model=sam2-hiera-tiny
#
# Everything that can be cached is frozen. The filling epoch says how long the encoders took.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release -q -p burn-love-cli
cli=$PWD/target/release/burn-love-cli
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$cli" data synth -q --out "$work/data" --train 16 --val 1 --test-seen 1 --test-unseen 1 --test-null 1
frozen="audio_encoder vision_encoder text_encoder image_encoder memory"
settings=(--set train.tracked_frames=0 --set train.epochs=1 --set train.warmup_steps=0 --set train.overlays=0)
for part in $frozen; do settings+=(--set "train.$part=false"); done
for setting in "$@"; do settings+=(--set "$setting"); done
epoch() { # NAME ARGUMENT…
  name=$1 && shift
  began=$(date +%s.%N)
  "$cli" train --device cpu --data "$work/data" --out "$work/$name" "${settings[@]}" "$@" >"$work/$name.txt" 2>&1
  awk -v a="$began" -v b="$(date +%s.%N)" -v name="$name" 'BEGIN { printf "%-8s %7.1f s\n", name, b - a }'
  grep -o 'features: .*' "$work/$name.txt" || true
}
epoch without
epoch filling --cache-features "$work/features"
epoch reading --cache-features "$work/features"
cmp "$work"/without/checkpoints/*/model.safetensors "$work"/reading/checkpoints/*/model.safetensors && echo "the same weights"
