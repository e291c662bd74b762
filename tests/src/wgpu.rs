//! The GPU backend of the tests, and its device where there is one.

use std::{
    io::Write,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use burn_wgpu::{
    CubeBackend, WgpuDevice, WgpuRuntime,
    graphics::{AutoGraphicsApi, GraphicsApi},
};
use cubecl::{
    Runtime,
    config::{CubeClRuntimeConfig, RuntimeConfig},
};

/// WGPU without operation fusion, whose products can be wrong (book, Devices).
///
/// The backend is named here, because Cargo unites features: any crate of the build could bring fusion back.
pub type Gpu = CubeBackend<WgpuRuntime, f32, i32, u32>;

/// Where this variable is set, a missing adapter fails the tests that need one.
const REQUIRED: &str = "BURN_LOVE_REQUIRE_GPU";

/// The default adapter, ready to be used, or nothing after saying that there is none.
///
/// Call it before anything else touches WGPU: the configuration is fixed by the first use of a device.
pub fn device() -> Option<WgpuDevice> {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = *FOUND.get_or_init(|| {
        // Asking the backend itself for a device panics where there is no adapter.
        let adapters = WgpuRuntime::enumerate_all_devices(&AutoGraphicsApi::backend());
        if !adapters.is_empty() {
            configure();
        }
        !adapters.is_empty()
    });
    if found {
        return Some(WgpuDevice::DefaultDevice);
    }
    assert!(
        std::env::var_os(REQUIRED).is_none(),
        "expected a Vulkan adapter, because {REQUIRED} is set; found none"
    );
    // Lost output is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "skipped: no Vulkan adapter");
    None
}

fn configure() {
    let mut config = CubeClRuntimeConfig::default();
    // With more streams, a buffer that is read on another thread than the one that wrote it may be corrupted.
    config.streaming.max_streams = 1;
    CubeClRuntimeConfig::set(config);
}

/// Held by a test that uses the device: one at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
