//! `bench`: the time that parts of the model take, on random weights and inputs of the published sizes.

mod case;
mod measure;

use burn::tensor::backend::Backend;
use serde::Serialize;

pub use case::Case;

use self::measure::{Peak, Timing, time};
use crate::{
    args::{BenchArgs, Global},
    device::{Device, with_backend},
    error::CliError,
    printer,
};

/// What is printed of a case.
#[derive(Debug, Serialize)]
struct Line {
    case: String,
    device: String,
    precision: String,
    /// Median of the timed runs.
    seconds: f64,
    fastest: f64,
    slowest: f64,
    runs: usize,
    /// The first run: on a GPU it compiles the kernels.
    first_seconds: f64,
    /// Most memory of the process while the case ran; nothing where the system does not tell.
    peak_bytes: Option<u64>,
    /// What the GPU holds for the case when it ends.
    device_bytes: Option<u64>,
}

/// Runs `bench`.
pub fn run(args: &BenchArgs, global: &Global) -> Result<(), CliError> {
    let device = global.probe()?;
    let precision = device.precision(global.precision);
    let name = device.to_string();
    printer::note(format_args!(
        "device {name}; {} runs of each case behind {} to warm up",
        args.runs, args.warm_up
    ));
    for case in &args.cases {
        let peak = Peak::start();
        let (timing, device_bytes) =
            with_backend!(device.clone(), |B, at| measured::<B>(case, args, &device, &at)?);
        let line = Line {
            case: case.to_string(),
            device: name.clone(),
            precision: precision.to_string(),
            seconds: timing.median(),
            fastest: timing.fastest(),
            slowest: timing.slowest(),
            runs: args.runs,
            first_seconds: timing.first,
            peak_bytes: peak.bytes(),
            device_bytes,
        };
        if args.json {
            printer::data(serde_json::to_string(&line).expect("plain values"));
        } else {
            printer::data(line);
        }
    }
    Ok(())
}

/// Times a case and lets go of what it held.
fn measured<B: Backend>(
    case: &Case,
    args: &BenchArgs,
    device: &Device,
    at: &B::Device,
) -> Result<(Timing, Option<u64>), CliError> {
    B::seed(at, 0);
    let mut work = case.prepare::<B>(at)?;
    let timing = time::<B>(args, at, &mut work)?;
    let held = device.memory();
    drop(work);
    B::memory_cleanup(at);
    Ok((timing, held))
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        write!(
            f,
            "{:<24} {:>9.4} s  ({:.4} to {:.4}; first {:.2})",
            self.case, self.seconds, self.fastest, self.slowest, self.first_seconds
        )?;
        if let Some(bytes) = self.device_bytes {
            write!(f, "  {:.2} GB on the device", gigabytes(bytes))?;
        } else if let Some(bytes) = self.peak_bytes {
            write!(f, "  peak {:.2} GB", gigabytes(bytes))?;
        }
        Ok(())
    }
}
