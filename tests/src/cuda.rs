//! The CUDA backend of the tests, and its first device.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn_cuda::CudaDevice;

/// CUDA in f32.
pub type Gpu = burn_cuda::Cuda<f32, i32>;

/// The first device, ready to be used and held by one test at a time.
///
/// # Panics
/// Without a device: who builds the tests with CUDA means to run them there.
pub fn claim() -> Option<(MutexGuard<'static, ()>, CudaDevice)> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    crate::one_stream();
    Some((alone, CudaDevice::new(0)))
}
