//! Layer norm on rows, with its backward pass.

use burn::tensor::TensorMetadata;
use multiversion::multiversion;

use super::*;

/// Rows of one partial sum of the parameters' gradients.
const ROWS: usize = 64;

type Inputs<B, const D: usize> = (Tensor<B, D>, Tensor<B, 1>, Tensor<B, 1>);

/// Normalises on the fast road, or hands the inputs back.
pub(in super::super) fn layer_norm<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    weight: Tensor<B, 1>,
    bias: Tensor<B, 1>,
    epsilon: f64,
) -> Result<Tensor<B, D>, Inputs<B, D>> {
    if [x.dtype(), weight.dtype(), bias.dtype()]
        .iter()
        .any(|dtype| *dtype != DType::F32)
    {
        return Err((x, weight, bias));
    }
    let epsilon = epsilon as f32;
    let (x, weight, bias) = match cast::<Inputs<B, D>, Inputs<Flex, D>>((x, weight, bias)) {
        Ok((x, weight, bias)) => {
            let y = forward(primitive(x), &primitive(weight), &primitive(bias), epsilon).y;
            return Ok(same_type(cast(wrap::<Flex, D>(y))));
        }
        Err(inputs) => inputs,
    };
    let (x, weight, bias) = cast::<Inputs<B, D>, Inputs<AutodiffFlex, D>>((x, weight, bias))?;
    let (x, weight, bias) = (primitive(x), primitive(weight), primitive(bias));
    let normalised = forward(x.primitive, &weight.primitive, &bias.primitive, epsilon);
    let nodes = [x.node.clone(), weight.node.clone(), bias.node.clone()];
    let y = match Norm.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let state = State {
                x: normalised.x,
                weight: weight.primitive,
                moments: normalised.moments,
            };
            prep.finish(state, normalised.y)
        }
        OpsKind::UnTracked(prep) => prep.finish(normalised.y),
    };
    Ok(same_type(cast(wrap::<AutodiffFlex, D>(y))))
}

struct Normalised {
    x: FlexTensor,
    y: FlexTensor,
    /// Mean and reciprocal standard deviation of each row.
    moments: Vec<[f32; 2]>,
}

fn forward(x: FlexTensor, weight: &FlexTensor, bias: &FlexTensor, epsilon: f32) -> Normalised {
    let x = contiguous(x).expect("the dtype was checked");
    let weight = contiguous(weight.clone()).expect("the dtype was checked");
    let bias = contiguous(bias.clone()).expect("the dtype was checked");
    let width = slice(&weight).len();
    let mut y = zeros(x.shape());
    let mut moments = vec![[0.0; 2]; slice(&x).len() / width];
    let rows = (CHUNK / width).max(1);
    y.storage_mut::<f32>()
        .par_chunks_mut(rows * width)
        .zip(slice(&x).par_chunks(rows * width))
        .zip(moments.par_chunks_mut(rows))
        .for_each(|((y, x), moments)| normalise(x, slice(&weight), slice(&bias), epsilon, y, moments));
    Normalised { x, y, moments }
}

#[derive(Debug)]
struct Norm;

#[derive(Clone, Debug)]
struct State {
    x: FlexTensor,
    weight: FlexTensor,
    moments: Vec<[f32; 2]>,
}

impl Backward<Flex, 3> for Norm {
    type State = State;

    fn backward(self, ops: Ops<State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = contiguous(grads.consume::<Flex>(&ops.node)).expect("a gradient has its tensor's dtype");
        let State { x, weight, moments } = ops.state;
        let weight = contiguous(weight).expect("the dtype was checked");
        let width = slice(&weight).len();
        let [parent_x, parent_weight, parent_bias] = ops.parents;
        if let Some(parent) = parent_x {
            let mut dx = zeros(x.shape());
            let rows = (CHUNK / width).max(1);
            dx.storage_mut::<f32>()
                .par_chunks_mut(rows * width)
                .zip(
                    slice(&x)
                        .par_chunks(rows * width)
                        .zip(slice(&grad).par_chunks(rows * width)),
                )
                .zip(moments.par_chunks(rows))
                .for_each(|((dx, (x, grad)), moments)| input_gradient(x, grad, slice(&weight), moments, dx));
            grads.register::<Flex>(parent.id, dx);
        }
        if parent_weight.is_none() && parent_bias.is_none() {
            return;
        }
        let partial: Vec<_> = slice(&x)
            .par_chunks(ROWS * width)
            .zip(slice(&grad).par_chunks(ROWS * width))
            .zip(moments.par_chunks(ROWS))
            .map(|((x, grad), moments)| parameter_gradients(x, grad, moments, width))
            .collect();
        let mut total = vec![0.0; 2 * width];
        for partial in &partial {
            total
                .iter_mut()
                .zip(partial)
                .for_each(|(total, partial)| *total += partial);
        }
        let tensor = |values: &[f32]| {
            let mut tensor = zeros([width]);
            tensor.storage_mut::<f32>().copy_from_slice(values);
            tensor
        };
        if let Some(parent) = parent_weight {
            grads.register::<Flex>(parent.id, tensor(&total[..width]));
        }
        if let Some(parent) = parent_bias {
            grads.register::<Flex>(parent.id, tensor(&total[width..]));
        }
    }
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma", "aarch64+neon"))]
fn normalise(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, y: &mut [f32], moments: &mut [[f32; 2]]) {
    let width = weight.len();
    for ((x, y), moments) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(moments) {
        let mean = sum(width, |i| x[i]) / width as f32;
        let variance = sum(width, |i| (x[i] - mean) * (x[i] - mean)) / width as f32;
        let scale = 1.0 / (variance + epsilon).sqrt();
        for ((y, x), (weight, bias)) in y.iter_mut().zip(x).zip(weight.iter().zip(bias)) {
            *y = (x - mean) * scale * weight + bias;
        }
        *moments = [mean, scale];
    }
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma", "aarch64+neon"))]
fn input_gradient(x: &[f32], grad: &[f32], weight: &[f32], moments: &[[f32; 2]], dx: &mut [f32]) {
    let width = weight.len();
    let rows = x
        .chunks_exact(width)
        .zip(grad.chunks_exact(width))
        .zip(dx.chunks_exact_mut(width));
    for (((x, grad), dx), [mean, scale]) in rows.zip(moments) {
        let direct = sum(width, |i| grad[i] * weight[i]) / width as f32;
        let along = sum(width, |i| grad[i] * weight[i] * (x[i] - mean) * scale) / width as f32;
        for ((dx, x), (grad, weight)) in dx.iter_mut().zip(x).zip(grad.iter().zip(weight)) {
            *dx = (grad * weight - direct - (x - mean) * scale * along) * scale;
        }
    }
}

/// Gradients of weight and of bias over a few rows, one behind the other.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma", "aarch64+neon"))]
fn parameter_gradients(x: &[f32], grad: &[f32], moments: &[[f32; 2]], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0; 2 * width];
    let (weight, bias) = sums.split_at_mut(width);
    for ((x, grad), [mean, scale]) in x.chunks_exact(width).zip(grad.chunks_exact(width)).zip(moments) {
        for ((weight, bias), (x, grad)) in weight.iter_mut().zip(bias.iter_mut()).zip(x.iter().zip(grad)) {
            *weight += grad * (x - mean) * scale;
            *bias += grad;
        }
    }
    sums
}

/// Sum of `term(0..n)` in a fixed order of [`LANES`] partial sums.
#[inline(always)]
fn sum(n: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let whole = n - n % LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += term(start + lane);
        }
    }
    let rest: f32 = (whole..n).map(&term).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::super::super::layer_norm::plain;
    use super::*;
    use burn::tensor::{Distribution, Tolerance};

    #[test]
    fn forward_and_gradients_equal_the_plain_road() {
        let device = Default::default();
        for dims in [[1, 3, 5], [2, 70, 24], [3, 50, 129]] {
            let random = |spread| Tensor::<Flex, 3>::random(dims, Distribution::Normal(0.5, spread), &device);
            let (x, upstream) = (random(3.0), random(1.0));
            let vector = || Tensor::<Flex, 1>::random([dims[2]], Distribution::Normal(1.0, 0.5), &device);
            let (weight, bias) = (vector(), vector());
            let run = |fast: bool| {
                let x = Tensor::<AutodiffFlex, 3>::from_inner(x.clone()).require_grad();
                let weight = Tensor::<AutodiffFlex, 1>::from_inner(weight.clone()).require_grad();
                let bias = Tensor::<AutodiffFlex, 1>::from_inner(bias.clone()).require_grad();
                let (a, b, c) = (x.clone(), weight.clone(), bias.clone());
                let y = if fast {
                    layer_norm(a, b, c, 1e-5).ok().unwrap()
                } else {
                    plain(a, b, c, 1e-5)
                };
                let grads = (y.clone() * Tensor::from_inner(upstream.clone()))
                    .sum()
                    .backward();
                [
                    y.inner().into_data(),
                    x.grad(&grads).unwrap().into_data(),
                    weight.grad(&grads).unwrap().into_data(),
                    bias.grad(&grads).unwrap().into_data(),
                ]
            };
            for (fast, plain) in run(true).iter().zip(run(false)) {
                fast.assert_approx_eq::<f32>(&plain, Tolerance::rel_abs(1e-4, 2e-5));
            }
        }
    }

    #[test]
    fn a_permuted_input_is_read_in_its_own_order() {
        let device = Default::default();
        let x = Tensor::<Flex, 3>::random([3, 4, 5], Distribution::Normal(0.0, 1.0), &device);
        let (weight, bias) = (Tensor::ones([3], &device), Tensor::zeros([3], &device));
        let run = |x| {
            layer_norm::<Flex, 3>(x, weight.clone(), bias.clone(), 1e-6)
                .ok()
                .unwrap()
        };
        let copied = Tensor::<Flex, 3>::from_data(x.clone().permute([1, 2, 0]).into_data(), &device);
        run(x.permute([1, 2, 0]))
            .into_data()
            .assert_eq(&run(copied).into_data(), true);
    }
}
