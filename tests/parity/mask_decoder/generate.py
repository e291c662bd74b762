"""The mask decoder with high-resolution features: single mask, candidates, and single mask by stability, where
one of two images falls back to its best candidate; and the gradients of BCE + DICE of the candidates."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import WIDTH, gradients, mask_decoder, mask_loss, random, randomize, save

H, W = 4, 6
inputs = {
    "image": random(2, 2, WIDTH, H, W),
    "image_position": random(3, 1, WIDTH, H, W),
    "sparse": random(4, 2, 3, WIDTH),
    "dense": random(5, 2, WIDTH, H, W),
    "stride4": random(6, 2, WIDTH // 8, 4 * H, 4 * W),
    "stride8": random(7, 2, WIDTH // 4, 2 * H, 2 * W),
}


def run(model, multimask, stability):
    model.dynamic_multimask_via_stability = stability
    return model(
        image_embeddings=inputs["image"],
        image_pe=inputs["image_position"],
        sparse_prompt_embeddings=inputs["sparse"],
        dense_prompt_embeddings=inputs["dense"],
        multimask_output=multimask,
        repeat_image=False,
        high_res_features=[inputs["stride4"], inputs["stride8"]],
    )


def decisions_are_clear(model):
    """Sets a stability threshold between the two images' scores; false if any choice is close."""
    single, candidates = run(model, False, False), run(model, True, False)
    scores = model._get_stability_scores(single[0]).flatten().sort().values
    model.dynamic_multimask_stability_thresh = scores.mean().item()
    best = candidates[1].topk(2).values
    shifted = (single[0].abs() - model.dynamic_multimask_stability_delta).abs()
    return scores[1] - scores[0] > 1e-2 and (best[:, 0] - best[:, 1]).min() >= 1e-2 and shifted.min() > 1e-5


models = (randomize(mask_decoder(dynamic_multimask_via_stability=True), seed) for seed in range(1, 100))
model = next(filter(decisions_are_clear, models))
outputs = {"stability_threshold": torch.tensor([model.dynamic_multimask_stability_thresh])}
for name, flags in {"single": (False, False), "candidates": (True, False), "stable": (False, True)}.items():
    masks, iou, tokens, score = run(model, *flags)
    outputs |= {f"{name}.masks": masks, f"{name}.iou": iou, f"{name}.tokens": tokens, f"{name}.score": score}

target = (random(8, 2, 3, 4 * H, 4 * W) > 0.5).float()
reached = {name: inputs[name].requires_grad_() for name in ["image", "sparse", "stride4", "stride8"]}
loss = mask_loss(run(model, True, False)[0].flatten(0, 1), target.flatten(0, 1))
save(model, inputs | outputs | {"target": target} | gradients(model, loss, **reached))
