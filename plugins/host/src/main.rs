//! The child of a worker in which one plugin runs, as a program of its own; `distric` has the same as a hidden verb.

use std::process::ExitCode;

fn main() -> ExitCode {
    match distric_plugins_host::child::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::from(2)
        }
    }
}
