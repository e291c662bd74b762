//! Stack of linear layers with one activation between them.
//!
//! SAM 2, `sam2_utils.py: MLP`. Checkpoint keys: `*.layers.{i}.{weight,bias}`.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    prelude::*,
    tensor::activation::{relu, sigmoid},
};

use crate::ops::{in_pieces, linear, linear_gelu};

/// Activation between the layers of an [`Mlp`].
#[derive(Config, Debug, PartialEq, Copy)]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// Exact GELU (with the error function).
    Gelu,
}

/// Sizes of an [`Mlp`].
#[derive(Config, Debug)]
pub struct MlpConfig {
    /// Width of the input.
    pub input: usize,
    /// Width of the layers between.
    pub hidden: usize,
    /// Width of the output.
    pub output: usize,
    /// Number of linear layers.
    pub layers: usize,
    /// Activation after every layer but the last.
    #[config(default = "Activation::Relu")]
    pub activation: Activation,
    /// Whether the output goes through a sigmoid.
    #[config(default = false)]
    pub sigmoid_output: bool,
}

/// Multi-layer perceptron. See the [module docs](self).
#[derive(Module, Debug)]
pub struct Mlp<B: Backend> {
    /// The linear layers, first to last.
    pub layers: Vec<Linear<B>>,
    /// Activation after every layer but the last.
    #[module(skip)]
    pub activation: Activation,
    /// Whether the output goes through a sigmoid.
    pub sigmoid_output: bool,
}

impl MlpConfig {
    /// Builds the layers with fresh weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Mlp<B> {
        assert!(self.layers > 0, "an MLP needs at least one layer");
        let width = |i: usize| match i {
            0 => self.input,
            i if i == self.layers => self.output,
            _ => self.hidden,
        };
        Mlp {
            layers: (0..self.layers)
                .map(|i| LinearConfig::new(width(i), width(i + 1)).init(device))
                .collect(),
            activation: self.activation,
            sigmoid_output: self.sigmoid_output,
        }
    }
}

impl<B: Backend> Mlp<B> {
    /// Maps the last dimension through all layers, in pieces of rows where the widest layer of all would be too large a
    /// buffer.
    ///
    /// # Shapes
    /// - `x`: `[…, input]`
    /// - output: `[…, output]`
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let mut dims = x.dims();
        let width = dims[D - 1];
        let rows = x.shape().num_elements() / width;
        let widest = self.layers.iter().map(|layer| layer.weight.dims()[1]).max();
        let x: Tensor<B, 2> = x.reshape([rows, width]);
        let x = in_pieces(x, widest.unwrap_or(width), |x| self.layers(x));
        dims[D - 1] = x.dims()[1];
        x.reshape(dims)
    }

    /// All layers of some rows.
    fn layers(&self, mut x: Tensor<B, 2>) -> Tensor<B, 2> {
        let (last, hidden) = self.layers.split_last().expect("a layer");
        for layer in hidden {
            x = match self.activation {
                Activation::Relu => relu(linear(layer, x)),
                Activation::Gelu => linear_gelu(layer, x),
            };
        }
        x = linear(last, x);
        if self.sigmoid_output { sigmoid(x) } else { x }
    }
}
