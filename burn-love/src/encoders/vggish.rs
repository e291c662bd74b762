//! VGGish: 0.96 s of log-mel spectrogram as one vector.
//!
//! AudioSet's model in torchvggish's layout (`torchvggish.py: VGG`). As a default before the last ReLU and without PCA,
//! as SAM2-LOVE hears; torchvggish itself has both.

use std::f64::consts::SQRT_2;

use burn::{
    module::{Initializer, Param},
    nn::{
        Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    prelude::*,
    tensor::activation::relu,
};
use serde::{Deserialize, Serialize};

use super::AudioEncoder;
use crate::ops::{conv2d_channels_last, linear, matmul, max_pool_channels_last};

/// Examples embedded at a time: the first layer's output is 1.5 MiB for each at full size, and no buffer should come near
/// the 128 MiB that a WebGPU device must allow.
const AT_ONCE: usize = 64;

/// Sizes of a [`Vggish`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VggishConfig {
    /// Channels of the four stages.
    pub channels: [usize; 4],
    /// Width of the two hidden layers.
    pub hidden: usize,
    /// Width of the embedding.
    pub embedding: usize,
    /// Ends with a ReLU, as torchvggish does.
    #[serde(default)]
    pub last_relu: bool,
    /// Whitens and quantises the embedding as AudioSet's released features are: see [`PostProcessor`]. torchvggish
    /// does so behind its last ReLU.
    #[serde(default)]
    pub postprocess: bool,
}

impl VggishConfig {
    /// Frames of 10 ms in one example.
    pub const FRAMES: usize = 96;
    /// Mel bands.
    pub const BANDS: usize = 64;

    /// Names of all presets.
    pub const PRESETS: [&str; 2] = ["nano", "vggish"];

    /// The sizes called `name`.
    pub fn preset(name: &str) -> Option<Self> {
        match name {
            "nano" => Some(Self::nano()),
            "vggish" => Some(Self::audioset()),
            _ => None,
        }
    }

    /// AudioSet's VGGish.
    pub fn audioset() -> Self {
        Self {
            channels: [64, 128, 256, 512],
            hidden: 4096,
            embedding: 128,
            last_relu: false,
            postprocess: false,
        }
    }

    /// The embedded default: channels 8 to 64.
    pub fn nano() -> Self {
        Self {
            channels: [8, 16, 32, 64],
            hidden: 256,
            embedding: 128,
            last_relu: false,
            postprocess: false,
        }
    }

    /// Builds the encoder with fresh weights, of the size that keeps a signal's through ReLUs (He et al., 2015): behind
    /// nine layers of Burn's default, which is PyTorch's, all sounds would look alike.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Vggish<B> {
        let [c1, c2, c3, c4] = self.channels;
        let he = Initializer::KaimingNormal {
            gain: SQRT_2,
            fan_out_only: false,
        };
        let no_bias = |width| Some(Initializer::Zeros.init([width], device));
        let conv = |from, to| {
            let conv = Conv2dConfig::new([from, to], [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_initializer(he.clone())
                .init(device);
            Conv2d {
                bias: no_bias(to),
                ..conv
            }
        };
        let linear = |from, to| {
            let linear = LinearConfig::new(from, to)
                .with_initializer(he.clone())
                .init(device);
            Linear {
                bias: no_bias(to),
                ..linear
            }
        };
        let flat = c4 * (Self::FRAMES / 16) * (Self::BANDS / 16);
        Vggish {
            conv1: conv(1, c1),
            conv2: conv(c1, c2),
            conv3_1: conv(c2, c3),
            conv3_2: conv(c3, c3),
            conv4_1: conv(c3, c4),
            conv4_2: conv(c4, c4),
            fc1_1: linear(flat, self.hidden),
            fc1_2: linear(self.hidden, self.hidden),
            fc2: linear(self.hidden, self.embedding),
            last_relu: self.last_relu,
            pproc: self
                .postprocess
                .then(|| PostProcessor::new(self.embedding, device)),
        }
    }
}

/// The encoder, its layers named as in the original TensorFlow model. See the [module docs](self).
#[derive(Module, Debug)]
pub struct Vggish<B: Backend> {
    /// Stage 1.
    pub conv1: Conv2d<B>,
    /// Stage 2.
    pub conv2: Conv2d<B>,
    /// Stage 3, first layer.
    pub conv3_1: Conv2d<B>,
    /// Stage 3, second layer.
    pub conv3_2: Conv2d<B>,
    /// Stage 4, first layer.
    pub conv4_1: Conv2d<B>,
    /// Stage 4, second layer.
    pub conv4_2: Conv2d<B>,
    /// First hidden layer.
    pub fc1_1: Linear<B>,
    /// Second hidden layer.
    pub fc1_2: Linear<B>,
    /// Embedding.
    pub fc2: Linear<B>,
    /// Whether the embedding goes through a ReLU.
    #[module(skip)]
    pub last_relu: bool,
    /// What quantises the embedding.
    pub pproc: Option<PostProcessor<B>>,
}

impl<B: Backend> Vggish<B> {
    /// Embeds log-mel examples.
    ///
    /// # Shapes
    /// - `log_mel`: `[N, 96, 64]`
    /// - output: `[N, 128]`; whole numbers of 0 to 255 where it is post-processed
    pub fn forward(&self, log_mel: Tensor<B, 3>) -> Tensor<B, 2> {
        let conv = |layer: &Conv2d<B>, x: Tensor<B, 4>| relu(conv2d_channels_last(layer, x));
        let pool = |x: Tensor<B, 4>| max_pool_channels_last(x, 2);
        let x = log_mel.unsqueeze_dim(3); // [N, 96, 64, 1]
        let x = pool(conv(&self.conv1, x));
        let x = pool(conv(&self.conv2, x));
        let x = pool(conv(&self.conv3_2, conv(&self.conv3_1, x)));
        let x = pool(conv(&self.conv4_2, conv(&self.conv4_1, x))); // [N, 6, 4, 8·C]
        let x = relu(linear(&self.fc1_1, x.flatten::<2>(1, 3)));
        let x = linear(&self.fc2, relu(linear(&self.fc1_2, x)));
        let x = if self.last_relu { relu(x) } else { x };
        match &self.pproc {
            Some(pproc) => pproc.forward(x),
            None => x,
        }
    }
}

/// PCA with whitening, clipped to ±2 and quantised to 8 bits: how AudioSet's embeddings were released
/// (`torchvggish.py: Postprocessor`). No gradient passes the rounding.
#[derive(Module, Debug)]
pub struct PostProcessor<B: Backend> {
    /// Whitened principal axes, one a row, `[D, D]`.
    pub pca_eigen_vectors: Param<Tensor<B, 2>>,
    /// Mean embedding, `[D, 1]`.
    pub pca_means: Param<Tensor<B, 2>>,
}

impl<B: Backend> PostProcessor<B> {
    /// Largest whitened value.
    const CLIP: f64 = 2.0;
    /// Steps of the quantiser from −2 to 2.
    const STEPS: f64 = 255.0;

    /// Builds a post-processor that whitens nothing yet: weights come from a file.
    pub fn new(width: usize, device: &B::Device) -> Self {
        Self {
            pca_eigen_vectors: Param::from_tensor(Tensor::eye(width, device)),
            pca_means: Initializer::Zeros.init([width, 1], device),
        }
    }

    /// Whitens and quantises embeddings.
    ///
    /// # Shapes
    /// - `embeddings`, output: `[N, D]`
    pub fn forward(&self, embeddings: Tensor<B, 2>) -> Tensor<B, 2> {
        let centred = embeddings - self.pca_means.val().transpose();
        let whitened = matmul(centred, self.pca_eigen_vectors.val().transpose());
        let clipped = whitened.clamp(-Self::CLIP, Self::CLIP);
        ((clipped + Self::CLIP) * (Self::STEPS / (2.0 * Self::CLIP))).round()
    }
}

impl<B: Backend> AudioEncoder<B> for Vggish<B> {
    fn encode_audio(&self, log_mel: Tensor<B, 3>) -> Tensor<B, 2> {
        let [n, ..] = log_mel.dims();
        if n <= AT_ONCE {
            return self.forward(log_mel);
        }
        let parts = (0..n).step_by(AT_ONCE).map(|start| {
            let part = log_mel.clone().narrow(0, start, AT_ONCE.min(n - start));
            self.forward(part)
        });
        Tensor::cat(parts.collect(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;
    type B = burn_flex::Flex;

    #[test]
    fn fresh_weights_tell_sounds_apart() {
        let device = Default::default();
        B::seed(&device, 3);
        let model: Vggish<B> = VggishConfig::nano().init(&device);
        let silence = Tensor::full(
            [1, VggishConfig::FRAMES, VggishConfig::BANDS],
            0.01f32.ln(),
            &device,
        );
        let noise = Tensor::random(silence.dims(), Distribution::Uniform(-4.6, 1.0), &device);
        let embedded = model.encode_audio(Tensor::cat(vec![silence, noise], 0));
        let [silence, noise] = [0, 1].map(|i| embedded.clone().narrow(0, i, 1));
        let size = |x: Tensor<B, 2>| x.powi_scalar(2).mean().sqrt().into_scalar();
        let apart = size(silence.clone() - noise) / size(silence);
        assert!(apart > 0.1, "{apart:.1e} of the embedding");
    }
}
