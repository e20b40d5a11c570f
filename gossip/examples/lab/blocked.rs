//! E1, E2, E3 and the calibration: members that stand still (Lifeguard, section V).

use std::collections::BTreeSet;

use distric_gossip::Event;

use crate::asked::{Asked, Style};
use crate::report;
use crate::world::{MS, S, World, node_id};

/// Members blocked at once, of 128; larger clusters have the same share.
const CONCURRENT: [usize; 9] = [1, 4, 8, 12, 16, 20, 24, 28, 32];
/// How long they are blocked, milliseconds.
const BLOCKED_MS: [u64; 6] = [128, 512, 2_048, 8_192, 16_384, 32_768];
/// How long they run between, milliseconds (E2).
const BETWEEN_MS: [u64; 8] = [1, 4, 16, 64, 256, 1_024, 4_096, 16_384];

/// What came of some runs.
#[derive(Default)]
struct Tally {
    runs: u64,
    first: Vec<u64>,
    full: Vec<u64>,
    /// Failures declared of members that were not blocked, and those of them declared by such.
    wrong: u64,
    wrong_at_healthy: u64,
    packets: u64,
    bytes: u64,
    node_seconds: f64,
}

impl Tally {
    fn add(mut self, other: Self) -> Self {
        self.runs += other.runs;
        self.first.extend(other.first);
        self.full.extend(other.full);
        self.wrong += other.wrong;
        self.wrong_at_healthy += other.wrong_at_healthy;
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.node_seconds += other.node_seconds;
        self
    }

    /// Takes in what was said since `since` in a world in which `blocked` stood still.
    fn count(&mut self, world: &World, since: u64, before: (u64, u64), blocked: &BTreeSet<usize>) {
        let ids: BTreeSet<_> = blocked.iter().map(|at| node_id(*at)).collect();
        for (_, by, node) in world.failed_since(since) {
            if !ids.contains(&node) {
                self.wrong += 1;
                self.wrong_at_healthy += u64::from(!blocked.contains(&by));
            }
        }
        self.runs += 1;
        self.packets += world.packets_sent - before.0;
        self.bytes += world.bytes_sent - before.1;
        self.node_seconds += world.seats.len() as f64 * (world.now - since) as f64 / 1e6;
    }

    fn print(self) -> u64 {
        if !self.first.is_empty() {
            report::times("first detection", self.first);
            report::times("known to all healthy", self.full);
        }
        let runs = self.runs as f64;
        println!(
            "  {} runs: FP {} ({:.3} per run), FP- {} ({:.4} per run); {:.2} packets/s, {:.0} B/s per node",
            self.runs,
            self.wrong,
            self.wrong as f64 / runs,
            self.wrong_at_healthy,
            self.wrong_at_healthy as f64 / runs,
            self.packets as f64 / self.node_seconds,
            self.bytes as f64 / self.node_seconds
        );
        self.packets
    }
}

/// How many are blocked in a cluster of this size.
fn scaled(asked: &Asked, concurrent: usize) -> usize {
    (concurrent * asked.n).div_ceil(128).min(asked.n - 1)
}

/// One run of E1: a fresh cluster, 15 s of rest, some blocked once; ends when all see all, or 120 s after.
fn one_block(asked: &Asked, style: Style, concurrent: usize, blocked_ms: u64, seed: u64) -> Tally {
    let mut world = asked.formed(seed);
    world.checks = false;
    world.run_for(5 * S);
    world.events.clear();
    let (since, before) = (world.now, (world.packets_sent, world.bytes_sent));
    let blocked: BTreeSet<usize> = world.random.choose(scaled(asked, concurrent), 0, asked.n).into_iter().collect();
    blocked.iter().for_each(|at| style.apply(&mut world, *at, blocked_ms * MS));
    world.run_for(blocked_ms * MS);
    let limit = since + 120 * S;
    // What the blocked had to say is on its way.
    world.run_for(2 * S);
    while world.now < limit && !world.agrees() {
        world.run_for(100 * MS);
    }
    let mut tally = Tally::default();
    tally.count(&world, since, before, &blocked);
    for at in &blocked {
        let node = node_id(*at);
        let said = |(when, by, event): &(u64, usize, Event)| match event {
            Event::Failed { node: who, .. } if *who == node && !blocked.contains(by) => Some((*by, *when - since)),
            _ => None,
        };
        let times: std::collections::BTreeMap<usize, u64> = world.events.iter().rev().filter_map(said).collect();
        tally.first.extend(times.values().min());
        if times.len() == asked.n - blocked.len() {
            tally.full.extend(times.values().max());
        }
    }
    tally
}

/// One run of E2: blocked and running by turns, until 120 s have passed and a block ends.
fn one_cycle(asked: &Asked, style: Style, (concurrent, blocked_ms, between_ms): (usize, u64, u64), seed: u64) -> Tally {
    let mut world = asked.formed(seed);
    world.checks = false;
    world.run_for(5 * S);
    world.events.clear();
    let (since, before) = (world.now, (world.packets_sent, world.bytes_sent));
    let blocked: BTreeSet<usize> = world.random.choose(scaled(asked, concurrent), 0, asked.n).into_iter().collect();
    while world.now < since + 120 * S {
        blocked.iter().for_each(|at| style.apply(&mut world, *at, blocked_ms * MS));
        world.run_for(blocked_ms * MS);
        if world.now < since + 120 * S {
            world.run_for(between_ms * MS);
        }
    }
    let mut tally = Tally::default();
    tally.count(&world, since, before, &blocked);
    tally
}

fn all(asked: &Asked, cells: &[(usize, u64, u64)], one: impl Fn((usize, u64, u64), u64) -> Tally + Sync) -> Tally {
    let runs: Vec<_> = (0..asked.reps).flat_map(|_| cells.iter().copied()).step_by(asked.every).collect();
    let tallies = asked.parallel(runs.len(), |number| one(runs[number], asked.seed + number as u64));
    tallies.into_iter().fold(Tally::default(), Tally::add)
}

/// E1 with members blocked long enough to be missed, and memberlist's parameters. Published in Lifeguard's table V, first detection and
/// full dissemination, median / 99 % / 99.9 %, seconds.
pub fn calibration(asked: &Asked) -> u64 {
    let asked = if asked.config == "ours" { Asked { config: "swim".to_owned(), ..asked.clone() } } else { asked.clone() };
    let published = match asked.config.as_str() {
        "swim" => "first 12.44 / 16.96 / 19.40, full 12.90 / 16.93 / 20.17",
        "lha-probe" => "first 12.42 / 17.75 / 20.10, full 12.90 / 17.98 / 20.56",
        "lha-suspicion" => "first 12.42 / 17.47 / 25.41, full 12.89 / 17.33 / 23.80",
        _ => "first 12.45 / 17.90 / 21.20, full 12.91 / 18.05 / 21.68",
    };
    println!("  published for {}: {published}", asked.config);
    let cells: Vec<_> = CONCURRENT.iter().flat_map(|c| [16_384, 32_768].map(|d| (*c, d, 0))).collect();
    all(&asked, &cells, |(c, d, _), seed| one_block(&asked, Style::Hold, c, d, seed)).print()
}

/// E1.
pub fn threshold(asked: &Asked) -> u64 {
    let cells: Vec<_> = CONCURRENT.iter().flat_map(|c| BLOCKED_MS.map(|d| (*c, d, 0))).collect();
    all(asked, &cells, |(c, d, _), seed| one_block(asked, asked.style, c, d, seed)).print()
}

/// E2. Published for 4,320 runs: SWIM 78.5 FP and 0.307 FP- per run, Lifeguard 1.20 and 0.0058.
pub fn interval(asked: &Asked) -> u64 {
    println!("  published: SWIM 78.5 FP and 0.307 FP- per run, Lifeguard 1.20 and 0.0058 (alpha 5, beta 6)");
    let blocked = CONCURRENT.iter().flat_map(|c| BLOCKED_MS.map(|d| (*c, d)));
    let cells: Vec<_> = blocked.flat_map(|(c, d)| BETWEEN_MS.map(|i| (c, d, i))).collect();
    all(asked, &cells, |cell, seed| one_cycle(asked, asked.style, cell, seed)).print()
}

/// E3: S of 100 members run 3 ms of every 387 ms, as beside 128 busy processes, for five minutes. Published for Lifeguard, all false
/// positives and those at healthy members, read off figure 1: none up to S = 8, 95 and 0 at 16, 1,270 and 60 at 32.
pub fn starved(asked: &Asked) -> u64 {
    const SLICE: u64 = 3 * MS;
    let asked = Asked { n: 100, ..asked.clone() };
    let counts = [1, 2, 4, 8, 16, 32];
    let results = asked.parallel(counts.len(), |number| {
        let mut world = asked.formed(asked.seed + number as u64);
        world.checks = false;
        world.events.clear();
        let (since, before) = (world.now, (world.packets_sent, world.bytes_sent));
        let slow: BTreeSet<usize> = world.random.choose(counts[number], 0, asked.n).into_iter().collect();
        let phases: Vec<(usize, u64)> = slow.iter().map(|at| (*at, world.random.below(129))).collect();
        while world.now < since + 300 * S {
            let slot = (world.now - since) / SLICE % 129;
            // Whose slice ended with the slot before waits for the next one.
            for (at, phase) in &phases {
                if *phase == slot {
                    world.pause(*at, 128 * SLICE);
                }
            }
            world.run_for(SLICE);
        }
        let mut tally = Tally::default();
        tally.count(&world, since, before, &slow);
        let of_slow = world.failed_since(since).len() as u64 - tally.wrong;
        (tally, of_slow)
    });
    let mut packets = 0;
    for (count, (tally, of_slow)) in counts.into_iter().zip(results) {
        println!("  S={count:<3} the slow declared dead {of_slow} times:");
        packets += tally.print();
    }
    packets
}
