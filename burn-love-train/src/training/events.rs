//! What a training reports while it runs: for a person, for `log.txt`, and for `metrics.jsonl`.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;

use super::StepValues;
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
        /// Time left.
        eta: Duration,
    },
    /// The model was validated.
    Valid {
        /// Optimizer steps done.
        step: usize,
        /// Epoch, from 0.
        epoch: usize,
        /// Means over the validation rows.
        values: StepValues,
        /// Whether J is the best so far.
        best: bool,
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
                eta,
            } => write!(
                f,
                "step {step}/{total}  epoch {}  loss {:.4}  bce {:.4}  dice {:.4}  object {:.4}  J {:.3}  \
                 |g| {norm:.2}  lr {lr:.1e}  {seconds:.2} s/step  ETA {}",
                epoch + 1,
                values.loss,
                values.bce,
                values.dice,
                values.object,
                values.j,
                clock(*eta)
            ),
            Self::Valid {
                step, values, best, ..
            } => write!(
                f,
                "valid at step {step}  loss {:.4}  bce {:.4}  dice {:.4}  object {:.4}  J {:.3}{}",
                values.loss,
                values.bce,
                values.dice,
                values.object,
                values.j,
                if *best { "  (best so far)" } else { "" }
            ),
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
    /// Opens both files of the run in `run` at their ends.
    ///
    /// # Errors
    /// If a file cannot be opened; the error comes with its path.
    pub fn open(run: &Path) -> Result<Self, (PathBuf, std::io::Error)> {
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
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let (step, epoch, split, mut named, values) = match event {
            TrainEvent::Step {
                step,
                epoch,
                lr,
                norm,
                seconds,
                values,
                ..
            } => {
                let own = vec![
                    ("lr", *lr),
                    ("gradient_norm", *norm),
                    ("seconds_per_step", *seconds),
                ];
                (step, epoch, "train", own, values)
            }
            TrainEvent::Valid {
                step, epoch, values, ..
            } => (step, epoch, "valid", Vec::new(), values),
            _ => return Ok(()),
        };
        named.extend([("loss", values.loss), ("bce", values.bce), ("dice", values.dice)]);
        named.extend([("object", values.object), ("J", values.j)]);
        let mut lines = String::new();
        for (name, value) in named {
            let time = (now.as_secs_f64() * 1e3).round() / 1e3;
            let line = json!({"step": step, "epoch": epoch, "split": split, "name": name, "value": value, "time": time});
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        metrics.write_all(lines.as_bytes())
    }
}

/// Running means of steps' values.
#[derive(Debug, Default)]
pub(super) struct Mean {
    sum: StepValues,
}

impl Mean {
    pub fn add(&mut self, values: &StepValues) {
        let (rows, present) = (values.rows as f64, values.present as f64);
        self.sum.loss += values.loss * rows;
        self.sum.bce += values.bce * rows;
        self.sum.dice += values.dice * rows;
        self.sum.object += values.object * rows;
        self.sum.j += values.j * present;
        self.sum.rows += values.rows;
        self.sum.present += values.present;
    }

    pub fn take(&mut self) -> StepValues {
        let mut mean = std::mem::take(&mut self.sum);
        let (rows, present) = (mean.rows.max(1) as f64, mean.present.max(1) as f64);
        mean.loss /= rows;
        mean.bce /= rows;
        mean.dice /= rows;
        mean.object /= rows;
        mean.j /= present;
        mean
    }
}
