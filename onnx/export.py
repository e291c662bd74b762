r"""Exports the small graphs in models/ and records in tests/fixtures/ what onnxruntime makes of them.

Run with `python export.py`. Needs torch==2.15.0, torchvggish==0.2, transformers==5.23.0, onnx, onnxscript, onnxruntime
and safetensors on a CPU. The models have random weights in every tensor.

Pre-trained ones, each into a graph of the folder DIR, and checked there with onnxruntime:

  python export.py --out DIR --audio vggish-10086976.pth --vision google/vit-base-patch16-224 \
      --text distilbert/distilroberta-base

`--vision` and `--text` take a folder that `save_pretrained` wrote, or a name on Hugging Face.

The contract of a graph (README.md): inputs and outputs are called and shaped as the wrappers below say, with the batch
as the only free size.
"""

import argparse
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import onnx
import onnxruntime
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvggish.torchvggish import VGG, make_layers
from transformers import PreTrainedModel, RobertaConfig, RobertaModel, ViTConfig, ViTModel

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "parity" / "vggish"))
from generate import vggish  # noqa: E402

for package, expected in [("torchvggish", "0.2"), ("transformers", "5.23.0")]:
    assert version(package) == expected, (package, version(package))
torch.use_deterministic_algorithms(True)
torch.set_num_threads(1)

OPSET = 18
TOKENS = 25


class Audio(nn.Module):
    """`log_mel` [N, 96, 64] → `embedding` [N, D], before the last ReLU."""

    def __init__(self, model):
        super().__init__()
        self.features, self.embeddings = model.features, model.embeddings[:-1]

    def forward(self, log_mel):
        x = self.features(log_mel[:, None]).permute(0, 2, 3, 1)
        return self.embeddings(x.flatten(1))


class Vision(nn.Module):
    """`pixel_values` [N, 3, H, W] → `last_hidden_state` [N, 1 + P, D]."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model(pixel_values).last_hidden_state


class Text(nn.Module):
    """`input_ids` and `attention_mask` [N, L] of int64 → `last_hidden_state` [N, L, D].

    Positions are counted here: padding stands behind the text, and a running sum over tokens is not needed. The mask is
    made here too, by plain arithmetic.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.register_buffer("count", torch.arange(1, TOKENS + 1), persistent=False)

    def forward(self, input_ids, attention_mask):
        positions = self.count * attention_mask + self.model.config.pad_token_id
        hidden = (1.0 - attention_mask[:, None, None, :].float()) * -1e9
        x = self.model.embeddings(
            input_ids=input_ids, position_ids=positions, token_type_ids=torch.zeros_like(input_ids)
        )
        for layer in self.model.encoder.layer:
            x = layer(x, attention_mask=hidden)
            x = x[0] if isinstance(x, tuple) else x
        return x


def randomize(module, seed):
    """Seeded values for every tensor, those that start at zero too; activations stay O(1)."""
    g = torch.Generator().manual_seed(seed)
    for name, tensor in sorted(module.state_dict().items()):
        noise = torch.randn(tensor.shape, generator=g)
        if name.endswith("bias"):
            tensor.copy_(0.2 * noise)
        elif tensor.ndim == 1:
            tensor.copy_(1.0 + 0.2 * noise)
        elif "embeddings" in name and "projection" not in name:
            tensor.copy_(0.7 * noise)
        else:
            tensor.copy_(noise * tensor[0].numel() ** -0.5)
    return module.eval()


def vit():
    config = ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        attn_implementation="eager",
    )
    return randomize(ViTModel(config, add_pooling_layer=False), 1)


def roberta():
    config = RobertaConfig(
        vocab_size=64,
        max_position_embeddings=TOKENS + 2,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        attn_implementation="eager",
    )
    return randomize(RobertaModel(config, add_pooling_layer=False), 2)


def export(name, wrapper, inputs, output, folder):
    """Writes {name}.onnx with a free batch size."""
    path = folder / f"{name}.onnx"
    torch.onnx.export(
        wrapper.eval(),
        tuple(inputs.values()),
        path,
        input_names=list(inputs),
        output_names=[output],
        dynamic_shapes=[{0: torch.export.Dim("batch")} for _ in inputs],
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
    )
    strip(path)
    return path


def strip(path):
    """Drops what the exporter notes about the program that it ran in: names of modules, and source files."""
    model = onnx.load(path)
    for part in [model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for part in [*model.graph.input, *model.graph.output]:
        part.ClearField("metadata_props")
    onnx.save(model, path)


def published(model):
    """Weights under the names that checkpoints have; transformers calls its modules otherwise since version 5."""
    if isinstance(model, PreTrainedModel):
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            return load_file(Path(folder) / "model.safetensors")
    return {key: value.contiguous().clone() for key, value in model.state_dict().items()}


def checked(name, wrapper, inputs, output, folder):
    """Exports a model and returns what onnxruntime answers, which has to be what PyTorch does."""
    path = export(name, wrapper, inputs, output, folder)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run([output], {key: value.numpy() for key, value in inputs.items()})
    found, expected = torch.from_numpy(found), wrapper(*inputs.values())
    error = (found - expected).abs().max() / expected.abs().max()
    print(f"{path}: {path.stat().st_size} bytes, onnxruntime against PyTorch {error:.1e}")
    assert error < 1e-5
    return found


def record(name, model, wrapper, inputs, output):
    """Exports a model and writes its weights, its inputs and what onnxruntime answers."""
    found = checked(name, wrapper, inputs, output, HERE / "models")
    fixtures = HERE / "tests" / "fixtures"
    versions = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
    save_file(published(model), fixtures / f"{name}.weights.safetensors", metadata=versions)
    inputs = {key: value.to(torch.float32) for key, value in inputs.items()}
    save_file(inputs | {output: found}, fixtures / f"{name}.recorded.safetensors", metadata=versions)


def export_pretrained(arguments, folder):
    """Exports the models that were named."""
    folder.mkdir(parents=True, exist_ok=True)
    g = torch.Generator().manual_seed(3)
    if arguments.audio:
        model = VGG(make_layers(), postprocess=False).eval()
        model.load_state_dict(torch.load(arguments.audio, map_location="cpu", weights_only=True))
        checked("vggish", Audio(model), {"log_mel": torch.randn(2, 96, 64, generator=g)}, "embedding", folder)
    if arguments.vision:
        model = ViTModel.from_pretrained(arguments.vision, add_pooling_layer=False, attn_implementation="eager").eval()
        side = model.config.image_size
        pixels = torch.randn(2, 3, side, side, generator=g)
        checked("vit", Vision(model), {"pixel_values": pixels}, "last_hidden_state", folder)
    if arguments.text:
        model = RobertaModel.from_pretrained(arguments.text, add_pooling_layer=False, attn_implementation="eager").eval()
        ids = torch.randint(5, model.config.vocab_size, (2, TOKENS), generator=g)
        mask = torch.ones_like(ids)
        mask[1, 7:] = 0
        ids = ids * mask + model.config.pad_token_id * (1 - mask)
        inputs = {"input_ids": ids, "attention_mask": mask}
        checked("distilroberta", Text(model), inputs, "last_hidden_state", folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the graphs of pre-trained models")
    for part in ("audio", "vision", "text"):
        parser.add_argument(f"--{part}", metavar="MODEL")
    arguments = parser.parse_args()
    named = arguments.audio or arguments.vision or arguments.text
    if bool(named) != bool(arguments.out):
        parser.error("--out goes with at least one of --audio, --vision and --text")
    if named:
        export_pretrained(arguments, arguments.out)
    else:
        export_small()


def export_small():
    g = torch.Generator().manual_seed(3)
    audio = vggish(0)
    log_mel = torch.randn(3, 96, 64, generator=g)
    record("vggish", audio, Audio(audio), {"log_mel": log_mel}, "embedding")

    vision = vit()
    pixels = torch.randn(3, 3, 32, 32, generator=g)
    # What the wrapper exports is what transformers computes.
    record("vit", vision, Vision(vision), {"pixel_values": pixels}, "last_hidden_state")

    text = roberta()
    ids = torch.randint(3, 64, (3, TOKENS), generator=g)
    mask = torch.ones_like(ids)
    for row, length in enumerate([TOKENS, 4, 11]):
        mask[row, length:] = 0
    ids = ids * mask + (1 - mask)
    whole = text(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.allclose(Text(text)(ids, mask)[mask.bool()], whole[mask.bool()], atol=1e-5)
    record(
        "distilroberta", text, Text(text), {"input_ids": ids, "attention_mask": mask}, "last_hidden_state"
    )


if __name__ == "__main__":
    with torch.no_grad():
        main()
