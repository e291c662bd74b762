//! What a run's `metrics.jsonl` says in a few numbers.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

/// A training in a few numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainingSummary {
    /// Optimizer steps of the last line.
    pub steps: usize,
    /// Epochs begun.
    pub epochs: usize,
    /// Seconds from the first to the last line; the time before the first line is not in it.
    pub seconds: f64,
    /// Last values of the training, by name.
    pub train: BTreeMap<String, f64>,
    /// First loss of the training.
    pub first_loss: Option<f64>,
    /// Last values of the validation, by name.
    pub valid: BTreeMap<String, f64>,
    /// Best J of the validation.
    pub best_j: Option<f64>,
}

/// A line of `metrics.jsonl`.
#[derive(Debug, Deserialize)]
struct Line {
    step: usize,
    epoch: usize,
    split: String,
    name: String,
    value: Option<f64>,
    time: f64,
}

impl TrainingSummary {
    /// Reads the run in `run`.
    ///
    /// # Errors
    /// If its `metrics.jsonl` cannot be read.
    pub fn read(run: &Path) -> std::io::Result<Self> {
        Ok(Self::parse(&std::fs::read_to_string(run.join("metrics.jsonl"))?))
    }

    /// Reads the lines of a `metrics.jsonl`. A last line that was cut off is left out.
    pub fn parse(lines: &str) -> Self {
        let mut summary = Self::default();
        let mut start = None;
        let lines = lines
            .lines()
            .filter_map(|line| serde_json::from_str::<Line>(line).ok());
        for line in lines {
            summary.steps = summary.steps.max(line.step);
            summary.epochs = summary.epochs.max(line.epoch + 1);
            summary.seconds = line.time - *start.get_or_insert(line.time);
            let Some(value) = line.value else { continue };
            let values = match line.split.as_str() {
                "train" => &mut summary.train,
                _ => &mut summary.valid,
            };
            values.insert(line.name.clone(), value);
            match (line.split.as_str(), line.name.as_str()) {
                ("train", "loss") => drop(summary.first_loss.get_or_insert(value)),
                ("valid", "J") => summary.best_j = Some(summary.best_j.map_or(value, |best| best.max(value))),
                _ => {}
            }
        }
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_values_count_and_a_cut_line_does_no_harm() {
        let lines = r#"{"step":10,"epoch":0,"split":"train","name":"loss","value":1.5,"time":100.0}
{"step":20,"epoch":0,"split":"train","name":"loss","value":0.5,"time":104.0}
{"step":20,"epoch":0,"split":"valid","name":"J","value":0.4,"time":106.5}
{"step":40,"epoch":1,"split":"valid","name":"J","value":0.3,"time":110.0}
{"step":50,"epoch":1,"spl"#;
        let summary = TrainingSummary::parse(lines);
        assert_eq!((summary.steps, summary.epochs, summary.seconds), (40, 2, 10.0));
        assert_eq!((summary.first_loss, summary.train["loss"]), (Some(1.5), 0.5));
        assert_eq!((summary.best_j, summary.valid["J"]), (Some(0.4), 0.3));
        assert_eq!(TrainingSummary::parse(""), TrainingSummary::default());
    }
}
