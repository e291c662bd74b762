#![doc = include_str!("../README.md")]

use burn::{prelude::*, tensor::IntDType};
use burn_love::encoders::{AudioEncoder, TextEncoder, TokenBatch, VisionEncoder, VisionFeatures};

/// What `build.rs` generates from a graph: `Model`, its weights embedded.
macro_rules! generated {
    ($name:ident) => {
        #[allow(missing_docs, clippy::all)]
        mod $name {
            include!(concat!(
                env!("OUT_DIR"),
                "/models/",
                stringify!($name),
                ".rs"
            ));
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/sizes.rs"));

generated!(vggish);
generated!(vit);
generated!(distilroberta);

/// Examples embedded at a time, as by burn-love's own encoder.
const AT_ONCE: usize = 64;

/// `models/vggish.onnx`: an example of log-mel spectrogram as one vector.
#[derive(Module, Debug)]
pub struct OnnxAudio<B: Backend> {
    /// The graph.
    graph: vggish::Model<B>,
}

impl<B: Backend> OnnxAudio<B> {
    /// The encoder with the graph's weights.
    pub fn new(device: &B::Device) -> Self {
        Self {
            graph: vggish::Model::from_embedded(device),
        }
    }
}

impl<B: Backend> AudioEncoder<B> for OnnxAudio<B> {
    fn encode_audio(&self, log_mel: Tensor<B, 3>) -> Tensor<B, 2> {
        let [n, ..] = log_mel.dims();
        let parts = (0..n).step_by(AT_ONCE).map(|start| {
            let part = log_mel.clone().narrow(0, start, AT_ONCE.min(n - start));
            self.graph.forward(part)
        });
        Tensor::cat(parts.collect(), 0)
    }
}

/// `models/vit.onnx`: an image as patches behind a `[cls]` token.
#[derive(Module, Debug)]
pub struct OnnxVision<B: Backend> {
    /// The graph.
    graph: vit::Model<B>,
}

impl<B: Backend> OnnxVision<B> {
    /// The encoder with the graph's weights.
    pub fn new(device: &B::Device) -> Self {
        Self {
            graph: vit::Model::from_embedded(device),
        }
    }
}

impl<B: Backend> VisionEncoder<B> for OnnxVision<B> {
    fn encode_image(&self, pixels: Tensor<B, 4>) -> VisionFeatures<B> {
        VisionFeatures::from_hidden(self.graph.forward(pixels))
    }
}

/// `models/distilroberta.onnx`: tokens in context.
#[derive(Module, Debug)]
pub struct OnnxText<B: Backend> {
    /// The graph.
    graph: distilroberta::Model<B>,
}

impl<B: Backend> OnnxText<B> {
    /// The encoder with the graph's weights.
    pub fn new(device: &B::Device) -> Self {
        Self {
            graph: distilroberta::Model::from_embedded(device),
        }
    }
}

impl<B: Backend> TextEncoder<B> for OnnxText<B> {
    fn encode_text(&self, tokens: TokenBatch<B>) -> Tensor<B, 3> {
        let mask = tokens.padding.bool_not().int();
        self.graph
            .forward(tokens.input_ids.cast(IntDType::I64), mask.cast(IntDType::I64))
    }
}
