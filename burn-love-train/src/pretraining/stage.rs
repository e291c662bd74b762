//! Names of the stages, and their configs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::Source;

/// A stage of pre-training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The audio encoder.
    Audio,
    /// The vision encoder.
    Vision,
    /// The text encoder.
    Text,
    /// SAM 2.
    Sam2,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 4] = [Self::Audio, Self::Vision, Self::Text, Self::Sam2];

    /// Its name on the command line, and that of the key in `[weights]` which takes what it makes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Vision => "vision",
            Self::Text => "text",
            Self::Sam2 => "sam2",
        }
    }

    /// What it changes of the nano preset.
    pub fn preset(self) -> Source {
        let toml = match self {
            Self::Audio => include_str!("../../../assets/pretrain/audio.toml"),
            Self::Vision => include_str!("../../../assets/pretrain/vision.toml"),
            Self::Text => include_str!("../../../assets/pretrain/text.toml"),
            Self::Sam2 => include_str!("../../../assets/pretrain/sam2.toml"),
        };
        Source::Embedded {
            path: format!("pretrain {self}").into(),
            toml: toml.into(),
        }
    }

    /// Name of the file of weights that it makes, in the run's directory.
    pub fn file_name(self) -> String {
        format!("{self}.safetensors")
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_configs_are_valid() {
        for stage in Stage::ALL {
            let config = crate::config::resolve(&[stage.preset()]).unwrap();
            assert!(config.train.steps > 0);
            assert!(matches!(stage.preset(), Source::Embedded { .. }));
        }
    }
}
