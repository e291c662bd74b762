"""SAM 2.0: a token from outside is the only prompt of frame 0, its single mask, then propagation."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import video
from common import WIDTH, random

TOKEN = random(3, 1, 1, WIDTH)


def prompt(model, state):
    """Two dummy clicks (more than one means the single mask) whose encoding is replaced by the token."""
    encoder = model.sam_prompt_encoder
    original = encoder.forward
    encoder.forward = lambda **kw: (TOKEN, original(**kw)[1])
    dummies = torch.zeros(2, 2), torch.ones(2, dtype=torch.int32)
    model.add_new_points_or_box(state, frame_idx=0, obj_id=1, points=dummies[0], labels=dummies[1])
    encoder.forward = original


video.generate("2.0", prompt, {"token": TOKEN})
