//! SAM 2.1 from one click against `SAM2VideoPredictor`.

use burn_love::sam2::{Prompt, TrackerConfig};

use crate::{image_path, track};

#[test]
fn every_frame_agrees() {
    let tracker = TrackerConfig::new().with_prompted_multimask(true);
    track::check("track_points", image_path::config(), tracker, |fixture| {
        Prompt::Points(image_path::points(fixture, ""))
    });
}
