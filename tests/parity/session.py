"""Drives Meta's video predictor through one long interaction and records what every step yields."""

import torch

import sam2.sam2_video_predictor as predictor_module
import sam2.utils.misc
from common import IMAGE, connected_components, generator, random_images, randomize, save
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
STEADY = (5e-5, 5e-4)  # answers do not wobble by more, with exact and with rounded memories
HOLES = 5e-3  # which holes are filled does not change when logits move by this


def clip(seed):
    """Two textured squares that wander over a textured ground, and a cut to another scene and back; bytes and pixels."""
    ground, _ = random_images(seed, 1, 3, IMAGE, IMAGE)
    squares = [random_images(seed + i, 1, 3, 32, 32)[0][0] for i in (1, 2)]
    video = ground.repeat(FRAMES, 1, 1, 1)
    for i in range(FRAMES):
        for square, x, y in [(255 - squares[0] // 2, 6 + 4 * i, 10 + 2 * i), (squares[1] // 2, 56 - 3 * i, 60 - 4 * i)]:
            video[i, :, y : y + 32, x : x + 32] = square
    for i in OCCLUDED:
        video[i] = 255 - random_images(seed + i, 1, 3, IMAGE, IMAGE)[0][0] // 4
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

    def __init__(self, model, images):
        self.model, self.outputs = model, {}
        self.gaps, self.stable, self.holes, self.binary = [], [], [], {}
        self.prompted_scores, self.tracked_scores = {}, {}
        predictor_module.load_video_frames = lambda **_: (images, *VIDEO)
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

    def watch_holes(self):
        """Notes how many cells are filled, and whether other ones would be if logits were a little off."""

        def watched(mask, area):
            filled = [fill_holes(mask + move, area) != mask + move for move in (0, HOLES, -HOLES)]
            self.holes.append((filled[0].sum().item(), all(x.equal(filled[0]) for x in filled)))
            return fill_holes(mask, area)

        predictor_module.fill_holes_in_mask_scores = watched

    def record(self, name, masks):
        self.outputs[name] = masks

    def prompted(self, name, frame, obj):
        """The video-resolution answer to a prompt; the object's pending mask is binarised later."""
        state = self.state
        pending = state["temp_output_dict_per_obj"][state["obj_id_to_idx"][obj]]
        out = pending["cond_frame_outputs"].get(frame) or pending["non_cond_frame_outputs"][frame]
        large = torch.nn.functional.interpolate(out["pred_masks"], size=(IMAGE, IMAGE), mode="bilinear")
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
            if frame in (2, 10):
                for obj, mask in zip(ids, masks):
                    self.record(f"{name}.{frame}.{obj}.video", mask[None])


def interact(model, images, watch=False, memory=BF16):
    predictor_module.torch = Torch(memory)
    run = Recorder(model, images)
    hook = model.sam_mask_decoder.register_forward_hook(run.note)
    if watch:
        run.watch_holes()
        if model.sam_mask_decoder.dynamic_multimask_via_stability:
            run.watch_stability()
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
    model.remove_object(run.state, 2)
    run.propagate("final", start_frame_idx=9)
    hook.remove()
    model.sam_mask_decoder.__dict__.pop("_dynamic_multimask_via_stability", None)
    predictor_module.fill_holes_in_mask_scores = fill_holes
    predictor_module.torch = torch
    return run


def decisive(model):
    """Spreads masks and predicted IoUs: random weights put many of them close together."""
    decoder = model.sam_mask_decoder
    with torch.no_grad():
        for mlp in decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight *= 20
            mlp.layers[-1].bias *= 20
        decoder.iou_prediction_head.layers[-1].weight *= 4
        decoder.pred_obj_score_head.layers[-1].weight *= 32


def spread_scores(model, images, occluded):
    """Points and shifts object scores so that objects are there where they are prompted, and gone in the other scene;
    or, if not `occluded`, there everywhere."""
    last = model.sam_mask_decoder.pred_obj_score_head.layers[-1]
    with torch.no_grad():
        last.bias += 1000
        run = interact(model, images)
        if not occluded:
            everywhere = list(run.prompted_scores.values()) + list(run.tracked_scores.values())
            last.bias -= min(x for x in everywhere if x != 10) - 2 * SCORE  # a mask prompt scores 10
            return True
        there = list(run.prompted_scores.values()) + [run.tracked_scores["forward", frame, 1] for frame in (7, 8)]
        gone = [run.tracked_scores["forward", frame, 1] for frame in OCCLUDED]
        if min(there) < max(gone):
            last.weight *= -1
            last.bias.copy_(2000 - last.bias)  # 1000 + b becomes 1000 - b
            there, gone = [2000 - x for x in there], [2000 - x for x in gone]
        last.bias -= (min(there) + max(gone)) / 2
    return min(there) - max(gone) > 3 * SCORE


def decisions_are_clear(run, config, occluded):
    tracked = lambda obj: [run.tracked_scores["forward", frame, obj] for frame in range(4, FRAMES)]
    hidden = slice(OCCLUDED[0] - 4, OCCLUDED[-1] - 3)
    scores = list(run.prompted_scores.values()) + list(run.tracked_scores.values())
    checks = {
        "score": min(abs(score) for score in scores) >= SCORE,
        "prompted": min(run.prompted_scores.values()) > 0,
        "gone": not occluded or max(tracked(1)[hidden]) < 0,
        "back": not occluded or min(tracked(1)[hidden.stop :]) > 0,
        "masks": all(x.std() > 0 for name, x in run.outputs.items() if name.split(".")[0] in run.prompted_scores and "logits" in name),
        "iou": min(run.gaps) >= 1e-2,
        "binary": not config["binarize_mask_from_pts_for_mem_enc"] or min(run.binary.values()) >= BINARY,
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


def wobble(model, images, memory, relative=1e-6, trials=8):
    """How far answers move when every module's output moves by `relative`, as it does between two exact f32 codes."""
    parts = [model.image_encoder, model.memory_attention, model.sam_mask_decoder, model.memory_encoder]
    exact = interact(model, images, memory=memory).outputs
    worst = torch.zeros(1)
    for seed in range(trials):
        g = generator(seed)
        hooks = [part.register_forward_hook(lambda _module, _inputs, out: moved(out, relative, g)) for part in parts]
        outputs = interact(model, images, memory=memory).outputs
        for hook in hooks:
            hook.remove()
        errors = {name: (outputs[name] - x).abs().max() / x.abs().max() for name, x in exact.items()}
        name = max(errors, key=errors.get)
        print(f"modules moved by {relative:g}, memory {memory}: {name} by {errors[name]:.2g}", flush=True)
        worst = worst.maximum(errors[name])
    return worst


def generate(generation, postprocess, occluded=True, **flags):
    """Searches a seed with clear decisions and saves the case."""
    video, images = clip(21)
    config = dict(binarize_mask_from_pts_for_mem_enc=postprocess, **flags)
    for seed in range(1, 3000):
        model = build(SAM2VideoPredictor, generation, **config)
        model.sam_mask_decoder.dynamic_multimask_via_stability = postprocess
        model.memory_attention.register_forward_pre_hook(full_precision, with_kwargs=True)
        randomize(model, seed)
        decisive(model)
        if not spread_scores(model, images, occluded):
            print(f"seed {seed}: scores", flush=True)
            continue
        model.fill_hole_area = 0
        run = interact(model, images, watch=True)
        unclear = decisions_are_clear(run, config, occluded)
        if not unclear:
            # Which holes are small enough is decided by single cells: only exact memories leave no doubt.
            model.fill_hole_area = 8 if postprocess else 0
            exact = interact(model, images, watch=True, memory=torch.float32)
            unclear = decisions_are_clear(exact, config, occluded)
            wobbles = {"unrounded.wobble": wobble(model, images, torch.float32)}
            model.fill_hole_area = 0
            wobbles["wobble"] = wobble(model, images, BF16)
            if wobbles["unrounded.wobble"] > STEADY[0] or wobbles["wobble"] > STEADY[1]:
                unclear.append("steady")
        if not unclear:
            break
        print(f"seed {seed}: {unclear}", flush=True)
    else:
        raise SystemExit("no seed has clear decisions")
    print(f"seed {seed}, filled", sum(n for n, _ in exact.holes))
    for scores in (run.prompted_scores, run.tracked_scores):
        print({key: round(score, 2) for key, score in scores.items()})
    inputs = {"pixels": video, "mask": mask_prompt().to(torch.uint8)[None, None]}
    unrounded = {f"unrounded.{name}": value for name, value in exact.outputs.items()}
    save(model, inputs | run.outputs | unrounded | wobbles)
