//! What can be wrong with a weights file.

use std::path::PathBuf;

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
    /// The file is not in the format.
    #[error("{path}: expected a safetensors file, found: {found}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// A tensor has another shape than the model's.
    #[error("{path}: expected `{key}` of shape {expected:?}, found {found:?}: weights of another config", path = path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Name of the first such tensor.
        key: String,
        /// Shape in the model.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// Tensors that the model needs are not there, or the other way round.
    #[error("{path}: expected the model's {expected} tensors, found {}", describe(missing, unused), path = path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// Tensors of the model.
        expected: usize,
        /// Tensors that the file lacks.
        missing: Vec<String>,
        /// Tensors that the model lacks.
        unused: Vec<String>,
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
