//! Memory attention: a frame's embedding attends to itself, then to the memories of other frames.
//!
//! SAM 2, `memory_attention.py`. Checkpoint keys: `memory_attention.*`. Spatial memories are turned by rotary
//! position encoding; object pointers, which come last, are not.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    prelude::*,
    tensor::activation::relu,
};

use super::{
    attention::{Attention, AttentionConfig, AttentionInput},
    rope::RotaryTable,
};
use crate::ops::{LayerNorm, LayerNormConfig, in_pieces, linear};

/// Sizes of a [`MemoryAttention`].
#[derive(Config, Debug, PartialEq)]
pub struct MemoryAttentionConfig {
    /// Number of layers.
    #[config(default = 4)]
    pub layers: usize,
    /// Attention heads.
    #[config(default = 1)]
    pub heads: usize,
    /// Hidden width of the feed-forward part.
    #[config(default = 2048)]
    pub feedforward: usize,
    /// Base of the rotary encoding's wavelengths.
    #[config(default = 10000.0)]
    pub rope_theta: f64,
    /// Share of the frame's position encoding that is added to its embedding.
    #[config(default = 0.1)]
    pub input_position: f64,
}

/// The layers and a last norm. See the [module docs](self).
#[derive(Module, Debug)]
pub struct MemoryAttention<B: Backend> {
    /// The layers.
    pub layers: Vec<MemoryAttentionLayer<B>>,
    /// Norm of the output.
    pub norm: LayerNorm<B>,
    /// Share of the frame's position encoding that is added to its embedding.
    pub input_position: f64,
}

/// One layer.
#[derive(Module, Debug)]
pub struct MemoryAttentionLayer<B: Backend> {
    /// Attention within the frame.
    pub self_attn: Attention<B>,
    /// Attention to the memories.
    pub cross_attn_image: Attention<B>,
    /// Feed-forward part, first half.
    pub linear1: Linear<B>,
    /// Feed-forward part, second half.
    pub linear2: Linear<B>,
    /// Norm before the attention within the frame.
    pub norm1: LayerNorm<B>,
    /// Norm before the attention to the memories.
    pub norm2: LayerNorm<B>,
    /// Norm before the feed-forward part.
    pub norm3: LayerNorm<B>,
}

/// Memories of other frames: `S` spatial rows, a multiple of the frame's cells, then `P` rows of pointers.
#[derive(Clone, Debug)]
pub struct Memories<B: Backend> {
    /// Values, `[B, S + P, C]`.
    pub rows: Tensor<B, 3>,
    /// Position encoding, `[B or 1, S + P, C]`; it is added to the keys only.
    pub position: Tensor<B, 3>,
    /// `S`.
    pub spatial_rows: usize,
}

impl MemoryAttentionConfig {
    /// Builds the layers with fresh weights, from memories of `memory_width` to embeddings of `width`.
    pub fn init<B: Backend>(
        &self,
        width: usize,
        memory_width: usize,
        device: &B::Device,
    ) -> MemoryAttention<B> {
        let norm = || LayerNormConfig::new(width).with_epsilon(1e-5).init(device);
        let attention = AttentionConfig::new(width, self.heads);
        MemoryAttention {
            layers: (0..self.layers)
                .map(|_| MemoryAttentionLayer {
                    self_attn: attention.init(device),
                    cross_attn_image: attention
                        .clone()
                        .with_memory_width(Some(memory_width))
                        .init(device),
                    linear1: LinearConfig::new(width, self.feedforward).init(device),
                    linear2: LinearConfig::new(self.feedforward, width).init(device),
                    norm1: norm(),
                    norm2: norm(),
                    norm3: norm(),
                })
                .collect(),
            norm: norm(),
            input_position: self.input_position,
        }
    }

    /// The rotary table that [`MemoryAttention::forward`] needs for a grid of `size`.
    pub fn rotary_table<B: Backend>(
        &self,
        width: usize,
        size: [usize; 2],
        device: &B::Device,
    ) -> RotaryTable<B> {
        RotaryTable::new(width / self.heads, size, self.rope_theta, device)
    }
}

impl<B: Backend> MemoryAttention<B> {
    /// Conditions a frame on memories.
    ///
    /// # Shapes
    /// - `frame`, output: `[B, H·W, D]`
    /// - `position`: `[1, H·W, D]`, sine encoding of the frame's cells
    /// - `memories`: see [`Memories`]
    /// - `rotary`: of the frame's grid
    pub fn forward(
        &self,
        frame: Tensor<B, 3>,
        position: Tensor<B, 3>,
        memories: Memories<B>,
        rotary: &RotaryTable<B>,
    ) -> Tensor<B, 3> {
        let keys = memories.rows.clone() + memories.position;
        let mut x = frame + position * self.input_position;
        for layer in &self.layers {
            let memory = (keys.clone(), memories.rows.clone());
            x = layer.forward(x, memory, memories.spatial_rows, rotary);
        }
        self.norm.forward(x)
    }
}

impl<B: Backend> MemoryAttentionLayer<B> {
    /// Runs the layer; `memory` holds keys and values.
    fn forward(
        &self,
        x: Tensor<B, 3>,
        memory: (Tensor<B, 3>, Tensor<B, 3>),
        spatial_rows: usize,
        rotary: &RotaryTable<B>,
    ) -> Tensor<B, 3> {
        let normed = self.norm1.forward(x.clone());
        let cells = x.dims()[1];
        let own = AttentionInput {
            query: normed.clone(),
            key: normed.clone(),
            value: normed,
        };
        let x = x + self.self_attn.forward_rotary(own, rotary, cells);

        let (key, value) = memory;
        let query = self.norm2.forward(x.clone());
        let update =
            self.cross_attn_image
                .forward_rotary(AttentionInput { query, key, value }, rotary, spatial_rows);
        let x = x + update;

        let [batch, cells, width] = x.dims();
        let [_, widest] = self.linear1.weight.dims();
        let rows = self.norm3.forward(x.clone()).reshape([batch * cells, width]);
        let update = in_pieces(rows, widest, |x| {
            linear(&self.linear2, relu(linear(&self.linear1, x)))
        });
        x + update.reshape([batch, cells, width])
    }
}
