//! What can go wrong in making or reading synthetic scenes.

use std::path::PathBuf;

use thiserror::Error;

use crate::data::{DataError, Split};

/// A problem with LAVS-Synth.
#[derive(Debug, Error)]
pub enum SynthError {
    /// A setting is out of range.
    #[error("synth.{name}: expected {expected}, found {found}")]
    Config {
        /// The setting.
        name: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// No scene was found that meets a clip's plan.
    #[error("{split} clip {clip}: expected a scene for {expected}, found none")]
    Unsatisfiable {
        /// The split.
        split: Split,
        /// Index of the clip in the split.
        clip: usize,
        /// What the clip was to say.
        expected: String,
    },
    /// A file could not be written or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An image, a sound, a table or a scene graph could not be encoded or decoded.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: String,
        /// What is wrong.
        found: String,
    },
    /// The data set that the scene graphs belong to could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
}

impl SynthError {
    /// What a person can do about it, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config { .. } => None,
            Self::Unsatisfiable { .. } => Some("another --seed gives other scenes".into()),
            Self::Io { .. } => None,
            Self::Content { .. } => Some("make the data again with `burn-love-cli data synth`".into()),
            Self::Data(error) => error.hint(),
        }
    }
}
