//! The checkers bite: each is shown a history that breaks what it checks.

mod world;

use distric_gossip::State;
use world::checkers::{incarnation_is_monotone, memory_is_bounded, no_resurrection, self_is_live_and_rising, standing};
use world::*;

#[test]
fn no_resurrection_bites() {
    let dead = standing(1, 4, State::Dead);
    assert!(no_resurrection(dead, standing(1, 4, State::Alive)).is_err());
    assert!(no_resurrection(standing(1, 4, State::Left), standing(1, 3, State::Suspect)).is_err());
    assert!(no_resurrection(dead, standing(1, 5, State::Alive)).is_ok());
    assert!(no_resurrection(dead, standing(2, 0, State::Alive)).is_ok());
}

#[test]
fn incarnation_is_monotone_bites() {
    assert!(incarnation_is_monotone(standing(1, 4, State::Alive), standing(1, 3, State::Dead)).is_err());
    assert!(incarnation_is_monotone(standing(2, 0, State::Alive), standing(1, 9, State::Alive)).is_err());
    assert!(incarnation_is_monotone(standing(1, 4, State::Dead), standing(1, 4, State::Suspect)).is_err());
    assert!(incarnation_is_monotone(standing(1, 4, State::Suspect), standing(1, 4, State::Dead)).is_ok());
}

#[test]
fn self_liveness_bites() {
    let alive = standing(1, 4, State::Alive);
    assert!(self_is_live_and_rising(alive, alive.with(State::Suspect)).is_err());
    assert!(self_is_live_and_rising(alive, standing(1, 3, State::Alive)).is_err());
    assert!(self_is_live_and_rising(alive.with(State::Left), alive).is_err());
    assert!(self_is_live_and_rising(alive, standing(1, 5, State::Left)).is_ok());
}

#[test]
fn bounded_memory_bites() {
    assert!(memory_is_bounded(10, (13, 0)).is_err());
    assert!(memory_is_bounded(10, (0, 13)).is_err());
    assert!(memory_is_bounded(usize::MAX, (0, 0)).is_err());
    assert!(memory_is_bounded(10, (10, 10)).is_ok());
}

#[test]
#[should_panic(expected = "no agreement")]
fn convergence_bites_when_the_network_stays_cut() {
    let mut world = World::formed(1, 4, |_, _| ());
    world.passes = Box::new(|from, to| (from < 2) == (to < 2));
    world.run_for(20 * S);
    world.converge(60 * S);
}

#[test]
#[should_panic(expected = "became")]
fn the_world_looks_at_every_machine() {
    let mut world = World::formed(1, 3, |_, _| ());
    world.crash(2);
    world.run_for(20 * S);
    assert!(world.failed_count(2, 0) >= 2);
    // The observer is exchanged for one that knows only the old word.
    let mut young = World::formed(2, 3, |_, _| ());
    std::mem::swap(&mut world.seats[0], &mut young.seats[0]);
    let gossip = world.gossip(0).clone();
    let told = [distric_gossip::Event::Refuted { node: node_id(2), incarnation: distric_gossip::Incarnation(0) }];
    world.history.look(0, 0, &gossip, &told);
}
