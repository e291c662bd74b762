//! Expressions about one clip, from its frames and sound to masks.
//!
//! What expressions share is done once: the vision encoder sees each frame once, the audio encoder hears each sound
//! once, and SAM 2 encodes each frame once for all of them. Only a few frames' features live at a time.

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
    sam2::{FrameOutput, NeckFeatures},
};
use image::RgbImage;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{samples::Preparer, synth};

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
pub(crate) fn initialise<B: Backend>(model: &Sam2Love<B>) {
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
fn upload<B: Backend>(
    frames: &[RgbImage],
    side: usize,
    pixels: impl Fn(&RgbImage) -> Vec<f32> + Sync + Send,
    device: &B::Device,
) -> Tensor<B, 4> {
    let prepared: Vec<Vec<f32>> = frames.par_iter().map(pixels).collect();
    let data = TensorData::new(prepared.concat(), [frames.len(), 3, side, side]);
    Tensor::from_data(data, device)
}

/// Shows a clip to the vision encoder.
pub(crate) fn see<B: Backend>(
    model: &Sam2Love<B>,
    preparer: &Preparer,
    frames: &[RgbImage],
    device: &B::Device,
) -> Seen<B> {
    let side = preparer.vit_size();
    let (mut patches, mut cls) = (Vec::new(), Vec::new());
    for some in frames.chunks(at_once(side)) {
        let pixels = |frame: &RgbImage| preparer.vit_pixels(std::slice::from_ref(frame));
        let features = model
            .encoders
            .vision
            .encode_image(upload(some, side, pixels, device));
        patches.push(features.patches);
        cls.push(features.cls);
    }
    Seen {
        patches: Tensor::cat(patches, 0).unsqueeze(),
        cls: Tensor::cat(cls, 0).unsqueeze(),
    }
}

/// Plays a sound to the audio encoder, `[1, A, D]`.
pub(crate) fn hear<B: Backend>(model: &Sam2Love<B>, sound: &LogMel, device: &B::Device) -> Tensor<B, 3> {
    let shape = [sound.examples, VggishConfig::FRAMES, VggishConfig::BANDS];
    let data = TensorData::new(sound.values.clone(), shape);
    model
        .encoders
        .audio
        .encode_audio(Tensor::from_data(data, device))
        .unsqueeze()
}

/// The prompt of each expression, `[B, 1, D]`.
pub(crate) fn prompts<B: Backend>(
    model: &Sam2Love<B>,
    preparer: &Preparer,
    seen: &Seen<B>,
    questions: &[Question<'_, B>],
    device: &B::Device,
) -> Tensor<B, 3> {
    let sentences: Vec<&Tokens> = questions.iter().map(|question| question.tokens).collect();
    let tokens = preparer.token_batch(&sentences, device);
    let b = questions.len();
    model.fusion.forward(ClipFeatures {
        audio: Tensor::cat(
            questions.iter().map(|question| question.heard.clone()).collect(),
            0,
        ),
        text_padding: tokens.padding.clone(),
        text: model.encoders.text.encode_text(tokens),
        patches: seen.patches.clone().repeat_dim(0, b),
        cls: seen.cls.clone().repeat_dim(0, b),
    })
}

/// Tracks groups of prompts (`[B, 1, D]` each) through a clip. `found` is told the frame, the group, and the group's
/// masks in that frame.
pub(crate) fn track<B: Backend>(
    model: &Sam2Love<B>,
    preparer: &Preparer,
    frames: &[RgbImage],
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
    let step = at_once(side);
    for (chunk, some) in frames.chunks(step).enumerate() {
        let pixels = upload(some, side, |frame| preparer.sam2_pixels(frame), device);
        let neck = model.sam2.image_encoder.forward(pixels);
        for i in 0..some.len() {
            let frame = neck.clone().map(|map| map.narrow(0, i, 1));
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
                found(chunk * step + i, group, session.next_features(&features));
            }
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
