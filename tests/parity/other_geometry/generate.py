"""Another model, image and video: a trunk with two heads and windows of which some divide their grids, widths that are
no powers of two, more heads and fewer layers. The image predictor on a tall image; a video session from the bytes of
oblong frames, with all that `build_sam2_video_predictor` turns on: stability, binarised prompts and filled holes."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
import session
from common import Sizes, random_images, save
from predictor import Recorder
from sam2.utils import misc

misc.tqdm = lambda frames, **_: frames

SIZES = Sizes(
    image=128,
    width=48,
    memory=12,
    mlp=40,
    channels=6,
    heads=2,
    stages=(2, 1, 3, 1),
    windows=(4, 8, 6, 3),  # 4 and 8 divide the first grids, 32 and 16; 6 does not divide the third, 8
    global_blocks=(1, 5),
    background=(7, 7),
    memory_layers=1,
    memory_heads=2,
    mask_steps=(3, 4, 1),
    fuser=(1, 5),
    decoder_heads=6,
    iou_head=20,
    memories=3,
    pointers=3,
)
FRAMES = 6  # more than the three memories and pointers that the model keeps
VIDEO = (45, 77)
OCCLUDED = (3,)  # shows another scene
OFF = 1e-4  # decisions about the image stay when logits move by this, relative to the largest
APART = 1e-2  # the two objects' masks differ by more: memories matter

frames, _ = session.clip(31, VIDEO, 20, ((4, 6, 2, 3), (52, -5, 22, -3)), FRAMES, OCCLUDED)
frames = frames.permute(0, 2, 3, 1).contiguous()
image = random_images(5, 1, 3, 100, 31)[0][0].permute(1, 2, 0).contiguous()


def load(frames):
    """What the model sees of a video, by the reference's own loader: it goes by names and does not mind PNG."""
    side, (height, width) = SIZES.image, VIDEO
    with TemporaryDirectory() as folder:
        for i, frame in enumerate(frames.numpy()):
            picture = Image.fromarray(frame)
            picture.save(f"{folder}/{i}.jpg", format="PNG")
            # Which axis goes first depends on the version of Pillow; for this shape it is columns in all of them.
            steps = picture.resize((side, height)).resize((side, side))
            assert np.array_equal(picture.resize((side, side)), steps)
        images, *size = misc.load_video_frames(folder, side, offload_video_to_cpu=True)
    assert tuple(size) == VIDEO
    return images


def ask_about_video(run):
    run.points("click", 0, 1, points=torch.tensor([[14.0, 12.0]]), labels=torch.tensor([1]))
    run.points("box", 1, 2, box=torch.tensor([45.5, 17.0, 70.0, 41.0]))
    run.propagate("forward")
    run.points("outside", 4, 1, points=torch.tensor([[-6.0, 58.0]]), labels=torch.tensor([1]))


def ask_about_image(model):
    run = Recorder(model, image)
    click = dict(point_coords=np.array([[20.0, 61.5]]), point_labels=np.array([1]))
    run.ask("click", True, **click)
    run.ask("click.mask", False, mask_input=run.results["click"][2][:1], **click)
    run.ask("boxes", False, box=np.array([[3.0, 12.5, 28.0, 80.0], [10.0, 40.0, 21.0, 99.0]]))
    return run


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def telling(run):
    """What the interaction lacks: masks that cover parts of the frames where the object is and depend on memories, and
    a filled hole in a prompted mask."""
    pairs = [[run.outputs[f"forward.{i}.{obj}.logits"] for obj in (1, 2)] for i in range(FRAMES) if i not in OCCLUDED]
    shares = [(x > 0).float().mean().item() for pair in pairs for x in pair]
    checks = {
        "parts": 0.05 < min(shares) and max(shares) < 0.95,
        "apart": min(relative(*pair) for pair in pairs) > APART,
        "filled": any(n for n, _ in run.holes[:2]),  # after the click and after the box
    }
    return [name for name, ok in checks.items() if not ok]


def search():
    for seed in range(1, 10000):
        model = session.random_model(seed, "2.1", postprocess=True, sizes=SIZES, steepness=10)
        if not session.spread_scores(model, images, asked, OCCLUDED):
            print(f"seed {seed}: scores", flush=True)
            continue
        model.fill_hole_area = session.HOLE_AREA
        if missing := telling(session.interact(model, images, asked, watch=True)):
            print(f"seed {seed}: {missing}", flush=True)
            continue
        answers = ask_about_image(model)
        if not answers.decisions_are_clear(OFF):
            print(f"seed {seed}: image", flush=True)
            continue
        areas = dict(holes=session.HOLE_AREA, rounded_holes=session.HOLE_AREA)
        outputs, unclear = session.recordings(model, images, asked, OCCLUDED, **areas)
        if not unclear:
            return model, answers.outputs(), outputs
        print(f"seed {seed}: {unclear}", flush=True)
    raise SystemExit("no seed has clear decisions")


images = load(frames)
asked = session.Interaction(ask_about_video, VIDEO, enlarged=(4,))
model, of_image, of_video = search()
of_image = {f"image.{name}": x for name, x in of_image.items()}
save(model, {"frames": frames, "image": image} | of_image | of_video, limit=1_500_000)
