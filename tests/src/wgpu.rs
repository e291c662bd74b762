//! The GPU backend of the tests, and its device where there is one.

use std::{io::Write, sync::OnceLock};

use burn_love::ops::ProductPrecision;
use burn_wgpu::{
    CubeBackend, WgpuDevice, WgpuRuntime,
    graphics::{AutoGraphicsApi, GraphicsApi},
};
use cubecl::Runtime;

use crate::Held;

/// WGPU without operation fusion, whose products can be wrong (book, Devices).
///
/// The backend is named here, because Cargo unites features: any crate of the build could bring fusion back.
pub type Gpu = CubeBackend<WgpuRuntime, f32, i32, u32>;

/// Where this variable is set, a missing adapter fails the tests that need one.
const REQUIRED: &str = "BURN_LOVE_REQUIRE_GPU";

/// The default adapter, ready to be used and held by one test at a time, to multiply in f32, or nothing after saying that there
/// is none.
///
/// Call it before anything else touches WGPU: the configuration is fixed by the first use of a device.
pub fn claim() -> Option<(Held, WgpuDevice)> {
    claim_in(ProductPrecision::F32)
}

/// As [`claim`], to multiply in f16, or nothing after saying that the adapter does not.
pub fn claim_f16() -> Option<(Held, WgpuDevice)> {
    let (held, device) = claim_in(ProductPrecision::F16)?;
    if ProductPrecision::F16.is_supported::<Gpu>(&device) {
        return Some((held, device));
    }
    missing("f16 of the Vulkan adapter");
    None
}

fn claim_in(precision: ProductPrecision) -> Option<(Held, WgpuDevice)> {
    let held = Held::multiplying_in(precision);
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = *FOUND.get_or_init(|| {
        // Asking the backend itself for a device panics where there is no adapter.
        let adapters = WgpuRuntime::enumerate_all_devices(&AutoGraphicsApi::backend());
        if !adapters.is_empty() {
            crate::one_stream();
        }
        !adapters.is_empty()
    });
    if found {
        return Some((held, WgpuDevice::DefaultDevice));
    }
    missing("Vulkan adapter");
    None
}

/// # Panics
/// If it is required.
fn missing(what: &str) {
    assert!(
        std::env::var_os(REQUIRED).is_none(),
        "expected a GPU, because {REQUIRED} is set; found no {what}"
    );
    // Lost output is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "skipped: no {what}");
}
