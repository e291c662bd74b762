//! A linear layer as one product that begins with the biases, with its backward pass.

use super::{
    gelu::gelu_in_place,
    matrix::Matrix,
    product::{Then, fresh_product},
    *,
};

/// Rows of one partial sum of the bias' gradient.
const ROWS: usize = 256;

type Inputs<B> = (Tensor<B, 2>, Tensor<B, 2>, Tensor<B, 1>);

/// Applies a layer's weight and bias on the fast road, or hands all back.
pub(in super::super) fn linear<B: Backend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Tensor<B, 1>,
) -> Result<Tensor<B, 2>, Inputs<B>> {
    let inputs = match direct(usable((x, weight, bias))?, None) {
        Ok(y) => return Ok(y),
        Err(inputs) => inputs,
    };
    let (x, weight, bias) = cast::<Inputs<B>, Inputs<AutodiffFlex>>(inputs)?;
    let (x, weight, bias) = (primitive(x), primitive(weight), primitive(bias));
    // Each side's gradient needs the other side.
    let needed = [weight.is_tracked(), x.is_tracked()];
    let nodes = [x.node, weight.node, bias.node];
    let (x, weight) = (positive(x.primitive), positive(weight.primitive));
    let y = forward(&x, &weight, bias.primitive, None);
    let y = match LinearLayer
        .prepare::<NoCheckpointing>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => {
            let [keeps_x, keeps_weight] = needed;
            prep.finish([keeps_x.then_some(x), keeps_weight.then_some(weight)], y)
        }
        OpsKind::UnTracked(prep) => prep.finish(y),
    };
    Ok(same_type(cast(wrap::<AutodiffFlex, 2>(y))))
}

/// [`linear`] and GELU behind it, without autodiff.
pub(in super::super) fn linear_gelu<B: Backend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Tensor<B, 1>,
) -> Result<Tensor<B, 2>, Inputs<B>> {
    direct(usable((x, weight, bias))?, Some(gelu_in_place))
}

/// The inputs, if the road takes them.
fn usable<B: Backend>((x, weight, bias): Inputs<B>) -> Result<Inputs<B>, Inputs<B>> {
    let usable = |dtype, elements| dtype == DType::F32 && elements > 0;
    if usable(x.dtype(), x.shape().num_elements())
        && usable(weight.dtype(), weight.shape().num_elements())
        && bias.dtype() == DType::F32
    {
        Ok((x, weight, bias))
    } else {
        Err((x, weight, bias))
    }
}

/// The road without autodiff.
fn direct<B: Backend>(inputs: Inputs<B>, then: Option<Then>) -> Result<Tensor<B, 2>, Inputs<B>> {
    let (x, weight, bias) = cast::<Inputs<B>, Inputs<Flex>>(inputs)?;
    let (x, weight) = (positive(primitive(x)), positive(primitive(weight)));
    let y = forward(&x, &weight, primitive(bias), then);
    Ok(same_type(cast(wrap::<Flex, 2>(y))))
}

fn forward(x: &FlexTensor, weight: &FlexTensor, bias: FlexTensor, then: Option<Then>) -> FlexTensor {
    let bias = contiguous(bias).expect("the dtype was checked");
    fresh_product(Matrix::of(x), Matrix::of(weight), Some(slice(&bias)), then)
}

#[derive(Debug)]
struct LinearLayer;

impl Backward<Flex, 3> for LinearLayer {
    /// Input and weight, where the other one's gradient is asked for.
    type State = [Option<FlexTensor>; 2];

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = contiguous(grads.consume::<Flex>(&ops.node)).expect("a gradient has its tensor's dtype");
        let [x, weight] = ops.state;
        let slope = Matrix::of(&grad);
        let [of_x, of_weight, of_bias] = ops.parents;
        if let (Some(parent), Some(weight)) = (of_x, &weight) {
            grads.register::<Flex>(parent.id, product(slope, Matrix::of(weight).transposed()));
        }
        if let (Some(parent), Some(x)) = (of_weight, &x) {
            grads.register::<Flex>(parent.id, product(Matrix::of(x).transposed(), slope));
        }
        if let Some(parent) = of_bias {
            grads.register::<Flex>(parent.id, sum_of_rows(slice(&grad), slope.columns));
        }
    }
}

fn product(left: Matrix<'_>, right: Matrix<'_>) -> FlexTensor {
    fresh_product(left, right, None, None)
}

/// The sum over rows of `width`, in two stages of a fixed order.
pub(super) fn sum_of_rows(values: &[f32], width: usize) -> FlexTensor {
    let partial: Vec<Vec<f32>> = values
        .par_chunks(ROWS * width)
        .map(|rows| {
            let mut sum = vec![0.0; width];
            rows.chunks_exact(width).for_each(|row| add(&mut sum, row));
            sum
        })
        .collect();
    let mut total = zeros([width]);
    let sum = total.storage_mut::<f32>();
    partial.iter().for_each(|partial| add(sum, partial));
    total
}

pub(super) fn add(sum: &mut [f32], row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{
        module::AutodiffModule,
        nn::{Linear, LinearConfig},
        tensor::{Distribution, Tolerance},
    };

    fn on_the_road<B: Backend>(x: Tensor<B, 2>, layer: &Linear<B>) -> Tensor<B, 2> {
        let bias = layer.bias.as_ref().expect("a bias");
        linear(x, layer.weight.val(), bias.val()).expect("f32 on the CPU")
    }

    #[test]
    fn output_and_gradients_equal_the_plain_road() {
        let device = Default::default();
        // The last one's bias meets two blocks of terms, and columns in two passes.
        let sizes = [
            [1, 1, 1],
            [7, 5, 3],
            [600, 40, 70],
            [1000, 200, 300],
            [96, 2000, 2500],
        ];
        for [rows, input, output] in sizes {
            let random = |dims: [usize; 2]| {
                Tensor::<AutodiffFlex, 2>::random(dims, Distribution::Normal(0.3, 1.0), &device)
            };
            let layer = LinearConfig::new(input, output).init::<AutodiffFlex>(&device);
            // Once as it lies, once read across.
            for x in [random([rows, input]), random([input, rows]).transpose()] {
                let upstream = random([rows, output]);
                let run = |fast: bool| {
                    let x = x.clone().detach().require_grad();
                    let y = if fast {
                        on_the_road(x.clone(), &layer)
                    } else {
                        layer.forward(x.clone())
                    };
                    let grads = (y.clone() * upstream.clone()).sum().backward();
                    let bias = layer.bias.as_ref().expect("a bias");
                    [
                        y.inner().into_data(),
                        x.grad(&grads).expect("a gradient").into_data(),
                        layer.weight.grad(&grads).expect("a gradient").into_data(),
                        bias.grad(&grads).expect("a gradient").into_data(),
                    ]
                };
                for (fast, plain) in run(true).iter().zip(run(false)) {
                    fast.assert_approx_eq::<f32>(&plain, Tolerance::rel_abs(1e-4, 1e-4));
                }
                let direct = on_the_road(x.clone().inner(), &layer.valid());
                direct.into_data().assert_eq(&run(true)[0], true);
            }
        }
    }

    #[test]
    fn gelu_on_the_way_changes_nothing() {
        let device = Default::default();
        // By `gemm`, by the kernel with columns that fill no tile, with blocks of terms, and in two passes of columns.
        for [rows, input, output] in [[3, 5, 7], [600, 40, 70], [300, 1100, 96], [96, 2000, 2500]] {
            let layer = LinearConfig::new(input, output).init::<Flex>(&device);
            let x = Tensor::<Flex, 2>::random([rows, input], Distribution::Normal(0.3, 1.0), &device);
            let bias = layer.bias.as_ref().expect("a bias").val();
            let fused = linear_gelu(x.clone(), layer.weight.val(), bias).expect("f32 on the CPU");
            let one_by_one = crate::ops::gelu(on_the_road(x, &layer));
            fused.into_data().assert_eq(&one_by_one.into_data(), true);
        }
    }

    #[test]
    fn a_frozen_layer_gets_no_gradient() {
        let device = Default::default();
        let learning = LinearConfig::new(4, 3).init::<AutodiffFlex>(&device);
        let mut half = learning.clone();
        half.weight = half.weight.no_grad();
        for (layer, x_learns) in [
            (learning.clone().no_grad(), true),
            (half, true),
            (learning, false),
        ] {
            let x = Tensor::<AutodiffFlex, 2>::ones([2, 4], &device).set_require_grad(x_learns);
            let run = |y: Tensor<AutodiffFlex, 2>| {
                let grads = y.sum().backward();
                let bias = layer.bias.as_ref().expect("a bias").grad(&grads);
                let (x, weight) = (x.grad(&grads), layer.weight.grad(&grads));
                (
                    x.map(Tensor::into_data),
                    weight.map(Tensor::into_data),
                    bias.map(Tensor::into_data),
                )
            };
            let fast = run(on_the_road(x.clone(), &layer));
            let plain = run(layer.forward(x.clone()));
            assert_eq!(fast.0.is_some(), x_learns);
            assert_eq!(
                [fast.0.is_some(), fast.1.is_some(), fast.2.is_some()],
                [plain.0.is_some(), plain.1.is_some(), plain.2.is_some()]
            );
            for (fast, plain) in [(fast.0, plain.0), (fast.1, plain.1), (fast.2, plain.2)] {
                if let (Some(fast), Some(plain)) = (fast, plain) {
                    fast.assert_approx_eq::<f32>(&plain, Tolerance::absolute(1e-6));
                }
            }
        }
    }
}
