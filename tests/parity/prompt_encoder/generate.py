"""The prompt encoder: points of every label, boxes, a mask, points with a mask, and nothing at all."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import prompt_encoder, random, randomize, save

SIDE = 80
model = randomize(prompt_encoder(SIDE), 1)
coordinates = {
    "points": torch.tensor([[[20.0, 30.5], [79.0, 0.0], [0.0, 0.0]], [[-6.5, 11.0], [40.25, 95.0], [8.0, 70.0]]]),
    "boxes": torch.tensor([[[10.0, 20.0], [50.0, 60.0]], [[5.0, 6.0], [75.5, 70.0]], [[0.0, 0.0], [80.0, 80.0]]]),
}
labels = {
    "points": torch.tensor([[1, 0, -1], [0, 1, 1]]),
    "boxes": torch.tensor([[2, 3]]).repeat(3, 1),
}
mask = 3 * random(2, 2, 1, SIDE // 4, SIDE // 4)
outputs = {"mask": mask, "grid": model.get_dense_pe()}
with torch.no_grad():
    for name in coordinates:
        points = (coordinates[name], labels[name])
        sparse, _ = model(points=points, boxes=None, masks=None)
        outputs |= {f"{name}.coordinates": points[0], f"{name}.labels": points[1].float(), f"{name}.sparse": sparse}
    sparse, dense = model(points=(coordinates["points"], labels["points"]), boxes=None, masks=mask)
    outputs |= {"masked.sparse": sparse, "masked.dense": dense}
    sparse, dense = model(points=None, boxes=None, masks=mask)
    assert sparse.shape[1] == 0
    outputs |= {"alone.dense": dense}
    sparse, dense = model(points=None, boxes=None, masks=None)
    assert sparse.shape[1] == 0
    outputs |= {"empty.dense": dense}
save(model, outputs)
