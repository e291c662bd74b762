//! A weights file of any format.

use std::{fmt, path::Path};

use burn::prelude::*;

use super::{
    TensorInfo, TensorSource, WeightsError, blob::Blob, safetensors_file::SafetensorsFile,
    torch_file::TorchFile,
};

/// First bytes that tell formats apart.
const START: u64 = 16;

/// How a file stores tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A header in JSON, then the values.
    Safetensors,
    /// `torch.save`: a pickle and the storages, in a zip archive or, before PyTorch 1.6, one behind the other.
    Torch,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::Torch => "PyTorch",
        })
    }
}

/// A weights file of which names and shapes were read; values are read when they are needed.
///
/// ```
/// use std::{collections::BTreeMap, path::Path};
///
/// use burn::tensor::TensorData;
/// use burn_love::weights::{State, TensorSource, WeightsFile, write_safetensors};
///
/// let path = std::env::temp_dir().join("burn-love-doctest.safetensors");
/// let state = State::from([("w".to_owned(), TensorData::from([[1f32, 2.0]]))]);
/// write_safetensors(&path, &state, None)?;
///
/// let file = WeightsFile::open(&path)?;
/// assert_eq!(file.shapes(), BTreeMap::from([("w".to_owned(), vec![1, 2])]));
/// assert_eq!(file.read("w")?, state["w"]);
/// # std::fs::remove_file(&path).ok();
/// # Ok::<(), burn_love::weights::WeightsError>(())
/// ```
pub struct WeightsFile {
    content: Content,
}

enum Content {
    Safetensors(SafetensorsFile),
    Torch(TorchFile),
}

impl WeightsFile {
    /// Opens a file; its content says which format it has, not its name.
    ///
    /// # Errors
    /// If it cannot be read, is truncated or of another format.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        Self::parse(Blob::open(path)?)
    }

    /// The same for bytes in memory, called `path` in messages.
    ///
    /// # Errors
    /// If they are truncated or of another format.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, WeightsError> {
        Self::parse(Blob::from_bytes(path, bytes))
    }

    fn parse(blob: Blob) -> Result<Self, WeightsError> {
        let start = blob.read(0, START.min(blob.length()))?.to_vec();
        if TorchFile::recognises(&start) {
            let content = Content::Torch(TorchFile::new(blob)?);
            return Ok(Self { content });
        }
        if SafetensorsFile::recognises(&start) {
            let content = Content::Safetensors(SafetensorsFile::new(blob)?);
            return Ok(Self { content });
        }
        let found = if start.is_empty() {
            "an empty file"
        } else if start[0] == 0x80 {
            "a bare pickle"
        } else {
            "neither"
        };
        Err(WeightsError::Format {
            path: blob.path().into(),
            expected: "a safetensors file or a state dict saved by PyTorch",
            found: found.into(),
        })
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        match &self.content {
            Content::Safetensors(file) => file.path(),
            Content::Torch(file) => file.path(),
        }
    }

    /// The file's format.
    pub fn format(&self) -> Format {
        match self.content {
            Content::Safetensors(_) => Format::Safetensors,
            Content::Torch(_) => Format::Torch,
        }
    }

    /// The resolved config that the weights belong to, as TOML; files of others have none.
    pub fn config(&self) -> Option<&str> {
        match &self.content {
            Content::Safetensors(file) => file.config(),
            Content::Torch(_) => None,
        }
    }

    fn source(&self) -> &dyn TensorSource {
        match &self.content {
            Content::Safetensors(file) => file,
            Content::Torch(file) => file,
        }
    }
}

impl TensorSource for WeightsFile {
    fn keys(&self) -> Vec<&str> {
        self.source().keys()
    }

    fn info(&self, key: &str) -> Option<TensorInfo> {
        self.source().info(key)
    }

    fn read(&self, key: &str) -> Result<TensorData, WeightsError> {
        self.source().read(key)
    }
}
