//! Sealed packets in a living cluster: keys change under it and nobody is missed; strangers, recordings and redirections reach nobody.

mod world;

use distric_gossip::{Config, Event, KeyChoice, KeyId, KeyRing, Outputs, Refusal, Role};
use world::*;

fn ring(ids: &[u16]) -> KeyRing {
    KeyRing::new(ids.iter().map(|id| (KeyId(*id), [*id as u8; 32]))).unwrap()
}

fn choice(version: u64, primary: u16, floor: u16) -> KeyChoice {
    KeyChoice { version, primary: KeyId(primary), floor: KeyId(floor) }
}

/// The first three are coordinators, the rest are workers; all hold key 1.
fn sealed(n: usize, config: &mut Config) {
    config.keys = Some(ring(&[1]));
    config.profile.role = if n < 3 { Role::Voter } else { Role::Worker };
}

fn refused(world: &World, at: usize, refusal: Refusal) -> u64 {
    world.gossip(at).stats().refusals.of(refusal)
}

fn sealing(world: &World, at: usize) -> Option<u16> {
    world.gossip(at).keys().sealing().map(|id| id.0)
}

/// What a machine sends while nothing is delivered of it.
fn recorded(world: &mut World, at: usize, rounds: usize) -> Vec<distric_gossip::Datagram> {
    let mut kept = Vec::new();
    for _ in 0..rounds {
        let now = world.now;
        world.with(at, |gossip, _, out| {
            gossip.handle_timeout(distric_model::Instant::from_us(now + 260 * MS), out);
            kept.extend(out.datagrams.iter().cloned());
        });
        world.run_for(260 * MS);
    }
    kept
}

#[test]
fn a_sealed_cluster_finds_together_sees_a_death_and_refuses_nothing() {
    let mut world = World::formed(1, 12, sealed);
    world.run_for(10 * S);
    let since = world.now;
    world.crash(7);
    world.run_for(8 * S);
    assert_eq!(world.failed_count(7, since), 11);
    world.converge(20 * S);
    for at in (0..12).filter(|at| *at != 7) {
        assert!(world.gossip(at).stats().refusals.iter().all(|(_, count)| count == 0), "{at}: {:?}", world.gossip(at).stats().refusals);
        assert!(world.gossip(at).senders_count() <= 11);
    }
}

#[test]
fn keys_are_rotated_under_a_running_cluster_and_nobody_is_suspected() {
    let mut world = World::formed(1, 6, sealed);
    world.run_for(5 * S);
    let since = world.now;
    // Add: one after the other, with time between.
    for at in 0..6 {
        world.with(at, |gossip, now, out| assert!(gossip.set_keys(now, ring(&[1, 2]), out)));
        world.run_for(3 * S);
    }
    assert!((0..6).all(|at| sealing(&world, at) == Some(1)));
    // Every member sees what every other one holds: that is what the next step is allowed by.
    assert!((0..6).all(|at| world.gossip(at).members().all(|member| member.profile.keys.held == [KeyId(1), KeyId(2)])));
    // Use: the log tells the coordinators, and they tell the workers.
    for at in 0..3 {
        world.with(at, |gossip, now, out| gossip.choose_key(now, choice(1, 2, 0), out));
        world.run_for(S);
    }
    world.run_for(10 * S);
    assert!((0..6).all(|at| sealing(&world, at) == Some(2)), "workers have heard it too");
    // Retire.
    for at in 0..3 {
        world.with(at, |gossip, now, out| gossip.choose_key(now, choice(2, 2, 2), out));
    }
    world.run_for(10 * S);
    for at in 0..6 {
        world.with(at, |gossip, now, out| gossip.set_keys(now, ring(&[2]), out));
    }
    world.run_for(10 * S);
    assert!((0..6).all(|at| world.gossip(at).keys().choice == choice(2, 2, 2)));
    assert_eq!(world.count(since, |event| matches!(event, Event::Suspected { .. } | Event::Failed { .. })), 0);
    assert!((0..6).all(|at| world.gossip(at).stats().refusals.iter().all(|(_, count)| count == 0)));
    world.converge(20 * S);
}

#[test]
fn who_was_away_during_a_rotation_comes_back_with_the_new_key_and_not_with_the_old_one() {
    let mut world = World::formed(1, 5, sealed);
    world.run_for(5 * S);
    world.crash(4);
    for at in 0..4 {
        world.with(at, |gossip, now, out| gossip.set_keys(now, ring(&[1, 2]), out));
    }
    for at in 0..3 {
        world.with(at, |gossip, now, out| gossip.choose_key(now, choice(1, 2, 2), out));
    }
    world.run_for(30 * S);
    world.history.forget(4);
    world.restart(4, |_| ());
    world.run_for(10 * S);
    assert_eq!(world.gossip(4).live_count(), 1);
    assert!((0..4).map(|at| refused(&world, at, Refusal::UnknownKey)).sum::<u64>() > 0);
    world.crash(4);
    world.history.forget(4);
    // It holds both, and does not know yet which one counts: the others would not open the old one. It is told at its start.
    world.restart(4, |config| {
        config.keys = Some(ring(&[1, 2]));
        config.key_choice = choice(1, 2, 2);
    });
    world.converge(30 * S);
    assert_eq!(sealing(&world, 4), Some(2));
}

#[test]
fn a_worker_does_not_make_a_choice_for_others() {
    let mut world = World::formed(1, 5, |n, config| {
        sealed(n, config);
        config.keys = Some(ring(&[1, 2]));
    });
    world.with(4, |gossip, now, out| gossip.choose_key(now, choice(9, 2, 2), out));
    world.run_for(20 * S);
    assert!((0..4).all(|at| sealing(&world, at) == Some(1)));
}

#[test]
fn plain_and_sealed_do_not_hear_each_other_nor_do_clusters_with_one_key() {
    let mut world = World::formed(1, 3, sealed);
    world.add(World::config(3, vec![endpoint(0)]));
    let mut foreign = World::config(4, vec![endpoint(0)]);
    sealed(4, &mut foreign);
    foreign.cluster = cluster_id(2);
    world.add(foreign);
    world.run_for(20 * S);
    assert!((0..3).all(|at| world.gossip(at).live_count() == 3));
    assert!(world.gossip(3).live_count() == 1 && world.gossip(4).live_count() == 1);
    assert!(refused(&world, 0, Refusal::Unsealed) > 0 && refused(&world, 0, Refusal::Seal) > 0);
    let bytes = recorded(&mut world, 0, 4).swap_remove(0).bytes;
    world.inject(3, endpoint(0), &bytes);
    assert_eq!(refused(&world, 3, Refusal::Sealed), 1);
}

#[test]
fn recordings_are_refused_wherever_they_are_played() {
    let mut world = World::formed(1, 5, sealed);
    world.run_for(5 * S);
    let tape = recorded(&mut world, 1, 12);
    assert!(tape.len() >= 6, "{}", tape.len());
    let before = world.gossip(3).members().map(|member| member.standing).collect::<Vec<_>>();
    for datagram in &tape {
        let of = usize::from(datagram.to.port);
        for to in (0..5).filter(|to| *to != 1) {
            let mut answers = 0;
            let counts = |world: &World| (refused(world, to, Refusal::Replay), refused(world, to, Refusal::Seal));
            let (replays, seals) = counts(&world);
            world.with(to, |gossip, now, out: &mut Outputs| {
                gossip.handle_packet(now, endpoint(1), &datagram.bytes, out);
                answers = out.datagrams.len();
            });
            assert_eq!(answers, 0, "nothing that is refused is answered");
            assert_eq!(counts(&world), if to == of { (replays + 1, seals) } else { (replays, seals + 1) });
        }
    }
    assert_eq!(world.gossip(3).members().map(|member| member.standing).collect::<Vec<_>>(), before);
}

#[test]
fn no_answer_to_a_stranger_is_larger_than_its_question() {
    let mut world = World::formed(1, 3, sealed);
    let mut config = World::config(3, vec![endpoint(0)]);
    sealed(3, &mut config);
    let mut stranger = distric_gossip::Gossip::new(config, 5, distric_model::Instant::from_us(world.now)).unwrap();
    let mut out = Outputs::default();
    stranger.handle_timeout(distric_model::Instant::from_us(world.now), &mut out);
    let knock = out.datagrams.iter().find(|datagram| datagram.to == endpoint(0)).expect("it asks its seed").bytes.clone();
    let mut sent = Vec::new();
    world.with(0, |gossip, now, out: &mut Outputs| {
        gossip.handle_packet(now, endpoint(77), &knock, out);
        sent = out.datagrams.iter().filter(|datagram| datagram.to == endpoint(77)).map(|datagram| datagram.bytes.len()).collect();
    });
    assert_eq!(sent.len(), 1);
    assert!(sent[0] <= knock.len(), "{} bytes for {}", sent[0], knock.len());
    // The same question again is a recording, and gets nothing at all.
    world.with(0, |gossip, now, out: &mut Outputs| {
        gossip.handle_packet(now, endpoint(78), &knock, out);
        assert!(out.datagrams.iter().all(|datagram| datagram.to != endpoint(78)));
    });
    assert_eq!(refused(&world, 0, Refusal::Replay), 1);
}

#[test]
fn a_view_is_compared_sealed_and_a_recorded_comparison_is_refused() {
    let mut world = World::formed(1, 4, sealed);
    world.run_for(5 * S);
    let mut stream = None;
    // A minute later by its own clock: then a comparison is due.
    let later = distric_model::Instant::from_us(world.now + 60 * S);
    world.with(1, |gossip, _, out| {
        gossip.handle_timeout(later, out);
        stream = out.streams.first().cloned();
    });
    let stream = stream.expect("views are compared now and then");
    let (to, bytes) = (usize::from(stream.to.port), stream.bytes);
    assert!(bytes.starts_with(b"DS"));
    world.run_for(S);
    let other = (0..4).find(|at| *at != to && *at != 1).unwrap();
    for (at, reason) in [(to, Refusal::Replay), (other, Refusal::Seal)] {
        let before = refused(&world, at, reason);
        world.with(at, |gossip, now, out: &mut Outputs| {
            gossip.handle_stream(now, endpoint(1), &bytes, out);
            assert!(out.streams.is_empty());
        });
        assert_eq!(refused(&world, at, reason), before + 1, "{reason}");
    }
}
