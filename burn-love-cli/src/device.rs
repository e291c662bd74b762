//! Devices: what is there, what was asked for, and what `auto` takes.

use std::str::FromStr;

#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn_love::ops::product_precision;
use burn_love::ops::{ProductPrecision, set_product_precision};
use clap::ValueEnum;

use crate::{
    args::{Global, Precision},
    error::CliError,
};

/// What `--device` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA, then a hardware adapter of WGPU, then the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The n-th adapter of WGPU, hardware first.
    Wgpu(usize),
    /// The n-th CUDA device.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (
                name,
                index
                    .parse()
                    .map_err(|_| format!("expected a number behind `{name}:`, found `{index}`"))?,
            ),
            None => (text, 0),
        };
        match name {
            "auto" if !text.contains(':') => Ok(Self::Auto),
            "cpu" if !text.contains(':') => Ok(Self::Cpu),
            "wgpu" => Ok(Self::Wgpu(index)),
            "cuda" => Ok(Self::Cuda(index)),
            _ => Err(format!(
                "expected auto, cpu, wgpu[:N] or cuda[:N], found `{text}`"
            )),
        }
    }
}

/// An adapter of WGPU.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// Its name, as the driver gives it.
    pub name: String,
    /// Whether it is a program on the CPU.
    pub software: bool,
    #[cfg(feature = "wgpu")]
    device: burn_wgpu::WgpuDevice,
}

/// WGPU without operation fusion, whose products can be wrong (book, Devices).
///
/// The backend is named here because Cargo unites features: any crate of a build could turn `burn_wgpu::Wgpu` into the
/// fused one.
#[cfg(feature = "wgpu")]
pub type Gpu = burn_wgpu::CubeBackend<burn_wgpu::WgpuRuntime, f32, i32, u32>;

/// CUDA; without operation fusion, as long as no crate of the build turns burn-cuda's feature `fusion` on.
#[cfg(feature = "cuda")]
pub type Cuda = burn_cuda::Cuda<f32, i32>;

/// Settles how the GPU backends run; they read it at the first use of a device.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn configure_gpu() {
    use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        // With more streams, a buffer that is read on another thread than the one that wrote it may be corrupted.
        config.streaming.max_streams = 1;
        CubeClRuntimeConfig::set(config);
    });
}

/// The backend for modules whose names and shapes are asked for; nothing is computed on it.
#[cfg(feature = "cpu")]
pub type Outline = burn_flex::Flex;
/// The backend for modules whose names and shapes are asked for; nothing is computed on it.
#[cfg(all(not(feature = "cpu"), feature = "wgpu"))]
pub type Outline = Gpu;
/// The backend for modules whose names and shapes are asked for; nothing is computed on it.
#[cfg(all(not(feature = "cpu"), not(feature = "wgpu"), feature = "cuda"))]
pub type Outline = Cuda;

/// Adapters of WGPU, hardware first.
#[cfg(feature = "wgpu")]
pub fn adapters() -> Vec<Adapter> {
    use burn_wgpu::{
        WgpuDevice,
        graphics::{AutoGraphicsApi, GraphicsApi},
    };
    configure_gpu();
    let backend = AutoGraphicsApi::backend();
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backend.into();
    let found = pollster::block_on(wgpu::Instance::new(descriptor).enumerate_adapters(backend.into()));
    // cubecl counts adapters per kind.
    let mut counts = [0; 3];
    let mut adapters: Vec<_> = found
        .iter()
        .filter_map(|adapter| {
            let info = adapter.get_info();
            let mut next = |kind: usize| {
                counts[kind] += 1;
                counts[kind] - 1
            };
            let (device, software) = match info.device_type {
                wgpu::DeviceType::DiscreteGpu => (WgpuDevice::DiscreteGpu(next(0)), false),
                wgpu::DeviceType::IntegratedGpu => (WgpuDevice::IntegratedGpu(next(1)), false),
                wgpu::DeviceType::VirtualGpu => (WgpuDevice::VirtualGpu(next(2)), false),
                wgpu::DeviceType::Cpu => (WgpuDevice::Cpu, true),
                wgpu::DeviceType::Other => return None,
            };
            Some(Adapter {
                name: info.name,
                software,
                device,
            })
        })
        .collect();
    adapters.sort_by_key(|adapter| adapter.software);
    adapters
}

/// Adapters of WGPU: none in a build without it.
#[cfg(not(feature = "wgpu"))]
pub fn adapters() -> Vec<Adapter> {
    Vec::new()
}

/// CUDA devices; 0 where the driver is missing.
#[cfg(feature = "cuda")]
pub fn cuda_devices() -> usize {
    use burn::tensor::backend::Backend;
    // The driver is loaded at run time; its absence is a panic inside the binding.
    configure_gpu();
    std::panic::catch_unwind(|| Cuda::device_count(0)).unwrap_or(0)
}

/// CUDA devices: none in a build without it.
#[cfg(not(feature = "cuda"))]
pub fn cuda_devices() -> usize {
    0
}

/// A device that was found to be there.
#[derive(Debug, Clone)]
pub enum Device {
    /// The CPU.
    #[cfg(feature = "cpu")]
    Cpu,
    /// An adapter of WGPU.
    #[cfg(feature = "wgpu")]
    Wgpu(burn_wgpu::WgpuDevice, String),
    /// A CUDA device.
    #[cfg(feature = "cuda")]
    Cuda(usize),
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            #[cfg(feature = "cpu")]
            Self::Cpu => write!(f, "cpu ({} threads)", rayon::current_num_threads()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(_, name) => write!(f, "wgpu ({name}){}", rounding()),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => write!(f, "cuda:{index}{}", rounding()),
        }
    }
}

/// What a GPU's factors are rounded to, where they are.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn rounding() -> &'static str {
    match product_precision() {
        ProductPrecision::F32 => "",
        ProductPrecision::Tf32 => ", products in tf32",
        ProductPrecision::Bf16 => ", products in bf16",
        ProductPrecision::F16 => ", products in f16",
    }
}

impl Device {
    /// The numbers that the device multiplies in, where `asked` does not say.
    pub fn precision(&self, asked: Option<Precision>) -> Precision {
        asked.unwrap_or(match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => Precision::Tf32,
            #[allow(unreachable_patterns, reason = "depends on the features")]
            _ => Precision::F32,
        })
    }

    #[allow(unused_variables, reason = "depends on the features")]
    fn multiplies_in(&self, products: ProductPrecision) -> bool {
        match self {
            #[cfg(feature = "cpu")]
            Self::Cpu => products == ProductPrecision::F32,
            #[cfg(feature = "wgpu")]
            Self::Wgpu(device, _) => {
                products != ProductPrecision::Tf32 && products.is_supported::<Gpu>(device)
            }
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => products.is_supported::<Cuda>(&burn_cuda::CudaDevice::new(*index)),
        }
    }

    /// Bytes that a GPU backend holds on the device; nothing on the CPU.
    #[allow(unused_variables, reason = "depends on the features")]
    pub fn memory(&self) -> Option<u64> {
        match self {
            #[cfg(feature = "cpu")]
            Self::Cpu => None,
            #[cfg(feature = "wgpu")]
            Self::Wgpu(device, _) => reserved::<burn_wgpu::WgpuRuntime>(device),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => reserved::<cubecl::cuda::CudaRuntime>(&burn_cuda::CudaDevice::new(*index)),
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn reserved<R: cubecl::Runtime>(device: &R::Device) -> Option<u64> {
    Some(R::client(device).memory_usage().ok()?.bytes_reserved)
}

impl Global {
    /// The device that is meant, if it is there and computes in the numbers that are asked for, as it does from now on.
    pub fn probe(&self) -> Result<Device, CliError> {
        let device = self.device.probe()?;
        let precision = device.precision(self.precision);
        let products = precision.products();
        if !device.multiplies_in(products) {
            let fits: Vec<_> = Precision::value_variants()
                .iter()
                .filter(|other| device.multiplies_in(other.products()))
                .map(ToString::to_string)
                .collect();
            let message = format!(
                "--precision: expected {} on this device, found {precision}",
                fits.join(" or ")
            );
            return Err(CliError::input(message).hint("leave --precision out, or choose another --device"));
        }
        set_product_precision(products);
        Ok(device)
    }
}

impl DeviceChoice {
    /// The device that is meant, if it is there.
    pub fn probe(self) -> Result<Device, CliError> {
        match self {
            Self::Auto => auto(),
            #[cfg(feature = "cpu")]
            Self::Cpu => Ok(Device::Cpu),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(index) => {
                let found = adapters();
                let count = found.len();
                let adapter = found.into_iter().nth(index).ok_or_else(|| {
                    let message = format!("--device wgpu:{index}: expected an adapter, found {count}");
                    CliError::input(message).hint("`doctor` lists the devices; --device cpu always works")
                })?;
                if adapter.software {
                    tracing::warn!("{} is a software adapter: --device cpu is faster", adapter.name);
                }
                Ok(Device::Wgpu(adapter.device, adapter.name))
            }
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => {
                let count = cuda_devices();
                if index >= count {
                    let message = format!("--device cuda:{index}: expected a CUDA device, found {count}");
                    return Err(CliError::input(message)
                        .hint("`doctor` lists the devices; --device cpu always works"));
                }
                Ok(Device::Cuda(index))
            }
            #[allow(unreachable_patterns, reason = "depends on the features")]
            other => Err(
                CliError::input(format!("--device {other:?}: this program was built without it"))
                    .hint("build with --features cpu, wgpu or cuda"),
            ),
        }
    }
}

fn auto() -> Result<Device, CliError> {
    #[cfg(feature = "cuda")]
    if cuda_devices() > 0 {
        return Ok(Device::Cuda(0));
    }
    #[cfg(feature = "wgpu")]
    if let Some(adapter) = adapters().into_iter().find(|adapter| !adapter.software) {
        return Ok(Device::Wgpu(adapter.device, adapter.name));
    }
    #[cfg(feature = "cpu")]
    return Ok(Device::Cpu);
    #[allow(unreachable_code, reason = "depends on the features")]
    Err(CliError::input(
        "no device: this program was built without the CPU and found no GPU",
    ))
}

/// Runs `$body` with `$B` as the backend type of `$device` and `$at` as its device value.
macro_rules! with_backend {
    ($device:expr, |$B:ident, $at:ident| $body:expr) => {
        match $device {
            #[cfg(feature = "cpu")]
            $crate::device::Device::Cpu => {
                type $B = burn_flex::Flex;
                let $at = burn_flex::FlexDevice;
                $body
            }
            #[cfg(feature = "wgpu")]
            $crate::device::Device::Wgpu(device, _) => {
                type $B = $crate::device::Gpu;
                let $at = device;
                $body
            }
            #[cfg(feature = "cuda")]
            $crate::device::Device::Cuda(index) => {
                type $B = $crate::device::Cuda;
                let $at = burn_cuda::CudaDevice::new(index);
                $body
            }
        }
    };
}
pub(crate) use with_backend;
