//! Transformer between prompt tokens and image: each attends to the other in turn.
//!
//! SAM 2, `sam/transformer.py: TwoWayTransformer`. Checkpoint keys: `sam_mask_decoder.transformer.*`.

use burn::{module::Module, prelude::*};

use super::{
    attention::{Attention, AttentionConfig, AttentionInput},
    mlp::{Mlp, MlpConfig},
};
use crate::ops::{LayerNorm, LayerNormConfig, add_to_each};

/// Sizes of a [`TwoWayTransformer`].
#[derive(Config, Debug)]
pub struct TwoWayTransformerConfig {
    /// Width of tokens and image.
    pub width: usize,
    /// Number of blocks.
    #[config(default = 2)]
    pub depth: usize,
    /// Attention heads.
    #[config(default = 8)]
    pub heads: usize,
    /// Hidden width of the MLPs.
    #[config(default = 2048)]
    pub mlp_width: usize,
    /// Cross attention works in `width / downsample` channels.
    #[config(default = 2)]
    pub downsample: usize,
}

/// The transformer. See the [module docs](self).
#[derive(Module, Debug)]
pub struct TwoWayTransformer<B: Backend> {
    /// The blocks.
    pub layers: Vec<TwoWayAttentionBlock<B>>,
    /// Last attention from tokens to image.
    pub final_attn_token_to_image: Attention<B>,
    /// Norm after it.
    pub norm_final_attn: LayerNorm<B>,
}

/// Tokens attend to themselves, then to the image; the image attends to the tokens.
#[derive(Module, Debug)]
pub struct TwoWayAttentionBlock<B: Backend> {
    /// Attention among the tokens.
    pub self_attn: Attention<B>,
    /// Norm after it.
    pub norm1: LayerNorm<B>,
    /// Attention from tokens to image.
    pub cross_attn_token_to_image: Attention<B>,
    /// Norm after it.
    pub norm2: LayerNorm<B>,
    /// Feed-forward part of the tokens.
    pub mlp: Mlp<B>,
    /// Norm after it.
    pub norm3: LayerNorm<B>,
    /// Norm of the image after it attended.
    pub norm4: LayerNorm<B>,
    /// Attention from image to tokens.
    pub cross_attn_image_to_token: Attention<B>,
    /// Whether the tokens' own attention goes without positions and without a shortcut (the first block).
    pub skip_first_layer_pe: bool,
}

/// Tokens and image, before or after the transformer.
#[derive(Clone, Debug)]
pub struct TokensAndImage<B: Backend> {
    /// `[B, L, D]`.
    pub tokens: Tensor<B, 3>,
    /// `[B, H·W, D]`.
    pub image: Tensor<B, 3>,
}

impl TwoWayTransformerConfig {
    /// Builds the transformer with fresh weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> TwoWayTransformer<B> {
        let norm = || LayerNormConfig::new(self.width).with_epsilon(1e-5).init(device);
        let attention = |downsample| {
            AttentionConfig::new(self.width, self.heads)
                .with_downsample(downsample)
                .init(device)
        };
        TwoWayTransformer {
            layers: (0..self.depth)
                .map(|i| TwoWayAttentionBlock {
                    self_attn: attention(1),
                    norm1: norm(),
                    cross_attn_token_to_image: attention(self.downsample),
                    norm2: norm(),
                    mlp: MlpConfig::new(self.width, self.mlp_width, self.width, 2).init(device),
                    norm3: norm(),
                    norm4: norm(),
                    cross_attn_image_to_token: attention(self.downsample),
                    skip_first_layer_pe: i == 0,
                })
                .collect(),
            final_attn_token_to_image: attention(self.downsample),
            norm_final_attn: norm(),
        }
    }
}

impl<B: Backend> TwoWayTransformer<B> {
    /// Lets tokens and image inform each other. The tokens are their own position encoding.
    ///
    /// # Shapes
    /// - `input`, output: tokens `[B, L, D]`, image `[B, H·W, D]`
    /// - `image_position`: `[1, H·W, D]`
    pub fn forward(&self, input: TokensAndImage<B>, image_position: Tensor<B, 3>) -> TokensAndImage<B> {
        let token_position = input.tokens.clone();
        let mut x = input;
        for layer in &self.layers {
            x = layer.forward(x, token_position.clone(), image_position.clone());
        }
        let update = self.final_attn_token_to_image.forward(AttentionInput {
            query: x.tokens.clone() + token_position,
            key: add_to_each(x.image.clone(), image_position),
            value: x.image.clone(),
        });
        TokensAndImage {
            tokens: self.norm_final_attn.forward(x.tokens + update),
            image: x.image,
        }
    }
}

impl<B: Backend> TwoWayAttentionBlock<B> {
    /// Runs the block.
    ///
    /// # Shapes
    /// - `input`, output: tokens `[B, L, D]`, image `[B, H·W, D]`
    /// - `token_position`: `[B, L, D]`; `image_position`: `[1, H·W, D]`
    pub fn forward(
        &self,
        input: TokensAndImage<B>,
        token_position: Tensor<B, 3>,
        image_position: Tensor<B, 3>,
    ) -> TokensAndImage<B> {
        let TokensAndImage { tokens, image } = input;

        let tokens = if self.skip_first_layer_pe {
            self.self_attn.forward(AttentionInput {
                query: tokens.clone(),
                key: tokens.clone(),
                value: tokens,
            })
        } else {
            let placed = tokens.clone() + token_position.clone();
            let update = self.self_attn.forward(AttentionInput {
                query: placed.clone(),
                key: placed,
                value: tokens.clone(),
            });
            tokens + update
        };
        let tokens = self.norm1.forward(tokens);

        let placed_image = add_to_each(image.clone(), image_position);
        let update = self.cross_attn_token_to_image.forward(AttentionInput {
            query: tokens.clone() + token_position.clone(),
            key: placed_image.clone(),
            value: image.clone(),
        });
        let tokens = self.norm2.forward(tokens + update);

        let update = self.mlp.forward(tokens.clone());
        let tokens = self.norm3.forward(tokens + update);

        let update = self.cross_attn_image_to_token.forward(AttentionInput {
            query: placed_image,
            key: tokens.clone() + token_position,
            value: tokens.clone(),
        });
        let image = self.norm4.forward(image + update);
        TokensAndImage { tokens, image }
    }
}
