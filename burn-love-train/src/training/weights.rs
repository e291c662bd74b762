//! Weights from files into a model: of its parts, of all of it, or of what learned.

use std::path::Path;

use burn::prelude::*;
use burn_love::{
    encoders::{TextConfig, TextTower, Vggish, VisionConfig, VisionTower},
    love::Sam2Love,
    sam2::Sam2,
    weights::{
        Allow, EncoderFile, EncoderPart, Family, Sam2File, TensorSource, WeightsError, keys, load_state,
        shapes_of,
    },
};

use crate::{
    config::{Config, WeightsConfig},
    shipped,
};

/// SAM 2 with the weights of a file; as it is for an empty path.
pub(crate) fn load_sam2<B: Backend>(sam2: Sam2<B>, path: &Path) -> Result<Sam2<B>, WeightsError> {
    if path.as_os_str().is_empty() {
        return Ok(sam2);
    }
    Ok(Sam2File::new(shipped::open(path)?)?
        .load_into(sam2, Allow::default())?
        .0)
}

/// The audio encoder with the weights of a file; as it is for an empty path.
pub(crate) fn load_audio<B: Backend>(encoder: Vggish<B>, path: &Path) -> Result<Vggish<B>, WeightsError> {
    if path.as_os_str().is_empty() {
        return Ok(encoder);
    }
    let file = EncoderFile::new(shipped::open(path)?, EncoderPart::Vggish)?;
    Ok(file.load_into(encoder, keys::vggish)?.0)
}

/// The vision encoder with the weights of a file; as it is for an empty path.
pub(crate) fn load_vision<B: Backend>(
    encoder: VisionTower<B>,
    config: &VisionConfig,
    path: &Path,
) -> Result<VisionTower<B>, WeightsError> {
    if path.as_os_str().is_empty() {
        return Ok(encoder);
    }
    let file = EncoderFile::new(shipped::open(path)?, config.kind.into())?;
    if file.family() == Family::VitTimm && config.epsilon != VisionConfig::TIMM_EPSILON {
        tracing::warn!(
            "{}: timm's ViT has encoders.vision.epsilon = {:e}, the config {:e}",
            path.display(),
            VisionConfig::TIMM_EPSILON,
            config.epsilon
        );
    }
    Ok(file.load_into(encoder, keys::vision)?.0)
}

/// The text encoder with the weights of a file; as it is for an empty path.
pub(crate) fn load_text<B: Backend>(
    encoder: TextTower<B>,
    config: &TextConfig,
    path: &Path,
) -> Result<TextTower<B>, WeightsError> {
    if path.as_os_str().is_empty() {
        return Ok(encoder);
    }
    let file = EncoderFile::new(shipped::open(path)?, config.kind.into())?;
    Ok(file.load_into(encoder, keys::text)?.0)
}

/// A model with the weights of the parts that its config names.
pub(super) fn load_parts<B: Backend>(
    mut model: Sam2Love<B>,
    config: &Config,
) -> Result<Sam2Love<B>, WeightsError> {
    let (encoders, weights) = (&mut model.encoders, &config.weights);
    model.sam2 = load_sam2(model.sam2, &weights.sam2)?;
    encoders.audio = load_audio(encoders.audio.clone(), &weights.audio)?;
    let vision = &config.model.encoders.vision;
    encoders.vision = load_vision(encoders.vision.clone(), vision, &weights.vision)?;
    let text = &config.model.encoders.text;
    encoders.text = load_text(encoders.text.clone(), text, &weights.text)?;
    Ok(model)
}

/// A model with the weights of a file. It may leave out parts that did not learn, where the config names their files.
pub(super) fn load_love<B: Backend>(
    mut model: Sam2Love<B>,
    config: &Config,
    path: &Path,
) -> Result<Sam2Love<B>, WeightsError> {
    let file = shipped::open(path)?;
    let expected = shapes_of(&model, keys::love);
    let absent = |key: &&String| file.info(key).is_none();
    if expected
        .keys()
        .filter(absent)
        .any(|key| is_elsewhere(config, key))
    {
        model = load_parts(model, config)?;
    }
    let (model, mut report) = load_state(model, &file, keys::love, path)?;
    report.missing.retain(|key| !is_elsewhere(config, key));
    report.complete(path)?;
    Ok(model)
}

/// Whether a parameter of the whole model did not learn, so that it is as in the file of its part that the config names.
pub fn is_elsewhere(config: &Config, key: &str) -> bool {
    let file = part_file(&config.weights, key);
    !config.train.trainable.learns(key) && file.is_some_and(|file| !file.as_os_str().is_empty())
}

/// The file of the part that a parameter belongs to.
fn part_file<'a>(weights: &'a WeightsConfig, key: &str) -> Option<&'a Path> {
    let parts = [
        ("sam2.", &weights.sam2),
        ("encoders.audio.", &weights.audio),
        ("encoders.vision.", &weights.vision),
        ("encoders.text.", &weights.text),
    ];
    let part = parts.into_iter().find(|(prefix, _)| key.starts_with(prefix));
    part.map(|(_, path)| path.as_path())
}

/// A model for inference with the weights of a file. It may leave out parts that did not learn, where the config names
/// their files.
///
/// # Errors
/// If a file cannot be read or belongs to another config.
pub fn load_model<B: Backend>(
    config: &Config,
    path: &Path,
    device: &B::Device,
) -> Result<Sam2Love<B>, WeightsError> {
    let mut model = load_love(config.model.init::<B>(device), config, path)?;
    model.sam2 = model.sam2.cache_constants();
    Ok(model)
}
