//! Bilinear and bicubic resizing as two small matrix products: differentiable on every backend.
//!
//! Same sampling as PyTorch's `interpolate(align_corners=False)`, with and without antialiasing.

use burn::prelude::*;

use super::{constant, matmul::matmul_floats};

/// Resizes a feature map bilinearly.
///
/// # Shapes
/// - `x`: `[B, C, H, W]`; output: `[B, C, size[0], size[1]]`
pub fn resize_bilinear<B: Backend>(x: Tensor<B, 4>, size: [usize; 2]) -> Tensor<B, 4> {
    resize(x, size, "resize/bilinear", |from, to| {
        weights(from, to, bilinear_taps)
    })
}

/// Resizes a feature map bicubically (a = −0.75).
///
/// # Shapes
/// - `x`: `[B, C, H, W]`; output: `[B, C, size[0], size[1]]`
pub fn resize_bicubic<B: Backend>(x: Tensor<B, 4>, size: [usize; 2]) -> Tensor<B, 4> {
    resize(x, size, "resize/bicubic", |from, to| {
        weights(from, to, bicubic_taps)
    })
}

/// Resizes a feature map bilinearly with antialiasing: shrinking averages over all that a pixel covers.
///
/// # Shapes
/// - `x`: `[B, C, H, W]`; output: `[B, C, size[0], size[1]]`
pub fn resize_bilinear_antialias<B: Backend>(x: Tensor<B, 4>, size: [usize; 2]) -> Tensor<B, 4> {
    resize(x, size, "resize/antialias", antialias_weights)
}

/// The matrix that resizes a row of `from` values to `to`, `[from, to]`.
type Weights = fn(from: usize, to: usize) -> TensorData;

/// Source positions and weights for one output position, given its fractional source coordinate.
type Taps = fn(f64) -> Vec<(isize, f64)>;

fn resize<B: Backend>(
    x: Tensor<B, 4>,
    size: [usize; 2],
    name: &'static str,
    weights: Weights,
) -> Tensor<B, 4> {
    let [b, c, h, w] = x.dims();
    let [out_h, out_w] = size;
    let device = x.device();
    let matrix = |from: usize, to: usize| -> Tensor<B, 2> {
        constant(name, &[from, to], &device, || weights(from, to)) // [from, to]
    };
    let mut x = x;
    if w != out_w {
        x = matmul_floats(x.reshape([b * c * h, w]), matrix(w, out_w)).reshape([b, c, h, out_w]);
    }
    if h != out_h {
        let rows = matrix(h, out_h)
            .transpose()
            .unsqueeze::<3>()
            .expand([b * c, out_h, h]);
        x = matmul_floats(rows, x.reshape([b * c, h, out_w])).reshape([b, c, out_h, out_w]);
    }
    x
}

fn weights(from: usize, to: usize, taps: Taps) -> TensorData {
    let mut weights = vec![0f32; from * to];
    let scale = from as f64 / to as f64;
    for i in 0..to {
        let source = (i as f64 + 0.5) * scale - 0.5;
        for (position, weight) in taps(source) {
            let position = position.clamp(0, from as isize - 1) as usize;
            weights[position * to + i] += weight as f32;
        }
    }
    TensorData::new(weights, [from, to])
}

/// A triangle as wide as two output pixels, or two input pixels when enlarging, cut at the borders.
fn antialias_weights(from: usize, to: usize) -> TensorData {
    let mut weights = vec![0f32; from * to];
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    for i in 0..to {
        let center = (i as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let last = ((center + support + 0.5) as usize).min(from);
        let triangle = |j: usize| (1.0 - ((j as f64 + 0.5 - center) / support).abs()).max(0.0);
        let sum: f64 = (first..last).map(triangle).sum();
        for j in first..last {
            weights[j * to + i] = (triangle(j) / sum) as f32;
        }
    }
    TensorData::new(weights, [from, to])
}

fn bilinear_taps(source: f64) -> Vec<(isize, f64)> {
    let source = source.max(0.0);
    let (floor, t) = (source.floor(), source.fract());
    vec![(floor as isize, 1.0 - t), (floor as isize + 1, t)]
}

fn bicubic_taps(source: f64) -> Vec<(isize, f64)> {
    const A: f64 = -0.75;
    let floor = source.floor();
    let t = source - floor;
    let near = |d: f64| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0; // |d| ≤ 1
    let far = |d: f64| ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A; // 1 < |d| < 2
    let kernel = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
    kernel
        .iter()
        .enumerate()
        .map(|(i, weight)| (floor as isize - 1 + i as isize, *weight))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Tolerance;
    type B = burn_flex::Flex;

    /// Values of `torch.nn.functional.interpolate(x, size, mode=…, align_corners=False)`.
    #[test]
    fn rows_match_pytorch() {
        let x = Tensor::<B, 4>::from_data([[[[1.0, 2.0, 4.0, 8.0]]]], &Default::default());
        let close = |y: Tensor<B, 4>, expected: &[f32]| {
            let expected = TensorData::new(expected.to_vec(), y.dims());
            y.into_data()
                .assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
        };
        close(
            resize_bilinear(x.clone(), [1, 3]),
            &[1.166_666_6, 3.0, 7.333_333_5],
        );
        close(
            resize_bilinear(x.clone(), [1, 8]),
            &[1.0, 1.25, 1.75, 2.5, 3.5, 5.0, 7.0, 8.0],
        );
        close(
            resize_bilinear(x, [2, 4]),
            &[1.0, 2.0, 4.0, 8.0, 1.0, 2.0, 4.0, 8.0],
        );
    }

    /// Values of `torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True)`.
    #[test]
    fn antialiased_rows_match_pytorch() {
        let x = Tensor::<B, 4>::from_data([[[[1.0, 2.0, 4.0, 8.0, 16.0, 5.0, 3.0]]]], &Default::default());
        let close = |y: Tensor<B, 4>, expected: &[f32]| {
            let expected = TensorData::new(expected.to_vec(), y.dims());
            y.into_data()
                .assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
        };
        close(
            resize_bilinear_antialias(x.clone(), [1, 3]),
            &[2.071_428_5, 8.411_765, 6.642_857],
        );
        close(
            resize_bilinear_antialias(x, [1, 9]),
            &[
                1.0,
                1.666_666_6,
                2.888_889,
                4.888_889,
                8.0,
                14.222_222,
                9.888_889,
                4.333_333_5,
                3.0,
            ],
        );
    }

    #[test]
    fn a_constant_image_stays_constant() {
        let x = Tensor::<B, 4>::full([1, 2, 5, 7], 3.0, &Default::default());
        for y in [resize_bicubic(x.clone(), [9, 4]), resize_bilinear(x, [3, 11])] {
            let expected = Tensor::<B, 4>::full(y.dims(), 3.0, &Default::default());
            y.into_data()
                .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-5));
        }
    }
}
