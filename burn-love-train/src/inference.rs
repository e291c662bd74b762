//! Expressions about one clip, from its frames and sound to masks.
//!
//! What expressions share is done once: the vision encoder sees each frame once, the audio encoder hears each sound
//! once, and SAM 2 encodes each frame once for all of them. Only a few frames' features live at a time.

use std::ops::Range;

use burn::{
    module::{ModuleVisitor, Param},
    prelude::*,
    tensor::activation::sigmoid,
};
use burn_love::{
    encoders::{AudioEncoder, TextEncoder, VggishConfig, VisionEncoder},
    love::{ClipFeatures, Sam2Love},
    ops::resize_bilinear,
    preprocess::{LogMel, SAMPLE_RATE, Tokens, Waveform, log_mel_rows},
    sam2::{FrameOutput, ImageEncoder, NeckFeatures},
};
use image::RgbImage;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{
    samples::{Preparer, token_batch},
    synth,
};

/// Pixels that go through an image encoder at once: one frame of SAM 2's full size.
const PIXELS_AT_ONCE: usize = 1024 * 1024;

/// Expressions that are fused and tracked together.
pub(crate) const EXPRESSIONS_AT_ONCE: usize = 8;

/// What the vision encoder says of a clip.
#[derive(Debug, Clone)]
pub(crate) struct Seen<B: Backend> {
    /// `[1, T, P, D]`.
    pub patches: Tensor<B, 4>,
    /// `[1, T, D]`.
    pub cls: Tensor<B, 3>,
}

/// An expression, and what is heard with it.
#[derive(Debug)]
pub(crate) struct Question<'a, B: Backend> {
    /// What the audio encoder says of the sound, `[1, A, D]`.
    pub heard: &'a Tensor<B, 3>,
    /// The expression.
    pub tokens: &'a Tokens,
    /// What the text encoder says of it, `[1, L, D]`.
    pub said: Tensor<B, 3>,
}

impl<B: Backend> Seen<B> {
    /// The same shapes, and nothing seen.
    pub fn blind(self) -> Self {
        Self {
            patches: self.patches.zeros_like(),
            cls: self.cls.zeros_like(),
        }
    }
}

/// Gives every parameter its value, in module order. Fresh ones get theirs when first used, and copies made before
/// that get other ones.
pub(crate) fn initialise<B: Backend, M: Module<B>>(model: &M) {
    struct Touch;
    impl<B: Backend> ModuleVisitor<B> for Touch {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            drop(param.val());
        }
    }
    model.visit(&mut Touch);
}

/// The model with all constants computed beforehand.
pub(crate) fn ready<B: Backend>(model: &Sam2Love<B>) -> Sam2Love<B> {
    initialise(model);
    let mut model = model.clone();
    model.sam2 = model.sam2.cache_constants();
    model
}

/// Background noise without any sound, always the same, for a clip of `frames` frames at one a second.
pub(crate) fn background(frames: usize) -> LogMel {
    let length = frames * SAMPLE_RATE as usize;
    let samples = synth::background(length, &mut ChaCha8Rng::seed_from_u64(0));
    let samples = samples.into_iter().map(|sample| sample as f32).collect();
    log_mel_rows(Waveform { samples }, frames)
}

fn at_once(side: usize) -> usize {
    (PIXELS_AT_ONCE / (side * side)).clamp(1, 16)
}

/// Frames on a device, `[N, 3, side, side]`.
fn upload<B: Backend>(pixels: Vec<f32>, side: usize, device: &B::Device) -> Tensor<B, 4> {
    let frames = pixels.len() / (3 * side * side);
    Tensor::from_data(TensorData::new(pixels, [frames, 3, side, side]), device)
}

/// Pixels of several frames, `[N, 3, side, side]`.
fn prepare<F: Sync>(frames: &[F], pixels: impl Fn(&F) -> Vec<f32> + Sync + Send) -> Vec<f32> {
    let prepared: Vec<Vec<f32>> = frames.par_iter().map(pixels).collect();
    prepared.concat()
}

/// Shows a clip to the vision encoder.
pub(crate) fn see<B: Backend>(
    vision: &impl VisionEncoder<B>,
    preparer: &Preparer,
    frames: &[&RgbImage],
    device: &B::Device,
) -> Seen<B> {
    let pixels = |some: Range<usize>| {
        prepare(&frames[some], |frame| {
            preparer.vit_pixels(std::slice::from_ref(*frame))
        })
    };
    see_pixels(vision, preparer.vit_size(), frames.len(), pixels, device)
}

/// Shows a clip of `frames` frames to the vision encoder, a few at a time.
pub(crate) fn see_pixels<B: Backend>(
    vision: &impl VisionEncoder<B>,
    side: usize,
    frames: usize,
    pixels: impl Fn(Range<usize>) -> Vec<f32>,
    device: &B::Device,
) -> Seen<B> {
    let step = at_once(side);
    let (mut patches, mut cls) = (Vec::new(), Vec::new());
    for first in (0..frames).step_by(step) {
        let some = pixels(first..frames.min(first + step));
        let features = vision.encode_image(upload(some, side, device));
        patches.push(features.patches);
        cls.push(features.cls);
    }
    Seen {
        patches: Tensor::cat(patches, 0).unsqueeze(),
        cls: Tensor::cat(cls, 0).unsqueeze(),
    }
}

/// Plays a sound to the audio encoder, `[1, A, D]`.
pub(crate) fn hear<B: Backend>(
    audio: &impl AudioEncoder<B>,
    sound: &LogMel,
    device: &B::Device,
) -> Tensor<B, 3> {
    let shape = [sound.examples, VggishConfig::FRAMES, VggishConfig::BANDS];
    let data = TensorData::new(sound.values.clone(), shape);
    audio.encode_audio(Tensor::from_data(data, device)).unsqueeze()
}

/// Gives a sentence to the text encoder, `[1, L, D]`.
pub(crate) fn read<B: Backend>(
    text: &impl TextEncoder<B>,
    tokens: &Tokens,
    device: &B::Device,
) -> Tensor<B, 3> {
    text.encode_text(token_batch(&[tokens], device))
}

/// SAM 2's maps of one frame, `[3, side, side]`.
pub(crate) fn maps<B: Backend>(
    encoder: &ImageEncoder<B>,
    pixels: Vec<f32>,
    side: usize,
    device: &B::Device,
) -> NeckFeatures<B> {
    encoder.forward(upload(pixels, side, device))
}

/// The prompt of each expression, `[B, 1, D]`.
pub(crate) fn prompts<B: Backend>(
    model: &Sam2Love<B>,
    seen: &Seen<B>,
    questions: &[Question<'_, B>],
    device: &B::Device,
) -> Tensor<B, 3> {
    let sentences: Vec<&Tokens> = questions.iter().map(|question| question.tokens).collect();
    let all =
        |part: fn(&Question<'_, B>) -> Tensor<B, 3>| Tensor::cat(questions.iter().map(part).collect(), 0);
    let b = questions.len();
    model.fusion.forward(ClipFeatures {
        audio: all(|question| question.heard.clone()),
        text_padding: token_batch(&sentences, device).padding,
        text: all(|question| question.said.clone()),
        patches: seen.patches.clone().repeat_dim(0, b),
        cls: seen.cls.clone().repeat_dim(0, b),
    })
}

/// Tracks groups of prompts (`[B, 1, D]` each) through a clip whose first frame's maps are at hand. `found` is told the
/// frame, the group, and the group's masks in that frame.
pub(crate) fn track<B: Backend>(
    model: &Sam2Love<B>,
    preparer: &Preparer,
    frames: &[RgbImage],
    first: NeckFeatures<B>,
    prompts: Vec<Tensor<B, 3>>,
    device: &B::Device,
    mut found: impl FnMut(usize, usize, FrameOutput<B>),
) {
    let side = preparer.sam2_size;
    let mut sessions: Vec<_> = prompts
        .into_iter()
        .map(|prompt| {
            let [b, ..] = prompt.dims();
            (b, model.track(prompt, Some(frames.len())))
        })
        .collect();
    let mut step = |at: usize, frame: NeckFeatures<B>| {
        let mut features = model.sam2.project_features(frame);
        let mut copies = 1;
        for (group, (b, session)) in sessions.iter_mut().enumerate() {
            if *b != copies {
                let copy = |map: Tensor<B, 4>| map.narrow(0, 0, 1).repeat_dim(0, *b);
                features.neck = NeckFeatures::map(features.neck, copy);
                features.high_res.stride4 = copy(features.high_res.stride4);
                features.high_res.stride8 = copy(features.high_res.stride8);
                copies = *b;
            }
            found(at, group, session.next_features(&features));
        }
    };
    step(0, first);
    let mut at = 1;
    for some in frames[1..].chunks(at_once(side)) {
        let pixels = prepare(some, |frame| preparer.sam2_pixels(frame));
        let neck = model.sam2.image_encoder.forward(upload(pixels, side, device));
        for i in 0..some.len() {
            step(at, neck.clone().map(|map| map.narrow(0, i, 1)));
            at += 1;
        }
    }
}

/// Probabilities at `size` (height, width), `[B, H, W]` row by row.
pub(crate) fn probabilities<B: Backend>(logits: Tensor<B, 4>, size: [usize; 2]) -> Vec<f32> {
    floats(sigmoid(resize_bilinear(logits, size)))
}

/// The values of a tensor.
pub(crate) fn floats<B: Backend, const D: usize>(x: Tensor<B, D>) -> Vec<f32> {
    x.into_data().convert::<f32>().into_vec().expect("just converted")
}
