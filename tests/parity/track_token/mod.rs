//! SAM 2.0 from a token against `SAM2VideoPredictor`.

use burn_love::sam2::{MemoryConfig, Prompt, TrackerConfig};

use crate::{image_path, track};

#[test]
fn every_frame_agrees() {
    let memory = MemoryConfig::new()
        .with_frames(4)
        .with_max_object_pointers(5)
        .with_no_object_embedding(false)
        .with_pointer_time_encoding(false)
        .with_pointer_time_projection(false)
        .with_pointer_time_signed(false);
    let config = image_path::config().with_memory(memory);
    track::check("track_token", config, TrackerConfig::new(), |fixture| {
        Prompt::Tokens(fixture.tensor("token", &Default::default()))
    });
}
