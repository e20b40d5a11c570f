//! What completed is undone when the workflow fails after all: in reverse order, once, whatever happens to the compensations.

mod support;

use distric_exec::{Reply, Settings, Verdict};
use distric_model::InstanceId;
use serde_json::{Value, json};
use support::*;

fn undo() -> Value {
    json!({ "type": "job", "retry": { "max_attempts": 2, "initial_backoff": "1s", "jitter": 0 } })
}

/// `a`, then `b` and `c` beside each other, then `d`; all but `d` can be undone.
fn saga() -> (World, InstanceId) {
    let mut world = World::new();
    let tasks = json!([
        job_with("a", &[], json!({ "compensate": undo() })),
        job_with("b", &["a"], json!({ "compensate": undo() })),
        job_with("c", &["a"], json!({ "compensate": { "type": "job", "input": { "made": "${tasks.c.output}", "by": "${task.id}" } } })),
        job_with("d", &["b", "c"], json!({ "timeout": "1h" })),
    ]);
    assert_eq!(world.define(json!({ "id": "w", "timeout": "60s", "on_failure": "compensate", "tasks": tasks })), Reply::Done);
    world.worker_up(1, 4);
    let id = world.start(json!({ "n": 1 }));
    (world, id)
}

fn run_to_d(world: &mut World) {
    world.complete("a", json!("made a"));
    world.complete("c", json!("made c"));
    world.advance_ms(5);
    world.complete("b", json!("made b"));
}

#[test]
fn a_failed_workflow_undoes_what_completed_the_latest_first_and_one_at_a_time() {
    let (mut world, id) = saga();
    run_to_d(&mut world);
    world.fail("d");
    assert_eq!(world.status(id), "compensating");
    assert_eq!(world.assigned(), ["b:compensate"], "b ended after c");
    assert_eq!(world.tasks(id), "a=completed b=compensating c=completed d=failed b:compensate=assigned");
    let b = world.take("b:compensate");
    assert_eq!(json_of(&b.input)["tasks"], json!({ "b": { "output": "made b", "status": "compensating" } }));
    world.report(&b, completed(json!(1)));
    assert_eq!(world.assigned(), ["c:compensate"]);
    let c = world.take("c:compensate");
    assert_eq!(json_of(&c.input), json!({ "made": "made c", "by": "c:compensate" }));
    world.report(&c, completed(json!(1)));
    world.complete("a:compensate", json!(1));
    assert_eq!(world.status(id), "failed");
    assert_eq!(
        world.tasks(id),
        "a=compensated b=compensated c=compensated d=failed a:compensate=completed b:compensate=completed c:compensate=completed"
    );
    assert_eq!(world.instance(id).summary.error.unwrap().message, "task `d`: it broke");
    let trace = world.trace(id);
    assert!(trace.ends_with("a:compensate:assigned>completed a:compensating>compensated *:compensating>failed"), "{trace}");
    world.assert_replays(Settings::default());
}

#[test]
fn only_what_completed_is_undone_and_nothing_when_the_workflow_completes() {
    let (mut world, id) = saga();
    world.complete("a", json!(1));
    world.fail("b");
    assert_eq!(world.tasks(id), "a=compensating b=failed c=cancelled d=cancelled a:compensate=assigned");
    world.complete("a:compensate", json!(1));
    assert_eq!(world.status(id), "failed");
    let (mut world, id) = saga();
    run_to_d(&mut world);
    world.complete("d", json!(1));
    assert_eq!((world.status(id), world.tasks(id).as_str()), ("completed", "a=completed b=completed c=completed d=completed"));
    let (mut world, id) = saga();
    run_to_d(&mut world);
    assert_eq!(world.cancel(id), Reply::Done);
    assert_eq!((world.status(id), world.assigned().len()), ("cancelled", 1), "a cancelled workflow is not undone");
}

#[test]
fn a_workflow_that_timed_out_is_undone_without_a_limit_of_the_whole() {
    let (mut world, id) = saga();
    run_to_d(&mut world);
    world.advance_ms(60_000);
    assert_eq!(world.status(id), "compensating");
    for task in ["b:compensate", "c:compensate"] {
        world.advance_ms(20_000);
        world.complete(task, json!(1));
    }
    world.fail("a:compensate");
    world.advance_ms(1_000);
    world.complete("a:compensate", json!(1));
    assert_eq!(world.status(id), "timed_out");
    world.assert_replays(Settings::default());
}

#[test]
fn a_compensation_that_fails_leaves_its_task_and_does_not_stop_the_others() {
    let (mut world, id) = saga();
    run_to_d(&mut world);
    world.fail("d");
    world.fail("b:compensate");
    world.advance_ms(1_000);
    world.fail("b:compensate");
    world.complete("c:compensate", json!(1));
    world.complete("a:compensate", json!(1));
    assert_eq!(world.status(id), "failed");
    assert_eq!(world.task(id, "b").status, "completed");
    assert_eq!(world.instance(id).summary.error.unwrap().message, "task `d`: it broke; not undone: b");
    let history = world.instance(id).history;
    let kept = history.iter().find(|entry| entry.from == "compensating" && entry.to == "completed").unwrap();
    assert_eq!(kept.reason.as_deref(), Some("not undone, its compensation failed: boom: it broke"));
}

#[test]
fn a_cancel_cuts_the_compensation_short_and_says_what_is_left() {
    let (mut world, id) = saga();
    run_to_d(&mut world);
    world.fail("d");
    let late = world.take("b:compensate");
    assert_eq!(world.cancel(id), Reply::Done);
    assert_eq!(world.status(id), "failed");
    assert_eq!(world.instance(id).summary.error.unwrap().message, "task `d`: it broke; not undone: a, b, c");
    assert_eq!(world.report(&late, completed(json!(1))), Verdict::Stale);
    world.assert_replays(Settings::default());
}

#[test]
fn why_names_the_compensation_that_a_task_waits_for() {
    let (mut world, id) = saga();
    run_to_d(&mut world);
    world.fail("d");
    let b = world.task(id, "b").id;
    let why = serde_json::to_value(world.machine.why_task(b).unwrap()).unwrap();
    assert_eq!(why["blockers"], json!([{ "kind": "waiting_for_tasks", "tasks": ["b:compensate"] }]));
}
