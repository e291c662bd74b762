//! SAM 2.0 from a token against `SAM2VideoPredictor`.

use burn::prelude::*;
use burn_love::sam2::{Prompt, TrackerConfig};

use crate::{Cpu, TRACKED, image_path, track};

/// The case on any backend.
pub fn case<B: Backend>() -> track::Case<B> {
    track::Case {
        name: "track_token",
        config: image_path::config_2_0(),
        tracker: TrackerConfig::new(),
        prompt: |fixture, device| Prompt::Tokens(fixture.tensor("token", device)),
    }
}

#[test]
fn every_frame_agrees() {
    track::check(case::<Cpu>(), &Default::default(), TRACKED);
}
