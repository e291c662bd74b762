//! CLIP's text tower: tokens in the context of those before them.
//!
//! Hugging Face, `modeling_clip.py: CLIPTextModel` (CLIP ViT-B/16: 12 layers, 512 wide). The hidden state of all tokens
//! is the output; what turns that of `<|endoftext|>` into an embedding beside an image's, `text_projection`, is left out.

use burn::{
    module::Initializer,
    nn::{Embedding, EmbeddingConfig},
    prelude::*,
};

use super::{EncoderBlock, EncoderBlockConfig, TextConfig, TextEncoder, TokenBatch};
use crate::ops::{LayerNorm, LayerNormConfig, add_to_each};

/// Added to the norms' variances.
const EPSILON: f64 = 1e-5;

/// Tokens and positions.
#[derive(Module, Debug)]
pub struct ClipTextEmbeddings<B: Backend> {
    /// One vector per token id.
    pub token_embedding: Embedding<B>,
    /// One vector per position.
    pub position_embedding: Embedding<B>,
}

/// The encoder. See the [module docs](self).
#[derive(Module, Debug)]
pub struct ClipText<B: Backend> {
    /// Tokens and positions.
    pub embeddings: ClipTextEmbeddings<B>,
    /// Causal pre-norm blocks.
    pub layers: Vec<EncoderBlock<B>>,
    /// Norm of the output.
    pub final_layer_norm: LayerNorm<B>,
}

impl<B: Backend> ClipText<B> {
    /// A text tower of the sizes of `config` with fresh weights.
    pub fn new(config: &TextConfig, device: &B::Device) -> Self {
        let d = config.width;
        let embedding = |rows, std| {
            EmbeddingConfig::new(rows, d)
                .with_initializer(Initializer::Normal { mean: 0.0, std })
                .init(device)
        };
        let block = EncoderBlockConfig::new(d, config.heads, config.mlp_width, EPSILON, true)
            .with_quick_gelu(true)
            .with_causal(true);
        Self {
            embeddings: ClipTextEmbeddings {
                token_embedding: embedding(config.vocabulary, 0.02),
                position_embedding: embedding(config.positions, 0.01),
            },
            layers: (0..config.layers).map(|_| block.init(device)).collect(),
            final_layer_norm: LayerNormConfig::new(d).with_epsilon(EPSILON).init(device),
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
        let positions = self.embeddings.position_embedding.weight.val().narrow(0, 0, l);
        let x = self.embeddings.token_embedding.forward(input_ids);
        let mut x = add_to_each(x, positions.unsqueeze());
        for layer in &self.layers {
            x = layer.forward(x, Some(padding.clone()));
        }
        self.final_layer_norm.forward(x)
    }
}

impl<B: Backend> TextEncoder<B> for ClipText<B> {
    fn encode_text(&self, tokens: TokenBatch<B>) -> Tensor<B, 3> {
        self.forward(tokens)
    }
}
