//! E13, E14 and loss alone: when nobody dies, nobody is declared dead, and little is said.

use std::collections::BTreeSet;

use distric_gossip::Event;

use crate::asked::Asked;
use crate::report;
use crate::world::replay::Replay;
use crate::world::{S, node_id};

/// E13: 1, 10 and 50 % of the members stand still for 1 to 10 s.
pub fn paused_observers(asked: &Asked) -> u64 {
    let mut packets = 0;
    for percent in [1, 10, 50] {
        let tallies = asked.worlds(|world, trials| {
            let (mut wrong, mut suspected) = (0, 0);
            for _ in 0..trials {
                let since = world.now;
                world.events.clear();
                let paused = world.random.choose((asked.n * percent / 100).max(1), 0, asked.n);
                for at in &paused {
                    let pause = S + world.random.below(9 * S);
                    asked.style.apply(world, *at, pause);
                }
                world.run_for(15 * S);
                let sleepers: BTreeSet<_> = paused.iter().map(|at| node_id(*at)).collect();
                wrong += world.failed_since(since).iter().filter(|(.., node)| !sleepers.contains(node)).count();
                suspected += world.count(since, |event| matches!(event, Event::Suspected { node, .. } if !sleepers.contains(node)));
                // Who is lost again and again is taken back later each time, an hour at most.
                world.converge(2 * 3_600 * S);
            }
            (wrong, suspected, world.packets_sent)
        });
        let sum = tallies.into_iter().fold((0, 0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1, sum.2 + more.2));
        println!("  {percent:>2} % stand still: healthy declared dead {}, suspicions of the healthy noted {}", sum.0, sum.1);
        packets += sum.2;
    }
    packets
}

/// Resident memory of this process, bytes.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4_096)
}

/// E14: what a node sends in 30 s in which nothing happens, and what it takes of memory.
pub fn idle(asked: &Asked) -> u64 {
    let empty = resident_bytes();
    let mut world = asked.formed(asked.seed);
    world.checks = false;
    world.events = Vec::new();
    world.run_for(30 * S);
    let before: Vec<(u64, u64)> = world.seats.iter().map(|seat| (seat.bytes_sent, seat.packets_sent)).collect();
    world.run_for(30 * S);
    let pairs = || world.seats.iter().zip(&before);
    report::rates("bytes/s sent per node", pairs().map(|(seat, before)| (seat.bytes_sent - before.0) / 30).collect());
    report::rates("packets/s sent per node", pairs().map(|(seat, before)| (seat.packets_sent - before.1) / 30).collect());
    match empty.zip(resident_bytes()) {
        Some((empty, full)) => {
            println!("  memory per node, the world's own books included: {} KB", full.saturating_sub(empty) / 1_024 / asked.n as u64)
        }
        None => println!("  memory: this system does not tell"),
    }
    world.packets_sent
}

/// Loss and nothing else.
pub fn false_positives(asked: &Asked) -> u64 {
    let tallies = asked.worlds(|world, trials| {
        let since = world.now;
        world.events.clear();
        world.run_for(trials as u64 * 10 * S);
        let own: u64 = world.running().map(|(_, gossip)| gossip.stats().suspicions_own_count).sum();
        (own, world.failed_since(since).len(), world.packets_sent)
    });
    let sum = tallies.into_iter().fold((0, 0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1, sum.2 + more.2));
    println!("  {} s of {} permille: {} suspicions raised, {} failures declared", asked.trials * 10, asked.loss_permille, sum.0, sum.1);
    sum.2
}

/// What one member of an idle cluster computes, and what a packet costs it then and while ten die. Real time, so the host must be idle too.
pub fn packets(asked: &Asked) -> u64 {
    const SEAT: usize = 7;
    let mut world = asked.formed(asked.seed);
    world.checks = false;
    world.wants = |_| false;
    let idle = Replay::record(&mut world, SEAT, 60 * S);
    (0..10).for_each(|n| world.crash(asked.n / 10 * n + 1));
    let storm = Replay::record(&mut world, SEAT, 10 * S);
    for (name, replay, seconds) in [("idle", &idle, 60.0), ("ten deaths", &storm, 10.0)] {
        let count = replay.packets.len() as u64;
        // The least of some: what else the host does is not ours.
        let all = (0..20).map(|_| replay.play(count));
        let (packets, timeouts) = all.min_by_key(|(packets, timeouts)| *packets + *timeouts).expect("it was played");
        println!(
            "  {name}: {count} packets in {seconds} s, {:.2} us each; packets and timeouts together {:.4} % of a core, system calls apart",
            packets.as_secs_f64() * 1e6 / count as f64,
            (packets + timeouts).as_secs_f64() / seconds * 100.0
        );
    }
    world.packets_sent
}
