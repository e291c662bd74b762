//! Linear layers over the last dimension.

use burn::{nn::Linear, prelude::*};

/// Applies `layer` to the last dimension as one matrix product over all rows: a batched product would broadcast the
/// weight, and its gradient would be one matrix per batch element.
///
/// # Shapes
/// - `x`: `[.., input]`
/// - output: `[.., output]`
pub fn linear<B: Backend, const D: usize>(layer: &Linear<B>, x: Tensor<B, D>) -> Tensor<B, D> {
    let mut dims = x.dims();
    let [input, output] = layer.weight.dims();
    let rows = x.shape().num_elements() / input;
    dims[D - 1] = output;
    let x = x.reshape([rows, input]);
    #[cfg(feature = "flex")]
    let x = match super::flex::linear(x, layer) {
        Ok(y) => return y.reshape(dims),
        Err(x) => x,
    };
    layer.forward(x).reshape(dims)
}
