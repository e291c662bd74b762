"""PyTorch's time on the cases of `burn-love-cli bench`, from random weights.

Needs torch and transformers (>= 4.56) only. Runs on the CPU or on one CUDA GPU; prints one line of JSON for each case.

  python torch_baseline.py --device cuda --precision tf32 --cases image_encoder/large,train_step/paper
  python torch_baseline.py --threads 2 --cases image_encoder/tiny

Precision: f32 (strict), tf32, bf16 (autocast). `seconds` is the median of --runs behind the warm-up, synchronised.
"""

import argparse
import json
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

HIERA = {  # width, heads, blocks, global attention blocks, window sizes, background of the position embedding
    "nano": (24, 1, [1, 1, 2, 1], [3], [8, 4, 8, 4], 4),
    "tiny": (96, 1, [1, 2, 7, 2], [5, 7, 9], [8, 4, 14, 7], 7),
    "small": (96, 1, [1, 2, 11, 2], [7, 10, 13], [8, 4, 14, 7], 7),
    "base-plus": (112, 2, [2, 3, 16, 3], [12, 16, 20], [8, 4, 14, 7], 14),
    "large": (144, 2, [2, 6, 36, 4], [23, 33, 43], [8, 4, 16, 8], 7),
}

# What a training step takes: SAM 2's size, image, width of prompts; fusion's width, layers, heads, projection; widths of
# sound, text and patches; patches; rows; all parts of SAM 2's decoder that follow its width.
TRAINED = {
    "nano": dict(sam2="nano", image=128, width=128, mlp=256, d=128, layers=2, heads=4, projection=256,
                 audio=128, text=96, vision=96, patches=144, rows=None),
    "paper": dict(sam2="large", image=1024, width=256, mlp=2048, d=1024, layers=6, heads=8, projection=2048,
                  audio=128, text=768, vision=768, patches=196, rows=8),
}
FRAMES, TOKENS = 10, 25


def sam2(size, video=False, image=1024, width=256, mlp=2048):
    from transformers import (Sam2Config, Sam2HieraDetConfig, Sam2MaskDecoderConfig, Sam2Model, Sam2PromptEncoderConfig,
                              Sam2VideoConfig, Sam2VideoModel, Sam2VisionConfig)
    c, heads, blocks, global_blocks, windows, background = HIERA[size]
    widths = [c * 2**i for i in range(4)]
    trunk = Sam2HieraDetConfig(
        hidden_size=c, num_attention_heads=heads, blocks_per_stage=blocks, embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[heads * 2**i for i in range(4)], window_size_per_stage=windows,
        global_attention_blocks=global_blocks, window_positional_embedding_background_size=[background] * 2,
        image_size=[image, image])
    vision = Sam2VisionConfig(
        backbone_config=trunk, backbone_channel_list=widths[::-1], fpn_hidden_size=width,
        backbone_feature_sizes=[[image // s] * 2 for s in (4, 8, 16)])
    if video:
        return Sam2VideoModel(Sam2VideoConfig(vision_config=vision))
    prompt = Sam2PromptEncoderConfig(hidden_size=width, image_size=image)
    decoder = Sam2MaskDecoderConfig(hidden_size=width, mlp_dim=mlp, iou_head_hidden_dim=width)
    return Sam2Model(Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder))


class Fusion(nn.Module):
    """Projections, pre-norm blocks, token propagation and accumulation over the frames."""

    def __init__(self, s):
        super().__init__()
        d = s["d"]
        mlp = lambda width: nn.Sequential(nn.Linear(width, s["projection"]), nn.ReLU(), nn.Linear(s["projection"], d))
        self.a, self.t, self.v = mlp(s["audio"]), mlp(s["text"]), mlp(s["vision"])
        self.seg = nn.Parameter(torch.randn(1, 1, d) * 0.02)
        block = lambda: nn.TransformerEncoderLayer(d, s["heads"], 4 * d, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.ModuleList(block() for _ in range(s["layers"]))
        self.out = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, s["width"]))

    def step(self, seg, a, t, v, history):
        b, _, d = seg.shape
        x = torch.cat([seg, a, a.new_zeros(b, 1, d), t, a.new_ones(b, 1, d), v, *history], 1)
        for block in self.blocks:
            x = block(x)
        return x[:, :1]

    def forward(self, audio, text, patches, cls):
        a, t, v, c = self.a(audio), self.t(text), self.v(patches), self.v(cls)
        seg, history = self.seg.expand(a.shape[0], -1, -1), []
        for i in range(v.shape[1]):
            seg = self.step(seg, a, t, v[:, i], history)
            history.append(c[:, i : i + 1])
        return self.out(seg)


def vggish():
    layers, width = [], 1
    for out in (64, "M", 128, "M", 256, 256, "M", 512, 512, "M"):
        if out == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(width, out, 3, padding=1), nn.ReLU()]
            width = out
    tail = [nn.Flatten(), nn.Linear(12288, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 128)]
    return nn.Sequential(*layers, *tail)


def vit():
    from transformers import ViTConfig, ViTModel
    return ViTModel(ViTConfig())


def distilroberta():
    from transformers import RobertaConfig, RobertaModel
    return RobertaModel(RobertaConfig(vocab_size=50265, num_hidden_layers=6, max_position_embeddings=514,
                                      type_vocab_size=1))


def love_video(frames, dev, wrap):
    """From pixels to masks: three encoders, fusion, and SAM 2 large from frame to frame."""
    s = TRAINED["paper"]
    rnd = lambda *shape: torch.randn(*shape, device=dev)
    hear, see, read = vggish().to(dev).eval(), vit().to(dev).eval(), distilroberta().to(dev).eval()
    fuse, m = Fusion(s).to(dev).eval(), sam2("large", True).to(dev).eval()
    hear, see, read, fuse = wrap(hear), wrap(see), wrap(read), wrap(fuse)
    encode, attend, decode, remember = (wrap(m.vision_encoder), wrap(m.memory_attention), wrap(m.mask_decoder),
                                        wrap(m.memory_encoder))
    mel, pixels, ids = rnd(frames, 1, 96, 64), rnd(frames, 3, 224, 224), torch.randint(5, 250, (1, TOKENS), device=dev)
    image, pe, position = rnd(1, 3, 1024, 1024), m.get_image_wide_positional_embeddings(), rnd(4096, 1, 256)
    memory_position = rnd(4096, 1, 64)

    def run():
        seen = see(pixels).last_hidden_state
        token = fuse(hear(mel)[None], read(ids).last_hidden_state, seen[None, :, 1:], seen[None, :, 0])
        memories, pointers = [], []
        for i in range(frames):
            maps = encode(image).fpn_hidden_states
            fine = [m.mask_decoder.conv_s0(maps[0]), m.mask_decoder.conv_s1(maps[1])]
            current = maps[2].flatten(2).permute(2, 0, 1)
            if i:
                kept = memories[:1] + memories[1:][-6:]
                told = pointers[-16:]
                memory = torch.cat([*kept, *told])
                where = torch.cat([*[memory_position] * len(kept), *[torch.zeros_like(p) for p in told]])
                current = attend(current_vision_features=current, memory=memory,
                                 current_vision_position_embeddings=position, memory_posision_embeddings=where,
                                 num_object_pointer_tokens=4 * len(told))
                prompt = rnd(1, 1, 2, 256)
            else:
                prompt = token[:, None]
            embedding = current.reshape(4096, 256).T.reshape(1, 256, 64, 64)
            masks = decode(image_embeddings=embedding, image_positional_embeddings=pe, sparse_prompt_embeddings=prompt,
                           dense_prompt_embeddings=torch.zeros_like(embedding), multimask_output=False,
                           high_resolution_features=fine)[0].reshape(1, 1, 256, 256)
            mask = F.interpolate(masks.float(), (1024, 1024), mode="bilinear", align_corners=False)
            made = remember(maps[2], mask.sigmoid() * 20 - 10)[0]
            memories.append(made.flatten(2).permute(2, 0, 1))
            pointers.append(rnd(4, 1, 64))

    return run


def train_step(preset, dev, wrap, rows):
    """From cached features: fusion, decoder, loss at the image's size, backward, clipping, AdamW."""
    s = TRAINED[preset]
    b, width, image = rows or s["rows"] or 8, s["width"], s["image"]
    rnd = lambda *shape: torch.randn(*shape, device=dev)
    fusion = Fusion(s).to(dev)
    m = sam2(s["sam2"], image=image, width=width, mlp=s["mlp"]).to(dev)
    decoder, pe = m.mask_decoder, m.get_image_wide_positional_embeddings().detach().repeat(b, 1, 1, 1)
    params = [*fusion.parameters(), *decoder.parameters()]
    opt = torch.optim.AdamW(params, 1e-4, (0.9, 0.95), weight_decay=0.0)
    audio, text = rnd(b, FRAMES, s["audio"]), rnd(b, TOKENS, s["text"])
    patches, cls = rnd(b, FRAMES, s["patches"], s["vision"]), rnd(b, FRAMES, s["vision"])
    side = image // 16
    maps = [rnd(b, width, side * 2**i, side * 2**i) for i in (0, 1, 2)]
    label = (rnd(b, 1, image, image) > 1).float()
    forward = wrap(fusion)

    def run():
        token = forward(audio, text, patches, cls).unsqueeze(1)  # [b, 1, 1, width]
        fine = [decoder.conv_s0(maps[2]), decoder.conv_s1(maps[1])]
        masks = decoder(image_embeddings=maps[0], image_positional_embeddings=pe, sparse_prompt_embeddings=token,
                        dense_prompt_embeddings=torch.zeros_like(maps[0]), multimask_output=False,
                        high_resolution_features=fine)[0]
        masks = F.interpolate(masks.reshape(b, 1, image // 4, image // 4).float(), (image, image), mode="bilinear",
                              align_corners=False)
        p, t = masks.sigmoid().flatten(1), label.flatten(1)
        dice = 1 - (2 * (p * t).sum(1) + 1e-3) / (p.sum(1) + t.sum(1) + 1e-3)
        loss = F.binary_cross_entropy_with_logits(masks, label) + dice.mean()
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()

    run.trains = True
    return run


def make(case, dev, compiled, rows):
    """What runs the case once."""
    wrap = (lambda m: torch.compile(m)) if compiled else (lambda m: m)
    kind, _, arg = case.partition("/")
    rnd = lambda *shape: torch.randn(*shape, device=dev)
    if kind == "image_encoder":
        m, x = wrap(sam2(arg).vision_encoder.to(dev).eval()), rnd(1, 3, 1024, 1024)
        return lambda: m(x)
    if kind == "memory_attention":
        n = int(arg) * 4096 + 64
        m = wrap(sam2("tiny", True).memory_attention.to(dev).eval())
        frame, position, memory, where = rnd(4096, 1, 256), rnd(4096, 1, 256), rnd(n, 1, 64), rnd(n, 1, 64)
        return lambda: m(current_vision_features=frame, memory=memory, current_vision_position_embeddings=position,
                         memory_posision_embeddings=where, num_object_pointer_tokens=64)
    if kind == "memory_encoder":
        m, x, mask = wrap(sam2("tiny", True).memory_encoder.to(dev).eval()), rnd(1, 256, 64, 64), rnd(1, 1, 1024, 1024)
        return lambda: m(x, mask)
    if kind == "mask_decoder":
        s = sam2("tiny").to(dev).eval()
        x, dense, token = rnd(1, 256, 64, 64), rnd(1, 256, 64, 64), rnd(1, 1, 1, 256)
        fine, pe = [rnd(1, 32, 256, 256), rnd(1, 64, 128, 128)], s.get_image_wide_positional_embeddings()
        m = wrap(s.mask_decoder)
        return lambda: m(image_embeddings=x, image_positional_embeddings=pe, sparse_prompt_embeddings=token,
                         dense_prompt_embeddings=dense, multimask_output=True, high_resolution_features=fine)
    if kind == "vit_b":
        m, x = wrap(vit().to(dev).eval()), rnd(int(arg), 3, 224, 224)
        return lambda: m(x)
    if kind == "distilroberta":
        m, ids = wrap(distilroberta().to(dev).eval()), torch.randint(5, 250, (1, int(arg)), device=dev)
        return lambda: m(ids)
    if kind == "vggish":
        m, x = wrap(vggish().to(dev).eval()), rnd(int(arg), 1, 96, 64)
        return lambda: m(x)
    if kind == "fusion_step":
        m = Fusion(TRAINED["paper"]).to(dev).eval()
        step = wrap(m.step)
        x = rnd(1, 1, 1024), rnd(1, FRAMES, 1024), rnd(1, TOKENS, 1024), rnd(1, 196, 1024), [rnd(1, FRAMES - 1, 1024)]
        return lambda: step(*x)
    if kind == "love_video":
        return love_video(int(arg), dev, wrap)
    if kind == "train_step":
        return train_step(arg, dev, wrap, rows)
    raise ValueError(f"no case {case}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="f32", choices=["f32", "tf32", "bf16"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=0, help="rows of a training step [default: the preset's]")
    parser.add_argument("--cases", default="image_encoder/tiny,image_encoder/large,memory_attention/7,memory_encoder,"
                        "mask_decoder,vit_b/10,distilroberta/25,vggish/10,fusion_step,love_video/10,train_step/nano,"
                        "train_step/paper")
    o = parser.parse_args()
    torch.manual_seed(0)
    if o.threads:
        torch.set_num_threads(o.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = o.precision == "tf32"
    dev, cuda = torch.device(o.device), o.device.startswith("cuda")
    sync = torch.cuda.synchronize if cuda else lambda: None
    for case in o.cases.split(","):
        row = {"case": case}
        try:
            if cuda:
                torch.cuda.reset_peak_memory_stats()
            run = make(case, dev, o.compile, o.rows)
            mode = torch.enable_grad if getattr(run, "trains", False) else torch.inference_mode
            times = []
            with mode(), torch.autocast(dev.type, torch.bfloat16, enabled=o.precision == "bf16"):
                for _ in range(o.runs + (3 if cuda else 1)):
                    sync()
                    began = time.perf_counter()
                    run()
                    sync()
                    times.append(time.perf_counter() - began)
            row["seconds"] = statistics.median(times[-o.runs :])
            row["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            if cuda:
                row["device_bytes"] = torch.cuda.max_memory_allocated()
        except Exception as error:  # One case must not hide the others.
            row["error"] = f"{type(error).__name__}: {error}"[:300]
        row |= {"peer": f"torch {torch.__version__}", "device": torch.cuda.get_device_name() if cuda else "cpu",
                "precision": o.precision, "compiled": o.compile}
        print(json.dumps(row), flush=True)
        run = None
        if cuda:
            torch.cuda.empty_cache()


main()
