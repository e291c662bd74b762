//! Sizes and flags of a whole SAM 2, and the table of presets.
//!
//! The eight published models differ in the trunk only; between 2.0 and 2.1 four flags of the memory change.
//! Values from the yaml files of `sam2==1.1.0`.

use burn::prelude::*;

use super::{
    fpn_neck::FpnNeckConfig, hiera::HieraConfig, mask_decoder::MaskDecoderConfig,
    memory_attention::MemoryAttentionConfig, memory_encoder::MemoryEncoderConfig,
    prompt_encoder::PromptEncoderConfig,
};

/// Pixels of the input image per cell of the image embedding.
pub const EMBEDDING_STRIDE: usize = 16;

/// Sizes and flags of a [`Sam2`](super::Sam2). The defaults are SAM 2.1 tiny.
#[derive(Config, Debug, PartialEq)]
pub struct Sam2Config {
    /// Side of the square input image, in pixels.
    #[config(default = 1024)]
    pub image_size: usize,
    /// Width of the image embedding and of all tokens.
    #[config(default = 256)]
    pub model_width: usize,
    /// Channels of the stored memories; divides `model_width`.
    #[config(default = 64)]
    pub memory_width: usize,
    /// The trunk.
    #[config(default = "HieraConfig::new()")]
    pub hiera: HieraConfig,
    /// The neck.
    #[config(default = "FpnNeckConfig::new()")]
    pub neck: FpnNeckConfig,
    /// Attention from a frame to the memories.
    #[config(default = "MemoryAttentionConfig::new()")]
    pub memory_attention: MemoryAttentionConfig,
    /// Encoder of memories.
    #[config(default = "MemoryEncoderConfig::new()")]
    pub memory_encoder: MemoryEncoderConfig,
    /// The prompt encoder.
    #[config(default = "PromptEncoderConfig::new()")]
    pub prompt_encoder: PromptEncoderConfig,
    /// The mask decoder.
    #[config(default = "MaskDecoderConfig::new()")]
    pub mask_decoder: MaskDecoderConfig,
    /// What a video remembers.
    #[config(default = "MemoryConfig::new()")]
    pub memory: MemoryConfig,
}

/// What a video remembers and how it is presented to a frame.
#[derive(Config, Debug, PartialEq)]
pub struct MemoryConfig {
    /// Frames with spatial memories: the prompted one and the most recent `frames − 1`.
    #[config(default = 7)]
    pub frames: usize,
    /// Most prompted frames a frame attends to, at least 2; 0 stands for all.
    #[config(default = 0)]
    pub max_conditioning_frames: usize,
    /// Spatial memories are of the last frame and of every n-th one before it.
    #[config(default = 1)]
    pub temporal_stride: usize,
    /// Most object pointers of tracked frames, plus one, that a frame attends to; those of prompted frames come on top.
    #[config(default = 16)]
    pub max_object_pointers: usize,
    /// Scale of the mask's probability before it is encoded.
    #[config(default = 20.0)]
    pub mask_scale: f64,
    /// Bias of the mask's probability before it is encoded, after the scale.
    #[config(default = -10.0)]
    pub mask_bias: f64,
    /// Whether tracked frames choose among the candidate masks.
    #[config(default = true)]
    pub multimask_tracking: bool,
    /// Whether memories of frames without the object are marked (2.1).
    #[config(default = true)]
    pub no_object_embedding: bool,
    /// Whether object pointers carry the distance to their frame (2.1).
    #[config(default = true)]
    pub pointer_time_encoding: bool,
    /// Whether that distance goes through a projection of its own (2.1).
    #[config(default = true)]
    pub pointer_time_projection: bool,
    /// Whether that distance has a sign (2.1); it matters to backward tracking only.
    #[config(default = true)]
    pub pointer_time_signed: bool,
}

/// Generation of the published weights.
#[derive(Clone, Copy, PartialEq)]
enum Version {
    V2_0,
    V2_1,
}

/// Row of the preset table.
struct Preset {
    name: &'static str,
    version: Version,
    image_size: usize,
    hiera: HieraSizes,
    widths: Widths,
}

/// Sizes of a trunk.
#[derive(Clone, Copy)]
struct HieraSizes {
    width: usize,
    heads: usize,
    stages: [usize; 4],
    windows: [usize; 4],
    global_blocks: [usize; 3],
    background: usize,
}

/// Widths behind the trunk.
#[derive(Clone, Copy)]
struct Widths {
    model: usize,
    memory: usize,
    mlp: usize,
    iou_head: usize,
    memory_layers: usize,
}

const PUBLISHED: Widths = Widths {
    model: 256,
    memory: 64,
    mlp: 2048,
    iou_head: 256,
    memory_layers: 4,
};
const TINY: HieraSizes = HieraSizes {
    width: 96,
    heads: 1,
    stages: [1, 2, 7, 2],
    windows: [8, 4, 14, 7],
    global_blocks: [5, 7, 9],
    background: 7,
};
const SMALL: HieraSizes = HieraSizes {
    stages: [1, 2, 11, 2],
    global_blocks: [7, 10, 13],
    ..TINY
};
const BASE_PLUS: HieraSizes = HieraSizes {
    width: 112,
    heads: 2,
    stages: [2, 3, 16, 3],
    global_blocks: [12, 16, 20],
    background: 14,
    ..TINY
};
const LARGE: HieraSizes = HieraSizes {
    width: 144,
    heads: 2,
    stages: [2, 6, 36, 4],
    windows: [8, 4, 16, 8],
    global_blocks: [23, 33, 43],
    background: 7,
};

#[rustfmt::skip]
const PRESETS: [Preset; 9] = [
    Preset {
        name: "nano",
        version: Version::V2_1,
        image_size: 128,
        hiera: HieraSizes {
            width: 24, heads: 1, stages: [1, 1, 2, 1], windows: [8, 4, 8, 4], global_blocks: [3, 3, 3], background: 4,
        },
        widths: Widths { model: 128, memory: 32, mlp: 256, iou_head: 128, memory_layers: 2 },
    },
    published("sam2-hiera-tiny", Version::V2_0, TINY),
    published("sam2-hiera-small", Version::V2_0, SMALL),
    published("sam2-hiera-base-plus", Version::V2_0, BASE_PLUS),
    published("sam2-hiera-large", Version::V2_0, LARGE),
    published("sam2.1-hiera-tiny", Version::V2_1, TINY),
    published("sam2.1-hiera-small", Version::V2_1, SMALL),
    published("sam2.1-hiera-base-plus", Version::V2_1, BASE_PLUS),
    published("sam2.1-hiera-large", Version::V2_1, LARGE),
];

const fn published(name: &'static str, version: Version, hiera: HieraSizes) -> Preset {
    Preset {
        name,
        version,
        image_size: 1024,
        hiera,
        widths: PUBLISHED,
    }
}

impl Sam2Config {
    /// Names of all presets: `nano` and the eight published models.
    pub fn preset_names() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|preset| preset.name)
    }

    /// The preset called `name`, if there is one.
    pub fn preset(name: &str) -> Option<Self> {
        PRESETS
            .iter()
            .find(|preset| preset.name == name)
            .map(Preset::config)
    }

    /// The smallest preset, meant for a CPU.
    pub fn nano() -> Self {
        PRESETS[0].config()
    }

    /// Size of the image embedding in cells (height, width).
    pub fn embedding_size(&self) -> [usize; 2] {
        [self.image_size / EMBEDDING_STRIDE; 2]
    }

    /// Side of the low-resolution mask logits, in cells of 4 pixels.
    pub fn mask_size(&self) -> usize {
        4 * self.image_size / EMBEDDING_STRIDE
    }
}

impl Preset {
    fn config(&self) -> Sam2Config {
        let (hiera, widths) = (self.hiera, self.widths);
        let mut global_blocks = hiera.global_blocks.to_vec();
        global_blocks.dedup();
        let new_in_2_1 = self.version == Version::V2_1;
        Sam2Config::new()
            .with_image_size(self.image_size)
            .with_model_width(widths.model)
            .with_memory_width(widths.memory)
            .with_hiera(
                HieraConfig::new()
                    .with_width(hiera.width)
                    .with_heads(hiera.heads)
                    .with_stages(hiera.stages)
                    .with_windows(hiera.windows)
                    .with_global_blocks(global_blocks)
                    .with_position_background([hiera.background; 2]),
            )
            .with_memory_attention(
                MemoryAttentionConfig::new()
                    .with_layers(widths.memory_layers)
                    .with_feedforward(widths.mlp),
            )
            .with_mask_decoder(
                MaskDecoderConfig::new()
                    .with_mlp_width(widths.mlp)
                    .with_iou_head_width(widths.iou_head),
            )
            .with_memory(
                MemoryConfig::new()
                    .with_no_object_embedding(new_in_2_1)
                    .with_pointer_time_encoding(new_in_2_1)
                    .with_pointer_time_projection(new_in_2_1)
                    .with_pointer_time_signed(new_in_2_1),
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_found_by_its_name_and_survives_json() {
        for name in Sam2Config::preset_names() {
            let config = Sam2Config::preset(name).unwrap();
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(
                serde_json::from_str::<Sam2Config>(&text).unwrap(),
                config,
                "{name}"
            );
        }
        assert_eq!(Sam2Config::preset("sam3"), None);
    }

    #[test]
    fn the_generations_differ_in_four_flags_only() {
        let old = Sam2Config::preset("sam2-hiera-large").unwrap();
        let new = Sam2Config::preset("sam2.1-hiera-large").unwrap();
        assert_ne!(old.memory, new.memory);
        assert_eq!(old.with_memory(new.memory.clone()), new);
    }
}
