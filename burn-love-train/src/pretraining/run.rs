//! A stage from its data to its weights: the loop that all stages share.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, sync_channel},
    time::{Duration, Instant},
};

use burn::{
    module::AutodiffModule,
    optim::{GradientsAccumulator, GradientsParams},
    prelude::*,
    tensor::backend::AutodiffBackend,
};
use burn_love::weights::write_safetensors;
use burn_train::Interrupter;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{
    Stage,
    audio::AudioTask,
    sam2::Sam2Task,
    scenes::Scenes,
    task::{Draw, Gate, Task},
    text::TextTask,
    vision::VisionTask,
};
use crate::{
    config::Config,
    data::Split,
    inference::initialise,
    threads::receive,
    training::{
        CheckpointError, Checkpoints, Content, GOLDEN, GroupedAdamW, Listener, Position, RunError, RunLog,
        TrainEvent, Values, WarmupDecay, WarmupDecayConfig, average_and_clip, memory, trainable_parameters,
    },
};

/// Batches prepared ahead.
const AHEAD: usize = 2;

/// Batches of a validation: always the same.
const VALIDATION_BATCHES: u64 = 8;

/// Where a stage stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PretrainPosition {
    /// The stage.
    pub stage: Stage,
    /// Optimizer steps done.
    pub step: usize,
    /// Lowest loss of a validation so far.
    pub best: Option<f64>,
    /// Step of the newest validation.
    pub validated: Option<usize>,
    /// Steps that were not taken because a loss or gradient was not a number.
    pub skipped: usize,
    /// How many of them were the last ones.
    pub skipped_in_row: usize,
    /// Sums over the steps since the last line of the log.
    pub running: Values,
}

/// All that a stage needs to know.
pub struct PretrainRun {
    /// The stage.
    pub stage: Stage,
    /// The resolved config: sizes of the model, `train`, and `weights` to begin with.
    pub config: Config,
    /// The data set's directory.
    pub data: PathBuf,
    /// Where the run is written; exists and holds `config.toml` once it is ready.
    pub out: PathBuf,
    /// Whether to go on from the last checkpoint, or to begin where there is none yet.
    pub resume: bool,
    /// Stops the run cleanly.
    pub interrupter: Interrupter,
    /// Hears what happens, besides the run's own log.
    pub listener: Listener,
}

/// What a stage made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pretrained {
    /// The stage.
    pub stage: Stage,
    /// Optimizer steps.
    pub steps: usize,
    /// The file of weights.
    pub weights: PathBuf,
    /// What was measured at the end.
    pub gates: Vec<Gate>,
}

impl PretrainRun {
    /// Trains to the last step, measures, and writes the weights. `ready` is called once everything was read and before
    /// anything is written, so that it can make room in [`out`](Self::out).
    ///
    /// # Errors
    /// If a file or weights cannot be used, the run diverges, or it is interrupted (behind a checkpoint); and what `ready`
    /// returns.
    pub fn pretrain<B: AutodiffBackend, E: From<RunError>>(
        self,
        device: &B::Device,
        ready: impl FnOnce() -> Result<(), E>,
    ) -> Result<Pretrained, E> {
        let config = &self.config;
        let scenes = || Scenes::open(&self.data);
        match self.stage {
            Stage::Audio => self.run::<B, _, E>(&AudioTask::new(config, scenes()?)?, device, ready),
            Stage::Vision => self.run::<B, _, E>(&VisionTask::new(config, scenes()?)?, device, ready),
            Stage::Text => self.run::<B, _, E>(&TextTask::new(config, &self.data)?, device, ready),
            Stage::Sam2 => self.run::<B, _, E>(&Sam2Task::new(config, scenes()?)?, device, ready),
        }
    }

    fn run<B, T, E>(
        &self,
        task: &T,
        device: &B::Device,
        ready: impl FnOnce() -> Result<(), E>,
    ) -> Result<Pretrained, E>
    where
        B: AutodiffBackend,
        T: Task,
        T::Module<B>: AutodiffModule<B, InnerModule = T::Module<B::InnerBackend>>,
        E: From<RunError>,
    {
        let config = &self.config.train;
        let [rows, valid_rows] = task.samples();
        let total = config.total_steps(rows);
        let checkpoints = Checkpoints::new(&self.out, config.keep_checkpoints);
        let resumes = self.resume && checkpoints.begun();
        B::seed(device, config.seed);
        let module: T::Module<B> = task.init(device, !resumes).map_err(RunError::from)?;
        // Parameters are made when first used; their order is the module's, whatever uses them first.
        initialise(&module);
        let (module, optimizer, position) = if resumes {
            self.restore(&checkpoints, module, device)
                .map_err(RunError::from)?
        } else {
            let position = PretrainPosition {
                stage: self.stage,
                step: 0,
                best: None,
                validated: None,
                skipped: 0,
                skipped_in_row: 0,
                running: Values::default(),
            };
            let optimizer = GroupedAdamW::new(config, &module, &[]);
            (module, optimizer, position)
        };
        if self.resume {
            // Before anything is written: a full disk may need the room.
            checkpoints.sweep().map_err(RunError::from)?;
        }
        ready()?;
        let from = Position {
            step: position.step,
            validated: position.validated,
            ..Position::default()
        };
        let log = RunLog::open(&self.out, &from).map_err(|(path, source)| RunError::Io { path, source })?;
        let tell = |event: TrainEvent| {
            if let Err(error) = log.write(&event) {
                tracing::warn!("the run's log cannot be written: {error}");
            }
            (self.listener)(&event);
        };
        tell(TrainEvent::Start {
            step: position.step,
            total,
            rows,
            valid_rows,
            parameters: trainable_parameters(&module),
            all_parameters: module.num_params(),
        });
        let mut training = Loop {
            run: self,
            task,
            device,
            checkpoints,
            config_toml: self.config.to_toml(),
            module,
            optimizer,
            schedule: WarmupDecayConfig::new(config, total).init(),
            began: (Instant::now(), position.step),
            stretch: (Instant::now(), position.step),
            saved: resumes.then_some(position.step),
            position,
            total,
            tell: &tell,
        };
        training.run()?;
        Ok(training.finish()?)
    }

    /// What the last checkpoint holds, if it is one of this stage.
    fn restore<B: AutodiffBackend, M: AutodiffModule<B>>(
        &self,
        checkpoints: &Checkpoints,
        module: M,
        device: &B::Device,
    ) -> Result<(M, GroupedAdamW<B, M>, PretrainPosition), CheckpointError> {
        let position: PretrainPosition = checkpoints.position()?;
        if position.stage != self.stage {
            return Err(CheckpointError::Record {
                path: self.out.clone(),
                found: format!("one of `pretrain {}`", position.stage),
            });
        }
        let optimizer = |module: M| {
            let optimizer = GroupedAdamW::new(&self.config.train, &module, &[]);
            (module, optimizer)
        };
        let (module, optimizer) = checkpoints.restore(&self.config, module, device, optimizer)?;
        Ok((module, optimizer, position))
    }

    /// The generator of a batch: a function of seed, purpose and number alone.
    fn rng(&self, split: Split, number: u64) -> ChaCha8Rng {
        // Held-out batches do not depend on the seed, so that runs can be compared.
        let seed = if split == Split::Train {
            self.config.train.seed
        } else {
            GOLDEN
        };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number + 1);
        rng
    }
}

/// The state of the loop.
struct Loop<'a, B: AutodiffBackend, T: Task>
where
    T::Module<B>: AutodiffModule<B, InnerModule = T::Module<B::InnerBackend>>,
{
    run: &'a PretrainRun,
    task: &'a T,
    device: &'a B::Device,
    checkpoints: Checkpoints,
    config_toml: String,
    module: T::Module<B>,
    optimizer: GroupedAdamW<B, T::Module<B>>,
    schedule: WarmupDecay,
    position: PretrainPosition,
    total: usize,
    /// Start of the run, and steps done then.
    began: (Instant, usize),
    /// Start of what the next line of the log tells of, and steps done then.
    stretch: (Instant, usize),
    /// Step of the newest checkpoint.
    saved: Option<usize>,
    tell: &'a dyn Fn(TrainEvent),
}

impl<B: AutodiffBackend, T: Task> Loop<'_, B, T>
where
    T::Module<B>: AutodiffModule<B, InnerModule = T::Module<B::InnerBackend>>,
{
    fn run(&mut self) -> Result<(), RunError> {
        let (run, task, total) = (self.run, self.task, self.total);
        let accumulation = run.config.train.accumulation;
        let first = self.position.step * accumulation;
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(AHEAD);
            // Samples are read and prepared on a thread of its own; tensors are made where they are used.
            scope.spawn(move || {
                for number in first..total * accumulation {
                    let draw = Draw {
                        split: Split::Train,
                        progress: (number / accumulation) as f64 / total as f64,
                    };
                    let batch = task.batch(draw, &mut run.rng(Split::Train, number as u64));
                    let failed = batch.is_err();
                    if sender.send(batch).is_err() || failed {
                        break;
                    }
                }
            });
            self.steps(&receiver)
        })
    }

    fn steps(&mut self, batches: &Receiver<Result<T::Batch, RunError>>) -> Result<(), RunError> {
        let config = &self.run.config.train;
        let (validate_every, checkpoint_every) = (config.validate_every, config.checkpoint_every);
        let mut accumulator = GradientsAccumulator::new();
        self.validate_if(validate_every)?;
        while self.position.step < self.total {
            // Dropout depends on seed and step, not on where a run was resumed.
            B::seed(
                self.device,
                config.seed ^ (self.position.step as u64).wrapping_mul(GOLDEN),
            );
            let (mut values, mut spoiled) = (Values::default(), None);
            for _ in 0..config.accumulation {
                let batch = match receive(batches) {
                    Some(Ok(batch)) => batch,
                    Some(Err(error)) => return self.lacks(error),
                    None => unreachable!("the loader ends behind an error or the last batch"),
                };
                let scored = self.task.score(&self.module, batch, self.device);
                let loss = scored.values.get("loss").unwrap_or(f64::NAN);
                if loss.is_finite() {
                    let grads = GradientsParams::from_grads(scored.loss.backward(), &self.module);
                    accumulator.accumulate(&self.module, grads);
                } else {
                    spoiled = Some(loss);
                }
                values.add(&scored.values);
            }
            self.optimize(accumulator.grads(), values, spoiled)?;
            self.validate_if(validate_every)?;
            if checkpoint_every > 0 && self.position.step.is_multiple_of(checkpoint_every) {
                self.save(false)?;
            }
            if self.run.interrupter.should_stop() && self.position.step < self.total {
                return self.interrupted();
            }
        }
        self.validate_if(self.total)?;
        self.save(false)
    }

    /// Takes a step, or skips it where loss or gradient are not numbers. A skipped step counts.
    fn optimize(
        &mut self,
        mut grads: GradientsParams,
        values: Values,
        spoiled: Option<f64>,
    ) -> Result<(), RunError> {
        let config = &self.run.config.train;
        let norm = average_and_clip::<B, _>(&self.module, &mut grads, config.accumulation, config.clip_norm);
        let lr = self.schedule.at(self.position.step);
        self.position.step += 1;
        let step = self.position.step;
        let bad = spoiled.or((!norm.is_finite()).then_some(norm));
        if let Some(value) = bad {
            self.position.skipped += 1;
            self.position.skipped_in_row += 1;
            (self.tell)(TrainEvent::Skipped {
                step,
                epoch: 0,
                value,
                in_row: self.position.skipped_in_row,
                limit: config.max_skipped_in_row,
                total: self.position.skipped,
            });
            if self.position.skipped_in_row >= config.max_skipped_in_row {
                let in_row = self.position.skipped_in_row;
                self.save(false)?;
                return Err(RunError::Diverged { step, in_row, value });
            }
        } else {
            self.position.skipped_in_row = 0;
            self.module = self.optimizer.step(lr, self.module.clone(), grads);
            let running = &mut self.position.running;
            running.add(&values);
            running.put("gradient_norm", norm, 1.0);
        }
        if (step.is_multiple_of(config.log_every) || step == self.total) && !self.position.running.is_empty()
        {
            self.log(lr);
        }
        Ok(())
    }

    /// Tells of the steps since the last line.
    fn log(&mut self, lr: f64) {
        let (now, step) = (Instant::now(), self.position.step);
        let per_step = |(since, steps): (Instant, usize)| {
            now.duration_since(since).as_secs_f64() / (step - steps).max(1) as f64
        };
        let mut values = std::mem::take(&mut self.position.running);
        values.put("lr", lr, 1.0);
        values.put("seconds_per_step", per_step(self.stretch), 1.0);
        values.put("memory_bytes", memory() as f64, 1.0);
        let left = (self.total - step) as f64;
        (self.tell)(TrainEvent::Measured {
            step,
            total: self.total,
            split: "train",
            values,
            eta: Some(Duration::from_secs_f64(per_step(self.began) * left)),
        });
        self.stretch = (now, step);
    }

    /// Validates where `every` steps are done and it has not been; the best module so far is saved.
    fn validate_if(&mut self, every: usize) -> Result<(), RunError> {
        let step = self.position.step;
        if every == 0 || step == 0 || !step.is_multiple_of(every) || self.position.validated == Some(step) {
            return Ok(());
        }
        let module = self.module.valid();
        let mut values = Values::default();
        for number in 0..VALIDATION_BATCHES {
            if self.run.interrupter.should_stop() {
                // Whoever resumes the run validates this step from the start.
                return self.interrupted();
            }
            let draw = Draw {
                split: Split::Val,
                progress: step as f64 / self.total as f64,
            };
            let batch = match self.task.batch(draw, &mut self.run.rng(Split::Val, number)) {
                Ok(batch) => batch,
                Err(error) => return self.lacks(error),
            };
            values.add(&self.task.score(&module, batch, self.device).values);
        }
        self.position.validated = Some(step);
        let loss = values.get("loss").unwrap_or(f64::INFINITY);
        let best = self.position.best.is_none_or(|best| loss < best);
        if best {
            self.position.best = Some(loss);
        }
        (self.tell)(TrainEvent::Measured {
            step,
            total: self.total,
            split: "valid",
            values,
            eta: None,
        });
        if best { self.save(true) } else { Ok(()) }
    }

    /// Stops behind a checkpoint, because somebody asked for it.
    fn interrupted(&mut self) -> Result<(), RunError> {
        self.save(false)?;
        let step = self.position.step;
        (self.tell)(TrainEvent::Interrupted { step });
        Err(RunError::Interrupted)
    }

    /// Stops because a sample cannot be read. What was learned since the last checkpoint is not lost.
    fn lacks(&mut self, error: RunError) -> Result<(), RunError> {
        if self.position.step > 0 {
            self.save(false)?;
        }
        Err(error)
    }

    fn save(&mut self, best: bool) -> Result<(), RunError> {
        let step = self.position.step;
        let weights = || self.task.state(&self.module.valid());
        let content = Content {
            module: &self.module,
            optimizer: &self.optimizer,
            weights: &weights,
            config: &self.config_toml,
        };
        let path = self.checkpoints.save(step, &content, &self.position, best)?;
        if self.saved.replace(step) != Some(step) {
            (self.tell)(TrainEvent::Checkpoint { step, path });
        }
        Ok(())
    }

    /// Measures what was learned, and writes the weights.
    fn finish(&self) -> Result<Pretrained, RunError> {
        let module = self.module.valid();
        let gates = self.task.gates(&module, self.device)?;
        let weights = self.run.out.join(self.run.stage.file_name());
        write_safetensors(&weights, &self.task.state(&module), Some(&self.config_toml))?;
        let made = Pretrained {
            stage: self.run.stage,
            steps: self.position.step,
            weights,
            gates,
        };
        let path = self.run.out.join("gates.json");
        let json = serde_json::to_string_pretty(&made).expect("plain values");
        std::fs::write(&path, json + "\n").map_err(|source| RunError::Io { path, source })?;
        Ok(made)
    }
}
