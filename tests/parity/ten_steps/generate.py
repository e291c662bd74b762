"""Ten optimizer steps of SAM2-LOVE's trained parts in PyTorch: projections, fusion transformer, `[seg]`, prompt
projection, and SAM 2's prompt encoder and mask decoder, behind a frozen image encoder.

AdamW with decay for all but vectors, DeepSpeed's schedule, gradients averaged over two micro-batches and clipped by
their common norm. Needs deepspeed==0.19.8 besides what common.py names.
"""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import gelu, interpolate, scaled_dot_product_attention

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import IMAGE, WIDTH, mask_loss, random, random_images, randomize, sam2, save
from deepspeed.runtime.lr_schedules import WarmupDecayLR
from sam2.modeling.sam2_base import SAM2Base

AUDIO, TEXT, VISION = 12, 10, 14  # widths of the features
D, HIDDEN, LAYERS, HEADS, RATIO = 24, 32, 2, 4, 2
B, T, A, L, P = 2, 3, 3, 5, 4  # clips, frames, seconds, words, patches
STEPS, ACCUMULATION, BATCHES = 10, 2, 6
LABEL = (40, 56)
CLIP = 6.0


class Projection(nn.Module):
    def __init__(self, source, hidden, target):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(source, hidden), nn.Linear(hidden, target)

    def forward(self, x):
        return self.fc2(self.fc1(x).relu())


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.attention_output = (nn.Linear(D, D) for _ in range(4))
        self.intermediate, self.output = nn.Linear(D, RATIO * D), nn.Linear(RATIO * D, D)
        self.attention_norm, self.output_norm = nn.LayerNorm(D), nn.LayerNorm(D)

    def forward(self, x, padding):
        def split(x):
            return x.reshape(*x.shape[:2], HEADS, -1).transpose(1, 2)

        y = self.attention_norm(x)
        y = scaled_dot_product_attention(
            split(self.query(y)), split(self.key(y)), split(self.value(y)), attn_mask=~padding[:, None, None]
        )
        x = x + self.attention_output(y.transpose(1, 2).flatten(2))
        return x + self.output(gelu(self.intermediate(self.output_norm(x))))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Block() for _ in range(LAYERS))


class Fusion(nn.Module):
    def __init__(self):
        super().__init__()
        self.audio, self.text = Projection(AUDIO, HIDDEN, D), Projection(TEXT, HIDDEN, D)
        self.vision, self.prompt = Projection(VISION, HIDDEN, D), Projection(D, D, WIDTH)
        self.seg = nn.Parameter(torch.zeros(1, D))
        self.transformer = Transformer()

    def forward(self, audio, text, padding, patches, cls):
        audio, text, patches, cls = self.audio(audio), self.text(text), self.vision(patches), self.vision(cls)
        seg = self.seg.expand(B, 1, D)
        zeros, ones = torch.zeros(B, 1, D), torch.ones(B, 1, D)
        for frame in range(T):
            # [seg] ; F_A ; [aud] ; F_T ; [vis] ; F_V of the frame ; [his]
            x = torch.cat([seg, audio, zeros, text, ones, patches[:, frame], cls[:, :frame]], 1)
            masked = torch.zeros(B, x.shape[1], dtype=torch.bool)
            masked[:, 2 + A : 2 + A + L] = padding
            for layer in self.transformer.layers:
                x = layer(x, masked)
            seg = x[:, :1]
        return self.prompt(seg)


class Love(nn.Module):
    def __init__(self):
        super().__init__()
        self.fusion, self.sam2 = Fusion(), sam2(SAM2Base, "2.0")

    def forward(self, images, *features):
        sam = self.sam2
        with torch.no_grad():
            maps = sam.image_encoder(images)["backbone_fpn"]
        decoder, encoder = sam.sam_mask_decoder, sam.sam_prompt_encoder
        masks, _, _, _ = decoder(
            image_embeddings=maps[2] + sam.no_mem_embed.reshape(1, -1, 1, 1),
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=self.fusion(*features),
            dense_prompt_embeddings=encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(B, -1, *maps[2].shape[2:]),
            multimask_output=False,
            repeat_image=False,
            high_res_features=[decoder.conv_s0(maps[0]), decoder.conv_s1(maps[1])],
        )
        return masks


model = randomize(Love(), 1)
for name, parameter in model.named_parameters():
    parameter.requires_grad = name.startswith(("fusion.", "sam2.sam_mask_decoder.", "sam2.sam_prompt_encoder."))
trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
before = {name: p.detach().clone() for name, p in model.state_dict().items()}

inputs, batches = {}, []
for i in range(BATCHES):
    pixels, images = random_images(100 + i, B, 3, IMAGE, IMAGE)
    padding = torch.arange(L)[None] >= torch.tensor([[L], [2 + i % 3]])
    features = [random(10 * i + 1, B, A, AUDIO), random(10 * i + 2, B, L, TEXT), padding]
    features += [random(10 * i + 3, B, T, P, VISION), random(10 * i + 4, B, T, VISION)]
    smooth = interpolate(random(10 * i + 5, B, 1, 5, 7), size=LABEL, mode="bilinear")
    labels = (smooth > 0.3).float()
    if i == 4:
        labels[1] = 0  # a null
    batches.append((images, features, labels))
    names = ["audio", "text", "padding", "patches", "cls"]
    inputs |= {f"{name}.{i}": x.float() for name, x in zip(names, features)}
    inputs |= {f"pixels.{i}": pixels, f"labels.{i}": labels.to(torch.uint8)}

groups = [
    {"params": [p for p in trained.values() if p.ndim > 1], "weight_decay": 0.05},
    {"params": [p for p in trained.values() if p.ndim <= 1], "weight_decay": 0.0},
]
optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
scheduler = WarmupDecayLR(optimizer, STEPS, 0.0, 1e-3, 3, "linear")
losses, norms, recorded = [], [], {}
for step in range(STEPS):
    optimizer.zero_grad()
    total = 0.0
    for k in range(ACCUMULATION):
        images, features, labels = batches[(step * ACCUMULATION + k) % BATCHES]
        masks = interpolate(model(images, *features), size=LABEL, mode="bilinear", align_corners=False)
        loss = mask_loss(masks, labels)
        (loss / ACCUMULATION).backward()
        total += loss.item() / ACCUMULATION
    if step == 0:
        recorded = {name: p.grad.clone() for name, p in trained.items() if p.grad is not None and p.grad.abs().max() > 0}
    norms.append(nn.utils.clip_grad_norm_([p for p in trained.values() if p.grad is not None], CLIP).item())
    losses.append(total)
    optimizer.step()
    scheduler.step()

largest = max(g.abs().max() for g in recorded.values())
vanishing = [name for name, g in recorded.items() if g.abs().max() <= 1e-5 * largest]
assert all(name.endswith(("k_proj.bias", "key.bias")) for name in vanishing), vanishing
print("no gradient but for rounding:", vanishing)
print("no gradient:", sorted(set(trained) - set(recorded)))
print("losses", losses, "norms", norms)
assert max(norms) > CLIP > min(norms), "clipping must act on some steps and not on others"
after = {f"after.{name}": p for name, p in trained.items() if name in recorded and name not in vanishing}
grads = {f"grad.{name}": g for name, g in recorded.items()}
for name, p in model.named_parameters():
    p.data = before[name].clone() if name not in trained else p.data
results = {"losses": torch.tensor(losses), "norms": torch.tensor(norms)} | after | grads
results = {name: x.detach().clone() for name, x in results.items()}
model.load_state_dict(before)
save(model, inputs | results)
