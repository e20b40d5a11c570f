//! Scenarios: one test for each way in which membership has gone wrong somewhere before.

mod world;

use std::sync::Arc;

use distric_gossip::{Datagram, Endpoint, Event, Generation, Load, Outputs, Profile, Refusal, Role, State, Verdict};
use distric_model::Instant;
use world::*;

fn quiet(_: usize, _: &mut distric_gossip::Config) {}

/// What a machine sends first when it is woken, and to whom: packets for replays and forgeries.
fn sent_by(world: &mut World, at: usize) -> Vec<Datagram> {
    let mut kept = Vec::new();
    let now = world.now;
    world.with(at, |gossip, _, out| {
        gossip.handle_timeout(Instant::from_us(now + 260 * MS), out);
        kept = out.datagrams.clone();
    });
    kept
}

#[test]
fn paused_observers_declare_nobody_dead() {
    for seed in 1..=5 {
        let mut world = World::formed(seed, 20, quiet);
        world.run_for(10 * S);
        let since = world.now;
        for at in 0..10 {
            let pause = S + world.random.below(9 * S);
            world.pause(at, pause);
        }
        world.run_for(15 * S);
        let wrong: Vec<_> = world.failed_since(since).into_iter().filter(|(.., node)| (10..20).any(|n| node_id(n) == *node)).collect();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
        world.converge(30 * S);
    }
}

#[test]
fn a_mass_restart_converges_without_help() {
    let mut world = World::formed(1, 30, quiet);
    (1..30).for_each(|at| world.crash(at));
    world.run_for(2 * S);
    for at in 1..30 {
        world.history.forget(at);
        world.restart(at, |_| ());
    }
    world.converge(60 * S);
}

#[test]
fn a_restart_faster_than_detection_brings_the_new_profile() {
    let mut world = World::formed(1, 8, quiet);
    world.crash(3);
    world.history.forget(3);
    world.restart(3, |config| config.profile.capacity = 77);
    let since = world.now;
    world.converge(20 * S);
    for (at, gossip) in world.running().filter(|(at, _)| *at != 3) {
        let view = gossip.members().find(|view| view.node == node_id(3)).unwrap();
        assert_eq!((view.profile.capacity, view.standing.generation), (77, Generation(1_000_001)), "at {at}");
    }
    assert!(world.count(since, |event| matches!(event, Event::Restarted { .. })) >= 6);
    assert_eq!(world.failed_count(3, since), 0);
}

#[test]
fn the_same_node_at_a_new_address_is_found_there() {
    let mut world = World::formed(1, 6, quiet);
    world.crash(2);
    // The same node id in a later generation, on machine 6.
    let mut config = World::config(2, vec![endpoint(0)]);
    config.generation = Generation(1_000_002);
    config.profile.endpoint = endpoint(6);
    world.add(config);
    world.converge(20 * S);
    assert!(world.running().filter(|(at, _)| *at != 6).all(|(_, gossip)| gossip.live_count() == 6));
}

#[test]
fn two_processes_of_one_generation_are_a_conflict_and_the_first_is_kept() {
    let mut world = World::formed(1, 4, quiet);
    let since = world.now;
    let mut config = World::config(2, vec![endpoint(0)]);
    config.profile.endpoint = endpoint(4);
    world.add(config);
    world.run_for(5 * S);
    assert!(world.count(since, |event| matches!(event, Event::Conflict { refused, .. } if *refused == endpoint(4))) > 0);
    let kept = world.gossip(1).members().find(|view| view.node == node_id(2)).unwrap();
    assert_eq!(kept.profile.endpoint, endpoint(2));
}

#[test]
fn an_older_life_learns_that_it_is_superseded() {
    let mut world = World::formed(1, 4, quiet);
    let since = world.now;
    let mut config = World::config(2, vec![endpoint(0)]);
    config.generation = Generation(1_000_009);
    config.profile.endpoint = endpoint(4);
    world.add(config);
    world.run_for(10 * S);
    assert!(world.count(since, |event| matches!(event, Event::Superseded { generation } if *generation == Generation(1_000_009))) > 0);
}

#[test]
fn a_reused_address_does_not_keep_the_old_node_alive() {
    let mut world = World::formed(1, 5, quiet);
    world.crash(4);
    // Another node takes over the machine at once: pings name their target, so it does not answer for the old one.
    let mut config = World::config(9, vec![endpoint(0)]);
    config.profile.endpoint = endpoint(4);
    world.seats[4].config = config;
    world.history.forget(4);
    world.restart(4, |_| ());
    world.converge(30 * S);
    assert!(world.gossip(4).stats().wrong_target_count > 0);
    assert_eq!(world.gossip(0).standing_of(node_id(4)).unwrap().state, State::Dead);
    assert!(world.gossip(0).standing_of(node_id(9)).unwrap().state.is_live());
}

#[test]
fn a_late_rumour_after_reaping_raises_nobody() {
    let mut world = World::formed(1, 5, |_, config| config.tombstone_ms = 5_000);
    // What node 4 says of itself, delayed until everyone has forgotten it.
    let words = sent_by(&mut world, 4);
    assert!(!words.is_empty());
    world.crash(4);
    world.run_for(60 * S);
    assert_eq!(world.gossip(0).known_count(), 3, "it is reaped");
    let since = world.now;
    for (n, word) in words.iter().enumerate() {
        world.inject_later(n as u64 * MS, 0, endpoint(4), word.bytes.clone());
    }
    world.run_for(10 * S);
    assert_eq!(world.count(since, |event| matches!(event, Event::Joined { .. })), 0);
}

#[test]
fn the_left_are_reaped_too() {
    let mut world = World::formed(1, 6, |_, config| config.tombstone_ms = 5_000);
    world.leave(5);
    world.run_for(60 * S);
    assert_eq!(world.gossip(0).known_count(), 4);
}

#[test]
fn a_partition_longer_than_every_memory_heals() {
    let mut world = World::formed(1, 12, |n, config| {
        config.tombstone_ms = 5_000;
        config.seeds = if n == 0 { vec![] } else { vec![endpoint(0), endpoint(11)] };
    });
    world.run_for(10 * S);
    world.passes = Box::new(|from, to| (from < 6) == (to < 6));
    world.run_for(3_600 * S);
    assert!(world.running().all(|(_, gossip)| gossip.live_count() == 6));
    world.passes = Box::new(|_, _| true);
    world.converge(60 * S);
}

#[test]
fn a_storm_of_refutations_is_bounded_and_converges() {
    let mut world = World::formed(1, 60, quiet);
    world.run_for(10 * S);
    (30..60).for_each(|at| world.pause(at, 8 * S));
    world.run_for(8 * S);
    let (since, packets) = (world.now, world.packets_sent);
    world.converge(30 * S);
    let per_s = (world.packets_sent - packets) * S / (world.now - since).max(S) / 60;
    assert!(per_s < 600, "{per_s} packets/s per node");
}

#[test]
fn one_deaf_node_kills_nobody() {
    for seed in 1..=3 {
        let mut world = World::formed(seed, 20, quiet);
        world.run_for(10 * S);
        let since = world.now;
        // It sends and does not hear, so it accuses everybody.
        world.passes = Box::new(|_, to| to != 7);
        world.run_for(60 * S);
        let wrong: Vec<_> = world.failed_since(since).into_iter().filter(|(_, by, node)| *by != 7 && *node != node_id(7)).collect();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
        world.passes = Box::new(|_, _| true);
        world.converge(60 * S);
    }
}

#[test]
fn one_mute_node_is_found_and_comes_back() {
    let mut world = World::formed(1, 20, quiet);
    let since = world.now;
    world.passes = Box::new(|from, _| from != 7);
    world.run_for(10 * S);
    assert_eq!(world.failed_count(7, since), 19);
    world.passes = Box::new(|_, _| true);
    world.converge(60 * S);
}

#[test]
fn words_that_come_fifteen_seconds_late_keep_nobody_alive() {
    let mut world = World::formed(1, 10, quiet);
    let words = sent_by(&mut world, 9);
    world.crash(9);
    let since = world.now;
    for n in 0..200 {
        let to = n % 9;
        world.inject_later(n as u64 * 100 * MS, to, endpoint(9), words[0].bytes.clone());
    }
    world.run_for(8 * S);
    assert_eq!(world.failed_count(9, since), 9);
    world.run_for(20 * S);
    assert!(world.running().all(|(_, gossip)| gossip.standing_of(node_id(9)).unwrap().state == State::Dead));
}

#[test]
fn a_flood_of_profiles_and_loads_does_not_delay_a_death() {
    let mut world = World::formed(1, 40, quiet);
    world.crash(39);
    let since = world.now;
    for round in 0..25_u32 {
        for at in 0..39 {
            let profile = Profile { capacity: round + 1, ..world.seats[at].config.profile.clone() };
            world.with(at, |gossip, now, out| {
                gossip.set_load(now, Load { running: 1 << (round % 20), ..Load::default() });
                gossip.set_profile(now, profile, out)
            });
        }
        world.run_for(200 * MS);
    }
    assert_eq!(world.failed_count(39, since), 39);
    assert!(world.first_failed(39, since).unwrap() - since < 4 * S);
}

#[test]
fn the_load_of_everyone_reaches_everyone() {
    let mut world = World::formed(1, 20, quiet);
    for at in 0..20 {
        world.with(at, |gossip, now, _| gossip.set_load(now, Load { running: at as u32 + 1, ..Load::default() }));
    }
    world.run_for(15 * S);
    for (at, gossip) in world.running() {
        for other in (0..20).filter(|other| *other != at) {
            assert_eq!(gossip.load_of(node_id(other)).unwrap().running, other as u32 + 1, "{other} at {at}");
        }
    }
}

#[test]
fn a_stranger_gets_no_more_than_it_sent() {
    let mut world = World::formed(1, 4, quiet);
    let mut config = World::config(50, vec![endpoint(0)]);
    config.profile.labels = vec![("k".into(), "v".into())];
    let mut stranger = distric_gossip::Gossip::new(config, 1, Instant::from_us(0)).unwrap();
    let mut out = Outputs::default();
    stranger.handle_timeout(Instant::from_us(1), &mut out);
    let knock = out.datagrams[0].bytes.clone();
    let victim = Endpoint::v4([192, 0, 2, 1], 53);
    let mut answers = Vec::new();
    world.with(0, |gossip, now, out| {
        gossip.handle_packet(now, victim, &knock, out);
        answers = out.datagrams.iter().filter(|datagram| datagram.to == victim).cloned().collect();
    });
    assert!(answers.len() <= 1);
    assert!(answers.iter().all(|answer| answer.bytes.len() <= knock.len()));
}

#[test]
fn a_ping_of_a_member_is_answered_at_its_registered_address_only() {
    let mut world = World::formed(1, 4, quiet);
    world.run_for(5 * S);
    let pings = sent_by(&mut world, 1);
    let to = usize::from(pings[0].to.port);
    let victim = Endpoint::v4([192, 0, 2, 1], 53);
    world.with(to, |gossip, now, out| {
        gossip.handle_packet(now, victim, &pings[0].bytes, out);
        assert!(!out.datagrams.is_empty());
        assert!(out.datagrams.iter().all(|datagram| datagram.to == endpoint(1)));
    });
}

#[test]
fn answers_that_nobody_asked_for_are_counted_and_change_nothing() {
    let mut world = World::formed(1, 5, |_, _| ());
    world.weather.twice_permille = 1_000;
    world.run_for(10 * S);
    assert!(world.gossip(0).stats().unasked_answers_count > 0);
    let since = world.now;
    world.crash(4);
    world.run_for(10 * S);
    assert_eq!(world.failed_count(4, since), 4);
}

#[test]
fn a_leaver_is_left_everywhere_and_never_dead() {
    for seed in 1..=3 {
        let mut world = World::formed(seed, 30, quiet);
        world.weather.loss_permille = 200;
        let since = world.now;
        world.leave(11);
        world.run_for(20 * S);
        assert_eq!(world.failed_count(11, since), 0, "seed {seed}");
        for (at, gossip) in world.running() {
            assert_eq!(gossip.standing_of(node_id(11)).unwrap().state, State::Left, "seed {seed}, at {at}");
        }
    }
}

#[test]
fn a_late_word_of_a_leaver_does_not_bring_it_back() {
    let mut world = World::formed(1, 6, quiet);
    let words = sent_by(&mut world, 5);
    world.leave(5);
    world.run_for(5 * S);
    let since = world.now;
    (0..5).for_each(|to| world.inject(to, endpoint(5), &words[0].bytes));
    world.run_for(30 * S);
    assert_eq!(world.count(since, |event| matches!(event, Event::Joined { .. })), 0);
}

#[test]
fn two_sides_that_hold_each_other_dead_stop_arguing() {
    let mut world = World::formed(1, 2, quiet);
    world.passes = Box::new(|_, _| false);
    world.run_for(60 * S);
    assert!(world.running().all(|(_, gossip)| gossip.live_count() == 1));
    world.passes = Box::new(|_, _| true);
    world.converge(30 * S);
    let before: Vec<_> = world.running().map(|(_, gossip)| gossip.own_standing()).collect();
    world.run_for(60 * S);
    assert_eq!(before, world.running().map(|(_, gossip)| gossip.own_standing()).collect::<Vec<_>>());
}

#[test]
fn the_backlog_drains_and_stays_empty() {
    let mut world = World::formed(1, 30, quiet);
    (20..30).for_each(|at| world.crash(at));
    world.run_for(120 * S);
    assert!(world.running().all(|(_, gossip)| gossip.backlog().0 == 0));
}

#[test]
fn small_clusters_detect_without_witnesses() {
    for count in [2, 3, 4] {
        let mut world = World::formed(1, count, quiet);
        let since = world.now;
        world.crash(count - 1);
        world.run_for(5 * S);
        assert_eq!(world.failed_count(count - 1, since), count - 1, "of {count}");
    }
}

#[test]
fn clusters_do_not_mix() {
    let mut world = World::formed(1, 4, quiet);
    for n in 4..8 {
        let mut config = World::config(n, vec![endpoint(0)]);
        config.cluster = cluster_id(2);
        world.add(config);
    }
    world.run_for(30 * S);
    assert!((0..4).all(|at| world.gossip(at).live_count() == 4));
    assert!((4..8).all(|at| world.gossip(at).live_count() == 1));
    assert!(world.gossip(0).stats().refusals.of(Refusal::Cluster) > 0);
}

#[test]
fn two_hundred_joiners_at_one_seed_are_served() {
    let mut world = World::formed(1, 200, quiet);
    assert!(world.now < 60 * S, "{} s", world.now / S);
    world.run_for(S);
    assert!(world.agrees());
}

#[test]
fn joining_under_loss_reaches_everyone() {
    let mut world = World::empty(1);
    world.weather.loss_permille = 100;
    for n in 0..17 {
        world.add(World::config(n, if n == 0 { vec![] } else { vec![endpoint(0)] }));
        world.run_for(2 * S);
    }
    // SWIM got to 12 of 17 here.
    let since = world.now;
    world.converge(60 * S);
    assert!(world.now - since < 60 * S);
}

#[test]
fn duplicates_and_reordering_are_harmless() {
    let mut world = World::formed(1, 12, quiet);
    world.weather = Weather { loss_permille: 50, delay_us: (100, 40 * MS), twice_permille: 300 };
    let since = world.now;
    world.run_for(60 * S);
    assert_eq!(world.failed_since(since), []);
}

#[test]
fn loss_alone_kills_nobody() {
    let mut world = World::formed(1, 40, quiet);
    world.weather.loss_permille = 50;
    let since = world.now;
    world.run_for(120 * S);
    assert_eq!(world.failed_since(since), []);
}

#[test]
fn a_partition_is_judged_and_its_end_is_noticed() {
    let mut world = World::formed(1, 30, |n, config| config.profile.zone = format!("zone-{}", n % 3));
    world.run_for(15 * S);
    world.passes = Box::new(|from, to| (from < 20) == (to < 20));
    world.run_for(30 * S);
    for (at, gossip) in world.running() {
        assert_eq!(gossip.verdict(), if at < 20 { Verdict::Majority } else { Verdict::Minority }, "at {at}");
    }
    world.passes = Box::new(|_, _| true);
    world.converge(60 * S);
    world.run_for(10 * S);
    assert!(world.running().all(|(_, gossip)| gossip.verdict() == Verdict::None));
}

#[test]
fn nobody_is_reaped_while_a_partition_is_suspected() {
    let mut world = World::formed(1, 12, |_, config| config.tombstone_ms = 5_000);
    world.run_for(15 * S);
    world.passes = Box::new(|from, to| (from < 6) == (to < 6));
    world.run_for(300 * S);
    assert!(world.running().all(|(_, gossip)| gossip.known_count() == 11));
}

#[test]
fn a_change_of_role_is_known_at_once() {
    let mut world = World::formed(1, 30, quiet);
    world.run_for(5 * S);
    let since = world.now;
    let profile = Profile { role: Role::Voter, ..world.seats[3].config.profile.clone() };
    world.with(3, |gossip, now, out| gossip.set_profile(now, profile, out));
    world.run_for(50 * MS);
    let told = world.count(since, |event| matches!(event, Event::RoleChanged { role: Role::Voter, .. }));
    assert_eq!(told, 29);
}

#[test]
fn a_voter_that_is_suspected_speaks_up_before_it_is_buried() {
    let mut world = World::formed(1, 20, quiet);
    let since = world.now;
    // One silent second: long enough to be accused, short enough to answer.
    world.pause(4, 1_200 * MS);
    world.run_for(10 * S);
    assert_eq!(world.failed_count(4, since), 0);
    assert!(world.count(since, |event| matches!(event, Event::Refuted { node, .. } if *node == node_id(4))) > 0);
    world.converge(10 * S);
}

#[test]
fn equal_seeds_give_equal_runs() {
    let run = |seed| {
        let mut world = World::formed(seed, 10, quiet);
        world.weather.loss_permille = 100;
        world.crash(9);
        world.run_for(20 * S);
        (world.packets_sent, world.bytes_sent, world.events.len())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn a_profile_is_shared_and_not_copied_into_each_event() {
    let world = World::formed(1, 3, quiet);
    let joined = world.events.iter().find_map(|(_, at, event)| match event {
        Event::Joined { profile, node, .. } if *at == 0 => Some((Arc::clone(profile), *node)),
        _ => None,
    });
    let (profile, node) = joined.unwrap();
    let held = world.gossip(0).members().find(|view| view.node == node).unwrap();
    assert!(Arc::ptr_eq(&profile, &held.profile));
}
