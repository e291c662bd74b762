//! Linear layers over the last dimension.

use burn::{nn::Linear, prelude::*, tensor::module};

use super::{gelu, matmul};

/// Applies `layer` to the last dimension as one matrix product over all rows: a batched product would broadcast the
/// weight, and its gradient would be one matrix per batch element.
///
/// # Shapes
/// - `x`: `[.., input]`
/// - output: `[.., output]`
pub fn linear<B: Backend, const D: usize>(layer: &Linear<B>, x: Tensor<B, D>) -> Tensor<B, D> {
    rows(x, layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()))
}

/// [`linear`] and [`gelu`](super::gelu()) behind it, in one pass where the backend has one.
///
/// # Shapes
/// - `x`: `[.., input]`
/// - output: `[.., output]`
pub fn linear_gelu<B: Backend, const D: usize>(layer: &Linear<B>, x: Tensor<B, D>) -> Tensor<B, D> {
    let (weight, bias) = (layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()));
    let (x, dims) = flat(x, &weight);
    #[cfg(feature = "flex")]
    let (x, weight, bias) = match bias {
        Some(bias) => match super::flex::linear_gelu(x, weight, bias) {
            Ok(y) => return y.reshape(dims),
            Err((x, weight, bias)) => (x, weight, Some(bias)),
        },
        None => (x, weight, None),
    };
    gelu(product(x, weight, bias)).reshape(dims)
}

/// As [`linear`], with an output in `N` parts of one width, each from its own columns of the weight. In training that is
/// faster than to cut the output: the gradient of a cut is as large as what was cut.
///
/// # Shapes
/// - `x`: `[.., input]`
/// - output: `N` times `[.., output / N]`
pub(crate) fn linear_in_parts<B: Backend, const D: usize, const N: usize>(
    layer: &Linear<B>,
    x: &Tensor<B, D>,
) -> [Tensor<B, D>; N] {
    let [_, output] = layer.weight.dims();
    let width = output / N;
    std::array::from_fn(|part| {
        let weight = layer.weight.val().narrow(1, part * width, width);
        let bias = layer.bias.as_ref();
        let bias = bias.map(|bias| bias.val().narrow(0, part * width, width));
        rows(x.clone(), weight, bias)
    })
}

/// [`linear`] with a weight `[input, output]` of its own.
pub(super) fn rows<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, D> {
    let (x, dims) = flat(x, &weight);
    product(x, weight, bias).reshape(dims)
}

/// `x` as rows, and the output's sizes.
fn flat<B: Backend, const D: usize>(x: Tensor<B, D>, weight: &Tensor<B, 2>) -> (Tensor<B, 2>, [usize; D]) {
    let mut dims = x.dims();
    let [input, output] = weight.dims();
    let rows = x.shape().num_elements() / input;
    dims[D - 1] = output;
    (x.reshape([rows, input]), dims)
}

fn product<B: Backend>(x: Tensor<B, 2>, weight: Tensor<B, 2>, bias: Option<Tensor<B, 1>>) -> Tensor<B, 2> {
    #[cfg(feature = "flex")]
    let (x, weight, bias) = match bias {
        Some(bias) => match super::flex::linear(x, weight, bias) {
            Ok(y) => return y,
            Err((x, weight, bias)) => (x, weight, Some(bias)),
        },
        None => (x, weight, None),
    };
    #[cfg(feature = "cube")]
    let (x, weight, bias) = match super::cube::linear(x, weight, bias) {
        Ok(y) => return y,
        Err(inputs) => inputs,
    };
    match bias {
        Some(bias) => module::linear(x, weight, Some(bias)),
        None => matmul(x, weight),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{
        nn::LinearConfig,
        tensor::{Distribution, Tolerance},
    };
    type B = burn::backend::Autodiff<burn_flex::Flex>;

    #[test]
    fn parts_are_the_whole_cut_with_the_same_gradients() {
        let device = Default::default();
        let layer = LinearConfig::new(5, 12).init::<B>(&device);
        let random = |dims| Tensor::<B, 3>::random(dims, Distribution::Normal(0.0, 1.0), &device);
        let (x, slope) = (random([2, 7, 5]).require_grad(), random([2, 7, 12]));
        let gradients = |y: Tensor<B, 3>| {
            let gradients = (y.clone() * slope.clone()).sum().backward();
            [
                y.into_data(),
                x.grad(&gradients).unwrap().into_data(),
                layer.weight.grad(&gradients).unwrap().into_data(),
                layer.bias.as_ref().unwrap().grad(&gradients).unwrap().into_data(),
            ]
        };
        let whole = gradients(linear(&layer, x.clone()));
        let parts: [_; 3] = linear_in_parts(&layer, &x);
        let parts = gradients(Tensor::cat(parts.to_vec(), 2));
        for (part, whole) in parts.iter().zip(&whole) {
            part.assert_approx_eq::<f32>(whole, Tolerance::default());
        }
    }
}
