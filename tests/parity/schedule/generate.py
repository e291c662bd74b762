"""The learning rates that DeepSpeed's `WarmupDecayLR` gives to the first, second, … optimizer step.

Needs deepspeed==0.19.8 (`DS_BUILD_OPS=0 pip install --no-build-isolation deepspeed==0.19.8`), torch and safetensors.
"""

from importlib.metadata import version

import torch
from deepspeed.runtime.lr_schedules import WarmupDecayLR
from safetensors.torch import save_file

assert version("deepspeed") == "0.19.8", version("deepspeed")

# name: lowest rate, highest rate, warm-up steps, kind, steps in all
CASES = {
    "paper": (0.0, 1e-4, 100, "linear", 400),
    "log": (0.0, 1e-4, 100, "log", 400),
    "lifted": (1e-5, 3e-4, 7, "linear", 40),
    "lifted_log": (1e-5, 3e-4, 7, "log", 40),
    "one_step": (0.0, 1.0, 1, "linear", 9),
    "cut_short": (0.0, 1.0, 20, "linear", 12),
}

tensors = {}
for name, (low, high, warmup, kind, total) in CASES.items():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=high)
    scheduler = WarmupDecayLR(optimizer, total, low, high, warmup, kind)
    rates = []
    for _ in range(total + 5):
        # As in DeepSpeed's engine: the optimizer steps, then the scheduler does.
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    tensors[f"rates.{name}"] = torch.tensor(rates, dtype=torch.float32)
    numbers = [low, high, warmup, kind == "log", total]
    tensors[f"case.{name}"] = torch.tensor(numbers, dtype=torch.float32)
save_file(tensors, "fixture.safetensors", metadata={"deepspeed": version("deepspeed")})
print(tensors["rates.lifted"], tensors["rates.cut_short"])
