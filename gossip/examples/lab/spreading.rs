//! E9: how far an urgent word gets, and how soon.

use std::collections::BTreeMap;

use distric_gossip::{Event, Profile, Role};

use crate::asked::Asked;
use crate::world::{MS, S, World, node_id};

/// When it is looked at who knows, microseconds after the event.
const LOOKS: [(&str, u64); 5] =
    [("3 hops (5 ms)", 5 * MS), ("20 ms", 20 * MS), ("1 interval (1 s)", S), ("2 intervals", 2 * S), ("3 intervals", 3 * S)];
/// Between two events: several are on their way at once.
const APART_US: (u64, u64) = (200 * MS, 200 * MS);
/// The same in a flood, whose seconds are dear: half as long.
const APART_IN_FLOOD_US: (u64, u64) = (100 * MS, 100 * MS);
/// Events that one flood of updates lasts for, some four seconds.
const TRIALS_PER_FLOOD: usize = 24;

#[derive(Default)]
struct Tally {
    informed: [Vec<u64>; LOOKS.len()],
    backlog: Vec<u64>,
    packets: u64,
    sent: u64,
    node_seconds: f64,
}

/// E9: changes of role, which are urgent, one of another node every 200 to 400 ms, or 100 to 200 ms with updates waiting; each is looked
/// at for three intervals.
pub fn dissemination(asked: &Asked) -> u64 {
    let mut sum = Tally::default();
    for tally in asked.worlds(|world, trials| some(asked, world, trials)) {
        sum.informed.iter_mut().zip(tally.informed).for_each(|(all, more)| all.extend(more));
        sum.backlog.extend(tally.backlog);
        (sum.packets, sum.sent) = (sum.packets + tally.packets, sum.sent + tally.sent);
        sum.node_seconds += tally.node_seconds;
    }
    let others = asked.n as f64 - 1.0;
    sum.backlog.sort_unstable();
    println!(
        "  {} trials, {:.1} packets/s sent per node; updates waiting in the lane of the one who tells: least {}, median {}",
        sum.backlog.len(),
        sum.sent as f64 / sum.node_seconds,
        sum.backlog[0],
        sum.backlog[sum.backlog.len() / 2]
    );
    for (informed, (name, _)) in sum.informed.iter_mut().zip(LOOKS) {
        informed.sort_unstable();
        let mean = informed.iter().sum::<u64>() as f64 / informed.len() as f64;
        let share = |count: u64| count as f64 / others * 100.0;
        println!(
            "  {name:<18} informed: mean {:.4} %  p99 of trials {:.3} %  worst {:.3} %",
            mean / others * 100.0,
            share(informed[informed.len() / 100]),
            share(informed[0])
        );
    }
    sum.packets
}

fn some(asked: &Asked, world: &mut World, trials: usize) -> Tally {
    let mut tally = Tally::default();
    world.checks = false;
    world.events.clear();
    world.wants = |event| matches!(event, Event::RoleChanged { .. });
    let (start, before) = (world.now, world.packets_sent);
    let tellers = world.random.choose(asked.n, 0, asked.n);
    let mut told: Vec<(usize, Role, u64)> = Vec::new();
    for trial in 0..trials {
        if asked.backlog > 0 && trial % TRIALS_PER_FLOOD == 0 {
            for n in 0..asked.backlog.min(asked.n) {
                let profile = Profile { capacity: trial as u32 + 10, ..world.seats[n].config.profile.clone() };
                change(world, n, profile);
            }
            world.run_for(500 * MS);
        }
        let (least, more) = if asked.backlog > 0 { APART_IN_FLOOD_US } else { APART_US };
        let pause = least + world.random.below(more);
        world.run_for(pause);
        let teller = tellers[trial % asked.n];
        let old = &world.seats[teller].config.profile;
        let role = if old.role == Role::Worker { Role::Coordinator } else { Role::Worker };
        let profile = Profile { role, ..old.clone() };
        tally.backlog.push(world.gossip(teller).backlog().0 as u64);
        told.push((teller, role, world.now));
        change(world, teller, profile);
    }
    world.run_for(3 * S);
    // By member and role, the events in the order of their coming; a node that tells again does so much later.
    let mut heard: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for (at, _, event) in &world.events {
        if let Event::RoleChanged { node, role } = event {
            heard.entry((*node, *role)).or_default().push(*at);
        }
    }
    for (teller, role, since) in told {
        let times = heard.get(&(node_id(teller), role)).map_or(&[][..], Vec::as_slice);
        for (informed, (_, after)) in tally.informed.iter_mut().zip(LOOKS) {
            informed.push(times.iter().filter(|at| (since..=since + after).contains(*at)).count() as u64);
        }
    }
    tally.packets = world.packets_sent;
    tally.sent = world.packets_sent - before;
    tally.node_seconds = asked.n as f64 * (world.now - start) as f64 / 1e6;
    tally
}

fn change(world: &mut World, at: usize, profile: Profile) {
    world.seats[at].config.profile = profile.clone();
    world.with(at, |gossip, now, out| gossip.set_profile(now, profile, out).expect("a sound profile"));
}
