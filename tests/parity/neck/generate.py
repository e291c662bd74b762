"""The feature pyramid, with its position encodings, on oblong maps."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import CHANNELS, neck, random, randomize, save

model = randomize(neck(), 1)
maps = [random(10 + i, 2, c, 16 >> i, 24 >> i) for i, c in enumerate(CHANNELS)]
fused, positions = model(maps)
tensors = {f"map.{i}": x for i, x in enumerate(maps)}
tensors |= {f"fused.{i}": x for i, x in enumerate(fused)}
tensors |= {f"position.{i}": x[:1] for i, x in enumerate(positions)}
save(model, tensors)
