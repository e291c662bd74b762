"""Memory attention over one and over seven spatial memories, with and without object pointers; and the gradients of
BCE + DICE over seven with pointers."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import MEMORY, WIDTH, gradients, mask_loss, memory_attention, random, randomize, save

SIDE = 5
CELLS, POINTERS = SIDE * SIDE, 6
model = randomize(memory_attention((SIDE, SIDE)), 1)
frame = random(2, 2, CELLS, WIDTH).requires_grad_()
position = random(3, 1, CELLS, WIDTH)
rows = random(4, 2, 7 * CELLS + POINTERS, MEMORY).requires_grad_()
memory_position = random(5, 2, 7 * CELLS + POINTERS, MEMORY)


def run(memories, pointers):
    """The last `memories` spatial memories and the first `pointers` rows of pointers."""
    used = slice((7 - memories) * CELLS, 7 * CELLS + pointers)
    return model(
        curr=frame.transpose(0, 1),
        curr_pos=position.expand(2, -1, -1).transpose(0, 1),
        memory=rows[:, used].transpose(0, 1),
        memory_pos=memory_position[:, used].transpose(0, 1),
        num_obj_ptr_tokens=pointers,
    ).transpose(0, 1)


tensors = {"frame": frame, "position": position, "rows": rows, "memory_position": memory_position}
for memories in (1, 7):
    for pointers in (0, POINTERS):
        tensors[f"output.{memories}.{pointers}"] = run(memories, pointers)
target = (random(6, 2, CELLS, WIDTH) > 0.3).float()
loss = mask_loss(run(7, POINTERS), target)
save(model, tensors | {"target": target} | gradients(model, loss, frame=frame, rows=rows))
