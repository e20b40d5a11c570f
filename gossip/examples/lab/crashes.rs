//! E4 and E12: how soon a death is known.

use std::collections::{BTreeMap, BTreeSet};

use distric_gossip::{Event, Load};

use crate::asked::Asked;
use crate::report;
use crate::world::{MS, S, World, endpoint, node_id};

/// How long each crash is looked at, at most.
const WITHIN: u64 = 8 * S;
/// How often the loads change at most.
const STEP: u64 = 50 * MS;

#[derive(Default)]
struct Tally {
    first: Vec<u64>,
    full: Vec<u64>,
    crashes: usize,
    wrong: usize,
    packets: u64,
    bytes_per_s: Vec<u64>,
}

/// E4.
pub fn crash(asked: &Asked) -> u64 {
    crashes(asked, |_, _| ())
}

/// E12: E4 while every node changes its load `--hz` times a second, by turns of 50 ms at most.
pub fn load_storm(asked: &Asked) -> u64 {
    let (n, every) = (asked.n, (S / asked.hz).max(STEP));
    crashes(asked, move |world, at| {
        if at % every >= STEP {
            return;
        }
        for node in (0..n).filter(|node| world.seats[*node].gossip.is_some()).collect::<Vec<_>>() {
            let running = 1 << ((at / every + node as u64) % 20);
            world.with(node, |gossip, now, _| gossip.set_load(now, Load { running, ..Default::default() }));
        }
    })
}

fn crashes(asked: &Asked, meanwhile: impl Fn(&mut World, u64) + Sync) -> u64 {
    let tallies = asked.worlds(|world, trials| {
        let mut tally = Tally::default();
        world.wants = |event| matches!(event, Event::Failed { .. });
        (0..trials).for_each(|trial| one(asked, world, &meanwhile, &mut tally, trial + 1 == trials));
        tally.packets = world.packets_sent;
        tally
    });
    let mut sum = Tally::default();
    for tally in tallies {
        sum.first.extend(tally.first);
        sum.full.extend(tally.full);
        sum.bytes_per_s.extend(tally.bytes_per_s);
        (sum.crashes, sum.wrong, sum.packets) = (sum.crashes + tally.crashes, sum.wrong + tally.wrong, sum.packets + tally.packets);
    }
    let (missed, partly) = (sum.crashes - sum.first.len(), sum.first.len() - sum.full.len());
    report::times("first detection", sum.first);
    report::times("known to all", sum.full);
    report::rates("bytes/s sent per node", sum.bytes_per_s);
    println!("  not seen by anyone in {} s: {missed}; not known to all: {partly}; healthy declared dead: {}", WITHIN / S, sum.wrong);
    sum.packets
}

fn one(asked: &Asked, world: &mut World, meanwhile: &impl Fn(&mut World, u64), tally: &mut Tally, is_last: bool) {
    let pause = S + world.random.below(S);
    world.run_for(pause);
    let since = world.now;
    world.events.clear();
    let before: Vec<u64> = world.seats.iter().map(|seat| seat.bytes_sent).collect();
    let victims = world.random.choose(asked.kill, 0, asked.n);
    victims.iter().for_each(|victim| world.crash(*victim));
    let mut until = since + WITHIN;
    while world.now < until {
        let at = world.now - since;
        meanwhile(world, at);
        world.run_for(STEP);
        // All know of all: nothing more is to be seen but what would be wrong, for another second.
        let are_known = world.events.len() >= victims.len() * (asked.n - victims.len());
        until = if are_known { until.min(world.now + S) } else { until };
    }
    let took = world.now - since;
    let running = world.seats.iter().zip(before).filter(|(seat, _)| seat.gossip.is_some());
    tally.bytes_per_s.extend(running.map(|(seat, before)| (seat.bytes_sent - before) * S / took));
    let dead: BTreeSet<_> = victims.iter().map(|victim| node_id(*victim)).collect();
    let mut times: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for (at, _, event) in &world.events {
        if let Event::Failed { node, .. } = event {
            times.entry(*node).or_default().push(at - since);
            tally.wrong += usize::from(!dead.contains(node));
        }
    }
    tally.crashes += victims.len();
    for times in dead.iter().filter_map(|node| times.get(node)) {
        tally.first.extend(times.first());
        if times.len() == asked.n - victims.len() {
            tally.full.extend(times.last());
        }
    }
    if is_last {
        return;
    }
    for victim in victims {
        world.history.forget(victim);
        world.restart(victim, |config| config.seeds = (0..3).map(|n| endpoint((victim + 1 + n) % asked.n)).collect());
    }
    world.settle(60 * S);
}
