//! Multi-head attention with separate projections, optionally narrower inside, optionally with rotary
//! position encoding.
//!
//! SAM 2, `sam/transformer.py: Attention, RoPEAttention`. Checkpoint keys: `*.{q,k,v,out}_proj.*`.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    prelude::*,
};

use super::rope::RotaryTable;
use crate::ops::{attention, linear};

/// Sizes of an [`Attention`].
#[derive(Config, Debug)]
pub struct AttentionConfig {
    /// Width of queries in and of the output.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width inside is `width / downsample`.
    #[config(default = 1)]
    pub downsample: usize,
    /// Width of keys and values in; `width` if absent.
    pub memory_width: Option<usize>,
}

/// Attention layer. See the [module docs](self).
#[derive(Module, Debug)]
pub struct Attention<B: Backend> {
    /// Projection of the queries.
    pub q_proj: Linear<B>,
    /// Projection of the keys.
    pub k_proj: Linear<B>,
    /// Projection of the values.
    pub v_proj: Linear<B>,
    /// Projection of the result.
    pub out_proj: Linear<B>,
    /// Attention heads.
    pub heads: usize,
}

/// What an [`Attention`] reads.
#[derive(Clone, Debug)]
pub struct AttentionInput<B: Backend> {
    /// Queries, `[B, Lq, D]`.
    pub query: Tensor<B, 3>,
    /// Keys, `[B, Lk, D_memory]`.
    pub key: Tensor<B, 3>,
    /// Values, `[B, Lk, D_memory]`.
    pub value: Tensor<B, 3>,
}

impl AttentionConfig {
    /// Builds the layer with fresh weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Attention<B> {
        let inside = self.width / self.downsample;
        assert_eq!(inside % self.heads, 0, "the heads divide the inner width");
        let memory = self.memory_width.unwrap_or(self.width);
        Attention {
            q_proj: LinearConfig::new(self.width, inside).init(device),
            k_proj: LinearConfig::new(memory, inside).init(device),
            v_proj: LinearConfig::new(memory, inside).init(device),
            out_proj: LinearConfig::new(inside, self.width).init(device),
            heads: self.heads,
        }
    }
}

impl<B: Backend> Attention<B> {
    /// Attends from every query to all keys.
    ///
    /// # Shapes
    /// - output: `[B, Lq, D]`
    pub fn forward(&self, input: AttentionInput<B>) -> Tensor<B, 3> {
        let q = self.split_heads(linear(&self.q_proj, input.query));
        let k = self.split_heads(linear(&self.k_proj, input.key));
        let v = self.split_heads(linear(&self.v_proj, input.value));
        self.merge_heads(attention(q, k, v, None))
    }

    /// Attends with rotary position encoding of queries and of the first `rotated_keys` keys.
    ///
    /// # Shapes
    /// - `rotary`: for `Lq` positions; `rotated_keys` is a multiple of `Lq`
    /// - output: `[B, Lq, D]`
    pub fn forward_rotary(
        &self,
        input: AttentionInput<B>,
        rotary: &RotaryTable<B>,
        rotated_keys: usize,
    ) -> Tensor<B, 3> {
        let q = self.split_heads(linear(&self.q_proj, input.query));
        let k = self.split_heads(linear(&self.k_proj, input.key));
        let v = self.split_heads(linear(&self.v_proj, input.value));
        let length = q.dims()[2];
        let (q, k) = (rotary.rotate(q, length), rotary.rotate(k, rotated_keys));
        self.merge_heads(attention(q, k, v, None))
    }

    fn split_heads(&self, x: Tensor<B, 3>) -> Tensor<B, 4> {
        let [b, length, width] = x.dims();
        if self.heads == 1 {
            return x.reshape([b, 1, length, width]);
        }
        x.reshape([b, length, self.heads, width / self.heads])
            .swap_dims(1, 2) // [B, heads, L, D/heads]
    }

    fn merge_heads(&self, x: Tensor<B, 4>) -> Tensor<B, 3> {
        let [b, heads, length, head] = x.dims();
        linear(
            &self.out_proj,
            x.swap_dims(1, 2).reshape([b, length, heads * head]),
        )
    }
}
