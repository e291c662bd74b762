//! SAM 2.0 from a token against `SAM2VideoPredictor`.

use burn::prelude::*;
use burn_love::sam2::{MemoryConfig, Prompt, TrackerConfig};

use crate::{Cpu, image_path, track};

fn case<B: Backend>() -> track::Case<B> {
    let memory = MemoryConfig::new()
        .with_frames(4)
        .with_max_object_pointers(5)
        .with_no_object_embedding(false)
        .with_pointer_time_encoding(false)
        .with_pointer_time_projection(false)
        .with_pointer_time_signed(false);
    track::Case {
        name: "track_token",
        config: image_path::config().with_memory(memory),
        tracker: TrackerConfig::new(),
        prompt: |fixture, device| Prompt::Tokens(fixture.tensor("token", device)),
    }
}

#[test]
fn every_frame_agrees() {
    track::check(case::<Cpu>(), &Default::default());
}
