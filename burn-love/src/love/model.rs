//! The model: encoders, fusion, SAM 2.

use burn::prelude::*;

use super::{LoveConfig, LoveSession};
use crate::{
    encoders::{AudioEncoder, TextEncoder, TextTower, TokenBatch, Vggish, VisionEncoder, VisionTower},
    fusion::{Fusion, FusionConfig, FusionInput},
    sam2::Sam2,
};

/// The three encoders.
#[derive(Module, Debug)]
pub struct Encoders<B: Backend> {
    /// Sound.
    pub audio: Vggish<B>,
    /// Frames.
    pub vision: VisionTower<B>,
    /// Sentences.
    pub text: TextTower<B>,
}

/// SAM2-LOVE. See the [module docs](super).
///
/// ```
/// use burn::{prelude::*, tensor::Tensor};
/// use burn_flex::Flex;
/// use burn_love::{encoders::TokenBatch, love::{ClipInput, LoveConfig, Sam2Love}};
///
/// let device = Default::default();
/// let config = LoveConfig::nano();
/// let model: Sam2Love<Flex> = config.init(&device);
/// let clip = ClipInput {
///     log_mel: Tensor::zeros([1, 2, 96, 64], &device),
///     vit_pixels: Tensor::zeros([1, 2, 3, 96, 96], &device),
///     tokens: TokenBatch {
///         input_ids: Tensor::zeros([1, 25], &device),
///         padding: Tensor::<Flex, 2>::zeros([1, 25], &device).bool(),
///     },
/// };
/// let mut session = model.track(model.prompt(clip), Some(2));
/// for frame in 0..2 {
///     let pixels = Tensor::zeros([1, 3, 128, 128], &device);
///     assert_eq!(session.next_frame(pixels).low_res_logits.dims(), [1, 1, 32, 32], "frame {frame}");
/// }
/// ```
#[derive(Module, Debug)]
pub struct Sam2Love<B: Backend> {
    /// The promptable segmenter.
    pub sam2: Sam2<B>,
    /// What hears, sees and reads.
    pub encoders: Encoders<B>,
    /// What makes one prompt of it.
    pub fusion: Fusion<B>,
    /// What the model was built from.
    #[module(skip)]
    pub config: LoveConfig,
}

/// What the encoders take, for a batch of clips.
#[derive(Debug, Clone)]
pub struct ClipInput<B: Backend> {
    /// Log-mel examples, `[B, A, 96, 64]`.
    pub log_mel: Tensor<B, 4>,
    /// Frames at the vision encoder's size, `[B, T, 3, V, V]`.
    pub vit_pixels: Tensor<B, 5>,
    /// The sentences.
    pub tokens: TokenBatch<B>,
}

impl<B: Backend> ClipInput<B> {
    /// The frames and log-mel examples that the fusion takes of a long clip: see [`FusionConfig::max_frames`].
    pub fn fused(mut self, fusion: &FusionConfig) -> Self {
        let [_, examples, ..] = self.log_mel.dims();
        let [_, frames, ..] = self.vit_pixels.dims();
        if let Some(examples) = fusion.chosen(examples, &self.log_mel.device()) {
            self.log_mel = self.log_mel.select(1, examples);
        }
        if let Some(frames) = fusion.chosen(frames, &self.vit_pixels.device()) {
            self.vit_pixels = self.vit_pixels.select(1, frames);
        }
        self
    }
}

/// What the encoders say of a batch of clips: the fusion's input.
pub type ClipFeatures<B> = FusionInput<B>;

impl LoveConfig {
    /// Builds the model with fresh weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Sam2Love<B> {
        Sam2Love {
            sam2: self.sam2.model.init(device),
            encoders: Encoders {
                audio: self.encoders.audio.init(device),
                vision: self.encoders.vision.init(device),
                text: self.encoders.text.init(device),
            },
            fusion: self.fusion.init(&self.fusion_widths(), device),
            config: self.clone(),
        }
    }
}

impl<B: Backend> Encoders<B> {
    /// Encodes all three modalities of a batch of clips.
    pub fn encode(&self, clip: ClipInput<B>) -> ClipFeatures<B> {
        encode(&self.audio, &self.vision, &self.text, clip)
    }
}

/// Encodes clips with any encoders, such as those of ONNX graphs; [`Fusion::forward`] makes prompts of it.
pub fn encode<B: Backend>(
    audio: &impl AudioEncoder<B>,
    vision: &impl VisionEncoder<B>,
    text: &impl TextEncoder<B>,
    clip: ClipInput<B>,
) -> ClipFeatures<B> {
    let [b, a, frames, bands] = clip.log_mel.dims();
    let heard = audio.encode_audio(clip.log_mel.reshape([b * a, frames, bands]));
    let [_, audio_width] = heard.dims();
    let [_, t, c, h, w] = clip.vit_pixels.dims();
    let seen = vision.encode_image(clip.vit_pixels.reshape([b * t, c, h, w]));
    let [_, p, vision_width] = seen.patches.dims();
    let text_padding = clip.tokens.padding.clone();
    ClipFeatures {
        audio: heard.reshape([b, a, audio_width]),
        text: text.encode_text(clip.tokens),
        text_padding,
        patches: seen.patches.reshape([b, t, p, vision_width]),
        cls: seen.cls.reshape([b, t, vision_width]),
    }
}

impl<B: Backend> Sam2Love<B> {
    /// The prompt token of each clip.
    ///
    /// # Shapes
    /// - output: `[B, 1, D]`
    pub fn prompt(&self, clip: ClipInput<B>) -> Tensor<B, 3> {
        self.fusion
            .forward(self.encoders.encode(clip.fused(&self.config.fusion)))
    }

    /// Begins to track what `prompt` (`[B, 1, D]`) names; frames are then given one by one.
    ///
    /// `frames` is the clip's length, where it is known beforehand.
    pub fn track(&self, prompt: Tensor<B, 3>, frames: Option<usize>) -> LoveSession<'_, B> {
        LoveSession::new(self, prompt, self.config.tracker(frames))
    }
}
