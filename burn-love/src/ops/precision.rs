//! What GPUs multiply matrices in.

use std::sync::atomic::{AtomicU8, Ordering};

use burn::{prelude::*, tensor::DType};

/// Numbers that a GPU multiplies matrices in. Tensors are f32 all the same: factors are rounded, and products summed up
/// and kept in f32. The backward pass takes the same numbers, but [`Tf32`](Self::Tf32) in place of [`F16`](Self::F16), which
/// would lose small gradients. Attention and resizing are never in 16 bits, norms and softmax f32 throughout, as are all
/// products on a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum ProductPrecision {
    /// f32, without tensor cores where those would round.
    F32,
    /// What the device takes for f32: tensor cores round factors to TF32's 10 bits, others not at all.
    #[default]
    Tf32,
    /// bf16: 7 bits and the range of f32.
    Bf16,
    /// f16: 10 bits, up to 65,504.
    F16,
}

static PRECISION: AtomicU8 = AtomicU8::new(ProductPrecision::Tf32 as u8);

/// Settles the numbers that all GPUs of this process multiply in from now on.
pub fn set_product_precision(precision: ProductPrecision) {
    PRECISION.store(precision as u8, Ordering::Relaxed);
}

/// The numbers that GPUs multiply in.
pub fn product_precision() -> ProductPrecision {
    use ProductPrecision::{Bf16, F16, F32, Tf32};
    let now = PRECISION.load(Ordering::Relaxed);
    [F32, Tf32, Bf16, F16]
        .into_iter()
        .find(|precision| *precision as u8 == now)
        .expect("one of them was stored")
}

impl ProductPrecision {
    /// Whether `device` multiplies in these numbers: in 16 bits only by a road of its own, where it has them.
    pub fn is_supported<B: Backend>(self, device: &B::Device) -> bool {
        #[cfg(feature = "cube")]
        let has = |dtype| super::cube::is_gpu::<B>() && B::supports_dtype(device, dtype);
        #[cfg(not(feature = "cube"))]
        let has = |_| {
            let _ = device;
            false
        };
        match self {
            Self::F32 | Self::Tf32 => true,
            Self::Bf16 => has(DType::BF16),
            Self::F16 => has(DType::F16),
        }
    }

    /// That of products with a gradient for a factor: f16 would lose small ones.
    #[cfg_attr(not(feature = "cube"), allow(dead_code, reason = "only GPUs round"))]
    pub(crate) fn of_gradients(self) -> Self {
        match self {
            Self::F16 => Self::Tf32,
            other => other,
        }
    }

    /// That of operations which are never rounded to 16 bits.
    #[cfg_attr(not(feature = "cube"), allow(dead_code, reason = "only GPUs round"))]
    pub(crate) fn of_floats(self) -> Self {
        match self {
            Self::F32 => Self::F32,
            _ => Self::Tf32,
        }
    }
}
