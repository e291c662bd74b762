"""A whole image model: features, then masks for points, for a box with a point, and for tokens from outside."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import IMAGE, WIDTH, random, random_images, randomize, sam2, save
from sam2.modeling.sam2_base import SAM2Base

pixels, images = random_images(2, 2, 3, IMAGE, IMAGE)
prompts = {
    "points": (torch.tensor([[[20.0, 30.5]], [[70.0, 11.0]]]), torch.tensor([[1], [0]])),
    "box": (
        torch.tensor([[[10.0, 20.0], [50.0, 60.0], [31.0, 44.0]], [[5.0, 6.0], [90.0, 70.0], [0.0, 0.0]]]),
        torch.tensor([[2, 3, 1], [2, 3, -1]]),
    ),
}
token = random(3, 2, 1, WIDTH)


def features_of(model):
    out = model.forward_image(images)
    fine, middle, coarse = out["backbone_fpn"]
    return fine, middle, coarse, coarse + model.no_mem_embed.reshape(1, -1, 1, 1)


def decode(model, features, sparse, multimask):
    """`_forward_sam_heads` up to its gate on the object score."""
    fine, middle, _, embedding = features
    return model.sam_mask_decoder(
        image_embeddings=embedding,
        image_pe=model.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=model.sam_prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1),
        multimask_output=multimask,
        repeat_image=False,
        high_res_features=[fine, middle],
    )


@torch.no_grad()
def run(model):
    features = features_of(model)
    outputs = {f"feature.{i}": x for i, x in enumerate(features[:3])}
    heads = {}
    for name, points in prompts.items():
        sparse, _ = model.sam_prompt_encoder(points=points, boxes=None, masks=None)
        outputs[f"{name}.sparse"] = sparse
        heads[name] = decode(model, features, sparse, True)
    heads["token"] = decode(model, features, token, False)
    for name, (masks, iou, _, score) in heads.items():
        outputs |= {f"{name}.masks": masks, f"{name}.iou": iou, f"{name}.score": score}
    # The gated masks and the object pointers, as a video has them.
    gated = model._forward_sam_heads(
        backbone_features=features[3],
        point_inputs={"point_coords": prompts["points"][0], "point_labels": prompts["points"][1]},
        high_res_features=list(features[:2]),
        multimask_output=True,
    )
    return outputs | {"gated.mask": gated[3], "gated.pointer": gated[5]}


def decisions_are_clear(outputs):
    """One object is there and one is not, and no choice is close."""
    best = torch.cat([outputs["points.iou"], outputs["box.iou"]]).topk(2).values
    score = outputs["points.score"]
    return (best[:, 0] - best[:, 1]).min() >= 1e-2 and score.abs().min() >= 0.1 and score.min() < 0 < score.max()


for seed in range(1, 1000):
    model = randomize(sam2(SAM2Base, "2.1"), seed)
    outputs = run(model)
    if decisions_are_clear(outputs):
        break
else:
    raise SystemExit("no seed has clear decisions")
inputs = {"pixels": pixels, "token": token}
for name, (coordinates, labels) in prompts.items():
    inputs |= {f"{name}.coordinates": coordinates, f"{name}.labels": labels.float()}
save(model, inputs | outputs)
