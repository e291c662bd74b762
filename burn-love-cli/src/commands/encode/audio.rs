//! `encode audio`: log-mel examples and VGGish's embeddings of a WAV file.

use std::path::Path;

use burn::prelude::*;
use burn_love::{
    encoders::{AudioEncoder, VggishConfig},
    preprocess::{LogMel, PreprocessError, Waveform, log_mel},
    weights::{EncoderFile, EncoderPart, State, keys},
};
use burn_love_train::data::SoundFile;

use super::{Origin, finish, prepare, values};
use crate::{
    args::{EncodeArgs, Global},
    device::with_backend,
    error::CliError,
};

/// Runs `encode audio`.
pub fn run(args: &EncodeArgs, global: &Global) -> Result<(), CliError> {
    let origin = Origin::of(args)?;
    let path = Path::new(&args.input);
    let refused = |error: PreprocessError| {
        let message = format!("{}: {error}", path.display());
        match error {
            PreprocessError::Unreadable(_) => CliError::machine(message).hint(error.hint()),
            _ => CliError::input(message).hint("give a WAV file of at least a second"),
        }
    };
    let file =
        SoundFile::open(path).map_err(|error| CliError::input(format!("{}: {error}", path.display())))?;
    let waveform = Waveform::read_wav(file).map_err(refused)?;
    let mel = log_mel(&waveform).map_err(refused)?;
    prepare(args, global)?;
    let device = global.device.probe()?;
    let state = with_backend!(device, |B, at| encode(
        &*encoder::<B>(args, &origin, &at)?,
        mel,
        &at
    ));
    finish(args, state)
}

fn encoder<B: Backend>(
    args: &EncodeArgs,
    origin: &Origin<'_>,
    device: &B::Device,
) -> Result<Box<dyn AudioEncoder<B>>, CliError> {
    match origin {
        Origin::File(path) => {
            let config = VggishConfig::preset(&args.model).expect("the name was checked when it was parsed");
            let file = EncoderFile::open(path, EncoderPart::Vggish)?;
            let (model, _) = file.load_into(config.init::<B>(device), keys::vggish)?;
            Ok(Box::new(model))
        }
        #[cfg(feature = "onnx")]
        Origin::Graph => Ok(Box::new(burn_love_onnx::OnnxAudio::new(device))),
    }
}

fn encode<B: Backend>(model: &dyn AudioEncoder<B>, mel: LogMel, device: &B::Device) -> State {
    let shape = [mel.examples, VggishConfig::FRAMES, VggishConfig::BANDS];
    let mel = TensorData::new(mel.values, shape);
    let embedding = model.encode_audio(Tensor::from_data(mel.clone(), device));
    let shape = embedding.dims();
    State::from([
        ("log_mel".into(), mel),
        ("embedding".into(), values(embedding, shape)),
    ])
}
