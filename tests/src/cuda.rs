//! The CUDA backend of the tests, and its first device.

use std::sync::{Mutex, PoisonError};

use burn_cuda::CudaDevice;
use burn_love::ops::ProductPrecision;

use crate::Held;

/// CUDA in f32.
pub type Gpu = burn_cuda::Cuda<f32, i32>;

/// The first device, ready to be used and held by one test at a time, to multiply in TF32.
///
/// # Panics
/// Without a device: who builds the tests with CUDA means to run them there.
pub fn claim() -> Option<(Held, CudaDevice)> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    crate::one_stream();
    Some((Held::new(alone), CudaDevice::new(0)))
}

/// As [`claim`], to multiply in f32.
pub fn claim_f32() -> Option<(Held, CudaDevice)> {
    claim_in(ProductPrecision::F32)
}

/// As [`claim`], to multiply in bf16.
pub fn claim_bf16() -> Option<(Held, CudaDevice)> {
    claim_in(ProductPrecision::Bf16)
}

fn claim_in(precision: ProductPrecision) -> Option<(Held, CudaDevice)> {
    let (mut held, device) = claim()?;
    held.multiply_in(precision);
    Some((held, device))
}
