//! The exact GELU, and CLIP's approximation of it.

use std::f64::consts::SQRT_2;

use burn::prelude::*;

/// `x·Φ(x)` with the exact normal distribution function (PyTorch's `approximate="none"`).
///
/// # Shapes
/// - `x`, output: any
pub fn gelu<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    #[cfg(feature = "flex")]
    let x = match super::flex::gelu(x) {
        Ok(y) => return y,
        Err(x) => x,
    };
    #[cfg(feature = "cube")]
    let x = match super::cube::gelu(x) {
        Ok(y) => return y,
        Err(x) => x,
    };
    plain(x)
}

/// The road of every backend. Burn 0.21's own GELU is exact too, but its default gradient is that of the tanh
/// approximation: off by up to 5e-4, on CubeCL's backends among others.
pub(super) fn plain<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    let twice_phi = (x.clone() / SQRT_2).erf() + 1.0;
    x * twice_phi / 2.0
}

/// `x·σ(1.702·x)`, the approximation that CLIP was trained with.
///
/// # Shapes
/// - `x`, output: any
pub fn quick_gelu<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    burn::tensor::activation::sigmoid(x.clone() * 1.702) * x
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{backend::Autodiff, tensor::Tolerance};
    use burn_flex::Flex;

    /// Φ(x) + x·φ(x), with Φ by Simpson's rule.
    fn derivative(x: f64) -> f64 {
        let density = |t: f64| (-t * t / 2.0).exp() / std::f64::consts::TAU.sqrt();
        let (steps, from) = (20_000, -12.0);
        let h = (x - from) / f64::from(steps);
        let weight = |i| if i % 2 == 1 { 4.0 } else { 2.0 };
        let inner: f64 = (1..steps)
            .map(|i| weight(i) * density(from + f64::from(i) * h))
            .sum();
        (density(from) + inner + density(x)) * h / 3.0 + x * density(x)
    }

    #[test]
    fn the_plain_gradient_is_exact() {
        let points: Vec<f64> = (-30..=30).map(|i| f64::from(i) * 0.2).collect();
        let device = Default::default();
        let x = TensorData::from(points.as_slice()).convert::<f32>();
        let x = Tensor::<Autodiff<Flex>, 1>::from_data(x, &device).require_grad();
        let gradient = x.grad(&plain(x.clone()).sum().backward()).expect("a gradient");
        let expected: Vec<f32> = points.iter().map(|x| derivative(*x) as f32).collect();
        gradient
            .into_data()
            .assert_approx_eq::<f32>(&TensorData::from(expected.as_slice()), Tolerance::absolute(2e-6));
    }
}
