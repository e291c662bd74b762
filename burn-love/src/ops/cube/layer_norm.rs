//! Layer norm in one pass over each row, with its backward pass.

#![allow(unsafe_code, reason = "kernels are launched without a check of each index")]

use super::{
    super::sums::sum_columns,
    lanes::{LANES, ROWS},
    layer_norm_kernel::{SUMMED, differentiate, normalise, sum_parameters},
    *,
};

/// Widest row that fits into a cube's registers, in vectors.
const WIDEST: usize = 16 * LANES;

type Tensors<B, const D: usize> = (Tensor<B, D>, Tensor<B, 1>, Tensor<B, 1>);
type Inputs<P> = (P, P, P, f32);

/// Normalises on the fast road, or hands the inputs back.
pub(in super::super) fn layer_norm<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    weight: Tensor<B, 1>,
    bias: Tensor<B, 1>,
    epsilon: f64,
) -> Result<Tensor<B, D>, Tensors<B, D>> {
    let dtypes = [x.dtype(), weight.dtype(), bias.dtype()];
    let [width] = weight.dims();
    let fits = width.is_multiple_of(WIDE) && width > 0 && width / WIDE <= WIDEST;
    let fits = fits && x.dims()[D - 1] == width && bias.dims() == [width];
    if !fits || dtypes.iter().any(|dtype| *dtype != DType::F32) || x.shape().num_elements() == 0 {
        return Err((x, weight, bias));
    }
    let inputs = (primitive(x), primitive(weight), primitive(bias), epsilon as f32);
    road::<B>(inputs)
        .map(wrap)
        .map_err(|(x, weight, bias, _)| (wrap(x), wrap(weight), wrap(bias)))
}

fn road<B: Backend>(
    inputs: Inputs<B::FloatTensorPrimitive>,
) -> Result<B::FloatTensorPrimitive, Inputs<B::FloatTensorPrimitive>> {
    on_each_gpu!(Inputs, inputs, direct, tracked)
}

fn direct<G: Gpu>(
    (x, weight, bias, epsilon): Inputs<CubeTensor<G::Runtime>>,
) -> Result<CubeTensor<G::Runtime>, Inputs<CubeTensor<G::Runtime>>> {
    let [x, weight, bias] = [x, weight, bias].map(into_contiguous);
    Ok(forward(&x, &weight, bias, epsilon, None))
}

fn tracked<G: Gpu>(
    (x, weight, bias, epsilon): Inputs<TrackedTensor<G>>,
) -> Result<TrackedTensor<G>, Inputs<TrackedTensor<G>>> {
    let nodes = [x.node, weight.node, bias.node];
    let [x, weight, bias] = [x.primitive, weight.primitive, bias.primitive].map(into_contiguous);
    let prep = Backward::<G, 3>::prepare::<NoCheckpointing>(Norm, nodes);
    Ok(match prep.compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let moments = empty(&x, [rows(&x), 2]);
            let y = forward(&x, &weight, bias, epsilon, Some(&moments));
            prep.finish([x, weight, moments], y)
        }
        OpsKind::UnTracked(prep) => prep.finish(forward(&x, &weight, bias, epsilon, None)),
    })
}

#[derive(Debug)]
struct Norm;

impl<G: Gpu> Backward<G, 3> for Norm {
    /// Input, weight, and the mean and reciprocal standard deviation of each row.
    type State = [CubeTensor<G::Runtime>; 3];

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = into_contiguous(grads.consume::<G>(&ops.node));
        let [x, weight, moments] = &ops.state;
        let [of_x, of_weight, of_bias] = ops.parents;
        if let Some(parent) = of_x {
            grads.register::<G>(parent.id, slope(x, weight, moments, &grad));
        }
        if of_weight.is_none() && of_bias.is_none() {
            return;
        }
        let width = weight.meta.num_elements();
        let sums = parameter_slopes(x, moments, &grad);
        let sums = sum_columns(wrap::<G, 2>(sums));
        let part = |i: usize| primitive(sums.clone().narrow(1, i * width, width).reshape([width]));
        if let Some(parent) = of_weight {
            grads.register::<G>(parent.id, part(0));
        }
        if let Some(parent) = of_bias {
            grads.register::<G>(parent.id, part(1));
        }
    }
}

fn rows<R: CubeRuntime>(tensor: &CubeTensor<R>) -> usize {
    let shape = tensor.meta.shape();
    shape.num_elements() / shape[shape.num_dims() - 1]
}

fn forward<R: CubeRuntime>(
    x: &CubeTensor<R>,
    weight: &CubeTensor<R>,
    bias: CubeTensor<R>,
    epsilon: f32,
    moments: Option<&CubeTensor<R>>,
) -> CubeTensor<R> {
    let y = empty(x, x.meta.shape().clone());
    let count = rows(x);
    let vectors = weight.meta.num_elements() / WIDE;
    let kept = moments.is_some();
    let moments = moments.cloned().unwrap_or_else(|| empty(x, [1]));
    // SAFETY: rows and vectors behind the last are not touched.
    unsafe {
        normalise::launch_unchecked::<R>(
            &x.client,
            cubes(count.div_ceil(ROWS)),
            CubeDim::new_2d(LANES as u32, ROWS as u32),
            WIDE,
            x.clone().into_array_arg(),
            weight.clone().into_array_arg(),
            bias.into_array_arg(),
            y.clone().into_array_arg(),
            moments.into_array_arg(),
            count as u32,
            epsilon,
            vectors,
            kept,
        );
    }
    y
}

fn slope<R: CubeRuntime>(
    x: &CubeTensor<R>,
    weight: &CubeTensor<R>,
    moments: &CubeTensor<R>,
    grad: &CubeTensor<R>,
) -> CubeTensor<R> {
    let dx = empty(x, x.meta.shape().clone());
    let count = rows(x);
    // SAFETY: as above.
    unsafe {
        differentiate::launch_unchecked::<R>(
            &x.client,
            cubes(count.div_ceil(ROWS)),
            CubeDim::new_2d(LANES as u32, ROWS as u32),
            WIDE,
            x.clone().into_array_arg(),
            weight.clone().into_array_arg(),
            moments.clone().into_array_arg(),
            grad.clone().into_array_arg(),
            dx.clone().into_array_arg(),
            count as u32,
            weight.meta.num_elements() / WIDE,
        );
    }
    dx
}

/// Partial sums of the gradients of weight and of bias, side by side: `[parts, 2·D]`.
fn parameter_slopes<R: CubeRuntime>(
    x: &CubeTensor<R>,
    moments: &CubeTensor<R>,
    grad: &CubeTensor<R>,
) -> CubeTensor<R> {
    let count = rows(x);
    let width = x.meta.num_elements() / count;
    let parts = count.div_ceil(SUMMED);
    let sums = empty(x, [parts, 2 * width]);
    let columns = (width / WIDE).div_ceil(LANES);
    // SAFETY: as above.
    unsafe {
        sum_parameters::launch_unchecked::<R>(
            &x.client,
            cubes(parts * columns),
            CubeDim::new_2d(LANES as u32, ROWS as u32),
            WIDE,
            x.clone().into_array_arg(),
            moments.clone().into_array_arg(),
            grad.clone().into_array_arg(),
            sums.clone().into_array_arg(),
            count as u32,
            parts as u32,
            width / WIDE,
        );
    }
    sums
}
