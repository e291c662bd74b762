"""The feature pyramid, with its position encodings, on oblong maps: fused as published, and on every level."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import CHANNELS, neck, random, randomize, save

model = randomize(neck(), 1)
maps = [random(10 + i, 2, c, 16 >> i, 24 >> i) for i, c in enumerate(CHANNELS)]
fused, positions = model(maps)
model.fpn_top_down_levels = [0, 1, 2, 3]
everywhere, _ = model(maps)
tensors = {f"map.{i}": x for i, x in enumerate(maps)}
tensors |= {f"fused.{i}": x for i, x in enumerate(fused)}
tensors |= {f"everywhere.{i}": x for i, x in enumerate(everywhere)}
tensors |= {f"position.{i}": x[:1] for i, x in enumerate(positions)}
save(model, tensors)
