//! Members that run only every so often, as beside many busy processes, and what it costs the others.

#[path = "world/mod.rs"]
mod world;

use distric_gossip::{Config, Event};
use world::{MS, S, World, node_id};

/// How long a slow member stands still each time; then it runs for a moment.
const STANDS: u64 = 384 * MS;
const RUNS: u64 = 3 * MS;

/// Twenty members of which three are slow, for a minute: how often one of the three was suspected, as a healthy one heard it, in the last
/// half of it.
fn suspicions(seed: u64, patience_max: u32) -> usize {
    let mut world = World::formed(seed, 20, |_, config: &mut Config| config.patience_max = patience_max);
    world.run_for(10 * S);
    world.events.clear();
    let (since, slow) = (world.now, [4, 9, 14]);
    while world.now < since + 60 * S {
        slow.into_iter().for_each(|at| world.pause(at, STANDS));
        world.run_for(STANDS + RUNS);
    }
    assert_eq!(world.failed_since(since), [], "nobody is declared dead");
    let slow = slow.map(node_id);
    let heard = |(at, by, event): &&(u64, usize, Event)| {
        *at >= since + 30 * S && *by == 0 && matches!(event, Event::Suspected { node, .. } if slow.contains(node))
    };
    world.events.iter().filter(heard).count()
}

#[test]
fn slow_members_are_heard_out() {
    let of = |patience_max| (9..13).map(|seed| suspicions(seed, patience_max)).sum::<usize>();
    let (without, with) = (of(0), of(3));
    assert!(without > 200, "without patience they are accused all the time: {without}");
    assert!(with <= 40, "with patience they are not: {with}");
}

/// Patience is for who speaks up: a member that was slow and dies is missed as soon as the others, but for the intervals that it was given.
#[test]
fn who_was_slow_and_dies_is_missed_in_time() {
    let mut world = World::formed(10, 20, |_, _| ());
    world.run_for(10 * S);
    let since = world.now;
    while world.now < since + 20 * S {
        world.pause(7, STANDS);
        world.run_for(STANDS + RUNS);
    }
    let since = world.now;
    world.crash(7);
    world.run_for(6 * S);
    let first = world.first_failed(7, since).expect("it is missed") - since;
    assert!(first < 5 * S, "after {} ms", first / MS);
    assert_eq!(world.failed_count(7, since), 19);
}
