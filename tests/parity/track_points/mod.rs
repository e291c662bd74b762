//! SAM 2.1 from one click against `SAM2VideoPredictor`.

use burn::prelude::*;
use burn_love::sam2::{Prompt, TrackerConfig};

use crate::{Cpu, TRACKED, image_path, track};

/// The case on any backend.
pub fn case<B: Backend>() -> track::Case<B> {
    track::Case {
        name: "track_points",
        config: image_path::config(),
        tracker: TrackerConfig::new().with_prompted_multimask(true),
        prompt: |fixture, device| Prompt::Points(image_path::points(fixture, "", device)),
    }
}

#[test]
fn every_frame_agrees() {
    track::check(case::<Cpu>(), &Default::default(), TRACKED);
}
