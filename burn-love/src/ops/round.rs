//! Rounding to bf16 on every backend.

use burn::{
    prelude::*,
    tensor::{DType, FloatDType},
};

/// Rounds to the nearest bf16, ties to even, and keeps the type.
///
/// WebGPU has no bf16; there f32 arithmetic gives the same values below 2^111. Where operations are fused into one kernel
/// (`burn-wgpu` with its feature `fusion`), a shader compiler may take `c - (c - x)` for `x`: nothing is rounded then.
pub fn round_to_bf16<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    let dtype: FloatDType = x.dtype().into();
    let rounded = if B::supports_dtype(&x.device(), DType::BF16) {
        x.cast(FloatDType::BF16)
    } else {
        split(x.cast(FloatDType::F32))
    };
    rounded.cast(dtype)
}

/// The high part of Veltkamp's splitting: an f32 rounded to the 8 bits of bf16's significand.
fn split<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    const FACTOR: f32 = 65537.0; // 2^(24 − 8) + 1
    let c = x.clone() * FACTOR;
    c.clone() - (c - x)
}

#[cfg(test)]
mod tests {
    use super::*;
    type B = burn_flex::Flex;

    #[test]
    fn splitting_rounds_every_mantissa_as_the_type_does() {
        for exponent in [-37_i32, -1, 0, 3, 20] {
            let values: Vec<f32> = (0..1_u32 << 23)
                .step_by(if exponent == 0 { 1 } else { 128 })
                .flat_map(|mantissa| {
                    let x = f32::from_bits(((127 + exponent) as u32) << 23 | mantissa);
                    [x, -x]
                })
                .chain([0.0])
                .collect();
            let x = Tensor::<B, 1>::from_floats(values.as_slice(), &Default::default());
            let ours = split(x.clone()).into_data().to_vec::<f32>().unwrap();
            let cast = x.cast(FloatDType::BF16).cast(FloatDType::F32);
            assert_eq!(ours, cast.into_data().to_vec::<f32>().unwrap(), "2^{exponent}");
            assert_ne!(ours, values, "nothing was rounded");
        }
    }
}
