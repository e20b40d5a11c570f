//! SIGTERM and SIGINT: the first one asks for a graceful end, the second one ends at once.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::watch;

/// What a process killed by SIGINT is expected to return (128 + 2).
const EXIT_INTERRUPTED: i32 = 130;

/// Starts the thread that listens to signals. The receiver turns true with the first one.
///
/// Errors: the system refused to install a handler.
pub fn listen() -> io::Result<watch::Receiver<bool>> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (stop, stopped) = watch::channel(false);
    let asked_before = AtomicBool::new(false);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if asked_before.swap(true, Ordering::Relaxed) {
                tracing::warn!(signal, "second signal: ending at once");
                std::process::exit(EXIT_INTERRUPTED);
            }
            tracing::info!(signal, "stopping: no new work, finishing what runs; once more ends at once");
            // Nobody may be waiting any more; the process is then about to end by itself.
            let _ = stop.send(true);
        }
    })?;
    Ok(stopped)
}

/// Waits for the first signal.
pub async fn first(stopped: &mut watch::Receiver<bool>) {
    while !*stopped.borrow_and_update() {
        if stopped.changed().await.is_err() {
            // The listening thread lives as long as the process.
            std::future::pending::<()>().await;
        }
    }
}
