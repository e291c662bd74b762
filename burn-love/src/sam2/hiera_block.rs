//! One block of Hiera: windowed or global attention, with query pooling where a stage begins.
//!
//! SAM 2, `backbones/hieradet.py: MultiScaleBlock, MultiScaleAttention` and `backbones/utils.py`.
//! Checkpoint keys: `image_encoder.trunk.blocks.{i}.*`.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    prelude::*,
};

use super::mlp::{Activation, Mlp, MlpConfig};
use crate::ops::{
    LayerNorm, LayerNormConfig, attention, contiguous, in_bands, in_pieces, linear, linear_in_parts,
    max_pool_channels_last, permute,
};

/// Sizes of a [`HieraBlock`].
#[derive(Config, Debug)]
pub struct HieraBlockConfig {
    /// Channels in.
    pub width: usize,
    /// Channels out; they differ from `width` where a stage begins.
    pub width_out: usize,
    /// Attention heads.
    pub heads: usize,
    /// Side of the attention windows in tokens; 0 attends globally.
    #[config(default = 0)]
    pub window: usize,
    /// Stride of the pooling of queries and shortcut; 1 pools nothing.
    #[config(default = 1)]
    pub pool: usize,
    /// Hidden width of the MLP as a multiple of `width_out`.
    #[config(default = 4.0)]
    pub mlp_ratio: f64,
}

/// Attention over one grid or over many windows at once, with optional query pooling.
#[derive(Module, Debug)]
pub struct HieraAttention<B: Backend> {
    /// Joint projection to queries, keys and values.
    pub qkv: Linear<B>,
    /// Output projection.
    pub proj: Linear<B>,
    /// Attention heads.
    pub heads: usize,
    /// Stride of the query pooling.
    pub pool: usize,
}

/// One block. See the [module docs](self).
#[derive(Module, Debug)]
pub struct HieraBlock<B: Backend> {
    /// Norm before attention.
    pub norm1: LayerNorm<B>,
    /// Attention.
    pub attn: HieraAttention<B>,
    /// Norm before the MLP.
    pub norm2: LayerNorm<B>,
    /// Feed-forward part.
    pub mlp: Mlp<B>,
    /// Projection of the shortcut where the width changes.
    pub proj: Option<Linear<B>>,
    /// Side of the attention windows in tokens; 0 attends globally.
    pub window: usize,
}

impl HieraBlockConfig {
    /// Builds the block with fresh weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> HieraBlock<B> {
        let (width, out) = (self.width, self.width_out);
        let norm = |width| LayerNormConfig::new(width).with_epsilon(1e-6).init(device);
        HieraBlock {
            norm1: norm(width),
            attn: HieraAttention {
                qkv: LinearConfig::new(width, 3 * out).init(device),
                proj: LinearConfig::new(out, out).init(device),
                heads: self.heads,
                pool: self.pool,
            },
            norm2: norm(out),
            mlp: MlpConfig::new(out, (out as f64 * self.mlp_ratio) as usize, out, 2)
                .with_activation(Activation::Gelu)
                .init(device),
            proj: (width != out).then(|| LinearConfig::new(width, out).init(device)),
            window: self.window,
        }
    }
}

impl<B: Backend> HieraAttention<B> {
    /// Attends within each of `N` grids; in pieces of them where the joint projection of all would be too large a buffer.
    ///
    /// # Shapes
    /// - `x`: `[N, H, W, C]`
    /// - output: `[N, H / pool, W / pool, C_out]`
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [_, h, w, _] = x.dims();
        let [_, joint] = self.qkv.weight.dims();
        in_pieces(x, h * w * joint, |x| self.attend(x))
    }

    fn attend(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [n, h, w, _] = x.dims();
        let [_, joint] = self.qkv.weight.dims();
        let (width, length) = (joint / 3, h * w);
        let head = width / self.heads;
        let split = |x: Tensor<B, 4>, length| {
            x.reshape([n, length, self.heads, head]).swap_dims(1, 2) // [N, heads, length, head]
        };
        let pooled = |q: Tensor<B, 4>| {
            let q = max_pool_channels_last(q, self.pool);
            let [_, h, w, _] = q.dims();
            (split(q, h * w), [h, w])
        };
        let (q, k, v, [h, w]) = if B::ad_enabled(&x.device()) {
            let [q, k, v] = linear_in_parts(&self.qkv, &x); // [N, H, W, C_out]
            let (q, size) = if self.pool == 1 {
                (split(q, length), [h, w])
            } else {
                pooled(q)
            };
            (q, split(k, length), split(v, length), size)
        } else {
            let qkv = linear(&self.qkv, x); // [N, H, W, 3·C_out]
            let heads = qkv
                .clone()
                .reshape([n, length, 3 * self.heads, head])
                .swap_dims(1, 2);
            let part = |i: usize| heads.clone().narrow(1, i * self.heads, self.heads);
            let (q, size) = if self.pool == 1 {
                (part(0), [h, w])
            } else {
                pooled(qkv.narrow(3, 0, width))
            };
            (q, part(1), part(2), size)
        };
        let out = attention(q, k, v, None); // [N, heads, H'·W', head]
        let out = out.swap_dims(1, 2).reshape([n, h, w, width]);
        linear(&self.proj, out)
    }
}

impl<B: Backend> HieraBlock<B> {
    /// Runs the block, with windows in bands of the grid where all of it would make buffers too large.
    ///
    /// # Shapes
    /// - `x`: `[B, H, W, C]`
    /// - output: `[B, H / pool, W / pool, C_out]`
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        if self.window == 0 {
            return self.whole(x);
        }
        let [_, joint] = self.attn.qkv.weight.dims();
        let hidden = self.mlp.layers.iter().map(|layer| layer.weight.dims()[1]).max();
        let widest = joint.max(hidden.unwrap_or(0) / self.attn.pool.pow(2));
        in_bands(x, self.window, widest, |x| self.whole(x))
    }

    fn whole(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [batch, h, w, _] = x.dims();
        let pool = self.attn.pool;
        let normed = self.norm1.forward(x.clone());
        let shortcut = match &self.proj {
            Some(proj) if pool > 1 => max_pool_channels_last(linear(proj, normed.clone()), pool),
            Some(proj) => linear(proj, normed.clone()),
            None => x,
        };

        let branch = if self.window == 0 {
            self.attn.forward(normed)
        } else {
            let windows = window_partition(normed, self.window); // [B·windows, window, window, C]
            let padded = [h, w].map(|side| side.div_ceil(self.window) * (self.window / pool));
            let windows = self.attn.forward(windows);
            let [_, hs, ws, _] = shortcut.dims();
            window_unpartition(windows, batch, padded, [hs, ws])
        };
        // Flex adds in place to a tensor that is its own: the shortcut may be a part of another.
        let x = branch + shortcut;
        let update = self.mlp.forward(self.norm2.forward(x.clone()));
        x + update
    }
}

/// Cuts a grid into windows, zero-padding it at the bottom and at the right.
///
/// # Shapes
/// - `x`: `[B, H, W, C]`
/// - output: `[B·⌈H/window⌉·⌈W/window⌉, window, window, C]`
fn window_partition<B: Backend>(x: Tensor<B, 4>, window: usize) -> Tensor<B, 4> {
    let [b, h, w, c] = x.dims();
    let [hp, wp] = [h, w].map(|side| side.next_multiple_of(window));
    let x = match (hp - h, wp - w) {
        (0, 0) => x,
        (bottom, right) => x.pad([(0, 0), (0, bottom), (0, right), (0, 0)], 0.0),
    };
    let (rows, columns) = (hp / window, wp / window);
    if columns == 1 {
        return x.reshape([b * rows, window, window, c]);
    }
    let x = x.reshape([b, rows, window, columns, window, c]);
    permute(x, [0, 1, 3, 2, 4, 5]) // [B, rows, columns, window, window, C]
        .reshape([b * rows * columns, window, window, c])
}

/// Puts windows back into a grid of size `padded` and crops it to `size`.
///
/// # Shapes
/// - `windows`: `[B·rows·columns, h, w, C]`
/// - output: `[B, size[0], size[1], C]`
fn window_unpartition<B: Backend>(
    windows: Tensor<B, 4>,
    batch: usize,
    padded: [usize; 2],
    size: [usize; 2],
) -> Tensor<B, 4> {
    let [_, h, w, c] = windows.dims();
    let [hp, wp] = padded;
    let (rows, columns) = (hp / h, wp / w);
    let grid = if columns == 1 {
        windows.reshape([batch, hp, wp, c])
    } else {
        let windows = windows.reshape([batch, rows, columns, h, w, c]);
        permute(windows, [0, 1, 3, 2, 4, 5]) // [B, rows, h, columns, w, C]
            .reshape([batch, hp, wp, c])
    };
    if padded == size {
        grid
    } else {
        contiguous(grid.slice([0..batch, 0..size[0], 0..size[1]]))
    }
}
