//! `distric completions SHELL`.

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use serde_json::json;

use crate::cli::Cli;
use crate::exit::{Exit, Failure};
use crate::output::{Output, write_line};

/// Prints the completion script of a shell.
pub fn run(shell: Shell, output: Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "distric", &mut script);
    let script = String::from_utf8_lossy(&script);
    if output.json {
        output.json(&json!({"shell": shell.to_string(), "script": script}));
    } else {
        write_line(script.trim_end());
    }
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_gets_a_script() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            generate(*shell, &mut Cli::command(), "distric", &mut script);
            assert!(script.len() > 1_000, "{shell}");
        }
    }
}
