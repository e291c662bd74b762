//! Safetensors files: named tensors and a note about what they are.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write,
    path::Path,
};

use burn::{
    prelude::*,
    tensor::{DType, f16},
};
use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo as Entry},
};

use super::{
    TensorInfo, TensorSource, WeightsError,
    blob::{Blob, io_error, write_atomically},
    source::floats,
};

/// Name of the one metadata entry; a single one keeps files reproducible byte for byte.
const CONFIG: &str = "config";

/// Bytes of the number in front that says how long the header is.
const PREFIX: u64 = 8;

/// Longest header, as in the safetensors library.
const LONGEST_HEADER: u64 = 100_000_000;

/// A safetensors file of which the header was read.
pub(super) struct SafetensorsFile {
    blob: Blob,
    entries: BTreeMap<String, Entry>,
    config: Option<String>,
    /// Where the tensors begin.
    data: u64,
}

impl SafetensorsFile {
    /// Whether a file may be in this format, going by its first bytes: a length and an opening brace.
    pub fn recognises(start: &[u8]) -> bool {
        start.get(PREFIX as usize) == Some(&b'{')
    }

    /// Reads the header.
    pub fn new(blob: Blob) -> Result<Self, WeightsError> {
        let damaged = |found: String| WeightsError::Damaged {
            path: blob.path().into(),
            found,
        };
        let prefix = blob.read(0, PREFIX)?[..].try_into().expect("eight bytes");
        let length = u64::from_le_bytes(prefix);
        let rest = blob.length() - PREFIX;
        if length > rest.min(LONGEST_HEADER) {
            return Err(damaged(format!(
                "a header of {length} bytes in a file of {}",
                blob.length()
            )));
        }
        let header: Metadata = serde_json::from_slice(&blob.read(PREFIX, length)?)
            .map_err(|error| damaged(format!("a header that cannot be read ({error})")))?;
        let (expected, found) = (header.data_len() as u64, rest - length);
        if expected != found {
            return Err(damaged(format!(
                "{found} bytes of tensors where the header tells of {expected}"
            )));
        }
        let entries = header.tensors().into_iter();
        let config = header
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get(CONFIG));
        Ok(Self {
            data: PREFIX + length,
            blob,
            entries: entries.map(|(key, entry)| (key, entry.clone())).collect(),
            config: config.cloned(),
        })
    }

    /// Name of the file.
    pub fn path(&self) -> &Path {
        self.blob.path()
    }

    /// The resolved config that the tensors belong to, as TOML; files of others have none.
    pub fn config(&self) -> Option<&str> {
        self.config.as_deref()
    }
}

impl TensorSource for SafetensorsFile {
    fn keys(&self) -> Vec<&str> {
        self.entries.keys().map(String::as_str).collect()
    }

    fn info(&self, key: &str) -> Option<TensorInfo> {
        self.entries.get(key).map(|entry| TensorInfo {
            shape: entry.shape.clone(),
            dtype: entry.dtype,
        })
    }

    fn read(&self, key: &str) -> Result<TensorData, WeightsError> {
        let entry = &self.entries[key];
        let (start, end) = entry.data_offsets;
        let bytes = self.blob.read(self.data + start as u64, (end - start) as u64)?;
        let values = floats(self.blob.path(), key, entry.dtype, &bytes)?;
        Ok(TensorData::new(values, entry.shape.clone()))
    }
}

/// Writes tensors as f32, or i64 if the source says so, with the config they belong to, one tensor in memory at a time.
///
/// The same content gives the same bytes. The file is written aside and renamed: it is complete on disk when this
/// returns, or what was there before is untouched.
///
/// # Errors
/// If a tensor cannot be read or the file cannot be written.
pub fn write_safetensors(
    path: &Path,
    source: &dyn TensorSource,
    config: Option<&str>,
) -> Result<(), WeightsError> {
    write(path, source, config, Dtype::F32)
}

/// As [`write_safetensors`], with floats rounded to f16: half the size. Readers here make f32 of them again.
///
/// # Errors
/// If a tensor cannot be read or has a value beyond the range of f16, or the file cannot be written.
pub fn write_safetensors_f16(
    path: &Path,
    source: &dyn TensorSource,
    config: Option<&str>,
) -> Result<(), WeightsError> {
    write(path, source, config, Dtype::F16)
}

/// Writes floats as `floats`, f32 or f16.
fn write(
    path: &Path,
    source: &dyn TensorSource,
    config: Option<&str>,
    floats: Dtype,
) -> Result<(), WeightsError> {
    let keys = source.keys();
    let mut end = 0;
    let entries = keys.iter().map(|key| {
        let info = source.info(key).expect("a key of the source");
        let start = end;
        let (dtype, size) = match info.dtype {
            Dtype::I64 => (Dtype::I64, size_of::<i64>()),
            _ => (floats, floats.bitsize() / 8),
        };
        end += info.elements() * size;
        let entry = Entry {
            dtype,
            shape: info.shape,
            data_offsets: (start, end),
        };
        ((*key).to_owned(), entry)
    });
    let entries = entries.collect();
    let metadata = config.map(|config| HashMap::from([(CONFIG.to_owned(), config.to_owned())]));
    let header = Metadata::new(metadata, entries).expect("offsets that follow each other");
    let mut header = serde_json::to_vec(&header).expect("plain values");
    // Tensors begin where any element is aligned.
    header.resize(header.len().next_multiple_of(PREFIX as usize), b' ');
    write_atomically(path, |target| {
        let fail = io_error(path);
        let length = (header.len() as u64).to_le_bytes();
        target.write_all(&length).map_err(&fail)?;
        target.write_all(&header).map_err(&fail)?;
        for key in keys {
            let mut data = source.read(key)?;
            if floats == Dtype::F16 && data.dtype == DType::F32 {
                let values = data.iter::<f32>();
                if let Some(value) = values.into_iter().find(|value| value.abs() > f16::MAX.to_f32()) {
                    return Err(WeightsError::TooLarge {
                        path: path.into(),
                        key: key.into(),
                        value,
                    });
                }
                data = data.convert::<f16>();
            }
            target.write_all(data.as_bytes()).map_err(&fail)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{State, WeightsFile};

    #[test]
    fn halves_come_back_rounded_and_what_they_cannot_hold_is_refused() {
        let path = std::env::temp_dir().join(format!("burn-love-f16-{}.safetensors", std::process::id()));
        let values = vec![1.0f32, -0.1, 65504.0, 1e-9];
        let ids = TensorData::from([7i64]);
        let mut state = State::from([
            ("ids".to_owned(), ids.clone()),
            ("w".to_owned(), TensorData::new(values.clone(), [2, 2])),
        ]);
        write_safetensors_f16(&path, &state, Some("x = 1")).unwrap();
        let file = WeightsFile::open(&path).unwrap();
        assert_eq!(file.config(), Some("x = 1"));
        let info = file.info("w").unwrap();
        assert_eq!((info.dtype, info.shape), (Dtype::F16, vec![2, 2]));
        assert_eq!(file.info("ids").unwrap().dtype, Dtype::I64);
        let rounded: Vec<f32> = values
            .iter()
            .map(|value| f16::from_f32(*value).to_f32())
            .collect();
        assert_eq!(file.read("w").unwrap(), TensorData::new(rounded, [2, 2]));

        let before = std::fs::read(&path).unwrap();
        state.insert("w".to_owned(), TensorData::from([1e5f32]));
        let message = write_safetensors_f16(&path, &state, None)
            .unwrap_err()
            .to_string();
        assert!(message.contains("found 100000 in `w`"), "{message}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        std::fs::remove_file(&path).ok();
    }
}
