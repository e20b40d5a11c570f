//! E10: the network cut in two, in three, and all but one member.

use std::collections::BTreeSet;

use distric_gossip::{Event, Verdict};

use crate::asked::Asked;
use crate::world::{S, World};

/// Name, how long, and which part a member of `n` is in; part 0 of the bridge is in all.
type Cut = (&'static str, u64, fn(usize, usize) -> usize);

const CUTS: &[Cut] = &[
    ("50/50", 10, |at, n| usize::from(at * 2 >= n)),
    ("50/50", 60, |at, n| usize::from(at * 2 >= n)),
    ("90/10", 60, |at, n| usize::from(at * 10 >= n * 9)),
    ("three ways", 60, |at, n| at * 3 / n),
    ("50/50 with one bridge", 60, |at, n| if at == 0 { BRIDGE } else { usize::from(at * 2 >= n) }),
    ("50/50", 3_600, |at, n| usize::from(at * 2 >= n)),
    ("90/10 with one bridge", 60, |at, n| if at == 0 { BRIDGE } else { usize::from(at * 10 >= n * 9) }),
];
/// The part of a member that reaches all parts.
const BRIDGE: usize = usize::MAX;

/// E10. Fails when a verdict outlives its partition.
pub fn partition(asked: &Asked) -> u64 {
    let runs = asked.parallel(CUTS.len(), |number| one(asked, CUTS[number], asked.seed + number as u64));
    runs.iter().for_each(|(lines, _)| print!("{lines}"));
    runs.iter().map(|(_, packets)| packets).sum()
}

fn one(asked: &Asked, (name, for_s, part): Cut, seed: u64) -> (String, u64) {
    let (mut world, n) = (asked.formed(seed), asked.n);
    let since = world.now;
    world.events.clear();
    world.passes = Box::new(move |from, to| {
        let (from, to) = (part(from, n), part(to, n));
        from == to || from == BRIDGE || to == BRIDGE
    });
    world.run_for(for_s * S);
    let first = |wanted: fn(Verdict) -> bool| {
        let said = world.events.iter().find(|(.., event)| matches!(event, Event::Partition { to, .. } if wanted(*to)));
        said.map_or("never".to_owned(), |(at, ..)| format!("after {:.1} s", (at - since) as f64 / 1e6))
    };
    let (suspected, judged) = (first(|to| to == Verdict::Suspected), first(|to| to > Verdict::Suspected));
    let verdicts: BTreeSet<(usize, Verdict)> = world.running().map(|(at, gossip)| (part(at, n), gossip.verdict())).collect();
    let verdicts: Vec<String> = verdicts
        .into_iter()
        .map(|(part, verdict)| if part == BRIDGE { format!("bridge {verdict:?}") } else { format!("{verdict:?}") })
        .collect();
    let (healed, bytes, packets) = (world.now, world.bytes_sent, world.packets_sent);
    world.passes = Box::new(|_, _| true);
    // Who is lost again and again is taken back after an hour at the latest.
    let took = world.converge(2 * 3_600 * S);
    let per = |count: u64, world: &World| count as f64 / n as f64 / (world.now - healed) as f64 * 1e6;
    let (bytes, packets) = (per(world.bytes_sent - bytes, &world), per(world.packets_sent - packets, &world));
    world.run_for(30 * S);
    assert!(world.running().all(|(_, gossip)| gossip.verdict() == Verdict::None));
    let lines = format!(
        "  {name}, {for_s} s: suspected {suspected}, judged {judged}: {}; views agree {:.1} s after its end, {packets:.0} packets/s and {bytes:.0} B/s per node until then\n",
        verdicts.join(", "),
        took as f64 / 1e6
    );
    (lines, world.packets_sent)
}
