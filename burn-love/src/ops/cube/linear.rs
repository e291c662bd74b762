//! A linear layer, and its backward pass.

use super::{
    super::{precision::product_precision, sums::sum_columns},
    product::{product, transposed},
    *,
};

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
    let y = product(x, weight, product_precision());
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
        let precision = product_precision().of_gradients();
        if let (Some(parent), Some(weight)) = (of_x, weight) {
            grads.register::<G>(
                parent.id,
                product(grad.clone(), transposed::<G>(weight), precision),
            );
        }
        if let (Some(parent), Some(x)) = (of_weight, x) {
            grads.register::<G>(parent.id, product(transposed::<G>(x), grad.clone(), precision));
        }
        if let Some(parent) = of_bias {
            let width = grad.meta.shape()[1];
            let sums = sum_columns(wrap::<G, 2>(grad)).reshape([width]);
            grads.register::<G>(parent.id, primitive(sums));
        }
    }
}
