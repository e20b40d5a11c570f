//! Signals find the task that waits for them, wherever it is and whoever comes first, and complete one task each.

mod support;

use std::sync::Arc;

use distric_exec::command::{Command, OutAck, OutResult, Signal};
use distric_exec::machine::SIGNALS_PER_KEY_MAX;
use distric_exec::{InResult, Octets, Out, OutBody, RefusalCode, Reply, Settings};
use distric_model::{GroupId, InstanceId};
use serde_json::{Value, json};
use support::*;

fn signal(payload: Value) -> Signal {
    Signal {
        namespace: namespace(),
        name: Arc::from("approved"),
        key: None,
        instance: None,
        payload: Octets::from(&payload),
        ttl_ms: None,
        idempotency_key: None,
        payload_hash: 1,
    }
}

fn to_key(key: &str, payload: Value) -> Signal {
    Signal { key: Some(Arc::from(key)), ..signal(payload) }
}

fn to_instance(instance: InstanceId, payload: Value) -> Signal {
    Signal { instance: Some(instance), ..signal(payload) }
}

fn send(world: &mut World, signal: Signal) -> Reply {
    world.apply(Command::Signal(Box::new(signal))).expect("a Signal is answered")
}

const DELIVERED: Reply = Reply::Signalled { delivered: true, repeat: false };
const KEPT: Reply = Reply::Signalled { delivered: false, repeat: false };

/// A workflow that waits for `approved`, by the order's id when `keyed`.
fn waiting(keyed: bool) -> Value {
    let config = match keyed {
        true => json!({ "name": "approved", "key": "${input.order}", "timeout": "60s" }),
        false => json!({ "name": "approved" }),
    };
    json!([
        { "id": "wait", "type": "wait_for_signal", "config": config },
        job_with("ship", &["wait"], json!({ "input": { "by": "${tasks.wait.output.by}" } })),
    ])
}

fn world(keyed: bool) -> World {
    let mut world = World::new();
    world.workflow(waiting(keyed));
    world.worker_up(1, 4);
    world
}

fn carry_all(world: &mut World) {
    carry(&mut [world], |_| 0);
}

#[test]
fn a_signal_to_an_instance_completes_its_wait_and_is_its_output() {
    let mut world = world(false);
    let id = world.start(json!({}));
    assert_eq!(world.tasks(id), "wait=running ship=pending");
    let why = serde_json::to_value(world.machine.why_task(world.task(id, "wait").id).unwrap()).unwrap();
    assert_eq!(why["blockers"], json!([{ "kind": "waiting_for_signal", "name": "approved", "key": id.to_string(), "until_us": null }]));
    assert_eq!(send(&mut world, to_instance(id, json!({ "by": "ada" }))), DELIVERED);
    assert_eq!(json_of(&world.take("ship").input), json!({ "by": "ada" }));
    world.assert_replays(Settings::default());
}

#[test]
fn a_signal_that_comes_before_its_task_waits_is_kept_for_it() {
    let mut world = World::new();
    world.workflow(json!([
        job("first", &[]),
        { "id": "wait", "type": "wait_for_signal", "depends_on": ["first"], "config": { "name": "approved" } },
    ]));
    world.worker_up(1, 4);
    let id = world.start(json!({}));
    assert_eq!(send(&mut world, to_instance(id, json!(1))), KEPT);
    assert_eq!(world.machine.stats().signals_kept, 1);
    world.complete("first", json!(1));
    assert_eq!(world.status(id), "completed");
    assert_eq!(world.task(id, "wait").output.unwrap().get(), "1");
    assert_eq!((world.machine.stats().signals_kept, world.machine.stats().signals_awaited), (0, 0));
}

#[test]
fn what_is_kept_for_an_instance_goes_with_it_and_the_rest_in_its_time() {
    let mut world = world(false);
    let id = world.start(json!({}));
    for _ in 0..3 {
        send(&mut world, to_instance(id, json!({ "by": 1 })));
    }
    assert_eq!(send(&mut world, Signal { ttl_ms: Some(5_000), ..to_key("k", json!(2)) }), KEPT);
    assert_eq!(world.machine.stats().signals_kept, 3);
    let bytes = world.machine.stats().state_bytes;
    world.complete("ship", json!(1));
    assert_eq!((world.status(id), world.machine.stats().signals_kept), ("completed", 1));
    assert!(world.machine.stats().state_bytes < bytes + 1_000);
    world.advance_ms(6_000);
    assert_eq!(world.machine.stats().signals_kept, 0, "its time is over");
    assert!(matches!(send(&mut world, to_instance(id, json!(1))), Reply::Refused(refusal) if refusal.code == RefusalCode::Conflict));
}

#[test]
fn a_key_connects_signals_and_tasks_in_the_order_in_which_they_came() {
    let mut world = world(true);
    let first = world.start(json!({ "order": "o1" }));
    let second = world.start(json!({ "order": "o1" }));
    let other = world.start(json!({ "order": "o2" }));
    carry_all(&mut world);
    assert_eq!(send(&mut world, to_key("o1", json!({ "by": "ada" }))), DELIVERED);
    assert_eq!([first, second, other].map(|id| world.task(id, "wait").status), ["completed", "running", "running"]);
    assert_eq!(send(&mut world, to_key("o1", json!({ "by": "bob" }))), DELIVERED);
    assert_eq!([first, second, other].map(|id| world.task(id, "wait").status), ["completed", "completed", "running"]);
    assert_eq!(send(&mut world, to_key("o1", json!({ "by": "eve" }))), KEPT);
    let third = world.start(json!({ "order": "o1" }));
    assert_eq!(world.task(third, "wait").status, "running", "the home of its key may be elsewhere");
    carry_all(&mut world);
    assert_eq!(world.task(third, "wait").output.unwrap().get(), "{\"by\":\"eve\"}");
    world.assert_replays(Settings::default());
}

/// Two groups: `a` has the instances, `b` is the home of all keys.
fn two_groups() -> (World, World) {
    let mut a = world(true);
    a.now = a.now.plus_ms(1);
    (a, World::of_group(GroupId(2), Settings::default()))
}

fn home(out: &Out) -> usize {
    usize::from(!matches!(out.body, OutBody::Deliver { .. }))
}

#[test]
fn a_signal_crosses_to_the_group_of_its_task() {
    let (mut a, mut b) = two_groups();
    let id = a.start(json!({ "order": "o1" }));
    carry(&mut [&mut a, &mut b], home);
    assert_eq!((a.machine.stats().signals_awaited, b.machine.stats().signals_awaited), (0, 1));
    assert_eq!(send(&mut b, to_key("o1", json!({ "by": "ada" }))), DELIVERED);
    assert_eq!(a.task(id, "wait").status, "running");
    carry(&mut [&mut a, &mut b], home);
    assert_eq!(a.task(id, "wait").status, "completed");
    assert_eq!((a.machine.stats().out_pending, b.machine.stats().out_pending), (0, 0));
    a.assert_replays(Settings::default());
}

#[test]
fn a_task_that_stops_waiting_is_forgotten_at_the_home_of_its_key() {
    let (mut a, mut b) = two_groups();
    let timed_out = a.start(json!({ "order": "o1" }));
    carry(&mut [&mut a, &mut b], home);
    a.advance_ms(60_000);
    assert_eq!(a.task(timed_out, "wait").status, "timed_out");
    assert_eq!(a.instance(timed_out).summary.error.unwrap().message, "task `wait`: no signal `approved` for key `o1` in time");
    carry(&mut [&mut a, &mut b], home);
    assert_eq!(b.machine.stats().signals_awaited, 0);
    // Cancelled before the home has acknowledged: told when it does.
    let cancelled = a.start(json!({ "order": "o1" }));
    a.cancel(cancelled);
    carry(&mut [&mut a, &mut b], home);
    assert_eq!((b.machine.stats().signals_awaited, a.machine.stats().out_pending), (0, 0));
}

#[test]
fn a_signal_whose_task_ended_on_the_way_goes_to_the_next() {
    let (mut a, mut b) = two_groups();
    let first = a.start(json!({ "order": "o1" }));
    let second = a.start(json!({ "order": "o1" }));
    carry(&mut [&mut a, &mut b], home);
    assert_eq!(send(&mut b, to_key("o1", json!({ "by": "ada" }))), DELIVERED);
    a.cancel(first);
    carry(&mut [&mut a, &mut b], home);
    assert_eq!((a.task(first, "wait").status, a.task(second, "wait").status), ("cancelled", "completed"));
}

#[test]
fn a_delivery_that_is_asked_about_again_gets_the_same_answer() {
    let (mut a, mut b) = two_groups();
    let id = a.start(json!({ "order": "o1" }));
    let late = a.start(json!({ "order": "o1" }));
    carry(&mut [&mut a, &mut b], home);
    send(&mut b, to_key("o1", json!({ "by": "ada" })));
    send(&mut b, to_key("o1", json!({ "by": "bob" })));
    a.cancel(late);
    let outs = b.take_outs();
    assert_eq!(outs.len(), 2);
    for _ in 0..2 {
        assert_eq!(a.relay(GroupId(2), &outs[0]), InResult::Final(OutResult::Done));
        assert!(matches!(a.relay(GroupId(2), &outs[1]), InResult::Final(OutResult::Refused { .. })));
    }
    assert_eq!(a.task(id, "wait").output.unwrap().get(), "{\"by\":\"ada\"}");
    let refused = OutResult::Refused { code: "not_waiting".into(), reason: "r".into() };
    b.apply(Command::OutAck(OutAck { seq: outs[1].seq, result: refused }));
    assert_eq!(b.machine.stats().signals_kept, 1, "it came back");
}

#[test]
fn a_signal_is_checked_bounded_and_taken_once() {
    let mut world = world(true);
    let refused = |reply: Reply| match reply {
        Reply::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    };
    let bad = [
        Signal { name: Arc::from(""), ..to_key("k", json!(1)) },
        Signal { key: Some(Arc::from("")), ..signal(json!(1)) },
        signal(json!(1)),
        Signal { payload: Octets::from("{"), ..to_key("k", json!(1)) },
    ];
    for signal in bad {
        assert_eq!(refused(send(&mut world, signal)).code, RefusalCode::BadArgument);
    }
    let unknown = distric_model::InstanceId::new(world.now, distric_model::Slot::truncate(7), 7);
    assert_eq!(refused(send(&mut world, to_instance(unknown, json!(1)))).code, RefusalCode::NotFound);
    let once = Signal { idempotency_key: Some(Arc::from("s")), ..to_key("k", json!(1)) };
    assert_eq!(send(&mut world, once.clone()), KEPT);
    assert_eq!(send(&mut world, once.clone()), Reply::Signalled { delivered: false, repeat: true });
    assert_eq!(send(&mut world, Signal { payload_hash: 2, ..once }), Reply::Conflict { message_id: None });
    for _ in 1..SIGNALS_PER_KEY_MAX {
        assert_eq!(send(&mut world, to_key("k", json!(1))), KEPT);
    }
    assert_eq!(refused(send(&mut world, to_key("k", json!(1)))).limit, Some(("signals_per_key_max", SIGNALS_PER_KEY_MAX as u64)));
}

#[test]
fn a_key_that_cannot_be_evaluated_fails_its_task() {
    let mut world = world(true);
    let id = world.start(json!({ "order": "" }));
    assert_eq!(world.task(id, "wait").error.unwrap().code, "expression_error");
}
