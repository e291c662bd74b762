//! Clocks and memory.

use std::time::Instant;

use burn::tensor::backend::Backend;

use crate::{args::BenchArgs, error::CliError};

/// Seconds of the runs of a case.
#[derive(Debug)]
pub struct Timing {
    /// The very first run.
    pub first: f64,
    /// Timed runs, the fastest first.
    runs: Vec<f64>,
}

impl Timing {
    /// The median of the timed runs.
    pub fn median(&self) -> f64 {
        let n = self.runs.len();
        (self.runs[(n - 1) / 2] + self.runs[n / 2]) / 2.0
    }

    /// The fastest timed run.
    pub fn fastest(&self) -> f64 {
        self.runs[0]
    }

    /// The slowest timed run.
    pub fn slowest(&self) -> f64 {
        self.runs[self.runs.len() - 1]
    }
}

/// Runs `work` as often as `args` say. Each run ends when the device has finished it.
pub fn time<B: Backend>(
    args: &BenchArgs,
    device: &B::Device,
    work: &mut dyn FnMut(),
) -> Result<Timing, CliError> {
    let mut once = || {
        let began = Instant::now();
        work();
        B::sync(device).map_err(|error| CliError::machine(format!("the device failed: {error:?}")))?;
        Ok::<_, CliError>(began.elapsed().as_secs_f64())
    };
    let first = once()?;
    for _ in 1..args.warm_up {
        once()?;
    }
    let mut runs = (0..args.runs).map(|_| once()).collect::<Result<Vec<_>, _>>()?;
    runs.sort_by(f64::total_cmp);
    Ok(Timing { first, runs })
}

/// The process's peak of memory since a moment, where the kernel lets it be reset (Linux).
#[derive(Debug)]
pub struct Peak {
    reset: bool,
}

impl Peak {
    /// Begins to watch.
    pub fn start() -> Self {
        Self {
            reset: std::fs::write("/proc/self/clear_refs", "5").is_ok(),
        }
    }

    /// The peak.
    pub fn bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status")
            .ok()
            .filter(|_| self.reset)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(1024 * kilobytes)
    }
}
