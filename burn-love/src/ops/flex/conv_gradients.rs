//! Convolutions of channels-last maps in training: what [`conv`](super::conv) computes, with its backward pass.

use std::ops::Range;

use burn::tensor::{TensorData, TensorMetadata};
use multiversion::multiversion;

use super::{
    super::conv::Sizes,
    conv::{Map, each_channel, forward, pixels_at_once},
    linear::{add, sum_of_rows},
    matrix::Matrix,
    permute::permuted,
    product::{Right, product},
    *,
};

/// Partial sums of a weight's gradient: whatever the number of threads, so that it changes nothing.
const PARTS: usize = 8;

/// The convolution of tracked tensors.
///
/// # Shapes
/// - as [`forward`]'s
pub(super) fn tracked(
    x: Tensor<AutodiffFlex, 4>,
    weight: Tensor<AutodiffFlex, 4>,
    bias: Tensor<AutodiffFlex, 1>,
    sizes: Sizes,
) -> Tensor<AutodiffFlex, 4> {
    let (x, weight, bias) = (primitive(x), primitive(weight), primitive(bias));
    // Each side's gradient needs the other side.
    let needed = [weight.is_tracked(), x.is_tracked()];
    let nodes = [x.node, weight.node, bias.node];
    let (x, weight) = (positive(x.primitive), weight.primitive);
    let y = forward(&x, &weight, bias.primitive, sizes);
    let state = |x: FlexTensor, weight: FlexTensor| State {
        sizes,
        input: x.shape().dims(),
        weight: weight.shape().dims(),
        sides: [needed[0].then_some(x), needed[1].then_some(weight)],
    };
    let y = match Convolution
        .prepare::<NoCheckpointing>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish(state(x, weight), y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    };
    wrap::<AutodiffFlex, 4>(y)
}

#[derive(Debug)]
struct Convolution;

/// What the backward pass needs.
#[derive(Debug, Clone)]
struct State {
    sizes: Sizes,
    /// Dimensions of the input, channels last.
    input: [usize; 4],
    /// Dimensions of the weight.
    weight: [usize; 4],
    /// Input and weight, where the other one's gradient is asked for.
    sides: [Option<FlexTensor>; 2],
}

impl Backward<Flex, 3> for Convolution {
    type State = State;

    fn backward(self, ops: Ops<State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = contiguous(grads.consume::<Flex>(&ops.node)).expect("a gradient has its tensor's dtype");
        let State {
            sizes,
            input,
            weight: dims,
            sides: [x, weight],
        } = ops.state;
        let whole = dims[1] == input[3];
        let [of_x, of_weight, of_bias] = ops.parents;
        if let (Some(parent), Some(weight)) = (of_x, weight) {
            let gradient = if whole {
                input_gradient(&grad, weight, input, sizes)
            } else {
                each_input_gradient(&grad, &weight, sizes)
            };
            grads.register::<Flex>(parent.id, gradient);
        }
        if let (Some(parent), Some(x)) = (of_weight, x) {
            let gradient = if whole {
                weight_gradient(&x, &grad, dims, sizes)
            } else {
                each_weight_gradient(x, &grad, dims, sizes)
            };
            grads.register::<Flex>(parent.id, gradient);
        }
        if let Some(parent) = of_bias {
            grads.register::<Flex>(parent.id, sum_of_rows(slice(&grad), dims[0]));
        }
    }
}

/// The gradient of the input: each output pixel's goes back to the patch below the kernel.
fn input_gradient(grad: &FlexTensor, weight: FlexTensor, input: [usize; 4], sizes: Sizes) -> FlexTensor {
    let weight = permuted(weight, &[0, 2, 3, 1]); // [C', kernel, kernel, C]
    let [out, ..] = weight.shape().dims::<4>();
    let [_, h, w, channels] = input;
    let length = weight.shape().num_elements() / out;
    let weight = Right::new(Matrix::dense(slice(&weight), out, length), 1.0, true);
    let [_, out_h, out_w, _] = sizes.output(input, out);
    let mut gradient = zeros(input);
    let pixels = pixels_at_once(length);
    gradient
        .storage_mut::<f32>()
        .par_chunks_mut(h * w * channels)
        .zip(slice(grad).par_chunks(out_h * out_w * out))
        .for_each_init(Vec::new, |patches, (map, grad)| {
            for (i, grad) in grad.chunks(pixels * out).enumerate() {
                let rows = grad.len() / out;
                patches.resize(rows * length, 0.0);
                weight.multiply(Matrix::dense(grad, rows, out), patches, false);
                for (j, patch) in patches.chunks_exact(length).enumerate() {
                    let pixel = i * pixels + j;
                    add_patch(patch, map, input, [pixel / out_w, pixel % out_w], sizes);
                }
            }
        });
    gradient
}

/// Adds a patch to what lies below the kernel at an output pixel of one map.
fn add_patch(patch: &[f32], map: &mut [f32], input: [usize; 4], [row, column]: [usize; 2], sizes: Sizes) {
    let [_, h, w, channels] = input;
    let [kernel_h, kernel_w] = sizes.kernel;
    let left = column * sizes.stride[1];
    // Columns of the kernel that lie in the map.
    let first = sizes.padding[1].saturating_sub(left).min(kernel_w);
    let last = (w + sizes.padding[1]).saturating_sub(left).min(kernel_w);
    if first >= last {
        return;
    }
    for ky in 0..kernel_h {
        let Some(y) = (row * sizes.stride[0] + ky).checked_sub(sizes.padding[0]) else {
            continue;
        };
        if y >= h {
            continue;
        }
        let count = (last - first) * channels;
        let start = (y * w + left + first - sizes.padding[1]) * channels;
        let patch = &patch[(ky * kernel_w + first) * channels..][..count];
        add(&mut map[start..start + count], patch);
    }
}

/// The gradient of the weight: gradients of pixels times their patches, in partial sums of a fixed order.
fn weight_gradient(x: &FlexTensor, grad: &FlexTensor, dims: [usize; 4], sizes: Sizes) -> FlexTensor {
    let map = Map::of(x);
    let [out, channels, kernel_h, kernel_w] = dims;
    let length = channels * kernel_h * kernel_w;
    let grad = slice(grad);
    let pixels = pixels_at_once(length);
    let sum = in_parts(grad.len() / out, pixels, |range| {
        let (mut sum, mut room) = (vec![0.0; out * length], Vec::new());
        for start in range.clone().step_by(pixels) {
            let rows = start..(start + pixels).min(range.end);
            let slope = Matrix::dense(&grad[rows.start * out..], rows.len(), out).transposed();
            product(slope, map.patches(rows, sizes, &mut room), 1.0, &mut sum, true);
        }
        sum
    });
    let as_gathered = |dims: [usize; 4]| FlexTensor::from_data(TensorData::new(sum, dims));
    if map.together() {
        permuted(as_gathered([out, kernel_h, kernel_w, channels]), &[0, 3, 1, 2])
    } else {
        as_gathered(dims)
    }
}

/// The gradient of the input where each channel is convolved by itself without skipping pixels: the same with the kernel
/// turned round.
fn each_input_gradient(grad: &FlexTensor, weight: &FlexTensor, sizes: Sizes) -> FlexTensor {
    let [channels, _, kernel_h, kernel_w] = weight.shape().dims();
    let taps = contiguous(weight.clone()).expect("the dtype was checked");
    let mut turned = slice(&taps).to_vec();
    turned
        .chunks_exact_mut(kernel_h * kernel_w)
        .for_each(<[f32]>::reverse);
    let turned = FlexTensor::from_data(TensorData::new(turned, weight.shape()));
    let padding = std::array::from_fn(|i| sizes.kernel[i] - 1 - sizes.padding[i]);
    each_channel(grad, &turned, &vec![0.0; channels], Sizes { padding, ..sizes })
}

/// The gradient of the weight where each channel is convolved by itself.
fn each_weight_gradient(x: FlexTensor, grad: &FlexTensor, dims: [usize; 4], sizes: Sizes) -> FlexTensor {
    let x = contiguous(x).expect("the dtype was checked");
    let map = Map::of(&x);
    let [channels, _, kernel_h, kernel_w] = dims;
    let [batch, out_h, out_w, _] = sizes.output(map.dims, channels);
    let grad = slice(grad);
    let taps = kernel_w * channels;
    let sum = in_parts(batch * out_h, 1, |rows| {
        let mut sum = vec![0.0; kernel_h * taps];
        for row in rows {
            let grad = &grad[row * out_w * channels..][..out_w * channels];
            for (ky, line) in map.lines(row / out_h, row % out_h, sizes) {
                add_taps(line, grad, channels, sizes, &mut sum[ky * taps..][..taps]);
            }
        }
        sum
    });
    let sum = TensorData::new(sum, [kernel_h, kernel_w, 1, channels]);
    permuted(FlexTensor::from_data(sum), &[3, 2, 0, 1])
}

/// Adds what one line of a map and the gradients of a line of the output say to a row of the kernel.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma", "aarch64+neon"))]
fn add_taps(line: &[f32], grad: &[f32], channels: usize, sizes: Sizes, taps: &mut [f32]) {
    let width = line.len() / channels;
    for (column, grad) in grad.chunks_exact(channels).enumerate() {
        for (kx, taps) in taps.chunks_exact_mut(channels).enumerate() {
            let x = (column * sizes.stride[1] + kx).checked_sub(sizes.padding[1]);
            let Some(x) = x.filter(|x| *x < width) else {
                continue;
            };
            let values = &line[x * channels..(x + 1) * channels];
            for ((tap, value), slope) in taps.iter_mut().zip(values).zip(grad) {
                *tap += value * slope;
            }
        }
    }
}

/// The sum of `part` over pieces of `0..count`, each a multiple of `step` long but the last.
fn in_parts(count: usize, step: usize, part: impl Fn(Range<usize>) -> Vec<f32> + Sync) -> Vec<f32> {
    let length = count.div_ceil(PARTS).next_multiple_of(step);
    let parts: Vec<Vec<f32>> = (0..count.div_ceil(length))
        .into_par_iter()
        .map(|i| part(i * length..((i + 1) * length).min(count)))
        .collect();
    let mut parts = parts.into_iter();
    let mut sum = parts.next().expect("a map has pixels");
    parts.for_each(|part| add(&mut sum, &part));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{
        nn::{
            PaddingConfig2d,
            conv::{Conv2d, Conv2dConfig},
        },
        tensor::{Distribution, Tolerance},
    };

    type B = AutodiffFlex;

    fn random(dims: [usize; 4]) -> Tensor<B, 4> {
        Tensor::random(dims, Distribution::Normal(0.3, 1.0), &Default::default())
    }

    /// Output, and gradients of input, weight and bias.
    fn run(
        conv: &Conv2d<B>,
        x: Tensor<B, 4>,
        road: impl Fn(&Conv2d<B>, Tensor<B, 4>) -> Tensor<B, 4>,
    ) -> Vec<Option<TensorData>> {
        let y = road(conv, x.clone());
        let upstream: Tensor<B, 4> = {
            // The same for every road: a function of the place.
            let count = y.shape().num_elements() as i64;
            let at = Tensor::<B, 1, Int>::arange(0..count, &Default::default()).float();
            (at * 0.7).sin().reshape(y.dims())
        };
        let grads = (y.clone() * upstream).sum().backward();
        let bias = conv.bias.as_ref().and_then(|bias| bias.grad(&grads));
        vec![
            Some(y.inner().into_data()),
            x.grad(&grads).map(Tensor::into_data),
            conv.weight.grad(&grads).map(Tensor::into_data),
            bias.map(Tensor::into_data),
        ]
    }

    fn fast(conv: &Conv2d<B>, x: Tensor<B, 4>) -> Tensor<B, 4> {
        super::super::conv2d_channels_last(conv, x).expect("taken")
    }

    fn plain(conv: &Conv2d<B>, x: Tensor<B, 4>) -> Tensor<B, 4> {
        conv.forward(x.permute([0, 3, 1, 2])).permute([0, 2, 3, 1])
    }

    fn equal(found: &[Option<TensorData>], expected: &[Option<TensorData>]) {
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.is_some(), expected.is_some());
            if let (Some(found), Some(expected)) = (found, expected) {
                found.assert_approx_eq::<f32>(expected, Tolerance::rel_abs(1e-4, 2e-4));
            }
        }
    }

    #[test]
    fn output_and_gradients_equal_those_of_burn() {
        // Channels in and out, kernel, stride, padding, groups, bias.
        let cases = [
            ([3, 8], 7, 4, 3, 1, true),
            ([3, 8], 4, 4, 0, 1, true),
            ([1, 4], 3, 2, 1, 1, true),
            ([5, 6], 3, 1, 1, 1, false),
            ([6, 6], 7, 1, 3, 6, true),
            ([6, 6], 3, 1, 0, 6, true),
            ([4, 9], 1, 1, 0, 1, true),
            ([4, 9], 1, 2, 0, 1, true),
        ];
        for ([from, to], kernel, stride, padding, groups, bias) in cases {
            let conv = Conv2dConfig::new([from, to], [kernel, kernel])
                .with_stride([stride, stride])
                .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
                .with_groups(groups)
                .with_bias(bias)
                .init::<B>(&Default::default());
            for [batch, h, w] in [[2, 17, 24], [1, 8, 8], [3, 7, 40]] {
                // As it lies, and as planes.
                let dense = random([batch, h, w, from]).require_grad();
                equal(&run(&conv, dense.clone(), fast), &run(&conv, dense, plain));
                let planes = random([batch, from, h, w]).require_grad();
                let of_planes = |road: fn(&Conv2d<B>, Tensor<B, 4>) -> Tensor<B, 4>| {
                    let found = run(&conv, planes.clone(), |conv, x| {
                        road(conv, x.permute([0, 2, 3, 1]))
                    });
                    assert!(found[1].is_some(), "the planes get their gradient");
                    found
                };
                equal(&of_planes(fast), &of_planes(plain));
            }
        }
    }

    #[test]
    fn a_pointwise_convolution_learns_too() {
        let conv = Conv2dConfig::new([5, 7], [1, 1]).init::<B>(&Default::default());
        let x = random([2, 5, 9, 11]).require_grad();
        let fast = run(&conv, x.clone(), |conv, x| {
            super::super::conv1x1(conv, x).expect("taken")
        });
        equal(&fast, &run(&conv, x, Conv2d::forward));
    }

    #[test]
    fn a_depthwise_convolution_that_skips_pixels_takes_the_plain_road() {
        let conv = Conv2dConfig::new([4, 4], [3, 3])
            .with_groups(4)
            .with_stride([2, 2])
            .init::<B>(&Default::default());
        assert!(super::super::conv2d_channels_last(&conv, random([1, 9, 9, 4])).is_err());
    }

    #[test]
    fn what_is_frozen_gets_no_gradient() {
        let learning = Conv2dConfig::new([3, 4], [3, 3]).init::<B>(&Default::default());
        let mut half = learning.clone();
        half.weight = half.weight.no_grad();
        for (conv, learns) in [
            (learning.clone().no_grad(), true),
            (half, true),
            (learning, false),
        ] {
            let x = random([1, 6, 5, 3]).set_require_grad(learns);
            equal(&run(&conv, x.clone(), fast), &run(&conv, x, plain));
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let conv = Conv2dConfig::new([6, 10], [3, 3]).init::<B>(&Default::default());
        let x = random([2, 40, 40, 6]).require_grad();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| run(&conv, x.clone(), fast))
        };
        for (one, three) in with(1).iter().zip(with(3)) {
            one.as_ref().unwrap().assert_eq(&three.unwrap(), true);
        }
    }
}
