//! The three encoders, behind traits so that other implementations can take their place.
//!
//! - audio: [`Vggish`] on log-mel examples
//! - vision: [`VisionTower`], a [`Vit`] or a [`ClipVision`], on one image per frame
//! - text: [`TextTower`], a [`Roberta`] or a [`ClipText`], on token ids

mod block;
mod clip_text;
mod clip_vision;
mod roberta;
mod text;
mod vggish;
mod vision;
mod vit;

use burn::prelude::*;

pub(crate) use block::take_rows;
pub use block::{EncoderBlock, EncoderBlockConfig};
pub use clip_text::{ClipText, ClipTextEmbeddings};
pub use clip_vision::{ClipVision, ClipVisionEmbeddings};
pub use roberta::{Roberta, RobertaEmbeddings};
pub use text::{TextConfig, TextKind, TextTower};
pub use vggish::{PostProcessor, Vggish, VggishConfig};
pub use vision::{VisionConfig, VisionKind, VisionTower};
pub use vit::{Vit, VitEmbeddings};

/// An encoder of log-mel examples.
pub trait AudioEncoder<B: Backend> {
    /// Embeds each example on its own.
    ///
    /// # Shapes
    /// - `log_mel`: `[N, frames, bands]` (VGGish: 96 frames of 10 ms, 64 bands)
    /// - output: `[N, D]`
    fn encode_audio(&self, log_mel: Tensor<B, 3>) -> Tensor<B, 2>;
}

/// An encoder of images.
pub trait VisionEncoder<B: Backend> {
    /// Embeds each image as patches and as a whole.
    ///
    /// # Shapes
    /// - `pixels`: `[N, 3, H, W]`, normalised
    fn encode_image(&self, pixels: Tensor<B, 4>) -> VisionFeatures<B>;
}

/// An encoder of tokens.
pub trait TextEncoder<B: Backend> {
    /// Embeds each token in its context.
    ///
    /// # Shapes
    /// - output: `[B, L, D]`
    fn encode_text(&self, tokens: TokenBatch<B>) -> Tensor<B, 3>;
}

/// What a [`VisionEncoder`] says of N images.
#[derive(Debug, Clone)]
pub struct VisionFeatures<B: Backend> {
    /// One feature per patch, row by row, `[N, P, D]`.
    pub patches: Tensor<B, 3>,
    /// One feature per image, `[N, D]`.
    pub cls: Tensor<B, 2>,
}

impl<B: Backend> VisionFeatures<B> {
    /// The features in a hidden state whose first token stands for the image, `[N, 1 + P, D]`.
    pub fn from_hidden(hidden: Tensor<B, 3>) -> Self {
        let [_, l, _] = hidden.dims();
        Self {
            patches: hidden.clone().narrow(1, 1, l - 1),
            cls: hidden.narrow(1, 0, 1).squeeze_dim(1),
        }
    }

    /// The hidden state, `[N, 1 + P, D]`.
    pub fn hidden(self) -> Tensor<B, 3> {
        Tensor::cat(vec![self.cls.unsqueeze_dim(1), self.patches], 1)
    }
}

/// Token ids, padded to one length.
#[derive(Debug, Clone)]
pub struct TokenBatch<B: Backend> {
    /// Ids, `[B, L]`.
    pub input_ids: Tensor<B, 2, Int>,
    /// True where a position is padding, `[B, L]`.
    pub padding: Tensor<B, 2, Bool>,
}
