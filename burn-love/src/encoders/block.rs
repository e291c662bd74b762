//! The transformer block that ViT and CLIP (pre-norm) and RoBERTa (post-norm) share.
//!
//! Hugging Face, `modeling_vit.py: ViTLayer`, `modeling_clip.py: CLIPEncoderLayer` and `modeling_roberta.py:
//! RobertaLayer`. The files name the same parts differently; the key tables of [`crate::weights`] say how.

use std::ops::Range;

use burn::{
    nn::{Dropout, DropoutConfig, Linear, LinearConfig},
    prelude::*,
};

use crate::ops::{self, LayerNorm, LayerNormConfig, in_pieces};

/// Sizes of an [`EncoderBlock`].
#[derive(Config, Debug)]
pub struct EncoderBlockConfig {
    /// Width D.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the MLP's hidden layer.
    pub mlp_width: usize,
    /// Added to the norms' variances.
    pub epsilon: f64,
    /// Norm before each branch (ViT, CLIP) instead of after each sum (RoBERTa).
    pub pre_norm: bool,
    /// CLIP's approximation of GELU instead of the exact one.
    #[config(default = false)]
    pub quick_gelu: bool,
    /// No position attends to later ones.
    #[config(default = false)]
    pub causal: bool,
    /// Probability that a value of a branch is dropped in training.
    #[config(default = 0.0)]
    pub dropout: f64,
}

/// Self-attention and an MLP, each with a residual. See the [module docs](self).
#[derive(Module, Debug)]
pub struct EncoderBlock<B: Backend> {
    /// Queries, `D → D`.
    pub query: Linear<B>,
    /// Keys, `D → D`.
    pub key: Linear<B>,
    /// Values, `D → D`.
    pub value: Linear<B>,
    /// Output of the attention, `D → D`.
    pub attention_output: Linear<B>,
    /// Norm of the attention branch.
    pub attention_norm: LayerNorm<B>,
    /// Expansion of the MLP.
    pub intermediate: Linear<B>,
    /// Contraction of the MLP.
    pub output: Linear<B>,
    /// Norm of the MLP branch.
    pub output_norm: LayerNorm<B>,
    /// Applied to each branch, under autodiff only.
    pub dropout: Dropout,
    /// Attention heads.
    pub heads: usize,
    /// Norm before each branch instead of after each sum.
    pub pre_norm: bool,
    /// CLIP's approximation of GELU instead of the exact one.
    pub quick_gelu: bool,
    /// No position attends to later ones.
    pub causal: bool,
}

impl EncoderBlockConfig {
    /// Builds the block with fresh weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> EncoderBlock<B> {
        let d = self.width;
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let norm = || LayerNormConfig::new(d).with_epsilon(self.epsilon).init(device);
        EncoderBlock {
            query: linear(d, d),
            key: linear(d, d),
            value: linear(d, d),
            attention_output: linear(d, d),
            attention_norm: norm(),
            intermediate: linear(d, self.mlp_width),
            output: linear(self.mlp_width, d),
            output_norm: norm(),
            dropout: DropoutConfig::new(self.dropout).init(),
            heads: self.heads,
            pre_norm: self.pre_norm,
            quick_gelu: self.quick_gelu,
            causal: self.causal,
        }
    }
}

impl<B: Backend> EncoderBlock<B> {
    /// Refines each position in the context of all, or of those up to itself.
    ///
    /// # Shapes
    /// - `x`, output: `[B, L, D]`
    /// - `padding`: `[B, L]`, true at positions to ignore
    pub fn forward(&self, x: Tensor<B, 3>, padding: Option<Tensor<B, 2, Bool>>) -> Tensor<B, 3> {
        self.refine(x, padding, |x| x)
    }

    /// What [`forward`](Self::forward) gives at some positions, in the order of `rows`: the others are only attended to.
    ///
    /// # Shapes
    /// - `x`: `[B, L, D]`; output: `[B, R, D]` with as many positions as `rows` hold
    /// - `padding`: `[B, L]`, true at positions to ignore
    ///
    /// # Panics
    /// If the block is causal, or there are no rows.
    pub fn forward_rows(
        &self,
        x: Tensor<B, 3>,
        padding: Option<Tensor<B, 2, Bool>>,
        rows: &[Range<usize>],
    ) -> Tensor<B, 3> {
        assert!(
            !self.causal,
            "a causal block knows positions by their place among all"
        );
        self.refine(x, padding, |x| take_rows(x, rows))
    }

    /// Refines the positions that `asked` takes out of all of them.
    fn refine(
        &self,
        x: Tensor<B, 3>,
        padding: Option<Tensor<B, 2, Bool>>,
        asked: impl Fn(Tensor<B, 3>) -> Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        if self.pre_norm {
            let normed = self.attention_norm.forward(x.clone());
            let x = asked(x) + self.attention(asked(normed.clone()), normed, padding);
            x.clone() + self.mlp(self.output_norm.forward(x))
        } else {
            let asked = asked(x.clone());
            let x = asked.clone() + self.attention(asked, x, padding);
            let x = self.attention_norm.forward(x);
            self.output_norm.forward(x.clone() + self.mlp(x))
        }
    }

    /// Lets the positions `asked`, `[B, R, D]`, attend to `all`, `[B, L, D]`.
    fn attention(
        &self,
        asked: Tensor<B, 3>,
        all: Tensor<B, 3>,
        padding: Option<Tensor<B, 2, Bool>>,
    ) -> Tensor<B, 3> {
        let [b, r, d] = asked.dims();
        // [B, heads, ·, D/heads]
        let split = |x: Tensor<B, 3>| {
            let [_, l, _] = x.dims();
            x.reshape([b, l, self.heads, d / self.heads]).swap_dims(1, 2)
        };
        let query = split(ops::linear(&self.query, asked));
        let key = split(ops::linear(&self.key, all.clone()));
        let value = split(ops::linear(&self.value, all));
        let attention = if self.causal {
            ops::causal_attention
        } else {
            ops::attention
        };
        let x = attention(query, key, value, padding);
        ops::linear(&self.attention_output, x.swap_dims(1, 2).reshape([b, r, d]))
    }

    fn mlp(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [b, l, d] = x.dims();
        let [_, widest] = self.intermediate.weight.dims();
        let update = in_pieces(x.reshape([b * l, d]), widest, |x| {
            let hidden = if self.quick_gelu {
                ops::quick_gelu(ops::linear(&self.intermediate, x))
            } else {
                ops::linear_gelu(&self.intermediate, x)
            };
            ops::linear(&self.output, hidden)
        });
        self.dropout.forward(update.reshape([b, l, d]))
    }
}

/// The positions `rows` of `x`, `[B, L, D]` → `[B, R, D]`.
pub(crate) fn take_rows<B: Backend>(x: Tensor<B, 3>, rows: &[Range<usize>]) -> Tensor<B, 3> {
    let part = |rows: &Range<usize>| x.clone().narrow(1, rows.start, rows.len());
    Tensor::cat(rows.iter().map(part).collect(), 1)
}
