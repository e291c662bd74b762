//! One file per command.

mod data;
mod demo;
mod doctor;
mod encode;
mod eval;
mod model;
mod predict;
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
    match &cli.command {
        Command::Demo(args) => demo::run(args, global),
        Command::Data(DataCommand::Synth(args)) => data::synth(args, global),
        Command::Train(args) => train::run(args, global),
        Command::Eval(args) => eval::run(args, global),
        Command::Predict(args) => predict::run(args, global),
        Command::Encode(EncodeCommand::Audio(args)) => encode::audio::run(args, global),
        Command::Encode(EncodeCommand::Image(args)) => encode::image::run(args, global),
        Command::Encode(EncodeCommand::Text(args)) => encode::text::run(args, global),
        Command::Weights(WeightsCommand::Inspect(args)) => weights::inspect(args, global),
        Command::Weights(WeightsCommand::Convert(args)) => weights::convert(args, global),
        Command::Sam2(Sam2Command::Image(args)) => sam2::image::run(args, global),
        Command::Sam2(Sam2Command::Video(args)) => sam2::video::run(args, global),
        Command::Doctor(args) => doctor::run(args, global),
    }
}
