//! `burn-love-cli`: train, evaluate and use SAM2-LOVE from the command line.
//!
//! Arguments are parsed, validated, then run. stdout carries data, everything else goes to stderr. Exit codes: 0 ok,
//! 1 the work found a problem, 2 bad usage or bad input, 3 the machine failed or a run diverged, 130 interrupted.

mod args;
mod commands;
mod device;
mod error;
mod interrupt;
mod output;
mod printer;

use std::{num::NonZero, process::ExitCode};

use clap::Parser;

use crate::{
    args::{Cli, Command},
    error::CliError,
};

// Measured: the system allocator maps and unmaps large tensors on every operation.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The number of mimalloc's option `purge_delay`, for which its crate has no name.
const PURGE_DELAY: i32 = 15;

/// Keeps memory that was freed for the next tensor, unless `MIMALLOC_PURGE_DELAY` is set: given back to the system behind a
/// second, as mimalloc does by itself, its pages would have to be zeroed again. Measured: a fifth of SAM 2's image encoder.
#[allow(unsafe_code, reason = "mimalloc's options are reached through C only")]
fn keep_freed_memory() {
    // SAFETY: the option exists (mimalloc.h, mi_option_e, the same in versions 2 and 3) and takes any number; the call
    // changes a number that mimalloc reads, and nothing else.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, -1) }
}

/// Bytes of stack for the work, of which no more are taken than are used.
const STACK: usize = 64 << 20;

fn main() -> ExitCode {
    keep_freed_memory();
    let cli = Cli::parse();
    printer::start(cli.global.quiet, cli.global.verbose);
    // A panic is a fault of ours or of the machine's: one line, and the code for it.
    let default_hook = std::panic::take_hook();
    if cli.global.verbose == 0 {
        std::panic::set_hook(Box::new(|_| {}));
    } else {
        std::panic::set_hook(default_hook);
    }
    // The first thread's stack is small on some systems, and models are large values.
    let thread = std::thread::Builder::new().stack_size(STACK);
    let result = match thread.spawn(move || run(cli)) {
        Ok(running) => running.join(),
        Err(error) => Ok(Err(CliError::machine(format!(
            "no thread can be started: {error}"
        )))),
    };
    let error = match result {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => error,
        Err(panic) => CliError::panicked(panic.as_ref()),
    };
    printer::error(&error);
    ExitCode::from(error.code)
}

fn run(cli: Cli) -> Result<(), CliError> {
    // As rayon itself would count them.
    let asked = || std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok();
    let threads = cli.global.threads.or_else(asked).filter(|threads| *threads > 0);
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZero::get));
    let mut pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    // A model is thousands of small operations, and handing each over to another thread costs a tenth of a training step.
    // Alone, this thread would leave undone what others ask of the pool while it waits for them; and in `eval`, where on the
    // CPU threads of their own ask, it would wait all the time. Measured: a tenth of its time.
    if threads > 1 && !matches!(cli.command, Command::Eval(_)) {
        pool = pool.use_current_thread();
    }
    pool.build_global()
        .map_err(|error| CliError::machine(format!("{threads} threads cannot be started: {error}")))?;
    commands::run(cli)
}
