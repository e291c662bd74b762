"""Pictures of unusual kinds, and what Pillow's `convert("RGB")` makes of them."""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from encoders import write

HERE = Path(__file__).parent
HEIGHT, WIDTH = 12, 20
y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
red, green, blue = (12 * x).astype(np.uint8), (20 * y).astype(np.uint8), (5 * (x + y)).astype(np.uint8)
colour = Image.fromarray(np.stack([red, green, blue], -1))
rotation = Image.Exif()
rotation[0x0112] = 6

pictures = {
    "colour.png": (colour, {}),
    "grey.png": (colour.convert("L"), {}),
    "palette.png": (colour.quantize(16), {}),
    "alpha.png": (Image.merge("RGBA", [*colour.split(), Image.fromarray(red)]), {}),
    "colour.jpg": (colour, dict(quality=95)),
    "grey.jpg": (colour.convert("L"), dict(quality=95)),
    "cmyk.jpg": (colour.convert("CMYK"), dict(quality=95)),
    "rotated.jpg": (colour, dict(quality=95, exif=rotation)),
    "one.png": (Image.new("RGB", (1, 1), (9, 80, 200)), {}),
}
expected = {}
for name, (picture, options) in pictures.items():
    picture.save(HERE / name, **options)
    expected[name] = torch.from_numpy(np.array(Image.open(HERE / name).convert("RGB")))

# Pillow cannot write 16 bits of colour, and clips grey when it reads it: scaled and rounded is what is meant.
wide = (x * 3000 + y * 100 + 77).astype(np.uint16)
Image.fromarray(wide).save(HERE / "grey16.png")
scaled = np.round(wide / 257).astype(np.uint8)
expected["grey16.png"] = torch.from_numpy(np.repeat(scaled[..., None], 3, -1))
write(HERE / "fixture.safetensors", expected)
