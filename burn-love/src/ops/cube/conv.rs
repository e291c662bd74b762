//! Convolutions of channels-last maps as products of patches: CubeCL's own kernel for them, untuned, computes each output
//! for itself.

#![allow(unsafe_code, reason = "kernels are launched without a check of each index")]

use burn::nn::conv::Conv2d;

use super::{
    super::{MAX_BUFFER, conv::Sizes, in_pieces, linear::rows},
    conv_kernel::gather,
    *,
};

/// Applies a convolution without groups on the fast road, or hands the map back. With autodiff only where patches do not
/// overlap.
///
/// # Shapes
/// - `x`: `[B, H, W, C]`; output: `[B, H', W', C']`
pub(in super::super) fn conv2d_channels_last<B: Backend>(
    conv: &Conv2d<B>,
    x: Tensor<B, 4>,
) -> Result<Tensor<B, 4>, Tensor<B, 4>> {
    let Some(sizes) = Sizes::of(conv) else {
        return Err(x);
    };
    if !is_gpu::<B>() || conv.groups != 1 || x.dtype() != DType::F32 || x.shape().num_elements() == 0 {
        return Err(x);
    }
    let weight = conv.weight.val(); // [C', C, kernel, kernel]
    let [out, channels, kernel_h, kernel_w] = weight.dims();
    let output = sizes.output(x.dims(), out);
    let length = kernel_h * kernel_w * channels;
    let patches = match tiled(x, sizes) {
        Ok(patches) => patches,
        Err(x) => {
            let of_each = output[1] * output[2] * length;
            if !infers::<B>() || of_each > MAX_BUFFER {
                return Err(x);
            }
            if output[0] * of_each > MAX_BUFFER {
                return Ok(in_pieces(x, of_each, |x| {
                    super::super::conv2d_channels_last(conv, x)
                }));
            }
            patches((x, sizes, output))?
        }
    };
    let weight = weight.permute([2, 3, 1, 0]).reshape([length, out]);
    let bias = conv.bias.as_ref().map(|bias| bias.val());
    Ok(rows(patches, weight, bias).reshape(output))
}

/// Patches that lie beside each other, as views and one copy; the map again where they overlap or leave something out.
///
/// # Shapes
/// - `x`: `[B, H, W, C]`; output: `[B, H', W', kernel·kernel·C]`
fn tiled<B: Backend>(x: Tensor<B, 4>, sizes: Sizes) -> Result<Tensor<B, 4>, Tensor<B, 4>> {
    if sizes.pointwise() {
        return Ok(x);
    }
    let ([b, h, w, c], [kernel_h, kernel_w]) = (x.dims(), sizes.kernel);
    let whole = h.is_multiple_of(kernel_h) && w.is_multiple_of(kernel_w);
    if sizes.kernel != sizes.stride || sizes.padding != [0, 0] || !whole {
        return Err(x);
    }
    let (rows, columns) = (h / kernel_h, w / kernel_w);
    Ok(x.reshape([b, rows, kernel_h, columns, kernel_w, c])
        .permute([0, 1, 3, 2, 4, 5]) // [B, H', W', kernel, kernel, C]
        .reshape([b, rows, columns, kernel_h * kernel_w * c]))
}

type Inputs<P> = (P, Sizes, [usize; 4]);

/// All patches, gathered; the map again with autodiff.
fn patches<B: Backend>(
    (x, sizes, output): (Tensor<B, 4>, Sizes, [usize; 4]),
) -> Result<Tensor<B, 4>, Tensor<B, 4>> {
    road::<B>((primitive(x), sizes, output))
        .map(wrap)
        .map_err(|(x, ..)| wrap(x))
}

fn road<B: Backend>(
    inputs: Inputs<B::FloatTensorPrimitive>,
) -> Result<B::FloatTensorPrimitive, Inputs<B::FloatTensorPrimitive>> {
    on_each_gpu!(Inputs, inputs, direct, tracked)
}

fn tracked<G: Gpu>(inputs: Inputs<TrackedTensor<G>>) -> Result<TrackedTensor<G>, Inputs<TrackedTensor<G>>> {
    Err(inputs)
}

fn direct<G: Gpu>(
    (x, sizes, output): Inputs<CubeTensor<G::Runtime>>,
) -> Result<CubeTensor<G::Runtime>, Inputs<CubeTensor<G::Runtime>>> {
    let [b, h, w, _] = output;
    let channels = x.meta.shape()[3];
    let [kernel_h, kernel_w] = sizes.kernel;
    let patches = empty(&x, [b, h, w, kernel_h * kernel_w * channels]);
    let client = x.client.clone();
    // SAFETY: a thread behind the last element does nothing; pixels beside the map are not read.
    unsafe {
        gather::launch_unchecked::<G::Runtime>(
            &client,
            cubes(patches.meta.num_elements().div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            x.into_tensor_arg(),
            patches.clone().into_array_arg(),
            h as u32,
            w as u32,
            kernel_h as u32,
            kernel_w as u32,
            sizes.stride[0] as u32,
            sizes.stride[1] as u32,
            sizes.padding[0] as u32,
            sizes.padding[1] as u32,
        );
    }
    Ok(patches)
}
