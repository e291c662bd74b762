//! From rows of a data set to what the model takes, still on the host.

use std::path::{Path, PathBuf};

use burn::prelude::*;
use burn_love::{
    encoders::{TokenBatch, VggishConfig},
    love::{ClipInput, LoveConfig},
    preprocess::{LogMel, PreprocessError, Tokenizer, Tokens, Waveform, log_mel, sam2_pixels, vit_pixels},
};
use image::RgbImage;

use crate::{
    config::Config,
    data::{DataError, RefAvs, Row},
};

/// The embedded tokenizer: a byte-level BPE on the synthetic scenes' expressions.
const NANO_TOKENIZER: &[u8] = include_bytes!("../../assets/nano-tokenizer.json");

/// A row, a file of it, or an input of `predict` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The data set is at fault.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file's content is at fault.
    #[error("{path}: {source}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PreprocessError,
    },
    /// The sentence is at fault.
    #[error("expression \"{text}\": {source}")]
    Text {
        /// The sentence.
        text: String,
        /// What is wrong with it.
        source: PreprocessError,
    },
    /// A file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The tokenizer has more ids than the model.
    #[error("{path}: expected a tokenizer of at most {expected} ids, found {found}", path = path.display())]
    Vocabulary {
        /// The tokenizer.
        path: PathBuf,
        /// `encoders.text.vocabulary`.
        expected: usize,
        /// Ids of the tokenizer.
        found: usize,
    },
    /// A folder of frames, or a frame of it, is at fault.
    #[error("{path}: expected {expected}, found {found}", path = path.display())]
    Frames {
        /// The folder or file.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Clips of one batch differ in length.
    #[error("{path}: expected {expected} frames and {expected_audio} audio examples as in the rest of the batch, found {found} and {found_audio}", path = path.display())]
    Length {
        /// The clip's folder or sound.
        path: PathBuf,
        /// Frames of the first clip.
        expected: usize,
        /// Audio examples of the first clip.
        expected_audio: usize,
        /// Frames of this clip.
        found: usize,
        /// Audio examples of this clip.
        found_audio: usize,
    },
}

impl SampleError {
    /// What to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Data(error) => error.hint(),
            Self::Content {
                source: PreprocessError::TruncatedAudio { .. },
                ..
            } => Some("copy the file again from its source".into()),
            Self::Text { .. } => {
                Some("give a sentence such as \"the object making the loudest sound\"".into())
            }
            Self::Frames { .. } => {
                Some("give a folder of .jpg or .png frames of one size, numbered in their order".into())
            }
            Self::Vocabulary { .. } => {
                Some("set weights.tokenizer to the text encoder's own tokenizer.json".into())
            }
            Self::Length { .. } => Some("set train.batch_size=1 for clips of different lengths".into()),
            _ => None,
        }
    }
}

/// What the encoders take of one row.
#[derive(Debug, Clone)]
pub struct Clip {
    /// Frames T.
    pub frames: usize,
    /// `[T, 3, V, V]`.
    pub vit_pixels: Vec<f32>,
    /// `[A, 96, 64]`.
    pub log_mel: LogMel,
    /// The sentence.
    pub tokens: Tokens,
}

/// Turns files' contents into the model's inputs, at the sizes of a config.
#[derive(Debug, Clone)]
pub struct Preparer {
    tokenizer: Tokenizer,
    max_tokens: usize,
    /// Side of the vision encoder's image.
    pub vit_size: usize,
    /// Side of SAM 2's image.
    pub sam2_size: usize,
}

impl Preparer {
    /// A preparer for a model; reads the tokenizer.
    ///
    /// # Errors
    /// If the tokenizer cannot be read or has more ids than the model.
    pub fn new(config: &Config) -> Result<Self, SampleError> {
        let path = &config.weights.tokenizer;
        let content = if path.as_os_str().is_empty() {
            NANO_TOKENIZER.to_vec()
        } else {
            std::fs::read(path).map_err(|source| SampleError::Io {
                path: path.clone(),
                source,
            })?
        };
        let tokenizer = Tokenizer::from_json(&content).map_err(|source| SampleError::Content {
            path: path.clone(),
            source,
        })?;
        let LoveConfig { encoders, sam2, .. } = &config.model;
        if tokenizer.vocabulary() > encoders.text.vocabulary {
            return Err(SampleError::Vocabulary {
                path: path.clone(),
                expected: encoders.text.vocabulary,
                found: tokenizer.vocabulary(),
            });
        }
        Ok(Self {
            tokenizer,
            max_tokens: encoders.text.max_tokens,
            vit_size: encoders.vision.image_size,
            sam2_size: sam2.model.image_size,
        })
    }

    /// Tokenizes a sentence, with a warning if it had to be cut.
    ///
    /// # Errors
    /// If it is empty.
    pub fn tokens(&self, text: &str) -> Result<Tokens, SampleError> {
        let tokens = self
            .tokenizer
            .encode(text, self.max_tokens)
            .map_err(|source| SampleError::Text {
                text: text.to_owned(),
                source,
            })?;
        if tokens.truncated() {
            tracing::warn!(
                "expression cut to {} of {} tokens: \"{text}\"",
                tokens.length,
                tokens.full_length
            );
        }
        Ok(tokens)
    }

    /// Log-mel examples of a WAV file's content that must last `frames` seconds, as a clip of 1 frame a second does.
    ///
    /// # Errors
    /// If it is no WAV file, truncated, or shorter than the clip by more than half a second.
    pub fn sound(&self, wav: &[u8], path: &Path, frames: usize) -> Result<LogMel, SampleError> {
        let content = |source| SampleError::Content {
            path: path.into(),
            source,
        };
        let mut waveform = Waveform::from_wav(wav).map_err(content)?;
        let seconds = frames as f64;
        if waveform.seconds() < seconds - 0.5 {
            return Err(content(PreprocessError::ShortAudio {
                expected: seconds,
                found: waveform.seconds(),
            }));
        }
        // Clips of the same length give the same number of examples.
        let samples = (seconds * f64::from(burn_love::preprocess::SAMPLE_RATE)) as usize;
        waveform.samples.resize(samples.max(MIN_SAMPLES), 0.0);
        log_mel(&waveform).map_err(content)
    }

    /// Frames at the vision encoder's size, `[T, 3, V, V]`.
    pub fn vit_pixels(&self, frames: &[RgbImage]) -> Vec<f32> {
        frames
            .iter()
            .flat_map(|frame| vit_pixels(frame, self.vit_size))
            .collect()
    }

    /// A frame at SAM 2's size, `[3, S, S]`.
    pub fn sam2_pixels(&self, frame: &RgbImage) -> Vec<f32> {
        sam2_pixels(frame, self.sam2_size)
    }

    /// Everything that the encoders take of one row whose frames are at hand.
    ///
    /// # Errors
    /// If sound or sentence cannot be used.
    pub fn clip(&self, data: &RefAvs, row: &Row, frames: &[RgbImage]) -> Result<Clip, SampleError> {
        let wav = data.audio(row)?;
        Ok(Clip {
            frames: frames.len(),
            vit_pixels: self.vit_pixels(frames),
            log_mel: self.sound(&wav, &data.audio_path(row), frames.len())?,
            tokens: self.tokens(&row.expression)?,
        })
    }

    /// A batch of clips of equal length, on a device.
    ///
    /// # Panics
    /// If the clips differ in length.
    pub fn clip_input<B: Backend>(&self, clips: &[&Clip], device: &B::Device) -> ClipInput<B> {
        let (b, v) = (clips.len(), self.vit_size);
        let (t, a) = (clips[0].frames, clips[0].log_mel.examples);
        let stack = |values: fn(&Clip) -> &[f32], shape: Vec<usize>| {
            let all: Vec<f32> = clips
                .iter()
                .flat_map(|clip| values(clip).iter().copied())
                .collect();
            TensorData::new(all, shape)
        };
        let mel = stack(
            |clip| &clip.log_mel.values,
            vec![b, a, VggishConfig::FRAMES, VggishConfig::BANDS],
        );
        let vit = stack(|clip| &clip.vit_pixels, vec![b, t, 3, v, v]);
        let tokens: Vec<&Tokens> = clips.iter().map(|clip| &clip.tokens).collect();
        ClipInput {
            log_mel: Tensor::from_data(mel, device),
            vit_pixels: Tensor::from_data(vit, device),
            tokens: self.token_batch(&tokens, device),
        }
    }

    /// Sentences on a device.
    pub fn token_batch<B: Backend>(&self, sentences: &[&Tokens], device: &B::Device) -> TokenBatch<B> {
        let (b, l) = (sentences.len(), self.max_tokens);
        let ids: Vec<i32> = sentences
            .iter()
            .flat_map(|tokens| tokens.ids.iter().map(|id| *id as i32))
            .collect();
        let padding: Vec<bool> = sentences
            .iter()
            .flat_map(|tokens| (0..l).map(|i| i >= tokens.length))
            .collect();
        TokenBatch {
            input_ids: Tensor::from_data(TensorData::new(ids, [b, l]), device),
            padding: Tensor::from_data(TensorData::new(padding, [b, l]), device),
        }
    }
}

/// Samples of one log-mel example.
const MIN_SAMPLES: usize = 15_600;
