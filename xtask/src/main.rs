//! `cargo xtask`: the chores of this repository.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use xtask::tidy;

const VERBS: &str = "\
cargo xtask VERB

  tidy    holds the house rules over the whole tree: arrows between rooms, words that a room must not use, what is absent on
          purpose, module docs and lengths, links, reasons for dependencies. Prints `file:line: rule: words`; exit 1 on a finding.
  rules   prints what tidy holds.
  rounds [ROUNDS [SEED [FAULT]]]
          three real coordinators under load, one fault after the other (200 by default); in the end nothing may be missing or doubled.
  gossip-lab EXPERIMENT [--n N] [--trials T] [--kill K] [--loss PERMILLE] [--seed S]
          runs one experiment of docs/gossip.md on the virtual network and prints its table; without one, what there is.
";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Vec<String>) -> Result<ExitCode> {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["help" | "--help" | "-h"] => {
            print!("{VERBS}");
            Ok(ExitCode::SUCCESS)
        }
        ["tidy"] => hold_the_rules(),
        ["rounds", rest @ ..] if rest.len() <= 3 => rounds(rest),
        ["gossip-lab", rest @ ..] => gossip_lab(rest),
        ["rules"] => {
            print!("{}", tidy::describe());
            Ok(ExitCode::SUCCESS)
        }
        unknown => {
            eprint!("xtask: no verb `{}`\n\n{VERBS}", unknown.join(" "));
            Ok(ExitCode::from(2))
        }
    }
}

fn gossip_lab(arguments: &[&str]) -> Result<ExitCode> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo)
        .args(["run", "--quiet", "--package", "distric-gossip", "--example", "lab", "--"])
        .args(arguments)
        .status()
        .context("cargo cannot be started")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn hold_the_rules() -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the root of the repository")?;
    let tree = tidy::Tree::read(root)?;
    let findings = tidy::check(&tree);
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    println!("tidy: {} files, {errors} findings, {} warnings", tree.len(), findings.len() - errors);
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the rounds of `server/tests/rounds.rs` for longer than the tests do.
fn rounds(arguments: &[&str]) -> Result<ExitCode> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "-p", "distric-server", "--test", "rounds", "--", "--nocapture"]).env("ROUNDS", "200");
    for (variable, value) in ["ROUNDS", "ROUNDS_SEED", "ROUNDS_FAULT"].iter().zip(arguments) {
        command.env(variable, value);
    }
    let status = command.status().context("cargo cannot be run")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
