//! Fast roads for the GPU backends, forward and (under `Autodiff`) backward: kernels in CubeCL, the same for CUDA and
//! WGPU.
//!
//! Kernels compute in f32 and follow the tensors' strides: CUDA's allocations may pad rows. Products of matrices are cubek's,
//! in the numbers of [`ProductPrecision`](super::ProductPrecision).

#![allow(
    clippy::result_large_err,
    reason = "tensors that no road takes are handed back"
)]
// `on_each_gpu` says why unit tests go without.
#![cfg_attr(test, allow(dead_code, unused_imports))]

use std::any::TypeId;

use burn::{prelude::*, tensor::DType};
use burn_autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn_cubecl::{CubeBackend, CubeRuntime, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::{CubeCount, CubeDim};

use super::roads::{cast, primitive, same_type, wrap};

mod attention;
mod attention_kernel;
mod conv;
mod conv_kernel;
mod gelu;
mod gelu_kernel;
mod lanes;
mod layer_norm;
mod layer_norm_kernel;
mod linear;
mod product;

pub(super) use attention::attention;
pub(super) use conv::conv2d_channels_last;
pub(super) use gelu::gelu;
pub(super) use layer_norm::layer_norm;
pub(super) use linear::linear;
pub(super) use product::matmul_batches as matmul;

/// A GPU backend on one of CubeCL's runtimes.
trait Gpu: Backend<FloatTensorPrimitive = CubeTensor<Self::Runtime>> {
    /// The runtime.
    type Runtime: CubeRuntime;
}

/// CUDA.
#[cfg(feature = "cuda")]
type Cuda = CubeBackend<cubecl::cuda::CudaRuntime, f32, i32, u8>;
/// WGPU, with truth values as WGSL has them.
#[cfg(feature = "wgpu")]
type Wgpu = CubeBackend<cubecl::wgpu::WgpuRuntime, f32, i32, u32>;
/// WGPU, with truth values as Vulkan and Metal have them.
#[cfg(feature = "wgpu")]
type Native = CubeBackend<cubecl::wgpu::WgpuRuntime, f32, i32, u8>;

#[cfg(feature = "cuda")]
impl Gpu for Cuda {
    type Runtime = cubecl::cuda::CudaRuntime;
}
#[cfg(feature = "wgpu")]
impl Gpu for Wgpu {
    type Runtime = cubecl::wgpu::WgpuRuntime;
}
#[cfg(feature = "wgpu")]
impl Gpu for Native {
    type Runtime = cubecl::wgpu::WgpuRuntime;
}

/// Whether the backend is CUDA's.
#[cfg(feature = "cuda")]
pub(super) fn is_cuda<B: Backend>() -> bool {
    TypeId::of::<B>() == TypeId::of::<Cuda>()
}

/// A backend with autodiff, as training uses it.
type Tracked<G> = Autodiff<G, NoCheckpointing>;

/// Its tensors.
type TrackedTensor<G> = burn::tensor::ops::FloatTensor<Tracked<G>>;

/// Whether the backend is a GPU's, with autodiff or without.
pub(super) fn is_gpu<B: Backend>() -> bool {
    let one = TypeId::of::<B>();
    #[cfg(feature = "cuda")]
    if one == TypeId::of::<Tracked<Cuda>>() {
        return true;
    }
    #[cfg(feature = "wgpu")]
    if one == TypeId::of::<Tracked<Wgpu>>() || one == TypeId::of::<Tracked<Native>>() {
        return true;
    }
    infers::<B>()
}

/// Whether the backend is a GPU's, without autodiff.
fn infers<B: Backend>() -> bool {
    let one = TypeId::of::<B>();
    #[cfg(feature = "cuda")]
    if one == TypeId::of::<Cuda>() {
        return true;
    }
    #[cfg(feature = "wgpu")]
    if one == TypeId::of::<Wgpu>() || one == TypeId::of::<Native>() {
        return true;
    }
    false
}

/// Threads of a cube whose threads each do one element.
const UNITS: usize = 256;

/// Elements that a thread reads at a time.
const WIDE: usize = 4;

/// Takes the road of the GPU backend that `$inputs` are on: `$direct` without autodiff, `$tracked` with it; hands them back
/// where there is none. `$Inputs<P>` is their type with float tensors `P`, and the output is a `P`.
///
/// What computes is in functions without type parameters, which are compiled in this crate and nowhere else. The crate's
/// unit tests, which have no GPU, leave them out: they would compile all kernels once more.
macro_rules! on_each_gpu {
    ($Inputs:ident, $inputs:expr, $direct:ident, $tracked:ident) => {{
        let inputs = $inputs;
        #[cfg(all(feature = "cuda", not(test)))]
        let inputs = on_each_gpu!(@direct Cuda, $Inputs, inputs, $direct);
        #[cfg(all(feature = "cuda", not(test)))]
        let inputs = on_each_gpu!(@tracked Cuda, $Inputs, inputs, $tracked);
        #[cfg(all(feature = "wgpu", not(test)))]
        let inputs = on_each_gpu!(@direct Wgpu, $Inputs, inputs, $direct);
        #[cfg(all(feature = "wgpu", not(test)))]
        let inputs = on_each_gpu!(@tracked Wgpu, $Inputs, inputs, $tracked);
        #[cfg(all(feature = "wgpu", not(test)))]
        let inputs = on_each_gpu!(@tracked Native, $Inputs, inputs, $tracked);
        Err(inputs)
    }};
    (@direct $G:ident, $Inputs:ident, $inputs:ident, $road:ident) => {
        on_each_gpu!(@road $Inputs, $inputs, CubeTensor<<$G as Gpu>::Runtime>, $road::<$G>)
    };
    (@tracked $G:ident, $Inputs:ident, $inputs:ident, $road:ident) => {
        on_each_gpu!(@road $Inputs, $inputs, TrackedTensor<$G>, $road::<$G>)
    };
    (@road $Inputs:ident, $inputs:ident, $P:ty, $road:expr) => {{
        fn road(inputs: $Inputs<$P>) -> Result<$P, $Inputs<$P>> {
            $road(inputs)
        }
        match cast::<_, $Inputs<$P>>($inputs) {
            Ok(inputs) => {
                return match road(inputs) {
                    Ok(output) => Ok(same_type(cast(output))),
                    Err(inputs) => Err(same_type(cast(inputs))),
                };
            }
            Err(inputs) => inputs,
        }
    }};
}
use on_each_gpu;

/// A tensor of `shape` beside `other`, rows without gaps, with anything in it.
fn empty<R: CubeRuntime>(other: &CubeTensor<R>, shape: impl Into<Shape>) -> CubeTensor<R> {
    let shape = shape.into();
    let handle = other.client.empty(DType::F32.size() * shape.num_elements());
    let (client, device) = (other.client.clone(), other.device.clone());
    CubeTensor::new_contiguous(client, device, shape, handle, DType::F32)
}

/// Whether rows are read in whole vectors: elements lie side by side, and rows start at multiples of [`WIDE`].
fn in_vectors<R: CubeRuntime>(tensor: &CubeTensor<R>) -> bool {
    let (strides, shape) = (tensor.meta.strides(), tensor.meta.shape());
    let last = strides.len() - 1;
    strides[last] == 1
        && strides[..last].iter().all(|stride| stride.is_multiple_of(WIDE))
        && shape[last].is_multiple_of(WIDE)
        && tensor
            .handle
            .offset_start
            .unwrap_or(0)
            .is_multiple_of(4 * WIDE as u64)
}

/// As many cubes, in a grid whose sides no device is too small for.
fn cubes(count: usize) -> CubeCount {
    let x = count.clamp(1, 32 * 1024);
    CubeCount::Static(x as u32, count.div_ceil(x) as u32, 1)
}
