//! `distric bench workflows`.

use std::path::PathBuf;

use clap::Args;
use distric_loadgen::workflows::{WorkflowOptions, run_blocking};

use crate::exit::{Exit, Failure};
use crate::output::{Output, write_line};
use crate::verbs::bench::refused;

/// `distric bench workflows`.
#[derive(Args, Clone, Debug)]
pub struct WorkflowsArgs {
    /// Coordinators, comma-separated host:port.
    #[arg(long, value_name = "ADDRESSES", env = "DISTRIC_ADDR", default_value = "127.0.0.1:7400", value_delimiter = ',')]
    pub addr: Vec<String>,
    /// Tasks of the workflow, one after the other.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub steps: u32,
    /// Instances open at a time; one that ends starts the next.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub in_flight: u32,
    /// Workers, each with a session to every coordinator.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub workers: u32,
    /// Tasks that each worker runs at once.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub slots: u32,
    /// Instead, start so many instances that wait for ever, and tell what one costs in memory.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub park: u64,
    /// How long to run before anything counts, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    pub warm_up_ms: u64,
    /// How long to measure, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub duration_ms: u64,
    /// The servers' process ids, to read their CPU time and memory; they must run on this machine.
    #[arg(long, value_name = "PIDS", value_delimiter = ',')]
    pub server_pid: Vec<u32>,
    /// A directory on the servers' disk: its flush is timed in the same run.
    #[arg(long, value_name = "DIR")]
    pub flush_dir: Option<PathBuf>,
}

/// Runs the workflows and prints the report.
pub fn run(args: &WorkflowsArgs, output: Output) -> Result<Exit, Failure> {
    let options = WorkflowOptions {
        addresses: args.addr.clone(),
        api_key: std::env::var("DISTRIC_API_KEY").ok(),
        steps: args.steps,
        in_flight: args.in_flight,
        workers: args.workers,
        slots: args.slots,
        park: args.park,
        warm_up_ms: args.warm_up_ms,
        duration_ms: args.duration_ms,
        server_pids: args.server_pid.clone(),
        flush_dir: args.flush_dir.clone(),
    };
    let report = run_blocking(&options).map_err(refused)?;
    if output.json {
        write_line(&serde_json::to_string(&report).expect("a report is a tree of texts and numbers"));
    } else {
        write_line(report.to_string().trim_end());
    }
    Ok(Exit::Success)
}
