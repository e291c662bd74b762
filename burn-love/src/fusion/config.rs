//! Everything about the fusion that the paper fixes, varies in a table, or leaves open.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

/// How the frames become one prompt (Table 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// A learnable `[seg]` token visits the frames one after the other.
    Learnable,
    /// All frames in one sequence; the mean over its outputs.
    Mean,
}

/// Which frames `[his]` holds at frame i.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// The frames before i (the paper's text).
    Previous,
    /// The frames up to and including i (Eq. 4).
    Inclusive,
}

/// Whether audio features know their second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudioPositions {
    /// An unordered set, as in the paper.
    None,
    /// A learned vector per example, of those that are fused, for "first" and "last".
    Learned,
}

/// Sizes and switches of [`super::Fusion`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FusionConfig {
    /// Width D of the tokens.
    pub width: usize,
    /// Width of the projections' hidden layer.
    pub projection_width: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the MLPs' hidden layer, in multiples of D.
    pub mlp_ratio: usize,
    /// Probability that a value of a residual branch is dropped in training.
    pub dropout: f64,
    /// A norm behind the last block.
    pub final_norm: bool,
    /// `[seg]` tokens; the first one prompts SAM 2.
    pub seg_tokens: usize,
    /// How the frames become one prompt.
    pub strategy: Strategy,
    /// Token accumulation: `[his]` at the end of the sequence.
    pub accumulation: bool,
    /// Which frames `[his]` holds.
    pub history: History,
    /// Whether audio features know their second.
    pub audio_positions: AudioPositions,
    /// The most frames of a clip that are fused, and as many audio features: the first one and others at even distances;
    /// 0 for all. Each frame meets all audio features and all frames before it, so without a limit the cost of a long
    /// video would grow with the square of its length and more. The paper's clips have ten.
    #[serde(default = "FusionConfig::max_frames")]
    pub max_frames: usize,
}

impl FusionConfig {
    /// Examples that learned audio positions can tell apart.
    pub const MAX_AUDIO: usize = 64;

    fn max_frames() -> usize {
        Self::MAX_AUDIO
    }

    /// Which frames of a clip, or features of its sound, are fused.
    pub fn fused(&self, count: usize) -> Vec<usize> {
        fused(self.max_frames, count)
    }

    /// The same on a device, if not all of them are.
    pub(crate) fn chosen<B: Backend>(&self, count: usize, device: &B::Device) -> Option<Tensor<B, 1, Int>> {
        chosen(self.max_frames, count, device)
    }

    /// The paper's fusion.
    pub fn paper() -> Self {
        Self {
            width: 1024,
            projection_width: 2048,
            layers: 6,
            heads: 8,
            mlp_ratio: 4,
            dropout: 0.0,
            final_norm: false,
            seg_tokens: 1,
            strategy: Strategy::Learnable,
            accumulation: true,
            history: History::Previous,
            audio_positions: AudioPositions::None,
            max_frames: Self::max_frames(),
        }
    }

    /// The embedded default: 128 wide, two layers, four heads.
    pub fn nano() -> Self {
        Self {
            width: 128,
            projection_width: 256,
            layers: 2,
            heads: 4,
            ..Self::paper()
        }
    }
}

/// At most `limit` of `count`, at even distances from the first one on; all if there is no limit.
pub(super) fn fused(limit: usize, count: usize) -> Vec<usize> {
    if limit == 0 || count <= limit {
        return (0..count).collect();
    }
    (0..limit).map(|i| i * count / limit).collect()
}

/// [`fused`] on a device, if not all of them are.
pub(super) fn chosen<B: Backend>(
    limit: usize,
    count: usize,
    device: &B::Device,
) -> Option<Tensor<B, 1, Int>> {
    let chosen = fused(limit, count);
    (chosen.len() < count).then(|| {
        let chosen: Vec<i64> = chosen.into_iter().map(|i| i as i64).collect();
        Tensor::from_data(chosen.as_slice(), device)
    })
}

/// Widths of what the fusion takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FusionInputWidths {
    /// Audio features.
    pub audio: usize,
    /// Text features.
    pub text: usize,
    /// Vision features.
    pub vision: usize,
    /// SAM 2's prompt tokens.
    pub prompt: usize,
}
