"""SAM 2.1: one click on frame 0, the best of its candidates, then propagation."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import video

POINTS, LABELS = torch.tensor([[25.0, 30.0]]), torch.tensor([1])


def click(model, state):
    model.add_new_points_or_box(state, frame_idx=0, obj_id=1, points=POINTS, labels=LABELS)


video.generate("2.1", click, {"coordinates": POINTS[None], "labels": LABELS[None].float()})
