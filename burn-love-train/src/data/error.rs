//! What can be wrong with a data set: the file, what was expected of it, and what was found.

use std::path::{Path, PathBuf};

use burn_love::preprocess::PreprocessError;
use thiserror::Error;

use super::split::UnknownSplit;

/// A problem with a data set or one of its files.
#[derive(Debug, Error)]
pub enum DataError {
    /// A file or directory that the layout requires is not there.
    #[error("{}: expected {expected}, found nothing", path.display())]
    Missing {
        /// The path that was looked for.
        path: PathBuf,
        /// What should be there.
        expected: String,
    },
    /// `metadata.csv` lacks columns.
    #[error("{}: expected the columns {expected}, found {found}", path.display())]
    Columns {
        /// The table.
        path: PathBuf,
        /// All columns that are needed.
        expected: String,
        /// The header that was read.
        found: String,
    },
    /// A line of `metadata.csv` cannot be used.
    #[error("{}, line {line}: expected {expected}, found {found}", path.display())]
    Row {
        /// The table.
        path: PathBuf,
        /// Line of the file, the header being line 1.
        line: u64,
        /// What the field should hold.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// A line of `metadata.csv` names a split that does not exist.
    #[error("{}, line {line}: {source}", path.display())]
    RowSplit {
        /// The table.
        path: PathBuf,
        /// Line of the file, the header being line 1.
        line: u64,
        /// The name and its nearest neighbour.
        source: UnknownSplit,
    },
    /// A media or mask file that is there does not hold what it should.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// A sound that cannot be used.
    #[error("{}: {source}", path.display())]
    Sound {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PreprocessError,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl DataError {
    /// The file or directory that the error is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Missing { path, .. }
            | Self::Columns { path, .. }
            | Self::Row { path, .. }
            | Self::RowSplit { path, .. }
            | Self::Content { path, .. }
            | Self::Sound { path, .. }
            | Self::Io { path, .. } => path,
        }
    }

    /// What a person can do about it, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { path, .. } if path.extension().is_none() => Some(
                "point --data at a directory in Ref-AVS's layout; `burn-love-cli data synth --out DIR` makes one"
                    .into(),
            ),
            Self::Missing { .. } => {
                Some("the copy of the data set is incomplete: copy it again, or leave the row out of metadata.csv".into())
            }
            Self::Columns { .. } => Some("the first line must name vid,uid,split,fid,exp".into()),
            Self::Row { .. } => Some("correct the line, or mark its split TODO to leave it out".into()),
            Self::RowSplit { source, .. } => Some(source.hint()),
            Self::Content { .. } | Self::Sound { .. } => {
                Some("restore the file from its source, or leave its row out of metadata.csv (train --skip-bad-samples does)".into())
            }
            Self::Io { .. } => None,
        }
    }

    /// Reads an I/O error as [`DataError::Missing`] where the file is not there.
    pub(crate) fn from_io(path: &Path, expected: &str, source: std::io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            std::io::ErrorKind::NotFound => Self::Missing {
                path,
                expected: expected.into(),
            },
            _ => Self::Io { path, source },
        }
    }

    /// A file whose content is not as it should be.
    pub(crate) fn content(path: &Path, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Content {
            path: path.to_path_buf(),
            expected: expected.into(),
            found: found.into(),
        }
    }
}
