//! The tensors of a file under other names.

use std::{collections::BTreeMap, ops::Range};

use burn::prelude::*;

use super::{TensorInfo, TensorSource, WeightsError, WeightsFile};

/// Where a tensor comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// Its names in the file, which hold the same values.
    pub keys: Vec<String>,
    /// The rows that it is, if not the whole.
    pub rows: Option<Range<usize>>,
}

impl Origin {
    /// The whole tensor called `key`.
    pub fn whole(key: &str) -> Self {
        Self {
            keys: vec![key.to_owned()],
            rows: None,
        }
    }

    /// Some rows of the tensor called `key`.
    pub fn rows(key: &str, rows: Range<usize>) -> Self {
        Self {
            keys: vec![key.to_owned()],
            rows: Some(rows),
        }
    }
}

/// Tensors by the names they are asked for.
pub(super) type Names = BTreeMap<String, Origin>;

/// A file, and what its tensors are called.
pub(super) struct View {
    /// The file.
    pub file: WeightsFile,
    /// Its tensors.
    pub names: Names,
}

impl TensorSource for View {
    fn keys(&self) -> Vec<&str> {
        self.names.keys().map(String::as_str).collect()
    }

    fn info(&self, key: &str) -> Option<TensorInfo> {
        let origin = self.names.get(key)?;
        let mut info = self.file.info(origin.keys.first()?)?;
        if let (Some(rows), Some(first)) = (&origin.rows, info.shape.first_mut()) {
            *first = rows.len();
        }
        Some(info)
    }

    fn read(&self, key: &str) -> Result<TensorData, WeightsError> {
        let origin = &self.names[key];
        let (first, others) = origin.keys.split_first().expect("a tensor has a name");
        let data = self.file.read(first)?;
        for other in others {
            if self.file.read(other)? != data {
                return Err(WeightsError::Format {
                    path: self.file.path().into(),
                    expected: "the same values under both names of a tensor",
                    found: format!("others in `{first}` than in `{other}`"),
                });
            }
        }
        let Some(rows) = &origin.rows else { return Ok(data) };
        let mut shape = data.shape.to_vec();
        shape[0] = 1;
        let size = shape.iter().product::<usize>();
        shape[0] = rows.len();
        let values = data.as_slice::<f32>().expect("sources give f32");
        let values = values[rows.start * size..rows.end * size].to_vec();
        Ok(TensorData::new(values, shape))
    }
}
