//! Convolutions and pooling of channels-last maps, for inference: patches of some pixels at a time, multiplied by `gemm`.

use burn::{
    nn::{PaddingConfig2d, conv::Conv2d},
    tensor::{Shape, TensorMetadata},
};
use multiversion::multiversion;

use super::{
    matrix::{Matrix, product, shared_product},
    permute::permuted,
    *,
};

/// Values of the patches that are multiplied at a time.
const PATCHES: usize = 64 * 1024;

/// Fewest and most pixels whose patches are multiplied at a time: the weight is packed anew for each piece.
const PIXELS: [usize; 2] = [128, 256];

/// A convolution's sizes.
#[derive(Clone, Copy)]
struct Sizes {
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
}

/// Weight and bias on the CPU.
struct Weights {
    weight: FlexTensor,
    bias: Vec<f32>,
}

/// A channels-last map by strides.
struct Map<'a> {
    storage: &'a [f32],
    /// Batch, height, width, channels.
    dims: [usize; 4],
    strides: [usize; 4],
}

impl<'a> Map<'a> {
    fn of(tensor: &'a FlexTensor) -> Self {
        let layout = tensor.layout();
        Self {
            storage: &tensor.storage()[layout.start_offset()..],
            dims: tensor.shape().dims(),
            strides: std::array::from_fn(|i| layout.strides()[i] as usize),
        }
    }
}

/// The layer's weights where it is one that the fast road takes.
fn weights<B: Backend>(conv: &Conv2d<B>) -> Option<Weights> {
    if conv.dilation != [1, 1] {
        return None;
    }
    let weight: Tensor<Flex, 4> = cast(conv.weight.val()).ok()?;
    let bias = match &conv.bias {
        Some(bias) => {
            let bias: Tensor<Flex, 1> = cast(bias.val()).ok()?;
            slice(&contiguous(primitive(bias))?).to_vec()
        }
        None => vec![0.0; weight.dims()[0]],
    };
    Some(Weights {
        weight: contiguous(primitive(weight))?,
        bias,
    })
}

fn padding<B: Backend>(conv: &Conv2d<B>) -> Option<[usize; 2]> {
    match conv.padding {
        PaddingConfig2d::Valid => Some([0, 0]),
        PaddingConfig2d::Explicit(top, left, bottom, right) => {
            (top == bottom && left == right).then_some([top, left])
        }
        PaddingConfig2d::Same => None,
    }
}

/// Convolves on the fast road, or hands the input back.
pub(in super::super) fn conv2d_channels_last<B: Backend>(
    conv: &Conv2d<B>,
    x: Tensor<B, 4>,
) -> Result<Tensor<B, 4>, Tensor<B, 4>> {
    let (Some(weights), Some(padding)) = (weights(conv), padding(conv)) else {
        return Err(x);
    };
    let [_, inner, kernel_h, kernel_w] = weights.weight.shape().dims();
    let sizes = Sizes {
        kernel: [kernel_h, kernel_w],
        stride: conv.stride,
        padding,
    };
    let [_, h, w, channels] = x.dims();
    let fits = h + 2 * padding[0] >= kernel_h && w + 2 * padding[1] >= kernel_w;
    let depthwise = inner == 1 && conv.groups == channels && weights.weight.shape()[0] == channels;
    let whole = conv.groups == 1 && inner == channels;
    if x.dtype() != DType::F32 || x.shape().num_elements() == 0 || !fits || !(depthwise || whole) {
        return Err(x);
    }
    let x = positive(primitive(cast::<_, Tensor<Flex, 4>>(x)?));
    let y = if depthwise && channels > 1 {
        each_channel(&contiguous(x).expect("the dtype was checked"), &weights, sizes)
    } else {
        all_channels(&x, &weights, sizes)
    };
    Ok(same_type(cast(wrap::<Flex, 4>(y))))
}

/// Applies a 1×1 convolution on the fast road, or hands the input back.
pub(in super::super) fn conv1x1<B: Backend>(
    conv: &Conv2d<B>,
    x: Tensor<B, 4>,
) -> Result<Tensor<B, 4>, Tensor<B, 4>> {
    let Some(weights) = weights(conv) else {
        return Err(x);
    };
    let [out, inner, ..] = weights.weight.shape().dims::<4>();
    let plain = conv.groups == 1 && conv.stride == [1, 1] && padding(conv) == Some([0, 0]);
    if weights.weight.shape().dims::<4>()[2..] != [1, 1]
        || inner != x.dims()[1]
        || !plain
        || x.dtype() != DType::F32
        || x.shape().num_elements() == 0
    {
        return Err(x);
    }
    let x = positive(primitive(cast::<_, Tensor<Flex, 4>>(x)?));
    let [batch, _, h, w] = x.shape().dims();
    // One step through all pixels, be they a plane or rows of channels; a part of a map is copied.
    let steps = |x: &FlexTensor| {
        let strides: [usize; 4] = std::array::from_fn(|i| x.layout().strides()[i] as usize);
        let step = if w == 1 { strides[2] } else { strides[3] };
        (h == 1 || w == 1 || strides[2] == w * strides[3]).then_some([strides[0], strides[1], step])
    };
    let (x, [entry, channel, pixel]) = match steps(&x) {
        Some(steps) => (x, steps),
        None => (permuted(x, &[0, 1, 2, 3]), [inner * h * w, h * w, 1]),
    };
    let storage = &x.storage::<f32>()[x.layout().start_offset()..];
    let mut y = FlexTensor::empty(Shape::from([batch, out, h, w]), DType::F32);
    let weight = Matrix::dense(slice(&weights.weight), out, inner);
    for (b, y) in y.storage_mut::<f32>().chunks_exact_mut(out * h * w).enumerate() {
        y.par_chunks_mut(h * w)
            .zip(&weights.bias)
            .for_each(|(y, bias)| y.fill(*bias));
        let pixels = Matrix::strided(&storage[b * entry..], [inner, h * w], [channel, pixel]);
        shared_product(weight, pixels, y, true);
    }
    Ok(same_type(cast(wrap::<Flex, 4>(y))))
}

fn output(dims: [usize; 4], channels: usize, sizes: Sizes) -> [usize; 4] {
    let [batch, h, w, _] = dims;
    let side = |side: usize, i: usize| (side + 2 * sizes.padding[i] - sizes.kernel[i]) / sizes.stride[i] + 1;
    [batch, side(h, 0), side(w, 1), channels]
}

/// A convolution without groups: patches of pixels as rows of a matrix.
fn all_channels(x: &FlexTensor, weights: &Weights, sizes: Sizes) -> FlexTensor {
    let map = Map::of(x);
    let [out, channels, kernel_h, kernel_w] = weights.weight.shape().dims();
    // A patch has its values in the order in which they lie together, and so has the weight.
    let together = map.strides[3] == 1;
    let weight = if together {
        permuted(weights.weight.clone(), &[0, 2, 3, 1])
    } else {
        weights.weight.clone()
    };
    let length = channels * kernel_h * kernel_w;
    let weight = Matrix::dense(slice(&weight), out, length).transposed();
    let dims = output(map.dims, out, sizes);
    let mut y = FlexTensor::empty(Shape::from(dims), DType::F32);
    let pixels = (PATCHES / length).clamp(PIXELS[0], PIXELS[1]);
    y.storage_mut::<f32>()
        .par_chunks_mut(pixels * out)
        .enumerate()
        .for_each_init(Vec::new, |patches, (i, y)| {
            patches.clear();
            patches.resize(y.len() / out * length, 0.0);
            for (j, patch) in patches.chunks_exact_mut(length).enumerate() {
                fill_patch(patch, &map, dims, i * pixels + j, sizes, together);
            }
            y.chunks_exact_mut(out)
                .for_each(|y| y.copy_from_slice(&weights.bias));
            product(
                Matrix::dense(patches, y.len() / out, length),
                weight,
                1.0,
                y,
                true,
            );
        });
    y
}

/// The values below the kernel at output pixel `pixel`; what lies outside stays zero.
fn fill_patch(patch: &mut [f32], map: &Map<'_>, out: [usize; 4], pixel: usize, sizes: Sizes, together: bool) {
    let [_, out_h, out_w, _] = out;
    let [_, h, w, channels] = map.dims;
    let [kernel_h, kernel_w] = sizes.kernel;
    let (batch, row, column) = (pixel / (out_h * out_w), pixel / out_w % out_h, pixel % out_w);
    let (top, left) = (row * sizes.stride[0], column * sizes.stride[1]);
    // Columns of the kernel that lie in the map.
    let first = sizes.padding[1].saturating_sub(left).min(kernel_w);
    let last = (w + sizes.padding[1]).saturating_sub(left).min(kernel_w);
    for ky in 0..kernel_h {
        let Some(y) = (top + ky).checked_sub(sizes.padding[0]).filter(|y| *y < h) else {
            continue;
        };
        if first >= last {
            continue;
        }
        let start =
            batch * map.strides[0] + y * map.strides[1] + (left + first - sizes.padding[1]) * map.strides[2];
        let count = last - first;
        if together {
            let patch = &mut patch[(ky * kernel_w + first) * channels..][..count * channels];
            if map.strides[2] == channels {
                patch.copy_from_slice(&map.storage[start..start + count * channels]);
            } else {
                for (i, patch) in patch.chunks_exact_mut(channels).enumerate() {
                    let from = start + i * map.strides[2];
                    patch.copy_from_slice(&map.storage[from..from + channels]);
                }
            }
        } else {
            for channel in 0..channels {
                let patch = &mut patch[(channel * kernel_h + ky) * kernel_w + first..][..count];
                let source = &map.storage[start + channel * map.strides[3]..];
                for (i, value) in patch.iter_mut().enumerate() {
                    *value = source[i * map.strides[2]];
                }
            }
        }
    }
}

/// A convolution of each channel by itself.
fn each_channel(x: &FlexTensor, weights: &Weights, sizes: Sizes) -> FlexTensor {
    let map = Map::of(x);
    let channels = map.dims[3];
    let dims = output(map.dims, channels, sizes);
    let [_, out_h, out_w, _] = dims;
    let taps = permuted(weights.weight.clone(), &[2, 3, 1, 0]); // [kernel, kernel, 1, C]
    let mut y = FlexTensor::empty(Shape::from(dims), DType::F32);
    y.storage_mut::<f32>()
        .par_chunks_mut(out_w * channels)
        .enumerate()
        .for_each(|(i, out)| {
            let (batch, row) = (i / out_h, i % out_h);
            out.chunks_exact_mut(channels)
                .for_each(|out| out.copy_from_slice(&weights.bias));
            for ky in 0..sizes.kernel[0] {
                let y = (row * sizes.stride[0] + ky).checked_sub(sizes.padding[0]);
                let Some(y) = y.filter(|y| *y < map.dims[1]) else {
                    continue;
                };
                let line = &map.storage[batch * map.strides[0] + y * map.strides[1]..][..map.strides[1]];
                let taps = &slice(&taps)[ky * sizes.kernel[1] * channels..][..sizes.kernel[1] * channels];
                add_line(line, taps, channels, sizes, out);
            }
        });
    y
}

/// Adds what one line of a map says to a line of the output.
#[multiversion(targets("x86_64+avx2+fma", "aarch64+neon"))]
fn add_line(line: &[f32], taps: &[f32], channels: usize, sizes: Sizes, out: &mut [f32]) {
    let width = line.len() / channels;
    for (column, out) in out.chunks_exact_mut(channels).enumerate() {
        for (kx, taps) in taps.chunks_exact(channels).enumerate() {
            let x = (column * sizes.stride[1] + kx).checked_sub(sizes.padding[1]);
            let Some(x) = x.filter(|x| *x < width) else {
                continue;
            };
            let values = &line[x * channels..(x + 1) * channels];
            for ((out, value), tap) in out.iter_mut().zip(values).zip(taps) {
                *out += value * tap;
            }
        }
    }
}

/// Pools on the fast road, or hands the input back.
pub(in super::super) fn max_pool_channels_last<B: Backend>(
    x: Tensor<B, 4>,
    stride: usize,
) -> Result<Tensor<B, 4>, Tensor<B, 4>> {
    let [batch, h, w, channels] = x.dims();
    let (out_h, out_w) = (h / stride, w / stride);
    if x.dtype() != DType::F32 || batch * out_h * out_w * channels == 0 {
        return Err(x);
    }
    let mut x = positive(primitive(cast::<_, Tensor<Flex, 4>>(x)?));
    if x.layout().strides()[3] != 1 {
        x = x.to_contiguous();
    }
    let map = Map::of(&x);
    let mut y = FlexTensor::empty(Shape::from([batch, out_h, out_w, channels]), DType::F32);
    y.storage_mut::<f32>()
        .par_chunks_mut(out_w * channels)
        .enumerate()
        .for_each(|(i, out)| {
            let corner = i / out_h * map.strides[0] + i % out_h * stride * map.strides[1];
            for (column, out) in out.chunks_exact_mut(channels).enumerate() {
                let at = |row: usize, right: usize| {
                    let place = corner + row * map.strides[1] + (column * stride + right) * map.strides[2];
                    &map.storage[place..place + channels]
                };
                out.copy_from_slice(at(0, 0));
                for cell in 1..stride * stride {
                    keep_larger(out, at(cell / stride, cell % stride));
                }
            }
        });
    Ok(same_type(cast(wrap::<Flex, 4>(y))))
}

/// The larger of two values each. What is not a number stays none.
#[multiversion(targets("x86_64+avx2+fma", "aarch64+neon"))]
fn keep_larger(most: &mut [f32], values: &[f32]) {
    for (most, x) in most.iter_mut().zip(values) {
        *most = if (*x > *most) | x.is_nan() { *x } else { *most };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{
        nn::conv::Conv2dConfig,
        tensor::{Distribution, Tolerance, module::max_pool2d},
    };

    fn random(dims: [usize; 4]) -> Tensor<Flex, 4> {
        Tensor::random(dims, Distribution::Normal(0.0, 1.0), &Default::default())
    }

    fn close(found: Tensor<Flex, 4>, expected: Tensor<Flex, 4>) {
        found
            .into_data()
            .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::rel_abs(1e-4, 1e-5));
    }

    #[test]
    fn convolutions_equal_those_of_burn() {
        // Channels in and out, kernel, stride, padding, groups.
        let cases = [
            ([3, 8], 7, 4, 3, 1),
            ([3, 8], 4, 4, 0, 1),
            ([1, 4], 3, 2, 1, 1),
            ([5, 6], 3, 1, 1, 1),
            ([6, 6], 7, 1, 3, 6),
            ([6, 6], 3, 2, 1, 6),
            ([4, 9], 1, 1, 0, 1),
        ];
        for ([from, to], kernel, stride, padding, groups) in cases {
            let conv = Conv2dConfig::new([from, to], [kernel, kernel])
                .with_stride([stride, stride])
                .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
                .with_groups(groups)
                .init::<Flex>(&Default::default());
            for [batch, h, w] in [[2, 17, 24], [1, 8, 8], [1, 7, 40]] {
                let x = random([batch, from, h, w]);
                let expected = conv.forward(x.clone()).permute([0, 2, 3, 1]);
                // As planes, and with the channels together.
                let view = x.clone().permute([0, 2, 3, 1]);
                let copied = Tensor::from_data(view.clone().into_data(), &Default::default());
                for x in [view, copied] {
                    close(conv2d_channels_last(&conv, x).expect("taken"), expected.clone());
                }
            }
        }
    }

    #[test]
    fn a_pointwise_convolution_is_a_product() {
        let conv = Conv2dConfig::new([5, 7], [1, 1]).init::<Flex>(&Default::default());
        let x = random([2, 9, 11, 5]).permute([0, 3, 1, 2]);
        let copied = Tensor::<Flex, 4>::from_data(x.clone().into_data(), &Default::default());
        // All, a batch entry, a column, a line, and a middle.
        for [b, h, w] in [
            [0..2, 0..9, 0..11],
            [1..2, 0..9, 0..11],
            [0..2, 0..9, 3..4],
            [0..2, 4..5, 0..11],
            [1..2, 2..5, 3..9],
        ] {
            for x in [&x, &copied] {
                let part = x.clone().slice([b.clone(), 0..5, h.clone(), w.clone()]);
                let expected = Tensor::from_data(part.clone().into_data(), &Default::default());
                close(conv1x1(&conv, part).expect("taken"), conv.forward(expected));
            }
        }
    }

    #[test]
    fn what_is_not_a_number_stays_none() {
        for place in 0..4 {
            let mut values = [0.0, 1.0, 2.0, 3.0];
            values[place] = f32::NAN;
            let x = Tensor::<Flex, 1>::from_floats(values, &Default::default()).reshape([1, 2, 2, 1]);
            let most = max_pool_channels_last(x, 2).expect("taken").into_scalar();
            assert!(most.is_nan(), "of {values:?}: {most}");
        }
    }

    #[test]
    fn pooling_equals_that_of_burn() {
        for (dims, stride) in [([2, 8, 6, 5], 2), ([1, 9, 7, 3], 2), ([1, 9, 9, 4], 3)] {
            let x = random(dims);
            let side = [stride, stride];
            let expected = max_pool2d(x.clone().permute([0, 3, 1, 2]), side, side, [0, 0], [1, 1], false);
            let found = max_pool_channels_last(x.clone(), stride).expect("taken");
            found
                .into_data()
                .assert_eq(&expected.permute([0, 2, 3, 1]).into_data(), true);
            // A part of the channels, as queries are one of three parts.
            let part = x.clone().narrow(3, 1, 2);
            let found = max_pool_channels_last(part, stride).expect("taken");
            let all = max_pool_channels_last(x, stride).expect("taken");
            found
                .into_data()
                .assert_eq(&all.narrow(3, 1, 2).into_data(), true);
        }
    }
}
