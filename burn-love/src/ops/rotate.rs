//! Rotation of pairs of channels, as rotary position encoding needs it.

use burn::prelude::*;

/// Turns pairs of channels of the first `count` rows: `xⱼ·cosⱼ + xₖ·sinⱼ`, where `k` is `j`'s neighbour in the pair. The
/// tables, whose sines carry the sign, repeat as often as `count` asks for; rows behind stay.
///
/// # Shapes
/// - `x`, output: `[B, heads, L, D]`
/// - `cos`, `sin`: `[G, D]`; `count` is a multiple of `G` and at most `L`
pub fn rotate_pairs<B: Backend>(
    x: Tensor<B, 4>,
    cos: Tensor<B, 2>,
    sin: Tensor<B, 2>,
    count: usize,
) -> Tensor<B, 4> {
    let ([.., length, width], [grid, angles]) = (x.dims(), cos.dims());
    assert!(
        width == angles && width.is_multiple_of(2) && sin.dims() == cos.dims(),
        "{width} channels cannot be turned by tables of {angles}"
    );
    assert!(
        grid > 0 && count.is_multiple_of(grid) && count <= length,
        "{count} of {length} rows cannot be turned by a table of {grid}"
    );
    #[cfg(feature = "flex")]
    let (x, cos, sin) = match super::flex::rotate_pairs(x, cos, sin, count) {
        Ok(y) => return y,
        Err(inputs) => inputs,
    };
    plain(x, cos, sin, count)
}

/// The road of every backend.
pub(super) fn plain<B: Backend>(
    x: Tensor<B, 4>,
    cos: Tensor<B, 2>,
    sin: Tensor<B, 2>,
    count: usize,
) -> Tensor<B, 4> {
    let [b, heads, length, width] = x.dims();
    let grid = cos.dims()[0];
    if count < length {
        let turned = plain(x.clone().slice([0..b, 0..heads, 0..count]), cos, sin, count);
        let rest = x.slice([0..b, 0..heads, count..length]);
        return Tensor::cat(vec![turned, rest], 2);
    }
    let x = x.reshape([b * heads, count / grid, grid, width]);
    let swapped = x
        .clone()
        .reshape([b * heads * count, width / 2, 2])
        .flip([2])
        .reshape([b * heads, count / grid, grid, width]);
    let turned = x * cos.unsqueeze() + swapped * sin.unsqueeze();
    turned.reshape([b, heads, count, width])
}
