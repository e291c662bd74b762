//! One line and a hint for every way to fail, with its exit code.

use std::{any::Any, io::ErrorKind};

use burn_love::{preprocess::PreprocessError, weights::WeightsError};
use burn_love_train::{
    config::ConfigError,
    data::DataError,
    evaluation::EvalError,
    features::CacheError,
    samples::SampleError,
    synth::SynthError,
    training::{CheckpointError, RunError},
};

/// What to do when a run cannot be written.
pub const ROOM: &str =
    "make room or see to the disk, then go on with train --resume: the last complete checkpoint is unharmed";

/// What a training that was interrupted goes on with.
pub const RUN_AS_OUT: &str = "the run's directory as --out";

/// What a command says when it fails.
#[derive(Debug)]
pub struct CliError {
    /// One line.
    pub message: String,
    /// What to try.
    pub hint: Option<String>,
    /// Exit code.
    pub code: u8,
}

impl CliError {
    /// The work found a problem: exit code 1.
    pub fn found(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            code: 1,
        }
    }

    /// Bad usage or bad input: exit code 2.
    pub fn input(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            code: 2,
        }
    }

    /// The machine failed: exit code 3.
    pub fn machine(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            code: 3,
        }
    }

    /// Adds what to try.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// Gives an error about bad input the last resort where nothing better is known.
    pub fn or_help(mut self, command: &str) -> Self {
        if self.code == 2 && self.hint.is_none() {
            self.hint = Some(format!("`burn-love-cli {command} --help` says what it takes"));
        }
        self
    }

    /// A training's error where `command` goes on with it, given `arguments`: its hint names those instead of `train`'s.
    pub fn resumed_by(mut self, command: &str, arguments: &str) -> Self {
        let resume = format!("{command} --resume");
        self.hint = self.hint.map(|hint| {
            let hint = hint.replace("train --resume", &resume);
            hint.replace(RUN_AS_OUT, arguments)
        });
        self
    }

    /// A file that cannot be read or written.
    pub fn io(path: &std::path::Path, error: &std::io::Error) -> Self {
        let message = format!("{}: {error}", path.display());
        if error.kind() == std::io::ErrorKind::NotFound {
            Self::input(message).hint("check the path")
        } else {
            Self::machine(message)
        }
    }

    /// A panic: a broken invariant, or a device that gave up.
    pub fn panicked(panic: &(dyn Any + Send)) -> Self {
        let words = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        let line = words.lines().next().unwrap_or_default();
        Self::machine(format!("internal: {line}")).hint(
            "run again with -v for where it happened; where memory ran out, smaller batches or frames need less",
        )
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::input(error.to_string()).maybe_hint(error.hint())
    }
}

impl From<DataError> for CliError {
    fn from(error: DataError) -> Self {
        Self::input(error.to_string()).maybe_hint(error.hint())
    }
}

impl From<SampleError> for CliError {
    fn from(error: SampleError) -> Self {
        if let SampleError::Content {
            source: PreprocessError::Unreadable(_),
            ..
        } = &error
        {
            return Self::machine(error.to_string()).maybe_hint(error.hint());
        }
        Self::input(error.to_string()).maybe_hint(error.hint())
    }
}

impl From<CacheError> for CliError {
    fn from(error: CacheError) -> Self {
        let CacheError::Io { source, .. } = &error;
        let usage = matches!(
            source.kind(),
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory | ErrorKind::PermissionDenied
        );
        let made = if usage {
            Self::input(error.to_string())
        } else {
            Self::machine(error.to_string())
        };
        made.hint("give a folder that can be written as --cache-features, or leave the option out")
    }
}

impl From<SynthError> for CliError {
    fn from(error: SynthError) -> Self {
        let machine = matches!(error, SynthError::Io { .. });
        let made = if machine {
            Self::machine(error.to_string())
        } else {
            Self::input(error.to_string())
        };
        made.maybe_hint(error.hint())
    }
}

impl From<WeightsError> for CliError {
    fn from(error: WeightsError) -> Self {
        match &error {
            WeightsError::Io { path, source } => Self::io(path, source),
            _ => Self::input(error.to_string()).maybe_hint(error.hint()),
        }
    }
}

impl From<CheckpointError> for CliError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Weights(WeightsError::Io { .. }) | CheckpointError::Io { .. } => {
                Self::machine(error.to_string()).hint(ROOM)
            }
            CheckpointError::Weights(error) => error.into(),
            CheckpointError::Record { .. } => Self::input(error.to_string())
                .hint("name an older checkpoint in the run's file `last`, or train anew with another --out"),
            CheckpointError::Config { .. } => Self::input(error.to_string())
                .hint("bring the run's config.toml back to these values, or train anew with another --out"),
            CheckpointError::Rows { .. } => Self::input(error.to_string())
                .hint("name the run's data and skip the same samples, or train anew with another --out"),
            CheckpointError::None { .. } => {
                Self::input(error.to_string()).hint("train it first, or name the run's directory")
            }
        }
    }
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Sample(error) => error.into(),
            RunError::Checkpoint(error) => error.into(),
            RunError::Weights(error) => error.into(),
            RunError::Io { .. } => Self::machine(error.to_string()).hint(ROOM),
            RunError::Scenes(error) => error.into(),
            RunError::NoRows { split, .. } => Self::input(error.to_string()).hint(format!(
                "mark rows of metadata.csv as {split}; `burn-love-cli data synth --out DIR` makes a data set",
            )),
            RunError::Diverged { .. } => Self::machine(error.to_string()).hint(
                "the last steps changed nothing and a checkpoint was written: train --resume goes on behind them; \
                 where it diverges again, a lower train.lr may help",
            ),
            RunError::Interrupted => Self {
                message: error.to_string(),
                hint: Some(format!("go on with `train --resume` and {RUN_AS_OUT}")),
                code: 130,
            },
        }
    }
}

impl From<EvalError> for CliError {
    fn from(error: EvalError) -> Self {
        let hint = error.hint();
        match error {
            EvalError::Sample(error) => error.into(),
            EvalError::OneClip { .. } => Self::input(error.to_string()).maybe_hint(hint),
            EvalError::Io { .. } => Self::machine(error.to_string()),
        }
    }
}
