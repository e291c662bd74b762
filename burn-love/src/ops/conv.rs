//! Convolutions as most backends like them: channels last, or as one matrix product.

#[cfg(any(feature = "cube", feature = "flex"))]
use burn::nn::PaddingConfig2d;
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
    #[cfg(feature = "cube")]
    let x = match super::cube::conv2d_channels_last(conv, x) {
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
    #[cfg(feature = "cube")]
    let x = match super::cube::conv2d_channels_last(conv, x.permute([0, 2, 3, 1])) {
        Ok(y) => return y.permute([0, 3, 1, 2]), // BHWC → BCHW
        Err(x) => x.permute([0, 3, 1, 2]),
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

/// A convolution's sizes.
#[cfg(any(feature = "cube", feature = "flex"))]
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
}

#[cfg(any(feature = "cube", feature = "flex"))]
impl Sizes {
    /// Those of a layer that the fast roads take: without dilation, padded alike on both sides.
    pub fn of<B: Backend>(conv: &Conv2d<B>) -> Option<Self> {
        let [_, _, kernel_h, kernel_w] = conv.weight.dims();
        let padding = match conv.padding {
            PaddingConfig2d::Valid => [0, 0],
            PaddingConfig2d::Explicit(top, left, bottom, right) if top == bottom && left == right => {
                [top, left]
            }
            _ => return None,
        };
        (conv.dilation == [1, 1]).then_some(Self {
            kernel: [kernel_h, kernel_w],
            stride: conv.stride,
            padding,
        })
    }

    /// Whether each output pixel sees the input pixel at its own place alone.
    pub fn pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0]
    }

    /// The dimensions of the output, channels last.
    pub fn output(&self, input: [usize; 4], channels: usize) -> [usize; 4] {
        let [batch, h, w, _] = input;
        let side = |side: usize, i: usize| (side + 2 * self.padding[i] - self.kernel[i]) / self.stride[i] + 1;
        [batch, side(h, 0), side(w, 1), channels]
    }
}
