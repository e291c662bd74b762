//! The demo's report: what was run, what came out, and what that is worth.

mod demo;
mod training;

pub use demo::{DemoReport, Picture, SplitCount, TitledEvaluation, demo_report, split_counts};
pub use training::TrainingSummary;
