"""Weights' names and shapes, and the sizes and flags, of the eight published models, from their own config files."""

import inspect
import json
from importlib.metadata import version
from pathlib import Path

import sam2
import yaml
from sam2.build_sam import build_sam2
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.sam2_base import SAM2Base

assert version("sam2") == "1.1.0", version("sam2")
SIZES = {"tiny": "t", "small": "s", "base-plus": "b+", "large": "l"}

models = {}
for generation in ["2", "2.1"]:
    for size, letter in SIZES.items():
        config = f"configs/sam{generation}/sam{generation}_hiera_{letter}.yaml"
        state = build_sam2(config, device="cpu").state_dict()
        models[f"sam{generation}-hiera-{size}"] = {name: list(tensor.shape) for name, tensor in state.items()}
lines = (f'"{name}": {json.dumps(state, separators=(",", ":"))}' for name, state in models.items())
Path(__file__).with_name("shapes.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def merged(target, section):
    """A section of a config file over the defaults of the class that it configures."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(target.__init__).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    return defaults | {key: value for key, value in section.items() if key != "_target_"}


def sizes(config):
    """What a config file says, under the names of `Sam2Config`."""
    model = yaml.safe_load((Path(sam2.__file__).parent / config).read_text())["model"]
    base = merged(SAM2Base, model)
    trunk = merged(Hiera, model["image_encoder"]["trunk"])
    attention = model["memory_attention"]
    layer = attention["layer"]
    encoder = model["memory_encoder"]
    limit = base["max_cond_frames_in_attn"]
    return {
        "image_size": base["image_size"],
        "model_width": model["image_encoder"]["neck"]["d_model"],
        "memory_width": encoder["out_dim"],
        "hiera": {
            "width": trunk["embed_dim"],
            "heads": trunk["num_heads"],
            "stages": list(trunk["stages"]),
            "windows": list(trunk["window_spec"]),
            "global_blocks": list(trunk["global_att_blocks"]),
            "position_background": list(trunk["window_pos_embed_bkg_spatial_size"]),
        },
        "memory_attention": {
            "layers": attention["num_layers"],
            "heads": layer["self_attention"]["num_heads"],
            "feedforward": layer["dim_feedforward"],
            "rope_theta": layer["self_attention"]["rope_theta"],
        },
        "memory_encoder": {
            "mask_kernel": encoder["mask_downsampler"]["kernel_size"],
            "mask_stride": encoder["mask_downsampler"]["stride"],
            "mask_padding": encoder["mask_downsampler"]["padding"],
            "fuser_layers": encoder["fuser"]["num_layers"],
            "fuser_kernel": encoder["fuser"]["layer"]["kernel_size"],
        },
        "mask_decoder": {
            "iou_sigmoid": base["iou_prediction_use_sigmoid"],
            "multimask_token_for_pointer": base["use_multimask_token_for_obj_ptr"],
        },
        "memory": {
            "frames": base["num_maskmem"],
            "max_conditioning_frames": max(limit, 0),
            "temporal_stride": base["memory_temporal_stride_for_eval"],
            "max_object_pointers": base["max_obj_ptrs_in_encoder"],
            "mask_scale": base["sigmoid_scale_for_mem_enc"],
            "mask_bias": base["sigmoid_bias_for_mem_enc"],
            "multimask_tracking": base["multimask_output_for_tracking"],
            "no_object_embedding": base["no_obj_embed_spatial"],
            "pointer_time_encoding": base["add_tpos_enc_to_obj_ptrs"],
            "pointer_time_projection": base["proj_tpos_enc_in_obj_ptrs"],
            "pointer_time_signed": base["use_signed_tpos_enc_to_obj_ptrs"],
        },
    }


configs = {
    f"sam{generation}-hiera-{size}": sizes(f"configs/sam{generation}/sam{generation}_hiera_{letter}.yaml")
    for generation in ["2", "2.1"]
    for size, letter in SIZES.items()
}
Path(__file__).with_name("configs.json").write_text(json.dumps(configs, indent=1) + "\n")
