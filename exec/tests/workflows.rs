//! An instance goes through its graph: joins, conditions, templates, control tasks, outcomes.

mod support;

use std::sync::Arc;

use distric_exec::{Reply, Settings};
use serde_json::json;
use support::*;

#[test]
fn a_diamond_runs_its_sides_in_parallel_and_joins_once() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[]), job("b", &["a"]), job("c", &["a"]), job("d", &["b", "c"])]));
    world.worker_up(1, 4);
    let id = world.start(json!({"amount": 5}));
    assert_eq!(world.assigned(), ["a"]);
    world.complete("a", json!({"x": 1}));
    assert_eq!(world.assigned(), ["b", "c"]);
    world.complete("c", json!({"x": 3}));
    assert_eq!(world.tasks(id), "a=completed b=assigned c=completed d=pending");
    world.complete("b", json!({"x": 2}));
    let d = world.take("d");
    assert_eq!(
        json_of(&d.input),
        json!({
            "input": {"amount": 5}, "params": {},
            "tasks": {"b": {"output": {"x": 2}, "status": "completed"}, "c": {"output": {"x": 3}, "status": "completed"}},
        })
    );
    world.report(&d, completed(json!(null)));
    assert_eq!(world.status(id), "completed");
    assert_eq!(
        world.trace(id),
        "*:scheduled>running a:pending>ready a:ready>assigned a:assigned>completed b:pending>ready b:ready>assigned \
         c:pending>ready c:ready>assigned c:assigned>completed b:assigned>completed d:pending>ready d:ready>assigned \
         d:assigned>completed *:running>completed"
    );
    let last = world.events.last().unwrap();
    assert!(last.last && last.kind() == "workflow.completed" && world.events.iter().filter(|event| event.last).count() == 1);
    world.assert_replays(Settings::default());
}

#[test]
fn what_depends_only_on_skipped_tasks_is_skipped_and_a_join_goes_on() {
    let mut world = World::new();
    world.workflow(json!([
        job("check", &[]),
        job_with("yes", &["check"], json!({"when": "tasks.check.output.valid == true"})),
        job_with("no", &["check"], json!({"when": "!tasks.check.output.valid"})),
        job("after_no", &["no"]),
        job("after_after_no", &["after_no"]),
        job("join", &["yes", "after_no"]),
    ]));
    world.worker_up(1, 4);
    let id = world.start(json!({}));
    world.complete("check", json!({"valid": true}));
    assert_eq!(world.tasks(id), "check=completed yes=assigned no=skipped after_no=skipped after_after_no=skipped join=pending");
    world.complete("yes", json!(1));
    world.complete("join", json!(2));
    assert_eq!(world.status(id), "completed");
}

#[test]
fn joins_differ_in_what_they_wait_for() {
    let mut world = World::new();
    world.workflow(json!([
        job("a", &[]),
        job_with("b", &[], json!({"critical": false})),
        job_with("any", &["a", "b"], json!({"join": "any"})),
        job_with("all", &["a", "b"], json!({"join": "all"})),
        job_with("done", &["a", "b"], json!({"join": "all_done"})),
    ]));
    world.worker_up(1, 9);
    let id = world.start(json!({}));
    world.complete("a", json!(1));
    assert_eq!(world.tasks(id), "a=completed b=assigned any=assigned all=pending done=pending");
    world.fail("b");
    assert_eq!(world.tasks(id), "a=completed b=failed any=assigned all=skipped done=assigned");
    world.complete("any", json!(1));
    world.complete("done", json!(1));
    assert_eq!(world.status(id), "completed", "b is not critical");
}

#[test]
fn any_runs_once_and_not_at_all_when_nothing_completed() {
    let mut world = World::new();
    world.workflow(json!([
        job_with("a", &[], json!({"critical": false})),
        job_with("b", &[], json!({"critical": false})),
        job_with("any", &["a", "b"], json!({"join": "any"})),
    ]));
    world.worker_up(1, 9);
    let both = world.start(json!({}));
    world.complete("a", json!(1));
    world.complete("b", json!(1));
    world.complete("any", json!(1));
    assert_eq!(world.trace(both).matches("any:pending>ready").count(), 1);
    let none = world.start(json!({}));
    world.fail("a");
    world.fail("b");
    assert_eq!(world.tasks(none), "a=failed b=failed any=skipped");
}

#[test]
fn a_critical_failure_cancels_the_rest_and_lets_clean_up_run() {
    let mut world = World::new();
    world.workflow(json!([
        job("a", &[]),
        job("b", &[]),
        job("after_b", &["b"]),
        job_with("clean", &["a", "b"], json!({"join": "all_done"})),
        job("after_clean", &["clean"]),
    ]));
    world.worker_up(1, 9);
    let id = world.start(json!({}));
    let b = world.take("b");
    world.fail("a");
    assert_eq!(world.tasks(id), "a=failed b=cancelled after_b=cancelled clean=assigned after_clean=pending");
    assert_eq!(world.cancels, [(worker(1), b.task, b.fencing_token)]);
    assert_eq!(world.report(&b, completed(json!(1))), distric_exec::Verdict::Stale);
    world.complete("clean", json!(1));
    assert_eq!(world.status(id), "running");
    world.complete("after_clean", json!(1));
    assert_eq!(world.status(id), "failed");
    let error = world.instance(id).summary.error.unwrap();
    assert_eq!((error.code.as_str(), error.message.as_str()), ("boom", "task `a`: it broke"));
}

#[test]
fn templates_see_input_params_message_and_upstream_tasks() {
    let mut world = World::new();
    world.workflow(json!([
        job("a", &[]),
        job_with("b", &["a"], json!({
            "input": {"amount": "${input.amount}", "text": "user ${input.user.id}", "x": "${tasks.a.output.x + 1}"},
            "config": {"limit": "${params.limit}", "tenant": "${message.headers['x-tenant']}", "flow": "${workflow.id}/${task.id}", "try": "${attempt}"},
            "idempotency_key": "${instance.id}-${task.id}",
            "retry": {"max_attempts": 2, "initial_backoff": "1s", "jitter": 0},
        })),
    ]));
    world.worker_up(1, 1);
    let mut message = world.message(json!({"amount": 12.5, "user": {"id": 7}}));
    message.actions[0].params = distric_exec::Octets::from("{\"limit\":9}");
    world.ingest(message);
    let id = world.machine.instances(&Default::default(), None, 1).items[0].id;
    world.complete("a", json!({"x": 1}));
    let b = world.take("b");
    assert_eq!(json_of(&b.input), json!({"amount": 12.5, "text": "user 7", "x": 2}));
    assert_eq!(json_of(&b.config), json!({"limit": 9, "tenant": "t1", "flow": "w/b", "try": 1}));
    assert_eq!(&*b.idempotency_key, format!("{id}-b"));
    world.report(&b, failed());
    world.advance_ms(1_000);
    let again = world.take("b");
    assert_eq!(json_of(&again.config)["try"], json!(2));
    assert_eq!(again.idempotency_key, b.idempotency_key, "the key is the same for all attempts");
    assert!(again.fencing_token > b.fencing_token);
}

#[test]
fn an_expression_that_cannot_be_evaluated_fails_its_task_with_the_reason() {
    for (task, member) in [
        (job_with("a", &[], json!({"when": "input.missing > 1"})), "when"),
        (job_with("a", &[], json!({"input": {"x": "${input.missing.deeper}"}})), "input"),
        (job_with("a", &[], json!({"config": {"x": "${1 / (input.zero)}"}})), "config"),
        (job_with("a", &[], json!({"idempotency_key": "${input.empty}"})), "idempotency_key"),
    ] {
        let mut world = World::new();
        world.workflow(json!([task]));
        world.worker_up(1, 1);
        let id = world.start(json!({"zero": 0, "empty": ""}));
        let error = world.task(id, "a").error.expect("the task failed");
        assert_eq!(error.code, "expression_error");
        assert!(error.message.starts_with(member), "{}", error.message);
        assert_eq!(world.status(id), "failed");
    }
}

#[test]
fn control_tasks_run_without_a_worker() {
    let mut world = World::new();
    world.workflow(json!([
        {"id": "route", "type": "branch", "config": {"cases": [
            {"when": "input.amount > 100", "name": "high"}, {"when": "input.amount > 10", "name": "middle"}], "default": "low"}},
        {"id": "pause", "type": "wait", "config": {"duration": "10s"}, "depends_on": ["route"], "when": "tasks.route.output.branch == 'middle'"},
        {"id": "stop", "type": "fail", "config": {"code": "too_high", "message": "amount ${input.amount}"}, "depends_on": ["route"],
         "when": "tasks.route.output.branch == 'high'"},
    ]));
    let low = world.start(json!({"amount": 1}));
    assert_eq!((world.status(low), world.tasks(low).as_str()), ("completed", "route=completed pause=skipped stop=skipped"));
    let middle = world.start(json!({"amount": 50}));
    assert_eq!(world.tasks(middle), "route=completed pause=running stop=skipped");
    world.advance_ms(9_999);
    assert_eq!(world.status(middle), "running");
    world.advance_ms(1);
    assert_eq!(world.status(middle), "completed");
    let high = world.start(json!({"amount": 500}));
    assert_eq!(world.status(high), "failed");
    let error = world.instance(high).summary.error.unwrap();
    assert_eq!((error.code.as_str(), error.message.as_str()), ("too_high", "task `stop`: amount 500"));
    world.assert_replays(Settings::default());
}

#[test]
fn a_workflow_beyond_its_limit_times_out_with_all_its_tasks() {
    let mut world = World::new();
    let tasks = json!([job_with("a", &[], json!({"timeout": "1h"})), job("b", &["a"])]);
    assert_eq!(world.define(json!({"id": "w", "timeout": "5s", "tasks": tasks})), Reply::Done);
    world.worker_up(1, 1);
    let id = world.start(json!({}));
    world.advance_ms(4_999);
    assert_eq!(world.status(id), "running");
    world.advance_ms(1);
    assert_eq!((world.status(id), world.tasks(id).as_str()), ("timed_out", "a=cancelled b=cancelled"));
    assert_eq!(world.cancels.len(), 1);
    // A rule's own limit goes before the definition's.
    let mut message = world.message(json!({}));
    message.actions[0].timeout_ms = Some(1_000);
    world.ingest(message);
    world.advance_ms(1_000);
    assert_eq!(world.machine.stats().instances_open, 0);
}

#[test]
fn a_cancelled_instance_ends_at_once_and_cannot_end_twice() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[]), job("b", &["a"])]));
    world.worker_up(1, 1);
    let id = world.start(json!({}));
    let a = world.take("a");
    assert_eq!(world.cancel(id), Reply::Done);
    assert_eq!((world.status(id), world.tasks(id).as_str()), ("cancelled", "a=cancelled b=cancelled"));
    assert!(matches!(world.cancel(id), Reply::Refused(refusal) if refusal.code == distric_exec::RefusalCode::Conflict));
    assert_eq!(world.report(&a, completed(json!(1))), distric_exec::Verdict::Stale);
    let strange = distric_model::InstanceId::new(world.now, distric_model::Slot::truncate(7), 7);
    assert!(matches!(world.cancel(strange), Reply::Refused(refusal) if refusal.code == distric_exec::RefusalCode::NotFound));
}

#[test]
fn a_delayed_start_begins_when_its_time_has_come() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    world.worker_up(1, 1);
    let mut message = world.message(json!({}));
    message.actions[0].delay_ms = 5_000;
    world.ingest(message);
    let id = world.machine.instances(&Default::default(), None, 1).items[0].id;
    assert_eq!((world.status(id), world.assigned().len()), ("scheduled", 0));
    world.advance_ms(5_000);
    assert_eq!((world.status(id), world.assigned().len()), ("running", 1));
    let mut message = world.message(json!({}));
    message.actions[0].delay_ms = 5_000;
    world.ingest(message);
    let waiting = world.machine.instances(&Default::default(), Some(id), 1).items[0].id;
    assert_eq!(world.cancel(waiting), Reply::Done);
    world.advance_ms(10_000);
    assert_eq!((world.status(waiting), world.assigned().len()), ("cancelled", 1));
}

#[test]
fn a_message_starts_every_workflow_that_its_rules_name() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    world.define(json!({"id": "v", "tasks": [job("b", &[])]}));
    let mut message = world.message(json!({}));
    message.actions = vec![action("w"), action("v"), action("w")];
    let Reply::Accepted { instances, .. } = world.ingest(message) else { panic!() };
    let names: Vec<&Arc<str>> = instances.iter().map(|(workflow, _)| workflow).collect();
    assert_eq!(names.iter().map(|name| &***name).collect::<Vec<_>>(), ["w", "v", "w"]);
    for (_, id) in instances.iter() {
        let view = world.instance(*id);
        assert_eq!(view.tasks.len(), 1);
        assert_eq!(world.machine.task(view.tasks[0].id).unwrap().instance, *id, "ids of tasks lead to their instances");
    }
}

#[test]
fn the_rules_transforms_are_the_input_and_the_message_stays_as_sent() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    world.worker_up(1, 1);
    let mut message = world.message(json!({"amount": 1}));
    let id = message.message_id;
    message.derived = Some(distric_exec::Octets::from("{\"amount\":1,\"risk\":\"high\"}"));
    world.ingest(message);
    assert_eq!(json_of(&world.take("a").input)["input"], json!({"amount": 1, "risk": "high"}));
    assert_eq!(serde_json::to_value(world.machine.message(id)).unwrap()["payload"], json!({"amount": 1}));
}
