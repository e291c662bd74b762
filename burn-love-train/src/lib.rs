//! Data, synthetic scenes, losses, metrics, training and evaluation for burn-love.

pub mod config;
pub mod data;
pub mod evaluation;
pub mod features;
mod inference;
pub mod metrics;
pub mod prediction;
pub mod pretraining;
pub mod report;
pub mod samples;
pub mod shipped;
pub mod synth;
mod threads;
pub mod training;
