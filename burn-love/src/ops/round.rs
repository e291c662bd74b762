//! Rounding to bf16 on every backend.

use burn::{
    prelude::*,
    tensor::{DType, FloatDType},
};

/// Rounds to the nearest bf16, ties to even, and keeps the type.
///
/// The casts alone will not do: WebGPU has no bf16, and Burn's CPU backend casts through f64 with a conversion that takes
/// an f32 just above a tie for the tie. f32 arithmetic rounds rightly below 2^111; where operations are fused into one kernel
/// (`burn-wgpu` with its feature `fusion`), a shader compiler may take `c - (c - x)` for `x`: nothing is rounded then.
pub fn round_to_bf16<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    let dtype: FloatDType = x.dtype().into();
    let mut rounded = split(x.cast(FloatDType::F32));
    if B::supports_dtype(&rounded.device(), DType::BF16) {
        rounded = rounded.cast(FloatDType::BF16);
    }
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
    use burn::tensor::bf16;
    type B = burn_flex::Flex;

    #[test]
    fn every_mantissa_goes_to_the_nearest() {
        for exponent in [-37_i32, -1, 0, 3, 20] {
            let values: Vec<f32> = (0..1_u32 << 23)
                .step_by(if exponent == 0 { 1 } else { 127 })
                .flat_map(|mantissa| {
                    let x = f32::from_bits((((127 + exponent) as u32) << 23) | mantissa);
                    [x, -x]
                })
                .chain([0.0])
                .collect();
            let x = Tensor::<B, 1>::from_floats(values.as_slice(), &Default::default());
            let rounded = round_to_bf16(x).into_data().to_vec::<f32>().unwrap();
            let differ = values
                .iter()
                .zip(rounded)
                .find(|(x, found)| bf16::from_f32(**x).to_f32() != *found);
            assert_eq!(differ, None, "2^{exponent}");
        }
    }
}
