#!/usr/bin/env bash
# What `--cache-features` saves: the seconds of an epoch without the cache, filling it, and reading it, on the CPU.
#
#   tests/bench/cache.sh [SETTING…]      SETTINGs are --set values of the training, such as sam2.model=sam2-hiera-tiny
#
# Everything that can be cached is frozen. A cache with room for nothing computes every input each time, as a run without
# one does, and says how long the encoders took: the reading epoch has to be shorter by at least 0.9 of that.
# CLIPS (64) is how many clips an epoch has. Exits with 1 where the bound or the equality of the weights does not hold.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release -q -p burn-love-cli
cli=$PWD/target/release/burn-love-cli
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$cli" data synth -q --out "$work/data" --train "${CLIPS:-64}" --val 1 --test-seen 1 --test-unseen 1 --test-null 1
frozen="audio_encoder vision_encoder text_encoder image_encoder memory"
settings=(--set train.tracked_frames=0 --set train.epochs=1 --set train.warmup_steps=0 --set train.overlays=0)
for part in $frozen; do settings+=(--set "train.$part=false"); done
for setting in "$@"; do settings+=(--set "$setting"); done
epoch() { # NAME ARGUMENT…
  name=$1 && shift
  began=$(date +%s.%N)
  "$cli" train --device cpu --data "$work/data" --out "$work/$name" "${settings[@]}" "$@" >"$work/$name.txt" 2>&1
  awk -v a="$began" -v b="$(date +%s.%N)" 'BEGIN { print b - a }' >"$work/$name.seconds"
  printf '%-9s %7.1f s\n' "$name" "$(cat "$work/$name.seconds")"
  grep -o 'features: .*' "$work/$name.txt" || true
}
epoch without
epoch encoding --cache-features "$work/nothing" --cache-limit 0B
epoch filling --cache-features "$work/features"
epoch reading --cache-features "$work/features"
cmp "$work"/without/checkpoints/*/model.safetensors "$work"/reading/checkpoints/*/model.safetensors
echo "the same weights"
encoders=$(sed -n 's/.*features: .* computed in \([0-9.]*\) s.*/\1/p' "$work/encoding.txt" | tail -1)
awk -v without="$(cat "$work/without.seconds")" -v reading="$(cat "$work/reading.seconds")" -v encoders="$encoders" 'BEGIN {
  bound = without - 0.9 * encoders
  printf "reading %.1f s, asked at most %.1f - 0.9 * %.1f = %.1f s\n", reading, without, encoders, bound
  exit reading > bound
}'
