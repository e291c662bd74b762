"""Full-size presets against sam2==1.1.0 by hand: one 1024² image, or five frames of 1024² with two objects.

    cargo build --release -p burn-love-cli
    python compare.py --cli ../../../target/release/burn-love-cli --model sam2.1-hiera-tiny image
    python compare.py --cli ../../../target/release/burn-love-cli --model sam2.1-hiera-tiny video

Writes random weights in Meta's format and pictures to a temporary folder, runs both programs on the CPU, and prints the
relative error of every tensor (max |a - b| / max |b|). Needs sam2==1.1.0, torch, safetensors, pillow and numpy.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import generator, randomize

import sam2.sam2_video_predictor as video_module
from sam2.build_sam import build_sam2, build_sam2_video_predictor
from sam2.sam2_image_predictor import SAM2ImagePredictor

SIDE = 1024
FRAMES = 5
SIZES = {"tiny": "t", "small": "s", "base-plus": "b+", "large": "l"}
BOUNDS = {"image": 1e-3, "video": 1e-2}


def config(model):
    generation, size = model.split("-hiera-")
    return f"configs/{generation}/{generation}_hiera_{SIZES[size]}.yaml"


def weights(model, path, seed):
    """Random values in every tensor; masks and predicted IoUs far apart, and the object always there."""
    randomize(model, seed)
    decoder = model.sam_mask_decoder
    with torch.no_grad():
        decoder.iou_prediction_head.layers[-1].weight *= 4
        decoder.pred_obj_score_head.layers[-1].bias += 20
    torch.save({"model": model.state_dict()}, path)


def pictures(folder):
    """Smooth noise with two squares that wander."""
    folder.mkdir()
    noise = torch.rand(1, 3, SIDE // 32, SIDE // 32, generator=generator(1))
    ground = torch.nn.functional.interpolate(noise, size=(SIDE, SIDE), mode="bilinear")[0]
    frames = []
    for i in range(FRAMES):
        frame = (ground * 255).to(torch.uint8).permute(1, 2, 0).numpy().copy()
        frame[200 + 20 * i : 480 + 20 * i, 180 + 30 * i : 440 + 30 * i] = (230, 60, 40)
        frame[560 - 15 * i : 800 - 15 * i, 620 - 25 * i : 900 - 25 * i] = (30, 90, 220)
        Image.fromarray(frame).save(folder / f"{i:05}.png")
        frames.append(frame)
    return frames


def run(*command):
    began = time.time()
    subprocess.run([str(part) for part in command], check=True)
    print(f"ran in {time.time() - began:.1f} s")


def error(name, actual, expected):
    assert actual.shape == expected.shape, (name, actual.shape, expected.shape)
    worst = ((actual - expected).abs().max() / expected.abs().max()).item()
    print(f"{name:32} {worst:.1e}")
    return worst


def image(arguments, folder):
    reference = build_sam2(config(arguments.model), device="cpu")
    weights(reference, folder / "weights.pt", arguments.seed)
    frame = pictures(folder / "frames")[0]
    run(arguments.cli, "sam2", "image", "--device", "cpu", "--model", arguments.model, "--weights",
        folder / "weights.pt", "--image", folder / "frames/00000.png", "--point", "300,340,1", "--multimask",
        "--out", folder / "out", "--tensors", folder / "out.safetensors")  # fmt: skip
    actual = load_file(folder / "out.safetensors")
    predictor = SAM2ImagePredictor(reference)
    predictor.set_image(frame)
    _, iou, logits = predictor.predict(np.array([[300.0, 340.0]]), np.array([1]), multimask_output=True)
    return [
        error("low_res_logits", actual["low_res_logits"], torch.tensor(logits)),
        error("iou", actual["iou"], torch.tensor(iou)),
    ]


def video(arguments, folder):
    video_module.tqdm = lambda frames, **_: frames
    reference = build_sam2_video_predictor(config(arguments.model), device="cpu", apply_postprocessing=False)
    weights(reference, folder / "weights.pt", arguments.seed)
    frames = np.stack(pictures(folder / "frames"))
    click, box = [300.0, 340.0], [600.0, 540.0, 920.0, 820.0]
    prompts = [
        {"frame": 0, "object": 1, "points": [click], "labels": [1]},
        {"frame": 0, "object": 2, "box": box},
    ]
    (folder / "prompts.json").write_text(json.dumps(prompts))
    run(arguments.cli, "sam2", "video", "--device", "cpu", "--model", arguments.model, "--weights",
        folder / "weights.pt", "--frames", folder / "frames", "--prompts", folder / "prompts.json", "--no-postprocess",
        "--out", folder / "out", "--tensors", folder / "out.safetensors")  # fmt: skip
    actual = load_file(folder / "out.safetensors")

    mean, std = (torch.tensor(x)[:, None, None] for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    images = (torch.tensor(frames).permute(0, 3, 1, 2).float() / 255 - mean) / std
    video_module.load_video_frames = lambda **_: (images, SIDE, SIDE)
    ious = []
    reference.sam_mask_decoder.register_forward_hook(lambda *call: ious.append(call[-1][1]))
    state = reference.init_state(video_path=None)
    reference.add_new_points_or_box(state, 0, 1, points=np.array([click]), labels=np.array([1]))
    reference.add_new_points_or_box(state, 0, 2, box=np.array(box))
    for _ in reference.propagate_in_video(state):
        pass
    gaps = [(best[0] - best[1]).item() for best in (iou.flatten().sort(descending=True).values for iou in ious) if len(best) > 1]
    print(f"closest choice between candidates: {min(gaps):.1e}")
    errors = []
    for i, obj in enumerate(state["obj_ids"]):
        outputs = state["output_dict_per_obj"][i]
        merged = outputs["cond_frame_outputs"] | outputs["non_cond_frame_outputs"]
        for frame in range(FRAMES):
            name = f"{frame:05}/{obj}"
            errors.append(error(f"logits/{name}", actual[f"logits/{name}"], merged[frame]["pred_masks"][0, 0]))
            score = merged[frame]["object_score_logits"].flatten()
            errors.append(error(f"object_score/{name}", actual[f"object_score/{name}"], score))
    return errors


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--cli", required=True, type=Path)
parser.add_argument("--model", required=True)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("what", choices=BOUNDS)
arguments = parser.parse_args()
with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
    worst = max({"image": image, "video": video}[arguments.what](arguments, Path(folder)))
print(f"{arguments.model} {arguments.what}: largest relative error {worst:.1e}, bound {BOUNDS[arguments.what]:.0e}")
sys.exit(worst > BOUNDS[arguments.what])
