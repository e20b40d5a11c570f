//! E9: how far an urgent word gets, and how soon.

use distric_gossip::{Event, Profile, Role};

use crate::asked::Asked;
use crate::world::{MS, S, World, node_id};

/// When it is looked at who knows.
const LOOKS: [(&str, u64); 5] =
    [("3 hops (5 ms)", 5 * MS), ("20 ms", 20 * MS), ("1 interval (1 s)", S), ("2 intervals", 2 * S), ("3 intervals", 3 * S)];
/// Trials that one flood of updates lasts for.
const TRIALS_PER_FLOOD: usize = 4;

#[derive(Default)]
struct Tally {
    informed: [Vec<u64>; LOOKS.len()],
    backlog: Vec<u64>,
    sends: u64,
    packets: u64,
}

/// E9: a change of role, which is urgent, told by a node at a time of its own choosing; a trial every three intervals.
pub fn dissemination(asked: &Asked) -> u64 {
    let mut sum = Tally::default();
    for tally in asked.worlds(|world, trials| some(asked, world, trials)) {
        sum.informed.iter_mut().zip(tally.informed).for_each(|(all, more)| all.extend(more));
        sum.backlog.extend(tally.backlog);
        (sum.sends, sum.packets) = (sum.sends + tally.sends, sum.packets + tally.packets);
    }
    let others = asked.n as f64 - 1.0;
    sum.backlog.sort_unstable();
    println!(
        "  {} trials; updates waiting in the lane of the one who tells: least {}, median {}",
        sum.backlog.len(),
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
    println!("  packets of all kinds in the first 20 ms: {:.1} per node", sum.sends as f64 / sum.backlog.len() as f64 / asked.n as f64);
    sum.packets
}

fn some(asked: &Asked, world: &mut World, trials: usize) -> Tally {
    let mut tally = Tally::default();
    world.checks = false;
    for trial in 0..trials {
        if asked.backlog > 0 && trial % TRIALS_PER_FLOOD == 0 {
            for n in 0..asked.backlog.min(asked.n) {
                let profile = Profile { capacity: trial as u32 + 10, ..world.seats[n].config.profile.clone() };
                change(world, n, profile);
            }
            world.run_for(500 * MS);
        }
        let pause = world.random.below(S);
        world.run_for(pause);
        world.events.clear();
        let teller = world.random.below(asked.n as u64) as usize;
        let old = &world.seats[teller].config.profile;
        let role = if old.role == Role::Worker { Role::Coordinator } else { Role::Worker };
        let profile = Profile { role, ..old.clone() };
        tally.backlog.push(world.gossip(teller).backlog().0 as u64);
        let (since, before) = (world.now, world.packets_sent);
        change(world, teller, profile);
        for (informed, (_, after)) in tally.informed.iter_mut().zip(LOOKS) {
            world.run_until(since + after, |_| false);
            let told = |event: &Event| matches!(event, Event::RoleChanged { node, role: said } if *node == node_id(teller) && *said == role);
            informed.push(world.count(since, told) as u64);
            if after == 20 * MS {
                tally.sends += world.packets_sent - before;
            }
        }
    }
    tally.packets = world.packets_sent;
    tally
}

fn change(world: &mut World, at: usize, profile: Profile) {
    world.seats[at].config.profile = profile.clone();
    world.with(at, |gossip, now, out| gossip.set_profile(now, profile, out).expect("a sound profile"));
}
