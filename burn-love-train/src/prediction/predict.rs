//! From a request to masks at the frames' resolution.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use burn::{prelude::*, tensor::activation::sigmoid};
use burn_love::{love::Sam2Love, ops::resize_bilinear};
use image::{GrayImage, RgbImage};

use crate::{
    config::Config,
    data::size_text,
    inference::{Question, background, floats, hear, maps, prompts, read, ready, see, track},
    samples::{Preparer, SampleError},
};

/// What to look for, and in what.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictRequest {
    /// Frames of one size, at least one.
    pub frames: Vec<RgbImage>,
    /// Frames a second. The paper's clips have one.
    pub fps: f64,
    /// A WAV file with the sound, of which the clip's seconds are read; background noise stands in for it where there is
    /// none.
    pub audio: Option<PathBuf>,
    /// The expression.
    pub text: String,
    /// What `result.json` calls the model.
    pub model: String,
}

impl PredictRequest {
    /// A request for a clip of one frame a second without sound.
    pub fn new(frames: Vec<RgbImage>, text: impl Into<String>) -> Self {
        Self {
            frames,
            fps: 1.0,
            audio: None,
            text: text.into(),
            model: "SAM2-LOVE".into(),
        }
    }
}

/// The object in one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct FramePrediction {
    /// 0 and 255, at the frame's resolution.
    pub mask: GrayImage,
    /// Probability that the object is there.
    pub presence: f64,
    /// Share of the frame that the mask covers.
    pub area: f64,
}

/// How long the parts of a prediction took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Sound and sentence into tensors.
    pub prepare: Duration,
    /// Encoders and fusion.
    pub prompt: Duration,
    /// SAM 2 on all frames.
    pub track: Duration,
}

/// One expression's object through a clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The expression.
    pub text: String,
    /// The sound file, if there was one.
    pub audio: Option<PathBuf>,
    /// The clip.
    pub frames: Vec<RgbImage>,
    /// The object in each frame.
    pub found: Vec<FramePrediction>,
    /// What the request calls the model.
    pub model: String,
    /// The device it ran on.
    pub device: String,
    /// How long the parts took.
    pub timings: Timings,
}

impl Prediction {
    /// Whether any pixel of any frame was found.
    pub fn is_found(&self) -> bool {
        self.found.iter().any(|frame| frame.area > 0.0)
    }
}

/// Finds what a request's text refers to in its clip. A pixel is the object's where its logit, enlarged to the frame's
/// resolution, is above 0.
///
/// # Errors
/// If there are no frames or they differ in size, or sound or text cannot be used. A sound must last as long as the
/// frames do.
pub fn predict<B: Backend>(
    model: &Sam2Love<B>,
    config: &Config,
    request: PredictRequest,
    device: &B::Device,
) -> Result<Prediction, SampleError> {
    let start = Instant::now();
    let preparer = Preparer::new(config)?;
    let size = frame_size(&request.frames)?;
    let frames = &request.frames;
    let seconds = ((frames.len() as f64 / request.fps).round() as usize).max(1);
    let tokens = preparer.tokens(&request.text)?;
    let sound = match &request.audio {
        Some(path) => preparer.sound_file(path, seconds)?,
        None => {
            tracing::warn!("no sound given: background noise stands in for it");
            background(seconds)
        }
    };
    let model = ready(model);
    let prepared = start.elapsed();

    let encoders = &model.encoders;
    // What is not fused need not be encoded.
    let fusion = &config.model.fusion;
    let fused: Vec<&RgbImage> = fusion
        .fused(frames.len())
        .into_iter()
        .map(|i| &frames[i])
        .collect();
    let seen = see(&encoders.vision, &preparer, &fused, device);
    let heard = hear(
        &encoders.audio,
        &sound.chosen(&fusion.fused(sound.examples)),
        device,
    );
    let question = Question {
        heard: &heard,
        tokens: &tokens,
        said: read(&encoders.text, &tokens, device),
    };
    let prompt = prompts(&model, &seen, &[question], device);
    // Devices work behind the caller's back; only a read-back waits for them.
    floats(prompt.clone());
    let prompted = start.elapsed();

    let (w, h) = size;
    let mut found = Vec::with_capacity(frames.len());
    let (pixels, side) = (preparer.sam2_pixels(&frames[0]), preparer.sam2_size);
    let first = maps(&model.sam2.image_encoder, pixels, side, device);
    track(
        &model,
        &preparer,
        frames,
        first,
        vec![prompt],
        device,
        |_, _, output| {
            let logits = floats(resize_bilinear(output.low_res_logits, [h as usize, w as usize]));
            let presence = floats(sigmoid(output.object_score));
            let mask: Vec<u8> = logits
                .iter()
                .map(|logit| if *logit > 0.0 { 255 } else { 0 })
                .collect();
            let covered = mask.iter().filter(|value| **value > 0).count();
            found.push(FramePrediction {
                area: covered as f64 / mask.len() as f64,
                mask: GrayImage::from_raw(w, h, mask).expect("one value per pixel"),
                presence: f64::from(presence[0]),
            });
        },
    );
    Ok(Prediction {
        text: request.text,
        audio: request.audio,
        found,
        model: request.model,
        device: device_name::<B>(device),
        timings: Timings {
            prepare: prepared,
            prompt: prompted - prepared,
            track: start.elapsed() - prompted,
        },
        frames: request.frames,
    })
}

fn device_name<B: Backend>(device: &B::Device) -> String {
    format!("{} ({device:?})", B::name(device))
}

/// The size (width, height) of all frames.
fn frame_size(frames: &[RgbImage]) -> Result<(u32, u32), SampleError> {
    let wrong = |expected: String, found: String| SampleError::Frames {
        path: "frames".into(),
        expected,
        found,
    };
    let Some(first) = frames.first().map(RgbImage::dimensions) else {
        return Err(wrong("at least one frame".into(), "none".into()));
    };
    match frames
        .iter()
        .map(RgbImage::dimensions)
        .find(|size| *size != first)
    {
        Some(other) => Err(wrong(
            format!("frames of one size, {}", size_text(first)),
            size_text(other),
        )),
        None => Ok(first),
    }
}
