//! What to evaluate and how, and what can go wrong.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    data::{DataError, Split},
    features::FeatureCache,
    samples::SampleError,
};

/// How predictions become scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Ref-AVS's own: batches of `eval.batch_size` expressions, at 256².
    #[default]
    Official,
    /// The same code with batches of one, at native resolution.
    PerExpression,
}

/// One of the three inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Modality {
    /// The sound.
    Audio,
    /// The expression.
    Text,
    /// The frames, as the vision encoder sees them; SAM 2 keeps its own.
    Vision,
}

/// A name that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {known}, found \"{found}\"")]
pub struct UnknownName {
    /// The name as given.
    pub found: String,
    /// Names that exist.
    pub known: String,
}

/// What to evaluate.
#[derive(Debug, Clone)]
pub struct EvalOptions {
    /// Splits, in the order of the report.
    pub splits: Vec<Split>,
    /// How predictions become scores.
    pub protocol: Protocol,
    /// A modality to take away. Audio becomes background noise, the text "the object", and the vision encoder's
    /// features zero.
    pub drop: Option<Modality>,
    /// Replaces each clip's sound by that of the next clip of its split, unless the sound is dropped.
    pub swap_audio: bool,
    /// A folder for the probabilities and presence of each row, as `{uid}.safetensors`.
    pub dump: Option<PathBuf>,
    /// Threads that predict clips at the same time, with the same weights. More than one pays on a CPU, where a small
    /// model's operations keep one core busy; results do not depend on it.
    pub workers: usize,
    /// Where features are kept, and first frames' maps.
    pub features: Option<Arc<FeatureCache>>,
}

impl Default for EvalOptions {
    /// The three test splits by the official protocol, with everything.
    fn default() -> Self {
        Self {
            splits: vec![Split::TestS, Split::TestU, Split::TestN],
            protocol: Protocol::Official,
            drop: None,
            swap_audio: false,
            dump: None,
            workers: 1,
            features: None,
        }
    }
}

/// Why an evaluation ended.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A row or one of its files cannot be used.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// No other clip is there whose sound could be taken.
    #[error("split {split}: expected a second clip to take the sound from, found one")]
    OneClip {
        /// The split.
        split: Split,
    },
    /// A result cannot be written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
}

impl EvalError {
    /// What to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Sample(error) => error.hint(),
            Self::OneClip { split } => Some(format!("leave {split} out of --splits, or --swap")),
            Self::Io { .. } => None,
        }
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

impl From<DataError> for EvalError {
    fn from(error: DataError) -> Self {
        Self::Sample(error.into())
    }
}

impl Protocol {
    const ALL: [Self; 2] = [Self::Official, Self::PerExpression];

    /// The name on the command line and in `metrics.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Official => "official",
            Self::PerExpression => "per-expression",
        }
    }
}

impl Modality {
    const ALL: [Self; 3] = [Self::Audio, Self::Text, Self::Vision];

    /// The name on the command line and in `metrics.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Text => "text",
            Self::Vision => "vision",
        }
    }
}

macro_rules! named {
    ($kind:ty) => {
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $kind {
            type Err = UnknownName;

            fn from_str(name: &str) -> Result<Self, UnknownName> {
                Self::ALL
                    .into_iter()
                    .find(|known| known.name() == name)
                    .ok_or_else(|| UnknownName {
                        found: name.into(),
                        known: Self::ALL.map(Self::name).join(", "),
                    })
            }
        }
    };
}

named!(Protocol);
named!(Modality);
