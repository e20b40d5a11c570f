//! `sim`: storms by the number, by the seed or by the clock. Usually called as `cargo xtask sim`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use distric_sim::storm::{self, Met};
use indicatif::{ProgressBar, ProgressStyle};

const USAGE: &str = "usage: sim [--seeds N | --seed S | --minutes M] [--from SEED]";
/// Every so many seeds one is run a second time, and has to tell the same story.
const TWICE_EVERY: u64 = 100;
/// A batch of so many seeds has to meet every kind of fault.
const COVERAGE_FROM: u64 = 100;

/// What to run.
enum Batch {
    Seeds(u64),
    One(u64),
    Minutes(u64),
}

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<String>) -> Result<()> {
    let (mut batch, mut from) = (Batch::Seeds(100), 0);
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { bail!("{} lacks its number\n{USAGE}", pair[0]) };
        let number = value.parse().with_context(|| format!("{name} takes a number, not `{value}`"))?;
        match name.as_str() {
            "--seeds" => batch = Batch::Seeds(number),
            "--seed" => batch = Batch::One(number),
            "--minutes" => batch = Batch::Minutes(number),
            "--from" => from = number,
            _ => bail!("no option `{name}`\n{USAGE}"),
        }
    }
    match batch {
        Batch::One(seed) => {
            let first = storm::run(seed);
            let hash = storm::run(seed).hash;
            anyhow::ensure!(hash == first.hash, "seed {seed} tells two stories");
            println!("seed {seed} keeps its promises: {} s simulated, hash {hash:016x}", first.simulated_ms / 1_000);
            Ok(())
        }
        Batch::Seeds(count) => storms(from, |done, _| done < count, Some(count)),
        Batch::Minutes(minutes) => storms(from, |_, elapsed| elapsed < Duration::from_secs(60 * minutes), None),
    }
}

/// The seeds that once failed come first.
const REGRESSIONS: &str = include_str!("../regressions.txt");

fn storms(from: u64, goes_on: impl Fn(u64, Duration) -> bool, count: Option<u64>) -> Result<()> {
    let began = Instant::now();
    let bar = count.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {elapsed}, {msg}")?);
    let (mut met, mut done, mut simulated_ms) = (Met::default(), 0, 0);
    let known = REGRESSIONS.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty());
    for seed in known {
        storm::run(seed.parse().with_context(|| format!("regressions.txt: `{seed}` is no seed"))?);
    }
    while goes_on(done, began.elapsed()) {
        let seed = from + done;
        let outcome = storm::run(seed);
        if seed.is_multiple_of(TWICE_EVERY) {
            anyhow::ensure!(storm::run(seed).hash == outcome.hash, "seed {seed} tells two stories: something besides the seed decides");
        }
        met.add(&outcome.met);
        simulated_ms += outcome.simulated_ms;
        done += 1;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    println!("{done} seeds, {} s simulated in {seconds:.1} s: {:.0} seeds an hour", simulated_ms / 1_000, done as f64 * 3_600.0 / seconds);
    let mut never = Vec::new();
    for (kind, count) in met.counts() {
        println!("{count:>9} {kind}");
        never.extend((count == 0).then_some(kind));
    }
    anyhow::ensure!(never.is_empty() || done < COVERAGE_FROM, "never met in {done} seeds: {}", never.join(", "));
    Ok(())
}
