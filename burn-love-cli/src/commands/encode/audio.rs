//! `encode audio`: log-mel examples and VGGish's embeddings of a WAV file.

use std::path::Path;

use burn::prelude::*;
use burn_love::{
    encoders::{AudioEncoder, VggishConfig},
    preprocess::{LogMel, PreprocessError, Waveform, log_mel},
    weights::{EncoderFile, EncoderPart, State, keys},
};
use burn_love_train::data::SoundFile;

use super::{Origin, finish, prepare};
use crate::{
    args::{EncodeAudioArgs, Global},
    device::with_backend,
    error::CliError,
};

/// Examples that are on the device at a time.
const AT_ONCE: usize = 64;

/// Runs `encode audio`.
pub fn run(audio: &EncodeAudioArgs, global: &Global) -> Result<(), CliError> {
    let args = &audio.encode;
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
    let device = global.probe()?;
    let state = with_backend!(device, |B, at| encode(
        &*encoder::<B>(audio, &origin, &at)?,
        mel,
        &at
    ));
    finish(args, state)
}

fn encoder<B: Backend>(
    args: &EncodeAudioArgs,
    origin: &Origin<'_>,
    device: &B::Device,
) -> Result<Box<dyn AudioEncoder<B>>, CliError> {
    match origin {
        Origin::File(path) => {
            let mut config =
                VggishConfig::preset(&args.encode.model).expect("the name was checked when it was parsed");
            (config.last_relu, config.postprocess) = (args.last_relu, args.postprocess);
            let file = EncoderFile::open(path, EncoderPart::Vggish)?;
            let (model, _) = file.load_into(config.init::<B>(device), keys::vggish)?;
            Ok(Box::new(model))
        }
        #[cfg(feature = "onnx")]
        Origin::Graph if args.last_relu => Err(CliError::input(
            "--last-relu: expected a weights file, because a graph ends as it was exported",
        )),
        #[cfg(feature = "onnx")]
        Origin::Graph => Ok(Box::new(burn_love_onnx::OnnxAudio::new(device))),
    }
}

fn encode<B: Backend>(model: &dyn AudioEncoder<B>, mel: LogMel, device: &B::Device) -> State {
    let (frames, bands) = (VggishConfig::FRAMES, VggishConfig::BANDS);
    // A part at a time: of an hour, no more than this is on the device.
    let parts = mel.values.chunks(AT_ONCE * frames * bands);
    let mut embeddings = Vec::new();
    let mut width = 0;
    for part in parts {
        let examples = part.len() / (frames * bands);
        let part = TensorData::new(part.to_vec(), [examples, frames, bands]);
        let embedded = model.encode_audio(Tensor::from_data(part, device));
        width = embedded.dims()[1];
        embeddings.extend(embedded.into_data().iter::<f32>());
    }
    State::from([
        (
            "embedding".into(),
            TensorData::new(embeddings, [mel.examples, width]),
        ),
        (
            "log_mel".into(),
            TensorData::new(mel.values, [mel.examples, frames, bands]),
        ),
    ])
}
