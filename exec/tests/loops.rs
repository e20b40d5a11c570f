//! `while` and `sub_workflow`: rounds one after another, and instances of other workflows; with `on_failure: { workflow: id }`.

mod support;

use distric_exec::command::{Command, Define, Operate, Operation};
use distric_exec::definition::{CALL_DEPTH_MAX, CALLED_WORKFLOWS_MAX};
use distric_exec::{Octets, Reply, Settings};
use serde_json::{Value, json};
use support::*;

fn define(world: &mut World, id: &str, version: u64, definition: Value) {
    let mut definition = definition;
    definition["id"] = json!(id);
    let define = Define { namespace: namespace(), workflow: id.into(), version, body: Octets::from(&definition) };
    assert_eq!(world.apply(Command::Define(define)), Some(Reply::Done));
}

fn operate(world: &mut World, instance: distric_model::InstanceId, operation: Operation) -> Option<Reply> {
    world.apply(Command::Operate(Box::new(Operate { namespace: namespace(), instance, operation, reason: "o".into() })))
}

fn retry(from: Option<&str>, pins: &[(&str, u64)]) -> Operation {
    let pins = pins.iter().map(|(workflow, version)| ((*workflow).into(), *version)).collect();
    Operation::Retry { from: from.map(Into::into), input: None, version: None, pins }
}

/// Adds what the job returns to the sum in the state, until it is more than the input says.
fn adding(config: Value) -> (World, distric_model::InstanceId) {
    let mut world = World::new();
    let mut task = json!({ "id": "sum", "type": "while", "config": {
        "initial": { "sum": 0 },
        "condition": "state.sum < input.to",
        "tasks": [job_with("add", &[], json!({ "input": "${state.sum + iteration}" }))],
        "output": { "sum": "${state.sum + tasks.add.output}" },
    } });
    config.as_object().unwrap().iter().for_each(|(name, value)| task["config"][name] = value.clone());
    world.workflow(json!([task, job("after", &["sum"])]));
    world.worker_up(1, 4);
    let id = world.start(json!({ "to": 10 }));
    (world, id)
}

#[test]
fn a_while_goes_on_as_long_as_its_condition_holds_over_what_its_body_returned() {
    let (mut world, id) = adding(json!({}));
    for (input, output) in [(0, 4), (5, 5), (11, 1)] {
        let add = world.take("add");
        assert_eq!(json_of(&add.input), json!(input));
        world.report(&add, completed(json!(output)));
    }
    assert_eq!((world.output(id, "sum"), world.assigned()), (json!({ "sum": 10 }), vec!["after".to_owned()]));
    assert_eq!(world.rounds(id, "sum").len(), 3);
    let second = world.instance(world.rounds(id, "sum")[1]);
    assert_eq!(second.output.unwrap().get(), r#"{"sum":9}"#);
    world.assert_replays(Settings::default());
}

#[test]
fn a_while_whose_condition_is_false_at_once_returns_its_initial_state() {
    let (world, id) = adding(json!({ "initial": { "sum": 99 } }));
    assert_eq!((world.output(id, "sum"), world.assigned()), (json!({ "sum": 99 }), vec!["after".to_owned()]));
}

#[test]
fn a_while_that_does_not_end_fails_after_its_last_iteration_and_is_not_tried_again() {
    let (mut world, id) = adding(json!({ "max_iterations": 2 }));
    world.complete("add", json!(0));
    world.complete("add", json!(0));
    let error = world.instance(id).summary.error.unwrap();
    assert_eq!(error.code, "iterations_exceeded");
    assert_eq!(error.message, "task `sum`: its condition still holds after max_iterations, 2");
}

#[test]
fn a_while_goes_on_from_the_iteration_that_failed() {
    let (mut world, id) = adding(json!({}));
    world.complete("add", json!(4));
    world.fail("add");
    let message = world.instance(id).summary.error.unwrap().message;
    assert_eq!(message, "task `sum`: iteration 1: task `add`: it broke");
    assert_eq!(operate(&mut world, id, retry(None, &[])), Some(Reply::Done));
    let add = world.take("add");
    assert_eq!(json_of(&add.input), json!(5), "the state of the first iteration is kept");
    world.report(&add, completed(json!(6)));
    world.complete("after", json!(1));
    assert_eq!((world.status(id), world.output(id, "sum")), ("completed", json!({ "sum": 10 })));
    world.assert_replays(Settings::default());
}

#[test]
fn a_limit_of_an_iteration_and_a_bad_condition_end_it() {
    let (mut world, id) = adding(json!({ "iteration_timeout": "3s" }));
    world.advance_ms(3_000);
    assert_eq!(world.instance(id).summary.error.unwrap().code, "timed_out");
    let (mut world, id) = adding(json!({ "output": "${tasks.add.output}" }));
    world.complete("add", json!("no map"));
    assert_eq!(world.instance(id).summary.error.unwrap().code, "expression_error");
}

/// `w` calls `child`, which runs `inside`; both versions of it are known.
fn calling(members: Value) -> World {
    let mut world = World::new();
    define(
        &mut world,
        "child",
        1,
        json!({ "tasks": [job("inside", &[])], "output": { "got": "${tasks.inside.output}", "of": "${input.n}" } }),
    );
    define(&mut world, "child", 2, json!({ "tasks": [job("newer", &[])] }));
    let mut call = json!({ "id": "call", "type": "sub_workflow", "config": { "workflow": "child" } });
    members.as_object().unwrap().iter().for_each(|(name, value)| call[name] = value.clone());
    world.workflow(json!([call, job("after", &["call"])]));
    world.worker_up(1, 4);
    world
}

#[test]
fn a_call_runs_the_version_that_was_pinned_and_returns_what_it_returns() {
    let mut world = calling(json!({}));
    let id = world.start_calling(json!({ "n": 5 }), &[("child", 1)]);
    let child = world.rounds(id, "call")[0];
    let why = world.why(id, "call");
    assert_eq!((&why["kind"], &why["instances"]), (&json!("waiting_for_instances"), &json!([child])));
    assert_eq!((&*world.instance(child).summary.workflow, world.instance(child).summary.version), ("child", 1));
    world.complete("inside", json!("done"));
    assert_eq!(world.output(id, "call"), json!({ "got": "done", "of": 5 }));
    let second = world.start_calling(json!({ "n": 6 }), &[("child", 2)]);
    world.complete("newer", json!("out"));
    assert_eq!(world.output(second, "call"), json!("out"), "without `output`: that of its last task");
    world.assert_replays(Settings::default());
}

#[test]
fn a_call_may_have_an_input_of_its_own_and_a_loop_may_call() {
    let mut world = calling(json!({ "input": { "n": "${input.m + 1}" } }));
    let id = world.start_calling(json!({ "m": 1 }), &[("child", 1)]);
    world.complete("inside", json!(0));
    assert_eq!(world.output(id, "call"), json!({ "got": 0, "of": 2 }));
    let each = json!([{ "id": "each", "type": "for_each", "config": { "items": [7, 8], "workflow": "child" }, "input": { "n": "${item + index}" } }]);
    define(&mut world, "w", 2, json!({ "tasks": each }));
    let mut message = world.message(json!({}));
    message.actions[0].version = 2;
    message.actions[0].pins = vec![("child".into(), 1)];
    let Reply::Accepted { instances, .. } = world.ingest(message) else { panic!() };
    world.complete("inside", json!(0));
    world.complete("inside", json!(0));
    let outputs = world.instance(instances[0].1).output.unwrap();
    assert_eq!(serde_json::from_str::<Value>(outputs.get()).unwrap(), json!([{ "got": 0, "of": 7 }, { "got": 0, "of": 9 }]));
}

#[test]
fn the_failure_of_a_call_fails_the_task_and_a_retry_may_call_another_version() {
    let mut world = calling(json!({}));
    let id = world.start_calling(json!({ "n": 1 }), &[("child", 1)]);
    world.fail("inside");
    let message = world.instance(id).summary.error.unwrap().message;
    assert_eq!(message, "task `call`: workflow `child`: task `inside`: it broke");
    let child = world.rounds(id, "call")[0];
    assert_eq!(operate(&mut world, id, retry(None, &[])), Some(Reply::Done));
    assert_eq!((world.rounds(id, "call"), world.status(child)), (vec![child], "running"), "the same instance goes on");
    world.fail("inside");
    let undefined = Reply::Undefined { workflow: "child".into(), version: 9 };
    assert_eq!(operate(&mut world, id, retry(None, &[("child", 9)])), Some(undefined));
    assert_eq!(operate(&mut world, id, retry(None, &[("child", 2)])), Some(Reply::Done));
    world.complete("newer", json!(3));
    world.complete("after", json!(1));
    assert_eq!((world.status(id), world.output(id, "call")), ("completed", json!(3)));
    assert_eq!(world.status(child), "failed", "the instance of the other version stays as it was");
    world.assert_replays(Settings::default());
}

#[test]
fn a_cancel_a_pause_and_a_limit_reach_what_is_called() {
    let mut world = calling(json!({ "timeout": "9s" }));
    let id = world.start_calling(json!({}), &[("child", 1)]);
    let child = world.rounds(id, "call")[0];
    assert_eq!(operate(&mut world, id, Operation::Pause), Some(Reply::Done));
    assert_eq!(world.status(child), "paused");
    assert_eq!(operate(&mut world, id, Operation::Resume), Some(Reply::Done));
    assert_eq!(world.status(child), "running");
    assert_eq!(world.cancel(id), Reply::Done);
    assert_eq!((world.status(id), world.status(child), world.cancels.len()), ("cancelled", "cancelled", 1));
    let late = world.start_calling(json!({}), &[("child", 1)]);
    world.advance_ms(9_000);
    assert_eq!((world.status(late), world.task(late, "call").status), ("failed", "timed_out"));
    // Who cancels the child alone makes the call fail.
    let other = world.start_calling(json!({}), &[("child", 1)]);
    let child = world.rounds(other, "call")[0];
    assert_eq!(world.cancel(child), Reply::Done);
    assert_eq!(world.status(other), "failed");
    world.assert_replays(Settings::default());
}

#[test]
fn a_start_needs_what_it_calls_and_a_call_that_was_not_pinned_fails() {
    let mut world = calling(json!({}));
    let mut message = world.message(json!({}));
    message.actions[0].pins = vec![("child".into(), 3)];
    assert_eq!(world.ingest(message.clone()), Reply::Undefined { workflow: "child".into(), version: 3 });
    message.actions[0].pins = (0..=CALLED_WORKFLOWS_MAX).map(|n| (format!("c{n}").into(), 1)).collect();
    message.actions[0].pins.iter().for_each(|(id, _)| define(&mut world, id, 1, json!({ "tasks": [job("a", &[])] })));
    assert!(matches!(world.ingest(message), Reply::Refused(_)));
    let id = world.start(json!({}));
    assert_eq!(world.instance(id).summary.error.unwrap().code, "unknown_workflow");
}

#[test]
fn calls_are_bounded_in_depth_even_when_no_check_was_made() {
    let mut world = World::new();
    let own = json!([{ "id": "call", "type": "sub_workflow", "config": { "workflow": "w" } }]);
    world.workflow(own);
    let id = world.start_calling(json!({}), &[("w", 1)]);
    assert_eq!(world.status(id), "failed");
    assert!(world.instance(id).summary.error.unwrap().message.ends_with(&format!("more than {CALL_DEPTH_MAX} deep")));
    assert_eq!(world.machine.stats().instances_finished as usize, CALL_DEPTH_MAX + 1);
}

#[test]
fn a_call_that_completed_is_undone_by_the_rules_of_what_was_called() {
    let mut world = World::new();
    let inside = job_with("inside", &[], json!({ "compensate": { "type": "job" } }));
    define(&mut world, "child", 1, json!({ "on_failure": "compensate", "tasks": [inside] }));
    let tasks = json!([{ "id": "call", "type": "sub_workflow", "config": { "workflow": "child" } }, job("after", &["call"])]);
    assert_eq!(world.define(json!({ "id": "w", "on_failure": "compensate", "tasks": tasks })), Reply::Done);
    world.worker_up(1, 4);
    let id = world.start_calling(json!({}), &[("child", 1)]);
    world.complete("inside", json!(1));
    world.fail("after");
    assert_eq!(world.status(id), "compensating");
    world.fail("inside:compensate");
    let child = world.rounds(id, "call")[0];
    assert_eq!((world.status(id), world.status(child)), ("failed", "compensated"));
    assert_eq!(world.task(id, "call").status, "completed");
    assert_eq!(world.instance(child).summary.error.unwrap().message, "not undone: inside");
    assert!(world.instance(id).summary.error.unwrap().message.ends_with("not undone: call"));
    world.assert_replays(Settings::default());
}

#[test]
fn a_failure_starts_the_workflow_that_handles_it_once_and_a_cancel_does_not() {
    let mut world = World::new();
    define(&mut world, "help", 1, json!({ "tasks": [job_with("tell", &[], json!({ "input": "${input}" }))] }));
    let definition = json!({ "id": "w", "on_failure": { "workflow": "help" }, "tasks": [job("a", &[])] });
    assert_eq!(world.define(definition), Reply::Done);
    world.worker_up(1, 4);
    let id = world.start_calling(json!({ "n": 1 }), &[("help", 1)]);
    world.fail("a");
    let tell = world.take("tell");
    let error = json!({ "code": "boom", "message": "task `a`: it broke" });
    let report = json!({ "instance": id, "workflow": "w", "version": 1, "status": "failed", "error": error, "input": { "n": 1 } });
    assert_eq!(json_of(&tell.input), report);
    assert_eq!(world.assigned().len(), 0, "once");
    let summary = world.instance(id).summary;
    assert_eq!(summary.failure_handled_by, Some(tell.instance));
    assert_eq!(world.instance(tell.instance).summary.failure_of, Some(id));
    world.report(&tell, completed(json!(1)));
    let cancelled = world.start_calling(json!({}), &[("help", 1)]);
    world.cancel(cancelled);
    let fine = world.start_calling(json!({}), &[("help", 1)]);
    world.inbox.remove(0);
    world.complete("a", json!(1));
    assert_eq!((world.status(fine), world.assigned().len()), ("completed", 0));
    world.assert_replays(Settings::default());
}
