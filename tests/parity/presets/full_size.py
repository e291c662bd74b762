"""Converts checkpoints of the published sizes, with random weights, and loads the results in PyTorch.

Too large for CI, run by hand: `python full_size.py path/to/burn-love-cli` (2 GB of /tmp, one model at a time). Needs
sam2==1.1.0, transformers, torch and safetensors. Prints one line a conversion; stops at the first fault.
"""

import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from sam2.build_sam import build_sam2
from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VideoModel, Sam2VisionConfig

assert version("sam2") == "1.1.0", version("sam2")
PROGRAM = Path(sys.argv[1]).resolve()
SIZES = {"tiny": "t", "small": "s", "base-plus": "b+", "large": "l"}
LARGE = dict(
    hidden_size=144,
    embed_dim_per_stage=[144, 288, 576, 1152],
    num_attention_heads_per_stage=[2, 4, 8, 16],
    blocks_per_stage=[2, 6, 36, 4],
    global_attention_blocks=[23, 33, 43],
    window_positional_embedding_background_size=[7, 7],
    window_size_per_stage=[8, 4, 16, 8],
)


def randomize(model, seed):
    """Values for every tensor, those that start at zero too."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, tensor in sorted(model.state_dict().items()):
            tensor.copy_(torch.randn(tensor.shape, generator=g))
    return model


def meta(name):
    generation, _, size = name.removeprefix("sam").partition("-hiera-")
    config = f"configs/sam{generation}/sam{generation}_hiera_{SIZES[size]}.yaml"
    return build_sam2(config, device="cpu")


def hugging_face(name):
    generation, _, size = name.removeprefix("sam").partition("-hiera-")
    backbone = Sam2HieraDetConfig(**({"tiny": {}, "large": LARGE}[size]))
    vision = Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=backbone.embed_dim_per_stage[::-1])
    new = generation == "2.1"
    config = Sam2VideoConfig(
        vision_config=vision,
        enable_temporal_pos_encoding_for_object_pointers=new,
        enable_occlusion_spatial_embedding=new,
    )
    model = randomize(Sam2VideoModel(config), 2)
    with torch.no_grad():
        positions = model.prompt_encoder.shared_embedding.positional_embedding
        positions.copy_(model.shared_image_embedding.positional_embedding)
    return model


# Runs a command and prints its peak memory behind its output. A process of its own: on Linux, a child's peak begins
# with its parent's, and this one holds models.
MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def convert(name, source, target):
    """Runs the program; its report, wall time in seconds and peak memory in bytes."""
    command = [PROGRAM, "weights", "convert", "--model", name, source, target, "--json"]
    began = time.monotonic()
    process = subprocess.run([sys.executable, "-c", MEASURE, *command], stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.monotonic() - began
    output, _, peak = process.stdout.rstrip().rpartition("\n")
    return json.loads(output), seconds, int(peak) * 1024


def check(name, kind, source, target):
    report, seconds, peak = convert(name, source, target)
    assert not report["missing"] and not report["unused"], report
    size = source.stat().st_size
    print(
        f"{name:24} {kind:28} {report['applied']} applied, 0 missing, 0 unused; "
        f"{size / 1e6:.1f} MB in {seconds:.2f} s, peak {peak / 1e6:.1f} MB ({peak / size:.2f} of the file)",
        flush=True,
    )


with tempfile.TemporaryDirectory() as folder:
    torch_file, converted, back = (Path(folder, name) for name in ["in.pt", "out.safetensors", "back.pt"])
    for size in SIZES:
        for generation in ["2", "2.1"]:
            name = f"sam{generation}-hiera-{size}"
            model = randomize(meta(name), 1)
            expected = model.state_dict()
            torch.save({"model": expected}, torch_file)
            check(name, ".pt → safetensors", torch_file, converted)
            found = load_file(converted)
            assert found.keys() == expected.keys() and all(found[key].equal(t) for key, t in expected.items())
            meta(name).load_state_dict(found, strict=True)
            check(name, "safetensors → .pt", converted, back)
            found = torch.load(back, weights_only=True)["model"]
            assert all(found[key].equal(t) for key, t in expected.items())
            meta(name).load_state_dict(found, strict=True)
            for path in [torch_file, converted, back]:
                path.unlink()
    for size in ["tiny", "large"]:
        for generation in ["2", "2.1"]:
            name = f"sam{generation}-hiera-{size}"
            source = Path(folder, "in.safetensors")
            save_file(hugging_face(name).state_dict(), source)
            check(name, "Hugging Face → safetensors", source, converted)
            meta(name).load_state_dict(load_file(converted), strict=True)
            source.unlink()
            converted.unlink()
