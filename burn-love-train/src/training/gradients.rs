//! Averaging over micro-batches and clipping by the norm of all gradients together.

use burn::{
    module::{AutodiffModule, ModuleVisitor, Param},
    optim::GradientsParams,
    prelude::*,
    tensor::backend::AutodiffBackend,
};
use burn_love::ops::sum_rows;

/// Divides summed gradients by `count` and scales them so that their common norm is at most `clip` (0: no limit).
///
/// Returns the norm before clipping. Norms are summed in module order, so the result is reproducible.
pub fn average_and_clip<B: AutodiffBackend, M: AutodiffModule<B>>(
    module: &M,
    grads: &mut GradientsParams,
    count: usize,
    clip: f64,
) -> f64 {
    let mut squares = Squares::<B> {
        grads,
        sums: Vec::new(),
    };
    module.visit(&mut squares);
    let sums = squares.sums;
    if sums.is_empty() {
        return 0.0;
    }
    let sums = Tensor::cat(sums, 0).into_data().convert::<f64>();
    let total: f64 = sums.as_slice::<f64>().expect("just converted").iter().sum();
    let norm = total.sqrt() / count as f64;
    let clip = if clip > 0.0 && norm > clip {
        clip / (norm + 1e-6)
    } else {
        1.0
    };
    let factor = clip / count as f64;
    if factor != 1.0 && norm.is_finite() {
        module.visit(&mut Scale { grads, factor });
    }
    norm
}

/// Sum of squares per parameter, in two stages of a fixed order.
struct Squares<'a, B: AutodiffBackend> {
    grads: &'a GradientsParams,
    sums: Vec<Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Squares<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(grad) = self.grads.get::<B::InnerBackend, D>(param.id) {
            let count = grad.shape().num_elements();
            // Rows of about √count: both sums are short.
            let width = (1..=((count as f64).sqrt() as usize).max(1))
                .rev()
                .find(|w| count % w == 0);
            let width = width.unwrap_or(1);
            let rows = grad.reshape([count / width, width]);
            let sums = sum_rows(rows.clone() * rows).reshape([1, count / width]);
            self.sums.push(sum_rows(sums).reshape([1]));
        }
    }
}

struct Scale<'a> {
    grads: &'a mut GradientsParams,
    factor: f64,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(grad) = self.grads.remove::<B::InnerBackend, D>(param.id) {
            self.grads.register(param.id, grad * self.factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    type B = burn_autodiff::Autodiff<burn_flex::Flex>;

    fn gradients(linear: &Linear<B>, scale: f64) -> GradientsParams {
        let x = Tensor::<B, 2>::ones([1, 3], &Default::default());
        let loss = linear.forward(x).sum() * scale;
        GradientsParams::from_grads(loss.backward(), linear)
    }

    /// The gradient of every one of the six weights and two biases is `scale`.
    #[test]
    fn the_common_norm_is_averaged_then_clipped() {
        let linear = LinearConfig::new(3, 2).init::<B>(&Default::default());
        let value = |grads: &GradientsParams| {
            let grad = grads.get::<burn_flex::Flex, 2>(linear.weight.id).unwrap();
            grad.into_data().to_vec::<f32>().unwrap()[0]
        };
        let mut grads = gradients(&linear, 6.0);
        let norm = average_and_clip::<B, _>(&linear, &mut grads, 2, 0.0);
        assert!((norm - 3.0 * 8f64.sqrt()).abs() < 1e-5);
        assert!((value(&grads) - 3.0).abs() < 1e-6);
        let mut grads = gradients(&linear, 6.0);
        average_and_clip::<B, _>(&linear, &mut grads, 2, 1.0);
        assert!((f64::from(value(&grads)) - 1.0 / 8f64.sqrt()).abs() < 1e-5);
    }
}
