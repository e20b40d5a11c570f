//! Forgeries: words that no honest member says, made by hand. None of them changes what is held of the living.

mod world;

use distric_gossip::{Event, Generation, Incarnation, Outputs, State};
use distric_model::NodeId;
use world::*;

/// The life in which the world's machines start.
const LIFE: u64 = 1_000_000;

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A datagram of `sender` with these parts, each a tag and a body. The layout is that of `docs/gossip.md`.
fn datagram(sender: NodeId, generation: u64, incarnation: u32, parts: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = b"DG\x02\x01".to_vec();
    out.extend_from_slice(&cluster_id(1).to_bytes());
    out.extend_from_slice(&sender.to_bytes());
    varint(&mut out, generation);
    varint(&mut out, u64::from(incarnation));
    varint(&mut out, 0);
    out.push(0);
    for (tag, body) in parts {
        out.push(*tag);
        varint(&mut out, body.len() as u64);
        out.extend_from_slice(body);
    }
    let checksum = crc32fast::hash(&out);
    out.extend_from_slice(&checksum.to_be_bytes());
    out
}

/// A word: `node` is in `state`, says `accuser`.
fn word(node: NodeId, generation: u64, incarnation: u32, state: State, accuser: Option<NodeId>) -> (u8, Vec<u8>) {
    let mut body = vec![state as u8 | if accuser.is_some() { 0x10 } else { 0 }, 2];
    body.extend_from_slice(&node.to_bytes());
    varint(&mut body, generation);
    varint(&mut body, u64::from(incarnation));
    varint(&mut body, 0);
    body.extend(accuser.into_iter().flat_map(NodeId::to_bytes));
    (5, body)
}

fn ping(cookie: u64) -> (u8, Vec<u8>) {
    (1, [cookie.to_be_bytes(), 0_u64.to_be_bytes()].concat())
}

/// What machine `to` answers.
fn answers(world: &mut World, to: usize, from: usize, bytes: &[u8]) -> usize {
    let mut count = 0;
    world.with(to, |gossip, now, out: &mut Outputs| {
        gossip.handle_packet(now, endpoint(from), bytes, out);
        count = out.datagrams.iter().filter(|datagram| datagram.to == endpoint(from)).count();
    });
    count
}

#[test]
fn a_giant_incarnation_poisons_nobody() {
    let mut world = World::formed(1, 6, |_, _| ());
    world.run_for(5 * S);
    for state in [State::Alive, State::Suspect, State::Dead, State::Left] {
        let forged = datagram(node_id(1), LIFE, 0, &[word(node_id(2), LIFE, u32::MAX, state, Some(node_id(1)))]);
        world.inject(0, endpoint(1), &forged);
    }
    // Its own name in another's mouth.
    world.inject(0, endpoint(1), &datagram(node_id(1), LIFE, 0, &[word(node_id(0), LIFE, u32::MAX, State::Suspect, Some(node_id(1)))]));
    // And the envelope itself.
    world.inject(0, endpoint(2), &datagram(node_id(2), LIFE, u32::MAX, &[]));
    assert!(world.gossip(0).stats().rumours_refused_count >= 6);
    assert!(world.gossip(0).standing_of(node_id(2)).unwrap().incarnation < Incarnation(10));
    assert!(world.gossip(0).own_standing().incarnation < Incarnation(10));
    let since = world.now;
    world.crash(2);
    world.run_for(8 * S);
    assert_eq!(world.failed_count(2, since), 5, "and its death is still seen");
}

#[test]
fn a_generation_from_a_clock_more_than_a_year_ahead_is_refused() {
    let mut world = World::formed(1, 5, |_, _| ());
    let ahead = LIFE + 400 * 24 * 60 * 60 * 1_000;
    let since = world.now;
    world.inject(0, endpoint(2), &datagram(node_id(2), ahead, 0, &[]));
    world.inject(0, endpoint(1), &datagram(node_id(1), LIFE, 0, &[word(node_id(2), ahead, 0, State::Dead, Some(node_id(1)))]));
    world.run_for(20 * S);
    assert_eq!(world.gossip(0).standing_of(node_id(2)).unwrap().generation, Generation(LIFE));
    assert_eq!(world.failed_since(since), []);
}

#[test]
fn accusations_by_nobody_and_by_the_accused_itself_kill_nobody() {
    let mut world = World::formed(1, 6, |_, _| ());
    let since = world.now;
    for accuser in [None, Some(node_id(2)), Some(node_id(40))] {
        let forged = datagram(node_id(1), LIFE, 0, &[word(node_id(2), LIFE, 0, State::Suspect, accuser)]);
        (0..6).filter(|to| ![1, 2].contains(to)).for_each(|to| world.inject(to, endpoint(1), &forged));
    }
    world.run_for(20 * S);
    assert_eq!(world.failed_since(since), [], "it spoke up");
    world.converge(10 * S);
}

#[test]
fn words_about_an_earlier_life_of_ones_own_are_answered_and_change_nothing() {
    let mut world = World::formed(1, 4, |_, _| ());
    world.crash(0);
    world.history.forget(0);
    world.restart(0, |config| config.seeds = vec![endpoint(1)]);
    world.converge(20 * S);
    let own = world.gossip(0).own_standing();
    let forged = datagram(node_id(1), LIFE, 0, &[word(node_id(0), LIFE, 3, State::Dead, Some(node_id(1))), ping(7)]);
    assert!(answers(&mut world, 0, 1, &forged) > 0);
    assert_eq!(world.gossip(0).own_standing(), own);
}

#[test]
fn a_flood_of_nacks_and_acks_is_counted_and_hides_nothing() {
    let mut world = World::formed(1, 6, |_, _| ());
    world.crash(3);
    let since = world.now;
    for n in 0..5_000_u64 {
        let tag = if n % 2 == 0 { (4, n.to_be_bytes().to_vec()) } else { (2, [n.to_be_bytes(), n.to_be_bytes()].concat()) };
        world.inject((n % 3) as usize, endpoint(4), &datagram(node_id(4), LIFE, 0, &[tag]));
        world.run_for(MS);
    }
    world.run_for(5 * S);
    assert_eq!(world.failed_count(3, since), 5);
    assert!(world.gossip(0).stats().unasked_answers_count > 1_000);
    assert_eq!(world.gossip(0).local_health(), 0);
}

#[test]
fn a_packet_of_a_hundred_pings_is_answered_once() {
    let mut world = World::formed(1, 4, |_, _| ());
    let pings: Vec<_> = (0..100).map(ping).collect();
    let count = answers(&mut world, 0, 1, &datagram(node_id(1), LIFE, 0, &pings[..60]));
    assert_eq!(count, 1);
}

#[test]
fn a_leaver_answers_for_three_seconds_and_then_no_more() {
    let mut world = World::formed(1, 5, |_, _| ());
    world.leave(4);
    let bytes = datagram(node_id(1), LIFE, 0, &[ping(9)]);
    world.run_for(2_900 * MS);
    assert_eq!(answers(&mut world, 4, 1, &bytes), 1);
    world.run_for(200 * MS);
    assert_eq!(answers(&mut world, 4, 1, &bytes), 0);
}

#[test]
fn who_leaves_and_ends_at_once_is_not_suspected_by_probes_on_their_way() {
    for seed in 1..=5 {
        let mut world = World::formed(seed, 12, |_, _| ());
        world.run_for(5 * S);
        let since = world.now;
        world.leave(5);
        world.run_for(20 * MS);
        world.crash(5);
        world.run_for(20 * S);
        let accused =
            world.count(since, |event| matches!(event, Event::Suspected { node, .. } | Event::Failed { node, .. } if *node == node_id(5)));
        assert_eq!(accused, 0, "seed {seed}");
    }
}

#[test]
fn a_death_out_of_the_blue_is_an_accusation_that_the_living_refute() {
    let mut world = World::formed(1, 12, |_, _| ());
    world.run_for(5 * S);
    let since = world.now;
    let forged = datagram(node_id(1), LIFE, 0, &[word(node_id(2), LIFE, 0, State::Dead, Some(node_id(1)))]);
    (0..12).filter(|to| ![1, 2].contains(to)).for_each(|to| world.inject(to, endpoint(1), &forged));
    world.run_for(20 * S);
    assert_eq!(world.failed_since(since), [], "it spoke up");
    assert!(world.gossip(0).stats().deaths_doubted_count > 0);
    world.converge(10 * S);
    // About one that is dead indeed it shortens the wait, also for somebody who never heard of a doubt.
    world.crash(3);
    let since = world.now;
    let forged = datagram(node_id(1), LIFE, 0, &[word(node_id(3), LIFE, 0, State::Dead, Some(node_id(1)))]);
    (0..12).filter(|to| ![1, 3].contains(to)).for_each(|to| world.inject(to, endpoint(1), &forged));
    world.run_for(2 * S);
    assert_eq!(world.failed_count(3, since), 11);
}
