//! The fast roads of `ops` on a GPU against the same operations on the CPU, forward and backward.

use burn::{
    backend::Autodiff,
    module::{Param, ParamId},
    nn::{
        Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    prelude::*,
    tensor::backend::AutodiffBackend,
};
use burn_flex::Flex;
use burn_love::ops::{attention, conv1x1, conv2d_channels_last, gelu, layer_norm, linear, matmul};

use crate::Bounds;

type Cpu = Autodiff<Flex>;

/// Numbers between −2 and 2 that look random; `seed` makes others.
fn numbers<const D: usize>(dims: [usize; D], seed: usize) -> TensorData {
    let number = |i: usize| ((i * 2_654_435_761 + seed * 40_503) % 10_007) as f32 / 2_501.75 - 2.0;
    TensorData::new((0..dims.iter().product()).map(number).collect(), dims)
}

/// What an operation gives in training and in inference, and the gradients of its inputs for a given one of its output.
fn run<B: AutodiffBackend, const D: usize>(
    device: &B::Device,
    inputs: &[TensorData],
    operation: impl Fn(&[Tensor<B, D>]) -> Tensor<B, D>,
    inference: impl Fn(&[Tensor<B::InnerBackend, D>]) -> Tensor<B::InnerBackend, D>,
) -> Vec<TensorData> {
    let inputs: Vec<_> = inputs
        .iter()
        .map(|data| Tensor::<B, D>::from_data(data.clone(), device).require_grad())
        .collect();
    let y = operation(&inputs);
    let slope = Tensor::from_data(numbers(y.dims(), 9), device);
    let gradients = (y.clone() * slope).sum().backward();
    let frozen: Vec<_> = inputs.iter().map(|x| x.clone().inner()).collect();
    let direct = inference(&frozen);
    let mut all = vec![y.into_data(), direct.into_data()];
    all.extend(
        inputs
            .iter()
            .map(|x| x.grad(&gradients).expect("a gradient").into_data()),
    );
    all
}

/// The largest difference of what two backends gave, of the largest value.
fn agree(name: &str, ours: &[TensorData], cpu: &[TensorData], bounds: Bounds) {
    for (i, (ours, cpu)) in ours.iter().zip(cpu).enumerate() {
        let [ours, cpu] = [ours, cpu].map(|data| data.to_vec::<f32>().expect("f32"));
        let largest = cpu.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        // Where all vanish, what is left is held against the inputs' size.
        let largest = if largest < 1e-5 { 1.0 } else { largest };
        let apart = ours.iter().zip(&cpu).fold(0.0f32, |most, (a, b)| {
            let apart = (a - b).abs();
            if apart.is_nan() {
                f32::INFINITY
            } else {
                most.max(apart)
            }
        });
        let bound = if i < 2 { bounds.module } else { bounds.gradient };
        crate::report(&format!("{name}, output {i}"), &[f64::from(apart / largest)]);
        assert!(
            apart <= bound as f32 * largest,
            "{name}, output {i}: {apart} of {largest}"
        );
    }
}

/// Shapes `[B, heads, Lq, Lk, Dh, Dv]`: less than a tile and more, keys in parts, wide heads, one key, whose gradient
/// vanishes.
const ATTENTION: [[usize; 6]; 4] = [
    [2, 3, 70, 100, 8, 12],
    [1, 1, 20, 600, 16, 16],
    [2, 1, 20, 70, 256, 64],
    [2, 2, 5, 1, 8, 8],
];

/// Heads beside each other in memory, as linear layers give them.
fn heads<B: Backend>(x: &Tensor<B, 4>) -> Tensor<B, 4> {
    x.clone().swap_dims(1, 2)
}

/// Of the last entry all keys are ignored, of the others every third.
fn mask<B: Backend>(b: usize, lk: usize, device: &B::Device) -> Tensor<B, 2, Bool> {
    let ignored = (0..b * lk).map(|i| i / lk + 1 == b && b > 1 || i % 3 == 0);
    Tensor::from_data(TensorData::new(ignored.collect::<Vec<bool>>(), [b, lk]), device)
}

fn attended<B: Backend>(inputs: &[Tensor<B, 4>], masked: bool) -> Tensor<B, 4> {
    let [query, key, value] = inputs else {
        unreachable!("three inputs")
    };
    let [b, lk, ..] = key.dims();
    let mask = masked.then(|| mask::<B>(b, lk, &key.device()));
    attention(heads(query), heads(key), heads(value), mask)
}

fn normed<B: Backend>(inputs: &[Tensor<B, 2>]) -> Tensor<B, 2> {
    let row = |x: &Tensor<B, 2>| x.clone().reshape([x.dims()[1]]);
    layer_norm(inputs[0].clone(), row(&inputs[1]), row(&inputs[2]), 1e-6)
}

fn layer<B: Backend>(inputs: &[Tensor<B, 2>]) -> Linear<B> {
    let [input, output] = inputs[1].dims();
    let mut layer = LinearConfig::new(input, output).init::<B>(&inputs[0].device());
    layer.weight = Param::initialized(layer.weight.id, inputs[1].clone());
    layer.bias = Some(Param::initialized(
        ParamId::new(),
        inputs[2].clone().reshape([output]),
    ));
    layer
}

fn apply<B: Backend>(inputs: &[Tensor<B, 2>]) -> Tensor<B, 2> {
    linear(&layer(inputs), inputs[0].clone())
}

fn bent<B: Backend>(inputs: &[Tensor<B, 2>]) -> Tensor<B, 2> {
    gelu(inputs[0].clone())
}

/// `[B, C, H, W]`, channels, kernel, stride and padding of convolutions.
const CONVOLUTIONS: [([usize; 4], usize, usize, usize, usize); 4] = [
    ([2, 12, 9, 11], 8, 1, 1, 0),
    ([2, 3, 12, 16], 8, 4, 4, 0),
    ([2, 3, 11, 9], 5, 3, 2, 1),
    ([1, 64, 24, 16], 72, 3, 1, 1),
];

fn convolution<B: Backend>(inputs: &[Tensor<B, 4>], stride: usize, padding: usize) -> Conv2d<B> {
    let [out, channels, kernel, _] = inputs[1].dims();
    let mut conv = Conv2dConfig::new([channels, out], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(match padding {
            0 => PaddingConfig2d::Valid,
            side => PaddingConfig2d::Explicit(side, side, side, side),
        })
        .init::<B>(&inputs[0].device());
    conv.weight = Param::initialized(ParamId::new(), inputs[1].clone());
    let bias = inputs[2].clone().reshape([out]);
    conv.bias = Some(Param::initialized(ParamId::new(), bias));
    conv
}

/// On a map whose channels lie last, or first in memory.
fn convolved<B: Backend>(inputs: &[Tensor<B, 4>], stride: usize, padding: usize) -> Tensor<B, 4> {
    let conv = convolution(inputs, stride, padding);
    let x = inputs[0].clone();
    match conv.kernel_size {
        [1, 1] => conv1x1(&conv, x),
        _ => conv2d_channels_last(&conv, x.permute([0, 2, 3, 1])), // BCHW → BHWC
    }
}

/// A product whose right side is a view.
fn across<B: Backend>(x: &[Tensor<B, 3>]) -> Tensor<B, 3> {
    matmul(x[0].clone(), x[1].clone().swap_dims(1, 2))
}

/// All roads on one GPU.
pub fn check<G: AutodiffBackend>(gpu: &G::Device, bounds: Bounds) {
    let cpu = Default::default();
    for [b, n, lq, lk, dh, dv] in ATTENTION {
        let inputs = [
            numbers([b, lq, n, dh], 1),
            numbers([b, lk, n, dh], 2),
            numbers([b, lk, n, dv], 3),
        ];
        for masked in [false, true] {
            let name = format!("attention of {lq} to {lk}, heads of {dh}, masked {masked}");
            let ours = run::<G, 4>(gpu, &inputs, |x| attended(x, masked), |x| attended(x, masked));
            let theirs = run::<Cpu, 4>(&cpu, &inputs, |x| attended(x, masked), |x| attended(x, masked));
            agree(&name, &ours, &theirs, bounds);
        }
    }
    for [rows, width] in [[37, 24], [70, 516]] {
        let inputs = [
            numbers([rows, width], 1),
            numbers([1, width], 2),
            numbers([1, width], 3),
        ];
        let ours = run::<G, 2>(gpu, &inputs, normed, normed);
        let theirs = run::<Cpu, 2>(&cpu, &inputs, normed, normed);
        agree(
            &format!("layer norm of {rows} rows of {width}"),
            &ours,
            &theirs,
            bounds,
        );
    }
    for [rows, input, output] in [[70, 68, 132], [5, 7, 3], [300, 88, 64]] {
        let inputs = [
            numbers([rows, input], 1),
            numbers([input, output], 2),
            numbers([1, output], 3),
        ];
        let ours = run::<G, 2>(gpu, &inputs, apply, apply);
        let theirs = run::<Cpu, 2>(&cpu, &inputs, apply, apply);
        agree(
            &format!("linear of {rows} rows, {input} to {output}"),
            &ours,
            &theirs,
            bounds,
        );
    }
    for [b, rows, inner, columns] in [[1, 70, 68, 132], [3, 5, 7, 3], [2, 40, 24, 33]] {
        let inputs = [numbers([b, rows, inner], 1), numbers([b, columns, inner], 2)];
        let ours = run::<G, 3>(gpu, &inputs, across, across);
        let theirs = run::<Cpu, 3>(&cpu, &inputs, across, across);
        let name = format!("{b} products of {rows} by {inner} and {inner} by {columns}");
        agree(&name, &ours, &theirs, bounds);
    }
    for (dims, out, kernel, stride, padding) in CONVOLUTIONS {
        let inputs = [
            numbers(dims, 1),
            numbers([out, dims[1], kernel, kernel], 2),
            numbers([1, out, 1, 1], 3),
        ];
        let ours = run::<G, 4>(
            gpu,
            &inputs,
            |x| convolved(x, stride, padding),
            |x| convolved(x, stride, padding),
        );
        let theirs = run::<Cpu, 4>(
            &cpu,
            &inputs,
            |x| convolved(x, stride, padding),
            |x| convolved(x, stride, padding),
        );
        let name = format!("convolution of {dims:?} to {out} by {kernel}, stride {stride}");
        agree(&name, &ours, &theirs, bounds);
    }
    for dims in [[7, 33], [8, 64]] {
        let inputs = [numbers(dims, 1)];
        let ours = run::<G, 2>(gpu, &inputs, bent, bent);
        let theirs = run::<Cpu, 2>(&cpu, &inputs, bent, bent);
        agree("gelu", &ours, &theirs, bounds);
    }
}
