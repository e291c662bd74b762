//! An interaction with a SAM 2.1 under switches that the published configs leave alone, against `SAM2VideoPredictor`.

use burn::prelude::*;
use burn_love::sam2::{Sam2Config, VideoConfig};

use crate::{Cpu, TRACKED, UNROUNDED, image_path, session};

fn config() -> Sam2Config {
    let config = image_path::config();
    let memory = config
        .memory
        .clone()
        .with_temporal_stride(2)
        .with_max_conditioning_frames(2);
    config.with_memory(memory)
}

/// The case on any backend.
pub fn check<B: Backend>(video: VideoConfig, device: &B::Device, bound: f64) {
    let video = video.without_postprocessing().with_refined_as_conditioning(true);
    session::check::<B>("video_options", &config(), video, device, bound);
}

#[test]
fn every_answer_agrees() {
    check::<Cpu>(session::video(), &Default::default(), TRACKED);
}

#[test]
fn unrounded_memories_agree() {
    check::<Cpu>(
        session::video().with_round_memory(false),
        &Default::default(),
        UNROUNDED,
    );
}
