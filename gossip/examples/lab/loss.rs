//! E6 and E7: members that the network treats badly.

use std::collections::{BTreeMap, BTreeSet};

use distric_gossip::Event;

use crate::asked::Asked;
use crate::world::{S, World, node_id};

/// How often each pair of observer and member went from live to dead, and what the end was.
fn print(world: &World, name: &str, bad: &BTreeSet<usize>, since: u64) {
    let ids: BTreeMap<_, usize> = bad.iter().map(|at| (node_id(*at), *at)).collect();
    let mut removals: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    let mut wrong = 0;
    for (_, by, node) in world.failed_since(since) {
        match ids.get(&node) {
            Some(at) if !bad.contains(&by) => *removals.entry((by, *at)).or_default() += 1,
            Some(_) => {}
            None => wrong += u64::from(!bad.contains(&by)),
        }
    }
    let healthy = world.seats.len() - bad.len();
    let pairs = (healthy * bad.len()) as f64;
    let of = |wanted: fn(u64) -> bool| removals.values().filter(|count| wanted(**count)).count() as f64 / pairs * 100.0;
    let mean = removals.values().sum::<u64>() as f64 / pairs;
    let out = world
        .running()
        .filter(|(at, _)| !bad.contains(at))
        .map(|(_, gossip)| ids.keys().filter(|node| !gossip.standing_of(**node).is_some_and(|standing| standing.state.is_live())).count());
    let out = out.sum::<usize>() as f64 / pairs * 100.0;
    let refuted = world.count(since, |event| matches!(event, Event::Refuted { node, .. } if ids.contains_key(node))) as f64 / pairs;
    println!(
        "  {name:<36} removed by an observer: mean {mean:.2} times, never {:.1} %, once {:.1} %, more {:.1} %; out at the end {out:.1} %; \
         refuted {refuted:.1} times; healthy declared dead at healthy: {wrong}",
        100.0 - of(|count| count > 0),
        of(|count| count == 1),
        of(|count| count > 1)
    );
}

fn one_per_cent(asked: &Asked, world: &mut World) -> BTreeSet<usize> {
    world.random.choose((asked.n / 100).max(1), 0, asked.n).into_iter().collect()
}

/// E6: ten cycles.
pub fn flip_flop(asked: &Asked) -> u64 {
    let packets = asked.parallel(2, |way| {
        let mut world = asked.formed(asked.seed);
        world.checks = false;
        let bad = one_per_cent(asked, &mut world);
        let since = world.now;
        world.events.clear();
        for _ in 0..10 {
            let cut = bad.clone();
            world.passes = Box::new(move |from, to| !cut.contains(if way == 0 { &to } else { &from }));
            world.run_for(20 * S);
            world.passes = Box::new(|_, _| true);
            world.run_for(20 * S);
        }
        let name = ["deaf", "mute"][way];
        print(&world, &format!("{name} 20 s of every 40 s, 400 s"), &bad, since);
        world.packets_sent
    });
    packets.into_iter().sum()
}

/// E7: five minutes, all shares in both directions.
pub fn gray(asked: &Asked) -> u64 {
    let cells: Vec<(u64, bool)> = [50, 200, 500, 800].into_iter().flat_map(|share| [(share, true), (share, false)]).collect();
    let packets = asked.parallel(cells.len(), |number| {
        let (share, is_out) = cells[number];
        let mut world = asked.formed(asked.seed + number as u64);
        world.checks = false;
        world.run_for(80 * S);
        let bad = one_per_cent(asked, &mut world);
        let since = world.now;
        world.events.clear();
        let gray = bad.clone();
        world.loses = Box::new(move |from, to| if gray.contains(if is_out { &from } else { &to }) { share } else { 0 });
        world.run_for(300 * S);
        print(&world, &format!("{} % lost {}, 300 s", share / 10, if is_out { "going out" } else { "coming in" }), &bad, since);
        world.packets_sent
    });
    packets.into_iter().sum()
}
