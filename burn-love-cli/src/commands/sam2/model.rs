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

/// What images do without: a Hugging Face `Sam2Model` has no such weights.
const OF_MEMORY: [&str; 9] = [
    "memory_attention.",
    "memory_encoder.",
    "maskmem_tpos_enc",
    "no_mem_pos_enc",
    "no_obj_ptr",
    "no_obj_embed_spatial",
    "obj_ptr_proj.",
    "obj_ptr_tpos_proj.",
    "mask_downsample.",
];

/// A model with all its weights from a file, or with those that images need from a file that has no others.
pub fn load_for_images<B: Backend>(
    config: &Sam2Config,
    path: &Path,
    device: &B::Device,
) -> Result<Sam2<B>, CliError> {
    let file = Sam2File::open(path)?;
    let allow = Allow {
        missing: true,
        unused: false,
    };
    let (model, report) = file.load_into(config.init::<B>(device), allow)?;
    let is_of_memory = |key: &String| OF_MEMORY.iter().any(|of_memory| key.starts_with(of_memory));
    let has_memory = report.applied.iter().any(is_of_memory);
    let lacks_memory_only = !has_memory && report.missing.iter().all(is_of_memory);
    if report.missing.is_empty() || lacks_memory_only {
        Ok(model)
    } else {
        load(config, path, device)
    }
}

/// A model with all its weights from a file.
pub fn load<B: Backend>(config: &Sam2Config, path: &Path, device: &B::Device) -> Result<Sam2<B>, CliError> {
    let file = Sam2File::open(path)?;
    let (model, _) = file.load_into(config.init::<B>(device), Allow::default())?;
    Ok(model)
}
