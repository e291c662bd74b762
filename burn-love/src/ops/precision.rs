//! What GPUs multiply matrices in.

use std::sync::atomic::{AtomicU8, Ordering};

use burn::{prelude::*, tensor::DType};

/// Numbers that a GPU multiplies matrices in. Tensors are f32 all the same: factors are rounded, and products summed up
/// and kept in f32, in the backward pass too. Norms, softmax, attention's own kernel, and resizing are f32 throughout, as
/// are all products on a CPU.
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
    /// Whether `device` can multiply in these numbers. Without a road of its own a backend takes f32 for all of them.
    pub fn is_supported<B: Backend>(self, device: &B::Device) -> bool {
        match self {
            Self::F32 | Self::Tf32 => true,
            Self::Bf16 => B::supports_dtype(device, DType::BF16),
            Self::F16 => B::supports_dtype(device, DType::F16),
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
