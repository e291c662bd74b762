//! `encode image`: pixels and the hidden state of ViT or of CLIP's vision tower.

use std::path::Path;

use burn::prelude::*;
use burn_love::{
    encoders::{VisionConfig, VisionEncoder},
    preprocess::{decode_image, vision_pixels},
    weights::{EncoderFile, Family, State, keys},
};

use super::{finish, prepare, read, values};
use crate::{
    args::{EncodeArgs, Global},
    device::with_backend,
    error::CliError,
};

/// Runs `encode image`.
pub fn run(args: &EncodeArgs, global: &Global) -> Result<(), CliError> {
    let mut config = VisionConfig::preset(&args.model).expect("the name was checked when it was parsed");
    let path = Path::new(&args.input);
    let picture = decode_image(&read(path)?)
        .map_err(|error| CliError::input(format!("{}: {error}", path.display())))?
        .to_rgb8();
    prepare(args, global)?;
    let file = EncoderFile::open(&args.weights, config.kind.into())?;
    if file.family() == Family::VitTimm {
        config.epsilon = VisionConfig::TIMM_EPSILON;
    }
    let side = config.image_size;
    let pixels = TensorData::new(vision_pixels(&picture, &config), [3, side, side]);
    let device = global.device.probe()?;
    let state = with_backend!(device, |B, at| encode::<B>(&file, &config, pixels, &at)?);
    finish(args, state)
}

fn encode<B: Backend>(
    file: &EncoderFile,
    config: &VisionConfig,
    pixels: TensorData,
    device: &B::Device,
) -> Result<State, CliError> {
    let (model, _) = file.load_into(config.init::<B>(device), keys::vision)?;
    let image: Tensor<B, 3> = Tensor::from_data(pixels.clone(), device);
    let hidden = model.encode_image(image.unsqueeze()).hidden();
    let [_, l, d] = hidden.dims();
    Ok(State::from([
        ("pixel_values".into(), pixels),
        ("last_hidden_state".into(), values(hidden, [l, d])),
    ]))
}
