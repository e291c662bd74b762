"""Hiera on an oblong image whose second and third stage need padded windows."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import hiera, random_images, randomize, save

model = randomize(hiera(), 1)
pixels, images = random_images(2, 2, 3, 64, 96)
maps = model(images)
save(model, {"pixels": pixels} | {f"map.{i}": x for i, x in enumerate(maps)})
