"""Hiera on a square image that all windows divide, with two heads and two global blocks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import Hiera, random_images, randomize, save

model = Hiera(
    embed_dim=12,
    num_heads=2,
    stages=(2, 1, 2, 1),
    window_spec=(4, 4, 2, 2),
    global_att_blocks=(1, 4),
    window_pos_embed_bkg_spatial_size=(4, 4),
)
randomize(model, 3)
pixels, images = random_images(4, 1, 3, 64, 64)
maps = model(images)
save(model, {"pixels": pixels} | {f"map.{i}": x for i, x in enumerate(maps)})
