"""Gradients of BCE + DICE through a whole image model: from the masks of points and an earlier mask to the pixels'
first convolution."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import IMAGE, gradients, mask_loss, random, random_images, randomize, sam2, save
from sam2.modeling.sam2_base import SAM2Base

model = randomize(sam2(SAM2Base, "2.1"), 1)
pixels, images = random_images(2, 2, 3, IMAGE, IMAGE)
coordinates = torch.tensor([[[20.0, 30.5], [60.0, 80.0], [0.0, 0.0]], [[70.0, 11.0], [10.0, 20.0], [50.0, 60.0]]])
labels = torch.tensor([[1, 0, -1], [1, 2, 3]])  # every embedding of a point is used
mask = 3 * random(3, 2, 1, IMAGE // 4, IMAGE // 4)

features = model.forward_image(images)["backbone_fpn"]
sparse, dense = model.sam_prompt_encoder(points=(coordinates, labels), boxes=None, masks=mask)
masks, *_ = model.sam_mask_decoder(
    image_embeddings=features[2] + model.no_mem_embed.reshape(1, -1, 1, 1),
    image_pe=model.sam_prompt_encoder.get_dense_pe(),
    sparse_prompt_embeddings=sparse,
    dense_prompt_embeddings=dense,
    multimask_output=True,
    repeat_image=False,
    high_res_features=features[:2],
)
target = (random(4, *masks.shape) > 0.5).float()
inputs = {"pixels": pixels, "coordinates": coordinates, "labels": labels.float(), "mask": mask, "target": target}
loss = mask_loss(masks.flatten(0, 1), target.flatten(0, 1))
save(model, inputs | {"masks": masks} | gradients(model, loss))
