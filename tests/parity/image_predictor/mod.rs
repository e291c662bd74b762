//! The image predictor end to end against `sam2_image_predictor.py`, from the bytes of an oblong image to masks at its
//! resolution.

use burn::prelude::*;
use burn_love::{
    preprocess::sam2_image_pixels,
    sam2::{
        ImagePredictor, ImagePredictorConfig, ImagePrompt, PointLabel, Sam2, Sam2Config,
        image_predictor::{ImagePrediction, PromptPoint},
        to_checkpoint,
    },
};
use burn_love_tests::{Fixture, assert_close};
use image::RgbImage;

use crate::{Cpu, IMAGE_MODEL, MODULE, image_path, report};

#[test]
fn every_prompt_agrees() {
    check::<Cpu>(&Default::default(), IMAGE_MODEL);
}

#[test]
fn pixels_agree() {
    let fixture = Fixture::load("image_predictor");
    let device = Default::default();
    let pixels = sam2_image_pixels(&image(&fixture), 96);
    let pixels = Tensor::<Cpu, 4>::from_data(TensorData::new(pixels, [1, 3, 96, 96]), &device);
    let error = assert_close("pixels", pixels, fixture.tensor("pixels", &device), MODULE);
    report("image_predictor pixels", &[error]);
}

/// Compares the answers to every kind of prompt.
pub fn check<B: Backend>(device: &B::Device, bound: f64) {
    let case = Case {
        name: "image_predictor",
        config: image_path::config(),
        prompts,
        cleaned: Some(("cleaned", sets())),
    };
    check_case::<B>(case, device, bound);
}

/// Name of each answer, whether candidates are asked for, prompt.
pub type Asked<B> = Vec<(&'static str, bool, ImagePrompt<B>)>;

/// An image predictor case.
pub struct Case<B: Backend> {
    /// Its folder.
    pub name: &'static str,
    /// The model.
    pub config: Sam2Config,
    /// What is asked.
    pub prompts: fn(&Fixture, &B::Device) -> Asked<B>,
    /// Name and prompt of candidates that are cleaned.
    pub cleaned: Option<(&'static str, ImagePrompt<B>)>,
}

/// Compares the answers to the case's prompts.
pub fn check_case<B: Backend>(case: Case<B>, device: &B::Device, bound: f64) {
    let fixture = Fixture::load(case.name);
    let model: Sam2<B> = fixture.load_into(case.config.init(device), to_checkpoint);
    let predictor = ImagePredictor::new(model.clone(), ImagePredictorConfig::new());
    let embedded = predictor.embed(&image(&fixture)).expect("an image");
    let mut errors = Vec::new();
    for (name, multimask, prompt) in (case.prompts)(&fixture, device) {
        let answer = predictor
            .predict(&embedded, &prompt, multimask)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        errors.extend(compare(&fixture, name, answer, 0.0, bound));
    }

    if let Some((name, prompt)) = case.cleaned {
        let cleaning = ImagePredictorConfig::new()
            .with_mask_threshold(0.25)
            .with_max_hole_area(6)
            .with_max_sprinkle_area(9);
        let predictor = ImagePredictor::new(model, cleaning);
        let answer = predictor
            .predict(&embedded, &prompt, true)
            .expect("a valid prompt");
        errors.extend(compare(&fixture, name, answer, 0.25, bound));
    }
    report(case.name, &errors);
}

fn image(fixture: &Fixture) -> RgbImage {
    let data = fixture.data("image");
    let bytes = data.iter::<f32>().map(|byte| byte as u8).collect();
    RgbImage::from_raw(data.shape[1] as u32, data.shape[0] as u32, bytes).expect("bytes of an image")
}

/// Two points each, the second prompt's last one padding.
fn sets<B: Backend>() -> ImagePrompt<B> {
    let point = |position, label| PromptPoint { position, label };
    ImagePrompt {
        points: vec![
            vec![
                point([100.0, 20.5], PointLabel::Positive),
                point([31.0, 44.0], PointLabel::Negative),
            ],
            vec![
                point([12.0, 45.0], PointLabel::Positive),
                point([0.0, 0.0], PointLabel::Padding),
            ],
        ],
        ..ImagePrompt::new()
    }
}

/// The generator's prompts: name, whether candidates are asked for, prompt.
fn prompts<B: Backend>(fixture: &Fixture, device: &B::Device) -> Asked<B> {
    let corners = [12.0, 8.0, 90.5, 47.0];
    let earlier: Tensor<B, 4> = fixture.tensor::<B, 4>("point.low", device).narrow(1, 0, 1);
    let point = || ImagePrompt::new().with_point([100.0, 20.5], true);
    let add = |prompt: ImagePrompt<B>| {
        prompt
            .with_point([31.0, 44.0], false)
            .with_point([7.0, 9.0], true)
    };
    let boxes = || {
        ImagePrompt::new()
            .with_box(corners)
            .with_box([0.0, 0.0, 110.0, 49.0])
            .with_box([60.0, 30.0, 70.0, 45.0])
    };
    let masked = |prompt: ImagePrompt<B>| prompt.with_mask(earlier.clone());
    vec![
        ("point", true, point()),
        ("point.single", false, point()),
        ("points", false, add(point())),
        ("box", false, ImagePrompt::new().with_box(corners)),
        ("mask", false, masked(ImagePrompt::new())),
        ("points.mask", false, masked(add(point()))),
        ("box.points", true, add(point()).with_box(corners)),
        ("all", false, masked(add(point()).with_box(corners))),
        ("boxes", false, boxes()),
        ("boxes.multimask", true, boxes()),
        ("boxes.mask", true, masked(boxes())),
        ("sets", true, sets()),
        (
            "outside",
            true,
            ImagePrompt::new().with_point([-20.0, 200.0], true),
        ),
        ("nothing", true, ImagePrompt::new()),
    ]
}

fn compare<B: Backend>(
    fixture: &Fixture,
    name: &str,
    answer: ImagePrediction<B>,
    threshold: f32,
    bound: f64,
) -> [f64; 3] {
    let device = answer.iou.device();
    let name = |part: &str| format!("{name}.{part}");
    let (low, iou, logits) = (name("low"), name("iou"), name("logits"));
    let expected: Tensor<B, 4> = fixture.tensor(&logits, &device);

    // The binary masks, wherever the reference is not so close to the threshold that either side is right.
    let masks = answer.masks().into_data().iter::<bool>().collect::<Vec<_>>();
    let values = expected.to_data().iter::<f32>().collect::<Vec<_>>();
    let margin = bound as f32 * values.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
    assert_eq!(masks.len(), values.len(), "{logits}");
    let decided = masks
        .into_iter()
        .zip(values)
        .filter(|(_, x)| (x - threshold).abs() > margin);
    for (inside, logit) in decided {
        assert_eq!(inside, logit > threshold, "{logits}: {logit}");
    }

    [
        assert_close(&logits, answer.logits(), expected, bound),
        assert_close(&iou, answer.iou, fixture.tensor(&iou, &device), bound),
        assert_close(&low, answer.low_res_logits, fixture.tensor(&low, &device), bound),
    ]
}
