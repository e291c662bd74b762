"""Files of `torch.save`: every kind of tensor that a state dict may hold, and a small SAM 2 as Meta publishes them."""

import argparse
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from common import generator

g = generator(1)
base = torch.randn(5, 6, generator=g)
image = torch.randn(2, 3, 4, 5, generator=g)
state = OrderedDict(
    f32=torch.randn(3, 4, generator=g),
    f16=torch.randn(7, generator=g).half(),
    bf16=torch.randn(2, 3, generator=g).bfloat16(),
    f64=torch.randn(4, generator=g).double(),
    scalar=torch.tensor(1.5),
    empty=torch.empty(0, 3),
    parameter=torch.nn.Parameter(torch.randn(3, generator=g)),
    # Views of one storage: all of it, rows in its middle, a column, and its transpose.
    whole=base,
    rows=base[1:3],
    column=base[:, 2],
    transposed=base.T,
    channels_last=image.to(memory_format=torch.channels_last),
    # The same tensor under two names.
    tied=base,
    # No parameter needs these.
    steps=torch.tensor(3),
    index=torch.arange(4, dtype=torch.int32),
    flags=torch.tensor([True, False]),
)
expected = {key: t.detach().float().contiguous().clone() for key, t in state.items() if t.is_floating_point()}
save_file(expected, HERE / "expected.safetensors")


def save(name, content, **options):
    torch.save(content, HERE / name, **options)
    print(name, (HERE / name).stat().st_size)


save("nested.pt", {"model": state})
save("flat.pt", state)
save("protocol4.pt", {"model": state}, pickle_protocol=4)
training = {"epoch": 3, "lr": 1e-3, "name": "run", "losses": [0.5, None], "optimizer": {"state": {0: base}}}
save("training.pt", {"model": state, **training})
save("old.pt", {"model": state}, _use_new_zipfile_serialization=False)
save("foreign.pt", {"model": state, "args": argparse.Namespace(lr=1)})

# The state dict of a module remembers versions; its names are Meta's.
fixture = load_file(HERE.parent / "image_path" / "fixture.safetensors")
model = OrderedDict((key.removeprefix("state."), t) for key, t in fixture.items() if key.startswith("state."))
model._metadata = OrderedDict({"": {"version": 1}})
save("sam2.pt", {"model": model})
