//! Three replicas of one group on one thread, in memory: this project's consensus core beside raft-rs, by turns in one run.
//!
//! Each round proposes entries of 256 bytes in batches and delivers every message at once, until all three replicas have handed all of
//! them out. Both sides make a new buffer per entry, keep the log in memory once, and let it go every 16,384 entries.
//! Prints CPU time and allocations per entry: medians over the rounds, and their ratio.
//!
//! `cd benches/raft-rs && cargo run --release`

mod counting_unsafe;
mod ours;
mod theirs;

use counting_unsafe::allocations;

const ENTRY_BYTES: usize = 256;
const ROUNDS: usize = 9;
const ENTRIES_PER_ROUND: usize = 131_072;
const COMPACT_EVERY: u64 = 16_384;

/// What a side must be able to do.
trait Side {
    fn new() -> Self;
    /// Proposes `count` entries at once and delivers until all replicas have handed them out.
    fn commit(&mut self, count: usize);
}

fn cpu_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// CPU nanoseconds and allocations per entry of one round.
fn round(side: &mut impl Side, batch: usize) -> (f64, f64) {
    let (began, allocated) = (cpu_ns(), allocations());
    for _ in 0..ENTRIES_PER_ROUND / batch {
        side.commit(batch);
    }
    let entries = (ENTRIES_PER_ROUND / batch * batch) as f64;
    ((cpu_ns() - began) as f64 / entries, (allocations() - allocated) as f64 / entries)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    println!("three replicas, one thread, {ENTRY_BYTES}-byte entries, median of {ROUNDS} rounds of {ENTRIES_PER_ROUND}");
    println!("{:>6} {:>14} {:>14} {:>7} {:>14} {:>14}", "batch", "distric ns", "raft-rs ns", "ratio", "distric allocs", "raft-rs allocs");
    for batch in std::env::args().nth(1).map_or(vec![1, 64, 1024], |only| vec![only.parse().expect("a number")]) {
        let (mut one, mut other) = (ours::Ours::new(), theirs::Theirs::new());
        round(&mut one, batch);
        round(&mut other, batch);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        let warm = one.step_allocations();
        for _ in 0..ROUNDS {
            a.push(round(&mut one, batch));
            b.push(round(&mut other, batch));
        }
        // Everything has its size after the first round.
        assert_eq!(one.step_allocations() - warm, 0, "steps allocated at batch {batch}");
        let of = |rounds: &[(f64, f64)], pick: fn(&(f64, f64)) -> f64| median(rounds.iter().map(pick).collect());
        let (ours_ns, theirs_ns) = (of(&a, |round| round.0), of(&b, |round| round.0));
        let (ours_allocs, theirs_allocs) = (of(&a, |round| round.1), of(&b, |round| round.1));
        println!("{batch:>6} {ours_ns:>14.0} {theirs_ns:>14.0} {:>6.2}x {ours_allocs:>14.2} {theirs_allocs:>14.2}", theirs_ns / ours_ns);
    }
}
