//! An interaction with a SAM 2.0 against `SAM2VideoPredictor` with the post-processing that it does on a CPU.

use crate::{Cpu, TRACKED, image_path, session};

#[test]
fn every_answer_agrees() {
    // The reference fills holes on CUDA only.
    let video = session::video().with_fill_hole_area(0);
    let config = image_path::config_2_0();
    session::check::<Cpu>("video_postprocess", &config, video, &Default::default(), TRACKED);
}
