//! The cases, and what each runs.

use std::{fmt, str::FromStr};

use burn::{
    backend::Autodiff,
    optim::GradientsParams,
    prelude::*,
    tensor::{Distribution, backend::AutodiffBackend},
};
use burn_love::{
    encoders::{
        AudioEncoder, TextConfig, TextEncoder, TokenBatch, VggishConfig, VisionConfig, VisionEncoder,
    },
    fusion::{FusionConfig, FusionTransformer},
    love::{ClipFeatures, ClipInput, LoveConfig},
    sam2::{ImageEncoder, NeckFeatures, Sam2Config, memory_attention::Memories},
};
use burn_love_train::{
    config::{Config, Source, resolve},
    training::{GroupedAdamW, Objective, average_and_clip, parts},
};

use crate::error::CliError;

/// Runs a case once.
pub type Work = Box<dyn FnMut()>;

/// Tokens of a sentence.
const TOKENS: usize = 25;
/// Frames of a clip, and its seconds of sound.
const FRAMES: usize = 10;
/// Pointers to the object that a memory of 16 frames holds, in rows of memory.
const POINTER_ROWS: usize = 64;

/// What is run, and how large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Case {
    /// SAM 2's image encoder on one image.
    ImageEncoder(&'static str),
    /// One frame attending to so many memories and 16 pointers.
    MemoryAttention(usize),
    /// One mask to a memory.
    MemoryEncoder,
    /// One prompt to four masks.
    MaskDecoder,
    /// ViT-B/16 on so many images.
    VitB(usize),
    /// DistilRoBERTa on a sentence of so many tokens.
    DistilRoberta(usize),
    /// VGGish on so many examples.
    Vggish(usize),
    /// The paper's fusion at a clip's last frame.
    FusionStep,
    /// A preset's model on a clip of so many frames, from pixels to masks.
    LoveVideo(usize, &'static str),
    /// One optimizer step of a preset, from cached features.
    TrainStep(&'static str),
}

/// Sizes of SAM 2.
const SIZES: [&str; 4] = ["tiny", "small", "base-plus", "large"];
/// Presets whose models and steps are timed.
const PRESETS: [&str; 2] = ["paper", "nano"];

impl Case {
    /// The cases that run where none is named.
    pub const DEFAULT: &'static str = "image_encoder/tiny,image_encoder/large,memory_attention/7,memory_encoder,\
        mask_decoder,vit_b/10,distilroberta/25,vggish/10,fusion_step,love_video/10,train_step/nano,train_step/paper";
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, argument) = text.split_once('/').unwrap_or((text, ""));
        let one_of = |names: &[&'static str], argument: &str| {
            let found = names.iter().find(|name| **name == argument).copied();
            found.ok_or_else(|| {
                format!(
                    "expected one of {}, found `{argument}` in `{text}`",
                    names.join(", ")
                )
            })
        };
        let among = |names: &[&'static str]| one_of(names, argument);
        let number = |argument: &str| {
            argument
                .parse()
                .ok()
                .filter(|n| (1..=100_000).contains(n))
                .ok_or_else(|| format!("expected {name}/ followed by a number from 1, found `{text}`"))
        };
        let count = || number(argument);
        let alone = |case| {
            argument
                .is_empty()
                .then_some(case)
                .ok_or_else(|| format!("expected {name} alone, found `{text}`"))
        };
        match name {
            "image_encoder" => Ok(Self::ImageEncoder(among(&SIZES)?)),
            "memory_attention" => Ok(Self::MemoryAttention(count()?)),
            "memory_encoder" => alone(Self::MemoryEncoder),
            "mask_decoder" => alone(Self::MaskDecoder),
            "vit_b" => Ok(Self::VitB(count()?)),
            "distilroberta" => match count()? {
                n if n <= TextConfig::distilroberta().longest() => Ok(Self::DistilRoberta(n)),
                _ => Err(format!(
                    "expected at most {} tokens, found `{text}`",
                    TextConfig::distilroberta().longest()
                )),
            },
            "vggish" => Ok(Self::Vggish(count()?)),
            "fusion_step" => alone(Self::FusionStep),
            "love_video" => {
                let (frames, preset) = argument.split_once('/').unwrap_or((argument, PRESETS[0]));
                Ok(Self::LoveVideo(number(frames)?, one_of(&PRESETS, preset)?))
            }
            "train_step" => Ok(Self::TrainStep(among(&PRESETS)?)),
            _ => Err(format!("no case `{text}`")),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ImageEncoder(size) => write!(f, "image_encoder/{size}"),
            Self::MemoryAttention(n) => write!(f, "memory_attention/{n}"),
            Self::MemoryEncoder => f.write_str("memory_encoder"),
            Self::MaskDecoder => f.write_str("mask_decoder"),
            Self::VitB(n) => write!(f, "vit_b/{n}"),
            Self::DistilRoberta(n) => write!(f, "distilroberta/{n}"),
            Self::Vggish(n) => write!(f, "vggish/{n}"),
            Self::FusionStep => f.write_str("fusion_step"),
            Self::LoveVideo(n, preset) if *preset == PRESETS[0] => write!(f, "love_video/{n}"),
            Self::LoveVideo(n, preset) => write!(f, "love_video/{n}/{preset}"),
            Self::TrainStep(preset) => write!(f, "train_step/{preset}"),
        }
    }
}

impl Case {
    /// Builds the case's model and input.
    pub fn prepare<B: Backend>(&self, device: &B::Device) -> Result<Work, CliError> {
        Ok(match *self {
            Self::ImageEncoder(size) => image_encoder::<B>(&sam2(size), device),
            Self::MemoryAttention(memories) => memory_attention::<B>(&sam2("tiny"), memories, device),
            Self::MemoryEncoder => memory_encoder::<B>(&sam2("tiny"), device),
            Self::MaskDecoder => mask_decoder::<B>(&sam2("tiny"), device),
            Self::VitB(n) => {
                let config = VisionConfig::base_16();
                let side = config.image_size;
                let model = config.init::<B>(device);
                let pixels = noise([n, 3, side, side], device);
                Box::new(move || drop(model.encode_image(pixels.clone())))
            }
            Self::DistilRoberta(n) => {
                let model = TextConfig::distilroberta().init::<B>(device);
                let tokens = sentence(1, n, device);
                Box::new(move || drop(model.encode_text(tokens.clone())))
            }
            Self::Vggish(n) => {
                let model = VggishConfig::audioset().init::<B>(device);
                let examples = noise([n, 96, 64], device);
                Box::new(move || drop(model.encode_audio(examples.clone())))
            }
            Self::FusionStep => fusion_step::<B>(device),
            Self::LoveVideo(frames, preset) => love_video::<B>(&config(preset)?.model, frames, device),
            Self::TrainStep(preset) => train_step::<Autodiff<B>>(&config(preset)?, device),
        })
    }
}

fn config(preset: &str) -> Result<Config, CliError> {
    Ok(resolve(&[Source::Preset(preset.into())])?)
}

fn sam2(size: &str) -> Sam2Config {
    Sam2Config::preset(&format!("sam2.1-hiera-{size}")).expect("a published size")
}

fn noise<B: Backend, const D: usize>(shape: [usize; D], device: &B::Device) -> Tensor<B, D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

fn sentence<B: Backend>(sentences: usize, tokens: usize, device: &B::Device) -> TokenBatch<B> {
    let ids = Tensor::<B, 2>::random([sentences, tokens], Distribution::Uniform(5.0, 250.0), device);
    TokenBatch {
        input_ids: ids.int(),
        padding: Tensor::<B, 2>::zeros([sentences, tokens], device).bool(),
    }
}

fn neck<B: Backend>(images: usize, config: &Sam2Config, device: &B::Device) -> NeckFeatures<B> {
    let (d, [h, w]) = (config.model_width, config.embedding_size());
    NeckFeatures {
        stride4: noise([images, d, 4 * h, 4 * w], device),
        stride8: noise([images, d, 2 * h, 2 * w], device),
        stride16: noise([images, d, h, w], device),
    }
}

fn image_encoder<B: Backend>(config: &Sam2Config, device: &B::Device) -> Work {
    let mut model = ImageEncoder::<B>::new(&config.hiera, &config.neck, config.model_width, device);
    let [h, w] = config.embedding_size();
    model.trunk.cache_position([4 * h, 4 * w]);
    let image = noise([1, 3, config.image_size, config.image_size], device);
    Box::new(move || drop(model.forward(image.clone())))
}

fn memory_attention<B: Backend>(config: &Sam2Config, memories: usize, device: &B::Device) -> Work {
    let (d, c, size) = (config.model_width, config.memory_width, config.embedding_size());
    let cells = size[0] * size[1];
    let model = config.memory_attention.init::<B>(d, c, device);
    let rotary = config.memory_attention.rotary_table(d, size, device);
    let (frame, position) = (noise([1, cells, d], device), noise([1, cells, d], device));
    let rows = memories * cells + POINTER_ROWS;
    let memories = Memories {
        rows: noise([1, rows, c], device),
        position: noise([1, rows, c], device),
        spatial_rows: memories * cells,
    };
    Box::new(move || drop(model.forward(frame.clone(), position.clone(), memories.clone(), &rotary)))
}

fn memory_encoder<B: Backend>(config: &Sam2Config, device: &B::Device) -> Work {
    let [h, w] = config.embedding_size();
    let model = config
        .memory_encoder
        .init::<B>(config.model_width, config.memory_width, device);
    let embedding = noise([1, config.model_width, h, w], device);
    let mask = noise([1, 1, config.image_size, config.image_size], device);
    Box::new(move || drop(model.forward(embedding.clone(), mask.clone())))
}

fn mask_decoder<B: Backend>(config: &Sam2Config, device: &B::Device) -> Work {
    let model = config.init::<B>(device).cache_constants();
    let features = model.project_features(neck(1, config, device));
    let token = noise([1, 1, config.model_width], device);
    Box::new(move || drop(model.forward_sam_heads(&features, token.clone(), true)))
}

fn fusion_step<B: Backend>(device: &B::Device) -> Work {
    let config = FusionConfig::paper();
    let model = FusionTransformer::<B>::new(&config, device);
    let patches = VisionConfig::base_16().patches();
    // [seg], sound, [aud], text, [vis], patches, and the frames before.
    let length = 1 + FRAMES + 1 + TOKENS + 1 + patches + FRAMES - 1;
    let tokens = noise([1, length, config.width], device);
    let padding = Tensor::<B, 2>::zeros([1, length], device).bool();
    let seg = 0..1;
    Box::new(move || drop(model.forward_rows(tokens.clone(), padding.clone(), std::slice::from_ref(&seg))))
}

fn love_video<B: Backend>(config: &LoveConfig, frames: usize, device: &B::Device) -> Work {
    let mut model = config.init::<B>(device);
    model.sam2 = model.sam2.cache_constants();
    let (s, v) = (config.sam2.model.image_size, config.encoders.vision.image_size);
    let fused = config.fusion.fused(frames).len();
    let clip = ClipInput {
        log_mel: noise([1, fused, 96, 64], device),
        vit_pixels: noise([1, fused, 3, v, v], device),
        tokens: sentence(1, TOKENS, device),
    };
    let frame: Tensor<B, 4> = noise([1, 3, s, s], device);
    Box::new(move || {
        let mut session = model.track(model.prompt(clip.clone()), Some(frames));
        for _ in 0..frames {
            drop(session.next_frame(frame.clone()));
        }
    })
}

/// The step of `train` from cached features on: forward, loss at the image's size, backward, clipping, AdamW.
fn train_step<B: AutodiffBackend>(config: &Config, device: &B::Device) -> Work {
    let (train, love) = (&config.train, &config.model);
    let b = train.batch_size;
    let widths = love.fusion_widths();
    let features = ClipFeatures {
        audio: noise([b, FRAMES, widths.audio], device),
        text: noise([b, TOKENS, widths.text], device),
        text_padding: Tensor::<B, 2>::zeros([b, TOKENS], device).bool(),
        patches: noise([b, FRAMES, love.encoders.vision.patches(), widths.vision], device),
        cls: noise([b, FRAMES, widths.vision], device),
    };
    let neck = neck(b, &love.sam2.model, device);
    let side = love.sam2.model.image_size;
    let labels = noise::<B, 4>([b, 1, side, side], device)
        .greater_elem(1.0)
        .float();
    let trainable = burn_love::love::Trainable {
        mask_decoder: true,
        prompt_encoder: true,
        ..burn_love::love::Trainable::NOTHING
    };
    let mut model = Some(love.init::<B>(device).freeze(&trainable));
    let all = parts(model.as_ref().expect("just built"), train);
    let mut optimizer = GroupedAdamW::new(train, model.as_ref().expect("just built"), &all);
    let objective = Objective::new(train);
    let (lr, clip) = (train.lr, train.clip_norm);
    Box::new(move || {
        let learner = model.take().expect("put back behind each run");
        let output = learner.forward_features(features.clone(), neck.clone(), 1, false);
        let loss = objective.losses(&output, labels.clone(), None).total;
        let mut grads = GradientsParams::from_grads(loss.backward(), &learner);
        average_and_clip(&learner, &mut grads, 1, clip);
        model = Some(optimizer.step(lr, learner, grads));
    })
}
