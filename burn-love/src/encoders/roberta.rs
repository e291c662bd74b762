//! RoBERTa: tokens in context.
//!
//! Hugging Face, `modeling_roberta.py: RobertaModel` without its pooler (distilroberta-base: 6 layers, 768 wide).

use burn::{
    nn::{Embedding, EmbeddingConfig},
    prelude::*,
};
use serde::{Deserialize, Serialize};

use super::{EncoderBlock, EncoderBlockConfig, TextEncoder, TokenBatch};
use crate::ops::{LayerNorm, LayerNormConfig};

/// Sizes of a [`Roberta`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RobertaConfig {
    /// Token ids known.
    pub vocabulary: usize,
    /// Tokens an expression is padded or truncated to.
    pub max_tokens: usize,
    /// Positions with an embedding; two more than the longest text.
    pub positions: usize,
    /// Width D.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the MLP's hidden layer.
    pub mlp_width: usize,
}

impl RobertaConfig {
    /// Added to the norms' variances.
    const EPSILON: f64 = 1e-5;
    /// Id of `<pad>`; positions start behind it.
    pub const PADDING_ID: usize = 1;

    /// distilroberta-base with the paper's 25 tokens.
    pub fn distilroberta() -> Self {
        Self {
            vocabulary: 50265,
            max_tokens: 25,
            positions: 514,
            width: 768,
            layers: 6,
            heads: 12,
            mlp_width: 3072,
        }
    }

    /// The embedded default: two layers of width 96 on a vocabulary of at most 512.
    pub fn nano() -> Self {
        Self {
            vocabulary: 512,
            max_tokens: 25,
            positions: 34,
            width: 96,
            layers: 2,
            heads: 3,
            mlp_width: 384,
        }
    }

    /// Builds the encoder with fresh weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Roberta<B> {
        let d = self.width;
        let small = burn::module::Initializer::Normal { mean: 0.0, std: 0.02 };
        let embedding = |rows| {
            EmbeddingConfig::new(rows, d)
                .with_initializer(small.clone())
                .init(device)
        };
        let block = EncoderBlockConfig::new(d, self.heads, self.mlp_width, Self::EPSILON, false);
        Roberta {
            embeddings: RobertaEmbeddings {
                word_embeddings: embedding(self.vocabulary),
                position_embeddings: embedding(self.positions),
                token_type_embeddings: embedding(1),
                layer_norm: LayerNormConfig::new(d).with_epsilon(Self::EPSILON).init(device),
            },
            layers: (0..self.layers).map(|_| block.init(device)).collect(),
        }
    }
}

/// Tokens and positions.
#[derive(Module, Debug)]
pub struct RobertaEmbeddings<B: Backend> {
    /// One vector per token id.
    pub word_embeddings: Embedding<B>,
    /// One vector per position; row 1 belongs to padding.
    pub position_embeddings: Embedding<B>,
    /// One vector for all tokens.
    pub token_type_embeddings: Embedding<B>,
    /// Norm of the sum.
    pub layer_norm: LayerNorm<B>,
}

/// The encoder. See the [module docs](self).
#[derive(Module, Debug)]
pub struct Roberta<B: Backend> {
    /// Tokens and positions.
    pub embeddings: RobertaEmbeddings<B>,
    /// Post-norm blocks.
    pub layers: Vec<EncoderBlock<B>>,
}

impl<B: Backend> Roberta<B> {
    /// The last hidden state.
    ///
    /// Padding must stand behind the text; its outputs have no meaning.
    ///
    /// # Shapes
    /// - output: `[B, L, D]`
    pub fn forward(&self, tokens: TokenBatch<B>) -> Tensor<B, 3> {
        let TokenBatch { input_ids, padding } = tokens;
        let [_, l] = input_ids.dims();
        // Tokens count from 2, padding has position 1.
        let count = Tensor::<B, 1, Int>::arange(1..l as i64 + 1, &input_ids.device()).unsqueeze::<2>();
        let positions =
            count.expand(input_ids.dims()).mask_fill(padding.clone(), 0) + RobertaConfig::PADDING_ID as i64;
        let embeddings = &self.embeddings;
        let mut x = embeddings.word_embeddings.forward(input_ids)
            + embeddings.position_embeddings.forward(positions)
            + embeddings.token_type_embeddings.weight.val().unsqueeze();
        x = embeddings.layer_norm.forward(x);
        for layer in &self.layers {
            x = layer.forward(x, Some(padding.clone()));
        }
        x
    }
}

impl<B: Backend> TextEncoder<B> for Roberta<B> {
    fn encode_text(&self, tokens: TokenBatch<B>) -> Tensor<B, 3> {
        self.forward(tokens)
    }
}
