//! An interaction with a SAM 2.1 against `SAM2VideoPredictor` without post-processing.

use crate::{Cpu, TRACKED, image_path, session};

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
