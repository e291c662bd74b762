"""The two-way transformer alone, deeper and with fewer heads than the decoder's."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import TwoWayTransformer, random, randomize, save

WIDTH, H, W = 24, 3, 5
model = randomize(TwoWayTransformer(depth=3, embedding_dim=WIDTH, mlp_dim=40, num_heads=4), 1)
image, position, tokens = random(2, 2, WIDTH, H, W), random(3, 1, WIDTH, H, W), random(4, 2, 7, WIDTH)
with torch.no_grad():
    out_tokens, out_image = model(image, position.expand(2, -1, -1, -1), tokens)
save(
    model,
    {
        "image": image,
        "image_position": position,
        "tokens": tokens,
        "output.tokens": out_tokens,
        "output.image": out_image,
    },
)
