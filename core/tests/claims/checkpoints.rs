//! Checkpoints: a restart begins at one, a log does not grow for ever, and a node that lags behind the log is brought back by one.

use distric_core::node::consensus::CheckpointPolicy;
use distric_model::GroupId;
use distric_raft::LogIndex;
use distric_raft_store::StateStore;
use distric_wire::client::{Query, QueryKind, Submit};

use crate::world::said::Response;
use crate::world::{ClientId, RULES, Setup, WORKFLOWS, World, keyed};

const OFTEN: CheckpointPolicy = CheckpointPolicy { entries: 20, bytes: 1 << 20, keep_entries: 5 };

fn setup(seed: u64, nodes: usize, shards: usize) -> Setup {
    Setup { nodes, work_groups: 2, checkpoints: OFTEN, ..Setup::of(seed, shards) }
}

fn key(n: u64) -> String {
    format!("k{n}")
}

/// Sends messages and returns what they were answered.
fn feed(world: &mut World, client: ClientId, numbers: std::ops::Range<u64>) -> Vec<Response> {
    numbers.map(|n| world.ask(client, &keyed("order", "{}", &key(n))).response()).collect()
}

/// Every message is in once, with its instance, and is known by its key.
#[track_caller]
fn check_all(world: &mut World, client: ClientId, known: &[Response]) {
    for (n, first) in known.iter().enumerate() {
        let again = world.ask(client, &Submit { resend: true, ..keyed("order", "{}", &key(n as u64)) }).response();
        assert_eq!((again.outcome, again.message_id, &again.instances), (2, first.message_id, &first.instances), "message {n}");
        let query = Query { kind: QueryKind::Message.number(), id: Some(first.message_id), ..Query::default() };
        assert_eq!(world.ask(client, &query).reply().body["payload"], serde_json::json!({}), "message {n}");
    }
    assert_eq!(world.instances_of(client, "ship").len(), known.len());
}

fn base(world: &World, node: usize, group: u32) -> u64 {
    world.nodes[node].store.base(GroupId(group)).map_or(0, |base| base.index.0)
}

#[test]
fn the_log_is_let_go_behind_a_checkpoint_and_a_restart_begins_there() {
    for (seed, shards) in [(1, 1), (2, 3), (3, 1), (4, 2)] {
        let mut world = World::new(setup(seed, 1, shards));
        let client = world.client(0);
        world.apply(client, Some(RULES), Some(WORKFLOWS));
        let known = feed(&mut world, client, 0..120);
        world.run_ms(500);
        for group in [1, 2] {
            let checkpoint = world.nodes[0].states.snapshot(GroupId(group)).expect("there was enough for one").position.index;
            assert!(base(&world, 0, group) > 20, "group {group}, seed {seed}");
            assert_eq!(base(&world, 0, group), checkpoint.0 - OFTEN.keep_entries, "a bounded part stays");
        }
        let digests: Vec<u64> = (1..=2).map(|group| world.machine(0, group).digest()).collect();
        world.restart(0);
        let client = world.client(0);
        check_all(&mut world, client, &known);
        // What the node applied since the start is not the whole history.
        let applied: u64 = world.nodes[0].stats().iter().map(|shard| shard.entries_applied_count).sum();
        assert!(applied < 240, "{applied} entries were applied after the restart, seed {seed}");
        assert_eq!(digests.len(), 2);
        let more = feed(&mut world, client, 120..160);
        assert!(more.iter().all(|response| response.outcome == 1));
    }
}

#[test]
fn nothing_is_lost_whenever_the_node_dies_around_a_checkpoint() {
    for seed in 0..60 {
        let shards = if seed % 2 == 0 { 1 } else { 3 };
        let mut world = World::new(setup(seed, 1, shards));
        let client = world.client(0);
        world.apply(client, Some(RULES), Some(WORKFLOWS));
        let mut known = feed(&mut world, client, 0..30 + seed % 20);
        for round in 0..4 {
            let client = world.client(0);
            for n in 0..12 {
                world.send(client, &keyed("order", "{}", &key(known.len() as u64 + n)));
            }
            let steps = world.draw(250);
            world.steps(steps);
            let kept = world.draw(4) as usize;
            world.crash_keeping(0, kept);
            world.start(0);
            world.until(10_000, "the node is ready again", |world| world.nodes[0].is_ready());
            let client = world.client(0);
            let first = known.len() as u64;
            for n in first..first + 12 {
                known.push(world.ask(client, &Submit { resend: true, ..keyed("order", "{}", &key(n)) }).response());
            }
            check_all(&mut world, client, &known);
            assert!(world.nodes[0].states.snapshot(GroupId(1)).is_some(), "round {round}: a checkpoint was made, seed {seed}");
        }
    }
}

#[test]
fn a_node_that_lags_behind_the_log_is_caught_up_by_a_snapshot() {
    for seed in 0..12 {
        let mut world = World::new(setup(seed, 3, if seed % 2 == 0 { 1 } else { 2 }));
        let client = world.client(0);
        world.apply(client, Some(RULES), Some(WORKFLOWS));
        let mut known = feed(&mut world, client, 0..10);
        world.run_ms(1_000);
        let away = world.draw(3) as usize;
        world.crash(away);
        world.run_ms(2_000);
        let client = world.client_of((away + 1) % 3, 0);
        known.extend(feed(&mut world, client, 10..130));
        world.run_ms(1_000);
        let other = (away + 1) % 3;
        assert!(base(&world, other, 1) > 30 && base(&world, other, 2) > 30, "the others have let go of it, seed {seed}");
        world.loss_percent = if seed % 3 == 0 { 10 } else { 0 };
        world.start(away);
        world.until(30_000, "the node is ready again", |world| world.nodes[away].is_ready());
        // It keeps receiving while it is caught up.
        known.extend(feed(&mut world, client, 130..150));
        world.loss_percent = 0;
        world.run_ms(6_000);
        for group in [1, 2] {
            let machines: Vec<_> = (0..3).map(|node| world.machine(node, group)).collect();
            for machine in &machines {
                assert_eq!(machine.applied_index(), machines[0].applied_index(), "group {group}, seed {seed}");
                assert_eq!(machine.digest(), machines[0].digest(), "group {group}, seed {seed}");
            }
            assert!(base(&world, away, group) > 30, "its log began anew, group {group}, seed {seed}");
        }
        // What it says is what the others say, and it survives its own restart.
        for restarted in [false, true] {
            if restarted {
                world.crash(away);
                world.start(away);
                world.until(30_000, "the node is ready after another restart", |world| world.nodes[away].is_ready());
            }
            let client = world.client_of(away, 0);
            check_all(&mut world, client, &known);
        }
    }
}

#[test]
fn group_0_is_restored_with_its_catalog_and_members() {
    let mut world = World::new(Setup { checkpoints: CheckpointPolicy { entries: 3, keep_entries: 0, ..OFTEN }, ..Setup::of(5, 2) });
    let client = world.client(0);
    for _ in 0..6 {
        world.apply(client, Some(RULES), Some(WORKFLOWS));
        world.apply(client, Some("rules: []"), Some(WORKFLOWS));
    }
    let version = world.apply(client, Some(RULES), Some(WORKFLOWS));
    world.run_ms(200);
    let checkpoint = world.nodes[0].states.snapshot(GroupId::META).expect("there was enough for one").position.index;
    assert!(checkpoint > LogIndex(5) && base(&world, 0, 0) == checkpoint.0);
    world.restart(0);
    let client = world.client(1);
    let response = world.ask(client, &keyed("order", "{}", "after")).response();
    assert_eq!((response.outcome, response.catalog_version), (1, version));
}
