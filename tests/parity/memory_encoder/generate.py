"""The memory encoder on oblong maps, with its position encoding."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import WIDTH, memory_encoder, random, randomize, save

model = randomize(memory_encoder(), 1)
embedding = random(2, 2, WIDTH, 4, 6)
mask = 3 * random(3, 2, 1, 64, 96)
with torch.no_grad():
    out = model(embedding, mask, skip_mask_sigmoid=True)
save(
    model,
    {
        "embedding": embedding,
        "mask": mask,
        "output": out["vision_features"],
        "position": out["vision_pos_enc"][0][:1],
    },
)
