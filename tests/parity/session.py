"""Drives Meta's video predictor through one long interaction and records what every step yields."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

import sam2.sam2_video_predictor as predictor_module
import sam2.utils.misc
from common import IMAGE, SMALL, connected_components, generator, random_images, randomize, save
from common import sam2 as build
from sam2.sam2_video_predictor import SAM2VideoPredictor

predictor_module.tqdm = lambda frames, **_: frames

sam2.utils.misc.get_connected_components = connected_components
fill_holes = predictor_module.fill_holes_in_mask_scores
BF16 = torch.bfloat16

FRAMES = 12  # more than the four memories and five pointers that the model keeps
VIDEO = (72, 104)  # height and width that prompts and masks refer to
OCCLUDED = (5, 6)  # frames that show another scene; no prompt is there
SCORE = 1.0  # no object score is closer to 0: they reach 30
BINARY = 1e-3  # no binarised logit is closer to 0
STEADY = {torch.float32: 5e-5, BF16: 5e-4}  # answers do not wobble by more, by the type of memories
HOLES = {torch.float32: 2.5e-5, BF16: 5e-4}  # masks with filled holes are steady when logits move by this, relatively
HOLE_AREA = 8


@dataclass(frozen=True)
class Interaction:
    """What the predictor is asked about a video."""

    steps: Callable  # asks a Recorder
    video: tuple = VIDEO  # height and width that prompts and masks refer to
    enlarged: tuple = (2, 10)  # tracked frames that are recorded at that size too


def clip(seed, size=(IMAGE, IMAGE), side=32, paths=((6, 4, 10, 2), (56, -3, 60, -4)), frames=FRAMES, hidden=OCCLUDED):
    """Two textured squares that wander over a textured ground, and a cut to another scene and back; bytes and pixels.
    A path is the first x, its step, the first y, its step."""
    ground, _ = random_images(seed, 1, 3, *size)
    squares = [random_images(seed + i, 1, 3, side, side)[0][0] for i in (1, 2)]
    squares = [255 - squares[0] // 2, squares[1] // 2]
    video = ground.repeat(frames, 1, 1, 1)
    for i in range(frames):
        for square, (x, dx, y, dy) in zip(squares, paths):
            x, y = x + i * dx, y + i * dy
            video[i, :, y : y + side, x : x + side] = square
    for i in hidden:
        video[i] = 255 - random_images(seed + i, 1, 3, *size)[0][0] // 4
    return video, video.float() / 64 - 2


def mask_prompt():
    """A tilted ellipse at the video's size."""
    y, x = torch.meshgrid(torch.arange(VIDEO[0]), torch.arange(VIDEO[1]), indexing="ij")
    u, v = (x - 60.0) / 25, (y - 30.0 + 0.2 * x - 10) / 14
    return u * u + v * v < 1


class Torch:
    """torch as the predictor sees it, with memories stored in `memory` instead of bf16."""

    def __init__(self, memory):
        self.bfloat16 = memory

    def __getattr__(self, name):
        return getattr(torch, name)


def full_precision(_module, args, kwargs):
    """Memories without pointers stay bf16 and meet f32 weights: upstream relies on autocast there."""
    return args, kwargs | {"memory": kwargs["memory"].float()}


class Recorder:
    """Runs the interaction; keeps outputs by name and every decision that was taken."""

    def __init__(self, model, images, asked):
        self.model, self.asked, self.outputs = model, asked, {}
        self.gaps, self.stable, self.holes, self.binary = [], [], [], {}
        self.prompted_scores, self.tracked_scores = {}, {}
        predictor_module.load_video_frames = lambda **_: (images, *asked.video)
        self.state = model.init_state(video_path=None)

    def note(self, _module, _inputs, output):
        _, iou, _, _ = output
        best = iou.flatten().sort(descending=True).values
        if len(best) > 1:
            self.gaps.append((best[0] - best[1]).item())

    def watch_stability(self):
        decoder = self.model.sam_mask_decoder
        choose = decoder._dynamic_multimask_via_stability

        def watched(masks, iou):
            score = decoder._get_stability_scores(masks[:, 0:1]).item()
            delta = decoder.dynamic_multimask_stability_delta
            edge = (masks[:, 0:1].abs() - delta).abs().min().item()
            self.stable.append((score, edge))
            best = iou[:, 1:].flatten().sort(descending=True).values
            if score < decoder.dynamic_multimask_stability_thresh:
                self.gaps.append((best[0] - best[1]).item())
            return choose(masks, iou)

        decoder._dynamic_multimask_via_stability = watched

    def watch_holes(self, margin):
        """Notes how many cells are filled, and whether the mask moves by no more than twice what logits move by, up to
        `margin` of the largest."""

        def watched(mask, area):
            filled, off = fill_holes(mask, area), margin * mask.abs().max()
            moves = [(fill_holes(mask + move, area) - filled).abs().max() for move in (off, -off)]
            self.holes.append(((filled != mask).sum().item(), max(moves) <= 2 * off))
            return filled

        predictor_module.fill_holes_in_mask_scores = watched

    def record(self, name, masks):
        self.outputs[name] = masks

    def prompted(self, name, frame, obj):
        """The video-resolution answer to a prompt; the object's pending mask is binarised later."""
        state = self.state
        pending = state["temp_output_dict_per_obj"][state["obj_id_to_idx"][obj]]
        out = pending["cond_frame_outputs"].get(frame) or pending["non_cond_frame_outputs"][frame]
        large = torch.nn.functional.interpolate(out["pred_masks"], size=(self.model.image_size,) * 2, mode="bilinear")
        self.binary[name] = large.abs().min().item()
        self.record(f"{name}.logits", out["pred_masks"])
        self.record(f"{name}.score", out["object_score_logits"])
        self.prompted_scores[name] = out["object_score_logits"].item()

    def points(self, name, frame, obj, **prompt):
        _, ids, masks = self.model.add_new_points_or_box(self.state, frame_idx=frame, obj_id=obj, **prompt)
        self.prompted(name, frame, obj)
        self.record(f"{name}.video", masks[ids.index(obj)][None])

    def mask(self, name, frame, obj, mask):
        _, ids, masks = self.model.add_new_mask(self.state, frame_idx=frame, obj_id=obj, mask=mask)
        self.prompted(name, frame, obj)
        self.record(f"{name}.video", masks[ids.index(obj)][None])

    def propagate(self, name, **how):
        for frame, ids, masks in self.model.propagate_in_video(self.state, **how):
            for i, obj in enumerate(ids):
                per_object = self.state["output_dict_per_obj"][i]
                out = per_object["cond_frame_outputs"].get(frame) or per_object["non_cond_frame_outputs"][frame]
                self.record(f"{name}.{frame}.{obj}.logits", out["pred_masks"])
                self.record(f"{name}.{frame}.{obj}.score", out["object_score_logits"])
                self.tracked_scores[name, frame, obj] = out["object_score_logits"].item()
            if frame in self.asked.enlarged:
                for obj, mask in zip(ids, masks):
                    self.record(f"{name}.{frame}.{obj}.video", mask[None])


def long_interaction(run):
    one = torch.tensor([1])
    run.points("click", 2, 1, points=torch.tensor([[40.0, 30.0]]), labels=one)
    run.points("second", 2, 1, points=torch.tensor([[88.0, 60.0]]), labels=torch.tensor([0]), clear_old_points=False)
    run.points("box", 4, 2, box=torch.tensor([20.0, 15.0, 70.0, 55.0]))
    run.mask("mask", 9, 2, mask_prompt())
    run.propagate("forward")
    run.points("refine", 7, 1, points=torch.tensor([[55.0, 40.0]]), labels=one)
    run.points("again", 11, 1, points=torch.tensor([[30.0, 20.0]]), labels=one)
    run.points("late", 3, 3, points=torch.tensor([[30.0, 50.0]]), labels=one, box=torch.tensor([10.0, 30.0, 60.0, 70.0]))
    run.propagate("backward", start_frame_idx=7, reverse=True)
    run.model.remove_object(run.state, 2)
    run.propagate("final", start_frame_idx=9)


LONG = Interaction(long_interaction)


def interact(model, images, asked=LONG, watch=False, memory=BF16):
    predictor_module.torch = Torch(memory)
    run = Recorder(model, images, asked)
    hook = model.sam_mask_decoder.register_forward_hook(run.note)
    if watch:
        run.watch_holes(HOLES[memory])
        if model.sam_mask_decoder.dynamic_multimask_via_stability:
            run.watch_stability()
    asked.steps(run)
    hook.remove()
    model.sam_mask_decoder.__dict__.pop("_dynamic_multimask_via_stability", None)
    predictor_module.fill_holes_in_mask_scores = fill_holes
    predictor_module.torch = torch
    return run


def decisive(model, steepness):
    """Spreads masks and predicted IoUs: random weights put many of them close together."""
    decoder = model.sam_mask_decoder
    with torch.no_grad():
        for mlp in decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight *= steepness
            mlp.layers[-1].bias *= steepness
        decoder.iou_prediction_head.layers[-1].weight *= 4
        decoder.pred_obj_score_head.layers[-1].weight *= 32


def spread_scores(model, images, asked, occluded):
    """Points and shifts object scores so that objects are there where they are prompted, and gone in the frames
    `occluded`; or, if there are none, there everywhere."""
    last = model.sam_mask_decoder.pred_obj_score_head.layers[-1]
    with torch.no_grad():
        last.bias += 1000
        run = interact(model, images, asked)
        if not occluded:
            everywhere = list(run.prompted_scores.values()) + list(run.tracked_scores.values())
            last.bias -= min(x for x in everywhere if x != 10) - 2 * SCORE  # a mask prompt scores 10
            return True
        tracked = lambda frames: [run.tracked_scores["forward", frame, 1] for frame in frames]
        there = list(run.prompted_scores.values()) + tracked(occluded[-1] + i for i in (1, 2))
        gone = tracked(occluded)
        if min(there) < max(gone):
            last.weight *= -1
            last.bias.copy_(2000 - last.bias)  # 1000 + b becomes 1000 - b
            there, gone = [2000 - x for x in there], [2000 - x for x in gone]
        last.bias -= (min(there) + max(gone)) / 2
    return min(there) - max(gone) > 3 * SCORE


def decisions_are_clear(run, occluded):
    tracked = {frame: x for (name, frame, obj), x in run.tracked_scores.items() if (name, obj) == ("forward", 1)}
    scores = list(run.prompted_scores.values()) + list(run.tracked_scores.values())
    checks = {
        "score": min(abs(score) for score in scores) >= SCORE,
        "prompted": min(run.prompted_scores.values()) > 0,
        "gone": all(tracked[frame] < 0 for frame in occluded),
        "back": not occluded or min(x for frame, x in tracked.items() if frame > occluded[-1]) > 0,
        "masks": all(x.std() > 0 for name, x in run.outputs.items() if name.split(".")[0] in run.prompted_scores and "logits" in name),
        "iou": min(run.gaps) >= 1e-2,
        "binary": not run.model.binarize_mask_from_pts_for_mem_enc or min(run.binary.values()) >= BINARY,
        "stability": all(abs(score - 0.98) > 1e-3 and edge > 1e-4 for score, edge in run.stable),
        "holes": not run.holes or any(n for n, _ in run.holes) and all(same for _, same in run.holes),
    }
    return [name for name, ok in checks.items() if not ok]


def moved(value, relative, g):
    """Every float tensor of a module's output, moved by up to `relative` of its largest value."""
    if isinstance(value, dict):
        return {name: moved(x, relative, g) for name, x in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(moved(x, relative, g) for x in value)
    noise = torch.rand(value.shape, generator=g) * 2 - 1
    return value + relative * value.abs().max() * noise


def wobble(model, images, asked, memory, relative=1e-6, trials=8):
    """How far answers move when every module's output moves by `relative`, as it does between two exact f32 codes."""
    parts = [model.image_encoder, model.memory_attention, model.sam_mask_decoder, model.memory_encoder]
    exact = interact(model, images, asked, memory=memory).outputs
    worst = torch.zeros(1)
    for seed in range(trials):
        g = generator(seed)
        hooks = [part.register_forward_hook(lambda _module, _inputs, out: moved(out, relative, g)) for part in parts]
        outputs = interact(model, images, asked, memory=memory).outputs
        for hook in hooks:
            hook.remove()
        errors = {name: (outputs[name] - x).abs().max() / x.abs().max() for name, x in exact.items()}
        name = max(errors, key=errors.get)
        print(f"modules moved by {relative:g}, memory {memory}: {name} by {errors[name]:.2g}", flush=True)
        worst = worst.maximum(errors[name])
    return worst


def random_model(seed, generation, postprocess, sizes=SMALL, steepness=20, **flags):
    """A decisive model with random weights; `postprocess` as in `build_sam2_video_predictor`, but for the holes."""
    flags |= dict(binarize_mask_from_pts_for_mem_enc=postprocess)
    model = build(SAM2VideoPredictor, generation, sizes, **flags)
    model.sam_mask_decoder.dynamic_multimask_via_stability = postprocess
    model.memory_attention.register_forward_pre_hook(full_precision, with_kwargs=True)
    randomize(model, seed)
    decisive(model, steepness)
    return model


def recordings(model, images, asked, occluded, holes, rounded_holes):
    """What a case saves of the interaction with rounded and with exact memories, where holes of at most so many cells
    are filled; and what is not clear in it."""
    model.fill_hole_area = rounded_holes
    run = interact(model, images, asked, watch=True)
    unclear = decisions_are_clear(run, occluded)
    if unclear:
        return {}, unclear
    model.fill_hole_area = holes
    exact = interact(model, images, asked, watch=True, memory=torch.float32)
    unclear = decisions_are_clear(exact, occluded)
    if unclear:
        return {}, unclear
    wobbles = {"unrounded.wobble": wobble(model, images, asked, torch.float32)}
    model.fill_hole_area = rounded_holes
    wobbles["wobble"] = wobble(model, images, asked, BF16)
    if wobbles["unrounded.wobble"] > STEADY[torch.float32] or wobbles["wobble"] > STEADY[BF16]:
        unclear = ["steady"]
    for made in (run, exact):
        print("filled", sum(n for n, _ in made.holes))
        for scores in (made.prompted_scores, made.tracked_scores):
            print({key: round(score, 2) for key, score in scores.items()})
    return run.outputs | {f"unrounded.{name}": x for name, x in exact.outputs.items()} | wobbles, unclear


def generate(generation, postprocess, occluded=OCCLUDED, **flags):
    """Searches a seed with clear decisions and saves the case."""
    video, images = clip(21)
    for seed in range(1, 3000):
        model = random_model(seed, generation, postprocess, **flags)
        model.fill_hole_area = 0
        if not spread_scores(model, images, LONG, occluded):
            print(f"seed {seed}: scores", flush=True)
            continue
        # Which holes are small enough is decided by single cells: only exact memories leave no doubt.
        outputs, unclear = recordings(model, images, LONG, occluded, HOLE_AREA if postprocess else 0, 0)
        if not unclear:
            break
        print(f"seed {seed}: {unclear}", flush=True)
    else:
        raise SystemExit("no seed has clear decisions")
    print(f"seed {seed}")
    save(model, {"pixels": video, "mask": mask_prompt().to(torch.uint8)[None, None]} | outputs)
