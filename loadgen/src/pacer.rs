//! The pacer: a thread that wakes the connections of an open loop when messages are due.
//!
//! A thread, because the runtime's timer counts whole milliseconds: at 10,000 messages a second every latency would carry half a millisecond that is not
//! the server's. A sleeping thread is woken within some 60 µs; how late messages leave is measured and reported beside the latency.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Shortest time between two pulses: 10,000 wake-ups a second cost a tenth of a core.
const PULSE_MIN: Duration = Duration::from_micros(100);
/// Longest: so that the thread notices soon that nobody listens.
const PULSE_MAX: Duration = Duration::from_millis(100);

/// Hands out pulses; the thread ends when nobody listens any more.
#[derive(Debug)]
pub(crate) struct Pacer {
    pulses: watch::Receiver<u64>,
}

impl Pacer {
    /// Pulses at every message's time for this rate per second, counted from `start`, at most one per [`PULSE_MIN`].
    pub(crate) fn start(start: Instant, rate: f64) -> io::Result<Self> {
        let interval = Duration::from_secs_f64(1.0 / rate);
        // A pulse between messages does no harm: a long interval is divided, a short one shares pulses.
        let period =
            if interval > PULSE_MAX { interval / interval.div_duration_f64(PULSE_MAX).ceil() as u32 } else { interval.max(PULSE_MIN) };
        let (sender, pulses) = watch::channel(0);
        thread::Builder::new().name("pacer".to_owned()).spawn(move || {
            let mut next = start;
            while !sender.is_closed() {
                let now = Instant::now();
                if next > now {
                    thread::sleep(next - now);
                }
                sender.send_modify(|pulse| *pulse += 1);
                // Late pulses are not made up for: one is enough for everything that is due.
                let behind = Instant::now().saturating_duration_since(next).div_duration_f64(period).floor().max(0.0);
                next += period.mul_f64(behind + 1.0);
            }
        })?;
        Ok(Self { pulses })
    }

    /// A listener.
    pub(crate) fn pulse(&self) -> watch::Receiver<u64> {
        self.pulses.clone()
    }
}
