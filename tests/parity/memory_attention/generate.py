"""Memory attention over two spatial memories and four rows of object pointers."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import MEMORY, WIDTH, memory_attention, random, randomize, save

SIDE = 5
model = randomize(memory_attention((SIDE, SIDE)), 1)
cells, pointers = SIDE * SIDE, 4
frame = random(2, 2, cells, WIDTH)
position = random(3, 1, cells, WIDTH)
rows = random(4, 2, 2 * cells + pointers, MEMORY)
memory_position = random(5, 2, 2 * cells + pointers, MEMORY)
with torch.no_grad():
    output = model(
        curr=frame.transpose(0, 1),
        curr_pos=position.expand(2, -1, -1).transpose(0, 1),
        memory=rows.transpose(0, 1),
        memory_pos=memory_position.transpose(0, 1),
        num_obj_ptr_tokens=pointers,
    ).transpose(0, 1)
save(
    model,
    {
        "frame": frame,
        "position": position,
        "rows": rows,
        "memory_position": memory_position,
        "output": output,
    },
)
