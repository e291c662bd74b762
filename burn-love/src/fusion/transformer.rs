//! The fusion transformer (Eq. 2): pre-norm blocks of full self-attention, without positions.

use burn::prelude::*;

use super::FusionConfig;
use crate::{
    encoders::{EncoderBlock, EncoderBlockConfig},
    ops::{LayerNorm, LayerNormConfig},
};

/// Blocks on one sequence of tokens of all modalities. See the [module docs](self).
#[derive(Module, Debug)]
pub struct FusionTransformer<B: Backend> {
    /// The blocks.
    pub layers: Vec<EncoderBlock<B>>,
    /// Norm behind the last block, where configured.
    pub norm: Option<LayerNorm<B>>,
}

impl<B: Backend> FusionTransformer<B> {
    /// Added to the norms' variances.
    const EPSILON: f64 = 1e-5;

    /// Builds the transformer with fresh weights.
    pub fn new(config: &FusionConfig, device: &B::Device) -> Self {
        let d = config.width;
        let block = EncoderBlockConfig::new(d, config.heads, config.mlp_ratio * d, Self::EPSILON, true)
            .with_dropout(config.dropout);
        Self {
            layers: (0..config.layers).map(|_| block.init(device)).collect(),
            norm: config
                .final_norm
                .then(|| LayerNormConfig::new(d).with_epsilon(Self::EPSILON).init(device)),
        }
    }

    /// Lets every token attend to every other.
    ///
    /// # Shapes
    /// - `tokens`, output: `[B, L, D]`
    /// - `padding`: `[B, L]`, true at tokens to ignore
    pub fn forward(&self, tokens: Tensor<B, 3>, padding: Tensor<B, 2, Bool>) -> Tensor<B, 3> {
        let x = self
            .layers
            .iter()
            .fold(tokens, |x, layer| layer.forward(x, Some(padding.clone())));
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }
}
