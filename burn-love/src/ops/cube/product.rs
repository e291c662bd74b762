//! Products of matrices with the best kernel that the device has for the numbers asked for.

use burn_cubecl::kernel::{
    self,
    matmul::{MatmulStrategy, matmul},
};
use cubecl::ir::{ElemType, FloatKind};
use cubek::{
    matmul::{
        definition::{MatmulElems, MatmulGlobalElems},
        launch::{Strategy, launch_ref},
    },
    std::InputBinding,
};

use super::{super::precision::ProductPrecision, *};

type Factors<B, const D: usize> = (Tensor<B, D>, Tensor<B, D>);
type Inputs<P> = (P, P, ProductPrecision);

/// The product of batches of one size, or the factors again where Burn's own product is what is asked for.
pub(in super::super) fn matmul_batches<B: Backend, const D: usize>(
    left: Tensor<B, D>,
    right: Tensor<B, D>,
    precision: ProductPrecision,
) -> Result<Tensor<B, D>, Factors<B, D>> {
    let floats = [left.dtype(), right.dtype()] == [DType::F32; 2];
    let nothing = left.shape().num_elements() == 0 || right.shape().num_elements() == 0;
    let batches = left.dims()[..D - 2] == right.dims()[..D - 2];
    if precision == ProductPrecision::Tf32 || !floats || nothing || !batches {
        return Err((left, right));
    }
    road::<B>((primitive(left), primitive(right), precision))
        .map(wrap)
        .map_err(|(left, right, _)| (wrap(left), wrap(right)))
}

fn road<B: Backend>(
    inputs: Inputs<B::FloatTensorPrimitive>,
) -> Result<B::FloatTensorPrimitive, Inputs<B::FloatTensorPrimitive>> {
    on_each_gpu!(Inputs, inputs, direct, tracked)
}

fn direct<G: Gpu>(
    (left, right, precision): Inputs<CubeTensor<G::Runtime>>,
) -> Result<CubeTensor<G::Runtime>, Inputs<CubeTensor<G::Runtime>>> {
    Ok(product(left, right, precision))
}

fn tracked<G: Gpu>(
    (left, right, precision): Inputs<TrackedTensor<G>>,
) -> Result<TrackedTensor<G>, Inputs<TrackedTensor<G>>> {
    // Each side's gradient needs the other side.
    let [keeps_right, keeps_left] = [left.is_tracked(), right.is_tracked()];
    let nodes = [left.node, right.node];
    let (left, right) = (left.primitive, right.primitive);
    let y = product(left.clone(), right.clone(), precision);
    let prep = Backward::<G, 2>::prepare::<NoCheckpointing>(Product, nodes);
    Ok(match prep.compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let kept = (
                keeps_left.then_some(left),
                keeps_right.then_some(right),
                precision,
            );
            prep.finish(kept, y)
        }
        OpsKind::UnTracked(prep) => prep.finish(y),
    })
}

#[derive(Debug)]
struct Product;

impl<G: Gpu> Backward<G, 2> for Product {
    /// Both sides, where the other one's gradient is asked for.
    type State = (
        Option<CubeTensor<G::Runtime>>,
        Option<CubeTensor<G::Runtime>>,
        ProductPrecision,
    );

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<G>(&ops.node);
        let (left, right, precision) = ops.state;
        let precision = precision.of_gradients();
        let [of_left, of_right] = ops.parents;
        if let (Some(parent), Some(right)) = (of_left, right) {
            let slope = product(grad.clone(), transposed::<G>(right), precision);
            grads.register::<G>(parent.id, slope);
        }
        if let (Some(parent), Some(left)) = (of_right, left) {
            let slope = product(transposed::<G>(left), grad, precision);
            grads.register::<G>(parent.id, slope);
        }
    }
}

/// Matrices with rows and columns swapped, as a view.
pub(super) fn transposed<G: Gpu>(matrices: CubeTensor<G::Runtime>) -> CubeTensor<G::Runtime> {
    let rank = matrices.meta.shape().num_dims();
    G::float_swap_dims(matrices, rank - 2, rank - 1)
}

/// The product of two batches of matrices of one size.
pub(super) fn product<R: CubeRuntime>(
    left: CubeTensor<R>,
    right: CubeTensor<R>,
    precision: ProductPrecision,
) -> CubeTensor<R> {
    let half = |dtype| {
        [&left, &right]
            .map(|factor| kernel::cast(factor.clone(), dtype))
            .into()
    };
    let (left, right) = match precision {
        ProductPrecision::F32 if tensor_cores_round(&left) => return without_tensor_cores(left, right),
        ProductPrecision::F32 => (left, right),
        ProductPrecision::Tf32 => {
            #[cfg(feature = "cuda")]
            if let Some(out) = tensor_memory::product(&left, &right) {
                return out;
            }
            (left, right)
        }
        ProductPrecision::Bf16 => half(DType::BF16),
        ProductPrecision::F16 => half(DType::F16),
    };
    matmul(left, right, None, MatmulStrategy::default(), DType::F32).expect("a product of two matrices")
}

/// Whether CubeCL's own choice for f32 rounds factors to TF32.
fn tensor_cores_round<R: CubeRuntime>(tensor: &CubeTensor<R>) -> bool {
    let properties = tensor.client.properties();
    properties.supports_type(ElemType::Float(FloatKind::TF32))
}

/// The kernel that CubeCL takes on devices without tensor cores.
fn without_tensor_cores<R: CubeRuntime>(left: CubeTensor<R>, right: CubeTensor<R>) -> CubeTensor<R> {
    launch(&Strategy::SimpleUnit(Default::default()), &left, &right).expect("it takes every shape")
}

/// The product of f32 matrices with a kernel of choice; nothing where that does not take them. What the device itself
/// refuses shows when the result is read.
fn launch<R: CubeRuntime>(
    strategy: &Strategy,
    left: &CubeTensor<R>,
    right: &CubeTensor<R>,
) -> Option<CubeTensor<R>> {
    let mut shape = left.meta.shape().clone();
    let rank = shape.num_dims();
    shape[rank - 1] = right.meta.shape()[rank - 1];
    let out = empty(left, shape);
    let f32 = DType::F32.into();
    let mut elements = MatmulElems::from_globals(&MatmulGlobalElems {
        lhs: f32,
        rhs: f32,
        out: f32,
    });
    launch_ref(
        strategy,
        &left.client,
        InputBinding::new(left.clone().binding(), f32),
        InputBinding::new(right.clone().binding(), f32),
        out.clone().binding(),
        &mut elements,
    )
    .ok()
    .map(|()| out)
}

/// Products whose tiles Hopper's engine (TMA) fetches while the tensor cores work on those before: twice as fast as what
/// CubeCL takes without tuning. It fills with zeros what lies beyond a matrix, so the double-buffered kernel is right
/// for every inner width.
#[cfg(feature = "cuda")]
mod tensor_memory {
    use cubecl::features::Tma;

    use super::*;

    /// Fewer rows or columns than this leave tiles almost empty.
    const FEWEST: usize = 64;

    pub(super) fn product<R: CubeRuntime>(
        left: &CubeTensor<R>,
        right: &CubeTensor<R>,
    ) -> Option<CubeTensor<R>> {
        if left.meta.shape().num_dims() != 2 {
            return None;
        }
        let ([rows, inner], [_, columns]) = (left.meta.shape().dims(), right.meta.shape().dims());
        let pays = [rows, inner, columns].iter().all(|size| *size >= FEWEST);
        let there = left.client.properties().features.tma.contains(Tma::Base);
        if !(there && pays && [left, right].into_iter().all(aligned)) {
            return None;
        }
        // No shape is known that the device refuses.
        launch(&Strategy::DoubleTmaMma(Default::default()), left, right)
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
