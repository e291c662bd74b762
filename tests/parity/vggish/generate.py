"""VGGish against torchvggish: log-mel examples of WAV files and embeddings, at small channel counts.

Run with `python generate.py` inside this folder. Needs torchvggish==0.2, resampy==0.4.3, soundfile, torch, safetensors
and numpy on a CPU.

torchvggish hard-codes its sizes, so its `VGG` gets smaller layers before it runs; its PCA is not downloaded but random.
"""

import io
import sys
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import numpy as np
import soundfile
import torch
from safetensors.torch import save_file
from torch import nn
from torchvggish import torchvggish, vggish_input

for package, expected in [("torchvggish", "0.2"), ("resampy", "0.4.3")]:
    assert version(package) == expected, (package, version(package))
torch.use_deterministic_algorithms(True)
torch.set_num_threads(1)

CHANNELS = [4, 6, 8, 12]
HIDDEN = 24
EMBEDDING = 16


def layers():
    """`torchvggish.make_layers` at other channel counts."""
    c1, c2, c3, c4 = CHANNELS
    made, before = [], 1
    for size in [c1, "M", c2, "M", c3, c3, "M", c4, c4, "M"]:
        if size == "M":
            made.append(nn.MaxPool2d(kernel_size=2, stride=2))
        else:
            made += [nn.Conv2d(before, size, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
            before = size
    return nn.Sequential(*made)


def vggish(seed):
    """torchvggish's model with its post-processor, random in every tensor."""
    g = torch.Generator().manual_seed(seed)
    pca = {
        "pca_eigen_vectors": torch.randn(EMBEDDING, EMBEDDING, generator=g).numpy() * EMBEDDING**-0.5,
        "pca_means": torch.randn(EMBEDDING, generator=g).numpy() * 0.2,
    }
    with patch.object(torchvggish.hub, "load_state_dict_from_url", return_value=pca):
        model = torchvggish.VGG(layers(), postprocess=True)
    model.embeddings = nn.Sequential(
        nn.Linear(CHANNELS[-1] * 4 * 6, HIDDEN),
        nn.ReLU(True),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(True),
        nn.Linear(HIDDEN, EMBEDDING),
        nn.ReLU(True),
    )
    with torch.no_grad():
        for _, tensor in sorted(model.state_dict().items()):
            noise = torch.randn(tensor.shape, generator=g)
            # Wide enough for the activations to stay O(1) through the ReLUs.
            tensor.copy_(0.1 * noise if tensor.ndim == 1 else noise * (2 / tensor[0].numel()) ** 0.5)
    return model.eval()


def sound(seed, rate, seconds, channels):
    """A chord whose level swells, over noise of all frequencies. `[samples, channels]`"""
    rng = np.random.default_rng(seed)
    t = np.arange(int(rate * seconds)) / rate
    out = np.zeros((len(t), channels))
    for channel in range(channels):
        for pitch in rng.uniform(150, 3400, 5):
            swell = 0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.5, 4) * t)
            out[:, channel] += 0.08 * swell * np.sin(2 * np.pi * pitch * t + rng.uniform(0, 6))
        out[:, channel] += 0.05 * rng.standard_normal(len(t))
    return out


def wav(samples, rate, subtype):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format="WAV")
    return file.getvalue()


def ideal(samples, rate):
    """Resampled to 16 kHz with a filter that cuts at exactly the lower of both Nyquist frequencies."""
    common = np.gcd(rate, 16000)
    block = rate // common
    length = -(-(len(samples) + rate) // block) * block  # a second of silence, so that nothing wraps round
    spectrum = np.fft.rfft(samples, length)
    new = length * 16000 // rate
    kept = np.zeros(new // 2 + 1, complex)
    n = min(len(kept), len(spectrum))
    kept[:n] = spectrum[:n]
    resampled = np.fft.irfft(kept, new) * 16000 / rate
    return resampled[: round(len(samples) * 16000 / rate)]


def embed(model, log_mel):
    """Before the last ReLU, behind it, and post-processed."""
    x = model.features(log_mel).permute(0, 2, 3, 1).flatten(1)
    before = model.embeddings[:-1](x)
    with patch.object(model, "postprocess", False):
        after = model(log_mel)
    assert torch.equal(before.relu(), after)
    return before, after, model(log_mel)


def quantising_margin(model, after):
    """Distance of the post-processor's values to the nearest point where rounding changes."""
    post = model.pproc
    scaled = ((post._pca_matrix @ (after.t() - post._pca_means)).clamp(-2, 2) + 2) * 63.75
    return ((scaled % 1) - 0.5).abs().min()


def main():
    tensors = {}
    exact = {"int16": (16000, 2.0, 1, "PCM_16"), "float_stereo": (16000, 1.05, 2, "FLOAT")}
    resampled = {
        "8k": (8000, 2.0, 1, "PCM_16"),
        "44k_stereo": (44100, 1.0, 2, "PCM_16"),
        "22k_float": (22050, 1.0, 1, "FLOAT"),
        "48k": (48000, 1.0, 1, "PCM_16"),
    }
    mels = {}
    for i, (name, (rate, seconds, channels, subtype)) in enumerate((exact | resampled).items()):
        content = wav(sound(i, rate, seconds, channels), rate, subtype)
        tensors[f"wav.{name}"] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        if subtype == "PCM_16":
            mel = vggish_input.wavfile_to_examples(io.BytesIO(content))
        else:
            # `wavfile_to_examples` reads every file as int16, which libsndfile does not scale for float files.
            mel = vggish_input.waveform_to_examples(*soundfile.read(io.BytesIO(content)))
        mels[name] = mel.detach()
        tensors[f"mel.{name}"] = mels[name][:, 0]
        if name in resampled:
            samples, _ = soundfile.read(io.BytesIO(content), always_2d=True)
            mel = vggish_input.waveform_to_examples(ideal(samples.mean(1), rate), 16000).detach()
            tensors[f"ideal.{name}"] = mel[:, 0]
            mels[f"ideal.{name}"] = mel

    seed = 0
    while True:
        model = vggish(seed)
        embeddings = {name: embed(model, mel) for name, mel in mels.items()}
        margin = min(quantising_margin(model, after) for _, after, _ in embeddings.values())
        spread = torch.cat([post.flatten() for _, _, post in embeddings.values()])
        # Rounding is decided clearly, and not everything is clipped.
        if margin > 1e-3 and spread.unique().numel() > 20:
            break
        seed += 1
    print("seed", seed, "margin", margin.item())
    for name, (before, after, post) in embeddings.items():
        tensors[f"before.{name}"] = before
        tensors[f"after.{name}"] = after
        tensors[f"post.{name}"] = post.reshape(after.shape)  # a single row is squeezed
    for name in resampled:
        mel, best = tensors[f"mel.{name}"], tensors[f"ideal.{name}"]
        gap = (mel - best).abs().amax((0, 1))
        relative = (tensors[f"before.{name}"] - tensors[f"before.ideal.{name}"]).abs().max()
        relative /= tensors[f"before.ideal.{name}"].abs().max()
        print(f"{name}: resampy against an ideal filter: bands {gap.numpy().round(4)}, embedding {relative:.2e}")

    state = {f"state.{name}": tensor for name, tensor in model.state_dict().items()}
    # Later releases of torchvggish keep the post-processor in the state dict, under these names and shapes.
    state["state.pproc.pca_eigen_vectors"] = model.pproc._pca_matrix
    state["state.pproc.pca_means"] = model.pproc._pca_means
    tensors = {name: t.detach().contiguous().clone() for name, t in (state | tensors).items()}
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.uint8 or tensor.isfinite().all(), name
    path = Path(sys.argv[0]).resolve().parent / "fixture.safetensors"
    save_file(tensors, path, metadata={"torchvggish": version("torchvggish"), "torch": torch.__version__})
    print(path.name, path.stat().st_size)
    assert path.stat().st_size < 1_000_000


if __name__ == "__main__":
    with torch.no_grad():
        main()
