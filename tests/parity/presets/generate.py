"""Names and shapes of the weights of the eight published models, from their own config files."""

import json
from importlib.metadata import version
from pathlib import Path

from sam2.build_sam import build_sam2

assert version("sam2") == "1.1.0", version("sam2")
SIZES = {"tiny": "t", "small": "s", "base-plus": "b+", "large": "l"}

models = {}
for generation in ["2", "2.1"]:
    for size, letter in SIZES.items():
        config = f"configs/sam{generation}/sam{generation}_hiera_{letter}.yaml"
        state = build_sam2(config, device="cpu").state_dict()
        models[f"sam{generation}-hiera-{size}"] = {name: list(tensor.shape) for name, tensor in state.items()}
lines = (f'"{name}": {json.dumps(state, separators=(",", ":"))}' for name, state in models.items())
Path(__file__).with_name("shapes.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
