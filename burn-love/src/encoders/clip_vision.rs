//! CLIP's vision tower: an image as a sequence of patches behind a class token.
//!
//! Hugging Face, `modeling_clip.py: CLIPVisionModel` (CLIP ViT-B/16 at 224: 196 patches, 768 wide). Patches and class token
//! are the last hidden state as it is. `post_layernorm`, which upstream applies to the class token alone on its way to
//! the text's embeddings, is left out: SAM2-LOVE puts `[cls]` through the projection of the patches (Eq. 1), so both
//! must be of one space.

use burn::{
    module::{Initializer, Param},
    nn::{
        Embedding, EmbeddingConfig,
        conv::{Conv2d, Conv2dConfig},
    },
    prelude::*,
};

use super::{EncoderBlock, EncoderBlockConfig, VisionConfig, VisionEncoder, VisionFeatures};
use crate::ops::{LayerNorm, LayerNormConfig, add_to_each, conv2d_channels_last};

/// Patches and positions.
#[derive(Module, Debug)]
pub struct ClipVisionEmbeddings<B: Backend> {
    /// The class token, `[D]`.
    pub class_embedding: Param<Tensor<B, 1>>,
    /// Patches to vectors, without bias.
    pub patch_embedding: Conv2d<B>,
    /// One vector per position, the class token's first.
    pub position_embedding: Embedding<B>,
}

/// The encoder. See the [module docs](self).
#[derive(Module, Debug)]
pub struct ClipVision<B: Backend> {
    /// Patches and positions.
    pub embeddings: ClipVisionEmbeddings<B>,
    /// Norm of the input, spelt as upstream.
    pub pre_layrnorm: LayerNorm<B>,
    /// Pre-norm blocks.
    pub layers: Vec<EncoderBlock<B>>,
}

impl<B: Backend> ClipVision<B> {
    /// A vision tower of the sizes of `config` with fresh weights.
    pub fn new(config: &VisionConfig, device: &B::Device) -> Self {
        let (d, p) = (config.width, config.patch_size);
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        let block = EncoderBlockConfig::new(d, config.heads, config.mlp_width, config.epsilon, true)
            .with_quick_gelu(true);
        Self {
            embeddings: ClipVisionEmbeddings {
                class_embedding: small.init([d], device),
                patch_embedding: Conv2dConfig::new([3, d], [p, p])
                    .with_stride([p, p])
                    .with_bias(false)
                    .init(device),
                position_embedding: EmbeddingConfig::new(1 + config.patches(), d)
                    .with_initializer(small)
                    .init(device),
            },
            pre_layrnorm: LayerNormConfig::new(d).with_epsilon(config.epsilon).init(device),
            layers: (0..config.layers).map(|_| block.init(device)).collect(),
        }
    }

    /// The last hidden state, the class token first.
    ///
    /// # Shapes
    /// - `pixels`: `[N, 3, H, W]`, of the configured size; output: `[N, 1 + P, D]`
    pub fn forward(&self, pixels: Tensor<B, 4>) -> Tensor<B, 3> {
        let [n, ..] = pixels.dims();
        let pixels = pixels.permute([0, 2, 3, 1]); // NCHW → NHWC
        let patches = conv2d_channels_last(&self.embeddings.patch_embedding, pixels).flatten::<3>(1, 2); // [N, P, D]
        let d = patches.dims()[2];
        let class = self.embeddings.class_embedding.val().reshape([1, 1, d]);
        let positions = self.embeddings.position_embedding.weight.val().unsqueeze();
        let x = Tensor::cat(vec![class.expand([n, 1, d]), patches], 1);
        let mut x = self.pre_layrnorm.forward(add_to_each(x, positions));
        for layer in &self.layers {
            x = layer.forward(x, None);
        }
        x
    }
}

impl<B: Backend> VisionEncoder<B> for ClipVision<B> {
    fn encode_image(&self, pixels: Tensor<B, 4>) -> VisionFeatures<B> {
        VisionFeatures::from_hidden(self.forward(pixels))
    }
}
