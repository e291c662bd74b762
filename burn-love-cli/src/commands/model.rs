//! A trained model: from a run, or from a weights file with its config.

use std::path::PathBuf;

use burn::tensor::backend::Backend;
use burn_love::love::Sam2Love;
use burn_love_train::{
    config::{Config, Source, resolve},
    shipped,
    training::{Checkpoints, load_model},
};

use crate::{args::ModelArgs, error::CliError};

/// A model that is known to be there, not yet loaded.
pub struct Trained {
    /// Its config.
    pub config: Config,
    /// Its weights.
    pub weights: PathBuf,
}

impl Trained {
    /// Finds weights and config.
    pub fn find(args: &ModelArgs) -> Result<Self, CliError> {
        match (&args.run, &args.weights) {
            (Some(run), _) => {
                if !run.is_dir() {
                    return Err(CliError::input(format!(
                        "{}: expected a run, found no directory",
                        run.display()
                    )));
                }
                let weights = Checkpoints::new(run, 1).weights()?;
                let config = run.join("config.toml");
                Ok(Self {
                    config: resolve(&[Source::File(config)])?,
                    weights,
                })
            }
            (None, Some(weights)) => {
                let source = match &args.config {
                    Some(config) => Source::File(config.clone()),
                    None => {
                        let file = shipped::open(weights)?;
                        let toml = file.config().map(str::to_owned).ok_or_else(|| {
                            let message =
                                format!("{}: expected a config inside, found none", weights.display());
                            CliError::input(message)
                                .hint("give the config that the weights were trained with (--config)")
                        })?;
                        Source::Embedded {
                            path: weights.clone(),
                            toml,
                        }
                    }
                };
                Ok(Self {
                    config: resolve(&[source])?,
                    weights: weights.clone(),
                })
            }
            (None, None) => Self::find(&ModelArgs {
                run: None,
                weights: Some(shipped::nano()),
                config: None,
            }),
        }
    }

    /// Loads the model onto a device.
    pub fn load<B: Backend>(&self, device: &B::Device) -> Result<Sam2Love<B>, CliError> {
        Ok(load_model(&self.config, &self.weights, device)?)
    }
}
