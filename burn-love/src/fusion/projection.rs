//! Linear → ReLU → Linear: a modality's features to the fusion's width (Eq. 1), and `[seg]` to SAM 2's prompt.

use burn::{
    nn::{Linear, LinearConfig},
    prelude::*,
    tensor::activation::relu,
};

use crate::ops::linear;

/// Widths of a [`Projection`].
#[derive(Config, Debug)]
pub struct ProjectionConfig {
    /// Width of the input.
    pub from: usize,
    /// Width of the hidden layer.
    pub hidden: usize,
    /// Width of the output.
    pub to: usize,
}

/// A two-layer projection. See the [module docs](self).
#[derive(Module, Debug)]
pub struct Projection<B: Backend> {
    /// Input to hidden.
    pub fc1: Linear<B>,
    /// Hidden to output.
    pub fc2: Linear<B>,
}

impl ProjectionConfig {
    /// Builds the projection with fresh weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Projection<B> {
        Projection {
            fc1: LinearConfig::new(self.from, self.hidden).init(device),
            fc2: LinearConfig::new(self.hidden, self.to).init(device),
        }
    }
}

impl<B: Backend> Projection<B> {
    /// Projects the last dimension.
    ///
    /// # Shapes
    /// - `x`: `[.., from]`; output: `[.., to]`
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        linear(&self.fc2, relu(linear(&self.fc1, x)))
    }
}
