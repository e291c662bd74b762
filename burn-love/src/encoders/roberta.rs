//! RoBERTa: tokens in context.
//!
//! Hugging Face, `modeling_roberta.py: RobertaModel` without its pooler (distilroberta-base: 6 layers, 768 wide).

use burn::{
    module::Initializer,
    nn::{Embedding, EmbeddingConfig},
    prelude::*,
};

use super::{EncoderBlock, EncoderBlockConfig, TextConfig, TextEncoder, TokenBatch};
use crate::ops::{LayerNorm, LayerNormConfig};

/// Added to the norms' variances.
const EPSILON: f64 = 1e-5;

/// Position of padding, which is `<pad>`'s id; those of tokens follow it.
const PADDING_POSITION: usize = 1;

/// Positions that no token takes: those up to that of padding.
pub(super) const RESERVED_POSITIONS: usize = PADDING_POSITION + 1;

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
    /// A RoBERTa of the sizes of `config` with fresh weights.
    pub fn new(config: &TextConfig, device: &B::Device) -> Self {
        let d = config.width;
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        let embedding = |rows| {
            EmbeddingConfig::new(rows, d)
                .with_initializer(small.clone())
                .init(device)
        };
        let block = EncoderBlockConfig::new(d, config.heads, config.mlp_width, EPSILON, false);
        Self {
            embeddings: RobertaEmbeddings {
                word_embeddings: embedding(config.vocabulary),
                position_embeddings: embedding(config.positions),
                token_type_embeddings: embedding(1),
                layer_norm: LayerNormConfig::new(d).with_epsilon(EPSILON).init(device),
            },
            layers: (0..config.layers).map(|_| block.init(device)).collect(),
        }
    }

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
            count.expand(input_ids.dims()).mask_fill(padding.clone(), 0) + PADDING_POSITION as i64;
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
