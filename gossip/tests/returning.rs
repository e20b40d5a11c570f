//! Returning: who is lost again and again is kept out, and who was lost on one side of a cut is not.

mod world;

use world::*;

fn quiet(_: usize, _: &mut distric_gossip::Config) {}

/// UDP blocked and TCP open, out, in and both ways: comparisons of views go through and probes do not.
#[test]
fn datagrams_blocked_while_streams_pass_hurt_nobody_but_the_blocked() {
    for (name, out_permille, in_permille) in [("out", 1_000, 0), ("in", 0, 1_000), ("both", 1_000, 1_000)] {
        let mut world = World::formed(3, 20, quiet);
        world.run_for(10 * S);
        let since = world.now;
        world.loses = Box::new(move |from, to| match (from == 7, to == 7) {
            (true, _) => out_permille,
            (_, true) => in_permille,
            _ => 0,
        });
        world.run_for(300 * S);
        let wrong: Vec<_> = world.failed_since(since).into_iter().filter(|(_, by, node)| *by != 7 && *node != node_id(7)).collect();
        assert!(wrong.is_empty(), "{name}: the healthy were declared dead by each other: {wrong:?}");
        let removed = world.failed_count(7, since);
        // Comparisons of views would bring it back each time; it waits longer and longer instead.
        assert!((19..=19 * 7).contains(&removed), "{name}: it is found by all, and does not flap: {removed}");
        world.loses = Box::new(|_, _| 0);
        world.converge(700 * S);
    }
}

#[test]
fn one_way_loss_that_flips_does_not_make_a_member_flap() {
    for is_deaf in [true, false] {
        let mut world = World::formed(5, 20, quiet);
        world.run_for(10 * S);
        let since = world.now;
        for _ in 0..15 {
            world.passes = Box::new(move |from, to| (if is_deaf { to } else { from }) != 7);
            world.run_for(20 * S);
            world.passes = Box::new(|_, _| true);
            world.run_for(20 * S);
        }
        let removed = world.failed_count(7, since);
        // Fifteen turns in ten minutes; it returns after the first ones and is kept out for most of the others.
        assert!((19..=19 * 7).contains(&removed), "deaf {is_deaf}: {removed}");
        let wrong: Vec<_> = world.failed_since(since).into_iter().filter(|(_, by, node)| *by != 7 && *node != node_id(7)).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        world.converge(700 * S);
    }
}

/// Four of thirty flap together: too few for a cut. Those who are kept out hold each other live, and their word does not count.
#[test]
fn members_that_flap_together_do_not_bring_each_other_back() {
    let mut world = World::formed(6, 30, quiet);
    world.run_for(10 * S);
    let since = world.now;
    for _ in 0..12 {
        world.passes = Box::new(|_, to| !(4..8).contains(&to));
        world.run_for(20 * S);
        world.passes = Box::new(|_, _| true);
        world.run_for(20 * S);
    }
    let removed: Vec<_> = (4..8)
        .map(|at| world.failed_since(since).into_iter().filter(|(_, by, node)| !(4..8).contains(by) && *node == node_id(at)).count())
        .collect();
    assert!(removed.iter().all(|count| *count <= 26 * 3), "of twelve turns: {removed:?}");
}

/// One member reaches both sides of a cut, in halves and with a small side: words of deaths and of lives cross over it, so members die and
/// return one by one, and many are lost twice on the other side. They never lost each other, and say so.
#[test]
fn after_a_partition_that_one_member_bridged_all_are_taken_back() {
    for (seed, side) in [(1, 32), (2, 32), (3, 32), (1, 58)] {
        let mut world = World::formed(seed, 64, quiet);
        world.run_for(10 * S);
        world.passes = Box::new(move |from, to| from == 0 || to == 0 || (from < side) == (to < side));
        world.run_for(60 * S);
        world.passes = Box::new(|_, _| true);
        world.converge(if side == 32 { 30 * S } else { 120 * S });
    }
}
