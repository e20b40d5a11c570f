//! `rules-diff`: the index against the oracle over many seeds.

use std::process::ExitCode;
use std::time::Instant;

use distric_oracle::diff::{Tally, run_seed};

const USAGE: &str = "rules-diff [--seeds N] [--from SEED] | --seed SEED";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mut seeds, mut from) = (200, 0);
    for pair in arguments.chunks(2) {
        let number = pair.get(1).and_then(|text| text.parse::<u64>().ok());
        match (pair[0].as_str(), number) {
            ("--seeds", Some(n)) => seeds = n,
            ("--from", Some(n)) => from = n,
            ("--seed", Some(n)) => (seeds, from) = (1, n),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let started = Instant::now();
    let mut total = Tally::default();
    for seed in from..from.saturating_add(seeds) {
        match run_seed(seed) {
            Ok(tally) => {
                total.rules_count += tally.rules_count;
                total.decisions_count += tally.decisions_count;
                total.matches_count += tally.matches_count;
                total.layered_count += tally.layered_count;
            }
            Err(difference) => {
                println!("seed {seed}: {difference}\nreplay: cargo xtask rules-diff --seed {seed}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "{seeds} seeds from {from}: {} rules, {} decisions equal, {} matches, {} catalogs in layers, {:.1} s",
        total.rules_count,
        total.decisions_count,
        total.matches_count,
        total.layered_count,
        started.elapsed().as_secs_f64()
    );
    ExitCode::SUCCESS
}
