//! The GPU backend of the tests, and its device where there is one.

use std::{io::Write, sync::OnceLock};

use burn_wgpu::{
    CubeBackend, WgpuDevice, WgpuRuntime,
    graphics::{AutoGraphicsApi, GraphicsApi},
};
use cubecl::{
    Runtime,
    config::{CubeClRuntimeConfig, RuntimeConfig, autotune::AutotuneLevel, cache::CacheConfig},
};

/// WGPU without operation fusion.
///
/// `burn_wgpu::Wgpu` wraps this backend in `Fusion`. Fused, a matrix product with the bias that follows it gives wrong
/// values on a software Vulkan device: `[768, 8]·[8, 24] + [24]` is off by 99 % of its largest value, while the
/// product alone, the addition alone and the unfused pair are right to 1e-6. Every `Linear` with a bias is such a
/// pair. The backend is named here, rather than left to burn-wgpu's feature `fusion`, because Cargo unites features:
/// any crate of the build could bring the fault back.
pub type Gpu = CubeBackend<WgpuRuntime, f32, i32, u32>;

/// Types of adapters, as CubeCL numbers them.
const SOFTWARE: u16 = 3;

/// The default adapter, ready to be used, or nothing after saying that there is none.
///
/// Call it before anything else touches WGPU: the configuration is fixed by the first use of a device.
pub fn device() -> Option<WgpuDevice> {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = *FOUND.get_or_init(|| {
        // Asking the backend itself for a device panics where there is no adapter.
        let adapters = WgpuRuntime::enumerate_all_devices(&AutoGraphicsApi::backend());
        if !adapters.is_empty() {
            configure(adapters.iter().all(|adapter| adapter.type_id == SOFTWARE));
        }
        !adapters.is_empty()
    });
    if found {
        return Some(WgpuDevice::DefaultDevice);
    }
    // Lost output is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "skipped: no Vulkan adapter");
    None
}

fn configure(software: bool) {
    let mut config = CubeClRuntimeConfig::default();
    // Buffers read on another thread than the one that wrote them are corrupted with more streams.
    config.streaming.max_streams = 1;
    if software {
        // Every candidate kernel is compiled for the CPU, which takes seconds each.
        config.autotune.level = AutotuneLevel::Minimal;
    }
    // By default the choices would be kept in a `target` folder beside the nearest Cargo.toml.
    config.autotune.cache = CacheConfig::File(std::env::temp_dir().join("burn-love-autotune"));
    CubeClRuntimeConfig::set(config);
}
