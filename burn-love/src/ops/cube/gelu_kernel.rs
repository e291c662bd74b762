//! GELU's kernels.

use std::f32::consts::FRAC_1_SQRT_2;

use cubecl::prelude::*;

/// GELU of each vector.
#[cube(launch_unchecked)]
pub(super) fn apply<N: Size>(x: &Array<Vector<f32, N>>, y: &mut Array<Vector<f32, N>>) {
    if ABSOLUTE_POS < y.len() {
        let value = x[ABSOLUTE_POS];
        y[ABSOLUTE_POS] = value * normal::<N>(value);
    }
}

/// Its gradient.
#[cube(launch_unchecked)]
pub(super) fn differentiate<N: Size>(
    x: &Array<Vector<f32, N>>,
    grad: &Array<Vector<f32, N>>,
    slope: &mut Array<Vector<f32, N>>,
) {
    if ABSOLUTE_POS < slope.len() {
        let value = x[ABSOLUTE_POS];
        // 1/√(2π)
        let density = (value * value * Vector::new(-0.5f32)).exp() * Vector::new(0.398_942_3f32);
        slope[ABSOLUTE_POS] = grad[ABSOLUTE_POS] * (normal::<N>(value) + value * density);
    }
}

/// The normal distribution function.
#[cube]
fn normal<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    ((x * Vector::new(FRAC_1_SQRT_2)).erf() + Vector::new(1.0f32)) * Vector::new(0.5f32)
}
