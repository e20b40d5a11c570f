//! The lab: named, seeded experiments on the virtual network, printed as tables.
//!
//! `cargo xtask gossip-lab E4 --n 1000 --trials 40 --kill 10 --loss 0 --seed 1`
//! Experiments: E4 crash, E5 bootstrap, E8 joining under loss, E9 dissemination, E10 partition, E11 churn, E12 storm of loads, E13 paused
//! observers, E14 idle bandwidth, FP false positives, CAL crash with the parameters of Lifeguard's Table V.

#[path = "../tests/world/mod.rs"]
mod world;

use std::collections::BTreeSet;

use distric_gossip::{Event, Profile, Verdict};
use world::*;

/// What was asked for on the command line.
struct Asked {
    n: usize,
    trials: usize,
    kill: usize,
    loss_permille: u64,
    backlog: bool,
    seed: u64,
    /// The spread of suspicions for the calibration: 1 is plain SWIM.
    beta: u32,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: u64| {
        let at = words.iter().position(|word| word == name);
        at.and_then(|at| words.get(at + 1)).map_or(default, |value| value.parse().expect("a number follows the name"))
    };
    let asked = Asked {
        n: number("--n", 128) as usize,
        trials: number("--trials", 10) as usize,
        kill: number("--kill", 1) as usize,
        loss_permille: number("--loss", 0),
        backlog: words.iter().any(|word| word == "--backlog"),
        seed: number("--seed", 1),
        beta: number("--beta", 1) as u32,
    };
    let started = std::time::Instant::now();
    let packets = match words.first().map(String::as_str) {
        Some("E4") => crash(&asked),
        Some("E5") => bootstrap(&asked),
        Some("E8") => lossy_join(&asked),
        Some("E11") => churn(&asked),
        Some("E12") => load_storm(&asked),
        Some("CAL") => calibration(&asked),
        Some("E9") => dissemination(&asked),
        Some("E10") => partition(&asked),
        Some("E13") => paused_observers(&asked),
        Some("E14") => idle(&asked),
        Some("FP") => false_positives(&asked),
        _ => {
            println!(
                "lab CAL|E4|E5|E8|E9|E10|E11|E12|E13|E14|FP --n N --trials T --kill K --loss PERMILLE --seed S [--backlog] [--beta B]"
            );
            return;
        }
    };
    let took = started.elapsed();
    println!("  {packets} packets in {:.1} s of one core: {:.2} us each\n", took.as_secs_f64(), took.as_micros() as f64 / packets as f64);
}

fn formed(asked: &Asked) -> World {
    let mut world = World::formed(asked.seed, asked.n, |n, config| {
        config.profile.zone = format!("zone-{}", n % 3);
        config.profile.capacity = 8;
    });
    world.weather.loss_permille = asked.loss_permille;
    world.checks = asked.n <= 200;
    world.run_for(10 * S);
    println!("N={} seed={} loss={} permille, all see all; then:", asked.n, asked.seed, asked.loss_permille);
    world
}

/// The value at a share of the sorted samples.
fn at(samples: &mut [u64], share: f64) -> f64 {
    samples.sort_unstable();
    let rank = ((samples.len() as f64 * share).ceil() as usize).clamp(1, samples.len());
    samples[rank - 1] as f64 / 1e6
}

fn row(name: &str, samples: &mut [u64]) {
    let (p50, p99, p999) = (at(samples, 0.5), at(samples, 0.99), at(samples, 0.999));
    println!("  {name:<28} n={:<6} p50 {p50:.2}  p99 {p99:.2}  p99.9 {p999:.2}  max {:.2} s", samples.len(), at(samples, 1.0));
}

fn crash(asked: &Asked) -> u64 {
    let mut world = formed(asked);
    println!("E4 crash of {} at once, {} trials", asked.kill, asked.trials);
    crashes(asked, &mut world, 8 * S, |_, _| ())
}

/// Crashes, each looked at for so long; `meanwhile` runs every 50 ms of it.
fn crashes(asked: &Asked, world: &mut World, within: u64, meanwhile: impl Fn(&mut World, u64)) -> u64 {
    let (mut first, mut full, mut missed, mut wrong) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..asked.trials {
        let pause = world.random.below(S);
        world.run_for(pause);
        let since = world.now;
        world.events.clear();
        let victims = world.random.choose(asked.kill, 0, asked.n);
        victims.iter().for_each(|victim| world.crash(*victim));
        while world.now < since + within {
            let at = world.now - since;
            meanwhile(world, at);
            world.run_for(50 * MS);
        }
        let dead: BTreeSet<_> = victims.iter().map(|victim| node_id(*victim)).collect();
        for victim in &victims {
            let node = node_id(*victim);
            let said = |event: &Event| matches!(event, Event::Failed { node: who, .. } if *who == node);
            let times: Vec<u64> = world.events.iter().filter(|(.., event)| said(event)).map(|(at, ..)| at - since).collect();
            match times.iter().min() {
                Some(time) => first.push(*time),
                None => missed += 1,
            }
            if times.len() == asked.n - asked.kill {
                full.extend(times.iter().max());
            }
        }
        wrong += world.failed_since(since).iter().filter(|(.., node)| !dead.contains(node)).count();
        for victim in victims {
            world.history.forget(victim);
            world.restart(victim, |config| config.seeds = (0..3).map(|n| endpoint((victim + 1 + n) % asked.n)).collect());
        }
        world.settle(60 * S);
    }
    row("first detection", &mut first);
    row("known to all", &mut full);
    println!(
        "  not seen by anyone in time: {missed}; not known to all in time: {}; healthy declared dead: {wrong}",
        first.len() - full.len()
    );
    world.packets_sent
}

/// Lifeguard's own parameters: a probe a second, alpha 5, four crashes of 128 at once. Published, first detection, median / 99 / 99.9 %:
/// SWIM (beta 1) 12.44 / 16.96 / 19.40 s, Lifeguard (beta 6) 12.45 / 17.90 / 21.20 s (table V).
fn calibration(asked: &Asked) -> u64 {
    let mut world = World::formed(asked.seed, asked.n, |_, config| {
        config.probe_interval_ms = 1_000;
        config.direct_timeout_ms_min = 333;
        config.direct_timeout_ms_max = 333;
        config.suspicion_factor = 5.0;
        config.suspicion_floor_ms = 1;
        config.suspicion_spread = asked.beta;
    });
    world.checks = false;
    world.run_for(15 * S);
    println!("CAL N={} seed={} beta={}, {} trials of {}", asked.n, asked.seed, asked.beta, asked.trials, asked.kill);
    crashes(asked, &mut world, 30 * S, |_, _| ())
}

/// One seed; the others ten seconds later, all at once.
fn bootstrap(asked: &Asked) -> u64 {
    let (mut took, mut packets) = (Vec::new(), 0);
    for trial in 0..asked.trials {
        let mut world = World::empty(asked.seed + trial as u64);
        world.checks = false;
        world.weather.loss_permille = asked.loss_permille;
        world.add(World::config(0, vec![]));
        world.run_for(10 * S);
        let since = world.now;
        for n in 1..asked.n {
            world.add(World::config(n, vec![endpoint(0)]));
        }
        while world.counts() != [(asked.n, asked.n)].into() && world.now < since + 300 * S {
            world.run_for(100 * MS);
        }
        took.push(world.now - since);
        packets += world.packets_sent;
    }
    println!("E5 bootstrap of N={} by one seed, {} trials", asked.n, asked.trials);
    row("all see all", &mut took);
    packets
}

/// Seventeen joins one after the other at 10 % loss, 175 s: SWIM got to twelve.
fn lossy_join(asked: &Asked) -> u64 {
    let (mut packets, mut sizes) = (0, Vec::new());
    for trial in 0..asked.trials {
        let mut world = World::empty(asked.seed + trial as u64);
        world.weather.loss_permille = 100;
        for n in 0..17 {
            world.add(World::config(n, if n == 0 { vec![] } else { vec![endpoint(0)] }));
            world.run_for(10 * S);
        }
        world.run_for(5 * S);
        sizes.push(*world.counts().keys().next().expect("somebody runs"));
        packets += world.packets_sent;
    }
    println!("E8 seventeen joins at 10 % loss, {} trials: smallest view after 175 s {:?}", asked.trials, sizes.iter().min());
    packets
}

/// Ten per cent of the members restart every minute for ten minutes; then all, five per cent at a time; then 30 % at once.
fn churn(asked: &Asked) -> u64 {
    let mut world = formed(asked);
    let restart = |world: &mut World, at: usize| {
        world.crash(at);
        world.history.forget(at);
        world.restart(at, |config| config.seeds = (1..4).map(|n| endpoint((at + n) % asked.n)).collect());
    };
    let since = world.now;
    world.events.clear();
    let each = 60 * S / (asked.n as u64 / 10).max(1);
    while world.now < since + 600 * S {
        let at = world.random.below(asked.n as u64) as usize;
        restart(&mut world, at);
        world.run_for(each);
    }
    let failed = world.failed_since(since).len();
    println!(
        "E11 10 % a minute for ten minutes: {failed} times somebody held a restarting member dead; agreement {:.1} s later",
        world.converge(120 * S) as f64 / 1e6
    );
    let since = world.now;
    for part in 0..20 {
        (0..asked.n).filter(|at| at % 20 == part).collect::<Vec<_>>().into_iter().for_each(|at| restart(&mut world, at));
        world.run_for(5 * S);
    }
    let failed = world.failed_since(since).len();
    println!("  a rolling restart, 5 % every 5 s: {failed} held dead; agreement {:.1} s later", world.converge(120 * S) as f64 / 1e6);
    let victims = world.random.choose(asked.n * 3 / 10, 0, asked.n);
    victims.into_iter().for_each(|at| restart(&mut world, at));
    println!("  30 % at once: agreement {:.1} s later", world.converge(120 * S) as f64 / 1e6);
    world.packets_sent
}

/// E4 while every node changes its load twenty times a second.
fn load_storm(asked: &Asked) -> u64 {
    let mut world = formed(asked);
    println!("E12 crash of {} at once while every load changes at 20 Hz, {} trials", asked.kill, asked.trials);
    let n = asked.n;
    crashes(asked, &mut world, 8 * S, move |world, at| {
        for node in (0..n).filter(|node| world.seats[*node].gossip.is_some()).collect::<Vec<_>>() {
            let running = 1 << ((at / (50 * MS) + node as u64) % 20);
            world.with(node, |gossip, now, _| gossip.set_load(now, distric_gossip::Load { running, ..Default::default() }));
        }
    })
}

fn dissemination(asked: &Asked) -> u64 {
    let mut world = formed(asked);
    let mut shares: Vec<Vec<u64>> = vec![Vec::new(); 5];
    let looks = [("3 hops (5 ms)", 5 * MS), ("20 ms", 20 * MS), ("1 interval (1 s)", S), ("2 intervals", 2 * S), ("3 intervals", 3 * S)];
    let mut sends = 0;
    for trial in 0..asked.trials {
        if asked.backlog {
            for n in 0..asked.n.min(1_000) {
                let profile = Profile { capacity: trial as u32 + 10, ..world.seats[n].config.profile.clone() };
                world.with(n, |gossip, now, out| gossip.set_profile(now, profile, out).expect("a sound profile"));
            }
            world.run_for(500 * MS);
        }
        world.events.clear();
        let leaver = world.random.below(asked.n as u64) as usize;
        let (since, before) = (world.now, world.packets_sent);
        world.leave(leaver);
        for (share, (_, after)) in shares.iter_mut().zip(looks) {
            world.run_until(since + after, |_| false);
            share.push(world.count(since, |event| matches!(event, Event::Left { node, .. } if *node == node_id(leaver))) as u64);
            if after == 20 * MS {
                sends += world.packets_sent - before;
            }
        }
        world.run_for(S);
        world.crash(leaver);
        world.history.forget(leaver);
        world.restart(leaver, |config| config.seeds = vec![endpoint((leaver + 1) % asked.n)]);
        world.settle(60 * S);
    }
    let others = asked.n as f64 - 1.0;
    println!("E9 one urgent event, {} trials, backlog {}", asked.trials, if asked.backlog { asked.n.min(1_000) } else { 0 });
    for (share, (name, _)) in shares.iter_mut().zip(looks) {
        share.sort_unstable();
        let mean = share.iter().sum::<u64>() as f64 / share.len() as f64;
        // The 1 % worst trial.
        let p99 = share[share.len() / 100];
        println!(
            "  {name:<18} informed: mean {:.3} %  p99 of trials {:.3} %  worst {:.3} %",
            mean / others * 100.0,
            p99 as f64 / others * 100.0,
            share[0] as f64 / others * 100.0
        );
    }
    println!("  packets of all kinds in the first 20 ms: {:.1} per node", sends as f64 / asked.trials as f64 / asked.n as f64);
    world.packets_sent
}

fn partition(asked: &Asked) -> u64 {
    let mut world = formed(asked);
    for (name, share, for_s) in [("50/50", 50, 60), ("90/10", 90, 60), ("50/50", 50, 600)] {
        let (cut, since) = (asked.n * share / 100, world.now);
        world.events.clear();
        world.passes = Box::new(move |from, to| (from < cut) == (to < cut));
        world.run_for(for_s * S);
        let first = |wanted: fn(Verdict) -> bool| {
            let said = world.events.iter().find(|(.., event)| matches!(event, Event::Partition { to, .. } if wanted(*to)));
            said.map_or(f64::NAN, |(at, ..)| (at - since) as f64 / 1e6)
        };
        let (suspected, judged) = (first(|to| to == Verdict::Suspected), first(|to| to > Verdict::Suspected));
        let verdicts: BTreeSet<(bool, Verdict)> = world.running().map(|(at, gossip)| (at < cut, gossip.verdict())).collect();
        let (healed, bytes) = (world.now, world.bytes_sent);
        world.passes = Box::new(|_, _| true);
        let took = world.converge(300 * S);
        let rate = (world.bytes_sent - bytes) as f64 / asked.n as f64 / (world.now - healed) as f64 * 1e6;
        println!("E10 {name} for {for_s} s: suspected after {suspected:.1} s, judged after {judged:.1} s {verdicts:?}");
        println!("  healed {:.1} s after the cut ended, {rate:.0} B/s per node meanwhile", took as f64 / 1e6);
        world.run_for(30 * S);
        assert!(world.running().all(|(_, gossip)| gossip.verdict() == Verdict::None));
    }
    world.packets_sent
}

fn paused_observers(asked: &Asked) -> u64 {
    let mut world = formed(asked);
    println!("E13 observers paused for 1 to 10 s, {} trials each", asked.trials);
    for percent in [1, 10, 50] {
        let (mut wrong, mut suspected) = (0, 0);
        for _ in 0..asked.trials {
            let since = world.now;
            world.events.clear();
            let paused = world.random.choose((asked.n * percent / 100).max(1), 0, asked.n);
            for at in &paused {
                let pause = S + world.random.below(9 * S);
                world.pause(*at, pause);
            }
            world.run_for(15 * S);
            let sleepers: BTreeSet<_> = paused.iter().map(|at| node_id(*at)).collect();
            wrong += world.failed_since(since).iter().filter(|(.., node)| !sleepers.contains(node)).count();
            suspected += world.count(since, |event| matches!(event, Event::Suspected { node, .. } if !sleepers.contains(node)));
            world.converge(120 * S);
        }
        println!("  {percent:>2} % paused: healthy declared dead {wrong}, suspicions of the healthy noted {suspected}");
    }
    world.packets_sent
}

fn idle(asked: &Asked) -> u64 {
    let mut world = formed(asked);
    world.run_for(30 * S);
    let (bytes, packets) = (world.bytes_sent, world.packets_sent);
    world.run_for(30 * S);
    let per = (asked.n * 30) as f64;
    println!(
        "E14 idle: {:.0} B/s, {:.1} packets/s sent per node",
        (world.bytes_sent - bytes) as f64 / per,
        (world.packets_sent - packets) as f64 / per
    );
    world.packets_sent
}

fn false_positives(asked: &Asked) -> u64 {
    let mut world = formed(asked);
    let since = world.now;
    world.events.clear();
    world.run_for(asked.trials as u64 * 10 * S);
    let own: u64 = world.running().map(|(_, gossip)| gossip.stats().suspicions_own_count).sum();
    println!("FP {} s of loss: {own} suspicions raised, {} failures declared", asked.trials * 10, world.failed_since(since).len());
    world.packets_sent
}
