//! Memory that stays flat: a session in a process of its own, so that nothing else moves its resident size.
//!
//! What an allocator keeps of freed memory would swing it by several megabytes: mimalloc's, which the program uses, and the
//! system's too, which has an arena for each thread. So the process runs with one arena of the system's allocator, and with
//! large blocks mapped and unmapped one by one; its resident size is then what the session holds.

use std::process::Command;

use burn::{prelude::*, tensor::Distribution};
use burn_flex::Flex;
use burn_love::sam2::{Direction, PointLabel, PointPrompt, Sam2, Sam2Config, VideoConfig, VideoSession};

/// Side of the video and of the model's image, in pixels.
const SIZE: usize = 256;

/// Set in the process that is measured.
const MEASURED: &str = "BURN_LOVE_MEASURED";

/// How glibc's allocator is told to keep nothing.
const KEEP_NOTHING: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "65536"),
    ("MALLOC_TRIM_THRESHOLD_", "65536"),
];

/// Resident memory of this process in KiB, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
#[allow(clippy::print_stderr, reason = "the figures that the test is about")]
fn a_long_video_takes_no_more_memory_than_a_short_one() {
    if resident().is_none() {
        eprintln!("skipped: this system does not tell the resident memory");
        return;
    }
    if std::env::var_os(MEASURED).is_none() {
        // The allocator reads its settings when a process begins.
        let status = Command::new(std::env::current_exe().unwrap())
            .arg("--nocapture")
            .env(MEASURED, "1")
            .envs(KEEP_NOTHING)
            .status()
            .unwrap();
        assert!(status.success(), "the measured process failed: see above");
        return;
    }
    let device = Default::default();
    let model: Sam2<Flex> = Sam2Config::preset("sam2.1-hiera-tiny")
        .unwrap()
        .with_image_size(SIZE)
        .init(&device);
    let model = model.cache_constants();
    let frame = || model.forward_image(Tensor::random([1, 3, SIZE, SIZE], Distribution::Default, &device));
    // The length is not told, as for a camera.
    let mut session = VideoSession::new(&model, VideoConfig::new([SIZE, SIZE]));
    let click = PointPrompt::new().point([40.0, 50.0], PointLabel::Positive);
    session.add_points(0, &frame(), 1, click).unwrap();
    let mut sizes = Vec::new();
    for index in 0..300 {
        let masks = session.track(index, &frame(), Direction::Forward).unwrap();
        let _ = masks.video_logits().into_data();
        if [100, 299].contains(&index) {
            sizes.push(resident().unwrap());
        }
    }
    let growth = sizes[1] as f64 / sizes[0] as f64 - 1.0;
    eprintln!(
        "resident after frame 100: {} KiB, after frame 300: {} KiB ({:+.2} %)",
        sizes[0],
        sizes[1],
        100.0 * growth
    );
    assert!(growth.abs() < 0.02, "grew by {:.2} %", 100.0 * growth);
}
