//! Hugging Face's names of SAM 2 (`Sam2Model` and `Sam2VideoModel` of transformers), and Meta's for the same tensors.
//!
//! Values and layouts are the same, with two exceptions: the four point embeddings are rows of one tensor, and the
//! matrix of the position encoding is stored twice. `Sam2Model` lacks everything that a video needs.

use super::{
    TensorSource,
    view::{Names, Origin},
};

/// The matrix of the position encoding, of images and of prompts.
const POSITIONS: &str = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix";

/// Hugging Face's tensor of all point embeddings, `[4, D]`, where Meta has four of `[1, D]`.
const POINTS: &str = "prompt_encoder.point_embed.weight";

/// Fragments of Hugging Face's names and what Meta calls them, in three tables: places of modules, their members, and
/// norms. In each table, the first row that fits is taken. A fragment fits whole names; `*` stands for any one.
const TABLES: [&[(&str, &str)]; 3] = [PLACES, MEMBERS, NORMS];

const PLACES: &[(&str, &str)] = &[
    ("vision_encoder.backbone", "image_encoder.trunk"),
    ("vision_encoder.neck.convs.*", "image_encoder.neck.convs.*.conv"),
    ("shared_image_embedding.positional_embedding", POSITIONS),
    ("prompt_encoder.shared_embedding.positional_embedding", POSITIONS),
    ("prompt_encoder", "sam_prompt_encoder"),
    ("mask_decoder", "sam_mask_decoder"),
    // What a video remembers.
    ("no_memory_embedding", "no_mem_embed"),
    ("no_memory_positional_encoding", "no_mem_pos_enc"),
    ("memory_temporal_positional_encoding", "maskmem_tpos_enc"),
    ("no_object_pointer", "no_obj_ptr"),
    ("object_pointer_proj", "obj_ptr_proj"),
    ("occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"),
    (
        "temporal_positional_encoding_projection_layer",
        "obj_ptr_tpos_proj",
    ),
    // memory_encoder; Meta's `nn.Sequential` counts (convolution, norm, GELU) for each step.
    (
        "memory_encoder.feature_projection",
        "memory_encoder.pix_feat_proj",
    ),
    ("memory_encoder.memory_fuser", "memory_encoder.fuser"),
    ("memory_encoder.projection", "memory_encoder.out_proj"),
    ("mask_downsampler.layers.0.conv", "mask_downsampler.encoder.0"),
    (
        "mask_downsampler.layers.0.layer_norm",
        "mask_downsampler.encoder.1",
    ),
    ("mask_downsampler.layers.1.conv", "mask_downsampler.encoder.3"),
    (
        "mask_downsampler.layers.1.layer_norm",
        "mask_downsampler.encoder.4",
    ),
    ("mask_downsampler.layers.2.conv", "mask_downsampler.encoder.6"),
    (
        "mask_downsampler.layers.2.layer_norm",
        "mask_downsampler.encoder.7",
    ),
    ("mask_downsampler.layers.3.conv", "mask_downsampler.encoder.9"),
    (
        "mask_downsampler.layers.3.layer_norm",
        "mask_downsampler.encoder.10",
    ),
    ("mask_downsampler.final_conv", "mask_downsampler.encoder.12"),
];

const MEMBERS: &[(&str, &str)] = &[
    ("patch_embed.projection", "patch_embed.proj"),
    ("o_proj", "out_proj"),
    // Perceptrons of two layers.
    ("mlp.proj_in", "mlp.layers.0"),
    ("mlp.proj_out", "mlp.layers.1"),
    // Perceptrons of three layers; the one in the middle is called `layers.0`.
    ("proj_in", "layers.0"),
    (
        "output_hypernetworks_mlps.*.layers.0",
        "output_hypernetworks_mlps.*.layers.1",
    ),
    ("iou_prediction_head.layers.0", "iou_prediction_head.layers.1"),
    ("pred_obj_score_head.layers.0", "pred_obj_score_head.layers.1"),
    ("obj_ptr_proj.layers.0", "obj_ptr_proj.layers.1"),
    ("proj_out", "layers.2"),
    // sam_prompt_encoder
    ("mask_embed.conv1", "mask_downscaling.0"),
    ("mask_embed.layer_norm1", "mask_downscaling.1"),
    ("mask_embed.conv2", "mask_downscaling.3"),
    ("mask_embed.layer_norm2", "mask_downscaling.4"),
    ("mask_embed.conv3", "mask_downscaling.6"),
    // sam_mask_decoder
    ("upscale_conv1", "output_upscaling.0"),
    ("upscale_layer_norm", "output_upscaling.1"),
    ("upscale_conv2", "output_upscaling.3"),
    // memory_encoder.fuser
    ("depthwise_conv", "dwconv"),
    ("pointwise_conv1", "pwconv1"),
    ("pointwise_conv2", "pwconv2"),
    ("scale", "gamma"),
];

const NORMS: &[(&str, &str)] = &[
    ("layer_norm", "norm"),
    ("layer_norm1", "norm1"),
    ("layer_norm2", "norm2"),
    ("layer_norm3", "norm3"),
    ("layer_norm4", "norm4"),
    ("layer_norm_final_attn", "norm_final_attn"),
];

/// Meta's names of the tensors of a file with Hugging Face's. A tensor that Meta does not have keeps its name.
pub(super) fn to_meta(source: &dyn TensorSource) -> Names {
    let mut names = Names::new();
    for key in source.keys() {
        let shape = source.info(key).map(|info| info.shape).unwrap_or_default();
        if key == POINTS
            && let [rows @ 4, _] = shape[..]
        {
            for row in 0..rows {
                let name = format!("sam_prompt_encoder.point_embeddings.{row}.weight");
                names.insert(name, Origin::rows(key, row..row + 1));
            }
        } else {
            names.entry(rename(key)).or_default().keys.push(key.to_owned());
        }
    }
    names
}

/// Meta's name of a tensor.
fn rename(key: &str) -> String {
    rename_by(&TABLES, key)
}

/// `key` with the first row that fits of each table applied, one table behind the other.
pub(super) fn rename_by(tables: &[&[(&str, &'static str)]], key: &str) -> String {
    let mut names: Vec<&str> = key.split('.').collect();
    for table in tables {
        if let Some(renamed) = table.iter().find_map(|(from, to)| replace(&names, from, to)) {
            names = renamed;
        }
    }
    names.join(".")
}

/// `names` with the fragment `from` replaced by `to`, where it fits first.
fn replace<'a>(names: &[&'a str], from: &str, to: &'static str) -> Option<Vec<&'a str>> {
    let from: Vec<&str> = from.split('.').collect();
    let fits = |window: &[&str]| {
        window
            .iter()
            .zip(&from)
            .all(|(name, part)| *part == "*" || name == part)
    };
    let start = names.windows(from.len()).position(fits)?;
    let (before, rest) = names.split_at(start);
    let (found, after) = rest.split_at(from.len());
    let mut wild = found
        .iter()
        .zip(&from)
        .filter(|(_, part)| **part == "*")
        .map(|(name, _)| *name);
    let to = to.split('.').map(|part| {
        if part == "*" {
            wild.next().unwrap_or(part)
        } else {
            part
        }
    });
    Some(
        before
            .iter()
            .copied()
            .chain(to)
            .chain(after.iter().copied())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::rename;

    #[test]
    fn names_are_meta_s() {
        for (key, expected) in [
            (
                "vision_encoder.neck.convs.2.bias",
                "image_encoder.neck.convs.2.conv.bias",
            ),
            (
                "vision_encoder.backbone.blocks.3.mlp.proj_out.weight",
                "image_encoder.trunk.blocks.3.mlp.layers.1.weight",
            ),
            (
                "mask_decoder.output_hypernetworks_mlps.3.layers.0.bias",
                "sam_mask_decoder.output_hypernetworks_mlps.3.layers.1.bias",
            ),
            (
                "mask_decoder.transformer.layers.0.self_attn.o_proj.bias",
                "sam_mask_decoder.transformer.layers.0.self_attn.out_proj.bias",
            ),
            (
                "memory_encoder.memory_fuser.layers.1.layer_norm.bias",
                "memory_encoder.fuser.layers.1.norm.bias",
            ),
            (
                "memory_encoder.projection.weight",
                "memory_encoder.out_proj.weight",
            ),
            ("something.else", "something.else"),
        ] {
            assert_eq!(rename(key), expected);
        }
    }
}
