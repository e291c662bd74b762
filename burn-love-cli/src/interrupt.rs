//! Ctrl-C and SIGTERM: the first stops a training behind its current step, the second at once.

use std::sync::{Mutex, Once, PoisonError};

use burn_love_train::training::Interrupter;

use crate::printer;

/// The training that runs.
static CURRENT: Mutex<Option<Interrupter>> = Mutex::new(None);

/// Lets signals stop `interrupter`'s training, from now on instead of an earlier one's.
pub fn stops(interrupter: Interrupter) {
    static ONCE: Once = Once::new();
    *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = Some(interrupter);
    ONCE.call_once(|| {
        if let Err(error) = ctrlc::set_handler(stop) {
            tracing::warn!("Ctrl-C will not be caught: {error}");
        }
        if let Err(error) = when_terminated(stop) {
            tracing::warn!("SIGTERM will not be caught: {error}");
        }
    });
}

/// Lets signals end the program at once: the training is over.
pub fn stops_nothing() {
    *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

fn stop() {
    let current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(interrupter) = current.as_ref().filter(|interrupter| !interrupter.should_stop()) else {
        std::process::exit(130);
    };
    printer::note("stopping behind the current step; once more to stop at once");
    interrupter.stop(Some("interrupted"));
}

/// Calls `handler` at each SIGTERM. SIGHUP stays what it is: `nohup` keeps a training alive.
#[cfg(unix)]
fn when_terminated(handler: impl Fn() + Send + 'static) -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM])?;
    std::thread::spawn(move || signals.forever().for_each(|_| handler()));
    Ok(())
}

/// There is no such signal.
#[cfg(not(unix))]
fn when_terminated(_handler: impl Fn() + Send + 'static) -> std::io::Result<()> {
    Ok(())
}
