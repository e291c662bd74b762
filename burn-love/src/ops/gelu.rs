//! The exact GELU.

use burn::prelude::*;

/// `x·Φ(x)` with the exact normal distribution function (PyTorch's `approximate="none"`).
///
/// # Shapes
/// - `x`, output: any
pub fn gelu<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    #[cfg(feature = "flex")]
    let x = match super::flex::gelu(x) {
        Ok(y) => return y,
        Err(x) => x,
    };
    burn::tensor::activation::gelu(x)
}
