//! VGGish: 0.96 s of log-mel spectrogram as one vector.
//!
//! AudioSet's model in torchvggish's layout (`vggish.py: VGG`), before the last ReLU and without PCA.

use burn::{
    nn::{
        Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
        pool::{MaxPool2d, MaxPool2dConfig},
    },
    prelude::*,
    tensor::activation::relu,
};
use serde::{Deserialize, Serialize};

use super::AudioEncoder;

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
}

impl VggishConfig {
    /// Frames of 10 ms in one example.
    pub const FRAMES: usize = 96;
    /// Mel bands.
    pub const BANDS: usize = 64;

    /// AudioSet's VGGish.
    pub fn audioset() -> Self {
        Self {
            channels: [64, 128, 256, 512],
            hidden: 4096,
            embedding: 128,
        }
    }

    /// The embedded default: channels 8 to 64.
    pub fn nano() -> Self {
        Self {
            channels: [8, 16, 32, 64],
            hidden: 256,
            embedding: 128,
        }
    }

    /// Builds the encoder with fresh weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Vggish<B> {
        let [c1, c2, c3, c4] = self.channels;
        let conv = |from, to| {
            Conv2dConfig::new([from, to], [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device)
        };
        let linear = |from, to| LinearConfig::new(from, to).init(device);
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
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
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
    /// Halves height and width behind each stage.
    pub pool: MaxPool2d,
}

impl<B: Backend> Vggish<B> {
    /// Embeds log-mel examples.
    ///
    /// # Shapes
    /// - `log_mel`: `[N, 96, 64]`; output: `[N, 128]`
    pub fn forward(&self, log_mel: Tensor<B, 3>) -> Tensor<B, 2> {
        let x = log_mel.unsqueeze_dim(1); // [N, 1, 96, 64]
        let x = self.pool.forward(relu(self.conv1.forward(x)));
        let x = self.pool.forward(relu(self.conv2.forward(x)));
        let x = relu(self.conv3_2.forward(relu(self.conv3_1.forward(x))));
        let x = self.pool.forward(x);
        let x = relu(self.conv4_2.forward(relu(self.conv4_1.forward(x))));
        let x = self.pool.forward(x).permute([0, 2, 3, 1]); // NCHW → NHWC
        let x = relu(self.fc1_1.forward(x.flatten::<2>(1, 3)));
        self.fc2.forward(relu(self.fc1_2.forward(x)))
    }
}

impl<B: Backend> AudioEncoder<B> for Vggish<B> {
    fn encode_audio(&self, log_mel: Tensor<B, 3>) -> Tensor<B, 2> {
        self.forward(log_mel)
    }
}
