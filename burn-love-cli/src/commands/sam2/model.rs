//! A SAM 2 of a named architecture, from its weights.

use std::path::Path;

use burn::tensor::backend::Backend;
use burn_love::{
    sam2::{Sam2, Sam2Config, to_checkpoint},
    weights::{WeightsError, load_state, read_safetensors},
};

use crate::error::CliError;

/// The architecture called `name`.
pub fn config(name: &str) -> Result<Sam2Config, CliError> {
    Sam2Config::preset(name).ok_or_else(|| {
        let known: Vec<_> = Sam2Config::preset_names().collect();
        CliError::input(format!("--model: expected a SAM 2 architecture, found `{name}`"))
            .hint(format!("known: {}", known.join(", ")))
    })
}

/// A model with all its weights from a file.
pub fn load<B: Backend>(config: &Sam2Config, path: &Path, device: &B::Device) -> Result<Sam2<B>, CliError> {
    let file = read_safetensors(path).map_err(CliError::from)?;
    let loaded = load_state(config.init::<B>(device), &file.state, to_checkpoint, path);
    let complete = loaded.and_then(|(model, report)| report.complete(path).map(|_| model));
    complete.map_err(|error| match error {
        WeightsError::Shape { .. } | WeightsError::Keys { .. } => {
            CliError::from(error).hint("is --model what the weights belong to?")
        }
        _ => error.into(),
    })
}
