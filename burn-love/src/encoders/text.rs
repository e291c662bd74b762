//! The text encoder that a config names.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::{ClipText, Roberta, TextEncoder, TokenBatch, roberta::RESERVED_POSITIONS};

/// Architecture of a text encoder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextKind {
    /// [`Roberta`]
    #[default]
    Roberta,
    /// [`ClipText`]
    Clip,
}

/// Architecture and sizes of a text encoder.
///
/// All architectures have the same keys, so that a config can change one by one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Architecture.
    #[serde(default)]
    pub kind: TextKind,
    /// Token ids known.
    pub vocabulary: usize,
    /// Tokens an expression is padded or truncated to.
    pub max_tokens: usize,
    /// Positions with an embedding; RoBERTa keeps two for itself.
    pub positions: usize,
    /// Width D.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the MLP's hidden layer.
    pub mlp_width: usize,
}

impl TextConfig {
    /// Names of all presets.
    pub const PRESETS: [&str; 4] = ["nano", "distilroberta", "clip-nano", "clip-vit-b-16"];

    /// The sizes called `name`.
    pub fn preset(name: &str) -> Option<Self> {
        match name {
            "nano" => Some(Self::nano()),
            "distilroberta" => Some(Self::distilroberta()),
            "clip-nano" => Some(Self {
                kind: TextKind::Clip,
                ..Self::nano()
            }),
            "clip-vit-b-16" => Some(Self::clip_base_16()),
            _ => None,
        }
    }

    /// distilroberta-base with the paper's 25 tokens.
    pub fn distilroberta() -> Self {
        Self {
            kind: TextKind::Roberta,
            vocabulary: 50265,
            max_tokens: 25,
            positions: 514,
            width: 768,
            layers: 6,
            heads: 12,
            mlp_width: 3072,
        }
    }

    /// The text tower of clip-vit-base-patch16 with the paper's 25 tokens.
    pub fn clip_base_16() -> Self {
        Self {
            kind: TextKind::Clip,
            vocabulary: 49408,
            max_tokens: 25,
            positions: 77,
            width: 512,
            layers: 12,
            heads: 8,
            mlp_width: 2048,
        }
    }

    /// The embedded default: two layers of width 96 on a vocabulary of at most 512.
    pub fn nano() -> Self {
        Self {
            kind: TextKind::Roberta,
            vocabulary: 512,
            max_tokens: 25,
            positions: 34,
            width: 96,
            layers: 2,
            heads: 3,
            mlp_width: 384,
        }
    }

    /// Tokens of the longest text that the positions allow.
    pub fn longest(&self) -> usize {
        match self.kind {
            TextKind::Roberta => self.positions.saturating_sub(RESERVED_POSITIONS),
            TextKind::Clip => self.positions,
        }
    }

    /// Builds the encoder with fresh weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> TextTower<B> {
        match self.kind {
            TextKind::Roberta => TextTower::Roberta(Roberta::new(self, device)),
            TextKind::Clip => TextTower::Clip(ClipText::new(self, device)),
        }
    }
}

/// A text encoder. See the [module docs](self).
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one lives at a time")]
pub enum TextTower<B: Backend> {
    /// RoBERTa.
    Roberta(Roberta<B>),
    /// CLIP's text tower.
    Clip(ClipText<B>),
}

impl<B: Backend> TextEncoder<B> for TextTower<B> {
    fn encode_text(&self, tokens: TokenBatch<B>) -> Tensor<B, 3> {
        match self {
            Self::Roberta(roberta) => roberta.encode_text(tokens),
            Self::Clip(clip) => clip.encode_text(tokens),
        }
    }
}
