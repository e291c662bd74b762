//! Safetensors files: named tensors and a note about what they are.

use std::{collections::HashMap, path::Path};

use burn::tensor::{DType, TensorData};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::{State, WeightsError};

/// Name of the one metadata entry; a single one keeps files reproducible byte for byte.
const CONFIG: &str = "config";

/// What a weights file holds.
#[derive(Debug, Clone, Default)]
pub struct WeightsFile {
    /// The tensors, as f32.
    pub state: State,
    /// The resolved config that they belong to, as TOML; files of others have none.
    pub config: Option<String>,
}

/// Reads a safetensors file of floats.
///
/// # Errors
/// If it cannot be read, is truncated or of another format, or holds values that are not finite.
pub fn read_safetensors(path: &Path) -> Result<WeightsFile, WeightsError> {
    let format = |found: String| WeightsError::Format {
        path: path.into(),
        found,
    };
    let bytes = std::fs::read(path).map_err(|source| WeightsError::Io {
        path: path.into(),
        source,
    })?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| format(error.to_string()))?;
    let config = metadata
        .metadata()
        .as_ref()
        .and_then(|entries| entries.get(CONFIG))
        .cloned();
    let file = SafeTensors::deserialize(&bytes).map_err(|error| format(error.to_string()))?;
    let mut state = State::new();
    for (key, view) in file.iter() {
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => return Err(format(format!("`{key}` of type {other:?}"))),
        };
        let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype);
        let data = data.convert::<f32>();
        let values = data.as_slice::<f32>().expect("just converted");
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(WeightsError::NotFinite {
                path: path.into(),
                key: key.into(),
                value: *value,
            });
        }
        state.insert(key.to_owned(), data);
    }
    Ok(WeightsFile { state, config })
}

/// Writes tensors, with the config they belong to.
///
/// The same content gives the same bytes. The file is complete on disk when this returns, or an error is; to
/// replace an existing file safely, write beside it and rename.
///
/// # Errors
/// If the file cannot be written.
pub fn write_safetensors(path: &Path, file: &WeightsFile) -> Result<(), WeightsError> {
    let io = |source| WeightsError::Io {
        path: path.into(),
        source,
    };
    let views: Vec<_> = file
        .state
        .iter()
        .map(|(key, data)| {
            let view = TensorView::new(Dtype::F32, data.shape.to_vec(), data.as_bytes())
                .expect("the state holds f32 of the stated shape");
            (key.as_str(), view)
        })
        .collect();
    let metadata = file
        .config
        .clone()
        .map(|config| HashMap::from([(CONFIG.to_owned(), config)]));
    let bytes = safetensors::serialize(views, metadata).map_err(|error| WeightsError::Format {
        path: path.into(),
        found: error.to_string(),
    })?;
    let mut target = std::fs::File::create(path).map_err(io)?;
    std::io::Write::write_all(&mut target, &bytes).map_err(io)?;
    target.sync_all().map_err(io)
}
