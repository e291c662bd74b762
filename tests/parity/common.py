"""Shared by the SAM 2 cases: pinned versions, seeded weights, small models, fixtures.

Run a case with `python generate.py` inside its folder. Needs sam2==1.1.0, torch, safetensors and numpy on a CPU.
"""

import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.prompt_encoder import PromptEncoder
from sam2.modeling.sam.transformer import RoPEAttention, TwoWayTransformer

assert version("sam2") == "1.1.0", version("sam2")
torch.use_deterministic_algorithms(True)
torch.set_num_threads(1)

IMAGE = 96
WIDTH = 32
MEMORY = 16
MLP = 48
CHANNELS = [4, 8, 16, 32]


@dataclass(frozen=True)
class Sizes:
    """Sizes of a small model."""

    image: int = IMAGE
    width: int = WIDTH
    memory: int = MEMORY
    mlp: int = MLP
    channels: int = CHANNELS[0]  # of the first stage
    heads: int = 1
    stages: tuple = (1, 2, 2, 1)
    windows: tuple = (8, 5, 6, 3)  # 5 does not divide the second stage: windows are padded
    global_blocks: tuple = (4,)
    background: tuple = (3, 4)
    memory_layers: int = 2
    memory_heads: int = 1
    mask_steps: tuple = (3, 2, 1)  # kernel, stride and padding of the mask downsampler
    fuser: tuple = (2, 7)  # blocks and kernel
    decoder_heads: int = 8
    iou_head: int = 24
    memories: int = 4
    pointers: int = 5


SMALL = Sizes()


def generator(seed):
    return torch.Generator().manual_seed(seed)


def randomize(module, seed):
    """Seeded values for every tensor, those that start at zero too; activations stay O(1)."""
    g = generator(seed)
    with torch.no_grad():
        for name, tensor in sorted(module.state_dict().items()):
            leaf = name.rsplit(".", 1)[-1]
            noise = torch.randn(tensor.shape, generator=g)
            if leaf == "gamma":
                value = 0.5 + 0.2 * noise
            elif leaf == "bias":
                value = 0.2 * noise
            elif leaf == "weight" and tensor.ndim == 1:
                value = 1.0 + 0.2 * noise
            elif leaf == "weight" and tensor.ndim > 1 and "embed" not in name and "token." not in name and "tokens." not in name:
                value = noise * (tensor[0].numel() ** -0.5)
            else:
                value = 0.7 * noise
            tensor.copy_(value)
    return module.eval()


def random(seed, *shape):
    return torch.randn(shape, generator=generator(seed))


def random_images(seed, *shape):
    """Bytes of smooth random pictures, and the pixels a model sees: bytes / 64 - 2."""
    noise = torch.rand(shape, generator=generator(seed))
    smooth = nn.functional.interpolate(noise[..., ::8, ::8], size=shape[-2:], mode="bilinear")
    pixels = ((0.7 * smooth + 0.3 * noise) * 255).to(torch.uint8)
    return pixels, pixels.float() / 64 - 2


def mask_loss(logits, target):
    """BCE + DICE as SAM2-LOVE trains with: means over masks, DICE of sums divided by 1000. `[N, ...]` each."""
    logits, target = logits.flatten(1), target.flatten(1)
    bce = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1).mean()
    p = logits.sigmoid()
    both = 2 * (p * target).sum(1) / 1000 + 1e-6
    either = (p.sum(1) + target.sum(1)) / 1000 + 1e-6
    return bce + (1 - both / either).mean()


def gradients(module, loss, **inputs):
    """Gradients by autograd under `grad.`: of all parameters that the loss depends on, and of `inputs`.

    Gradients that vanish but for rounding have no relative error. Keys have them in attention without rotation: a
    common shift of all keys changes nothing. All others must be well above that.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True, retain_graph=True)
    grads = {name: g for (name, _), g in zip(named, found) if g is not None and g.abs().max() > 0}
    grads |= {name: torch.autograd.grad(loss, x, retain_graph=True)[0] for name, x in inputs.items()}
    largest = max(g.abs().max() for g in grads.values())
    for name, g in grads.items():
        assert g.abs().max() > 1e-5 * largest or name.endswith("k_proj.bias"), (name, g.abs().max() / largest)
    return {"loss": loss.reshape(1)} | {f"grad.{name}": g for name, g in grads.items()}


def connected_components(mask):
    """What the CUDA kernel computes: labels and areas of 8-connected components of `[N, 1, H, W]`."""
    labels, areas = torch.zeros(mask.shape, dtype=torch.int64), torch.zeros(mask.shape, dtype=torch.int64)
    for n, picture in enumerate(mask[:, 0]):
        free, next_label = {tuple(p) for p in picture.nonzero().tolist()}, 1
        while free:
            part = open_ = {free.pop()}
            while open_:
                around = {(y + dy, x + dx) for y, x in open_ for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
                open_ = around & free
                free -= open_
                part = part | open_
            rows, columns = zip(*part)
            labels[n, 0, rows, columns], areas[n, 0, rows, columns] = next_label, len(part)
            next_label += 1
    return labels, areas


def hiera(sizes=SMALL):
    return Hiera(
        embed_dim=sizes.channels,
        num_heads=sizes.heads,
        stages=sizes.stages,
        window_spec=sizes.windows,
        global_att_blocks=sizes.global_blocks,
        window_pos_embed_bkg_spatial_size=sizes.background,
    )


def neck(sizes=SMALL):
    return FpnNeck(
        position_encoding=PositionEmbeddingSine(sizes.width, normalize=True, temperature=10000),
        d_model=sizes.width,
        backbone_channel_list=[8 * sizes.channels, 4 * sizes.channels, 2 * sizes.channels, sizes.channels],
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    )


def memory_attention(size, sizes=SMALL):
    rope = dict(rope_theta=10000.0, feat_sizes=size, embedding_dim=sizes.width, num_heads=sizes.memory_heads)
    return MemoryAttention(
        d_model=sizes.width,
        pos_enc_at_input=True,
        layer=MemoryAttentionLayer(
            activation="relu",
            dim_feedforward=sizes.mlp,
            dropout=0.1,
            pos_enc_at_attn=False,
            self_attention=RoPEAttention(**rope),
            d_model=sizes.width,
            pos_enc_at_cross_attn_keys=True,
            pos_enc_at_cross_attn_queries=False,
            cross_attention=RoPEAttention(**rope, rope_k_repeat=True, kv_in_dim=sizes.memory),
        ),
        num_layers=sizes.memory_layers,
    )


def memory_encoder(sizes=SMALL):
    kernel, stride, padding = sizes.mask_steps
    blocks, fuser_kernel = sizes.fuser
    return MemoryEncoder(
        out_dim=sizes.memory,
        position_encoding=PositionEmbeddingSine(sizes.memory, normalize=True, temperature=10000),
        mask_downsampler=MaskDownSampler(embed_dim=sizes.width, kernel_size=kernel, stride=stride, padding=padding),
        fuser=Fuser(
            CXBlock(dim=sizes.width, kernel_size=fuser_kernel, padding=fuser_kernel // 2, use_dwconv=True),
            num_layers=blocks,
        ),
        in_dim=sizes.width,
    )


def prompt_encoder(side):
    return PromptEncoder(
        embed_dim=WIDTH, image_embedding_size=(side // 16,) * 2, input_image_size=(side,) * 2, mask_in_chans=16
    )


def mask_decoder(sizes=SMALL, **extra):
    return MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(2, sizes.width, num_heads=sizes.decoder_heads, mlp_dim=sizes.mlp),
        transformer_dim=sizes.width,
        iou_head_depth=3,
        iou_head_hidden_dim=sizes.iou_head,
        use_high_res_features=True,
        iou_prediction_use_sigmoid=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        use_multimask_token_for_obj_ptr=True,
        **extra,
    )


def sam2(cls, generation, sizes=SMALL, **extra):
    """A whole small model with the flags of generation "2.0" or "2.1"."""
    new = generation == "2.1"
    model = cls(
        image_encoder=ImageEncoder(hiera(sizes), neck(sizes), scalp=1),
        memory_attention=memory_attention((sizes.image // 16, sizes.image // 16), sizes),
        memory_encoder=memory_encoder(sizes),
        num_maskmem=sizes.memories,
        max_obj_ptrs_in_encoder=sizes.pointers,
        image_size=sizes.image,
        sigmoid_scale_for_mem_enc=20.0,
        sigmoid_bias_for_mem_enc=-10.0,
        use_mask_input_as_output_without_sam=True,
        directly_add_no_mem_embed=True,
        use_high_res_features_in_sam=True,
        multimask_output_in_sam=True,
        iou_prediction_use_sigmoid=True,
        use_obj_ptrs_in_encoder=True,
        only_obj_ptrs_in_the_past_for_eval=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        fixed_no_obj_ptr=True,
        multimask_output_for_tracking=True,
        use_multimask_token_for_obj_ptr=True,
        multimask_min_pt_num=0,
        multimask_max_pt_num=1,
        use_mlp_for_obj_ptr_proj=True,
        add_tpos_enc_to_obj_ptrs=new,
        proj_tpos_enc_in_obj_ptrs=new,
        use_signed_tpos_enc_to_obj_ptrs=new,
        no_obj_embed_spatial=new,
        **extra,
    )
    model.sam_mask_decoder = mask_decoder(sizes)  # SAM2Base fixes its MLP at 2048 channels
    return model


def save(module, tensors, limit=3_000_000):
    """Writes fixture.safetensors beside the calling script: the state dict under `state.` and all tensors."""
    path = Path(sys.argv[0]).resolve().parent / "fixture.safetensors"
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    state = {f"state.{name}": t.detach().contiguous().clone() for name, t in module.state_dict().items()}
    for name, tensor in tensors.items():
        assert not tensor.is_floating_point() or tensor.isfinite().all(), name
        print(f"{name:32} {tuple(tensor.shape)!s:20} {tensor.float().abs().max():.3g}")
    save_file(state | tensors, path, metadata={"sam2": version("sam2"), "torch": torch.__version__})
    size = path.stat().st_size
    assert size <= limit, size
    print(f"{path.name}: {size} bytes, {len(state)} weights")
