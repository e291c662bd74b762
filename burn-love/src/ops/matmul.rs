//! Products of matrices, in the numbers that [`set_product_precision`](super::set_product_precision) settles.

use burn::prelude::*;

#[cfg(feature = "cube")]
use super::product_precision;

/// The product of two batches of matrices. Where one is to be used again for all of the other, that is Burn's own product,
/// in the numbers that it takes by itself.
///
/// # Shapes
/// - `left`: `[.., M, K]`; `right`: `[.., K, N]`; output: `[.., M, N]`
pub fn matmul<B: Backend, const D: usize>(left: Tensor<B, D>, right: Tensor<B, D>) -> Tensor<B, D> {
    #[cfg(feature = "cube")]
    let (left, right) = match super::cube::matmul(left, right, product_precision()) {
        Ok(product) => return product,
        Err(factors) => factors,
    };
    left.matmul(right)
}

/// As [`matmul`], never in 16 bits.
pub(super) fn matmul_floats<B: Backend, const D: usize>(
    left: Tensor<B, D>,
    right: Tensor<B, D>,
) -> Tensor<B, D> {
    #[cfg(feature = "cube")]
    let (left, right) = match super::cube::matmul(left, right, product_precision().of_floats()) {
        Ok(product) => return product,
        Err(factors) => factors,
    };
    left.matmul(right)
}
