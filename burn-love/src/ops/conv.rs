//! Convolutions as the CPU likes them: channels last, or as one matrix product.

use burn::{nn::conv::Conv2d, prelude::*, tensor::module::max_pool2d};

/// Applies a convolution to channels-last maps.
///
/// # Shapes
/// - `x`: `[B, H, W, C]`
/// - output: `[B, H', W', C']`
pub fn conv2d_channels_last<B: Backend>(conv: &Conv2d<B>, x: Tensor<B, 4>) -> Tensor<B, 4> {
    #[cfg(feature = "flex")]
    let x = match super::flex::conv2d_channels_last(conv, x) {
        Ok(y) => return y,
        Err(x) => x,
    };
    let x = x.permute([0, 3, 1, 2]); // BHWC → BCHW
    conv.forward(x).permute([0, 2, 3, 1]) // BCHW → BHWC
}

/// Applies a 1×1 convolution without stride, padding or groups. The input may be a permuted channels-last map.
///
/// # Shapes
/// - `x`: `[B, C, H, W]`
/// - output: `[B, C', H, W]`
pub fn conv1x1<B: Backend>(conv: &Conv2d<B>, x: Tensor<B, 4>) -> Tensor<B, 4> {
    #[cfg(feature = "flex")]
    let x = match super::flex::conv1x1(conv, x) {
        Ok(y) => return y,
        Err(x) => x,
    };
    conv.forward(x)
}

/// The largest value in each cell of `stride` × `stride` positions of channels-last maps; an odd last row or column is
/// dropped.
///
/// # Shapes
/// - `x`: `[B, H, W, C]`
/// - output: `[B, H / stride, W / stride, C]`
pub fn max_pool_channels_last<B: Backend>(x: Tensor<B, 4>, stride: usize) -> Tensor<B, 4> {
    #[cfg(feature = "flex")]
    let x = match super::flex::max_pool_channels_last(x, stride) {
        Ok(y) => return y,
        Err(x) => x,
    };
    let side = [stride, stride];
    let x = x.permute([0, 3, 1, 2]); // BHWC → BCHW
    max_pool2d(x, side, side, [0, 0], [1, 1], false).permute([0, 2, 3, 1]) // BCHW → BHWC
}
