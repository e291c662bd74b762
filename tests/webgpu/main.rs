//! SAM 2 at 1024² within the buffers that every WebGPU device has.
//!
//! WebGPU promises storage buffers of 128 MiB and no more. On the CPU, by the roads that all backends share, the largest block
//! of memory that is asked for is watched; on WGPU, by hand, a device refuses larger ones, whatever the adapter could give. A
//! process of its own: both are settled for all of it.

use std::{
    alloc::{GlobalAlloc, Layout},
    process::Command,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
};

use burn::{
    backend::{Autodiff, autodiff::checkpoint::strategy::BalancedCheckpointing},
    prelude::*,
};
use burn_flex::Flex;
use burn_love::sam2::{Points, Prompt, Sam2Config, Tracker, TrackerConfig};
use burn_love_tests::{
    Held,
    wgpu::{Gpu, claim},
};
use burn_wgpu::{MemoryConfiguration, RuntimeOptions, WgpuDevice, graphics::AutoGraphicsApi, init_setup};
use cubecl_runtime::memory_management::{MemoryPoolOptions, PoolType};

/// The largest storage buffer, in bytes.
const LARGEST: u64 = 128 << 20;

/// The CPU by the roads that all backends share: `ops` has roads of its own for Flex, and for Flex with the other strategy.
type Plain = Autodiff<Flex, BalancedCheckpointing>;

/// The program's allocator, watched.
struct Watched;

/// The largest block that was asked for since it was last set to 0, in bytes.
static ASKED: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Watched = Watched;

#[allow(unsafe_code, reason = "an allocator; every call is handed on as it came")]
// SAFETY: mimalloc keeps the contract, and nothing is changed on the way.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_max(layout.size(), Ordering::Relaxed);
        unsafe { mimalloc::MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_max(layout.size(), Ordering::Relaxed);
        unsafe { mimalloc::MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.fetch_max(size, Ordering::Relaxed);
        unsafe { mimalloc::MiMalloc.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { mimalloc::MiMalloc.dealloc(block, layout) }
    }
}

/// The adapter that hands out no larger buffer, once for all tests.
fn limited() -> Option<(Held, WgpuDevice)> {
    static READY: Once = Once::new();
    let (alone, device) = claim()?;
    READY.call_once(|| {
        let pool = MemoryPoolOptions {
            pool_type: PoolType::ExclusivePages {
                max_alloc_size: LARGEST,
            },
            dealloc_period: Some(1),
        };
        let options = RuntimeOptions {
            memory_config: MemoryConfiguration::Custom {
                pool_options: vec![pool],
            },
            ..RuntimeOptions::default()
        };
        init_setup::<AutoGraphicsApi>(&device, options);
    });
    Some((alone, device))
}

/// A picture of waves, `[1, 3, side, side]`.
fn waves<B: Backend>(side: usize, device: &B::Device) -> Tensor<B, 4> {
    let wave = Tensor::<B, 1, Int>::arange(0..side as i64, device).float() * 0.05;
    let x = wave
        .clone()
        .sin()
        .reshape([1, 1, 1, side])
        .expand([1, 3, side, side]);
    let y = wave.cos().reshape([1, 1, side, 1]).expand([1, 3, side, side]);
    x + y
}

/// One frame with a click, and one that is tracked.
fn two_frames<B: Backend>(config: &Sam2Config, device: &B::Device) {
    let model = config.init::<B>(device).no_grad();
    let features = model.forward_image(waves(config.image_size, device));
    let points = Points {
        coordinates: Tensor::from_data([[[500.0f32, 400.0]]], device),
        labels: Tensor::from_data([[1i32]], device),
    };
    let tracker = Tracker::new(&model, TrackerConfig::new().with_frames(Some(2)));
    let (mut session, first) = tracker.start(&features, Prompt::Points(points));
    for output in [first, session.step(&features)] {
        assert_eq!(output.low_res_logits.dims()[2..], [config.mask_size(); 2]);
        let logits = output.low_res_logits.into_data();
        assert!(
            logits
                .as_slice::<f32>()
                .expect("f32")
                .iter()
                .all(|x| x.is_finite())
        );
    }
}

/// A preset with each kind of block once: buffers are as large as in all of them.
fn each_block_once(name: &str) -> Sam2Config {
    let mut config = Sam2Config::preset(name).expect("a preset");
    // The last block of the third stage looks at the whole image, the one before it at windows.
    config.hiera.stages = [1, 1, 2, 1];
    config.hiera.global_blocks = vec![3];
    config.memory_attention.layers = 1;
    config
}

#[test]
fn no_preset_asks_for_a_larger_buffer() {
    // The trunks of both generations are alike.
    for name in Sam2Config::preset_names().filter(|name| !name.starts_with("sam2-")) {
        ASKED.store(0, Ordering::Relaxed);
        two_frames::<Plain>(&each_block_once(name), &Default::default());
        let asked = ASKED.load(Ordering::Relaxed);
        assert!(asked > 1 << 16, "{name}: nothing was watched");
        assert!(asked as u64 <= LARGEST, "{name}: a buffer of {asked} bytes");
    }
}

/// Asks this program to take a larger buffer: the refusal ends the thread that all tests here share.
const PROBE: &str = "BURN_LOVE_PROBE_LARGE_BUFFER";

#[test]
fn a_larger_buffer_is_refused() {
    let largest = |bytes: u64| {
        let program = std::env::current_exe().expect("the path of this program");
        let output = Command::new(program)
            .args(["--exact", "--nocapture", "--ignored", "probe"])
            .env(PROBE, bytes.to_string())
            .output()
            .expect("it runs");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    if claim().is_none() {
        return;
    }
    let said = largest(LARGEST);
    assert!(said.contains("largest value: 1"), "128 MiB are refused: {said}");
    let said = largest(LARGEST + 4096);
    assert!(
        said.contains("can't allocate buffer of size"),
        "they were handed out: {said}"
    );
}

#[test]
#[ignore = "a part of a_larger_buffer_is_refused"]
#[allow(clippy::print_stderr, reason = "read by the test that this is a part of")]
fn probe() {
    let Ok(bytes) = std::env::var(PROBE) else { return };
    let Some((_alone, device)) = limited() else { return };
    let elements = bytes.parse::<usize>().expect("a number of bytes") / 4;
    let value = Tensor::<Gpu, 1>::ones([elements], &device).max().into_scalar();
    eprintln!("largest value: {value}");
}

/// By hand: `cargo test --release --workspace --test webgpu -- --ignored`.
#[test]
#[ignore = "long: half an hour on a software adapter"]
fn every_preset_fits_on_a_device_that_refuses_more() {
    let Some((_alone, device)) = limited() else { return };
    for name in Sam2Config::preset_names() {
        two_frames::<Gpu>(&Sam2Config::preset(name).expect("a preset"), &device);
    }
}
