//! Where tensors come from: names and shapes first, values one tensor at a time.

use std::{collections::BTreeMap, path::Path};

use burn::{
    prelude::*,
    tensor::{DType, bf16, f16},
};
use safetensors::Dtype;

use super::WeightsError;

/// Named tensors of f32, or of i64 where they are only written, in PyTorch's layout, in memory.
pub type State = BTreeMap<String, TensorData>;

/// Names and shapes in PyTorch's layout.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// What is known of a tensor before it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its shape, in PyTorch's layout.
    pub shape: Vec<usize>,
    /// Its elements as they are stored.
    pub dtype: Dtype,
}

impl TensorInfo {
    /// Elements of the tensor.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the elements are numbers that become f32.
    pub fn is_float(&self) -> bool {
        matches!(self.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
    }
}

/// Named tensors that are read when they are needed.
///
/// A model of 900 MB is then loaded in little more memory than it takes itself.
pub trait TensorSource {
    /// All names, sorted.
    fn keys(&self) -> Vec<&str>;

    /// Shape and type of a tensor, if there is one of that name.
    fn info(&self, key: &str) -> Option<TensorInfo>;

    /// The values of a tensor, as f32.
    ///
    /// # Errors
    /// If they cannot be read, are damaged, are not floats or not finite.
    ///
    /// # Panics
    /// If there is no tensor of that name.
    fn read(&self, key: &str) -> Result<TensorData, WeightsError>;

    /// Names and shapes of all tensors.
    fn shapes(&self) -> Shapes {
        let shape = |key: &str| self.info(key).map(|info| (key.to_owned(), info.shape));
        self.keys().into_iter().filter_map(shape).collect()
    }
}

impl TensorSource for State {
    fn keys(&self) -> Vec<&str> {
        BTreeMap::keys(self).map(String::as_str).collect()
    }

    fn info(&self, key: &str) -> Option<TensorInfo> {
        self.get(key).map(|data| TensorInfo {
            shape: data.shape.to_vec(),
            dtype: match data.dtype {
                DType::I64 => Dtype::I64,
                _ => Dtype::F32,
            },
        })
    }

    fn read(&self, key: &str) -> Result<TensorData, WeightsError> {
        Ok(self[key].clone())
    }
}

/// Some tensors of one source or of several.
#[derive(Default)]
pub struct Selection<'a> {
    sources: BTreeMap<&'a str, &'a dyn TensorSource>,
}

impl<'a> Selection<'a> {
    /// Adds the tensors called `keys`, all of which `source` has and none of which was added.
    pub fn and(mut self, source: &'a dyn TensorSource, keys: &'a [String]) -> Self {
        self.sources.extend(keys.iter().map(|key| (key.as_str(), source)));
        self
    }
}

impl TensorSource for Selection<'_> {
    fn keys(&self) -> Vec<&str> {
        self.sources.keys().copied().collect()
    }

    fn info(&self, key: &str) -> Option<TensorInfo> {
        self.sources.get(key)?.info(key)
    }

    fn read(&self, key: &str) -> Result<TensorData, WeightsError> {
        self.sources[key].read(key)
    }
}

/// Little-endian elements of the tensor `key` of the file at `path`, as finite f32.
pub(super) fn floats(path: &Path, key: &str, dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>, WeightsError> {
    let values: Vec<f32> = match dtype {
        Dtype::F32 => words(bytes).map(f32::from_le_bytes).collect(),
        Dtype::F64 => words(bytes).map(|word| f64::from_le_bytes(word) as f32).collect(),
        Dtype::F16 => words(bytes)
            .map(|word| f16::from_le_bytes(word).to_f32())
            .collect(),
        Dtype::BF16 => words(bytes)
            .map(|word| bf16::from_le_bytes(word).to_f32())
            .collect(),
        found => {
            return Err(WeightsError::Type {
                path: path.into(),
                key: key.into(),
                found,
            });
        }
    };
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(WeightsError::NotFinite {
            path: path.into(),
            key: key.into(),
            value: *value,
        }),
        None => Ok(values),
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes
        .chunks_exact(N)
        .map(|word| word.try_into().expect("chunks of N bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_become_f32() {
        let read = |dtype, bytes: &[u8]| floats(Path::new("f"), "w", dtype, bytes).unwrap();
        assert_eq!(read(Dtype::F32, &1.5f32.to_le_bytes()), [1.5]);
        assert_eq!(read(Dtype::F64, &(-2.25f64).to_le_bytes()), [-2.25]);
        assert_eq!(read(Dtype::F16, &f16::from_f32(0.125).to_le_bytes()), [0.125]);
        assert_eq!(read(Dtype::BF16, &bf16::from_f32(-3.0).to_le_bytes()), [-3.0]);
    }

    #[test]
    fn what_is_no_finite_float_is_named() {
        let message = |dtype, bytes: &[u8]| {
            floats(Path::new("f.pt"), "w", dtype, bytes)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            message(Dtype::I64, &[0; 8]),
            "f.pt: expected floats in `w`, found I64"
        );
        assert_eq!(
            message(Dtype::F32, &f32::NAN.to_le_bytes()),
            "f.pt: expected finite values, found NaN in `w`"
        );
        // A double that overflows f32 is no number there.
        assert!(message(Dtype::F64, &1e300f64.to_le_bytes()).contains("found inf"));
    }
}
