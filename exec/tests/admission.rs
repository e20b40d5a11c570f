//! When instances may begin: by key, in order, at a rate, the last of several, several as one.

mod support;

use std::sync::Arc;

use distric_exec::command::{Command, OutAck, OutResult};
use distric_exec::machine::admission::{GateKey, STARTS_PER_KEY_MAX};
use distric_exec::{InResult, Out, OutBody, Reply, Settings};
use distric_model::{GroupId, InstanceId, MessageId, Slot};
use serde_json::{Value, json};
use support::*;

/// A world with a workflow `w` of one task that has these members, and a worker with much room.
fn world_of(members: Value) -> World {
    let mut world = World::new();
    define(&mut world, members);
    world.worker_up(1, 64);
    world
}

fn define(world: &mut World, members: Value) {
    let mut definition = json!({ "id": "w", "tasks": [job("a", &[])] });
    for (name, value) in members.as_object().unwrap() {
        definition[name] = value.clone();
    }
    assert_eq!(world.define(definition), Reply::Done);
}

fn settle(world: &mut World) {
    carry(&mut [world], |_| 0);
}

fn start(world: &mut World, input: Value) -> InstanceId {
    let id = world.start(input);
    settle(world);
    id
}

fn complete(world: &mut World) {
    world.complete("a", json!(1));
    settle(world);
}

fn statuses(world: &World, ids: &[InstanceId]) -> Vec<&'static str> {
    ids.iter().map(|id| world.status(*id)).collect()
}

fn error_of(world: &World, id: InstanceId) -> String {
    world.instance(id).summary.error.expect("it has an error").code
}

fn gate(key: &str, scope: &str) -> GateKey {
    GateKey { namespace: namespace(), key: Arc::from(key), scope: Arc::from(scope) }
}

fn why(world: &World, id: InstanceId) -> Value {
    serde_json::to_value(world.machine.why_instance(id).unwrap()).unwrap()
}

#[test]
fn no_more_than_the_limit_run_with_one_key_and_the_others_follow_in_order() {
    let mut world = world_of(json!({ "concurrency": { "key": "${input.user}", "limit": 2 } }));
    let ids: Vec<InstanceId> = (0..4).map(|_| start(&mut world, json!({ "user": "u1" }))).collect();
    let other = start(&mut world, json!({ "user": "u2" }));
    assert_eq!(statuses(&world, &ids), ["running", "running", "queued", "queued"]);
    assert_eq!(world.status(other), "running");
    let view = world.machine.gate_view(&gate("u1", "concurrency:w"), Some(ids[3])).unwrap();
    assert_eq!((view.inside_count, view.limit, view.waiting_count, view.ahead_count), (2, 2, 2, Some(1)));
    assert_eq!(view.inside, ids[..2]);
    let blocker = &why(&world, ids[3])["blockers"][0];
    assert_eq!((&blocker["kind"], &blocker["rule"], &blocker["key"]), (&json!("waiting_for_key"), &json!("concurrency"), &json!("u1")));
    complete(&mut world);
    assert_eq!(statuses(&world, &ids), ["completed", "running", "running", "queued"]);
    assert!(world.trace(ids[2]).starts_with("*:scheduled>queued *:queued>running"), "{}", world.trace(ids[2]));
    for _ in 0..4 {
        complete(&mut world);
    }
    assert_eq!(statuses(&world, &ids), ["completed"; 4]);
    let stats = world.machine.stats();
    assert_eq!((stats.keys_open, stats.starts_waiting, stats.out_pending), (0, 0, 0), "nothing is left of the keys");
    world.assert_replays(Settings::default());
}

#[test]
fn keys_are_counted_over_all_groups() {
    let mut groups: Vec<World> = (1..=3).map(|group| World::of_group(GroupId(group), Settings::default())).collect();
    for world in &mut groups {
        define(world, json!({ "concurrency": { "key": "${input.user}", "limit": 1 } }));
        world.worker_up(1, 8);
    }
    let mut ids = Vec::new();
    // By the slot in an id: a message's instance lives in the group that took the message.
    for (place, world) in groups.iter_mut().enumerate() {
        let mut message = world.message(json!({ "user": "u1", "n": place }));
        message.message_id = MessageId::new(world.now, Slot::truncate(place as u16), 1);
        let Reply::Accepted { instances, .. } = world.ingest(message) else { panic!() };
        ids.push(instances[0].1);
    }
    let by_instance: Vec<InstanceId> = ids.clone();
    let home = move |out: &Out| match &out.body {
        OutBody::Told(told) => by_instance.iter().position(|id| *id == told.instance).unwrap(),
        _ => 2,
    };
    let carry_all = |groups: &mut Vec<World>| carry(&mut groups.iter_mut().collect::<Vec<_>>(), &home);
    carry_all(&mut groups);
    let running = |groups: &[World]| -> Vec<&'static str> { groups.iter().zip(&ids).map(|(world, id)| world.status(*id)).collect() };
    assert_eq!(running(&groups), ["running", "queued", "queued"]);
    groups[0].complete("a", json!(1));
    carry_all(&mut groups);
    assert_eq!(running(&groups), ["completed", "running", "queued"]);
    groups[2].cancel(ids[2]);
    groups[1].complete("a", json!(1));
    carry_all(&mut groups);
    assert_eq!(running(&groups), ["completed", "completed", "cancelled"]);
    assert_eq!(groups[2].machine.stats().keys_open, 0);
}

#[test]
fn one_too_many_is_skipped_or_takes_the_place_of_the_oldest_when_the_workflow_says_so() {
    let mut world = world_of(json!({ "concurrency": { "limit": 1, "when_full": "drop_newest" } }));
    let (first, second) = (start(&mut world, json!(1)), start(&mut world, json!(2)));
    assert_eq!(statuses(&world, &[first, second]), ["running", "skipped"]);
    assert_eq!(error_of(&world, second), "key_full");

    let mut world = world_of(json!({ "singleton": { "when_running": "cancel" } }));
    let ids: Vec<InstanceId> = (0..3).map(|n| start(&mut world, json!(n))).collect();
    assert_eq!(statuses(&world, &ids), ["cancelled", "cancelled", "running"]);
    assert_eq!(error_of(&world, ids[0]), "replaced");
    assert_eq!(world.machine.stats().instances_open, 1);
}

#[test]
fn instances_of_an_ordering_key_run_one_after_another_in_the_order_of_their_messages() {
    let mut world = world_of(json!({}));
    let mut ids = Vec::new();
    for n in 0..3 {
        let mut message = world.message(json!({ "n": n }));
        message.actions[0].ordering_key = Some(Arc::from("account-7"));
        let Reply::Accepted { instances, .. } = world.ingest(message) else { panic!() };
        ids.push(instances[0].1);
    }
    // The records arrive in the wrong order: each waits for the one before it.
    let outs = world.take_outs();
    assert_eq!(outs.len(), 3);
    let mut waiting: Vec<Arc<Out>> = outs.into_iter().rev().collect();
    let mut rounds = 0;
    while !waiting.is_empty() {
        rounds += 1;
        waiting.retain(|out| match world.relay(GroupId(1), out) {
            InResult::Final(result) => {
                world.apply(Command::OutAck(OutAck { seq: out.seq, result }));
                false
            }
            later => {
                assert!(matches!(later, InResult::Later(_)), "{later:?}");
                true
            }
        });
    }
    assert_eq!(rounds, 3, "one could be applied each time");
    settle(&mut world);
    for place in 0..3 {
        let expected: Vec<&str> = (0..3)
            .map(|n| {
                if n < place {
                    "completed"
                } else if n == place {
                    "running"
                } else {
                    "queued"
                }
            })
            .collect();
        assert_eq!(statuses(&world, &ids), expected);
        complete(&mut world);
    }
}

#[test]
fn a_rate_lets_a_burst_in_and_then_one_at_a_time() {
    let mut world = world_of(json!({ "rate_limit": { "limit": 2, "per": "10s", "burst": 2 } }));
    let ids: Vec<InstanceId> = (0..4).map(|n| start(&mut world, json!(n))).collect();
    assert_eq!(statuses(&world, &ids), ["running", "running", "queued", "queued"]);
    world.advance_ms(4_999);
    settle(&mut world);
    assert_eq!(world.status(ids[2]), "queued");
    world.advance_ms(1);
    settle(&mut world);
    assert_eq!(statuses(&world, &ids), ["running", "running", "running", "queued"]);
    world.advance_ms(5_000);
    settle(&mut world);
    assert_eq!(world.status(ids[3]), "running");
    world.advance_ms(20_000);
    assert_eq!(world.machine.stats().keys_open, 0, "a bucket that is full again is forgotten");

    let mut world = world_of(json!({ "rate_limit": { "limit": 1, "per": "10s", "when_full": "drop_newest" } }));
    let ids: Vec<InstanceId> = (0..2).map(|n| start(&mut world, json!(n))).collect();
    assert_eq!(statuses(&world, &ids), ["running", "skipped"]);
    world.advance_ms(10_000);
    let third = start(&mut world, json!(3));
    assert_eq!(world.status(third), "running");
}

#[test]
fn the_last_of_several_begins_when_nothing_more_comes_or_the_first_waited_long_enough() {
    let mut world = world_of(json!({ "debounce": { "key": "${input.doc}", "wait": "5s", "max_wait": "8s" } }));
    let first = start(&mut world, json!({ "doc": "d" }));
    world.advance_ms(4_000);
    let second = start(&mut world, json!({ "doc": "d" }));
    assert_eq!(statuses(&world, &[first, second]), ["skipped", "queued"]);
    assert_eq!(error_of(&world, first), "debounced");
    // Five seconds after the second would be nine after the first.
    world.advance_ms(3_999);
    settle(&mut world);
    assert_eq!(world.status(second), "queued");
    world.advance_ms(1);
    settle(&mut world);
    assert_eq!(world.status(second), "running");
    let third = start(&mut world, json!({ "doc": "d" }));
    world.advance_ms(5_000);
    settle(&mut world);
    assert_eq!(world.status(third), "running", "what runs is no reason to wait");
}

#[test]
fn a_batch_is_one_instance_with_the_inputs_of_all() {
    let mut world = world_of(json!({ "batch": { "max_items": 3, "max_wait": "10s" } }));
    let ids: Vec<InstanceId> = (0..3).map(|n| start(&mut world, json!({ "n": n }))).collect();
    assert_eq!(statuses(&world, &ids), ["running", "skipped", "skipped"]);
    assert_eq!(error_of(&world, ids[1]), "batched");
    let input: Value = serde_json::from_str(world.instance(ids[0]).input.unwrap().get()).unwrap();
    assert_eq!(input, json!([{ "n": 0 }, { "n": 1 }, { "n": 2 }]));
    assert_eq!(json_of(&world.take("a").input)["input"], input);
    let few: Vec<InstanceId> = (0..2).map(|n| start(&mut world, json!(n))).collect();
    assert_eq!(statuses(&world, &few), ["queued", "queued"]);
    world.advance_ms(10_000);
    settle(&mut world);
    assert_eq!(statuses(&world, &few), ["running", "skipped"]);
    assert_eq!(world.machine.stats().keys_open, 0);
}

#[test]
fn a_batch_whose_first_was_cancelled_on_the_way_goes_to_the_next() {
    let mut world = world_of(json!({ "batch": { "max_items": 2, "max_wait": "10s" } }));
    let first = start(&mut world, json!("one"));
    let second = world.start(json!("two"));
    // The word of the full batch is on its way when its first is cancelled.
    let ask = world.take_outs().pop().unwrap();
    let InResult::Final(result) = world.relay(GroupId(1), &ask) else { panic!() };
    world.apply(Command::OutAck(OutAck { seq: ask.seq, result }));
    let told = world.take_outs();
    assert!(matches!(&told[0].body, OutBody::Told(told) if told.instance == first));
    world.cancel(first);
    for out in told.into_iter().chain(world.take_outs()) {
        let InResult::Final(result) = world.relay(GroupId(1), &out) else { panic!("{out:?}") };
        world.apply(Command::OutAck(OutAck { seq: out.seq, result }));
    }
    settle(&mut world);
    world.advance_ms(10_000);
    settle(&mut world);
    assert_eq!(statuses(&world, &[first, second]), ["cancelled", "running"]);
    let input: Value = serde_json::from_str(world.instance(second).input.unwrap().get()).unwrap();
    assert_eq!(input, json!(["two"]), "the input of whoever was cancelled is not in it");
}

#[test]
fn a_key_that_is_given_up_at_any_time_is_free_again() {
    for given_up in 0..3 {
        let mut world = world_of(json!({ "concurrency": { "limit": 1 } }));
        let first = start(&mut world, json!(1));
        let second = world.start(json!(2));
        // Before it asked, while it waits, and before the answer has arrived.
        match given_up {
            0 => _ = world.cancel(second),
            1 => {
                settle(&mut world);
                world.cancel(second);
            }
            _ => {
                settle(&mut world);
                world.complete("a", json!(1));
                let left = world.take_outs();
                for out in left {
                    let InResult::Final(result) = world.relay(GroupId(1), &out) else { panic!() };
                    world.apply(Command::OutAck(OutAck { seq: out.seq, result }));
                }
                world.cancel(second);
            }
        }
        settle(&mut world);
        if given_up < 2 {
            complete(&mut world);
        }
        let third = start(&mut world, json!(3));
        assert_eq!(statuses(&world, &[first, second, third]), ["completed", "cancelled", "running"], "given up at {given_up}");
        complete(&mut world);
        assert_eq!(world.machine.stats().keys_open, 0);
    }
}

#[test]
fn a_retried_instance_waits_for_its_key_again() {
    let mut world = world_of(json!({ "concurrency": { "limit": 1 } }));
    let first = start(&mut world, json!(1));
    let second = start(&mut world, json!(2));
    world.fail("a");
    settle(&mut world);
    assert_eq!(statuses(&world, &[first, second]), ["failed", "running"]);
    let operate = distric_exec::command::Operate {
        namespace: namespace(),
        instance: first,
        operation: distric_exec::command::Operation::Retry { from: None, input: None, version: None, pins: Vec::new() },
        reason: "again".into(),
    };
    assert_eq!(world.apply(Command::Operate(Box::new(operate))), Some(Reply::Done));
    settle(&mut world);
    assert_eq!(statuses(&world, &[first, second]), ["queued", "running"]);
    complete(&mut world);
    assert_eq!(statuses(&world, &[first, second]), ["running", "completed"]);
    complete(&mut world);
    assert_eq!(world.status(first), "completed");
    assert_eq!(world.machine.stats().keys_open, 0);
}

#[test]
fn a_key_without_a_value_and_a_queue_without_room_fail_with_a_reason() {
    let mut world = world_of(json!({ "concurrency": { "key": "${input.user}", "limit": 1 } }));
    let id = start(&mut world, json!({}));
    assert_eq!((world.status(id), error_of(&world, id).as_str()), ("failed", "expression_error"));
    let mut world = world_of(json!({ "concurrency": { "limit": 1 } }));
    for n in 0..=STARTS_PER_KEY_MAX {
        world.start(json!(n));
    }
    settle(&mut world);
    let id = start(&mut world, json!("one too many"));
    assert_eq!((world.status(id), error_of(&world, id).as_str()), ("failed", "key_queue_full"));
}

#[test]
fn a_word_that_comes_twice_or_late_changes_nothing() {
    let mut world = world_of(json!({ "concurrency": { "limit": 1 } }));
    let first = world.start(json!(1));
    let ask = world.take_outs().pop().unwrap();
    for _ in 0..2 {
        assert_eq!(world.relay(GroupId(1), &ask), InResult::Final(OutResult::Done));
    }
    let told = world.take_outs().pop().unwrap();
    for _ in 0..2 {
        assert_eq!(world.relay(GroupId(1), &told), InResult::Final(OutResult::Done));
    }
    assert_eq!(world.status(first), "running");
    let stats = world.machine.stats();
    assert_eq!((stats.keys_open, stats.starts_waiting), (1, 0));
}

#[test]
fn paused_instances_keep_their_place_and_begin_when_they_are_resumed() {
    use distric_exec::command::{Operate, Operation};
    let mut world = world_of(json!({ "concurrency": { "limit": 1 } }));
    let first = start(&mut world, json!(1));
    let second = start(&mut world, json!(2));
    let operate = |world: &mut World, operation| {
        let operate = Operate { namespace: namespace(), instance: second, operation, reason: "r".into() };
        assert_eq!(world.apply(Command::Operate(Box::new(operate))), Some(Reply::Done));
        settle(world);
    };
    operate(&mut world, Operation::Pause);
    complete(&mut world);
    assert_eq!(statuses(&world, &[first, second]), ["completed", "paused"]);
    operate(&mut world, Operation::Resume);
    assert_eq!(world.status(second), "running");
}

#[test]
fn tasks_of_keys_take_turns_at_a_worker_by_weight() {
    let mut world = World::new();
    define(&mut world, json!({ "fairness": { "key": "${input.tenant}", "weight": "${input.weight}" } }));
    for _ in 0..60 {
        world.start(json!({ "tenant": "big", "weight": 1 }));
    }
    for _ in 0..60 {
        world.start(json!({ "tenant": "small", "weight": 2 }));
    }
    world.worker_up(1, 1);
    let mut served = Vec::new();
    for _ in 0..60 {
        let assignment = world.take("a");
        served.push(json_of(&assignment.input)["input"]["tenant"].as_str().unwrap().to_owned());
        world.report(&assignment, completed(json!(1)));
    }
    let small = served.iter().filter(|tenant| *tenant == "small").count();
    assert!((39..=41).contains(&small), "{small} of 60: {served:?}");
    let wrong = world.start(json!({ "tenant": "t", "weight": 0 }));
    assert_eq!(error_of(&world, wrong), "expression_error");
    world.assert_replays(Settings::default());
}

#[test]
fn a_target_forgets_what_its_source_knows_to_be_done() {
    // Two groups talk with one; each sees a part of the numbers of the other.
    let mut world = World::of_group(GroupId(1), Settings::default());
    define(&mut world, json!({ "concurrency": { "key": "${input.k}", "limit": 1 } }));
    world.worker_up(1, 64);
    let mut target = World::of_group(GroupId(2), Settings::default());
    let mut elsewhere = World::of_group(GroupId(3), Settings::default());
    let before = target.machine.stats().state_bytes;
    for n in 0..200 {
        world.start(json!({ "k": n }));
        for out in world.take_outs() {
            let there = if n % 2 == 0 { &mut target } else { &mut elsewhere };
            assert!(matches!(there.relay(GroupId(1), &out), InResult::Final(_)));
            world.apply(Command::OutAck(OutAck { seq: out.seq, result: OutResult::Done }));
        }
    }
    assert!(target.machine.stats().state_bytes > before);
    let mut changes = Vec::new();
    target.machine.take_changes(&mut changes);
    let ahead = changes.iter().filter(|change| change.key[0] == 9).count();
    assert!(ahead <= 1, "{ahead} numbers are remembered one by one");
}
