//! Deciding about messages, parsing included: the mean and percentiles over all messages of a workload, and how long compiling takes.
//!
//! A workload is a folder with `rules.json` and `messages.jsonl` (one JSON object a line); `DISTRIC_RULES_WORKLOADS` lists folders,
//! separated by colons. Without it, the small ones beside the rules' tests are measured.
//! A message's latency is the median of its five passes; mean and percentiles are over messages. `cpu us` is processor time over five
//! more passes, divided by the messages: neighbours do not count in it, but what they do to the caches does. Check and build are processor time.
//! Not with criterion: it measures one thing over and over, and here the spread over messages is what counts.
//! Run: `DISTRIC_RULES_WORKLOADS=/tmp/simple-10k cargo bench -p distric-benches --bench rules`.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use distric_rules::{Catalog, CheckContext, Decision, Envelope, check};

/// Passes over all messages; odd, so that there is one in the middle.
const PASSES: usize = 5;

fn main() {
    let listed = std::env::var("DISTRIC_RULES_WORKLOADS").unwrap_or_default();
    let mut folders: Vec<PathBuf> = listed.split(':').filter(|folder| !folder.is_empty()).map(PathBuf::from).collect();
    if folders.is_empty() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/tests/fixtures");
        folders = ["simple-42", "regex-42", "mixed-42", "nested-42"].map(|name| fixtures.join(name)).to_vec();
    }
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load: {}", load.trim());
    println!(
        "{:<14} {:>7} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8} {:>9}",
        "workload", "rules", "check ms", "build ms", "cpu us", "mean us", "p50 us", "p99 us", "matches"
    );
    for folder in folders {
        measure(&folder);
    }
}

/// Time that this thread was on a processor.
fn processor_ns() -> u64 {
    // Giving the processor away brings the kernel's account up to date.
    std::thread::yield_now();
    let account = fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel keeps scheduling statistics");
    account.split(' ').next().and_then(|ns| ns.parse().ok()).expect("their first number is nanoseconds")
}

fn measure(folder: &Path) {
    let text = fs::read_to_string(folder.join("rules.json")).expect("the folder holds rules.json");
    let messages = fs::read_to_string(folder.join("messages.jsonl")).expect("the folder holds messages.jsonl");
    let messages: Vec<&[u8]> = messages.lines().map(str::as_bytes).collect();
    let started_ns = processor_ns();
    let rules = check("rules.json", &text, &CheckContext::default()).catalog.expect("a workload's rules are right");
    let check_ms = (processor_ns() - started_ns) as f64 / 1e6;
    let started_ns = processor_ns();
    let catalog = Catalog::compile(1, &rules).expect("and compile");
    let build_ms = (processor_ns() - started_ns) as f64 / 1e6;
    let envelope = Envelope { namespace: "default", ..Envelope::default() };
    let mut matches_count = 0;
    let mut decision = Decision::default();
    for message in &messages {
        catalog.decide_into(&envelope, message, &mut decision).expect("a workload's messages are JSON");
        matches_count += decision.rules.len();
    }
    let started_ns = processor_ns();
    for _ in 0..PASSES {
        for message in &messages {
            catalog.decide_into(&envelope, black_box(message), &mut decision).expect("JSON");
            black_box(&decision);
        }
    }
    let cpu_us = (processor_ns() - started_ns) as f64 / 1e3 / (messages.len() * PASSES) as f64;
    // Pass by pass: one message five times in a row would find its rules in the caches and its branches foreseen.
    let mut passes_ns = vec![[0_u64; PASSES]; messages.len()];
    for pass in 0..PASSES {
        for (message, passes) in messages.iter().zip(&mut passes_ns) {
            let started = Instant::now();
            catalog.decide_into(&envelope, black_box(message), &mut decision).expect("JSON");
            black_box(&decision);
            passes[pass] = started.elapsed().as_nanos() as u64;
        }
    }
    let median = |passes: &mut [u64; PASSES]| {
        passes.sort_unstable();
        passes[PASSES / 2]
    };
    let mut latencies_ns: Vec<u64> = passes_ns.iter_mut().map(median).collect();
    latencies_ns.sort_unstable();
    let percentile_us = |p: usize| latencies_ns[(latencies_ns.len() - 1) * p / 100] as f64 / 1e3;
    println!(
        "{:<14} {:>7} {:>9.1} {:>9.1} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>9.2}",
        folder.file_name().unwrap_or_default().to_string_lossy(),
        rules.iter().count(),
        check_ms,
        build_ms,
        cpu_us,
        latencies_ns.iter().sum::<u64>() as f64 / 1e3 / latencies_ns.len() as f64,
        percentile_us(50),
        percentile_us(99),
        matches_count as f64 / messages.len() as f64,
    );
}
