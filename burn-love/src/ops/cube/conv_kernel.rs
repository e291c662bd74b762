//! The kernel that gathers a convolution's patches.

use cubecl::prelude::*;

/// Patches `[B, H', W', kernel, kernel, C]` of a map `[B, H, W, C]`, zeros beside it; each thread one value.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments, reason = "a kernel's bindings")]
pub(super) fn gather(
    x: &Tensor<f32>,
    patches: &mut Array<f32>,
    out_h: u32,
    out_w: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_h: u32,
    stride_w: u32,
    padding_h: u32,
    padding_w: u32,
) {
    if ABSOLUTE_POS >= patches.len() {
        terminate!();
    }
    let c = ABSOLUTE_POS % x.shape(3);
    let rest = ABSOLUTE_POS / x.shape(3);
    let kernel_x = rest % kernel_w as usize;
    let rest = rest / kernel_w as usize;
    let kernel_y = rest % kernel_h as usize;
    let rest = rest / kernel_h as usize;
    let column = rest % out_w as usize;
    let rest = rest / out_w as usize;
    let row = rest % out_h as usize;
    let b = rest / out_h as usize;
    // In the padded map.
    let y = row * stride_h as usize + kernel_y;
    let at = column * stride_w as usize + kernel_x;
    let (top, left) = (padding_h as usize, padding_w as usize);
    let mut value = 0.0f32;
    if y >= top && y < top + x.shape(1) && at >= left && at < left + x.shape(2) {
        value = x[b * x.stride(0) + (y - top) * x.stride(1) + (at - left) * x.stride(2) + c * x.stride(3)];
    }
    patches[ABSOLUTE_POS] = value;
}
