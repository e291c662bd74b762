//! An interaction with a SAM 2.0 against `SAM2VideoPredictor` with the post-processing that it does on a CPU.

use burn::prelude::*;
use burn_love::sam2::VideoConfig;

use crate::{Cpu, TRACKED, UNROUNDED, image_path, session};

/// The case on any backend. The reference fills holes on CUDA only.
pub fn check<B: Backend>(video: VideoConfig, device: &B::Device, bound: f64) {
    let video = video.with_fill_hole_area(0);
    session::check::<B>(
        "video_postprocess",
        &image_path::config_2_0(),
        video,
        device,
        bound,
    );
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
