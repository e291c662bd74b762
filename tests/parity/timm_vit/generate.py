"""ViT as timm has it: one matrix for queries, keys and values, and another epsilon in the norms."""

import sys
from importlib.metadata import version
from pathlib import Path

import torch
from timm.models.vision_transformer import VisionTransformer

sys.path.insert(0, str(Path(__file__).parents[1]))
from encoders import random, randomize, write

assert version("timm") == "1.0.31", version("timm")
HERE = Path(__file__).parent

model = VisionTransformer(img_size=48, patch_size=8, embed_dim=32, depth=3, num_heads=4, mlp_ratio=1.5, num_classes=5)
assert model.norm.eps == 1e-6
randomize(model, 1)
images = random(2, 2, 3, 48, 48)
with torch.no_grad():
    # The second picture is nearly flat: variances are then small enough for the epsilon to count.
    images[1] *= 1e-3
    for tensor in [model.patch_embed.proj.bias, model.cls_token, model.pos_embed]:
        tensor *= 1e-3
    hidden = model.forward_features(images)
write(HERE / "weights.safetensors", model.state_dict())
write(HERE / "fixture.safetensors", {"images": images, "hidden": hidden})
