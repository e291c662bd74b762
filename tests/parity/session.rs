//! Shared by the video session cases: the same interaction as `session.py`, every answer compared.

use burn::prelude::*;
use burn_love::sam2::{
    Direction, FrameMasks, History, ImageFeatures, PointLabel, PointPrompt, Sam2, Sam2Config, VideoConfig,
    VideoSession, to_checkpoint,
};
use burn_love_tests::{Fixture, assert_close};

use crate::report;

/// Frames of the clip.
const FRAMES: usize = 12;

/// Height and width that prompts and masks refer to.
const VIDEO: [usize; 2] = [72, 104];

/// A session case.
pub struct Case<'a, B: Backend> {
    /// Its folder.
    pub name: &'static str,
    /// The model.
    pub config: &'a Sam2Config,
    /// Reads the clip as the model takes it, `[T, 3, S, S]`.
    pub pixels: fn(&Fixture, &B::Device) -> Tensor<B, 4>,
    /// What is asked.
    pub steps: fn(&mut Interaction<'_, B>),
}

/// A clip, its model and what the reference said.
pub struct Interaction<'a, B: Backend> {
    fixture: Fixture,
    session: VideoSession<'a, B>,
    features: Vec<ImageFeatures<B>>,
    /// `unrounded.` where the reference was asked to keep memories in f32.
    prefix: &'static str,
    device: B::Device,
    bound: f64,
    errors: Vec<f64>,
}

/// Repeats the long interaction and bounds the error of every mask and score.
pub fn check<B: Backend>(
    name: &'static str,
    config: &Sam2Config,
    video: VideoConfig,
    device: &B::Device,
    bound: f64,
) {
    let case = Case {
        name,
        config,
        pixels: |fixture, device| fixture.images("pixels", device),
        steps: |run| run.all(),
    };
    check_case::<B>(&case, video, device, bound);
}

/// Repeats the case's interaction and bounds the error of every mask and score.
pub fn check_case<B: Backend>(case: &Case<'_, B>, video: VideoConfig, device: &B::Device, bound: f64) {
    let fixture = Fixture::load(case.name);
    let model: Sam2<B> = fixture.load_into(case.config.init(device), to_checkpoint);
    let model = model.cache_constants();
    let pixels = (case.pixels)(&fixture, device);
    let features = (0..pixels.dims()[0])
        .map(|i| model.forward_image(pixels.clone().narrow(0, i, 1)))
        .collect();
    let rounded = video.round_memory;
    let mut run = Interaction {
        prefix: if rounded { "" } else { "unrounded." },
        session: VideoSession::new(&model, video),
        features,
        fixture,
        device: device.clone(),
        bound,
        errors: Vec::new(),
    };
    (case.steps)(&mut run);
    let wobble = fixture_wobble(&run);
    assert!(
        wobble < bound,
        "the reference's own answers move by {wobble:.1e}: a bound of {bound:.0e} proves nothing"
    );
    let memories = if rounded { "bf16" } else { "f32" };
    report(&format!("{}, memories in {memories}", case.name), &run.errors);
}

/// How far the reference's answers move when its modules' outputs move by what f32 leaves open (`session.py`).
fn fixture_wobble<B: Backend>(run: &Interaction<'_, B>) -> f64 {
    let wobble = run.fixture.data(&format!("{}wobble", run.prefix));
    wobble.iter::<f64>().next().expect("one value")
}

impl<B: Backend> Interaction<'_, B> {
    fn all(&mut self) {
        let click = PointPrompt::new().point([40.0, 30.0], PointLabel::Positive);
        self.points("click", 2, 1, click);
        let second = PointPrompt::new()
            .point([88.0, 60.0], PointLabel::Negative)
            .keep_previous();
        self.points("second", 2, 1, second);
        self.points("box", 4, 2, PointPrompt::new().bounds([20.0, 15.0, 70.0, 55.0]));
        let mask = self.fixture.tensor("mask", &self.device);
        let masks = self.session.add_mask(9, &self.features[9], 2, mask).unwrap();
        self.prompted("mask", 2, masks);

        let first = self.session.first_prompted_frame().unwrap();
        assert_eq!(first, 2);
        self.track("forward", first..FRAMES, Direction::Forward, &[1, 2]);

        let refine = PointPrompt::new().point([55.0, 40.0], PointLabel::Positive);
        self.points("refine", 7, 1, refine);
        let again = PointPrompt::new().point([30.0, 20.0], PointLabel::Positive);
        self.points("again", 11, 1, again);
        let late = PointPrompt::new()
            .bounds([10.0, 30.0, 60.0, 70.0])
            .point([30.0, 50.0], PointLabel::Positive);
        self.points("late", 3, 3, late);
        self.track("backward", (0..8).rev(), Direction::Backward, &[1, 2, 3]);

        self.session.remove_object(2).unwrap();
        self.track("final", 9..FRAMES, Direction::Forward, &[1, 3]);
    }

    /// Prompts an object and compares the answer.
    pub fn points(&mut self, name: &str, frame: usize, object: u32, prompt: PointPrompt) {
        let masks = self
            .session
            .add_points(frame, &self.features[frame], object, prompt)
            .unwrap();
        self.prompted(name, object, masks);
    }

    fn prompted(&mut self, name: &str, object: u32, masks: FrameMasks<B>) {
        let index = masks
            .objects
            .iter()
            .position(|mask| mask.object == object)
            .unwrap();
        let mask = &masks.objects[index];
        self.close(format!("{name}.logits"), mask.low_res_logits.clone());
        self.close(format!("{name}.score"), mask.object_score.clone());
        self.close(format!("{name}.video"), masks.video_logits().narrow(0, index, 1));
    }

    /// Tracks over frames and compares what is said about each.
    pub fn track(
        &mut self,
        name: &str,
        frames: impl Iterator<Item = usize>,
        direction: Direction,
        objects: &[u32],
    ) {
        for frame in frames {
            let masks = self
                .session
                .track(frame, &self.features[frame], direction)
                .unwrap();
            let found: Vec<u32> = masks.objects.iter().map(|mask| mask.object).collect();
            assert_eq!(found, objects, "{name}.{frame}");
            for mask in &masks.objects {
                let name = format!("{name}.{frame}.{}", mask.object);
                self.close(format!("{name}.logits"), mask.low_res_logits.clone());
                self.close(format!("{name}.score"), mask.object_score.clone());
            }
            // All objects of some frames at the video's size; one by one: an absent one is -1024 everywhere.
            if self
                .fixture
                .contains(&format!("{name}.{frame}.{}.video", objects[0]))
            {
                let logits = masks.video_logits();
                for (i, object) in objects.iter().enumerate() {
                    let mask = logits.clone().narrow(0, i, 1);
                    self.close(format!("{name}.{frame}.{object}.video"), mask);
                }
            }
        }
    }

    fn close<const D: usize>(&mut self, name: String, actual: Tensor<B, D>) {
        let name = format!("{}{name}", self.prefix);
        let expected = self.fixture.tensor(&name, &self.device);
        self.errors
            .push(assert_close(&name, actual, expected, self.bound));
    }
}

/// The clip's size and length; everything is kept, as the reference does: the interaction jumps about.
pub fn video() -> VideoConfig {
    VideoConfig::new(VIDEO)
        .with_frames(Some(FRAMES))
        .with_history(History::Full)
}
