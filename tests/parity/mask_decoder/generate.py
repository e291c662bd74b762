"""The mask decoder with high-resolution features: single mask, candidates, and single mask by stability, where
one of two images falls back to its best candidate."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import WIDTH, mask_decoder, random, randomize, save

H, W = 4, 6
model = randomize(mask_decoder(dynamic_multimask_via_stability=True), 1)
inputs = {
    "image": random(2, 2, WIDTH, H, W),
    "image_position": random(3, 1, WIDTH, H, W),
    "sparse": random(4, 2, 3, WIDTH),
    "dense": random(5, 2, WIDTH, H, W),
    "stride4": random(6, 2, WIDTH // 8, 4 * H, 4 * W),
    "stride8": random(7, 2, WIDTH // 4, 2 * H, 2 * W),
}


def run(multimask):
    return model(
        image_embeddings=inputs["image"],
        image_pe=inputs["image_position"],
        sparse_prompt_embeddings=inputs["sparse"],
        dense_prompt_embeddings=inputs["dense"],
        multimask_output=multimask,
        repeat_image=False,
        high_res_features=[inputs["stride4"], inputs["stride8"]],
    )


outputs = {}
with torch.no_grad():
    for name, multimask, stability in [("single", False, False), ("candidates", True, False), ("stable", False, True)]:
        model.dynamic_multimask_via_stability = stability
        if stability:
            scores = model._get_stability_scores(outputs["single.masks"]).flatten().sort().values
            assert scores[1] - scores[0] > 1e-2, scores
            model.dynamic_multimask_stability_thresh = scores.mean().item()
        masks, iou, tokens, score = run(multimask)
        outputs |= {f"{name}.masks": masks, f"{name}.iou": iou, f"{name}.tokens": tokens, f"{name}.score": score}
best = outputs["candidates.iou"].topk(2).values
assert (best[:, 0] - best[:, 1] >= 1e-2).all(), best
logits = outputs["single.masks"].abs()
delta = model.dynamic_multimask_stability_delta
assert ((logits - delta).abs() > 1e-5).all()
outputs["stability_threshold"] = torch.tensor([model.dynamic_multimask_stability_thresh])
save(model, inputs | outputs)
