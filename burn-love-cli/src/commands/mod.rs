//! One file per command.

mod ablate;
pub mod bench;
mod cache;
mod data;
mod demo;
mod doctor;
mod encode;
mod eval;
mod model;
mod predict;
mod pretrain;
mod sam2;
mod train;
mod weights;

use crate::{
    args::{Cli, Command, DataCommand, EncodeCommand, Sam2Command, WeightsCommand},
    error::CliError,
};

/// Runs the command that was given.
pub fn run(cli: Cli) -> Result<(), CliError> {
    let global = &cli.global;
    let (name, result) = match &cli.command {
        Command::Demo(args) => ("demo", demo::run(args, global)),
        Command::Data(DataCommand::Synth(args)) => ("data synth", data::synth(args, global)),
        Command::Pretrain(command) => ("pretrain", pretrain::run(command, global)),
        Command::Train(args) => ("train", train::run(args, global)),
        Command::Eval(args) => ("eval", eval::run(args, global)),
        Command::Ablate(args) => ("ablate", ablate::run(args, global)),
        Command::Predict(args) => ("predict", predict::run(args, global)),
        Command::Encode(EncodeCommand::Audio(args)) => ("encode audio", encode::audio::run(args, global)),
        Command::Encode(EncodeCommand::Image(args)) => ("encode image", encode::image::run(args, global)),
        Command::Encode(EncodeCommand::Text(args)) => ("encode text", encode::text::run(args, global)),
        Command::Weights(WeightsCommand::Inspect(args)) => {
            ("weights inspect", weights::inspect(args, global))
        }
        Command::Weights(WeightsCommand::Convert(args)) => {
            ("weights convert", weights::convert(args, global))
        }
        Command::Sam2(Sam2Command::Image(args)) => ("sam2 image", sam2::image::run(args, global)),
        Command::Sam2(Sam2Command::Video(args)) => ("sam2 video", sam2::video::run(args, global)),
        Command::Bench(args) => ("bench", bench::run(args, global)),
        Command::Doctor(args) => ("doctor", doctor::run(args, global)),
    };
    result.map_err(|error| error.or_help(name))
}
