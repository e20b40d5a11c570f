//! A bounded batch of storms over the virtual cluster, and that a seed is all that decides.

use distric_sim::storm;

#[test]
fn storms_lose_nothing_and_double_nothing() {
    (0..SEEDS).for_each(|seed| drop(storm::run(seed)));
}

#[test]
fn one_seed_tells_one_story() {
    assert_eq!(storm::run(100).hash, storm::run(100).hash);
    assert_ne!(storm::run(101).hash, storm::run(100).hash);
}

const SEEDS: u64 = 12;
