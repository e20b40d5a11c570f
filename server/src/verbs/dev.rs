//! `distric dev`: one node with everything beside it, in one process.

use std::path::PathBuf;

use crate::cli::DevArgs;
use crate::exit::{Exit, Failure};
use crate::host::{self, Wishes};
use crate::output::Output;
use crate::settings;

/// Runs the node on the given data directory, or on a temporary one.
pub fn run(args: &DevArgs, output: Output) -> Result<Exit, Failure> {
    let loaded = settings::of_node(&args.node)?;
    let (temporary, data_dir): (Option<tempfile::TempDir>, PathBuf) = match &loaded.config.node.data_dir {
        Some(path) => (None, path.clone()),
        None => {
            let dir = tempfile::Builder::new()
                .prefix("distric-dev-")
                .tempdir()
                .map_err(|error| Failure::io("create a directory in", &std::env::temp_dir(), &error))?;
            let path = dir.path().to_owned();
            (Some(dir), path)
        }
    };
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
