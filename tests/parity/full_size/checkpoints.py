"""All eight presets by hand: a complete `.pt` of sam2==1.1.0 with random weights, converted by the program, back in PyTorch.

    cargo build --release -p burn-love-cli
    python checkpoints.py --cli ../../../target/release/burn-love-cli

Prints what `weights convert` reports of each file (missing and unused keys are errors) and its time, and fails unless PyTorch loads the result with `strict=True` and finds every value unchanged. Needs sam2==1.1.0, torch and
safetensors.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from sam2.build_sam import build_sam2

SIZES = {"tiny": "t", "small": "s", "base-plus": "b+", "large": "l"}


def check(cli, generation, size, folder):
    model = build_sam2(f"configs/{generation}/{generation}_hiera_{SIZES[size]}.yaml", device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    original, converted = folder / "weights.pt", folder / "weights.safetensors"
    torch.save({"model": model.state_dict()}, original)
    began = time.time()
    subprocess.run([cli, "weights", "convert", "--model", f"{generation}-hiera-{size}", original, converted], check=True)
    print(f"{original.stat().st_size} bytes in {time.time() - began:.1f} s", flush=True)
    state = load_file(converted)
    model.load_state_dict(state, strict=True)
    assert all(value.equal(state[key]) for key, value in torch.load(original, weights_only=True)["model"].items())


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--cli", required=True, type=Path)
arguments = parser.parse_args()
for generation in ("sam2", "sam2.1"):
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            check(arguments.cli, generation, size, Path(folder))
