//! What an operator does to an instance: pause and resume hold and let go, a retry goes on where it failed.

mod support;

use std::sync::Arc;

use distric_exec::command::{Command, Define, Operate, Operation};
use distric_exec::{Octets, RefusalCode, Reply, Settings, Verdict};
use distric_model::InstanceId;
use serde_json::{Value, json};
use support::*;

fn operate(world: &mut World, instance: InstanceId, operation: Operation) -> Reply {
    let operate = Operate { namespace: namespace(), instance, operation, reason: "an operator".into() };
    world.apply(Command::Operate(Box::new(operate))).expect("an Operate is answered")
}

fn retry() -> Operation {
    Operation::Retry { from: None, input: None, version: None, pins: Vec::new() }
}

fn code_of(reply: Reply) -> RefusalCode {
    match reply {
        Reply::Refused(refusal) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

fn blockers(world: &World, id: InstanceId, task: &str) -> Value {
    serde_json::to_value(world.machine.why_task(world.task(id, task).id).unwrap().blockers).unwrap()
}

#[test]
fn a_paused_instance_starts_nothing_and_keeps_what_comes_in() {
    let mut world = World::new();
    world.workflow(json!([
        job("a", &[]),
        job("b", &["a"]),
        job_with("c", &[], json!({ "retry": { "max_attempts": 3, "initial_backoff": "1s", "jitter": 0 } })),
        { "id": "w", "type": "wait", "config": { "duration": "5s" } },
        job("d", &["w"]),
        job("e", &[]),
    ]));
    world.worker_up(1, 2);
    let id = world.start(json!({}));
    assert_eq!(world.assigned(), ["a", "c"]);
    assert_eq!(operate(&mut world, id, Operation::Pause), Reply::Done);
    assert_eq!(code_of(operate(&mut world, id, Operation::Pause)), RefusalCode::Conflict);
    assert_eq!((world.status(id), world.machine.ready_backlog()), ("paused", 0));
    assert_eq!(blockers(&world, id, "e"), json!([{ "kind": "paused", "reason": "an operator" }]));
    world.complete("a", json!(1));
    world.fail("c");
    world.advance_ms(10_000);
    assert_eq!(world.tasks(id), "a=completed b=pending c=backing_off w=completed d=pending e=backing_off");
    assert_eq!(blockers(&world, id, "b")[0]["kind"], "paused");
    assert!(world.assigned().is_empty());
    assert_eq!(operate(&mut world, id, Operation::Resume), Reply::Done);
    assert_eq!(code_of(operate(&mut world, id, Operation::Resume)), RefusalCode::Conflict);
    for task in ["b", "c", "d", "e"] {
        world.complete(task, json!(1));
    }
    assert_eq!(world.status(id), "completed");
    assert_eq!(code_of(operate(&mut world, id, Operation::Pause)), RefusalCode::Conflict);
    world.assert_replays(Settings::default());
}

#[test]
fn the_limit_of_a_paused_instance_does_not_run() {
    let mut world = World::new();
    let tasks = json!([job_with("a", &[], json!({ "timeout": "10h" })), job_with("b", &["a"], json!({ "timeout": "10h" }))]);
    world.define(json!({ "id": "w", "timeout": "60s", "tasks": tasks }));
    world.worker_up(1, 1);
    let id = world.start(json!({}));
    world.advance_ms(40_000);
    operate(&mut world, id, Operation::Pause);
    world.advance_ms(3_600_000);
    assert_eq!(world.status(id), "paused");
    operate(&mut world, id, Operation::Resume);
    world.advance_ms(19_000);
    assert_eq!(world.status(id), "running");
    world.advance_ms(1_000);
    assert_eq!(world.status(id), "timed_out");
}

#[test]
fn a_paused_instance_may_be_delayed_lose_its_worker_or_be_cancelled() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    let mut message = world.message(json!({}));
    message.actions[0].delay_ms = 5_000;
    world.ingest(message);
    let id = world.machine.instances(&Default::default(), None, 1).items[0].id;
    operate(&mut world, id, Operation::Pause);
    world.worker_up(1, 1);
    world.advance_ms(6_000);
    assert!(world.assigned().is_empty());
    operate(&mut world, id, Operation::Resume);
    assert_eq!(world.assigned(), ["a"]);
    operate(&mut world, id, Operation::Pause);
    world.worker_down(1, 1);
    assert_eq!(world.tasks(id), "a=backing_off");
    assert_eq!(world.cancel(id), Reply::Done);
    assert_eq!(world.status(id), "cancelled");
    world.assert_replays(Settings::default());
}

/// `a`, then `b`, then `c`, with `b` failed; `undone` has a compensation for `a`.
fn failed_at_b(undone: bool) -> (World, InstanceId) {
    let mut world = World::new();
    let mut a = job("a", &[]);
    if undone {
        a["compensate"] = json!({ "type": "job" });
    }
    let on_failure = if undone { "compensate" } else { "fail" };
    let b = job_with("b", &["a"], json!({ "input": { "n": "${input.n}", "a": "${tasks.a.output}" } }));
    let tasks = json!([a, b, job("c", &["b"]), job_with("clean", &["b"], json!({ "join": "all_done" }))]);
    world.define(json!({ "id": "w", "on_failure": on_failure, "tasks": tasks }));
    world.worker_up(1, 4);
    let id = world.start(json!({ "n": 1 }));
    world.complete("a", json!("from a"));
    (world, id)
}

#[test]
fn a_retry_goes_on_from_where_it_failed_and_keeps_what_completed() {
    let (mut world, id) = failed_at_b(false);
    assert_eq!(code_of(operate(&mut world, id, retry())), RefusalCode::Conflict, "it runs");
    let first = world.take("b");
    world.report(&first, failed());
    world.complete("clean", json!(1));
    assert_eq!((world.status(id), world.machine.stats().instances_open), ("failed", 0));
    assert_eq!(operate(&mut world, id, retry()), Reply::Done);
    assert_eq!((world.status(id), world.machine.stats().instances_open), ("running", 1));
    assert_eq!(world.tasks(id), "a=completed b=assigned c=pending clean=pending");
    let second = world.take("b");
    assert_eq!(json_of(&second.input), json!({ "n": 1, "a": "from a" }));
    assert_eq!((second.attempt, &*second.idempotency_key), (1, &*format!("{}-1", first.task)), "an operator's rerun has a key of its own");
    assert_eq!(world.report(&first, completed(json!(1))), Verdict::Stale);
    world.report(&second, completed(json!(2)));
    world.complete("c", json!(1));
    world.complete("clean", json!(1));
    assert_eq!((world.status(id), world.instance(id).summary.error), ("completed", None));
    assert!(world.trace(id).contains("*:failed>running"));
    assert_eq!(code_of(operate(&mut world, id, retry())), RefusalCode::Conflict, "it completed");
    world.assert_replays(Settings::default());
}

#[test]
fn a_retry_may_have_another_input_and_begin_earlier() {
    let (mut world, id) = failed_at_b(false);
    world.fail("b");
    world.complete("clean", json!(1));
    let from = |from: &str, input: &str| Operation::Retry {
        from: Some(Arc::from(from)),
        input: Some(Octets::from(input)),
        version: None,
        pins: Vec::new(),
    };
    assert_eq!(code_of(operate(&mut world, id, from("nowhere", "1"))), RefusalCode::BadArgument);
    assert_eq!(code_of(operate(&mut world, id, from("a", "{"))), RefusalCode::BadArgument);
    assert_eq!(operate(&mut world, id, from("a", "{\"n\":7}")), Reply::Done);
    world.complete("a", json!("again"));
    assert_eq!(json_of(&world.take("b").input), json!({ "n": 7, "a": "again" }));
    world.assert_replays(Settings::default());
}

#[test]
fn a_retry_may_take_another_version_of_the_definition() {
    let (mut world, id) = failed_at_b(false);
    world.fail("b");
    world.complete("clean", json!(1));
    let version = |version| Operation::Retry { from: None, input: None, version: Some(version), pins: Vec::new() };
    assert_eq!(operate(&mut world, id, version(2)), Reply::Undefined { workflow: Arc::from("w"), version: 2 });
    let mut define = |version: u64, tasks: Value| {
        let body = Octets::from(&json!({ "id": "w", "tasks": tasks }));
        world.apply(Command::Define(Define { namespace: namespace(), workflow: Arc::from("w"), version, body })).unwrap()
    };
    // `a` and `b` have changed places, and `b` works on something else.
    define(
        2,
        json!([
            job_with("b", &["a"], json!({ "input": { "fixed": true } })),
            job("a", &[]),
            job_with("clean", &["b"], json!({ "join": "all_done" }))
        ]),
    );
    define(3, json!([job("a", &[]), job("b", &["a"])]));
    define(4, json!([job("a", &[]), job("b", &["a"]), job("c", &["b"]), job("clean", &["b"]), job("e", &["b"])]));
    assert_eq!(code_of(operate(&mut world, id, version(3))), RefusalCode::BadArgument, "`clean` has run");
    assert_eq!(code_of(operate(&mut world, id, version(4))), RefusalCode::BadArgument, "there is no room for one more");
    assert_eq!(operate(&mut world, id, version(2)), Reply::Done);
    assert_eq!(world.instance(id).summary.version, 2);
    assert_eq!(world.tasks(id), "b=assigned a=completed clean=pending");
    assert_eq!(json_of(&world.take("b").input), json!({ "fixed": true }));
    assert!(world.trace(id).contains("a:assigned>completed"), "the history keeps its names");
    world.assert_replays(Settings::default());
}

#[test]
fn what_was_undone_is_done_again() {
    let (mut world, id) = failed_at_b(true);
    world.fail("b");
    world.complete("clean", json!(1));
    world.complete("a:compensate", json!(1));
    assert_eq!((world.status(id), world.task(id, "a").status), ("failed", "compensated"));
    operate(&mut world, id, retry());
    assert_eq!(world.tasks(id), "a=assigned b=pending c=pending clean=pending");
    world.complete("a", json!(2));
    world.fail("b");
    world.complete("clean", json!(1));
    world.complete("a:compensate", json!(1));
    assert_eq!((world.status(id), world.task(id, "a").status), ("failed", "compensated"), "and undone again");
    world.assert_replays(Settings::default());
}

#[test]
fn an_instance_that_was_retried_is_kept_from_its_last_end_on() {
    let mut world = World::with(Settings { history_retention_ms: 60_000, ..Settings::default() });
    world.workflow(json!([job("a", &[])]));
    world.worker_up(1, 1);
    let id = world.start(json!({}));
    world.fail("a");
    world.advance_ms(50_000);
    operate(&mut world, id, retry());
    world.advance_ms(20_000);
    assert_eq!(world.status(id), "running");
    world.fail("a");
    world.advance_ms(59_000);
    assert_eq!(world.status(id), "failed");
    world.advance_ms(2_000);
    assert!(world.machine.instance(id).is_none());
}
