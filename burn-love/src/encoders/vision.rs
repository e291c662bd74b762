//! The vision encoder that a config names.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::{ClipVision, VisionEncoder, VisionFeatures, Vit};

/// Architecture of a vision encoder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VisionKind {
    /// [`Vit`]
    #[default]
    Vit,
    /// [`ClipVision`]
    Clip,
}

/// Architecture and sizes of a vision encoder.
///
/// All architectures have the same keys, so that a config can change one by one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisionConfig {
    /// Architecture; it also says how frames become pixels.
    #[serde(default)]
    pub kind: VisionKind,
    /// Side of the square image, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Width D.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the MLP's hidden layer.
    pub mlp_width: usize,
    /// Added to the norms' variances: 1e-12 in Hugging Face's ViT, 1e-6 in timm's, 1e-5 in CLIP.
    #[serde(default = "hugging_face")]
    pub epsilon: f64,
}

fn hugging_face() -> f64 {
    1e-12
}

impl VisionConfig {
    /// timm's [`epsilon`](Self::epsilon).
    pub const TIMM_EPSILON: f64 = 1e-6;

    /// Names of all presets.
    pub const PRESETS: [&str; 4] = ["nano", "vit-b-16", "clip-nano", "clip-vit-b-16"];

    /// The sizes called `name`; `vit-base-16` is another name of `vit-b-16`.
    pub fn preset(name: &str) -> Option<Self> {
        match name {
            "nano" => Some(Self::nano()),
            "vit-b-16" | "vit-base-16" => Some(Self::base_16()),
            "clip-nano" => Some(Self::nano().to_clip()),
            "clip-vit-b-16" => Some(Self::base_16().to_clip()),
            _ => None,
        }
    }

    /// ViT-B/16 at 224².
    pub fn base_16() -> Self {
        Self {
            kind: VisionKind::Vit,
            image_size: 224,
            patch_size: 16,
            width: 768,
            layers: 12,
            heads: 12,
            mlp_width: 3072,
            epsilon: hugging_face(),
        }
    }

    /// The embedded default: 96² in 144 patches, three layers of width 96.
    pub fn nano() -> Self {
        Self {
            kind: VisionKind::Vit,
            image_size: 96,
            patch_size: 8,
            width: 96,
            layers: 3,
            heads: 3,
            mlp_width: 384,
            epsilon: hugging_face(),
        }
    }

    /// CLIP's vision tower of the same sizes.
    pub fn to_clip(self) -> Self {
        Self {
            kind: VisionKind::Clip,
            epsilon: 1e-5,
            ..self
        }
    }

    /// Patches of one image.
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// Builds the encoder with fresh weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> VisionTower<B> {
        match self.kind {
            VisionKind::Vit => VisionTower::Vit(Vit::new(self, device)),
            VisionKind::Clip => VisionTower::Clip(ClipVision::new(self, device)),
        }
    }
}

/// A vision encoder. See the [module docs](self).
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one lives at a time")]
pub enum VisionTower<B: Backend> {
    /// ViT.
    Vit(Vit<B>),
    /// CLIP's vision tower.
    Clip(ClipVision<B>),
}

impl<B: Backend> VisionEncoder<B> for VisionTower<B> {
    fn encode_image(&self, pixels: Tensor<B, 4>) -> VisionFeatures<B> {
        match self {
            Self::Vit(vit) => vit.encode_image(pixels),
            Self::Clip(clip) => clip.encode_image(pixels),
        }
    }
}
