//! Reports: the demo's, what a run says in a few numbers, and ablations.

mod ablation;
mod demo;
mod training;

pub use ablation::{Ablation, AblationRun, Spread};
pub use demo::{DemoReport, Picture, SplitCount, TitledEvaluation, demo_report, split_counts};
pub use training::TrainingSummary;
