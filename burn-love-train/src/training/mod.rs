//! Training on burn-train: averaged accumulation, a schedule in optimizer steps, checkpoints that resume exactly.

mod batch;
mod checkpoint;
mod events;
mod gallery;
mod gradients;
mod groups;
mod learner;
mod loader;
mod loss;
mod plan;
mod quiet;
mod recorder;
mod run;
mod schedule;
mod strategy;
mod surroundings;
mod values;

pub use batch::LoveBatch;
pub use burn_train::Interrupter;
pub use checkpoint::{CheckpointError, Checkpoints, Content, LoveOptimizer, Position, fixed_keys};
pub use events::{RunLog, TrainEvent};
pub use gallery::Gallery;
pub use gradients::average_and_clip;
pub use groups::{GroupedAdamW, Moments, ParameterPart, parts};
pub use learner::{Gauge, Gauges, LoveLearner, StepValues, ValueMetric};
pub use loader::{Cursor, LoveLoader, Rows};
pub use loss::{Losses, Objective, bce_with_logits, dice, dice_rows};
pub use plan::{PartSize, TrainPlan};
use quiet::Quiet;
pub use run::{RunError, TrainRun, load_model, parameter_counts};
pub(crate) use run::{load_audio, load_sam2, load_text, load_vision, trainable_parameters};

pub use schedule::{WarmupDecay, WarmupDecayConfig, WarmupType};
pub(crate) use strategy::{GOLDEN, memory};
pub use strategy::{LoveComponents, StepStrategy};
pub use surroundings::{Listener, Start, Stop, Surroundings};
pub use values::Values;
