//! A message published by one group arrives at another exactly once, whatever is repeated or lost on the way.

mod support;

use std::sync::Arc;

use distric_exec::command::{Command, In, Ingest, OutAck, OutResult};
use distric_exec::{Effect, InResult, Out, OutBody, Settings};
use distric_model::GroupId;
use distric_model::limits::HOPS_MAX;
use serde_json::json;
use support::*;

fn publisher(group: u32) -> World {
    let mut world = World::of_group(GroupId(group), Settings::default());
    world.workflow(json!([{"id": "tell", "type": "publish", "config": {
        "event_type": "told", "payload": {"amount": "${input.amount}"}, "routing_key": "user-${input.user}", "headers": {"from": "${workflow.id}"}}}]));
    world
}

/// What the leader of the target does with an outbox record: it asks its catalog, which starts `w` here.
fn ingest_of(out: &Out, workflows: &[&str]) -> Ingest {
    let OutBody::Publish(message) = &out.body else { panic!("{out:?}") };
    Ingest {
        namespace: message.namespace.clone(),
        message_id: message.message_id,
        event_type: message.event_type.clone(),
        source: message.source.clone(),
        timestamp_us: Some(message.at.as_us()),
        headers: message.headers.clone(),
        content_type: None,
        payload: message.payload.clone(),
        derived: None,
        routing_key: message.routing_key.clone(),
        idempotency_key: Some(message.idempotency_key.clone()),
        payload_hash: 1,
        traceparent: None,
        received_us: 0,
        catalog_version: 3,
        rules: Vec::new(),
        actions: workflows.iter().map(|workflow| action(workflow)).collect(),
        hops: message.hops,
    }
}

fn deliver(target: &mut World, from: GroupId, out: &Out, workflows: &[&str]) -> InResult {
    let body = ingest_of(out, workflows);
    target.apply(Command::In(Box::new(In { from, seq: out.seq, body, floor: out.floor })));
    let applied = target.effects.iter().rev().find_map(|effect| match effect {
        Effect::InApplied { from: source, seq, result } if (*source, *seq) == (from, out.seq) => Some(result.clone()),
        _ => None,
    });
    applied.expect("every delivery is answered")
}

fn final_result(result: InResult) -> OutResult {
    match result {
        InResult::Final(result) => result,
        other => panic!("not final: {other:?}"),
    }
}

#[test]
fn duplicates_and_a_lost_acknowledgement_start_the_workflow_once() {
    let mut source = publisher(1);
    let mut target = World::of_group(GroupId(2), Settings::default());
    let id = source.start(json!({"amount": 5, "user": 42}));
    assert_eq!(source.tasks(id), "tell=running");
    let out: Vec<Arc<Out>> = source.machine.pending_out().cloned().collect();
    assert_eq!(out.len(), 1);
    let out = &out[0];
    assert_eq!(out.to, distric_model::Slot::of("default", b"user-42"));
    assert!(source.effects.iter().any(|effect| matches!(effect, Effect::Out(sent) if sent == out)));

    // The target does not know the workflow yet: nothing is taken in, nothing is marked as seen.
    assert_eq!(deliver(&mut target, GroupId(1), out, &["w"]), InResult::Undefined { workflow: "w".into(), version: 1 });
    target.workflow(json!([job("a", &[])]));
    let first = final_result(deliver(&mut target, GroupId(1), out, &["w"]));
    // The acknowledgement is lost; the source's new leader delivers again, twice, and the catalog has changed meanwhile.
    let second = final_result(deliver(&mut target, GroupId(1), out, &["w"]));
    let third = final_result(deliver(&mut target, GroupId(1), out, &[]));
    assert_eq!((&second, &third), (&first, &first));
    assert_eq!(target.machine.stats().instances_started_count, 1);
    let OutResult::Accepted { message_id, instances } = &first else { panic!("{first:?}") };
    let message = serde_json::to_value(target.machine.message(*message_id)).unwrap();
    assert_eq!((&message["payload"], &message["event_type"]), (&json!({"amount": 5}), &json!("told")));

    let ack = OutAck { seq: out.seq, result: first.clone() };
    source.apply(Command::OutAck(ack.clone()));
    assert_eq!(source.status(id), "completed");
    let output: serde_json::Value = serde_json::from_str(source.task(id, "tell").output.unwrap().get()).unwrap();
    assert_eq!(output, json!({"message_id": message_id.to_string(), "workflows": ["w"], "instances": [instances[0].1.to_string()]}));
    source.apply(Command::OutAck(ack));
    assert_eq!((source.machine.pending_out().count(), source.machine.stats().commands_ignored_count), (0, 1));
    source.assert_replays(Settings::default());
    target.assert_replays(Settings::default());
}

#[test]
fn a_group_may_publish_to_itself() {
    let mut world = publisher(1);
    world.define(json!({"id": "v", "tasks": [job("a", &[])]}));
    let id = world.start(json!({"amount": 5, "user": 42}));
    let out = world.machine.pending_out().next().unwrap().clone();
    let result = final_result(deliver(&mut world, GroupId(1), &out, &["v"]));
    world.apply(Command::OutAck(OutAck { seq: out.seq, result }));
    assert_eq!(world.status(id), "completed");
    assert_eq!(world.machine.stats().instances_started_count, 2);
}

#[test]
fn a_target_without_room_asks_for_another_delivery() {
    let mut source = publisher(1);
    let mut target = World::of_group(GroupId(2), Settings { state_bytes_max: 0, ..Settings::default() });
    let id = source.start(json!({"amount": 5, "user": 42}));
    let out = source.machine.pending_out().next().unwrap().clone();
    assert!(matches!(deliver(&mut target, GroupId(1), &out, &[]), InResult::Later(_)));
    target.apply(Command::Configure(Settings::default()));
    assert!(matches!(deliver(&mut target, GroupId(1), &out, &[]), InResult::Final(OutResult::Accepted { .. })));
    assert_eq!(source.status(id), "running");
}

#[test]
fn a_message_that_can_never_be_taken_in_fails_its_task() {
    let mut source = publisher(1);
    let id = source.start(json!({"amount": 5, "user": 42}));
    let seq = source.machine.pending_out().next().unwrap().seq;
    source.apply(Command::OutAck(OutAck { seq, result: OutResult::Refused { code: "bad_argument".into(), reason: "no".into() } }));
    assert_eq!(source.status(id), "failed");
    assert_eq!(source.instance(id).summary.error.unwrap().code, "bad_argument");
}

#[test]
fn messages_that_go_round_in_a_circle_are_stopped() {
    let mut world = publisher(1);
    let mut message = world.message(json!({"amount": 5, "user": 42}));
    message.hops = HOPS_MAX;
    world.ingest(message);
    let id = world.machine.instances(&Default::default(), None, 1).items[0].id;
    assert_eq!(world.instance(id).summary.error.unwrap().code, "hops_exceeded");
    assert_eq!(world.machine.pending_out().count(), 0);
}

#[test]
fn a_cancelled_publisher_leaves_its_message_on_the_way() {
    let mut source = publisher(1);
    let id = source.start(json!({"amount": 5, "user": 42}));
    source.cancel(id);
    let out = source.machine.pending_out().next().expect("what was promised is delivered").clone();
    let result = OutResult::Refused { code: "x".into(), reason: String::new() };
    source.apply(Command::OutAck(OutAck { seq: out.seq, result }));
    assert_eq!((source.status(id), source.machine.pending_out().count()), ("cancelled", 0));
}

#[test]
fn a_record_of_a_group_that_cannot_exist_is_put_off() {
    let mut source = publisher(1);
    source.start(json!({"amount": 5, "user": 42}));
    let out = source.machine.pending_out().next().unwrap().clone();
    let mut target = World::of_group(GroupId(2), Settings::default());
    assert!(matches!(deliver(&mut target, GroupId(u32::MAX), &out, &[]), InResult::Later(_)));
}
