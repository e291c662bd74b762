//! ViT: an image as a sequence of patches behind a `[cls]` token.
//!
//! Hugging Face, `modeling_vit.py: ViTModel` without its pooler (ViT-B/16 at 224: 196 patches, 768 wide).

use burn::{
    module::{Initializer, Param},
    nn::conv::{Conv2d, Conv2dConfig},
    prelude::*,
};
use serde::{Deserialize, Serialize};

use super::{EncoderBlock, EncoderBlockConfig, VisionEncoder, VisionFeatures};
use crate::ops::{LayerNorm, LayerNormConfig};

/// Sizes of a [`Vit`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Side of the square image, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Width D.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the MLP's hidden layer.
    pub mlp_width: usize,
}

impl VitConfig {
    /// Added to the norms' variances (Hugging Face's ViT).
    const EPSILON: f64 = 1e-12;

    /// ViT-B/16 at 224².
    pub fn base_16() -> Self {
        Self {
            image_size: 224,
            patch_size: 16,
            width: 768,
            layers: 12,
            heads: 12,
            mlp_width: 3072,
        }
    }

    /// The embedded default: 96², three layers of width 96.
    pub fn nano() -> Self {
        Self {
            image_size: 96,
            patch_size: 16,
            width: 96,
            layers: 3,
            heads: 3,
            mlp_width: 384,
        }
    }

    /// Patches of one image.
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// Builds the encoder with fresh weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Vit<B> {
        let (d, p) = (self.width, self.patch_size);
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        let block = EncoderBlockConfig::new(d, self.heads, self.mlp_width, Self::EPSILON, true);
        Vit {
            embeddings: VitEmbeddings {
                cls_token: small.init([1, 1, d], device),
                position_embeddings: small.init([1, 1 + self.patches(), d], device),
                projection: Conv2dConfig::new([3, d], [p, p]).with_stride([p, p]).init(device),
            },
            layers: (0..self.layers).map(|_| block.init(device)).collect(),
            layernorm: LayerNormConfig::new(d).with_epsilon(Self::EPSILON).init(device),
        }
    }
}

/// Patches and positions.
#[derive(Module, Debug)]
pub struct VitEmbeddings<B: Backend> {
    /// The `[cls]` token, `[1, 1, D]`.
    pub cls_token: Param<Tensor<B, 3>>,
    /// One vector per position, `[cls]` first, `[1, 1 + P, D]`.
    pub position_embeddings: Param<Tensor<B, 3>>,
    /// Patches to vectors.
    pub projection: Conv2d<B>,
}

/// The encoder. See the [module docs](self).
#[derive(Module, Debug)]
pub struct Vit<B: Backend> {
    /// Patches and positions.
    pub embeddings: VitEmbeddings<B>,
    /// Pre-norm blocks.
    pub layers: Vec<EncoderBlock<B>>,
    /// Norm of the output.
    pub layernorm: LayerNorm<B>,
}

impl<B: Backend> Vit<B> {
    /// The last hidden state, `[cls]` first.
    ///
    /// # Shapes
    /// - `pixels`: `[N, 3, H, W]`, of the configured size; output: `[N, 1 + P, D]`
    pub fn forward(&self, pixels: Tensor<B, 4>) -> Tensor<B, 3> {
        let [n, ..] = pixels.dims();
        let patches = self.embeddings.projection.forward(pixels);
        let patches = patches.flatten::<3>(2, 3).swap_dims(1, 2); // NDhw → NPD
        let d = patches.dims()[2];
        let cls = self.embeddings.cls_token.val().expand([n, 1, d]);
        let mut x = Tensor::cat(vec![cls, patches], 1) + self.embeddings.position_embeddings.val();
        for layer in &self.layers {
            x = layer.forward(x, None);
        }
        self.layernorm.forward(x)
    }
}

impl<B: Backend> VisionEncoder<B> for Vit<B> {
    fn encode_image(&self, pixels: Tensor<B, 4>) -> VisionFeatures<B> {
        let x = self.forward(pixels);
        let [_, l, _] = x.dims();
        VisionFeatures {
            patches: x.clone().narrow(1, 1, l - 1),
            cls: x.narrow(1, 0, 1).squeeze_dim(1),
        }
    }
}
