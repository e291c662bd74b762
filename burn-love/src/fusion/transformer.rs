//! The fusion transformer (Eq. 2): pre-norm blocks of full self-attention, without positions.

use std::ops::Range;

use burn::prelude::*;

use super::FusionConfig;
use crate::{
    encoders::{EncoderBlock, EncoderBlockConfig, take_rows},
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
        let x = through(&self.layers, tokens, &padding);
        self.normed(x)
    }

    /// What [`forward`](Self::forward) gives at some tokens, in the order of `rows`. The last block does what these need
    /// and no more: of the paper's six blocks a seventh of the work is left out where `[seg]` alone is asked for.
    ///
    /// # Shapes
    /// - `tokens`: `[B, L, D]`; output: `[B, R, D]` with as many tokens as `rows` hold
    /// - `padding`: `[B, L]`, true at tokens to ignore
    ///
    /// # Panics
    /// If there are no rows.
    pub fn forward_rows(
        &self,
        tokens: Tensor<B, 3>,
        padding: Tensor<B, 2, Bool>,
        rows: &[Range<usize>],
    ) -> Tensor<B, 3> {
        let x = match self.layers.split_last() {
            Some((last, layers)) => {
                let x = through(layers, tokens, &padding);
                last.forward_rows(x, Some(padding), rows)
            }
            None => take_rows(tokens, rows),
        };
        self.normed(x)
    }

    fn normed(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }
}

fn through<B: Backend>(
    layers: &[EncoderBlock<B>],
    tokens: Tensor<B, 3>,
    padding: &Tensor<B, 2, Bool>,
) -> Tensor<B, 3> {
    layers
        .iter()
        .fold(tokens, |x, layer| layer.forward(x, Some(padding.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, Tolerance};
    type B = burn_flex::Flex;

    #[test]
    fn rows_are_those_of_the_whole_sequence() {
        let device = Default::default();
        for (layers, final_norm) in [(0, false), (1, true), (3, false)] {
            let config = FusionConfig {
                width: 16,
                heads: 2,
                layers,
                final_norm,
                ..FusionConfig::nano()
            };
            let transformer = FusionTransformer::<B>::new(&config, &device);
            let tokens = Tensor::random([2, 7, 16], Distribution::Normal(0.0, 1.0), &device);
            let padding = Tensor::<B, 2>::zeros([2, 7], &device).bool();
            let padding = padding.slice_fill([1..2, 2..4], true);
            let all = transformer.forward(tokens.clone(), padding.clone());
            let some = transformer.forward_rows(tokens, padding, &[4..6, 0..1]);
            let expected = Tensor::cat(vec![all.clone().narrow(1, 4, 2), all.narrow(1, 0, 1)], 1);
            some.into_data()
                .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-5));
        }
    }
}
