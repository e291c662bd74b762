//! ViT: an image as a sequence of patches behind a `[cls]` token.
//!
//! Hugging Face, `modeling_vit.py: ViTModel` without its pooler (ViT-B/16 at 224: 196 patches, 768 wide).

use burn::{
    module::{Initializer, Param},
    nn::conv::{Conv2d, Conv2dConfig},
    prelude::*,
};

use super::{EncoderBlock, EncoderBlockConfig, VisionConfig, VisionEncoder, VisionFeatures};
use crate::ops::{LayerNorm, LayerNormConfig, add_to_each, conv2d_channels_last};

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
    /// A ViT of the sizes of `config` with fresh weights.
    pub fn new(config: &VisionConfig, device: &B::Device) -> Self {
        let (d, p) = (config.width, config.patch_size);
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        let block = EncoderBlockConfig::new(d, config.heads, config.mlp_width, config.epsilon, true);
        Self {
            embeddings: VitEmbeddings {
                cls_token: small.init([1, 1, d], device),
                position_embeddings: small.init([1, 1 + config.patches(), d], device),
                projection: Conv2dConfig::new([3, d], [p, p]).with_stride([p, p]).init(device),
            },
            layers: (0..config.layers).map(|_| block.init(device)).collect(),
            layernorm: LayerNormConfig::new(d).with_epsilon(config.epsilon).init(device),
        }
    }

    /// The last hidden state, `[cls]` first.
    ///
    /// # Shapes
    /// - `pixels`: `[N, 3, H, W]`, of the configured size; output: `[N, 1 + P, D]`
    pub fn forward(&self, pixels: Tensor<B, 4>) -> Tensor<B, 3> {
        let [n, ..] = pixels.dims();
        let pixels = pixels.permute([0, 2, 3, 1]); // NCHW → NHWC
        let patches = conv2d_channels_last(&self.embeddings.projection, pixels).flatten::<3>(1, 2); // [N, P, D]
        let d = patches.dims()[2];
        let cls = self.embeddings.cls_token.val().expand([n, 1, d]);
        let x = Tensor::cat(vec![cls, patches], 1);
        let mut x = add_to_each(x, self.embeddings.position_embeddings.val());
        for layer in &self.layers {
            x = layer.forward(x, None);
        }
        self.layernorm.forward(x)
    }
}

impl<B: Backend> VisionEncoder<B> for Vit<B> {
    fn encode_image(&self, pixels: Tensor<B, 4>) -> VisionFeatures<B> {
        VisionFeatures::from_hidden(self.forward(pixels))
    }
}
