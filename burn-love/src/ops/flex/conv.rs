//! Convolutions of channels-last maps: patches of some pixels at a time, multiplied by the weight.

use std::ops::Range;

use burn::{nn::conv::Conv2d, tensor::TensorMetadata};
use multiversion::multiversion;

use super::{
    super::conv::Sizes,
    conv_gradients::tracked,
    matrix::Matrix,
    permute::{permute, permuted},
    product::{Right, shared_product},
    *,
};

/// Values of the patches that are multiplied at a time.
const PATCHES: usize = 64 * 1024;

/// Fewest and most pixels whose patches are multiplied at a time.
const PIXELS: [usize; 2] = [128, 256];

/// A channels-last map by strides.
pub(super) struct Map<'a> {
    storage: &'a [f32],
    /// Batch, height, width, channels.
    pub dims: [usize; 4],
    strides: [usize; 4],
}

impl<'a> Map<'a> {
    pub fn of(tensor: &'a FlexTensor) -> Self {
        let layout = tensor.layout();
        Self {
            storage: &tensor.storage()[layout.start_offset()..],
            dims: tensor.shape().dims(),
            strides: std::array::from_fn(|i| layout.strides()[i] as usize),
        }
    }

    /// Whether the channels of a pixel lie together. A patch has its values in the order in which they lie: `[kernel,
    /// kernel, C]` then, else `[C, kernel, kernel]`.
    pub fn together(&self) -> bool {
        self.strides[3] == 1
    }

    /// Whether all pixels lie one behind the other.
    fn dense(&self) -> bool {
        let [_, h, w, channels] = self.dims;
        self.strides == [h * w * channels, w * channels, channels, 1]
    }

    /// Patches below the kernel at output pixels, one a row; `room` is where they are gathered.
    pub fn patches<'b>(&'b self, pixels: Range<usize>, sizes: Sizes, room: &'b mut Vec<f32>) -> Matrix<'b> {
        let length = self.dims[3] * sizes.kernel[0] * sizes.kernel[1];
        if sizes.pointwise() && self.dense() {
            return Matrix::dense(&self.storage[pixels.start * length..], pixels.len(), length);
        }
        room.clear();
        room.resize(pixels.len() * length, 0.0);
        for (patch, pixel) in room.chunks_exact_mut(length).zip(pixels.clone()) {
            fill_patch(patch, self, pixel, sizes);
        }
        Matrix::dense(room, pixels.len(), length)
    }

    /// The channels of a pixel, which lie together.
    pub fn pixel(&self, batch: usize, [row, column]: [usize; 2]) -> &'a [f32] {
        let [entry, line, step, _] = self.strides;
        &self.storage[batch * entry + row * line + column * step..][..self.dims[3]]
    }

    /// The lines below the kernel at an output row of entry `batch`, each with its row of the kernel; of a dense map.
    pub fn lines(&self, batch: usize, row: usize, sizes: Sizes) -> impl Iterator<Item = (usize, &'a [f32])> {
        let [_, height, width, channels] = self.dims;
        let (storage, line) = (self.storage, width * channels);
        (0..sizes.kernel[0]).filter_map(move |ky| {
            let y = (row * sizes.stride[0] + ky).checked_sub(sizes.padding[0])?;
            (y < height).then(|| (ky, &storage[(batch * height + y) * line..][..line]))
        })
    }
}

/// A weight `[C', C, kernel, kernel]` with its values in the order of the patches of `map`.
fn as_patches(weight: &FlexTensor, map: &Map<'_>) -> FlexTensor {
    let axes = if map.together() {
        [0, 2, 3, 1]
    } else {
        [0, 1, 2, 3]
    };
    permuted(weight.clone(), &axes)
}

/// Input, weight and bias.
type Inputs<B> = (Tensor<B, 4>, Tensor<B, 4>, Tensor<B, 1>);

/// Convolves on the fast road, or hands the input back.
pub(in super::super) fn conv2d_channels_last<B: Backend>(
    conv: &Conv2d<B>,
    x: Tensor<B, 4>,
) -> Result<Tensor<B, 4>, Tensor<B, 4>> {
    let Some(sizes) = Sizes::of(conv) else {
        return Err(x);
    };
    let weight = conv.weight.val();
    let ([out, inner, ..], [_, h, w, channels]) = (weight.dims(), x.dims());
    let fits = h + 2 * sizes.padding[0] >= sizes.kernel[0] && w + 2 * sizes.padding[1] >= sizes.kernel[1];
    let whole = conv.groups == 1 && inner == channels;
    let depthwise = inner == 1 && conv.groups == channels && out == channels;
    let numbers = x.dtype() == DType::F32 && weight.dtype() == DType::F32;
    if !numbers || x.shape().num_elements() == 0 || !fits || !(whole || depthwise) {
        return Err(x);
    }
    let bias = match &conv.bias {
        Some(bias) => bias.val(),
        None => Tensor::zeros([out], &x.device()),
    };
    let inputs = match cast::<Inputs<B>, Inputs<Flex>>((x, weight, bias)) {
        Ok((x, weight, bias)) => {
            let x = positive(primitive(x));
            let y = forward(&x, &primitive(weight), primitive(bias), sizes);
            return Ok(same_type(cast(wrap::<Flex, 4>(y))));
        }
        Err(inputs) => inputs,
    };
    // The plain road has the gradients of depthwise convolutions that skip pixels, or see nothing but padding.
    let inside = (0..2).all(|i| sizes.padding[i] < sizes.kernel[i]);
    if !whole && (sizes.stride != [1, 1] || !inside) {
        return Err(inputs.0);
    }
    let (x, weight, bias) = cast::<Inputs<B>, Inputs<AutodiffFlex>>(inputs).map_err(|(x, ..)| x)?;
    Ok(same_type(cast(tracked(x, weight, bias, sizes))))
}

/// The convolution of a map with positive strides, of each channel by itself where the weight sees one of several.
///
/// # Shapes
/// - `x`: `[B, H, W, C]`; `weight`: `[C', C or 1, kernel, kernel]`; `bias`: `[C']`
pub(super) fn forward(x: &FlexTensor, weight: &FlexTensor, bias: FlexTensor, sizes: Sizes) -> FlexTensor {
    let bias = contiguous(bias).expect("f32, as the weight");
    let [_, _, _, channels] = x.shape().dims();
    let [_, inner, ..] = weight.shape().dims::<4>();
    if inner == channels {
        return all_channels(x, weight, slice(&bias), sizes);
    }
    let x = contiguous(x.clone()).expect("the dtype was checked");
    each_channel(&x, weight, slice(&bias), sizes)
}

/// Applies a 1×1 convolution on the fast road, or hands the input back.
pub(in super::super) fn conv1x1<B: Backend>(
    conv: &Conv2d<B>,
    x: Tensor<B, 4>,
) -> Result<Tensor<B, 4>, Tensor<B, 4>> {
    let Some(sizes) = Sizes::of(conv) else {
        return Err(x);
    };
    let weight = conv.weight.val();
    let [out, inner, ..] = weight.dims();
    let usable = conv.groups == 1 && sizes.pointwise() && inner == x.dims()[1];
    let numbers = x.dtype() == DType::F32 && weight.dtype() == DType::F32;
    if !usable || !numbers || x.shape().num_elements() == 0 {
        return Err(x);
    }
    let x = match cast::<_, Tensor<Flex, 4>>(x) {
        Ok(x) => x,
        Err(x) => {
            // In training the channels come last, as everywhere else, and lie together: pixels are gathered twice.
            let x = permute(x, [0, 2, 3, 1]).unwrap_or_else(|x| x.permute([0, 2, 3, 1])); // BCHW → BHWC
            let y = conv2d_channels_last(conv, x);
            return y.map_or_else(|x| Err(x.permute([0, 3, 1, 2])), |y| Ok(y.permute([0, 3, 1, 2]))); // BHWC → BCHW
        }
    };
    let weight: Tensor<Flex, 4> = same_type(cast(weight));
    let weight = contiguous(primitive(weight)).expect("the dtype was checked");
    let bias = conv.bias.as_ref().map(|bias| {
        let bias: Tensor<Flex, 1> = same_type(cast(bias.val()));
        contiguous(primitive(bias)).expect("f32, as the weight")
    });
    let x = positive(primitive(x));
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
    let mut y = match &bias {
        Some(bias) => constant_rows([batch, out, h, w], h * w, |plane| slice(bias)[plane % out]),
        None => zeros([batch, out, h, w]),
    };
    let weight = Matrix::dense(slice(&weight), out, inner);
    for (b, y) in y.storage_mut::<f32>().chunks_exact_mut(out * h * w).enumerate() {
        let pixels = Matrix::strided(&storage[b * entry..], [inner, h * w], [channel, pixel]);
        shared_product(weight, pixels, y, bias.is_some());
    }
    Ok(same_type(cast(wrap::<Flex, 4>(y))))
}

/// A convolution without groups: patches of pixels as rows of a matrix.
fn all_channels(x: &FlexTensor, weight: &FlexTensor, bias: &[f32], sizes: Sizes) -> FlexTensor {
    let map = Map::of(x);
    let weight = as_patches(weight, &map);
    let [out, ..] = weight.shape().dims::<4>();
    let length = weight.shape().num_elements() / out;
    let mut y = zeros(sizes.output(map.dims, out));
    let pixels = pixels_at_once(length);
    let values = y.storage_mut::<f32>();
    let several = values.len() > pixels * out;
    let weight = Right::new(
        Matrix::dense(slice(&weight), out, length).transposed(),
        1.0,
        several,
    );
    values
        .par_chunks_mut(pixels * out)
        .enumerate()
        .for_each_init(Vec::new, |room, (i, y)| {
            y.chunks_exact_mut(out).for_each(|y| y.copy_from_slice(bias));
            let first = i * pixels;
            let patches = map.patches(first..first + y.len() / out, sizes, room);
            weight.multiply(patches, y, true);
        });
    y
}

/// Patches of so many values that are gathered at a time.
pub(super) fn pixels_at_once(length: usize) -> usize {
    (PATCHES / length).clamp(PIXELS[0], PIXELS[1])
}

/// The values below the kernel at output pixel `pixel`; what lies outside stays zero.
fn fill_patch(patch: &mut [f32], map: &Map<'_>, pixel: usize, sizes: Sizes) {
    let [_, out_h, out_w, _] = sizes.output(map.dims, 1);
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
        if map.together() {
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

/// A convolution of each channel by itself; `x` is contiguous.
pub(super) fn each_channel(x: &FlexTensor, weight: &FlexTensor, bias: &[f32], sizes: Sizes) -> FlexTensor {
    let map = Map::of(x);
    let channels = map.dims[3];
    let dims = sizes.output(map.dims, channels);
    let [_, out_h, out_w, _] = dims;
    let taps = permuted(weight.clone(), &[2, 3, 1, 0]); // [kernel, kernel, 1, C]
    let mut y = zeros(dims);
    y.storage_mut::<f32>()
        .par_chunks_mut(out_w * channels)
        .enumerate()
        .for_each(|(i, out)| {
            out.chunks_exact_mut(channels)
                .for_each(|out| out.copy_from_slice(bias));
            for (ky, line) in map.lines(i / out_h, i % out_h, sizes) {
                let taps = &slice(&taps)[ky * sizes.kernel[1] * channels..][..sizes.kernel[1] * channels];
                add_line(line, taps, channels, sizes, out);
            }
        });
    y
}

/// Adds what one line of a map says to a line of the output.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma", "aarch64+neon"))]
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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{
        nn::{PaddingConfig2d, conv::Conv2dConfig},
        tensor::{Distribution, Tolerance},
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
}
