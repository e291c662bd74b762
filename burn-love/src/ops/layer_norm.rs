//! Layer normalisation, over the last dimension or over the channels of an image.
//!
//! Own modules, so that parameters carry the checkpoints' names `weight` and `bias`.

use burn::{
    module::{Initializer, Module, Param},
    prelude::*,
    tensor::TensorPrimitive,
};

/// Normalises the last dimension to zero mean and unit variance, then scales and shifts.
///
/// # Shapes
/// - `x`, output: `[.., D]`; `weight`, `bias`: `[D]`
pub fn layer_norm<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    weight: Tensor<B, 1>,
    bias: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, D> {
    #[cfg(feature = "flex")]
    let (x, weight, bias) = match super::flex::layer_norm(x, weight, bias, epsilon) {
        Ok(y) => return y,
        Err(inputs) => inputs,
    };
    #[cfg(feature = "cube")]
    let (x, weight, bias) = match super::cube::layer_norm(x, weight, bias, epsilon) {
        Ok(y) => return y,
        Err(inputs) => inputs,
    };
    plain(x, weight, bias, epsilon)
}

pub(super) fn plain<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    weight: Tensor<B, 1>,
    bias: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, D> {
    let primitive = B::layer_norm(
        x.into_primitive().tensor(),
        weight.into_primitive().tensor(),
        Some(bias.into_primitive().tensor()),
        epsilon,
    );
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// Sizes of a [`LayerNorm`].
#[derive(Config, Debug)]
pub struct LayerNormConfig {
    /// Width of the normalised dimension.
    pub width: usize,
    /// Added to the variance.
    #[config(default = 1e-5)]
    pub epsilon: f64,
}

/// Layer norm over the last dimension.
#[derive(Module, Debug)]
pub struct LayerNorm<B: Backend> {
    /// Scale, `[D]`.
    pub weight: Param<Tensor<B, 1>>,
    /// Shift, `[D]`.
    pub bias: Param<Tensor<B, 1>>,
    /// Added to the variance.
    pub epsilon: f64,
}

impl LayerNormConfig {
    /// Builds the norm as the identity on normalised inputs.
    pub fn init<B: Backend>(&self, device: &B::Device) -> LayerNorm<B> {
        LayerNorm {
            weight: Initializer::Ones.init([self.width], device),
            bias: Initializer::Zeros.init([self.width], device),
            epsilon: self.epsilon,
        }
    }
}

impl<B: Backend> LayerNorm<B> {
    /// Normalises the last dimension.
    ///
    /// # Shapes
    /// - `x`, output: `[.., D]`
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        layer_norm(x, self.weight.val(), self.bias.val(), self.epsilon)
    }
}

/// Sizes of a [`LayerNorm2d`].
#[derive(Config, Debug)]
pub struct LayerNorm2dConfig {
    /// Channels C.
    pub channels: usize,
    /// Added to the variance.
    #[config(default = 1e-6)]
    pub epsilon: f64,
}

/// Layer norm over the channels of a feature map (SAM 2, `sam2_utils.py: LayerNorm2d`).
#[derive(Module, Debug)]
pub struct LayerNorm2d<B: Backend> {
    /// Scale, `[C]`.
    pub weight: Param<Tensor<B, 1>>,
    /// Shift, `[C]`.
    pub bias: Param<Tensor<B, 1>>,
    /// Added to the variance.
    pub epsilon: f64,
}

impl LayerNorm2dConfig {
    /// Builds the norm as the identity on normalised inputs.
    pub fn init<B: Backend>(&self, device: &B::Device) -> LayerNorm2d<B> {
        LayerNorm2d {
            weight: Initializer::Ones.init([self.channels], device),
            bias: Initializer::Zeros.init([self.channels], device),
            epsilon: self.epsilon,
        }
    }
}

impl<B: Backend> LayerNorm2d<B> {
    /// Normalises over the channels of each pixel.
    ///
    /// # Shapes
    /// - `x`, output: `[B, C, H, W]`
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let x = x.permute([0, 2, 3, 1]); // BCHW → BHWC
        self.forward_channels_last(x).permute([0, 3, 1, 2]) // BHWC → BCHW
    }

    /// As [`forward`](Self::forward), for channels-last maps.
    ///
    /// # Shapes
    /// - `x`, output: `[B, H, W, C]`
    pub fn forward_channels_last(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        layer_norm(x, self.weight.val(), self.bias.val(), self.epsilon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Tolerance;
    type B = burn_flex::Flex;

    #[test]
    fn each_pixel_is_normalised_over_its_channels() {
        let device = Default::default();
        let norm = LayerNorm2dConfig::new(2).init::<B>(&device);
        let x = Tensor::<B, 4>::from_data([[[[1.0, 5.0]], [[3.0, 5.0]]]], &device);
        let expected = TensorData::from([[[[-1.0f32, 0.0]], [[1.0, 0.0]]]]);
        norm.forward(x)
            .into_data()
            .assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
    }
}
