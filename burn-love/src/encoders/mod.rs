//! The three encoders, behind traits so that other implementations can take their place.
//!
//! - audio: [`Vggish`] on log-mel examples
//! - vision: [`Vit`] on one image per frame
//! - text: [`Roberta`] on token ids

mod block;
mod roberta;
mod vggish;
mod vit;

use burn::prelude::*;

pub use block::{EncoderBlock, EncoderBlockConfig};
pub use roberta::{Roberta, RobertaConfig};
pub use vggish::{Vggish, VggishConfig};
pub use vit::{Vit, VitConfig};

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

/// Token ids, padded to one length.
#[derive(Debug, Clone)]
pub struct TokenBatch<B: Backend> {
    /// Ids, `[B, L]`.
    pub input_ids: Tensor<B, 2, Int>,
    /// True where a position is padding, `[B, L]`.
    pub padding: Tensor<B, 2, Bool>,
}
