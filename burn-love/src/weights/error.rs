//! What can be wrong with a weights file.

use std::path::PathBuf;

use safetensors::Dtype;

/// Names at most listed in a message.
const LISTED: usize = 3;

/// An error about a weights file; each names the file, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The file is cut short, or bytes of it are not what they were.
    #[error("{path}: expected an undamaged file, found {found}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// The file is of another kind.
    #[error("{path}: expected {expected}, found {found}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A tensor has another shape than the model's.
    #[error(
        "{path}: expected `{key}` of shape {expected:?}, found {found:?}: weights of another config{fit}",
        path = path.display(), fit = list(fits, "; they fit ")
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// Name of the first such tensor.
        key: String,
        /// Shape in the model.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
        /// Presets that the file fits, where they were looked for.
        fits: Vec<&'static str>,
    },
    /// A tensor of the model is not of floats.
    #[error("{path}: expected floats in `{key}`, found {found}", path = path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// Name of the first such tensor.
        key: String,
        /// What it holds.
        found: Dtype,
    },
    /// Tensors that the model needs are not there, or the other way round.
    #[error(
        "{path}: expected the model's {expected} tensors, found {}{fit}", describe(missing, unused),
        path = path.display(), fit = list(fits, "; the file fits ")
    )]
    Keys {
        /// The file.
        path: PathBuf,
        /// Tensors of the model.
        expected: usize,
        /// Tensors that the file lacks.
        missing: Vec<String>,
        /// Tensors that the model lacks.
        unused: Vec<String>,
        /// Presets that the file fits, where they were looked for.
        fits: Vec<&'static str>,
    },
    /// A value that is not a number.
    #[error("{path}: expected finite values, found {value} in `{key}`", path = path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// Name of the first such tensor.
        key: String,
        /// The value.
        value: f32,
    },
    /// A value that f16 cannot hold.
    #[error("{path}: expected values within the range of f16, found {value} in `{key}`", path = path.display())]
    TooLarge {
        /// The file that was to be written.
        path: PathBuf,
        /// Name of the first such tensor.
        key: String,
        /// The value.
        value: f32,
    },
}

impl WeightsError {
    /// What to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Damaged { .. } => Some("copy or download the file again".into()),
            Self::Format { .. } => {
                Some("what can be read: safetensors files, and state dicts saved by PyTorch".into())
            }
            Self::Shape { fits, .. } | Self::Keys { fits, .. } if !fits.is_empty() => Some(format!(
                "choose the model that the file is of: {}",
                fits.join(" or ")
            )),
            Self::Shape { .. } | Self::Keys { .. } => {
                Some("give the config that the weights were trained with (--config)".into())
            }
            Self::Type { .. } => Some("save the weights as f32, f16 or bf16".into()),
            Self::NotFinite { .. } => {
                Some("take an earlier checkpoint: these weights are of a run that diverged".into())
            }
            Self::TooLarge { .. } => Some("write f32".into()),
            Self::Io { .. } => None,
        }
    }

    /// Adds the presets that the file fits to an error about names or shapes.
    pub(super) fn with_fits(mut self, presets: impl FnOnce() -> Vec<&'static str>) -> Self {
        if let Self::Shape { fits, .. } | Self::Keys { fits, .. } = &mut self {
            *fits = presets();
        }
        self
    }
}

/// `before` and the names; nothing where there are none.
fn list(names: &[&str], before: &str) -> String {
    if names.is_empty() {
        return String::new();
    }
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("{before}{}", quoted.join(" or "))
}

fn describe(missing: &[String], unused: &[String]) -> String {
    let list = |keys: &[String], what: &str| {
        let names = keys
            .iter()
            .take(LISTED)
            .map(|key| format!("`{key}`"))
            .collect::<Vec<_>>()
            .join(", ");
        let more = if keys.len() > LISTED { ", …" } else { "" };
        (!keys.is_empty()).then(|| format!("{} {what} ({names}{more})", keys.len()))
    };
    [list(missing, "missing"), list(unused, "unused")]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" and ")
}
