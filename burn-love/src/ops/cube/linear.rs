//! A linear layer with the best product of matrices that the device has, and its backward pass.

use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};

use super::{super::sums::sum_columns, *};

type Tensors<B> = (Tensor<B, 2>, Tensor<B, 2>, Option<Tensor<B, 1>>);
type Inputs<P> = (P, P, Option<P>);

/// Applies a layer's weight and bias on the fast road, or hands all back.
pub(in super::super) fn linear<B: Backend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Result<Tensor<B, 2>, Tensors<B>> {
    if x.dtype() != DType::F32 || weight.dtype() != DType::F32 || x.shape().num_elements() == 0 {
        return Err((x, weight, bias));
    }
    let inputs = (primitive(x), primitive(weight), bias.map(primitive));
    road::<B>(inputs)
        .map(wrap)
        .map_err(|(x, weight, bias)| (wrap(x), wrap(weight), bias.map(wrap)))
}

fn road<B: Backend>(
    inputs: Inputs<B::FloatTensorPrimitive>,
) -> Result<B::FloatTensorPrimitive, Inputs<B::FloatTensorPrimitive>> {
    on_each_gpu!(Inputs, inputs, direct, tracked)
}

fn direct<G: Gpu>(
    (x, weight, bias): Inputs<CubeTensor<G::Runtime>>,
) -> Result<CubeTensor<G::Runtime>, Inputs<CubeTensor<G::Runtime>>> {
    Ok(forward::<G>(x, weight, bias))
}

fn tracked<G: Gpu>(
    (x, weight, bias): Inputs<TrackedTensor<G>>,
) -> Result<TrackedTensor<G>, Inputs<TrackedTensor<G>>> {
    let Some(bias) = bias else {
        return Err((x, weight, bias));
    };
    // Each side's gradient needs the other side.
    let needed = [weight.is_tracked(), x.is_tracked()];
    let nodes = [x.node, weight.node, bias.node];
    let (x, weight) = (x.primitive, weight.primitive);
    let y = forward::<G>(x.clone(), weight.clone(), Some(bias.primitive));
    let prep = Backward::<G, 3>::prepare::<NoCheckpointing>(LinearLayer, nodes);
    Ok(match prep.compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let [keeps_x, keeps_weight] = needed;
            prep.finish([keeps_x.then_some(x), keeps_weight.then_some(weight)], y)
        }
        OpsKind::UnTracked(prep) => prep.finish(y),
    })
}

fn forward<G: Gpu>(
    x: CubeTensor<G::Runtime>,
    weight: CubeTensor<G::Runtime>,
    bias: Option<CubeTensor<G::Runtime>>,
) -> CubeTensor<G::Runtime> {
    let y = product(x, weight);
    match bias {
        Some(bias) => primitive(wrap::<G, 2>(y) + wrap::<G, 1>(bias).unsqueeze()),
        None => y,
    }
}

#[derive(Debug)]
struct LinearLayer;

impl<G: Gpu> Backward<G, 3> for LinearLayer {
    /// Input and weight, where the other one's gradient is asked for.
    type State = [Option<CubeTensor<G::Runtime>>; 2];

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<G>(&ops.node);
        let [x, weight] = ops.state;
        let [of_x, of_weight, of_bias] = ops.parents;
        if let (Some(parent), Some(weight)) = (of_x, weight) {
            grads.register::<G>(parent.id, product(grad.clone(), transposed::<G>(weight)));
        }
        if let (Some(parent), Some(x)) = (of_weight, x) {
            grads.register::<G>(parent.id, product(transposed::<G>(x), grad.clone()));
        }
        if let Some(parent) = of_bias {
            let width = grad.meta.shape()[1];
            let sums = sum_columns(wrap::<G, 2>(grad)).reshape([width]);
            grads.register::<G>(parent.id, primitive(sums));
        }
    }
}

fn transposed<G: Gpu>(matrix: CubeTensor<G::Runtime>) -> CubeTensor<G::Runtime> {
    primitive(wrap::<G, 2>(matrix).transpose())
}

/// The product of two matrices.
fn product<R: CubeRuntime>(left: CubeTensor<R>, right: CubeTensor<R>) -> CubeTensor<R> {
    #[cfg(feature = "cuda")]
    if let Some(out) = tensor_memory::product(&left, &right) {
        return out;
    }
    matmul(left, right, None, MatmulStrategy::default(), DType::F32).expect("a product of two matrices")
}

/// Products whose tiles Hopper's engine (TMA) fetches while the tensor cores work on those before: twice as fast as what
/// CubeCL takes without tuning. It fills with zeros what lies beyond a matrix, so the double-buffered kernel is right
/// for every inner width.
#[cfg(feature = "cuda")]
mod tensor_memory {
    use cubecl::features::Tma;
    use cubek::{
        matmul::{
            definition::{MatmulElems, MatmulGlobalElems},
            launch::{Strategy, launch_ref},
        },
        std::InputBinding,
    };

    use super::*;

    /// Fewer rows or columns than this leave tiles almost empty.
    const FEWEST: usize = 64;

    pub(super) fn product<R: CubeRuntime>(
        left: &CubeTensor<R>,
        right: &CubeTensor<R>,
    ) -> Option<CubeTensor<R>> {
        let ([rows, inner], [_, columns]) = (left.meta.shape().dims(), right.meta.shape().dims());
        let pays = [rows, inner, columns].iter().all(|size| *size >= FEWEST);
        let there = left.client.properties().features.tma.contains(Tma::Base);
        if !(there && pays && [left, right].into_iter().all(aligned)) {
            return None;
        }
        let out = empty(left, [rows, columns]);
        let f32 = DType::F32.into();
        let mut elements = MatmulElems::from_globals(&MatmulGlobalElems {
            lhs: f32,
            rhs: f32,
            out: f32,
        });
        // What the device itself refuses shows when the result is read; no such shape is known.
        launch_ref(
            &Strategy::DoubleTmaMma(Default::default()),
            &left.client,
            InputBinding::new(left.clone().binding(), f32),
            InputBinding::new(right.clone().binding(), f32),
            out.clone().binding(),
            &mut elements,
        )
        .ok()
        .map(|()| out)
    }

    /// Whether the engine can read the matrix: rows, or columns, of whole blocks of 16 bytes.
    fn aligned<R: CubeRuntime>(matrix: &CubeTensor<R>) -> bool {
        let strides = matrix.meta.strides();
        let [other, one] = match [strides[0], strides[1]] {
            [1, other] => [other, 1],
            [other, one] => [other, one],
        };
        let start = matrix.handle.offset_start.unwrap_or(0);
        one == 1 && other > 0 && other.is_multiple_of(WIDE) && start.is_multiple_of(16)
    }
}
