//! From the contents of files to what the models take: frames, sound and sentences.
//!
//! Nothing here opens a file or touches a device; callers add the path to an error.

mod audio;
mod decode;
mod image;
mod log_mel;
mod resample;
mod text;
mod wav;

pub use self::image::{
    Normalization, clip_pixels, normalised_pixels, sam2_image_pixels, sam2_pixels, vision_pixels, vit_pixels,
};
pub use audio::{SAMPLE_RATE, Waveform};
pub use decode::{decode_image, is_whole_jpeg};
pub use log_mel::{LogMel, log_mel, log_mel_rows};
pub use resample::Resampling;
pub use text::{Tokenizer, Tokens};

/// What is wrong with the content of a file.
#[derive(Debug, thiserror::Error)]
pub enum PreprocessError {
    /// The system refused to read on.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// Not a WAV file, or of a kind that is not read.
    #[error("expected a WAV file (PCM of 8 to 32 bits, or 32-bit float), found {0}")]
    NotWav(String),
    /// The sound ends before its header says so.
    #[error(
        "expected {expected} samples per channel as the header says, found {found}: the file is truncated"
    )]
    TruncatedAudio {
        /// Samples per channel announced.
        expected: usize,
        /// Samples per channel there.
        found: usize,
    },
    /// There is no sound in the file, or too little for one example.
    #[error("expected at least {expected:.2} s of sound, found {found:.2} s")]
    ShortAudio {
        /// Seconds needed.
        expected: f64,
        /// Seconds there.
        found: f64,
    },
    /// The sound has a rate that no recording has.
    #[error("expected a sound of {lowest} to {highest} samples per second, found {found}")]
    SampleRate {
        /// Lowest rate that is resampled, in Hz.
        lowest: u32,
        /// Highest rate that is resampled, in Hz.
        highest: u32,
        /// Rate of the file, in Hz.
        found: u32,
    },
    /// A sample that is not a number, or beyond ±2³².
    #[error("expected finite samples (floats: within ±2³²), found {value} at sample {index}")]
    NotFinite {
        /// Position of the first such sample.
        index: usize,
        /// The sample.
        value: f32,
    },
    /// The resampler refused the rates.
    #[error("cannot resample from {from} Hz to {to} Hz: {reason}")]
    Resample {
        /// Rate of the file.
        from: u32,
        /// Rate wanted.
        to: u32,
        /// The resampler's words.
        reason: String,
    },
    /// The picture cannot be decoded.
    #[error("expected a picture (PNG, JPEG or GIF), found: {0}")]
    NotImage(String),
    /// The tokenizer file cannot be used.
    #[error("expected a tokenizer.json of the `tokenizers` library, found: {0}")]
    Tokenizer(String),
    /// The tokenizer has more ids than the text encoder, or so few that it belongs to another.
    #[error("expected a tokenizer of {} ids, found {found}", if found > most {
        format!("at most {most}")
    } else {
        format!("at least {least}")
    })]
    Vocabulary {
        /// Fewest ids that fit.
        least: usize,
        /// Ids of the text encoder.
        most: usize,
        /// Ids of the tokenizer.
        found: usize,
    },
    /// A special token is missing, or has another id than the text encoder learned.
    #[error("expected the token `{token}` with the id {expected}, found {}", match found {
        Some(id) => format!("the id {id}"),
        None => "none".into(),
    })]
    SpecialToken {
        /// The token.
        token: &'static str,
        /// Its id in the text encoder.
        expected: usize,
        /// Its id in the tokenizer.
        found: Option<u32>,
    },
    /// There are no words.
    #[error("expected an expression, found an empty text")]
    EmptyText,
}

impl PreprocessError {
    /// What to try.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable(_) | Self::TruncatedAudio { .. } => "copy the file again from its source",
            Self::NotWav(_) | Self::SampleRate { .. } | Self::NotFinite { .. } | Self::Resample { .. } => {
                "write the sound anew, such as with `ffmpeg -i SOUND -ar 16000 -ac 1 -c:a pcm_s16le sound.wav`"
            }
            Self::ShortAudio { .. } => "give a recording of at least a second, as long as its frames last",
            Self::NotImage(_) => {
                "copy the file again from its source, or save the picture anew as PNG or JPEG"
            }
            Self::Tokenizer(_) | Self::Vocabulary { .. } | Self::SpecialToken { .. } => {
                "give the tokenizer.json that is published with the text encoder"
            }
            Self::EmptyText => "give a sentence such as \"the object making the loudest sound\"",
        }
    }
}
