//! `cargo xtask`: the chores of this repository.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use xtask::{mutants, tidy};

const VERBS: &str = "\
cargo xtask VERB

  tidy    holds the house rules over the whole tree: arrows between rooms, words that a room must not use, what is absent on
          purpose, module docs and lengths, links, reasons for dependencies. Prints `file:line: rule: words`; exit 1 on a finding.
  rules   prints what tidy holds.
  rounds [ROUNDS [SEED [FAULT]]]
          three real coordinators under load, one fault after the other (200 by default); in the end nothing may be missing or doubled.
  gossip-lab EXPERIMENT [--n N] [--trials T] [--kill K] [--loss PERMILLE] [--seed S]
          runs one experiment of docs/gossip.md on the virtual network and prints its table; without one, what there is.
  sim     [--seeds N | --seed S | --minutes M] [--from SEED]
          storms over three nodes of production code in a virtual world; 100 seeds unless told otherwise. A failing seed prints the
          line that replays it, and the end of its diary. Every 100th seed runs twice and must tell the same story.
  rules-diff [--seeds N | --seed S] [--from SEED]
          drawn rules and messages, decided by the index and by the naive evaluator of testing/oracle, as drawn and rewritten; 200 seeds
          unless told otherwise. The first difference is printed with the line that replays it.
  mutants [--seeds N] [NAME...]
          puts each bug of testing/mutants (or those whose names contain NAME) into a scratch copy of raft and counts the seeds
          until its simulation fails. Prints the table of docs/testing.md; exit 1 when one is not caught within N (1,000) seeds.
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
        ["sim", options @ ..] => cargo_run("distric-sim", "sim", options),
        ["rules-diff", options @ ..] => cargo_run("distric-oracle", "rules-diff", options),
        ["mutants", "--seeds", seeds, names @ ..] => {
            run_mutants(names, seeds.parse().with_context(|| format!("--seeds takes a number, not `{seeds}`"))?)
        }
        ["mutants", names @ ..] => run_mutants(names, mutants::SEEDS),
        unknown => {
            eprint!("xtask: no verb `{}`\n\n{VERBS}", unknown.join(" "));
            Ok(ExitCode::from(2))
        }
    }
}

fn gossip_lab(arguments: &[&str]) -> Result<ExitCode> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo)
        .args(["run", "--quiet", "--release", "--package", "distric-gossip", "--example", "lab", "--"])
        .args(arguments)
        .status()
        .context("cargo cannot be started")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the root of the repository")
}

fn cargo_run(package: &str, program: &str, options: &[&str]) -> Result<ExitCode> {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "-p", package, "--bin", program, "--"]).args(options).current_dir(root()?);
    let ran = command.status().with_context(|| format!("cargo run -p {package}"))?;
    Ok(if ran.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_mutants(names: &[&str], seeds: u64) -> Result<ExitCode> {
    Ok(if mutants::run(root()?, names, seeds)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn hold_the_rules() -> Result<ExitCode> {
    let tree = tidy::Tree::read(root()?)?;
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
