//! Starting: a node that comes back serves what it promised, or says that it is not ready; never anything in between.

use distric_wire::Code;
use distric_wire::client::{Query, QueryKind, Submit};

use crate::world::{RULES, Said, Setup, WORKFLOWS, World, hello, keyed, message};

/// A client that comes at the given step of the start.
fn come_at(seed: u64, shards: usize, step: u64) {
    let mut world = World::new(Setup::of(seed, shards));
    let client = world.client(0);
    world.apply(client, Some(RULES), Some(WORKFLOWS));
    let known: Vec<_> = (0..8).map(|n| world.ask(client, &keyed("order", "{}", &format!("k{n}"))).response()).collect();
    world.crash(0);
    world.start(0);
    world.steps(step);
    let shard = step as usize % shards;
    let early = world.stranger(0, shard);
    let greeting = world.send(early, &hello());
    let fresh = world.send(early, &message("order", "{}"));
    let list = world.send(early, &Query { kind: QueryKind::Instances.number(), ..Query::default() });
    let reads: Vec<u64> = known
        .iter()
        .map(|response| world.send(early, &Query { kind: QueryKind::Message.number(), id: Some(response.message_id), ..Query::default() }))
        .collect();
    let resends: Vec<u64> = (0..8).map(|n| world.send(early, &Submit { resend: true, ..keyed("order", "{}", &format!("k{n}")) })).collect();
    world.run_ms(2_000);
    let may_wait =
        |said: &Said| matches!(said, Said::Rejection(refused) if refused.code == Code::Unavailable && refused.retry_after_ms.is_some());
    match world.took(early, greeting).expect("an answer") {
        Said::Welcome { .. } => {}
        said => {
            assert!(may_wait(&said), "{said:?}");
            assert!(!world.clients[early].is_open);
            return;
        }
    }
    match world.took(early, fresh).expect("an answer") {
        Said::Response(response) => assert_eq!((response.outcome, response.catalog_version), (1, 1), "step {step}"),
        said => assert!(may_wait(&said), "{said:?}"),
    }
    match world.took(early, list).expect("an answer") {
        Said::Reply(reply) => assert!(reply.body["items"].as_array().unwrap().len() >= 8, "step {step}: {}", reply.body),
        said => assert!(may_wait(&said), "{said:?}"),
    }
    for id in reads {
        let said = world.took(early, id).expect("an answer");
        assert!(matches!(said, Said::Reply(_)) || may_wait(&said), "step {step}: {said:?}");
    }
    for (id, first) in resends.into_iter().zip(&known) {
        match world.took(early, id).expect("an answer") {
            Said::Response(again) => assert_eq!((again.outcome, again.message_id), (2, first.message_id)),
            said => assert!(may_wait(&said), "step {step}: {said:?}"),
        }
    }
}

#[test]
fn whoever_comes_early_is_served_rightly_or_told_to_wait() {
    for step in 0..120 {
        come_at(step, 1, step % 60);
        come_at(1_000 + step, 3, step);
    }
}

#[test]
fn a_cluster_that_was_never_finished_is_finished_at_the_next_start() {
    for step in 0..80 {
        for kept in [0, 1, 5] {
            let mut world = World::still(Setup::of(step, 3));
            world.start(0);
            world.steps(step);
            world.crash_keeping(0, kept);
            world.start(0);
            world.until(10_000, "the node is ready", |world| world.nodes[0].is_ready());
            let client = world.client(2);
            assert_eq!(world.apply(client, Some(RULES), Some(WORKFLOWS)), 1);
            for _ in 0..8 {
                assert_eq!(world.ask(client, &message("order", "{}")).response().outcome, 1);
            }
        }
    }
}

#[test]
fn limits_of_the_configuration_are_in_every_groups_log() {
    let mut setup = Setup::of(3, 3);
    setup.settings.history_instances_max = 7;
    let mut world = World::new(setup);
    world.run_ms(100);
    let wanted = world.setup.settings.clone();
    for group in 1..=4 {
        assert_eq!(*world.machine(0, group).settings(), wanted);
    }
    assert_eq!(world.logged("configure"), 4);
    world.restart(0);
    world.run_ms(100);
    assert_eq!(world.logged("configure"), 4, "once is enough");
    world.setup.settings.history_instances_max = 8;
    world.restart(0);
    world.run_ms(100);
    assert_eq!(world.logged("configure"), 8);
}
