//! The load generator: messages at a chosen pace, and what became of them; and [workflows] from end to end.
//!
//! In: [`Options`].  Out: a [`Report`], as text or JSON.  May touch: `sdk`, `wire`, `model`.
//! Never: the server's rooms.
//!
//! Two ways of asking. *Closed loop*: a window of requests in flight; each answer sends the next. It measures throughput, and its latency is that of a
//! server at its own pace. *Open loop*: messages have intended times, whatever the server does, and latency counts from the intended time: a server that
//! stalls is charged for everybody who would have come meanwhile (no coordinated omission). Latency of a closed loop must not be read as that of an open one.
//!
//! One thread drives all connections; frames are patched from one template, so that the generator costs well under a microsecond a message.
//! Start reading at [`run`].

mod cpu;
mod flow;
mod pacer;
mod report;
mod schedule;
mod template;
pub mod workflows;

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use distric_sdk::{ClientOptions, RawConnection};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::cpu::CpuClock;
use crate::flow::{Flow, Tally, Window};
use crate::pacer::Pacer;
pub use crate::report::{Latency, Report};
use crate::schedule::Schedule;
use crate::template::Template;

/// Most connections of one run.
pub const CONNECTIONS_MAX: u32 = 1_024;
/// Largest payload that is made, bytes.
pub const PAYLOAD_BYTES_MAX: usize = distric_model::limits::MESSAGE_BYTES_MAX;

/// What to do to whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// The coordinator, `host:port`.
    pub address: String,
    /// How to introduce oneself; only name, API key and connect timeout matter.
    pub client: ClientOptions,
    /// Connections, `1..=CONNECTIONS_MAX`; the pace is divided among them.
    pub connections: u32,
    /// When messages are sent.
    pub pace: Pace,
    /// What they look like.
    pub message: MessageOptions,
    /// How long to send before anything counts, milliseconds.
    pub warm_up_ms: u64,
    /// How long to measure, milliseconds.
    pub duration_ms: u64,
    /// How long to wait for the last answers, milliseconds.
    pub drain_ms: u64,
    /// The server's process, to read its CPU time; it must run on this machine.
    pub server_pid: Option<u32>,
}

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Closed loop: so many unanswered messages on each connection; fewer when the server grants less.
    InFlight(NonZeroU32),
    /// Open loop: so many messages per second over all connections, evenly spaced; no more unanswered than the server grants.
    Rate(f64),
}

/// What messages look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageOptions {
    /// Namespace; the server's default when `None`.
    pub namespace: Option<String>,
    /// Event type in the envelope.
    pub event_type: String,
    /// Size of the JSON payload, bytes; padded to it, and at least what its fixed members take.
    pub payload_bytes: usize,
    /// Messages take one of so many routing keys by turn; none without.
    pub routing_keys: Option<NonZeroU32>,
}

impl Default for MessageOptions {
    /// 300 bytes of `order.created`, without routing keys.
    fn default() -> Self {
        Self { namespace: None, event_type: "order.created".to_owned(), payload_bytes: 300, routing_keys: None }
    }
}

impl Default for Options {
    /// One connection to this machine with 256 in flight, 2 s of warm-up, 10 s of measurement.
    fn default() -> Self {
        Self {
            address: "127.0.0.1:7400".to_owned(),
            client: ClientOptions { name: "distric-loadgen".to_owned(), ..ClientOptions::default() },
            connections: 1,
            pace: Pace::InFlight(NonZeroU32::new(256).expect("256 is not zero")),
            message: MessageOptions::default(),
            warm_up_ms: 2_000,
            duration_ms: 10_000,
            drain_ms: 10_000,
            server_pid: None,
        }
    }
}

/// Why a run gave no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option is beyond its bounds.
    #[error("{option} must be {expected}")]
    BadOption {
        /// The option.
        option: &'static str,
        /// Its bounds in words.
        expected: &'static str,
    },
    /// A connection could not be made, or the server refused it.
    #[error(transparent)]
    Connect(#[from] distric_sdk::Error),
    /// Every connection was lost before the end.
    #[error("every connection was lost; the last one: {0}")]
    Lost(distric_sdk::Error),
    /// A process's CPU time or memory cannot be read.
    #[error("CPU time or memory of process {process}: {source}")]
    Cpu {
        /// Its id, or `self`.
        process: String,
        /// What the system said.
        source: io::Error,
    },
    /// The workers of a run did not all come about.
    #[error("not all workers were known to the coordinator within {within_s} s")]
    Workers {
        /// How long they had, seconds.
        within_s: u64,
    },
    /// Instances did not end.
    #[error("some instances had not ended {within_s} s after the measurement")]
    Undone {
        /// How long they had, seconds.
        within_s: u64,
    },
    /// A start was answered without an instance.
    #[error("the coordinator answered a start without an instance")]
    NoInstance,
    /// The flush of a disk cannot be timed.
    #[error("timing the flush in {path}: {source}")]
    Flush {
        /// The directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The runtime or a thread could not be started.
    #[error("starting the generator: {0}")]
    Start(#[source] io::Error),
}

/// Runs on a runtime of its own, on this thread. Errors: see [`Error`].
pub fn run_blocking(options: &Options) -> Result<Report, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Start)?;
    runtime.block_on(run(options))
}

/// Connects, warms up, measures, waits for the last answers. Errors: see [`Error`].
///
/// Meant for a current-thread runtime: on another one the measurement is the same, at a higher cost.
pub async fn run(options: &Options) -> Result<Report, Error> {
    check(options)?;
    let template = Template::new(&options.message);
    let mut connections = Vec::with_capacity(options.connections as usize);
    for _ in 0..options.connections {
        connections.push(RawConnection::connect(&options.address, &options.client).await?);
    }

    let start = Instant::now();
    let window = Window {
        start,
        measure_from: start + Duration::from_millis(options.warm_up_ms),
        measure_until: start + Duration::from_millis(options.warm_up_ms + options.duration_ms),
        give_up_at: start + Duration::from_millis(options.warm_up_ms + options.duration_ms + options.drain_ms),
    };
    let pacer = match options.pace {
        Pace::InFlight(_) => None,
        Pace::Rate(rate) => Some(Pacer::start(start.into_std(), rate).map_err(Error::Start)?),
    };
    let mut flows = JoinSet::new();
    let mut in_flight_max = 0;
    for (index, connection) in connections.into_iter().enumerate() {
        let schedule = Schedule::new(options, index as u32, &window);
        let pulse = pacer.as_ref().map(Pacer::pulse);
        let flow = Flow::new(connection, template.clone(), schedule, pulse, window, options.pace);
        in_flight_max += flow.in_flight_max();
        flows.spawn(flow.run());
    }

    let server = options.server_pid.map(|pid| Arc::<str>::from(pid.to_string()));
    let clocks = || -> Result<_, Error> { Ok((server.as_deref().map(CpuClock::read).transpose()?, CpuClock::read("self")?)) };
    sleep_until(window.measure_from).await;
    let (server_before, client_before) = clocks()?;
    sleep_until(window.measure_until).await;
    let (server_after, client_after) = clocks()?;
    let server_cpu_us = server_before.zip(server_after).map(|(before, after)| after.since_us(before));
    let client_cpu_us = client_after.since_us(client_before);

    let mut tally = Tally::new();
    let mut lost = Vec::new();
    while let Some(flow) = flows.join_next().await {
        let (own, failure) = flow.unwrap_or_else(|error: JoinError| std::panic::resume_unwind(error.into_panic()));
        tally.add(&own);
        lost.extend(failure);
    }
    if lost.len() == options.connections as usize
        && let Some(error) = lost.pop()
    {
        return Err(Error::Lost(error));
    }
    Ok(Report::new(options, &tally, in_flight_max, lost.len(), server_cpu_us, client_cpu_us))
}

fn check(options: &Options) -> Result<(), Error> {
    let bad = |option, expected| Err(Error::BadOption { option, expected });
    if !(1..=CONNECTIONS_MAX).contains(&options.connections) {
        return bad("connections", "1 to 1,024");
    }
    if options.duration_ms == 0 {
        return bad("duration", "longer than nothing");
    }
    if options.message.payload_bytes > PAYLOAD_BYTES_MAX {
        return bad("payload size", "at most 1 MiB");
    }
    match options.pace {
        Pace::Rate(rate) if !(rate.is_finite() && rate > 0.0 && rate <= 10_000_000.0) => {
            bad("rate", "above 0 and at most 10,000,000 per second")
        }
        _ => Ok(()),
    }
}
