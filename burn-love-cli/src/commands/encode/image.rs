//! `encode image`: pixels and the hidden state of ViT or of CLIP's vision tower.

use std::path::Path;

use burn::prelude::*;
use burn_love::{
    encoders::{VisionConfig, VisionEncoder},
    preprocess::{decode_image, vision_pixels},
    weights::{EncoderFile, Family, State, keys},
};

use super::{Origin, finish, prepare, read, values};
use crate::{
    args::{EncodeArgs, Global},
    device::with_backend,
    error::CliError,
};

/// An encoder that is known to be there, not yet loaded, and the sizes of what it sees.
enum Seer {
    File(EncoderFile, VisionConfig),
    #[cfg(feature = "onnx")]
    Graph(VisionConfig),
}

/// Runs `encode image`.
pub fn run(args: &EncodeArgs, global: &Global) -> Result<(), CliError> {
    let origin = Origin::of(args)?;
    let path = Path::new(&args.input);
    let picture = decode_image(&read(path)?)
        .map_err(|error| CliError::input(format!("{}: {error}", path.display())))?
        .to_rgb8();
    prepare(args, global)?;
    let seer = Seer::find(args, &origin)?;
    let config = seer.config();
    let side = config.image_size;
    let pixels = TensorData::new(vision_pixels(&picture, config), [3, side, side]);
    let device = global.probe()?;
    let state = with_backend!(device, |B, at| encode(&*seer.load::<B>(&at)?, pixels, &at));
    finish(args, state)
}

impl Seer {
    fn find(args: &EncodeArgs, origin: &Origin<'_>) -> Result<Self, CliError> {
        match origin {
            Origin::File(path) => {
                let mut config =
                    VisionConfig::preset(&args.model).expect("the name was checked when it was parsed");
                let file = EncoderFile::open(path, config.kind.into())?;
                if file.family() == Family::VitTimm {
                    config.epsilon = VisionConfig::TIMM_EPSILON;
                }
                Ok(Self::File(file, config))
            }
            // Its pictures are normalised as ViT's are.
            #[cfg(feature = "onnx")]
            Origin::Graph => Ok(Self::Graph(VisionConfig {
                image_size: burn_love_onnx::VISION_SIDE,
                ..VisionConfig::base_16()
            })),
        }
    }

    fn config(&self) -> &VisionConfig {
        match self {
            Self::File(_, config) => config,
            #[cfg(feature = "onnx")]
            Self::Graph(config) => config,
        }
    }

    fn load<B: Backend>(&self, device: &B::Device) -> Result<Box<dyn VisionEncoder<B>>, CliError> {
        match self {
            Self::File(file, config) => {
                let (model, _) = file.load_into(config.init::<B>(device), keys::vision)?;
                Ok(Box::new(model))
            }
            #[cfg(feature = "onnx")]
            Self::Graph(_) => Ok(Box::new(burn_love_onnx::OnnxVision::new(device))),
        }
    }
}

fn encode<B: Backend>(model: &dyn VisionEncoder<B>, pixels: TensorData, device: &B::Device) -> State {
    let image: Tensor<B, 3> = Tensor::from_data(pixels.clone(), device);
    let hidden = model.encode_image(image.unsqueeze()).hidden();
    let [_, l, d] = hidden.dims();
    State::from([
        ("pixel_values".into(), pixels),
        ("last_hidden_state".into(), values(hidden, [l, d])),
    ])
}
