//! Sizes and switches of the whole model.

use serde::{Deserialize, Serialize};

use crate::{
    encoders::{TextConfig, VggishConfig, VisionConfig},
    fusion::{FusionConfig, FusionInputWidths},
    sam2::{Sam2Config, TrackerConfig},
};

/// Sizes and switches of [`Sam2Love`](super::Sam2Love).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoveConfig {
    /// SAM 2 and how it is prompted.
    pub sam2: Sam2Section,
    /// The three encoders.
    pub encoders: EncodersConfig,
    /// The fusion.
    pub fusion: FusionConfig,
}

/// SAM 2 and how it is prompted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sam2Section {
    /// Prompted frame: the best of three masks by predicted IoU instead of the single one.
    pub multimask: bool,
    /// An object score of 0 or less empties a frame's mask.
    pub object_gate: bool,
    /// The prompted frame's score decides for all frames whether the clip shows what is referred to: see
    /// [`clip_gate_threshold`](Self::clip_gate_threshold).
    #[serde(default)]
    pub clip_gate: bool,
    /// With `clip_gate`, the probability of the object on the prompted frame (sigmoid of its score) up to which all masks
    /// are empty; between 0 and 1.
    #[serde(default = "half")]
    pub clip_gate_threshold: f64,
    /// Sizes and flags of SAM 2.
    pub model: Sam2Config,
}

/// Sizes of the encoders.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodersConfig {
    /// VGGish.
    pub audio: VggishConfig,
    /// ViT or CLIP.
    pub vision: VisionConfig,
    /// RoBERTa or CLIP.
    pub text: TextConfig,
}

fn half() -> f64 {
    0.5
}

impl LoveConfig {
    /// The embedded default: small numbers everywhere.
    pub fn nano() -> Self {
        Self {
            sam2: Sam2Section {
                multimask: false,
                object_gate: true,
                clip_gate: false,
                clip_gate_threshold: half(),
                model: Sam2Config::nano(),
            },
            encoders: EncodersConfig {
                audio: VggishConfig::nano(),
                vision: VisionConfig::nano(),
                text: TextConfig::nano(),
            },
            fusion: FusionConfig::nano(),
        }
    }

    /// Widths that the fusion connects.
    pub fn fusion_widths(&self) -> FusionInputWidths {
        FusionInputWidths {
            audio: self.encoders.audio.embedding,
            text: self.encoders.text.width,
            vision: self.encoders.vision.width,
            prompt: self.sam2.model.model_width,
        }
    }

    /// How a clip of `frames` frames is tracked.
    pub fn tracker(&self, frames: Option<usize>) -> TrackerConfig {
        TrackerConfig::new()
            .with_prompted_multimask(self.sam2.multimask)
            .with_prompted_object_gate(self.sam2.object_gate)
            .with_tracked_object_gate(self.sam2.object_gate)
            .with_frames(frames)
    }
}
