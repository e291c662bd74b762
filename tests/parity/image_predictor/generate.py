"""The image predictor end to end on an oblong image of another size: every kind of prompt, alone, combined and in
batches, with and without candidates; then holes filled and sprinkles removed."""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import sam2.utils.misc
from common import IMAGE, connected_components, random_images, randomize, sam2 as build, save
from sam2.modeling.sam2_base import SAM2Base
from sam2.sam2_image_predictor import SAM2ImagePredictor

HEIGHT, WIDTH = 50, 111  # enlarged in y, shrunk in x
CLEAN = dict(mask_threshold=0.25, max_hole_area=6, max_sprinkle_area=9)
image = random_images(2, 1, 3, HEIGHT, WIDTH)[0][0].permute(1, 2, 0).contiguous()

point, label = np.array([[100.0, 20.5]]), np.array([1])
points, labels = np.array([[100.0, 20.5], [31.0, 44.0], [7.0, 9.0]]), np.array([1, 0, 1])
box = np.array([12.0, 8.0, 90.5, 47.0])
boxes = np.array([[12.0, 8.0, 90.5, 47.0], [0.0, 0.0, 110.0, 49.0], [60.0, 30.0, 70.0, 45.0]])
sets = np.array([[[100.0, 20.5], [31.0, 44.0]], [[12.0, 45.0], [0.0, 0.0]]])
set_labels = np.array([[1, 0], [1, -1]])
outside = np.array([[-20.0, 200.0]])


sam2.utils.misc.get_connected_components = connected_components


def predictor(model, **options):
    made = SAM2ImagePredictor(model, **options)
    made._bb_feat_sizes = [(IMAGE // stride,) * 2 for stride in (4, 8, 16)]
    made.set_image(image.numpy())
    return made


def run(model):
    """All results, the cleaned ones, and all masks and IoUs behind each single mask."""
    plain, results, singles = predictor(model), {}, []
    predict_masks = model.sam_mask_decoder.predict_masks

    def case(name, multimask, **prompt):
        def recorded(**inputs):
            outputs = predict_masks(**inputs)
            if not multimask:
                singles.append(outputs[:2])
            return outputs

        model.sam_mask_decoder.predict_masks = recorded
        results[name] = plain.predict(multimask_output=multimask, return_logits=True, **prompt)

    case("point", True, point_coords=point, point_labels=label)
    earlier = results["point"][2][:1]
    case("point.single", False, point_coords=point, point_labels=label)
    case("points", False, point_coords=points, point_labels=labels)
    case("box", False, box=box)
    case("mask", False, mask_input=earlier)
    case("points.mask", False, point_coords=points, point_labels=labels, mask_input=earlier)
    case("box.points", True, box=box, point_coords=points, point_labels=labels)
    case("all", False, box=box, point_coords=points, point_labels=labels, mask_input=earlier)
    case("boxes", False, box=boxes)
    case("boxes.multimask", True, box=boxes)
    case("boxes.mask", True, box=boxes, mask_input=earlier)
    case("sets", True, point_coords=sets, point_labels=set_labels)
    case("outside", True, point_coords=outside, point_labels=label)
    case("nothing", True)
    model.sam_mask_decoder.predict_masks = predict_masks
    cleaned = predictor(model, **CLEAN).predict(
        point_coords=sets, point_labels=set_labels, multimask_output=True, return_logits=True
    )
    return plain, results, cleaned, singles


def decisions_are_clear(model, results, cleaned, singles):
    """Some single masks are stable and some are not, clearly, and the candidate in their place is clearly the best;
    cleaning changes masks both ways, by pixels that are clearly inside or outside."""
    decoder = model.sam_mask_decoder
    masks, ious = (torch.cat(part) for part in zip(*singles))
    margin = decoder._get_stability_scores(masks[:, :1]).flatten() - decoder.dynamic_multimask_stability_thresh
    best = ious[:, 1:].topk(2).values
    clear = margin.abs() >= 1e-2
    clear &= (margin > 0) | (best[:, 0] - best[:, 1] >= 1e-2)
    if not clear.all() or (margin > 0).all() or (margin < 0).all():
        return False
    low = results["sets"][2]
    change = cleaned[0] - results["sets"][0]
    return np.abs(low - CLEAN["mask_threshold"]).min() > 1e-3 and change.max() > 1 and change.min() < -1


for seed in range(1, 1000):
    model = randomize(build(SAM2Base, "2.1"), seed)
    model.sam_mask_decoder.dynamic_multimask_via_stability = True
    plain, results, cleaned, singles = run(model)
    if decisions_are_clear(model, results, cleaned, singles):
        break
else:
    raise SystemExit("no seed has clear decisions")
print(f"seed {seed}")
tensors = {"image": image, "pixels": plain._transforms(image.numpy())[None]}
for name, (logits, iou, low) in (results | {"cleaned": cleaned}).items():
    batched = logits.ndim == 4
    part = lambda x: torch.from_numpy(x if batched else x[None])
    tensors |= {f"{name}.logits": part(logits), f"{name}.iou": part(iou), f"{name}.low": part(low)}
save(model, tensors)
