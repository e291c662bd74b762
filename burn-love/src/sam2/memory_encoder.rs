//! Memory encoder: a frame's embedding and its predicted mask become a compact spatial memory.
//!
//! SAM 2, `memory_encoder.py`. Checkpoint keys: `memory_encoder.*`.

use burn::{
    module::{Initializer, Module, Param},
    nn::{
        Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    prelude::*,
};

use super::config::EMBEDDING_STRIDE;
use crate::ops::{LayerNorm2d, LayerNorm2dConfig, conv2d_channels_last, gelu, linear, linear_gelu};

/// Sizes of a [`MemoryEncoder`].
#[derive(Config, Debug, PartialEq)]
pub struct MemoryEncoderConfig {
    /// Side of the mask downsampler's kernels, in pixels.
    #[config(default = 3)]
    pub mask_kernel: usize,
    /// Stride of each of the mask downsampler's steps; a root of the embedding's stride.
    #[config(default = 2)]
    pub mask_stride: usize,
    /// Padding of the mask downsampler's kernels, in pixels.
    #[config(default = 1)]
    pub mask_padding: usize,
    /// Blocks of the fuser.
    #[config(default = 2)]
    pub fuser_layers: usize,
    /// Side of the fuser's depthwise kernels, in cells.
    #[config(default = 7)]
    pub fuser_kernel: usize,
    /// Initial value of the fuser's per-channel scale.
    #[config(default = 1e-6)]
    pub layer_scale: f64,
}

/// One step of the mask downsampler; the last one is a projection without a norm.
#[derive(Module, Debug)]
pub struct MaskDownSamplerStep<B: Backend> {
    /// Strided convolution, or the last projection.
    pub conv: Conv2d<B>,
    /// Norm over the channels, before the activation.
    pub norm: Option<LayerNorm2d<B>>,
}

/// Strided convolutions that bring a mask to the embedding's grid. Channels grow as cells get fewer.
#[derive(Module, Debug)]
pub struct MaskDownSampler<B: Backend> {
    /// The steps. Upstream counts convolution, norm and activation one by one.
    pub encoder: Vec<MaskDownSamplerStep<B>>,
}

/// Block of the fuser: depthwise convolution, pointwise MLP, learned scale, residual (ConvNeXt).
#[derive(Module, Debug)]
pub struct FuserBlock<B: Backend> {
    /// Depthwise convolution.
    pub dwconv: Conv2d<B>,
    /// Norm over the channels.
    pub norm: LayerNorm2d<B>,
    /// Pointwise expansion, C → 4C.
    pub pwconv1: Linear<B>,
    /// Pointwise contraction, 4C → C.
    pub pwconv2: Linear<B>,
    /// Per-channel scale of the residual branch, `[C]`.
    pub gamma: Param<Tensor<B, 1>>,
}

/// Blocks that mix embedding and mask.
#[derive(Module, Debug)]
pub struct Fuser<B: Backend> {
    /// The blocks.
    pub layers: Vec<FuserBlock<B>>,
}

/// The encoder. See the [module docs](self).
#[derive(Module, Debug)]
pub struct MemoryEncoder<B: Backend> {
    /// Mask to the embedding's grid.
    pub mask_downsampler: MaskDownSampler<B>,
    /// Projection of the frame's embedding.
    pub pix_feat_proj: Conv2d<B>,
    /// Mixes both.
    pub fuser: Fuser<B>,
    /// Projection to the memory's width; absent where that is the model's.
    pub out_proj: Option<Conv2d<B>>,
}

impl MemoryEncoderConfig {
    /// Builds the encoder with fresh weights, from embeddings of `width` to memories of `memory_width`.
    pub fn init<B: Backend>(
        &self,
        width: usize,
        memory_width: usize,
        device: &B::Device,
    ) -> MemoryEncoder<B> {
        let square = |padding| PaddingConfig2d::Explicit(padding, padding, padding, padding);
        let (kernel, stride) = (self.mask_kernel, self.mask_stride);

        let mut encoder = Vec::new();
        let (mut channels, mut reached) = (1, 1);
        while reached < EMBEDDING_STRIDE {
            let next = channels * stride * stride;
            encoder.push(MaskDownSamplerStep {
                conv: Conv2dConfig::new([channels, next], [kernel, kernel])
                    .with_stride([stride, stride])
                    .with_padding(square(self.mask_padding))
                    .init(device),
                norm: Some(LayerNorm2dConfig::new(next).init(device)),
            });
            (channels, reached) = (next, reached * stride);
        }
        assert_eq!(
            reached, EMBEDDING_STRIDE,
            "a power of the mask's stride is the embedding's"
        );
        let pointwise = |from, to| Conv2dConfig::new([from, to], [1, 1]).init(device);
        encoder.push(MaskDownSamplerStep {
            conv: pointwise(channels, width),
            norm: None,
        });

        let block = || FuserBlock {
            dwconv: Conv2dConfig::new([width, width], [self.fuser_kernel; 2])
                .with_groups(width)
                .with_padding(square(self.fuser_kernel / 2))
                .init(device),
            norm: LayerNorm2dConfig::new(width).init(device),
            pwconv1: LinearConfig::new(width, 4 * width).init(device),
            pwconv2: LinearConfig::new(4 * width, width).init(device),
            gamma: Initializer::Constant {
                value: self.layer_scale,
            }
            .init([width], device),
        };
        MemoryEncoder {
            mask_downsampler: MaskDownSampler { encoder },
            pix_feat_proj: pointwise(width, width),
            fuser: Fuser {
                layers: (0..self.fuser_layers).map(|_| block()).collect(),
            },
            out_proj: (memory_width != width).then(|| pointwise(width, memory_width)),
        }
    }
}

impl<B: Backend> MaskDownSampler<B> {
    /// Brings a mask to the embedding's grid.
    ///
    /// # Shapes
    /// - `mask`: `[B, 16·H, 16·W, 1]`
    /// - output: `[B, H, W, D]`
    pub fn forward(&self, mask: Tensor<B, 4>) -> Tensor<B, 4> {
        self.encoder.iter().fold(mask, |x, step| {
            let x = conv2d_channels_last(&step.conv, x);
            match &step.norm {
                Some(norm) => gelu(norm.forward_channels_last(x)),
                None => x,
            }
        })
    }
}

impl<B: Backend> FuserBlock<B> {
    /// Refines a map.
    ///
    /// # Shapes
    /// - `x`, output: `[B, H, W, C]`
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let branch = conv2d_channels_last(&self.dwconv, x.clone());
        let branch = self.norm.forward_channels_last(branch);
        let branch = linear_gelu(&self.pwconv1, branch); // [B, H, W, 4C]
        let branch = linear(&self.pwconv2, branch) * self.gamma.val().unsqueeze();
        x + branch
    }
}

impl<B: Backend> MemoryEncoder<B> {
    /// Encodes a frame and its mask. The mask comes scaled: no sigmoid is applied here.
    ///
    /// # Shapes
    /// - `embedding`: `[B, D, H, W]`, not conditioned on memories
    /// - `mask`: `[B, 1, 16·H, 16·W]`
    /// - output: `[B, C, H, W]`
    pub fn forward(&self, embedding: Tensor<B, 4>, mask: Tensor<B, 4>) -> Tensor<B, 4> {
        let [embedding, mask] = [embedding, mask].map(|x| x.permute([0, 2, 3, 1])); // BCHW → BHWC
        let x = conv2d_channels_last(&self.pix_feat_proj, embedding) + self.mask_downsampler.forward(mask);
        let x = self.fuser.layers.iter().fold(x, |x, block| block.forward(x));
        let x = match &self.out_proj {
            Some(proj) => conv2d_channels_last(proj, x),
            None => x,
        };
        x.permute([0, 3, 1, 2]) // BHWC → BCHW
    }
}
