//! `distric bench ingest`.

use clap::Args;

use crate::exit::{Exit, Failure};
use crate::output::Output;

/// `distric bench ingest`.
#[derive(Args, Clone, Debug)]
pub struct IngestArgs {
    /// Coordinator, host:port.
    #[arg(long, value_name = "ADDRESS", env = "DISTRIC_ADDR", default_value = "127.0.0.1:7400")]
    pub addr: String,
}

/// Runs the load generator.
pub fn run(args: &IngestArgs, output: Output) -> Result<Exit, Failure> {
    let _ = (args, output);
    Err(Failure::new(Exit::FailedOutcome, "pending"))
}
