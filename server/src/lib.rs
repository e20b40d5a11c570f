//! The `distric` binary: one verb a file, and the wiring of rooms to this machine.
//!
//! In: a command line, files, the environment, signals.  Out: text or JSON on stdout, log lines on stderr, an exit code.
//! May touch: everything. Never: logic of its own that another room could have.
//! Start reading at [`run`], then [`cli`], then the verb in question.

pub mod cli;
pub mod client;
pub mod cluster;
pub mod demo;
pub mod exit;
pub mod follow;
pub mod gossip;
pub mod host;
pub mod live_catalog;
pub mod logging;
pub mod output;
pub mod rule_files;
pub mod settings;
pub mod signals;
pub mod verbs;
pub mod workers;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use cli::Cli;
use exit::Exit;
use output::Output;

/// The whole program: parses the command line, runs the verb, prints a failure, returns the exit code.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not mistakes.
            let exit = match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Success,
                _ => Exit::Usage,
            };
            // A terminal that cannot be written to leaves nobody to tell.
            let _ = error.print();
            return exit.into();
        }
    };
    let output = Output::new(cli.json);
    match verbs::run(cli.verb, output) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if output.json {
                eprintln!("{}", failure.to_json());
            } else {
                eprintln!("{failure}");
            }
            failure.exit.into()
        }
    }
}
