//! The CUDA backend of the tests, and its first device.

use burn_cuda::CudaDevice;
use burn_love::ops::ProductPrecision;

use crate::Held;

/// CUDA in f32.
pub type Gpu = burn_cuda::Cuda<f32, i32>;

/// The first device, ready to be used and held by one test at a time, to multiply in TF32.
///
/// # Panics
/// Without a device, as all of these: who builds the tests with CUDA means to run them there.
pub fn claim() -> Option<(Held, CudaDevice)> {
    claim_in(ProductPrecision::Tf32)
}

/// As [`claim`], to multiply in f32.
pub fn claim_f32() -> Option<(Held, CudaDevice)> {
    claim_in(ProductPrecision::F32)
}

/// As [`claim`], to multiply in bf16.
pub fn claim_bf16() -> Option<(Held, CudaDevice)> {
    claim_in(ProductPrecision::Bf16)
}

/// As [`claim`], to multiply in f16.
pub fn claim_f16() -> Option<(Held, CudaDevice)> {
    claim_in(ProductPrecision::F16)
}

fn claim_in(precision: ProductPrecision) -> Option<(Held, CudaDevice)> {
    let held = Held::multiplying_in(precision);
    crate::one_stream();
    Some((held, CudaDevice::new(0)))
}
