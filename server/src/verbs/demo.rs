//! `distric demo`.

use crate::cli::DemoArgs;
use crate::client::block_on;
use crate::demo;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Runs the demo in a temporary directory, which is removed afterwards unless it is to be kept.
pub fn run(args: &DemoArgs, output: Output) -> Result<Exit, Failure> {
    let dir = tempfile::Builder::new()
        .prefix("distric-demo-")
        .tempdir()
        .map_err(|error| Failure::io("create a directory in", &std::env::temp_dir(), &error))?;
    let result = block_on(demo::run(args, dir.path(), output));
    if args.keep {
        demo::say_kept(&dir.keep(), output);
    }
    result
}
