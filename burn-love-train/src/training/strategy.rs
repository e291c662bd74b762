//! The training loop: burn-train's loaders, events and renderer, our optimizer steps and checkpoints.
//!
//! Micro-batches form one stream over all epochs; every optimizer step averages `accumulation` of them (the last
//! step of a run may have fewer), so a checkpoint between two steps names an exact position. `Learner` carries the
//! model into the loop; optimizer and schedule belong to the strategy, because burn-train 0.21 offers no way to
//! save them at a step.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use burn::{
    data::dataloader::Progress,
    module::AutodiffModule,
    optim::{AdamW, GradientsAccumulator, GradientsParams, adaptor::OptimizerAdaptor},
    tensor::backend::AutodiffBackend,
};
use burn_love::weights::{keys, state_of};
use burn_train::{
    EventProcessorTraining, InferenceStep, Interrupter, Learner, LearnerEvent, LearningComponentsMarker,
    SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader, TrainStep, TrainingComponents,
    TrainingItem, ValidLoader,
};

use super::{
    Checkpoints, Content, Cursor, Gallery, Gauge, Gauges, Listener, LoveLearner, LoveOptimizer, Position,
    Start, StepValues, Stop, Surroundings, TrainEvent, WarmupDecay, WarmupDecayConfig, average_and_clip,
};
use crate::{config::TrainConfig, features::FeatureCache, samples::SampleError};

/// burn-train's components of this training.
pub type LoveComponents<B> =
    LearningComponentsMarker<B, WarmupDecay, LoveLearner<B>, OptimizerAdaptor<AdamW, LoveLearner<B>, B>>;

/// Trains on one device, step by step.
pub struct StepStrategy<B: AutodiffBackend> {
    config: TrainConfig,
    /// The whole config, for the weights' metadata.
    config_toml: String,
    device: B::Device,
    checkpoints: Checkpoints,
    /// Positions of the training and the validation loader.
    cursors: [Arc<Cursor>; 2],
    features: Option<Arc<FeatureCache>>,
    gauges: Gauges,
    gallery: Gallery<B::InnerBackend>,
    listener: Listener,
    start: Mutex<Option<Start<B>>>,
    outcome: Arc<Mutex<Option<Stop>>>,
}

impl<B: AutodiffBackend> StepStrategy<B> {
    /// A strategy that goes on from `start`; the outcome is read from the second value once it has run.
    pub fn new(
        config: TrainConfig,
        surroundings: Surroundings<B>,
        start: Start<B>,
    ) -> (Self, Arc<Mutex<Option<Stop>>>) {
        let outcome = Arc::new(Mutex::new(None));
        let Surroundings {
            config_toml,
            device,
            checkpoints,
            train_cursor,
            valid_cursor,
            features,
            gauges,
            gallery,
            listener,
        } = surroundings;
        let strategy = Self {
            config,
            config_toml,
            device,
            checkpoints,
            cursors: [train_cursor, valid_cursor],
            features,
            gauges,
            gallery,
            listener,
            start: Mutex::new(Some(start)),
            outcome: outcome.clone(),
        };
        (strategy, outcome)
    }
}

/// 2⁶⁴ divided by the golden ratio: spreads consecutive steps over all seeds.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// What the micro-batches of one step gave.
struct Window {
    /// Their summed gradients.
    grads: GradientsParams,
    /// Their values.
    values: Vec<StepValues>,
    /// A loss among theirs that is not a number.
    spoiled: Option<f64>,
}

/// The state of the loop.
struct Loop<'a, B: AutodiffBackend> {
    strategy: &'a StepStrategy<B>,
    learner: LoveLearner<B>,
    optimizer: LoveOptimizer<B>,
    schedule: WarmupDecay,
    position: Position,
    total_steps: usize,
    micro_batches: usize,
    processor: SupervisedTrainingEventProcessor<LoveComponents<B>>,
    interrupter: Interrupter,
    /// Position behind the last optimizer step: what a checkpoint resumes at.
    boundary: Position,
    /// Step of the newest checkpoint of this run.
    saved: Option<usize>,
    /// Rows since the last line of the log, in this process.
    stretch_rows: usize,
    /// Start of the run, and steps done then.
    began: (Instant, usize),
    /// Norm of the gradients of the last step that was taken.
    norm: f64,
    /// Start of the current stretch of the log, and steps done then.
    stretch: (Instant, usize),
    /// End of the last step.
    stepped: Instant,
}

impl<B: AutodiffBackend> SupervisedLearningStrategy<LoveComponents<B>> for StepStrategy<B> {
    fn fit(
        &self,
        components: TrainingComponents<LoveComponents<B>>,
        learner: Learner<LoveComponents<B>>,
        train: TrainLoader<LoveComponents<B>>,
        valid: ValidLoader<LoveComponents<B>>,
        _starting_epoch: usize,
    ) -> (
        LoveLearner<B>,
        SupervisedTrainingEventProcessor<LoveComponents<B>>,
    ) {
        let start = self.start.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Start {
            optimizer,
            position,
            micro_batches,
            total_steps,
        } = start.expect("a strategy runs once: its optimizer moves into the loop");
        let mut position = position;
        if position.skipped_in_row >= self.config.max_skipped_in_row {
            // It stopped for that; whoever resumes it wants to go on.
            position.skipped_in_row = 0;
        }
        let now = Instant::now();
        let schedule = WarmupDecayConfig::new(&self.config, total_steps).at(position.step);
        let mut state = Loop {
            strategy: self,
            learner: learner.model(),
            optimizer,
            schedule,
            position,
            total_steps,
            micro_batches,
            processor: components.event_processor,
            interrupter: components.interrupter,
            boundary: position,
            norm: 0.0,
            saved: None,
            stretch_rows: 0,
            began: (now, position.step),
            stretch: (now, position.step),
            stepped: now,
        };
        drop(learner);
        let stop = state
            .run(train.to_device(&self.device), valid.to_device(&self.device))
            .err();
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = stop;
        (state.learner, state.processor)
    }
}

impl<B: AutodiffBackend> Loop<'_, B> {
    fn run(
        &mut self,
        train: TrainLoader<LoveComponents<B>>,
        valid: ValidLoader<LoveComponents<B>>,
    ) -> Result<(), Stop> {
        let mut accumulator = GradientsAccumulator::new();
        let mut values = Vec::new();
        // A loss of the window that is not a number.
        let mut spoiled = None;
        while self.position.step < self.total_steps {
            let cursor = &self.strategy.cursors[0];
            cursor.seek(self.position.epoch, self.position.micro_batch);
            let mut batches = train.iter();
            while self.position.step < self.total_steps
                && let Some(batch) = batches.next()
            {
                if values.is_empty() {
                    // Dropout depends on seed and step, not on where a run was resumed.
                    let step = self.position.step as u64;
                    B::seed(
                        &self.strategy.device,
                        self.strategy.config.seed ^ step.wrapping_mul(GOLDEN),
                    );
                }
                let output = TrainStep::step(&self.learner, batch);
                if output.item.loss.is_finite() {
                    accumulator.accumulate(&self.learner, output.grads);
                    self.show(output.item, batches.progress());
                } else {
                    spoiled = Some(output.item.loss);
                }
                values.push(output.item);
                self.position.micro_batch += 1;
                if values.len() == self.strategy.config.accumulation || self.ends_the_run() {
                    let window = Window {
                        grads: accumulator.grads(),
                        values: std::mem::take(&mut values),
                        spoiled: spoiled.take(),
                    };
                    self.optimize(window)?;
                    self.after_step(&valid)?;
                }
            }
            if let Some(error) = self.strategy.cursors[0].take_error() {
                return self.lacks(error);
            }
            let epoch = self.position.epoch;
            self.processor.process_train(LearnerEvent::EndEpoch(epoch + 1));
            if let Some(features) = &self.strategy.features {
                (self.strategy.listener)(&TrainEvent::Features(features.report()));
            }
            if self.position.micro_batch >= self.micro_batches {
                self.position.epoch += 1;
                self.position.micro_batch = 0;
                if self.strategy.config.validate_every == 0
                    && self.position.validated != Some(self.position.step)
                {
                    self.validate(&valid, epoch)?;
                }
            }
        }
        if self.position.validated != Some(self.boundary.step) {
            self.validate(&valid, self.boundary.epoch)?;
        }
        if self.saved != Some(self.boundary.step) {
            self.save(false)?;
        }
        Ok(())
    }

    /// Whether no micro-batch follows: the last step takes what there is.
    fn ends_the_run(&self) -> bool {
        let config = &self.strategy.config;
        config.steps == 0
            && self.position.epoch + 1 == config.epochs
            && self.position.micro_batch == self.micro_batches
    }

    /// Tells burn-train of a micro-batch.
    fn show(&mut self, values: StepValues, progress: Progress) {
        let item = TrainingItem::new(
            values,
            self.of_this_run(progress),
            self.epochs(self.position.epoch),
            Some(self.position.step + 1),
            Some(self.schedule.at(self.position.step)),
        );
        self.processor.process_train(LearnerEvent::ProcessedItem(item));
    }

    /// Progress through an epoch of which the run may take a part only.
    fn of_this_run(&self, progress: Progress) -> Progress {
        let all = self.strategy.config.accumulation * self.total_steps;
        let taken = all
            .saturating_sub(self.position.epoch * self.micro_batches)
            .min(self.micro_batches);
        let share = progress.items_total * taken;
        Progress {
            items_total: share
                .div_ceil(self.micro_batches.max(1))
                .max(progress.items_processed),
            ..progress
        }
    }

    fn epochs(&self, epoch: usize) -> Progress {
        let steps = self.strategy.config.accumulation * self.total_steps;
        Progress {
            items_processed: epoch + 1,
            items_total: steps.div_ceil(self.micro_batches.max(1)),
        }
    }

    /// Takes a step, or skips it where loss or gradient are not numbers. A skipped step counts: the run stays as long
    /// as it was planned, and so does the schedule.
    fn optimize(&mut self, window: Window) -> Result<(), Stop> {
        let config = &self.strategy.config;
        let Window {
            mut grads,
            values,
            spoiled,
        } = window;
        let norm = average_and_clip::<B, _>(&self.learner, &mut grads, values.len(), config.clip_norm);
        let lr = burn::lr_scheduler::LrScheduler::step(&mut self.schedule);
        self.position.step += 1;
        let step = self.position.step;
        let bad = spoiled.or((!norm.is_finite()).then_some(norm));
        if let Some(value) = bad {
            self.skip(value);
        } else {
            self.position.skipped_in_row = 0;
            self.norm = norm;
            values.iter().for_each(|values| self.position.running.add(values));
            self.learner = self.optimizer.step(lr, self.learner.clone(), grads);
        }
        let rows = values.iter().map(|values| values.rows).sum();
        self.gauge(rows);
        self.stretch_rows += rows;
        // Of skipped steps alone there is nothing to tell.
        if (step.is_multiple_of(config.log_every) || step == self.total_steps)
            && self.position.running.rows > 0
        {
            self.log(lr);
        }
        self.boundary = self.position;
        match bad {
            Some(value) if self.position.skipped_in_row >= config.max_skipped_in_row => {
                self.save(false)?;
                Err(Stop::Diverged {
                    step,
                    in_row: self.position.skipped_in_row,
                    value,
                })
            }
            _ => Ok(()),
        }
    }

    /// Counts a step that is not taken, and tells of it.
    fn skip(&mut self, value: f64) {
        self.position.skipped += 1;
        self.position.skipped_in_row += 1;
        (self.strategy.listener)(&TrainEvent::Skipped {
            step: self.position.step,
            epoch: self.position.epoch,
            value,
            in_row: self.position.skipped_in_row,
            limit: self.strategy.config.max_skipped_in_row,
            total: self.position.skipped,
        });
    }

    /// Tells the dashboard of a step.
    fn gauge(&mut self, rows: usize) {
        let now = Instant::now();
        let seconds = now.duration_since(self.stepped).as_secs_f64();
        self.stepped = now;
        self.strategy.gauges.set(Gauge {
            norm: self.norm,
            skipped: self.position.skipped,
            rows_per_second: rows as f64 / seconds.max(f64::MIN_POSITIVE),
            memory: memory(),
        });
    }

    /// Tells of the steps since the last line.
    fn log(&mut self, lr: f64) {
        let (now, step) = (Instant::now(), self.position.step);
        let per_step = |(since, steps): (Instant, usize)| {
            now.duration_since(since).as_secs_f64() / (step - steps).max(1) as f64
        };
        let left = (self.total_steps - step) as f64;
        let sum = std::mem::take(&mut self.position.running);
        let (seconds, steps) = (per_step(self.stretch), step - self.stretch.1);
        (self.strategy.listener)(&TrainEvent::Step {
            step,
            total: self.total_steps,
            epoch: self.position.epoch,
            lr,
            norm: self.norm,
            values: sum.mean(),
            seconds,
            rows_per_second: std::mem::take(&mut self.stretch_rows) as f64
                / (seconds * steps.max(1) as f64).max(f64::MIN_POSITIVE),
            memory: memory(),
            eta: Duration::from_secs_f64(per_step(self.began) * left),
        });
        self.stretch = (now, step);
    }

    /// Validates, saves and stops where that is due.
    fn after_step(&mut self, valid: &ValidLoader<LoveComponents<B>>) -> Result<(), Stop> {
        let config = &self.strategy.config;
        let due = |every: usize| every > 0 && self.position.step.is_multiple_of(every);
        let (validate, save) = (due(config.validate_every), due(config.checkpoint_every));
        if validate {
            self.validate(valid, self.position.epoch)?;
        }
        if save {
            self.save(false)?;
        }
        if self.interrupter.should_stop() && self.position.step < self.total_steps {
            return self.interrupted();
        }
        Ok(())
    }

    /// Stops behind a checkpoint, because somebody asked for it.
    fn interrupted(&mut self) -> Result<(), Stop> {
        self.save(false)?;
        (self.strategy.listener)(&TrainEvent::Interrupted {
            step: self.boundary.step,
        });
        Err(Stop::Interrupted)
    }

    /// Stops because a sample cannot be read. What was learned since the last checkpoint is not lost.
    fn lacks(&mut self, error: SampleError) -> Result<(), Stop> {
        if self.boundary.step > 0 {
            self.save(false)?;
        }
        Err(Stop::Sample(error))
    }

    /// Validates on all rows; the best model so far is saved.
    fn validate(&mut self, valid: &ValidLoader<LoveComponents<B>>, epoch: usize) -> Result<(), Stop> {
        if valid.num_items() == 0 {
            return Ok(());
        }
        let model = self.learner.valid();
        self.strategy.cursors[1].seek(0, 0);
        let mut batches = valid.iter();
        let mut sum = StepValues::default();
        while let Some(batch) = batches.next() {
            if self.interrupter.should_stop() {
                // Whoever resumes the run validates this step from the start.
                return self.interrupted();
            }
            let values = InferenceStep::step(&model, batch);
            sum.add(&values);
            let epochs = self.epochs(epoch);
            let item = TrainingItem::new(values, batches.progress(), epochs, Some(self.position.step), None);
            self.processor.process_valid(LearnerEvent::ProcessedItem(item));
        }
        if let Some(error) = self.strategy.cursors[1].take_error() {
            return self.lacks(error);
        }
        self.position.validated = Some(self.position.step);
        self.boundary.validated = self.position.validated;
        self.processor.process_valid(LearnerEvent::EndEpoch(epoch + 1));
        let values = sum.mean();
        let metric = self.strategy.config.best;
        let found = metric.of(&values);
        let best = self.position.best.is_none_or(|best| metric.improves(found, best));
        if best {
            self.position.best = Some(found);
            self.boundary.best = Some(found);
        }
        (self.strategy.listener)(&TrainEvent::Valid {
            step: self.position.step,
            epoch,
            values,
            best,
        });
        // A picture less is no reason to stop.
        if let Err(error) = self.strategy.gallery.draw(&model, self.position.step) {
            tracing::warn!(
                "the overlays of step {} cannot be drawn: {error}",
                self.position.step
            );
        }
        if best { self.save(true) } else { Ok(()) }
    }

    fn save(&mut self, best: bool) -> Result<(), Stop> {
        let Self {
            strategy,
            learner,
            optimizer,
            boundary,
            ..
        } = self;
        let content = Content {
            module: learner,
            optimizer,
            weights: &|| state_of(&learner.model.valid(), keys::love),
            config: &strategy.config_toml,
        };
        let path = strategy
            .checkpoints
            .save(boundary.step, &content, &*boundary, best)
            .map_err(Stop::Checkpoint)?;
        if self.saved.replace(self.boundary.step) != Some(self.boundary.step) {
            (self.strategy.listener)(&TrainEvent::Checkpoint {
                step: self.boundary.step,
                path,
            });
        }
        Ok(())
    }
}

/// Resident memory of the process in bytes, or 0 where the system does not tell.
pub(crate) fn memory() -> usize {
    memory_stats::memory_stats().map_or(0, |memory| memory.physical_mem)
}
