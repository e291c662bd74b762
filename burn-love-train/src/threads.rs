//! Waiting for another thread.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

use rayon::Yield;

/// How long a thread without work waits before it looks for some again.
const IDLE: Duration = Duration::from_micros(200);

/// What is sent next, or nothing where the sender is gone. A thread of rayon's pool does the pool's work meanwhile: the
/// program's own thread is one of them.
pub(crate) fn receive<T>(receiver: &Receiver<T>) -> Option<T> {
    let mut patience = Duration::ZERO;
    loop {
        match receiver.recv_timeout(patience) {
            Ok(value) => return Some(value),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        patience = match rayon::yield_now() {
            Some(Yield::Executed) => Duration::ZERO,
            Some(Yield::Idle) => IDLE,
            None => return receiver.recv().ok(),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc::sync_channel};

    use super::*;

    #[test]
    fn a_thread_of_the_pool_works_while_it_waits() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let pool = Arc::new(pool.expect("a pool"));
        let (tell, told) = sync_channel(1);
        // On a thread of its own: if nobody does the work, the test fails rather than waits for ever.
        std::thread::spawn(move || {
            let (send, results) = sync_channel(0);
            let inner = pool.clone();
            let found = pool.install(move || {
                // The pool's only thread waits here for what only it can do.
                std::thread::spawn(move || send.send(inner.install(|| 42)));
                receive(&results)
            });
            tell.send(found)
        });
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(Some(42)));
    }

    #[test]
    fn a_sender_that_is_gone_sends_nothing() {
        let (send, results) = sync_channel::<i32>(1);
        send.send(1).expect("room for one");
        drop(send);
        assert_eq!([receive(&results), receive(&results)], [Some(1), None]);
    }
}
