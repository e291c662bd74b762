//! Shared by the tracking cases: a clip through the tracker, every frame compared.

use burn_love::sam2::{Prompt, Sam2, Sam2Config, Tracker, TrackerConfig, to_checkpoint};
use burn_love_tests::{Fixture, assert_close};

use crate::{B, TRACKED, report};

/// Frames of a clip; more than the model remembers.
const FRAMES: usize = 7;

/// Tracks the clip of `case` and bounds the error of every frame's mask, score and predicted IoU.
pub fn check(case: &str, config: Sam2Config, tracker: TrackerConfig, prompt: impl Fn(&Fixture) -> Prompt<B>) {
    let device = Default::default();
    let fixture = Fixture::load(case);
    let model: Sam2<B> = fixture.load_into(config.init(&device), to_checkpoint);
    let model = model.cache_constants();
    let images = fixture.images("pixels", &device);
    let tracker = Tracker::new(&model, tracker.with_frames(Some(FRAMES)));

    let mut session = None;
    let mut errors = Vec::new();
    for i in 0..FRAMES {
        let features = model.forward_image(images.clone().narrow(0, i, 1));
        let output = match &mut session {
            None => {
                let (started, output) = tracker.start(&features, prompt(&fixture));
                session = Some(started);
                output
            }
            Some(session) => session.step(&features),
        };
        let name = |part: &str| format!("{part}.{i}");
        let (logits, score, iou) = (name("logits"), name("score"), name("iou"));
        errors.extend([
            assert_close(
                &logits,
                output.low_res_logits,
                fixture.tensor(&logits, &device),
                TRACKED,
            ),
            assert_close(
                &score,
                output.object_score,
                fixture.tensor(&score, &device),
                TRACKED,
            ),
            assert_close(&iou, output.iou, fixture.tensor(&iou, &device), TRACKED),
        ]);
    }
    report(case, &errors);
}
