//! One file per command.

mod data;
mod demo;
mod doctor;
mod eval;
mod model;
mod predict;
mod sam2;
mod train;

use crate::{
    args::{Cli, Command, DataCommand, Sam2Command},
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
        Command::Sam2(Sam2Command::Image(args)) => sam2::image::run(args, global),
        Command::Doctor(args) => doctor::run(args, global),
    }
}
