"""Shared by the encoders' cases: seeded weights in every tensor, weights files as they are published, fixtures.

Run a case with `python generate.py` inside its folder. Needs transformers==5.23.0, timm==1.0.31, torch, torchvision,
pillow, tokenizers and safetensors.
"""

import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

assert version("transformers") == "5.23.0", version("transformers")
torch.use_deterministic_algorithms(True)
torch.set_num_threads(1)


def random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def randomize(model, seed):
    """Seeded values for every tensor, those that start at zero or one too; activations stay O(1)."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for name, tensor in module.named_parameters(recurse=False):
                noise = torch.randn(tensor.shape, generator=g)
                if isinstance(module, nn.LayerNorm) and name == "weight":
                    tensor.copy_(1 + 0.2 * noise)
                elif name == "bias":
                    tensor.copy_(0.2 * noise)
                elif isinstance(module, (nn.Linear, nn.Conv2d)):
                    tensor.copy_(noise * tensor[0].numel() ** -0.5)
                else:
                    tensor.copy_(0.7 * noise)
    return model.eval()


def pictures():
    """Smooth noise, larger and smaller than what a model sees, wide and tall, `[H, W, 3]` bytes each."""
    made = []
    for seed, (height, width) in enumerate([(90, 130), (75, 40), (20, 31)]):
        coarse = torch.rand(1, 3, 6, 9, generator=torch.Generator().manual_seed(seed))
        smooth = nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0]
        fine = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed + 100))
        made.append(((0.6 * smooth + 0.4 * fine) * 255).to(torch.uint8).permute(1, 2, 0).numpy())
    return made


def columns_first(picture, size, resample, original=Image.Image.resize, **_):
    """`Image.resize` as Pillow before 13 does it; 13 resizes rows first where that is cheaper, and rounds otherwise."""
    return original(original(picture, (size[0], picture.height), resample), size, resample)


def pixels(pil, torchvision):
    """The pictures, and the pixels that the processor on Pillow makes of them.

    The processor on torchvision resamples with other fixed-point weights; it may be off by one level of 8 bits.
    """
    recorded = {}
    Image.Image.resize = columns_first
    for i, picture in enumerate(pictures()):
        expected = pil(Image.fromarray(picture), return_tensors="pt")["pixel_values"][0]
        other = torchvision(Image.fromarray(picture), return_tensors="pt")["pixel_values"][0]
        level = 1.01 / 255 / min(pil.image_std)
        assert (expected - other).abs().max() <= level, (i, (expected - other).abs().max() / level)
        recorded |= {f"picture.{i}": torch.from_numpy(np.array(picture)), f"pixels.{i}": expected}
    return recorded


def published(model, path):
    """Writes the file that `save_pretrained` writes."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        path.write_bytes((Path(folder) / "model.safetensors").read_bytes())
    print(f"{path.name}: {path.stat().st_size} bytes")


def write(path, tensors):
    tensors = {key: tensor.detach().contiguous().clone() for key, tensor in tensors.items()}
    for key, tensor in tensors.items():
        assert not tensor.is_floating_point() or tensor.isfinite().all(), key
        print(f"{key:20} {tuple(tensor.shape)!s:20} {tensor.abs().max():.3g}")
    save_file(tensors, path, metadata={"transformers": version("transformers"), "torch": torch.__version__})
    assert path.stat().st_size < 1_000_000, path.stat().st_size
    print(f"{path.name}: {path.stat().st_size} bytes")
