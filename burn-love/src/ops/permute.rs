//! Permutations whose results lie in memory in their own order.

use burn::prelude::*;

/// `x` with its dimensions in another order, as [`Tensor::permute`] gives it. Where a backend gains by that, the values
/// are copied into the new order at once, so that what follows reads them one behind the other.
///
/// # Shapes
/// - output: dimension `i` is dimension `axes[i]` of `x`
pub fn permute<B: Backend, const D: usize>(x: Tensor<B, D>, axes: [usize; D]) -> Tensor<B, D> {
    assert!(
        (0..D).all(|axis| axes.contains(&axis)),
        "{axes:?} is no order of {D} dimensions"
    );
    #[cfg(feature = "flex")]
    let x = match super::flex::permute(x, axes) {
        Ok(y) => return y,
        Err(x) => x,
    };
    x.permute(axes.map(|axis| axis as isize))
}

/// `x` with its values one behind the other in memory, where a backend gains by that: a view that was cut, permuted or
/// expanded is copied.
///
/// # Shapes
/// - `x`, output: any
pub fn contiguous<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    permute(x, std::array::from_fn(|axis| axis))
}
