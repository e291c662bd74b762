"""Runs Meta's video predictor on a synthetic clip and records what every frame yields."""

import torch

import sam2.sam2_video_predictor as predictor_module
from common import IMAGE, random_images, randomize, sam2, save
from sam2.sam2_video_predictor import SAM2VideoPredictor

predictor_module.tqdm = lambda frames, **_: frames

FRAMES = 7  # more than the four memories and five pointers that the model keeps


def clip(seed):
    """A textured square that wanders over a textured ground, as bytes and as pixels."""
    ground, _ = random_images(seed, 1, 3, IMAGE, IMAGE)
    square, _ = random_images(seed + 1, 1, 3, 40, 40)
    video = ground.repeat(FRAMES, 1, 1, 1)
    for i in range(FRAMES):
        x, y = 8 + 6 * i, 12 + 4 * i
        video[i, :, y : y + 40, x : x + 40] = 255 - square[0] // 2
    return video, video.float() / 64 - 2


def track(model, images, prompt):
    """One object from frame 0 to the end; `prompt(model, state)` adds the prompt. Adds each frame's IoUs."""
    ious = []
    hook = model.sam_mask_decoder.register_forward_hook(lambda *call: ious.append(call[-1][1]))
    predictor_module.load_video_frames = lambda **_: (images, IMAGE, IMAGE)
    state = model.init_state(video_path=None)
    prompt(model, state)
    list(model.propagate_in_video(state))
    hook.remove()
    outputs = state["output_dict_per_obj"][0]
    merged = outputs["cond_frame_outputs"] | outputs["non_cond_frame_outputs"]
    assert len(merged) == len(ious) == len(images)
    return [merged[i] | {"iou": ious[i]} for i in range(len(images))]


def decisions_are_clear(frames):
    """The object is there first and absent later, or the other way round, and no choice is close."""
    scores = torch.cat([frame["object_score_logits"].flatten() for frame in frames])
    if scores.abs().min() < 0.1 or scores[0] < 0 or (scores > 0).all() or (scores[1:] < 0).all():
        return False
    for frame in frames:
        best = frame["iou"].flatten().sort(descending=True).values
        if len(best) > 1 and best[0] - best[1] < 1e-2:
            return False
    mask = torch.nn.functional.interpolate(frames[0]["pred_masks"], size=(IMAGE, IMAGE), mode="bilinear")
    share = (mask > 0).float().mean()
    return mask.abs().min() >= 1e-3 and 0.05 < share < 0.95


def spread_scores(model, images, prompt):
    """Shifts object scores so that some tracked frames fall below zero: random ones tend to agree in sign."""
    last = model.sam_mask_decoder.pred_obj_score_head.layers[-1]
    with torch.no_grad():
        last.weight *= 8
        last.bias += 1000
        scores = [frame["object_score_logits"].item() for frame in track(model, images, prompt)]
        tracked = sorted(scores[1:])
        gap, middle = max((b - a, (a + b) / 2) for a, b in zip(tracked, tracked[1:]))
        last.bias -= middle
    return gap > 0.2 and scores[0] > middle + 0.1


def generate(generation, prompt, inputs):
    """Searches a seed with clear decisions and saves the case."""
    video, images = clip(11)
    for seed in range(1, 1000):
        model = sam2(SAM2VideoPredictor, generation, binarize_mask_from_pts_for_mem_enc=True)
        randomize(model, seed)
        if spread_scores(model, images, prompt) and decisions_are_clear(frames := track(model, images, prompt)):
            break
    else:
        raise SystemExit("no seed has clear decisions")
    print(f"seed {seed}, scores", [round(frame["object_score_logits"].item(), 2) for frame in frames])
    outputs = {}
    for i, frame in enumerate(frames):
        outputs[f"logits.{i}"] = frame["pred_masks"]
        outputs[f"score.{i}"] = frame["object_score_logits"]
        outputs[f"iou.{i}"] = frame["iou"].max(dim=1, keepdim=True).values
        outputs[f"pointer.{i}"] = frame["obj_ptr"]
        outputs[f"memory.{i}"] = frame["maskmem_features"].float()
    save(model, {"pixels": video} | inputs | outputs)
