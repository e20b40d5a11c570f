//! Messages come in once, whatever clients and leaders repeat.

mod support;

use std::sync::Arc;

use distric_exec::command::{Command, Define, Start};
use distric_exec::{Octets, RefusalCode, Reply, Settings};
use distric_model::{Slot, Timestamp};
use serde_json::json;
use support::*;

fn keyed(world: &mut World, key: &str) -> distric_exec::command::Ingest {
    let mut message = world.message(json!({"amount": 5}));
    message.idempotency_key = Some(Arc::from(key));
    message
}

#[test]
fn a_resend_is_answered_with_the_first_outcome_and_changes_nothing() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    let message = keyed(&mut world, "k1");
    let Reply::Accepted { message_id, instances, rules, catalog_version, repeat: false } = world.ingest(message.clone()) else {
        panic!("not accepted")
    };
    let instances_before = world.machine.stats().instances_started_count;
    // The resend was decided by another catalog and has another id: neither matters.
    let mut resend = keyed(&mut world, "k1");
    resend.payload_hash = message.payload_hash;
    resend.catalog_version = 8;
    resend.actions.clear();
    let expected = Reply::Accepted { message_id, instances, rules, catalog_version, repeat: true };
    assert_eq!(world.machine.recall(&namespace(), "k1", message.payload_hash), Some(expected.clone()));
    assert_eq!(world.ingest(resend), expected);
    assert_eq!(world.machine.stats().instances_started_count, instances_before);
    world.assert_replays(Settings::default());
}

#[test]
fn another_message_under_a_used_key_is_a_conflict() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    let first = keyed(&mut world, "k1");
    world.ingest(first.clone());
    let other = keyed(&mut world, "k1");
    assert_ne!(other.payload_hash, first.payload_hash);
    let digest_parts = world.machine.stats();
    assert_eq!(world.ingest(other), Reply::Conflict { message_id: Some(first.message_id) });
    assert_eq!(world.machine.stats().instances_started_count, digest_parts.instances_started_count);
}

#[test]
fn keys_of_namespaces_are_apart() {
    let mut world = World::new();
    let mut first = keyed(&mut world, "k1");
    first.actions.clear();
    world.ingest(first);
    let mut other = keyed(&mut world, "k1");
    other.actions.clear();
    other.namespace = distric_model::Namespace::new("other").unwrap();
    assert!(matches!(world.ingest(other), Reply::Accepted { repeat: false, .. }));
}

#[test]
fn the_same_entry_committed_twice_is_one_message_even_without_a_key() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    let message = world.message(json!({}));
    assert!(matches!(world.ingest(message.clone()), Reply::Accepted { repeat: false, .. }));
    assert!(matches!(world.ingest(message), Reply::Accepted { repeat: true, .. }));
}

#[test]
fn an_absent_version_is_named_then_defined_then_started() {
    let mut world = World::new();
    let message = keyed(&mut world, "k1");
    let bytes_before = world.machine.stats().state_bytes;
    assert_eq!(world.ingest(message.clone()), Reply::Undefined { workflow: Arc::from("w"), version: 1 });
    assert_eq!(world.machine.stats().state_bytes, bytes_before);
    assert_eq!(world.machine.recall(&namespace(), "k1", message.payload_hash), None, "nothing was remembered");
    assert!(!world.machine.has_definition(&namespace(), "w", 1));
    world.workflow(json!([job("a", &[])]));
    assert!(world.machine.has_definition(&namespace(), "w", 1));
    assert!(matches!(world.ingest(message), Reply::Accepted { repeat: false, .. }));
}

#[test]
fn a_version_is_defined_once() {
    let mut world = World::new();
    let definition = json!({ "id": "w", "tasks": [job("a", &[])] });
    assert_eq!(world.define(definition.clone()), Reply::Done);
    assert_eq!(world.define(definition), Reply::Done);
    let other = world.define(json!({ "id": "w", "tasks": [job("b", &[])] }));
    assert!(matches!(other, Reply::Refused(refusal) if refusal.code == RefusalCode::Conflict));
}

#[test]
fn a_definition_that_is_none_is_refused() {
    let mut world = World::new();
    for body in ["", "{", "[]", r#"{"id":"w","tasks":[{"id":"a","type":"job","depends_on":["a"]}]}"#, r#"{"id":"w","tasks":7}"#] {
        let define = Define { namespace: namespace(), workflow: Arc::from("w"), version: 1, body: Octets::from(body) };
        let reply = world.apply(Command::Define(define));
        assert!(matches!(&reply, Some(Reply::Refused(refusal)) if refusal.code == RefusalCode::BadDefinition), "{body}: {reply:?}");
    }
}

#[test]
fn a_key_is_remembered_for_the_window_and_no_longer() {
    let mut world = World::new();
    let mut message = keyed(&mut world, "k1");
    message.actions.clear();
    world.ingest(message.clone());
    world.advance_ms(Settings::default().dedupe_window_ms - 1);
    assert!(world.machine.recall(&namespace(), "k1", message.payload_hash).is_some());
    world.advance_ms(1_001);
    assert_eq!(world.machine.recall(&namespace(), "k1", message.payload_hash), None);
    assert_eq!(world.machine.stats().dedupe_keys, 0);
}

#[test]
fn a_full_window_refuses_new_keys_and_keeps_the_old_ones() {
    let settings = Settings { dedupe_bytes_max: 400, ..Settings::default() };
    let mut world = World::with(settings.clone());
    let mut first = None;
    let refusal = (0..100).find_map(|number| {
        let mut message = keyed(&mut world, &format!("k{number}"));
        message.actions.clear();
        first.get_or_insert(message.clone());
        match world.ingest(message) {
            Reply::Refused(refusal) => Some(refusal),
            _ => None,
        }
    });
    let refusal = refusal.expect("the window fills up");
    assert_eq!((refusal.code, refusal.limit), (RefusalCode::DedupeFull, Some(("dedupe_bytes_max", 400))));
    assert_eq!(refusal.retry_after_ms, Some(settings.dedupe_window_ms + 1));
    assert!(matches!(world.ingest(first.unwrap()), Reply::Accepted { repeat: true, .. }));
    // Messages without a key are not concerned.
    let mut message = world.message(json!({}));
    message.actions.clear();
    assert!(matches!(world.ingest(message), Reply::Accepted { repeat: false, .. }));
    // When the oldest key's time is over, there is room.
    world.advance_ms(settings.dedupe_window_ms + 1_000);
    let mut message = keyed(&mut world, "k-new");
    message.actions.clear();
    assert!(matches!(world.ingest(message), Reply::Accepted { repeat: false, .. }));
    world.assert_replays(settings);
}

#[test]
fn a_full_machine_takes_nothing_in_and_finishes_what_it_has() {
    let settings = Settings { state_bytes_max: 6_000, ..Settings::default() };
    let mut world = World::with(settings);
    world.workflow(json!([job("a", &[])]));
    world.worker_up(1, 1);
    let first = world.start(json!({}));
    let mut refused = None;
    for _ in 0..100 {
        let message = world.message(json!({"filler": "x".repeat(500)}));
        if let Reply::Refused(refusal) = world.ingest(message) {
            refused = Some(refusal);
            break;
        }
    }
    assert_eq!(refused.expect("the machine fills up").code, RefusalCode::StorageFull);
    let second = world.machine.instances(&Default::default(), Some(first), 1).items[0].id;
    world.complete("a", json!({"ok": true}));
    assert_eq!(world.status(first), "completed");
    assert_eq!(world.cancel(second), Reply::Done);
    assert_eq!(world.status(second), "cancelled");
}

#[test]
fn contents_beyond_their_bounds_are_refused_by_name() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    let refused = |world: &mut World, message| match world.ingest(message) {
        Reply::Refused(refusal) => (refusal.code, refusal.limit.map(|(name, _)| name)),
        other => panic!("{other:?}"),
    };
    let mut long_key = world.message(json!({}));
    long_key.idempotency_key = Some(Arc::from("k".repeat(257)));
    assert_eq!(refused(&mut world, long_key), (RefusalCode::BadArgument, Some("key_bytes_max")));
    let mut hops = world.message(json!({}));
    hops.hops = 200;
    assert_eq!(refused(&mut world, hops), (RefusalCode::BadArgument, Some("hops_max")));
    let mut not_json = world.message(json!({}));
    not_json.payload = Octets::from("{\"a\":");
    assert_eq!(refused(&mut world, not_json), (RefusalCode::BadArgument, None));
    let mut actions = world.message(json!({}));
    actions.actions = vec![action("w"); 1_000];
    assert_eq!(refused(&mut world, actions), (RefusalCode::BadArgument, Some("actions_per_message_max")));
}

#[test]
fn a_message_is_found_by_its_id_with_what_it_started() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    let message = world.message(json!({"amount": 5}));
    let id = message.message_id;
    world.ingest(message);
    let view = world.machine.message(id).unwrap();
    assert_eq!((view.catalog_version, view.instances.len()), (7, 1));
    assert_eq!(view.instances[0].status, Some("running"));
    let json = serde_json::to_value(&view).unwrap();
    assert_eq!(json["payload"], json!({"amount": 5}));
    assert_eq!(json["message_id"], json!(id.to_string()));
}

#[test]
fn a_workflow_is_started_without_a_message_and_once_per_key() {
    let mut world = World::new();
    world.workflow(json!([job_with("a", &[], json!({"input": {"n": "${input.n}"}}))]));
    world.worker_up(1, 1);
    let start = Start {
        namespace: namespace(),
        slot: Slot::truncate(99),
        workflow: Arc::from("w"),
        version: 1,
        input: Octets::from("{\"n\":3}"),
        idempotency_key: Some(Arc::from("s1")),
        payload_hash: 5,
        timeout_ms: None,
        retry: None,
        delay_ms: 0,
        traceparent: None,
        received_us: 0,
        pins: Vec::new(),
    };
    let Some(Reply::Started { instance, repeat: false }) = world.apply(Command::Start(Box::new(start.clone()))) else { panic!() };
    assert_eq!(instance.slot(), Slot::truncate(99));
    assert_eq!(json_of(&world.take("a").input), json!({"n": 3}));
    assert_eq!(world.apply(Command::Start(Box::new(start.clone()))), Some(Reply::Started { instance, repeat: true }));
    let other = Start { payload_hash: 6, ..start.clone() };
    assert_eq!(world.apply(Command::Start(Box::new(other))), Some(Reply::Conflict { message_id: None }));
    let absent = Start { version: 2, idempotency_key: None, ..start };
    assert_eq!(world.apply(Command::Start(Box::new(absent))), Some(Reply::Undefined { workflow: Arc::from("w"), version: 2 }));
}

#[test]
fn machine_time_never_goes_back() {
    let mut world = World::new();
    world.apply(Command::Noop);
    let now = world.machine.now();
    world.now = Timestamp::from_us(5);
    world.apply(Command::Noop);
    assert_eq!(world.machine.now(), now);
}

#[test]
fn an_entry_that_was_applied_is_skipped() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    world.start(json!({}));
    let digest = world.machine.digest();
    let mut effects = Vec::new();
    for (at, bytes) in world.log.clone() {
        world.machine.apply(at, Command::decode(&bytes).unwrap(), &mut effects);
    }
    assert_eq!((world.machine.digest(), effects.len()), (digest, 0));
}
