//! Arguments of `pretrain`.

use std::path::PathBuf;

use burn_love_train::pretraining::Stage;
use clap::{Args, Subcommand};

/// Train one part of the nano model alone, on one modality, for `[weights]` of a training to begin with.
#[derive(Debug, Subcommand)]
pub enum PretrainCommand {
    /// The audio encoder, on labels of what sounds in mixtures of sounds
    Audio(PretrainArgs),
    /// The vision encoder, on labels of what single frames show
    Vision(PretrainArgs),
    /// The text encoder, on masked tokens of the data set's sentences
    Text(PretrainArgs),
    /// SAM 2, on objects that clicks, boxes and masks point at: in images, then in short clips
    Sam2(PretrainArgs),
}

impl PretrainCommand {
    /// The stage and its arguments.
    pub fn parts(&self) -> (Stage, &PretrainArgs) {
        match self {
            Self::Audio(args) => (Stage::Audio, args),
            Self::Vision(args) => (Stage::Vision, args),
            Self::Text(args) => (Stage::Text, args),
            Self::Sam2(args) => (Stage::Sam2, args),
        }
    }
}

/// Arguments of every stage.
#[derive(Debug, Args)]
pub struct PretrainArgs {
    /// The data set, as `data synth` makes it: labels come from its scene graphs
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Where to write the run: checkpoints, logs, gates.json, and the weights as STAGE.safetensors
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// Change a value of the config, such as train.steps=2000; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Go on from the run's last checkpoint, or from its start where there is none, with the run's own config
    #[arg(long)]
    pub resume: bool,
    /// Print gates.json
    #[arg(long)]
    pub json: bool,
}
