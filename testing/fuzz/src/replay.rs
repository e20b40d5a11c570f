//! Gives a target its inputs where there is no fuzzer: files, or standard input.

use std::io::{self, Read};
use std::process::ExitCode;

/// Runs `target` on each file named on the command line, or on standard input when none is. A crash is the target's panic.
pub fn replay(target: crate::Target) -> ExitCode {
    let paths: Vec<_> = std::env::args_os().skip(1).collect();
    let mut inputs = Vec::new();
    if paths.is_empty() {
        let mut input = Vec::new();
        if let Err(error) = io::stdin().lock().read_to_end(&mut input) {
            eprintln!("standard input: {error}");
            return ExitCode::FAILURE;
        }
        inputs.push(input);
    }
    for path in paths {
        match std::fs::read(&path) {
            Ok(input) => inputs.push(input),
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
    }
    for input in &inputs {
        target(input);
    }
    println!("{} inputs, no panic", inputs.len());
    ExitCode::SUCCESS
}
