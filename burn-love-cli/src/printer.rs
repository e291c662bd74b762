//! The only place that writes to the terminal: data to stdout, everything else to stderr.

use std::{
    fmt::Display,
    io::{IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::{EnvFilter, fmt};

use crate::error::CliError;

static QUIET: AtomicBool = AtomicBool::new(false);

/// Seconds between lines of progress where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Sets how much is said.
pub fn start(quiet: bool, verbose: u8) {
    QUIET.store(quiet, Ordering::Relaxed);
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info",
        _ => "debug",
    };
    // The GPU stack speaks of its own affairs below errors.
    let filter =
        format!("{level},wgpu_core=error,wgpu_hal=error,naga=error,cubecl_runtime=error,cubecl_wgpu=error");
    fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter)))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .without_time()
        .with_target(false)
        .init();
}

/// Writes a line of data to stdout.
pub fn data(line: impl Display) {
    // A closed pipe is the reader's choice.
    writeln!(std::io::stdout(), "{line}").ok();
}

/// Writes a line for the person at the terminal.
pub fn note(line: impl Display) {
    if !QUIET.load(Ordering::Relaxed) {
        writeln!(std::io::stderr(), "{line}").ok();
    }
}

/// Writes an error and its hint.
pub fn error(error: &CliError) {
    let message = error.message.replace('\n', " ");
    writeln!(std::io::stderr(), "error: {message}").ok();
    if let Some(hint) = &error.hint {
        writeln!(std::io::stderr(), "hint: {hint}").ok();
    }
}

/// Progress with an ETA: a bar on a terminal, a line now and then elsewhere.
pub struct Progress {
    what: String,
    bar: ProgressBar,
    lines: bool,
    began: Instant,
    spoke: Instant,
}

impl Progress {
    /// Begins a piece of work.
    pub fn new(what: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let quiet = QUIET.load(Ordering::Relaxed);
        let target = if terminal && !quiet {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target).with_message(what.to_owned());
        bar.set_style(
            ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec} ETA {eta}")
                .expect("the template is fixed"),
        );
        let now = Instant::now();
        Self {
            what: what.to_owned(),
            bar,
            lines: !terminal && !quiet,
            began: now,
            spoke: now,
        }
    }

    /// `done` of `total` pieces are done.
    pub fn set(&mut self, done: usize, total: usize) {
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
        if self.lines && done > 0 && (self.spoke.elapsed() >= LINE_EVERY || done == total) {
            self.spoke = Instant::now();
            let left = self
                .began
                .elapsed()
                .mul_f64((total.saturating_sub(done)) as f64 / done as f64);
            note(format_args!(
                "{} {done}/{total}  ETA {}",
                self.what,
                HumanDuration(left)
            ));
        }
    }

    /// The work is done.
    pub fn finish(self) {
        self.bar.finish_and_clear();
        note(format_args!(
            "{}: {:.1} s",
            self.what,
            self.began.elapsed().as_secs_f64()
        ));
    }
}
