"""ViT as Hugging Face has it: inside a classifier's file, and as PyTorch saves the bare model."""

import sys
from pathlib import Path

import torch
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor, ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

sys.path.insert(0, str(Path(__file__).parents[1]))
from encoders import pixels, published, random, randomize, write

HERE = Path(__file__).parent
CONFIG = ViTConfig(
    image_size=48,
    patch_size=8,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=48,
    num_labels=5,
)
assert CONFIG.layer_norm_eps == 1e-12
size = dict(size={"height": 48, "width": 48}, image_mean=[0.5] * 3, image_std=[0.5] * 3)

classifier = randomize(ViTForImageClassification(CONFIG), 1)
published(classifier, HERE / "weights.safetensors")
bare = randomize(ViTModel(CONFIG), 2)
bare.load_state_dict(classifier.vit.state_dict(), strict=False)
torch.save(bare.state_dict(), HERE / "weights.pt")

images = random(3, 2, 3, 48, 48)
with torch.no_grad():
    hidden = bare(images).last_hidden_state
write(
    HERE / "fixture.safetensors",
    {"images": images, "hidden": hidden} | pixels(ViTImageProcessorPil(**size), ViTImageProcessor(**size)),
)
