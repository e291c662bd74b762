//! What a training loop begins with, what surrounds it, and why it ends early.

use std::sync::Arc;

use burn::tensor::backend::AutodiffBackend;

use super::{CheckpointError, Checkpoints, Cursor, Gallery, Gauges, LoveOptimizer, Position, TrainEvent};
use crate::{features::FeatureCache, samples::SampleError};

/// Receives events while the training runs.
pub type Listener = Arc<dyn Fn(&TrainEvent) + Send + Sync>;

/// Why a training ended before its last step.
#[derive(Debug)]
pub enum Stop {
    /// Somebody asked for it; a checkpoint was written.
    Interrupted,
    /// A sample could not be used.
    Sample(SampleError),
    /// A checkpoint could not be written.
    Checkpoint(CheckpointError),
    /// Loss or gradient are not numbers any more; a checkpoint was written.
    Diverged {
        /// Optimizer steps done, with those that were skipped.
        step: usize,
        /// How many of the last ones were skipped.
        in_row: usize,
        /// The last one's loss, or its gradients' norm.
        value: f64,
    },
}

/// Optimizer and position that the loop begins with.
pub struct Start<B: AutodiffBackend> {
    /// The optimizer, with its moments.
    pub optimizer: LoveOptimizer<B>,
    /// Where the training stands.
    pub position: Position,
    /// Micro-batches in an epoch.
    pub micro_batches: usize,
    /// Optimizer steps in all.
    pub total_steps: usize,
}

/// What surrounds the loop.
pub struct Surroundings<B: AutodiffBackend> {
    /// The whole config, for the weights' metadata.
    pub config_toml: String,
    /// Where it runs.
    pub device: B::Device,
    /// Where it is saved.
    pub checkpoints: Checkpoints,
    /// Position of the training loader.
    pub train_cursor: Arc<Cursor>,
    /// Position of the validation loader.
    pub valid_cursor: Arc<Cursor>,
    /// Where features of frozen parts are kept.
    pub features: Option<Arc<FeatureCache>>,
    /// Told after every step.
    pub gauges: Gauges,
    /// Drawn at every validation.
    pub gallery: Gallery<B::InnerBackend>,
    /// Who hears of it.
    pub listener: Listener,
}
