//! An interaction with a SAM 2.1 against `SAM2VideoPredictor` without post-processing.

use crate::{Cpu, TRACKED, UNROUNDED, image_path, session};

#[test]
fn every_answer_agrees() {
    let video = session::video().without_postprocessing();
    session::check::<Cpu>(
        "video_session",
        &image_path::config(),
        video,
        &Default::default(),
        TRACKED,
    );
}

#[test]
fn unrounded_memories_agree() {
    let video = session::video().without_postprocessing().with_round_memory(false);
    session::check::<Cpu>(
        "video_session",
        &image_path::config(),
        video,
        &Default::default(),
        UNROUNDED,
    );
}
