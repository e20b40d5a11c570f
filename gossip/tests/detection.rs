//! Detection: how soon a crash is known, and how far an urgent word gets at once. Larger runs are in the lab.

mod world;

use distric_gossip::{Event, Profile, Role};
use world::*;

/// Crashes `kill` machines in each of `trials`; returns all times from the crash to the first and to the last word of it.
fn crashes(seed: u64, count: usize, kill: usize, trials: usize) -> (Vec<u64>, Vec<u64>) {
    let mut world = World::formed(seed, count, |_, _| ());
    world.checks = count <= 200;
    let (mut first, mut full) = (Vec::new(), Vec::new());
    for _ in 0..trials {
        let pause = 5 * S + world.random.below(S);
        world.run_for(pause);
        let since = world.now;
        world.events.clear();
        let victims = world.random.choose(kill, 1, count);
        victims.iter().for_each(|victim| world.crash(*victim));
        world.run_for(8 * S);
        let gone: Vec<_> = victims.iter().map(|victim| node_id(*victim)).collect();
        assert!(world.failed_since(since).iter().all(|(.., node)| gone.contains(node)), "seed {seed}: a healthy one was declared dead");
        for victim in victims {
            assert_eq!(world.failed_count(victim, since), count - kill, "seed {seed}: all know of {victim}");
            first.push(world.first_failed(victim, since).unwrap() - since);
            let node = node_id(victim);
            let last = world.events.iter().rfind(|(.., event)| matches!(event, Event::Failed { node: who, .. } if *who == node));
            full.push(last.unwrap().0 - since);
            world.history.forget(victim);
            world.restart(victim, |_| ());
        }
        world.converge(60 * S);
    }
    first.sort_unstable();
    full.sort_unstable();
    (first, full)
}

#[test]
fn a_crash_among_128_is_known_to_all_within_five_seconds() {
    let (first, full) = crashes(1, 128, 4, 10);
    assert!(first[first.len() / 2] < 3 * S, "p50 {} ms", first[first.len() / 2] / MS);
    assert!(*full.last().unwrap() < 5 * S, "slowest {} ms", full.last().unwrap() / MS);
}

#[test]
#[ignore = "takes a minute; the lab prints the table"]
fn a_crash_among_1000_is_known_to_all_within_five_seconds() {
    let (first, full) = crashes(1, 1_000, 10, 5);
    assert!(first[first.len() / 2] < 3 * S, "p50 {} ms", first[first.len() / 2] / MS);
    assert!(*full.last().unwrap() < 5 * S, "slowest {} ms", full.last().unwrap() / MS);
}

#[test]
fn an_urgent_word_is_everywhere_in_three_hops() {
    let mut informed = Vec::new();
    for seed in 1..=10 {
        let mut world = World::formed(seed, 100, |_, _| ());
        world.run_for(5 * S);
        let since = world.now;
        world.leave(7);
        // Three hops of at most 800 us, and the 5 ms that bursts wait for company.
        world.run_for(10 * MS);
        informed.push(world.count(since, |event| matches!(event, Event::Left { node, .. } if *node == node_id(7))));
    }
    assert!(informed.iter().sum::<usize>() >= 10 * 99 - 3, "{informed:?}");
}

/// Whom the haste missed hears it from the next pings and ticks, however much else waits for them.
#[test]
fn an_urgent_word_reaches_the_few_that_the_haste_missed_though_a_flood_waits() {
    let mut world = World::copied(3, 200, |_, _| ());
    world.weather.loss_permille = 100;
    world.run_for(10 * S);
    for at in 0..200 {
        say(&mut world, at, |profile| profile.capacity = 77);
    }
    world.run_for(500 * MS);
    let since = world.now;
    for teller in 10..40 {
        say(&mut world, teller, |profile| profile.role = Role::Coordinator);
        world.run_for(100 * MS);
    }
    world.run_for(900 * MS);
    let told = |teller| world.count(since, |event| matches!(event, Event::RoleChanged { node, .. } if *node == node_id(teller)));
    let missed: Vec<_> = (10..40).map(|teller| 199 - told(teller)).collect();
    assert_eq!(missed.iter().sum::<usize>(), 0, "{missed:?}");
}

fn say(world: &mut World, at: usize, change: impl FnOnce(&mut Profile)) {
    change(&mut world.seats[at].config.profile);
    let profile = world.seats[at].config.profile.clone();
    world.with(at, |gossip, now, out| gossip.set_profile(now, profile, out).expect("a sound profile"));
}
