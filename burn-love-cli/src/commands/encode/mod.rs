//! `encode`: what an encoder says of a sound, an image or a sentence.

pub mod audio;
pub mod image;
pub mod text;

use std::path::Path;

use burn::tensor::{TensorData, backend::Backend};
use burn_love::weights::{State, write_safetensors};
use serde_json::json;

use crate::{
    args::{EncodeArgs, Global},
    error::CliError,
    output, printer,
};

/// Where an encoder comes from.
enum Origin<'a> {
    /// A weights file, for the sizes of a preset.
    File(&'a Path),
    /// The ONNX graph that the program was built with.
    #[cfg(feature = "onnx")]
    Graph,
}

impl<'a> Origin<'a> {
    fn of(args: &'a EncodeArgs) -> Result<Self, CliError> {
        #[cfg(feature = "onnx")]
        if args.model == crate::args::ONNX {
            return match &args.weights {
                None => Ok(Self::Graph),
                Some(path) => Err(CliError::input(format!(
                    "--weights {}: expected none, because a graph has its own",
                    path.display()
                ))
                .hint("leave it out, or name another --model")),
            };
        }
        match &args.weights {
            Some(path) => Ok(Self::File(path)),
            None => Err(CliError::input("--weights: expected a file, found nothing")
                .hint(format!("give the weights of {}", args.model))),
        }
    }
}

/// Refuses an output that is there before anything is computed.
fn prepare(args: &EncodeArgs, global: &Global) -> Result<(), CliError> {
    output::prepare_file(&args.tensors, global.overwrite)
}

/// A tensor's values on the host, as f32 with `shape`.
fn values<B: Backend, const D: usize>(
    tensor: burn::tensor::Tensor<B, D>,
    shape: impl Into<burn::tensor::Shape>,
) -> TensorData {
    let values: Vec<f32> = tensor.into_data().iter::<f32>().collect();
    TensorData::new(values, shape)
}

/// Reads an input file.
fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|error| CliError::input(format!("{}: {error}", path.display())))
}

/// Writes the tensors and says what they are.
fn finish(args: &EncodeArgs, state: State) -> Result<(), CliError> {
    write_safetensors(&args.tensors, &state, None).map_err(|error| CliError::machine(error.to_string()))?;
    if args.json {
        let shapes: serde_json::Map<_, _> = state
            .iter()
            .map(|(name, data)| (name.clone(), json!(data.shape.to_vec())))
            .collect();
        let report = json!({
            "model": args.model,
            "weights": args.weights,
            "tensors": args.tensors,
            "shapes": shapes,
        });
        printer::data(serde_json::to_string_pretty(&report).expect("plain values"));
        return Ok(());
    }
    for (name, data) in &state {
        printer::data(format_args!(
            "{name} {:?}: {}",
            data.shape.to_vec(),
            args.tensors.display()
        ));
    }
    Ok(())
}
