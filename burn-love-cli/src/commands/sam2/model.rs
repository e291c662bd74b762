//! A SAM 2 of a named architecture, from its weights.

use std::path::Path;

use burn::tensor::backend::Backend;
use burn_love::{
    sam2::{Sam2, Sam2Config},
    weights::{Allow, Sam2File},
};

use crate::error::CliError;

/// The architecture called `name`.
pub fn config(name: &str) -> Sam2Config {
    Sam2Config::preset(name).expect("the command line takes names of presets only")
}

/// A model with all its weights from a file.
pub fn load<B: Backend>(config: &Sam2Config, path: &Path, device: &B::Device) -> Result<Sam2<B>, CliError> {
    let file = Sam2File::open(path)?;
    let (model, _) = file.load_into(config.init::<B>(device), Allow::default())?;
    Ok(model)
}
