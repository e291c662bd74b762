//! Shared by the tracking cases: a clip through the tracker, every frame compared.

use burn::prelude::*;
use burn_love::sam2::{Prompt, Sam2, Sam2Config, Tracker, TrackerConfig, to_checkpoint};
use burn_love_tests::{Fixture, assert_close};

use crate::report;

/// Frames of a clip; more than the model remembers.
const FRAMES: usize = 7;

/// A tracking case.
pub struct Case<B: Backend> {
    /// Its folder.
    pub name: &'static str,
    /// The model.
    pub config: Sam2Config,
    /// How the reference tracks.
    pub tracker: TrackerConfig,
    /// Reads the prompt of frame 0.
    pub prompt: fn(&Fixture, &B::Device) -> Prompt<B>,
}

/// Tracks the case's clip and bounds the error of every frame's mask, score and predicted IoU. An f32 memory that
/// lies between two bf16 values may be rounded to either, which is worth some 1e-4 in later frames.
pub fn check<B: Backend>(case: Case<B>, device: &B::Device, bound: f64) {
    let fixture = Fixture::load(case.name);
    let model: Sam2<B> = fixture.load_into(case.config.init(device), to_checkpoint);
    let model = model.cache_constants();
    let images = fixture.images("pixels", device);
    let tracker = Tracker::new(&model, case.tracker.with_frames(Some(FRAMES)));

    let mut session = None;
    let mut errors = Vec::new();
    for i in 0..FRAMES {
        let features = model.forward_image(images.clone().narrow(0, i, 1));
        let output = match &mut session {
            None => {
                let (started, output) = tracker.start(&features, (case.prompt)(&fixture, device));
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
                fixture.tensor(&logits, device),
                bound,
            ),
            assert_close(&score, output.object_score, fixture.tensor(&score, device), bound),
            assert_close(&iou, output.iou, fixture.tensor(&iou, device), bound),
        ]);
    }
    report(case.name, &errors);
}
