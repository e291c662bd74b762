//! The exact GELU in one pass, and its gradient.

#![allow(unsafe_code, reason = "kernels are launched without a check of each index")]

use super::{
    gelu_kernel::{apply, differentiate},
    *,
};

type Inputs<P> = P;

/// Applies GELU on the fast road, or hands the tensor back.
pub(in super::super) fn gelu<B: Backend, const D: usize>(
    x: Tensor<B, D>,
) -> Result<Tensor<B, D>, Tensor<B, D>> {
    if x.dtype() != DType::F32 || x.shape().num_elements() == 0 {
        return Err(x);
    }
    road::<B>(primitive(x)).map(wrap).map_err(wrap)
}

fn road<B: Backend>(x: B::FloatTensorPrimitive) -> Result<B::FloatTensorPrimitive, B::FloatTensorPrimitive> {
    on_each_gpu!(Inputs, x, direct, tracked)
}

fn direct<G: Gpu>(x: CubeTensor<G::Runtime>) -> Result<CubeTensor<G::Runtime>, CubeTensor<G::Runtime>> {
    Ok(forward(into_contiguous(x)))
}

fn tracked<G: Gpu>(x: TrackedTensor<G>) -> Result<TrackedTensor<G>, TrackedTensor<G>> {
    let values = into_contiguous(x.primitive);
    let prep = Backward::<G, 1>::prepare::<NoCheckpointing>(Gelu, [x.node]);
    Ok(match prep.compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(values.clone(), forward(values)),
        OpsKind::UnTracked(prep) => prep.finish(forward(values)),
    })
}

#[derive(Debug)]
struct Gelu;

impl<G: Gpu> Backward<G, 1> for Gelu {
    type State = CubeTensor<G::Runtime>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        burn_autodiff::ops::unary::<G, _>(ops.parents, ops.node, grads, |grad| {
            backward(ops.state, into_contiguous(grad))
        });
    }
}

fn forward<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let y = empty(&x, x.meta.shape().clone());
    let count = x.meta.num_elements();
    let wide = width(&x);
    let client = x.client.clone();
    // SAFETY: a thread behind the last vector does nothing.
    unsafe {
        apply::launch_unchecked::<R>(
            &client,
            cubes((count / wide).div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            wide,
            x.into_array_arg(),
            y.clone().into_array_arg(),
        );
    }
    y
}

fn backward<R: CubeRuntime>(x: CubeTensor<R>, grad: CubeTensor<R>) -> CubeTensor<R> {
    let slope = empty(&x, x.meta.shape().clone());
    let count = x.meta.num_elements();
    let wide = width(&x);
    let client = x.client.clone();
    // SAFETY: as above.
    unsafe {
        differentiate::launch_unchecked::<R>(
            &client,
            cubes((count / wide).div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            wide,
            x.into_array_arg(),
            grad.into_array_arg(),
            slope.clone().into_array_arg(),
        );
    }
    slope
}

/// Elements that a thread reads at a time.
fn width<R: CubeRuntime>(x: &CubeTensor<R>) -> usize {
    if x.meta.num_elements().is_multiple_of(WIDE) {
        WIDE
    } else {
        1
    }
}
