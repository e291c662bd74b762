//! An interaction with a SAM 2.0 against `SAM2VideoPredictor` with its post-processing, filled holes too.

use burn::prelude::*;
use burn_love::sam2::VideoConfig;

use crate::{Cpu, TRACKED, UNROUNDED, image_path, session};

/// The case on any backend. Holes are filled where memories are exact: single cells decide which ones are small enough.
pub fn check<B: Backend>(video: VideoConfig, device: &B::Device, bound: f64) {
    let video = if video.round_memory {
        video.with_fill_hole_area(0)
    } else {
        video
    };
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
