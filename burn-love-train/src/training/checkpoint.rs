//! Step checkpoints: complete or absent, and enough to go on exactly.
//!
//! `checkpoints/step-00000100/` holds the weights under upstream names, the records of model and optimizer (full
//! precision, with parameter ids), and the position. It is written aside, flushed, and renamed.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use burn::{
    module::AutodiffModule,
    prelude::*,
    record::{Record, Recorder},
    tensor::backend::AutodiffBackend,
};
use burn_love::weights::{State, WeightsError, WeightsFile, write_safetensors};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{GroupedAdamW, LoveLearner, StepValues, parts, recorder::DurableRecorder};
use crate::config::{Config, Source, differing_keys, resolve};

/// The optimizer of every training.
pub type LoveOptimizer<B> = GroupedAdamW<B, LoveLearner<B>>;

/// A checkpoint that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The weights cannot be written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A record is not what it should be.
    #[error("{path}: expected a record of this run's model, found: {found}", path = path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// The checkpoint's model, or its order of rows, is not the config's.
    #[error("{path}: expected a checkpoint of this config, found another's: {} differ", keys.join(", "), path = path.display())]
    Config {
        /// The checkpoint's weights.
        path: PathBuf,
        /// Keys whose values differ.
        keys: Vec<String>,
    },
    /// The data set has more or fewer rows to learn from than the run had.
    #[error("{path}: expected the {expected} rows to learn from that the run began with, found {found}", path = path.display())]
    Rows {
        /// The data set.
        path: PathBuf,
        /// Rows of the run.
        expected: usize,
        /// Rows now.
        found: usize,
    },
    /// There is nothing to resume.
    #[error("{path}: expected a run with a checkpoint, found none", path = path.display())]
    None {
        /// The run's directory.
        path: PathBuf,
    },
}

/// Where a training stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Optimizer steps done.
    pub step: usize,
    /// Epoch of the next micro-batch, from 0.
    pub epoch: usize,
    /// Next micro-batch of that epoch.
    pub micro_batch: usize,
    /// Best validation so far, by the metric `train.best`.
    #[serde(alias = "best_j")]
    pub best: Option<f64>,
    /// Step of the newest validation.
    pub validated: Option<usize>,
    /// Steps that were not taken because a loss or gradient was not a number.
    pub skipped: usize,
    /// How many of them were the last ones.
    pub skipped_in_row: usize,
    /// Rows of the data set that are learned from; 0 in checkpoints that do not say.
    #[serde(default)]
    pub rows: usize,
    /// Sums over the steps since the last line of the log.
    pub running: StepValues,
}

/// What a checkpoint keeps besides the position.
pub struct Content<'a, B: AutodiffBackend, M: AutodiffModule<B>> {
    /// What learns.
    pub module: &'a M,
    /// Its optimizer.
    pub optimizer: &'a GroupedAdamW<B, M>,
    /// The weights under upstream names, asked for when they are written.
    pub weights: &'a dyn Fn() -> State,
    /// The whole config, for the weights' metadata.
    pub config: &'a str,
}

/// The `checkpoints` folder of a run, with `best` and `last` beside it.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    run: PathBuf,
    keep: usize,
}

/// Ends of the names of folders that are being written, or removed.
const PARTIAL: &str = ".partial";
const OLD: &str = ".old";

const MODEL: &str = "model.safetensors";
const MODEL_RECORD: &str = "model.mpk";
const OPTIMIZER_RECORD: &str = "optimizer.mpk";
/// TOML, which brings floats back to the last bit.
const POSITION: &str = "position.toml";

impl Checkpoints {
    /// The checkpoints of the run in `run`; `keep` of them stay, and the best one.
    pub fn new(run: &Path, keep: usize) -> Self {
        Self {
            run: run.into(),
            keep,
        }
    }

    fn folder(&self) -> PathBuf {
        self.run.join("checkpoints")
    }

    /// Writes the checkpoint of `step`, points `last` (and `best`) to it, and removes those no longer kept.
    ///
    /// # Errors
    /// If the disk refuses; what was there before is then unharmed, and nothing half written stays.
    pub fn save<B: AutodiffBackend, M: AutodiffModule<B>>(
        &self,
        step: usize,
        content: &Content<'_, B, M>,
        position: &impl Serialize,
        best: bool,
    ) -> Result<PathBuf, CheckpointError> {
        let name = format!("step-{step:08}");
        let (target, aside) = (
            self.folder().join(&name),
            self.folder().join(format!(".{name}{PARTIAL}")),
        );
        if self.find("last").as_ref() == Some(&target) {
            // Nothing was learned since; only what points here changes.
            if best {
                self.point("best", &name)?;
                write_position(&target, position)?;
            }
            return Ok(target);
        }
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(io(&aside))?;
        }
        let write = || {
            fs::create_dir_all(&aside).map_err(io(&aside))?;
            write_safetensors(&aside.join(MODEL), &(content.weights)(), Some(content.config))?;
            record::<B, _>(content.module.clone().into_record(), &aside.join(MODEL_RECORD))?;
            record::<B, _>(content.optimizer.to_record(), &aside.join(OPTIMIZER_RECORD))?;
            write_position(&aside, position)
        };
        if let Err(error) = write() {
            // Whatever else is wrong, the room is needed.
            fs::remove_dir_all(&aside).ok();
            return Err(error);
        }
        if target.exists() {
            // A step that was resumed behind and reached again; the new files are complete already.
            remove(&target)?;
        }
        sync_folder(&aside);
        fs::rename(&aside, &target).map_err(io(&target))?;
        sync_folder(&self.folder());
        // `last` knows the best value, so `best` must not lag behind it.
        if best {
            self.point("best", &name)?;
        }
        self.point("last", &name)?;
        self.prune(&name)?;
        Ok(target)
    }

    /// Whether a checkpoint of this run was ever complete.
    pub fn begun(&self) -> bool {
        self.run.join("last").exists()
    }

    /// The folder that `pointer` (`last` or `best`) names, if there is one.
    pub fn find(&self, pointer: &str) -> Option<PathBuf> {
        let name = fs::read_to_string(self.run.join(pointer)).ok()?;
        let folder = self.folder().join(name.trim());
        folder.join(MODEL).is_file().then_some(folder)
    }

    /// The weights that evaluation uses: the best ones, or the last where none were validated.
    ///
    /// # Errors
    /// If the run has no checkpoint.
    pub fn weights(&self) -> Result<PathBuf, CheckpointError> {
        self.find("best")
            .or_else(|| self.find("last"))
            .map(|folder| folder.join(MODEL))
            .ok_or_else(|| CheckpointError::None {
                path: self.run.clone(),
            })
    }

    /// Learner, optimizer and position of the last checkpoint.
    ///
    /// # Errors
    /// As [`restore`](Self::restore).
    pub fn load<B: AutodiffBackend>(
        &self,
        config: &Config,
        learner: LoveLearner<B>,
        device: &B::Device,
    ) -> Result<(LoveLearner<B>, LoveOptimizer<B>, Position), CheckpointError> {
        let position = self.position()?;
        let trainable = learner.trainable;
        let (learner, optimizer) = self.restore(config, learner, device, |mut learner| {
            learner.model = learner.model.freeze(&trainable);
            let parts = parts(&learner.model, &config.train);
            let optimizer = GroupedAdamW::new(&config.train, &learner, &parts);
            (learner, optimizer)
        })?;
        Ok((learner, optimizer, position))
    }

    /// The last checkpoint's position.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn position<P: DeserializeOwned>(&self) -> Result<P, CheckpointError> {
        let path = self.last()?.join(POSITION);
        let text = fs::read_to_string(&path).map_err(|error| CheckpointError::Record {
            path: path.clone(),
            found: error.to_string(),
        })?;
        toml::from_str(&text).map_err(|error| CheckpointError::Record {
            path,
            found: error.message().into(),
        })
    }

    /// What learns, and its optimizer, of the last checkpoint. `optimizer` is called with the module that was read, whose
    /// parameters have the ids that the optimizer's moments are kept under.
    ///
    /// # Errors
    /// If there is none, it is of another model than `config`'s, or a file of it cannot be used.
    pub fn restore<B: AutodiffBackend, M: AutodiffModule<B>>(
        &self,
        config: &Config,
        module: M,
        device: &B::Device,
        optimizer: impl FnOnce(M) -> (M, GroupedAdamW<B, M>),
    ) -> Result<(M, GroupedAdamW<B, M>), CheckpointError> {
        let folder = self.last()?;
        check_config(&folder.join(MODEL), config)?;
        let module = module.load_record(restore::<B, _>(&folder.join(MODEL_RECORD), device)?);
        let (module, optimizer) = optimizer(module);
        let record = restore::<B, _>(&folder.join(OPTIMIZER_RECORD), device)?;
        Ok((module, optimizer.load_record(record)))
    }

    /// The last checkpoint's folder.
    fn last(&self) -> Result<PathBuf, CheckpointError> {
        self.find("last").ok_or_else(|| {
            let path = self.run.join("last");
            match fs::read_to_string(&path) {
                Ok(name) => CheckpointError::Record {
                    path,
                    found: format!("the name of a checkpoint that is not there: {}", name.trim()),
                },
                Err(_) => CheckpointError::None {
                    path: self.run.clone(),
                },
            }
        })
    }

    /// Removes what a killed run left half written or half removed.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn sweep(&self) -> Result<(), CheckpointError> {
        let folder = self.folder();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io(&folder)(error)),
        };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(".step-") && (name.ends_with(PARTIAL) || name.ends_with(OLD)) {
                fs::remove_dir_all(entry.path()).map_err(io(&entry.path()))?;
            }
        }
        Ok(())
    }

    fn point(&self, pointer: &str, name: &str) -> Result<(), CheckpointError> {
        let (path, aside) = (
            self.run.join(pointer),
            self.run.join(format!(".{pointer}.partial")),
        );
        write_durably(&aside, name.as_bytes())?;
        fs::rename(&aside, &path).map_err(io(&path))?;
        // Before anything that it no longer names is removed.
        sync_folder(&self.run);
        Ok(())
    }

    /// Removes all but the newest `keep` up to `newest`, and the best. Later ones are of a run that went on from a later
    /// step before: this one replaces them when it is there.
    fn prune(&self, newest: &str) -> Result<(), CheckpointError> {
        let folder = self.folder();
        let mut steps: Vec<_> = fs::read_dir(&folder)
            .map_err(io(&folder))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with("step-") && name.as_str() <= newest)
            .collect();
        steps.sort();
        let best = self.find("best");
        let old = steps.len().saturating_sub(self.keep);
        for path in steps[..old].iter().map(|name| folder.join(name)) {
            if best.as_ref() != Some(&path) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// Removes a checkpoint's folder. It is renamed first: a folder of a step's name is complete at every moment.
fn remove(folder: &Path) -> Result<(), CheckpointError> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let aside = folder.with_file_name(format!(".{name}{OLD}"));
    fs::rename(folder, &aside).map_err(io(folder))?;
    fs::remove_dir_all(&aside).map_err(io(&aside))
}

/// Whether a checkpoint belongs to the model of `config`, whose records would otherwise be loaded without a word, and
/// whether its position counts the same micro-batches.
fn check_config(path: &Path, config: &Config) -> Result<(), CheckpointError> {
    let file = WeightsFile::open(path)?;
    let Some(toml) = file.config() else { return Ok(()) };
    let source = Source::Embedded {
        path: path.into(),
        toml: toml.into(),
    };
    let of_file = resolve(&[source]).map_err(|error| CheckpointError::Record {
        path: path.into(),
        found: error.to_string(),
    })?;
    let keys = fixed_keys(&of_file, config);
    if keys.is_empty() {
        return Ok(());
    }
    Err(CheckpointError::Config {
        path: path.into(),
        keys,
    })
}

/// Keys in which two configs differ and must not, if a run of one is to go on as the other: those of the model, and those
/// that say which rows come in which order or what the best validation is best in.
pub fn fixed_keys(one: &Config, other: &Config) -> Vec<String> {
    let fixed = |config: &Config| {
        let config = config.as_trained();
        let mut fixed = Config::nano();
        fixed.model = config.model;
        fixed.data = config.data;
        fixed.train.seed = config.train.seed;
        fixed.train.batch_size = config.train.batch_size;
        fixed.train.best = config.train.best;
        fixed
    };
    differing_keys(&fixed(one), &fixed(other))
}

fn write_position(folder: &Path, position: &impl Serialize) -> Result<(), CheckpointError> {
    let (path, aside) = (folder.join(POSITION), folder.join(".position.partial"));
    let text = toml::to_string(position).expect("plain values");
    write_durably(&aside, text.as_bytes())?;
    fs::rename(&aside, &path).map_err(io(&path))
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CheckpointError + use<> {
    let path = path.to_path_buf();
    move |source| CheckpointError::Io { path, source }
}

fn write_durably(path: &Path, content: &[u8]) -> Result<(), CheckpointError> {
    let mut file = File::create(path).map_err(io(path))?;
    file.write_all(content).map_err(io(path))?;
    file.sync_all().map_err(io(path))
}

/// Makes a rename durable where the system lets folders be synced.
fn sync_folder(path: &Path) {
    if let Ok(folder) = File::open(path) {
        folder.sync_all().ok();
    }
}

fn record<B: Backend, R: Record<B>>(record: R, path: &Path) -> Result<(), CheckpointError> {
    Recorder::<B>::record(&DurableRecorder, record, path.to_path_buf()).map_err(|error| CheckpointError::Io {
        path: path.into(),
        source: std::io::Error::other(error.to_string()),
    })
}

fn restore<B: Backend, R: Record<B>>(path: &Path, device: &B::Device) -> Result<R, CheckpointError> {
    Recorder::<B>::load(&DurableRecorder, path.to_path_buf(), device).map_err(|error| {
        CheckpointError::Record {
            path: path.into(),
            found: error.to_string(),
        }
    })
}
