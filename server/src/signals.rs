//! SIGTERM and SIGINT: the first one asks for a graceful end, the second one ends at once. SIGHUP, where it is asked for, means that files
//! are to be read again.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::watch;

/// What a process killed by SIGINT is expected to return (128 + 2).
const EXIT_INTERRUPTED: i32 = 130;

/// Starts the thread that listens to signals. The receiver turns true with the first one.
///
/// Errors: the system refused to install a handler.
pub fn listen() -> io::Result<watch::Receiver<bool>> {
    listen_to(&[SIGTERM, SIGINT]).map(|(stopped, _)| stopped)
}

/// As [`listen`]; SIGHUP does not end the process, the second receiver counts it.
pub fn listen_and_reload() -> io::Result<(watch::Receiver<bool>, watch::Receiver<u64>)> {
    listen_to(&[SIGTERM, SIGINT, SIGHUP])
}

fn listen_to(wanted: &[i32]) -> io::Result<(watch::Receiver<bool>, watch::Receiver<u64>)> {
    let mut signals = Signals::new(wanted)?;
    let (stop, stopped) = watch::channel(false);
    let (reload, reloaded) = watch::channel(0);
    let asked_before = AtomicBool::new(false);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                reload.send_modify(|count| *count += 1);
                continue;
            }
            if asked_before.swap(true, Ordering::Relaxed) {
                tracing::warn!(signal, "second signal: ending at once");
                std::process::exit(EXIT_INTERRUPTED);
            }
            tracing::info!(signal, "stopping: no new work, finishing what runs; once more ends at once");
            // Nobody may be waiting any more; the process is then about to end by itself.
            let _ = stop.send(true);
        }
    })?;
    Ok((stopped, reloaded))
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

/// Waits for the next SIGHUP; those that come while nobody waits count as one.
pub async fn hang_up(reloaded: &mut watch::Receiver<u64>) {
    if reloaded.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
