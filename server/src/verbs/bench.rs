//! `distric bench ingest`.

use std::num::NonZeroU32;

use clap::Args;
use distric_loadgen::{Error, MessageOptions, Options, Pace};

use crate::exit::{Exit, Failure};
use crate::output::{Output, write_line};

/// `distric bench ingest`.
#[derive(Args, Clone, Debug)]
pub struct IngestArgs {
    /// The coordinator, host:port.
    #[arg(long, value_name = "ADDRESS", env = "DISTRIC_ADDR", default_value = "127.0.0.1:7400")]
    pub addr: String,
    /// Namespace.
    #[arg(long, value_name = "NAME", env = "DISTRIC_NAMESPACE")]
    pub namespace: Option<String>,
    /// Connections.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub connections: u32,
    /// Closed loop: unanswered messages on each connection.
    #[arg(long, value_name = "N", default_value = "256", conflicts_with = "rate")]
    pub in_flight: NonZeroU32,
    /// Open loop: messages per second over all connections, timed from when they were meant to be sent.
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Size of the payload, bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 300)]
    pub payload_bytes: usize,
    /// Event type of the messages.
    #[arg(long, value_name = "TYPE", default_value = "order.created")]
    pub event_type: String,
    /// Messages take one of so many routing keys by turn.
    #[arg(long, value_name = "N")]
    pub routing_keys: Option<NonZeroU32>,
    /// How long to send before anything counts, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    pub warm_up_ms: u64,
    /// How long to measure, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub duration_ms: u64,
    /// The server's process id, to read the CPU time that a message costs it; it must run on this machine.
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
}

/// Runs the load generator and prints its report.
pub fn run(args: &IngestArgs, output: Output) -> Result<Exit, Failure> {
    let mut options = Options {
        address: args.addr.clone(),
        connections: args.connections,
        pace: args.rate.map_or(Pace::InFlight(args.in_flight), Pace::Rate),
        message: MessageOptions {
            namespace: args.namespace.clone(),
            event_type: args.event_type.clone(),
            payload_bytes: args.payload_bytes,
            routing_keys: args.routing_keys,
        },
        warm_up_ms: args.warm_up_ms,
        duration_ms: args.duration_ms,
        server_pid: args.server_pid,
        ..Options::default()
    };
    options.client.api_key = std::env::var("DISTRIC_API_KEY").ok();
    let report = distric_loadgen::run_blocking(&options).map_err(refused)?;
    if output.json {
        write_line(&serde_json::to_string(&report).expect("a report is a tree of texts and numbers"));
    } else {
        write_line(report.to_string().trim_end());
    }
    Ok(Exit::Success)
}

/// What the load generator could not do, as an exit.
pub fn refused(error: Error) -> Failure {
    let message = error.to_string();
    match error {
        Error::BadOption { .. } => Failure::new(Exit::Usage, message),
        Error::Connect(error) => error.into(),
        _ => Failure::new(Exit::Unavailable, message),
    }
}
