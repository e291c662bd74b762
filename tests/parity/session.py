"""Drives Meta's video predictor through one long interaction and records what every step yields."""

import torch

import sam2.sam2_video_predictor as predictor_module
from common import IMAGE, generator, random_images, randomize, sam2, save
from sam2.sam2_video_predictor import SAM2VideoPredictor

predictor_module.tqdm = lambda frames, **_: frames

BF16 = torch.bfloat16

FRAMES = 12  # more than the four memories and five pointers that the model keeps
VIDEO = (72, 104)  # height and width that prompts and masks refer to
BINARY = 1e-3  # no binarised logit is closer to 0


def clip(seed):
    """Two textured squares that wander over a textured ground, as bytes and as pixels."""
    ground, _ = random_images(seed, 1, 3, IMAGE, IMAGE)
    squares = [random_images(seed + i, 1, 3, 32, 32)[0][0] for i in (1, 2)]
    video = ground.repeat(FRAMES, 1, 1, 1)
    for i in range(FRAMES):
        for square, x, y in [(255 - squares[0] // 2, 6 + 4 * i, 10 + 2 * i), (squares[1] // 2, 56 - 3 * i, 60 - 4 * i)]:
            video[i, :, y : y + 32, x : x + 32] = square
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
        self.scores, self.gaps, self.binary, self.stable = [], [], [], []
        predictor_module.load_video_frames = lambda **_: (images, *VIDEO)
        self.state = model.init_state(video_path=None)

    def note(self, _module, _inputs, output):
        _, iou, _, score = output
        self.scores.append(score.item())
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

    def record(self, name, masks):
        self.outputs[name] = masks

    def prompted(self, name, frame, obj):
        """The video-resolution answer to a prompt; the object's pending mask is binarised later."""
        state = self.state
        pending = state["temp_output_dict_per_obj"][state["obj_id_to_idx"][obj]]
        out = pending["cond_frame_outputs"].get(frame) or pending["non_cond_frame_outputs"][frame]
        large = torch.nn.functional.interpolate(out["pred_masks"], size=(IMAGE, IMAGE), mode="bilinear")
        self.binary.append(large.abs().min().item())
        self.record(f"{name}.logits", out["pred_masks"])

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
            if frame == 10:
                self.record(f"{name}.{frame}.video", masks)


def interact(model, images, watch=False, memory=BF16):
    predictor_module.torch = Torch(memory)
    run = Recorder(model, images)
    hook = model.sam_mask_decoder.register_forward_hook(run.note)
    if watch and model.sam_mask_decoder.dynamic_multimask_via_stability:
        run.watch_stability()
    one = torch.tensor([1])
    run.points("click", 2, 1, points=torch.tensor([[40.0, 30.0]]), labels=one)
    run.points("second", 2, 1, points=torch.tensor([[88.0, 60.0]]), labels=torch.tensor([0]), clear_old_points=False)
    run.points("box", 4, 2, box=torch.tensor([20.0, 15.0, 70.0, 55.0]))
    run.mask("mask", 9, 2, mask_prompt())
    run.propagate("forward")
    run.points("refine", 7, 1, points=torch.tensor([[55.0, 40.0]]), labels=one)
    run.points("late", 6, 3, points=torch.tensor([[30.0, 50.0]]), labels=one, box=torch.tensor([10.0, 30.0, 60.0, 70.0]))
    run.propagate("backward", start_frame_idx=7, reverse=True)
    model.remove_object(run.state, 2)
    run.propagate("final", start_frame_idx=9)
    hook.remove()
    model.sam_mask_decoder.__dict__.pop("_dynamic_multimask_via_stability", None)
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
        decoder.pred_obj_score_head.layers[-1].weight *= 8


def spread_scores(model, images):
    """Shifts object scores so that a minority falls below zero."""
    last = model.sam_mask_decoder.pred_obj_score_head.layers[-1]
    with torch.no_grad():
        last.bias += 1000
        scores = sorted(interact(model, images).scores)
        low, high = len(scores) // 10, len(scores) // 3
        gap, middle = max((b - a, (a + b) / 2) for a, b in zip(scores[low:high], scores[low + 1 : high + 1]))
        last.bias -= middle
    return gap > 0.2


def decisions_are_clear(run, binarize):
    negative = sum(score < 0 for score in run.scores) / len(run.scores)
    checks = {
        "score": min(abs(score) for score in run.scores) >= 0.1,
        "absent": 0.05 < negative < 0.5,
        "iou": min(run.gaps) >= 1e-2,
        "binary": not binarize or min(run.binary) >= BINARY,
        "stability": all(abs(score - 0.98) > 1e-3 and edge > 1e-4 for score, edge in run.stable),
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


def generate(generation, postprocess):
    """Searches a seed with clear decisions and saves the case."""
    video, images = clip(21)
    for seed in range(1, 3000):
        model = sam2(SAM2VideoPredictor, generation, binarize_mask_from_pts_for_mem_enc=postprocess)
        model.sam_mask_decoder.dynamic_multimask_via_stability = postprocess
        model.memory_attention.register_forward_pre_hook(full_precision, with_kwargs=True)
        randomize(model, seed)
        decisive(model)
        if not spread_scores(model, images):
            continue
        run = interact(model, images, watch=True)
        exact = interact(model, images, watch=True, memory=torch.float32)
        unclear = decisions_are_clear(run, postprocess) + decisions_are_clear(exact, postprocess)
        if not unclear:
            break
        print(f"seed {seed}: {unclear}", flush=True)
    else:
        raise SystemExit("no seed has clear decisions")
    print(f"seed {seed}, scores", [round(score, 2) for score in run.scores])
    inputs = {"pixels": video, "mask": mask_prompt().to(torch.uint8)[None, None]}
    unrounded = {f"unrounded.{name}": value for name, value in exact.outputs.items()}
    wobbles = {"wobble": wobble(model, images, BF16), "unrounded.wobble": wobble(model, images, torch.float32)}
    save(model, inputs | run.outputs | unrounded | wobbles)
