//! What a training reports while it runs: for a person, for `log.txt`, and for `metrics.jsonl`.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;

use super::{Position, StepValues, Values};
use crate::features::CacheReport;

/// Something worth telling about a training.
#[derive(Debug, Clone)]
pub enum TrainEvent {
    /// The training begins or goes on.
    Start {
        /// Optimizer steps done.
        step: usize,
        /// Optimizer steps in all.
        total: usize,
        /// Rows to learn from.
        rows: usize,
        /// Rows to validate on.
        valid_rows: usize,
        /// Values that learn.
        parameters: usize,
        /// Values in all.
        all_parameters: usize,
    },
    /// Optimizer steps were taken.
    Step {
        /// Optimizer steps done.
        step: usize,
        /// Optimizer steps in all.
        total: usize,
        /// Epoch, from 0.
        epoch: usize,
        /// Learning rate of the last step.
        lr: f64,
        /// Norm of its gradients before clipping.
        norm: f64,
        /// Means since the last such event.
        values: StepValues,
        /// Seconds per step.
        seconds: f64,
        /// Rows per second.
        rows_per_second: f64,
        /// Resident memory of the process, in bytes; 0 where the system does not tell.
        memory: usize,
        /// Time left.
        eta: Duration,
    },
    /// A step was not taken: its loss or its gradient is not a number.
    Skipped {
        /// Optimizer steps done, this one included.
        step: usize,
        /// Epoch, from 0.
        epoch: usize,
        /// The loss, or the norm of the gradients.
        value: f64,
        /// Steps skipped in a row.
        in_row: usize,
        /// As many in a row end the training.
        limit: usize,
        /// Steps skipped in all.
        total: usize,
    },
    /// The model was validated.
    Valid {
        /// Optimizer steps done.
        step: usize,
        /// Epoch, from 0.
        epoch: usize,
        /// Means over the validation rows.
        values: StepValues,
        /// Whether they are the best so far, by `train.best`.
        best: bool,
    },
    /// Something else than the whole model was measured: a stage of pre-training, in training or at a validation.
    Measured {
        /// Optimizer steps done.
        step: usize,
        /// Optimizer steps in all.
        total: usize,
        /// `train` or `valid`.
        split: &'static str,
        /// What was measured.
        values: Values,
        /// Time left, in training.
        eta: Option<Duration>,
    },
    /// A checkpoint is on disk.
    Checkpoint {
        /// Optimizer steps done.
        step: usize,
        /// Its folder.
        path: PathBuf,
    },
    /// An epoch, or what the run had time for of it, is over: what the cache of features did since the run began.
    Features(CacheReport),
    /// The training stops before its end, behind a checkpoint.
    Interrupted {
        /// Optimizer steps done.
        step: usize,
    },
}

impl fmt::Display for TrainEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start {
                step,
                total,
                rows,
                valid_rows,
                parameters,
                all_parameters,
            } => write!(
                f,
                "training from step {step} to {total} on {rows} rows (validation: {valid_rows}); \
                 {:.2} of {:.2} M parameters learn",
                *parameters as f64 / 1e6,
                *all_parameters as f64 / 1e6
            ),
            Self::Step {
                step,
                total,
                epoch,
                lr,
                norm,
                values,
                seconds,
                rows_per_second,
                memory,
                eta,
            } => write!(
                f,
                "step {step}/{total}  epoch {}  loss {:.4}  bce {:.4}  dice {:.4}  object {:.4}  pointing {:.4}  \
                 {}J {:.3}  F {:.3}  |g| {norm:.2}  lr {lr:.1e}  {seconds:.2} s/step  \
                 {rows_per_second:.1} rows/s  {} MB  ETA {}",
                epoch + 1,
                values.loss,
                values.bce,
                values.dice,
                values.object,
                values.pointing,
                values
                    .grounding
                    .map_or_else(String::new, |grounding| format!("grounding {grounding:.4}  ")),
                values.j,
                values.f,
                memory / 1_000_000,
                clock(*eta)
            ),
            Self::Skipped {
                step,
                value,
                in_row,
                limit,
                total,
                ..
            } => write!(
                f,
                "step {step} skipped: its loss or gradient is {value} ({in_row} in a row, {limit} end the training; \
                 {total} in all)"
            ),
            Self::Valid {
                step, values, best, ..
            } => write!(
                f,
                "valid at step {step}  loss {:.4}  bce {:.4}  dice {:.4}  object {:.4}  J {:.3}  F {:.3}{}",
                values.loss,
                values.bce,
                values.dice,
                values.object,
                values.j,
                values.f,
                if *best { "  (best so far)" } else { "" }
            ),
            Self::Measured {
                step,
                total,
                split,
                values,
                eta,
            } => {
                write!(f, "{split} {step}/{total}{values}")?;
                match eta {
                    Some(eta) => write!(f, "  ETA {}", clock(*eta)),
                    None => Ok(()),
                }
            }
            Self::Checkpoint { path, .. } => write!(f, "checkpoint {}", path.display()),
            Self::Features(report) => write!(f, "{report}"),
            Self::Interrupted { step } => write!(f, "interrupted behind step {step}; go on with --resume"),
        }
    }
}

/// Hours, minutes and seconds.
fn clock(time: Duration) -> String {
    let s = time.as_secs();
    if s >= 3600 {
        format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
    } else {
        format!("{}:{:02}", s / 60, s % 60)
    }
}

/// Appends events to `log.txt` and `metrics.jsonl` of a run.
#[derive(Debug)]
pub struct RunLog {
    files: Mutex<(File, File)>,
}

impl RunLog {
    /// Opens both files of the run in `run` at their ends. Lines of `metrics.jsonl` behind the position that the run goes
    /// on from are dropped.
    ///
    /// # Errors
    /// If a file cannot be opened or rewritten; the error comes with its path.
    pub fn open(run: &Path, from: &Position) -> Result<Self, (PathBuf, std::io::Error)> {
        let metrics = run.join("metrics.jsonl");
        rewind(&metrics, from).map_err(|error| (metrics, error))?;
        let open = |name: &str| {
            let path = run.join(name);
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .map_err(|error| (path, error))
        };
        Ok(Self {
            files: Mutex::new((open("log.txt")?, open("metrics.jsonl")?)),
        })
    }

    /// Writes one event to both files.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write(&self, event: &TrainEvent) -> std::io::Result<()> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let (log, metrics) = &mut *files;
        writeln!(log, "{event}")?;
        let (step, epoch, split, mut named, values) = match event {
            TrainEvent::Step {
                step,
                epoch,
                lr,
                norm,
                seconds,
                rows_per_second,
                memory,
                eta,
                values,
                ..
            } => {
                let own = vec![
                    ("lr", *lr),
                    ("gradient_norm", *norm),
                    ("seconds_per_step", *seconds),
                    ("rows_per_second", *rows_per_second),
                    ("memory_bytes", *memory as f64),
                    ("eta_seconds", eta.as_secs_f64()),
                ];
                (step, epoch, "train", own, values)
            }
            TrainEvent::Valid {
                step, epoch, values, ..
            } => (step, epoch, "valid", Vec::new(), values),
            TrainEvent::Skipped {
                step, epoch, total, ..
            } => {
                let named = vec![("skipped_steps", *total as f64)];
                return append(metrics, *step, *epoch, "train", named);
            }
            TrainEvent::Measured {
                step, split, values, ..
            } => return append(metrics, *step, 0, split, values.means().collect()),
            _ => return Ok(()),
        };
        named.extend([("loss", values.loss), ("bce", values.bce), ("dice", values.dice)]);
        named.extend([("object", values.object), ("pointing", values.pointing)]);
        named.extend(values.grounding.map(|grounding| ("grounding", grounding)));
        named.extend([("J", values.j), ("F", values.f)]);
        append(metrics, *step, *epoch, split, named)
    }
}

/// Appends one line a value, all of them at once.
fn append(
    file: &mut File,
    step: usize,
    epoch: usize,
    split: &str,
    named: Vec<(&str, f64)>,
) -> std::io::Result<()> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let time = (now.as_secs_f64() * 1e3).round() / 1e3;
    let mut lines = String::new();
    for (name, value) in named {
        let line =
            json!({"step": step, "epoch": epoch, "split": split, "name": name, "value": value, "time": time});
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    file.write_all(lines.as_bytes())
}

/// Drops what a run wrote behind a checkpoint: steps and a validation that will be done again, and a line that was torn
/// when the run was killed.
fn rewind(path: &Path, from: &Position) -> std::io::Result<()> {
    let content = match std::fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let is_kept = |line: &&[u8]| {
        let Ok(line) = serde_json::from_slice::<serde_json::Value>(line) else {
            return false;
        };
        let Some(step) = line["step"].as_u64() else {
            return false;
        };
        let again = line["split"] == "valid" && from.validated != Some(from.step);
        step < from.step as u64 || (step == from.step as u64 && !again)
    };
    let lines = content.split_inclusive(|byte| *byte == b'\n');
    let kept: Vec<u8> = lines
        .filter(|line| line.ends_with(b"\n"))
        .filter(is_kept)
        .flatten()
        .copied()
        .collect();
    if kept == content {
        return Ok(());
    }
    let aside = path.with_extension("jsonl.partial");
    let mut file = File::create(&aside)?;
    file.write_all(&kept)?;
    file.sync_all()?;
    std::fs::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: usize) -> TrainEvent {
        TrainEvent::Valid {
            step,
            epoch: 0,
            values: StepValues::default(),
            best: false,
        }
    }

    /// A position behind a validated step.
    fn at(step: usize) -> Position {
        Position {
            step,
            validated: Some(step),
            ..Position::default()
        }
    }

    fn steps(run: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let mut steps: Vec<u64> = text
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["step"]
                    .as_u64()
                    .unwrap()
            })
            .collect();
        steps.dedup();
        steps
    }

    #[test]
    fn a_resumed_log_has_no_step_twice() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join("metrics.jsonl");
        let log = RunLog::open(run.path(), &at(0)).unwrap();
        (1..=4).for_each(|i| log.write(&step(i)).unwrap());
        drop(log);
        // Killed in the middle of a line.
        let mut torn = std::fs::read(&path).unwrap();
        torn.truncate(torn.len() - 7);
        std::fs::write(&path, torn).unwrap();
        let log = RunLog::open(run.path(), &at(2)).unwrap();
        assert_eq!(steps(run.path()), [1, 2]);
        log.write(&step(3)).unwrap();
        assert_eq!(steps(run.path()), [1, 2, 3]);
        assert!(!path.with_extension("jsonl.partial").exists());
        // At the last checkpoint only the torn line goes.
        std::fs::write(
            &path,
            [std::fs::read(&path).unwrap(), b"{\"step\":3".to_vec()].concat(),
        )
        .unwrap();
        RunLog::open(run.path(), &at(3)).unwrap();
        assert_eq!(steps(run.path()), [1, 2, 3]);
        // The checkpoint was written before its step was validated.
        let before = Position {
            validated: Some(2),
            ..at(3)
        };
        RunLog::open(run.path(), &before).unwrap();
        assert_eq!(steps(run.path()), [1, 2]);
    }

    #[test]
    fn a_skipped_step_is_counted() {
        let run = tempfile::tempdir().unwrap();
        let log = RunLog::open(run.path(), &at(0)).unwrap();
        let skipped = TrainEvent::Skipped {
            step: 7,
            epoch: 1,
            value: f64::NAN,
            in_row: 2,
            limit: 5,
            total: 3,
        };
        log.write(&skipped).unwrap();
        let line = std::fs::read_to_string(run.path().join("metrics.jsonl")).unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (line["name"].as_str(), line["value"].as_f64()),
            (Some("skipped_steps"), Some(3.0))
        );
        let told = "step 7 skipped: its loss or gradient is NaN (2 in a row, 5 end the training; 3 in all)";
        assert_eq!(skipped.to_string(), told);
    }
}
