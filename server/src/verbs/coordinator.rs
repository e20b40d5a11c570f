//! `distric coordinator`: a node without a worker.

use crate::cli::CoordinatorArgs;
use crate::exit::{Exit, Failure};
use crate::host::{self, Wishes};
use crate::output::Output;
use crate::settings;

/// Runs the node on its data directory.
pub fn run(args: &CoordinatorArgs, output: Output) -> Result<Exit, Failure> {
    let loaded = settings::of_node(&args.node)?;
    let data_dir = settings::data_dir_of(&loaded.config)?.to_owned();
    let wishes = Wishes {
        verb: "coordinator",
        rules: args.rules.clone(),
        workflows: args.workflows.clone(),
        worker: false,
        temporary: false,
        until_stdin_closes: args.until_stdin_closes,
    };
    host::run(loaded, &data_dir, &wishes, output)
}
