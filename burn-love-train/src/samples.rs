//! From rows of a data set to what the model takes, still on the host.

use std::{
    io::{Read, Seek},
    path::{Path, PathBuf},
};

use burn::prelude::*;
use burn_love::{
    encoders::{TextConfig, TextKind, TokenBatch, VggishConfig, VisionConfig},
    love::{ClipInput, LoveConfig},
    preprocess::{
        LogMel, PreprocessError, Tokenizer, Tokens, Waveform, log_mel_rows, sam2_pixels, vision_pixels,
    },
};
use image::RgbImage;

use crate::{
    config::Config,
    data::{DataError, RefAvs, Row, SoundFile},
};

/// The embedded tokenizer of the nano sizes: a byte-level BPE on the synthetic scenes' expressions. That of CLIP has the
/// same pieces, and CLIP's special tokens.
pub fn nano_tokenizer(kind: TextKind) -> &'static [u8] {
    match kind {
        TextKind::Roberta => include_bytes!("../../assets/nano-tokenizer.json"),
        TextKind::Clip => include_bytes!("../../assets/nano-clip-tokenizer.json"),
    }
}

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
    /// No tokenizer for a text encoder whose ids are not the embedded one's.
    #[error(
        "weights.tokenizer: expected a tokenizer.json for a text encoder of {vocabulary} ids, found none"
    )]
    NoTokenizer {
        /// `encoders.text.vocabulary`.
        vocabulary: usize,
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
    #[error("{path}: expected a clip of {expected} frames as the rest of the batch, found {found}", path = path.display())]
    Length {
        /// The clip's folder.
        path: PathBuf,
        /// Frames of the first clip.
        expected: usize,
        /// Frames of this clip.
        found: usize,
    },
}

impl SampleError {
    /// What to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Data(error) => error.hint(),
            Self::Content { source, .. } | Self::Text { source, .. } => Some(source.hint().into()),
            Self::Frames { .. } => {
                Some("give a folder of .jpg or .png frames of one size, numbered in their order".into())
            }
            Self::NoTokenizer { .. } => {
                Some("set weights.tokenizer to the text encoder's own tokenizer.json".into())
            }
            Self::Length { .. } => Some("set train.batch_size=1 for clips of different lengths".into()),
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Some("check the path".into())
            }
            Self::Io { .. } => None,
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
    vision: VisionConfig,
    /// Side of SAM 2's image.
    pub sam2_size: usize,
}

impl Preparer {
    /// A preparer for a model; reads the tokenizer.
    ///
    /// # Errors
    /// If the tokenizer cannot be read, is not the text encoder's, or is missing where the embedded one does not fit.
    pub fn new(config: &Config) -> Result<Self, SampleError> {
        let path = &config.weights.tokenizer;
        let embedded = path.as_os_str().is_empty();
        if embedded && config.model.encoders.text.vocabulary > TextConfig::nano().vocabulary {
            return Err(SampleError::NoTokenizer {
                vocabulary: config.model.encoders.text.vocabulary,
            });
        }
        let content = if embedded {
            nano_tokenizer(config.model.encoders.text.kind).to_vec()
        } else {
            std::fs::read(path).map_err(|source| SampleError::Io {
                path: path.clone(),
                source,
            })?
        };
        let LoveConfig { encoders, sam2, .. } = &config.model;
        let tokenizer = Tokenizer::from_json(&content)
            .and_then(|tokenizer| tokenizer.check_fit(&encoders.text).map(|()| tokenizer))
            .map_err(|source| SampleError::Content {
                path: if embedded {
                    "the embedded tokenizer".into()
                } else {
                    path.clone()
                },
                source,
            })?;
        Ok(Self {
            tokenizer,
            max_tokens: encoders.text.max_tokens,
            vision: encoders.vision.clone(),
            sam2_size: sam2.model.image_size,
        })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
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

    /// As many log-mel examples of a WAV file's content as the clip has frames at 1 frame a second. The sound is cut, or
    /// continued with silence, to their length: see [`log_mel_rows`]. No more of it is decoded.
    ///
    /// # Errors
    /// If it is no WAV file, truncated, or shorter than `frames` seconds by more than half a second.
    pub fn sound(&self, wav: &[u8], path: &Path, frames: usize) -> Result<LogMel, SampleError> {
        Ok(log_mel_rows(
            waveform(std::io::Cursor::new(wav), path, frames)?,
            frames,
        ))
    }

    /// As [`sound`](Self::sound), from a file of which only the clip's seconds are read.
    ///
    /// # Errors
    /// As [`sound`](Self::sound), or if there is no such file.
    pub fn sound_file(&self, path: &Path, frames: usize) -> Result<LogMel, SampleError> {
        Ok(log_mel_rows(self.waveform_file(path, frames)?, frames))
    }

    /// The seconds of a clip of so many frames, from a WAV file.
    ///
    /// # Errors
    /// As [`sound_file`](Self::sound_file).
    pub fn waveform_file(&self, path: &Path, frames: usize) -> Result<Waveform, SampleError> {
        let file = SoundFile::open(path).map_err(|source| SampleError::Io {
            path: path.into(),
            source,
        })?;
        waveform(file, path, frames)
    }

    /// Side of the vision encoder's image.
    pub fn vit_size(&self) -> usize {
        self.vision.image_size
    }

    /// Patches of a frame as the vision encoder sees it.
    pub fn patches(&self) -> usize {
        (self.vision.image_size / self.vision.patch_size).pow(2)
    }

    /// Frames as the vision encoder takes them, `[T, 3, V, V]`.
    pub fn vit_pixels(&self, frames: &[RgbImage]) -> Vec<f32> {
        frames
            .iter()
            .flat_map(|frame| vision_pixels(frame, &self.vision))
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
        Ok(Clip {
            frames: frames.len(),
            vit_pixels: self.vit_pixels(frames),
            log_mel: self.sound_file(&data.audio_path(row), frames.len())?,
            tokens: self.tokens(&row.expression)?,
        })
    }

    /// A batch of clips of equal length, on a device.
    ///
    /// # Panics
    /// If the clips differ in length.
    pub fn clip_input<B: Backend>(&self, clips: &[&Clip], device: &B::Device) -> ClipInput<B> {
        let (b, v) = (clips.len(), self.vit_size());
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
            tokens: token_batch(&tokens, device),
        }
    }
}

/// Sentences on a device, all padded to one length.
pub fn token_batch<B: Backend>(sentences: &[&Tokens], device: &B::Device) -> TokenBatch<B> {
    let (b, l) = (sentences.len(), sentences[0].ids.len());
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

/// Seconds that a sound may end before its clip does.
const SHORT_BY: f64 = 0.5;

/// The seconds of a clip of so many frames, of a WAV file at `path`.
fn waveform(file: impl Read + Seek, path: &Path, frames: usize) -> Result<Waveform, SampleError> {
    let content = |source| SampleError::Content {
        path: path.into(),
        source,
    };
    let seconds = frames as f64;
    let waveform = Waveform::read_wav_start(file, seconds).map_err(content)?;
    if waveform.seconds() < seconds - SHORT_BY {
        return Err(content(PreprocessError::ShortAudio {
            expected: seconds,
            found: waveform.seconds(),
        }));
    }
    Ok(waveform)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, resolve};

    /// The rule of `log_mel`'s docs and of the book.
    #[test]
    fn a_clip_has_a_row_of_sound_per_frame() {
        let config = resolve(&[Source::Preset("nano".into())]).unwrap();
        let preparer = Preparer::new(&config).unwrap();
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let wav = |seconds: f64| {
            let mut content = std::io::Cursor::new(Vec::new());
            let mut writer = hound::WavWriter::new(&mut content, spec).unwrap();
            for i in 0..(seconds * 16_000.0).round() as i32 {
                writer
                    .write_sample((i64::from(i) * i64::from(i) % 7919) as i16)
                    .unwrap();
            }
            writer.finalize().unwrap();
            content.into_inner()
        };
        let path = Path::new("clip/audio.wav");
        let sound = |seconds, frames| preparer.sound(&wav(seconds), path, frames);
        let ten = sound(10.0, 10).unwrap();
        for (seconds, frames) in [
            (9.5, 10),
            (9.6, 10),
            (10.3, 10),
            (60.0, 10),
            (60.0, 20),
            (60.0, 60),
        ] {
            let mel = sound(seconds, frames).unwrap();
            assert_eq!(mel.examples, frames, "{seconds} s for {frames} frames");
            if frames == 10 && seconds > 10.0 {
                assert_eq!(mel, ten, "{seconds} s");
            }
        }
        for (seconds, frames) in [(0.01, 1), (9.4, 10), (10.3, 20), (10.3, 60)] {
            let error = sound(seconds, frames).unwrap_err();
            let told =
                format!("clip/audio.wav: expected at least {frames}.00 s of sound, found {seconds:.2} s");
            assert_eq!(error.to_string(), told);
        }
    }
}
