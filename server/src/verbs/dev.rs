//! `distric dev`: one node with everything beside it, in one process.

use crate::cli::DevArgs;
use crate::exit::{Exit, Failure};
use crate::host::{self, Wishes};
use crate::output::Output;
use crate::settings;

/// Runs the node on the given data directory, or on a temporary one.
pub fn run(args: &DevArgs, output: Output) -> Result<Exit, Failure> {
    if args.nodes != 1 {
        return super::dev_cluster::run(args, output);
    }
    let mut loaded = settings::of_node(&args.node)?;
    if let Some(plugins) = &args.plugins {
        loaded.config.worker.plugins = Some(plugins.clone());
    }
    if let Some(programs) = &args.programs {
        loaded.config.worker.programs = Some(programs.clone());
    }
    let (temporary, data_dir) = settings::data_dir_or_temporary(&loaded.config)?;
    let wishes = Wishes {
        verb: "dev",
        rules: args.rules.clone(),
        workflows: args.workflows.clone(),
        worker: !args.no_worker,
        temporary: temporary.is_some(),
        until_stdin_closes: args.until_stdin_closes,
    };
    host::run(loaded, &data_dir, &wishes, output)
}
