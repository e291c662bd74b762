//! SAM 2 at 1024² within the buffers that every WebGPU device has.
//!
//! WebGPU promises storage buffers of 128 MiB and no more. The device here refuses larger ones, whatever the adapter could
//! give. A process of its own: how memory is handed out is settled at the first use of a device.

use std::process::Command;

use burn::prelude::*;
use burn_love::sam2::{Points, Prompt, Sam2Config, Tracker, TrackerConfig};
use burn_love_tests::wgpu::{Gpu, claim};
use burn_wgpu::{MemoryConfiguration, RuntimeOptions, WgpuDevice, graphics::AutoGraphicsApi, init_setup};
use cubecl_runtime::memory_management::{MemoryPoolOptions, PoolType};

/// The largest storage buffer, in bytes.
const LARGEST: u64 = 128 << 20;

/// The adapter that hands out no larger buffer, once for all tests.
fn limited() -> Option<(std::sync::MutexGuard<'static, ()>, WgpuDevice)> {
    static READY: std::sync::Once = std::sync::Once::new();
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
fn waves(side: usize, device: &WgpuDevice) -> Tensor<Gpu, 4> {
    let wave = Tensor::<Gpu, 1, Int>::arange(0..side as i64, device).float() * 0.05;
    let x = wave
        .clone()
        .sin()
        .reshape([1, 1, 1, side])
        .expand([1, 3, side, side]);
    let y = wave.cos().reshape([1, 1, side, 1]).expand([1, 3, side, side]);
    x + y
}

#[track_caller]
fn assert_finite(values: Tensor<Gpu, 4>) {
    let values = values.into_data();
    assert!(
        values
            .as_slice::<f32>()
            .expect("f32")
            .iter()
            .all(|x| x.is_finite())
    );
}

/// One frame with a click, and one that is tracked.
fn two_frames(config: &Sam2Config, device: &WgpuDevice) {
    let model = config.init::<Gpu>(device);
    let features = model.forward_image(waves(config.image_size, device));
    let points = Points {
        coordinates: Tensor::from_data([[[500.0f32, 400.0]]], device),
        labels: Tensor::from_data([[1i32]], device),
    };
    let tracker = Tracker::new(&model, TrackerConfig::new().with_frames(Some(2)));
    let (mut session, first) = tracker.start(&features, Prompt::Points(points));
    for output in [first, session.step(&features)] {
        assert_eq!(output.low_res_logits.dims()[2..], [config.mask_size(); 2]);
        assert_finite(output.low_res_logits);
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

/// The widest trunk with each kind of block once, but for the one that looks at the whole image: what that needs depends on
/// neither, and a test of `ops` bounds it.
#[test]
fn the_large_image_encoder_fits() {
    let Some((_alone, device)) = limited() else { return };
    let mut config = Sam2Config::preset("sam2.1-hiera-large").expect("a preset");
    config.hiera.stages = [1, 1, 1, 1];
    config.hiera.global_blocks = vec![];
    let encoder = config.init::<Gpu>(&device).image_encoder;
    assert_finite(encoder.forward(waves(config.image_size, &device)).stride4);
}

/// By hand: `cargo test --release --workspace --test webgpu -- --ignored`.
#[test]
#[ignore = "long: half an hour on a software adapter"]
fn every_preset_fits_with_all_its_blocks() {
    let Some((_alone, device)) = limited() else { return };
    for name in Sam2Config::preset_names() {
        two_frames(&Sam2Config::preset(name).expect("a preset"), &device);
    }
}
