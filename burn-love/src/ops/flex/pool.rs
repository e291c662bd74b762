//! Pooling of channels-last maps, with its backward pass.

use burn::tensor::TensorMetadata;
use multiversion::multiversion;

use super::{conv::Map, *};

/// Pools on the fast road, or hands the input back.
pub(in super::super) fn max_pool_channels_last<B: Backend>(
    x: Tensor<B, 4>,
    stride: usize,
) -> Result<Tensor<B, 4>, Tensor<B, 4>> {
    let [batch, h, w, channels] = x.dims();
    if x.dtype() != DType::F32 || batch * (h / stride) * (w / stride) * channels == 0 {
        return Err(x);
    }
    let x = match cast::<_, Tensor<Flex, 4>>(x) {
        Ok(x) => {
            let y = forward(&together(primitive(x)), stride);
            return Ok(same_type(cast(wrap::<Flex, 4>(y))));
        }
        Err(x) => x,
    };
    let x = primitive(cast::<_, Tensor<AutodiffFlex, 4>>(x)?);
    let input = together(x.primitive);
    let y = forward(&input, stride);
    let y = match MaxPool
        .prepare::<NoCheckpointing>([x.node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish((input, stride), y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    };
    Ok(same_type(cast(wrap::<AutodiffFlex, 4>(y))))
}

/// The map with the channels of a pixel together.
fn together(x: FlexTensor) -> FlexTensor {
    let x = positive(x);
    if x.layout().strides()[3] == 1 {
        x
    } else {
        x.to_contiguous()
    }
}

fn forward(x: &FlexTensor, stride: usize) -> FlexTensor {
    let map = Map::of(x);
    let [batch, h, w, channels] = map.dims;
    let (out_h, out_w) = (h / stride, w / stride);
    let mut y = zeros([batch, out_h, out_w, channels]);
    y.storage_mut::<f32>()
        .par_chunks_mut(out_w * channels)
        .enumerate()
        .for_each(|(i, out)| {
            for (column, out) in out.chunks_exact_mut(channels).enumerate() {
                let at = |cell| map.pixel(i / out_h, in_cell([i % out_h, column], cell, stride));
                out.copy_from_slice(at(0));
                (1..stride * stride).for_each(|cell| keep_larger(out, at(cell)));
            }
        });
    y
}

/// Row and column of the pixel at place `cell` of what an output pixel pools.
fn in_cell([row, column]: [usize; 2], cell: usize, stride: usize) -> [usize; 2] {
    [row * stride + cell / stride, column * stride + cell % stride]
}

/// The larger of two values each. What is not a number stays none.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma", "aarch64+neon"))]
fn keep_larger(most: &mut [f32], values: &[f32]) {
    for (most, x) in most.iter_mut().zip(values) {
        *most = if (*x > *most) | x.is_nan() { *x } else { *most };
    }
}

#[derive(Debug)]
struct MaxPool;

impl Backward<Flex, 1> for MaxPool {
    /// Input and stride.
    type State = (FlexTensor, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, stride) = ops.state;
        burn_autodiff::ops::unary::<Flex, _>(ops.parents, ops.node, grads, |grad| {
            let grad = contiguous(grad).expect("a gradient has its tensor's dtype");
            gradient(&x, slice(&grad), stride)
        });
    }
}

/// The gradient of the input: of each cell the first of the largest values gets the output's.
fn gradient(x: &FlexTensor, grad: &[f32], stride: usize) -> FlexTensor {
    let map = Map::of(x);
    let [_, h, w, channels] = map.dims;
    let (out_h, out_w) = (h / stride, w / stride);
    let mut gradient = zeros(x.shape());
    gradient
        .storage_mut::<f32>()
        .par_chunks_mut(h * w * channels)
        .zip(grad.par_chunks(out_h * out_w * channels))
        .enumerate()
        .for_each_init(
            || (vec![0.0; channels], vec![0; channels]),
            |(most, place), (batch, (gradient, grad))| {
                for (i, grad) in grad.chunks_exact(channels).enumerate() {
                    let pixel = |cell| in_cell([i / out_w, i % out_w], cell, stride);
                    most.copy_from_slice(map.pixel(batch, pixel(0)));
                    place.fill(0);
                    for cell in 1..stride * stride {
                        keep_larger_and_place(most, place, map.pixel(batch, pixel(cell)), cell as u32);
                    }
                    for (channel, (grad, cell)) in grad.iter().zip(place.iter()).enumerate() {
                        let [row, column] = pixel(*cell as usize);
                        gradient[(row * w + column) * channels + channel] = *grad;
                    }
                }
            },
        );
    gradient
}

/// As [`keep_larger`], with the places of the values that are kept.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma", "aarch64+neon"))]
fn keep_larger_and_place(most: &mut [f32], place: &mut [u32], values: &[f32], cell: u32) {
    for ((most, place), x) in most.iter_mut().zip(place).zip(values) {
        let larger = (*x > *most) | x.is_nan();
        *most = if larger { *x } else { *most };
        *place = if larger { cell } else { *place };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, Tolerance, module::max_pool2d};

    fn plain<B: Backend>(x: Tensor<B, 4>, stride: usize) -> Tensor<B, 4> {
        let side = [stride, stride];
        max_pool2d(x.permute([0, 3, 1, 2]), side, side, [0, 0], [1, 1], false).permute([0, 2, 3, 1])
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
    fn output_and_gradient_equal_those_of_burn() {
        for (dims, stride) in [([2, 8, 6, 5], 2), ([1, 9, 7, 3], 2), ([1, 9, 9, 4], 3)] {
            // Values that are there twice, too.
            let x =
                Tensor::<AutodiffFlex, 4>::random(dims, Distribution::Normal(0.0, 2.0), &Default::default());
            let x = x.round().require_grad();
            let run = |y: Tensor<AutodiffFlex, 4>| {
                let grads = (y.clone() * y.clone() + y.clone()).sum().backward();
                let gradient = x.grad(&grads).expect("a gradient").into_data();
                (y.inner().into_data(), gradient)
            };
            let found = run(max_pool_channels_last(x.clone(), stride).expect("taken"));
            let expected = run(plain(x.clone(), stride));
            found.0.assert_eq(&expected.0, true);
            found
                .1
                .assert_approx_eq::<f32>(&expected.1, Tolerance::absolute(1e-6));
            // A part of the channels, as queries are one of three parts.
            let part = x.clone().inner().narrow(3, 1, 2);
            let found = max_pool_channels_last(part.clone(), stride).expect("taken");
            found
                .into_data()
                .assert_eq(&plain(part, stride).into_data(), true);
        }
    }
}
