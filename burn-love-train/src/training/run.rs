//! A run from its config and data to its last checkpoint.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError},
};

use burn::{module::AutodiffModule, optim::AdamWConfig, prelude::*, tensor::backend::AutodiffBackend};
use burn_love::{love::Sam2Love, weights::WeightsError};
use burn_train::{
    Interrupter, Learner, SupervisedTraining, TrainingStrategy, logger::InMemoryMetricLogger,
    metric::LearningRateMetric,
};

use super::{
    CheckpointError, Checkpoints, Cursor, Gallery, Gauges, GroupedAdamW, Listener, LoveLearner, LoveLoader,
    Objective, Position, Quiet, Rows, RunLog, Shown, Start, StepStrategy, Stop, Surroundings, SyntheticNulls,
    TrainEvent, ValueMetric, WarmupDecayConfig, parts,
    weights::{load_love, load_parts},
};
use crate::{
    config::Config,
    data::{RefAvs, Split},
    features::{FeatureCache, ModelFeatures},
    inference::initialise,
    samples::{Preparer, SampleError},
    synth::SynthError,
};

/// Why a run cannot begin, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A row or one of its files cannot be used.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Weights cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file of the run cannot be written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The synthetic scenes cannot be used.
    #[error(transparent)]
    Scenes(#[from] SynthError),
    /// There is nothing to learn from.
    #[error("{path}: expected rows of the split {split}, found none", path = path.display())]
    NoRows {
        /// The data set.
        path: PathBuf,
        /// The split.
        split: Split,
    },
    /// The loss or the gradients are not numbers any more; a checkpoint was written.
    #[error(
        "diverged: expected finite losses and gradients, found {value} at step {step}, and {in_row} such steps in a row"
    )]
    Diverged {
        /// Optimizer steps done, with those that were skipped.
        step: usize,
        /// How many of the last ones were skipped.
        in_row: usize,
        /// The last one's loss, or its gradients' norm.
        value: f64,
    },
    /// Somebody asked for it; a checkpoint was written.
    #[error("interrupted")]
    Interrupted,
}

/// All that a training needs to know.
pub struct TrainRun {
    /// The resolved config.
    pub config: Config,
    /// The data set.
    pub data: RefAvs,
    /// Rows to leave out, as indices into [`RefAvs::rows`]: bad samples that the user chose to skip.
    pub skip: Vec<usize>,
    /// Where the run is written; exists and holds `config.toml` once it is ready.
    pub out: PathBuf,
    /// Whether to go on from the last checkpoint, or to begin where there is none yet.
    pub resume: bool,
    /// Where features of frozen parts are kept.
    pub features: Option<Arc<FeatureCache>>,
    /// Stops the run cleanly.
    pub interrupter: Interrupter,
    /// Hears what happens, besides the run's own log.
    pub listener: Listener,
    /// Whether to show burn-train's terminal dashboard; needs a terminal.
    pub dashboard: bool,
}

impl TrainRun {
    /// Trains to the last step and returns the model as evaluation uses it.
    ///
    /// # Errors
    /// If a file or weights cannot be used, the run diverges, or it is interrupted (behind a checkpoint).
    pub fn train<B: AutodiffBackend>(
        self,
        device: &B::Device,
    ) -> Result<Sam2Love<B::InnerBackend>, RunError> {
        self.train_when_ready::<B, _>(device, || Ok(()))
    }

    /// As [`train`](Self::train); `ready` is called once everything was read and before anything is written, so that it
    /// can make room in [`out`](Self::out).
    ///
    /// # Errors
    /// As [`train`](Self::train), and what `ready` returns.
    pub fn train_when_ready<B: AutodiffBackend, E: From<RunError>>(
        self,
        device: &B::Device,
        ready: impl FnOnce() -> Result<(), E>,
    ) -> Result<Sam2Love<B::InnerBackend>, E> {
        let config = &self.config;
        let preparer = Preparer::new(config).map_err(RunError::from)?;
        let (mut train, mut valid) = self.rows(&preparer)?;
        if train.rows.is_empty() {
            let path = self.data.root().into();
            let split = Split::Train;
            return Err(RunError::NoRows { path, split }.into());
        }
        let total_steps = config.train.total_steps(train.rows.len());
        if config.train.warmup_steps > total_steps {
            tracing::warn!(
                "the run has {total_steps} steps and ends before its warm-up of {} (train.warmup_steps)",
                config.train.warmup_steps
            );
        }
        let checkpoints = Checkpoints::new(&self.out, config.train.keep_checkpoints);
        let resumes = self.resume && checkpoints.begun();
        let learner = self.learner::<B>(device, !resumes)?;
        let (learner, optimizer, position) = if resumes {
            let (learner, optimizer, position) = checkpoints
                .load(config, learner, device)
                .map_err(RunError::from)?;
            if ![0, train.rows.len()].contains(&position.rows) {
                let error = CheckpointError::Rows {
                    path: self.data.root().into(),
                    expected: position.rows,
                    found: train.rows.len(),
                };
                return Err(RunError::from(error).into());
            }
            (learner, optimizer, position)
        } else {
            let parts = parts(&learner.model, &config.train);
            let optimizer = GroupedAdamW::new(&config.train, &learner, &parts);
            let position = Position {
                rows: train.rows.len(),
                ..Position::default()
            };
            (learner, optimizer, position)
        };
        if let Some(cache) = &self.features {
            let (model, trainable) = (learner.model.valid(), &config.train.trainable);
            let features = ModelFeatures::new(cache.clone(), &model, trainable, device);
            train.features = Some(features.clone());
            valid.features = Some(features);
        }
        let gallery =
            Gallery::new(&valid, config.train.overlays, &self.out, device).map_err(RunError::from)?;
        if self.resume {
            // Before anything is written: a full disk may need the room.
            checkpoints.sweep().map_err(RunError::from)?;
        }
        ready()?;
        let log =
            RunLog::open(&self.out, &position).map_err(|(path, source)| RunError::Io { path, source })?;
        let listener = self.listener.clone();
        let listener: Listener = Arc::new(move |event: &TrainEvent| {
            if let Err(error) = log.write(event) {
                tracing::warn!("the run's log cannot be written: {error}");
            }
            listener(event);
        });
        listener(&TrainEvent::Start {
            step: position.step,
            total: total_steps,
            rows: train.rows.len(),
            valid_rows: valid.rows.len(),
            parameters: trainable_parameters(&learner.model),
            all_parameters: learner.model.num_params(),
        });
        let (train_cursor, valid_cursor) = (Arc::new(Cursor::default()), Arc::new(Cursor::default()));
        let start = Start {
            optimizer,
            position,
            micro_batches: train.micro_batches(),
            total_steps,
        };
        let train = LoveLoader::<B>::new(Arc::new(train), train_cursor.clone(), device.clone());
        let valid = LoveLoader::<B::InnerBackend>::new(Arc::new(valid), valid_cursor.clone(), device.clone());
        let gauges = Gauges::default();
        let surroundings = Surroundings {
            config_toml: config.to_toml(),
            device: device.clone(),
            checkpoints,
            train_cursor,
            valid_cursor,
            features: self.features.clone(),
            gauges: gauges.clone(),
            gallery,
            listener,
        };
        let (strategy, outcome) = StepStrategy::new(config.train.clone(), surroundings, start);
        let mut training = SupervisedTraining::new(&self.out, Arc::new(train), Arc::new(valid))
            .metrics((
                ValueMetric::loss(),
                ValueMetric::bce(),
                ValueMetric::dice(),
                ValueMetric::object(),
                ValueMetric::j(),
                ValueMetric::f(),
            ))
            .metric_train_numeric(LearningRateMetric::new())
            .metric_train_numeric(ValueMetric::norm(&gauges))
            .metric_train_numeric(ValueMetric::skipped(&gauges))
            .metric_train_numeric(ValueMetric::rows_per_second(&gauges))
            .metric_train_numeric(ValueMetric::memory(&gauges))
            .with_metric_logger(InMemoryMetricLogger::new())
            .with_application_logger(None)
            .with_interrupter(self.interrupter.clone())
            .num_epochs(config.train.epochs)
            .with_training_strategy(TrainingStrategy::Custom(Arc::new(strategy)));
        if !self.dashboard {
            training = training.renderer(Quiet);
        }
        let schedule = WarmupDecayConfig::new(&config.train, total_steps).init();
        // The strategy steps its own optimizer; burn-train wants one with the learner.
        let idle = AdamWConfig::new().init();
        let result = training.launch(Learner::new(learner, idle, schedule));
        match outcome.lock().unwrap_or_else(PoisonError::into_inner).take() {
            None => Ok(result.model.model),
            Some(Stop::Interrupted) => Err(RunError::Interrupted.into()),
            Some(Stop::Sample(error)) => Err(RunError::from(error).into()),
            Some(Stop::Checkpoint(error)) => Err(RunError::from(error).into()),
            Some(Stop::Diverged { step, in_row, value }) => {
                Err(RunError::Diverged { step, in_row, value }.into())
            }
        }
    }

    /// Training and validation rows.
    fn rows(&self, preparer: &Preparer) -> Result<(Rows, Rows), RunError> {
        let config = &self.config;
        let masks = 1 + config.train.tracked_frames;
        let glance = Shown {
            masks: 1,
            frames: 1,
            patches: config.train.glance_patches,
        };
        let rows = |split, shuffle: Option<u64>| {
            let all = self.data.rows().iter().enumerate();
            let kept = all.filter(|(index, row)| row.split == split && !self.skip.contains(index));
            let repeated = kept.flat_map(|(_, row)| {
                let times = config.data.times(row);
                // Validation counts each row once.
                std::iter::repeat_n(row, if shuffle.is_some() { times } else { times.min(1) })
            });
            Rows {
                data: self.data.clone(),
                rows: repeated.cloned().collect(),
                preparer: preparer.clone(),
                batch_size: config.train.batch_size,
                shown: match shuffle {
                    Some(_) => Shown {
                        masks,
                        frames: config.train.fusion_frames,
                        patches: config.train.fusion_patches,
                    },
                    None => Shown::all(masks),
                },
                first: match shuffle {
                    Some(_) => (config.train.glance_steps * config.train.accumulation, glance),
                    None => (0, glance),
                },
                nulls: shuffle.map_or_else(SyntheticNulls::default, |_| SyntheticNulls::new(&config.train)),
                shuffle,
                features: None,
            }
        };
        Ok((
            rows(Split::Train, Some(config.train.seed)),
            rows(Split::Val, None),
        ))
    }

    /// A model with fresh weights, and those of the files that the config names where the run `begins`.
    fn learner<B: AutodiffBackend>(
        &self,
        device: &B::Device,
        begins: bool,
    ) -> Result<LoveLearner<B>, RunError> {
        let config = &self.config;
        B::seed(device, config.train.seed);
        let mut model: Sam2Love<B> = config.model.init(device);
        // Parameters are made when first used; their order is the module's, whatever uses them first.
        initialise(&model);
        if begins {
            model = load_parts(model, config)?;
        }
        let path = &config.weights.love;
        if begins && !path.as_os_str().is_empty() {
            model = load_love(model, config, path)?;
        }
        let trainable = config.train.trainable;
        Ok(LoveLearner {
            model: model.freeze(&trainable),
            objective: Objective::new(&config.train),
            trainable,
            threshold_logit: logit(config.eval.threshold),
        })
    }
}

/// Parameters of a config's model, and how many of them learn.
pub fn parameter_counts<B: AutodiffBackend>(config: &Config, device: &B::Device) -> (usize, usize) {
    let model = config.model.init::<B>(device).freeze(&config.train.trainable);
    (model.num_params(), trainable_parameters(&model))
}

/// Values of a module that learn.
pub(crate) fn trainable_parameters<B: AutodiffBackend, M: Module<B>>(model: &M) -> usize {
    struct Count(usize);
    impl<B: Backend> burn::module::ModuleVisitor<B> for Count {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<B, D>>) {
            if param.is_require_grad() {
                self.0 += param.lazy_shape().num_elements();
            }
        }
    }
    let mut count = Count(0);
    model.visit(&mut count);
    count.0
}

fn logit(probability: f64) -> f64 {
    (probability / (1.0 - probability)).ln()
}
