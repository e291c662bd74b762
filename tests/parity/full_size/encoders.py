"""Full-size encoders against transformers and timm by hand: what `encode` writes, from random weights in real formats.

    cargo build --release -p burn-love-cli
    python encoders.py --cli ../../../target/release/burn-love-cli [vggish vit vit-timm distilroberta clip-vision clip-text]

Prints the relative error of every tensor (max |a - b| / max |b|). Needs transformers==5.23.0, timm==1.0.31,
torchvggish==0.2, soundfile, torch, torchvision, tokenizers, pillow and safetensors.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import vit_base_patch16_224
from tokenizers import Tokenizer
from torchvggish import torchvggish, vggish_input
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM
from transformers import ViTConfig, ViTForImageClassification
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

sys.path.insert(0, str(Path(__file__).parents[1]))
from encoders import columns_first, published, random, randomize

ASSETS = Path(__file__).parents[3] / "assets"
SENTENCE = "the object making the loudest sound"
BOUND = 1e-4


def run(cli, what, model, weights, source, *more):
    out = weights.with_name("out.safetensors")
    began = time.time()
    command = [cli, "encode", what, "--model", model, "--weights", weights, "--input", source, "--tensors", out]
    command += ["--device", "cpu", "--overwrite", "--quiet", *more]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    print(f"ran in {time.time() - began:.1f} s")
    return load_file(out)


def vggish(cli, folder):
    model = torchvggish.VGG(torchvggish.make_layers(), postprocess=False)
    g = torch.Generator().manual_seed(1)
    for tensor in model.state_dict().values():
        noise = torch.randn(tensor.shape, generator=g)
        # Wide enough for the activations to stay O(1) through the ReLUs.
        tensor.copy_(0.1 * noise if tensor.ndim == 1 else noise * (2 / tensor[0].numel()) ** 0.5)
    torch.save(model.state_dict(), folder / "vggish.pth")
    t = torch.arange(160_000) / 16_000
    sound = sum(0.1 * (6.28318 * pitch * t).sin() for pitch in [220, 331, 1507, 4100]) * (0.6 + 0.4 * (3 * t).sin())
    sound += 0.02 * random(2, len(t))
    soundfile.write(folder / "sound.wav", sound.numpy(), 16_000, subtype="PCM_16")
    actual = run(cli, "audio", "vggish", folder / "vggish.pth", folder / "sound.wav")
    log_mel = vggish_input.wavfile_to_examples(str(folder / "sound.wav"))
    embedding = model.embeddings[:-1](model.features(log_mel).permute(0, 2, 3, 1).flatten(1))
    return actual, {"log_mel": log_mel[:, 0], "embedding": embedding}


def picture(folder):
    path = folder / "picture.png"
    noise = random(1, 1, 3, 36, 64).sigmoid()
    pixels = torch.nn.functional.interpolate(noise, size=(360, 640), mode="bilinear")[0]
    Image.fromarray((pixels * 255).to(torch.uint8).permute(1, 2, 0).numpy()).save(path)
    return path


def vit(cli, folder):
    model = randomize(ViTForImageClassification(ViTConfig(num_labels=1000)), 1)
    published(model, folder / "model.safetensors")
    actual = run(cli, "image", "vit-b-16", folder / "model.safetensors", picture(folder))
    pixels = ViTImageProcessorPil(image_mean=[0.5] * 3, image_std=[0.5] * 3)(
        Image.open(folder / "picture.png"), return_tensors="pt"
    )["pixel_values"]
    return actual, {"pixel_values": pixels[0], "last_hidden_state": model.vit(pixels).last_hidden_state[0]}


def vit_timm(cli, folder):
    model = randomize(vit_base_patch16_224(), 1)
    save_file(model.state_dict(), folder / "model.safetensors")
    actual = run(cli, "image", "vit-b-16", folder / "model.safetensors", picture(folder))
    return actual, {"last_hidden_state": model.forward_features(actual["pixel_values"][None])[0]}


def sized(source, folder, size, last=()):
    """A tokenizer with as many ids as the published one, the tokens `last` at their end."""
    tokenizer = json.loads(source.read_text())
    vocab = {token: i for token, i in tokenizer["model"]["vocab"].items() if token not in last}
    start = size - len(last)
    vocab |= {f"<unused-{i}>": i for i in sorted(set(range(start)) - set(vocab.values()))}
    moved = {token: start + i for i, token in enumerate(last)}
    tokenizer["model"]["vocab"] = vocab | moved
    for token in tokenizer["added_tokens"]:
        token["id"] = moved.get(token["content"], token["id"])
    post = tokenizer["post_processor"]
    for end in ("sep", "cls"):
        post[end] = [post[end][0], moved.get(post[end][0], post[end][1])]
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(tokenizer))
    return path


def padded(tokenizer, pad):
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad)
    return fast(SENTENCE, padding="max_length", truncation=True, max_length=25, return_tensors="pt")


def text(actual, encoded, model):
    inputs = {name: encoded[name] for name in ["input_ids", "attention_mask"]}
    hidden = model(**inputs).last_hidden_state[0]
    return actual, {name: tensor[0] for name, tensor in inputs.items()} | {"last_hidden_state": hidden}


def distilroberta(cli, folder):
    config = dict(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, num_hidden_layers=6)
    model = randomize(RobertaForMaskedLM(RobertaConfig(layer_norm_eps=1e-5, **config)), 1)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    tokenizer = sized(ASSETS / "nano-tokenizer.json", folder, 50265)
    actual = run(cli, "text", "distilroberta", folder / "pytorch_model.bin", SENTENCE, "--tokenizer", tokenizer)
    return text(actual, padded(Tokenizer.from_file(str(tokenizer)), "<pad>"), model.roberta)


def clip(folder):
    config = CLIPConfig(vision_config=dict(patch_size=16))
    model = randomize(CLIPModel(config), 1)
    published(model, folder / "model.safetensors")
    return model


def clip_vision(cli, folder):
    model = clip(folder)
    actual = run(cli, "image", "clip-vit-b-16", folder / "model.safetensors", picture(folder))
    pixels = CLIPImageProcessorPil()(Image.open(folder / "picture.png"), return_tensors="pt")["pixel_values"]
    hidden = model.vision_model(pixels).last_hidden_state[0]
    return actual, {"pixel_values": pixels[0], "last_hidden_state": hidden}


def clip_text(cli, folder):
    model = clip(folder)
    special = ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = sized(Path(__file__).parents[1] / "clip/tokenizer.json", folder, 49408, special)
    actual = run(cli, "text", "clip-vit-b-16", folder / "model.safetensors", SENTENCE, "--tokenizer", tokenizer)
    return text(actual, padded(Tokenizer.from_file(str(tokenizer)), "<|endoftext|>"), model.text_model)


ALL = [vggish, vit, vit_timm, distilroberta, clip_vision, clip_text]
CASES = {case.__name__.replace("_", "-"): case for case in ALL}
parser = argparse.ArgumentParser()
parser.add_argument("--cli", type=Path, required=True)
parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
arguments = parser.parse_args()
Image.Image.resize = columns_first
for name in arguments.cases or CASES:
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        actual, expected = CASES[name](arguments.cli.resolve(), Path(folder))
    for key, tensor in expected.items():
        assert actual[key].shape == tensor.shape, (key, actual[key].shape, tensor.shape)
        found = actual[key].double()
        error = ((found - tensor).abs().max() / tensor.abs().max()).item()
        print(f"{name:16} {key:20} {error:.1e}", flush=True)
        assert error <= BOUND, (name, key, error)
