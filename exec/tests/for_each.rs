//! `for_each`: its body runs once for each item, as many at once as it says, and its output is the list of theirs in the order of the items.

mod support;

use distric_exec::command::{Command, Operate, Operation, TaskOutcome};
use distric_exec::machine::TRANSITIONS_PER_ENTRY_MAX;
use distric_exec::{Reply, Settings, Verdict};
use distric_model::InstanceId;
use serde_json::{Value, json};
use support::*;

/// `load`, then `each` over its list with `work` and `check` for every item, then `after`.
fn loop_with(members: Value) -> Value {
    let mut each = json!({
        "id": "each", "type": "for_each", "depends_on": ["load"],
        "config": {
            "items": "${tasks.load.output}",
            "max_parallel": 2,
            "tasks": [job_with("work", &[], json!({ "input": "${item}" })), job("check", &["work"])],
        },
    });
    for (name, value) in members.as_object().unwrap() {
        match name.as_str() {
            "config" => value.as_object().unwrap().iter().for_each(|(name, value)| each["config"][name] = value.clone()),
            _ => each[name] = value.clone(),
        }
    }
    json!([job("load", &[]), each, job("after", &["each"])])
}

fn begin(members: Value, items: Value) -> (World, InstanceId) {
    let mut world = World::new();
    world.workflow(loop_with(members));
    world.worker_up(1, 16);
    let id = world.start(json!({ "n": 1 }));
    world.complete("load", items);
    (world, id)
}

/// The oldest assignment of a task whose input is `input`.
fn take_for(world: &mut World, task: &str, input: &Value) -> distric_exec::Assignment {
    let place = world.inbox.iter().position(|a| &*a.task_id == task && json_of(&a.input) == *input);
    world.inbox.remove(place.unwrap_or_else(|| panic!("no `{task}` for {input}: {:?}", world.assigned())))
}

fn done(world: &mut World, task: &str, input: Value, outcome: TaskOutcome) {
    let assignment = take_for(world, task, &input);
    assert_eq!(world.report(&assignment, outcome), Verdict::Accepted);
}

#[test]
fn the_output_is_in_the_order_of_the_items_whatever_the_order_of_their_ends() {
    let (mut world, id) = begin(json!({}), json!(["a", "b", "c"]));
    assert_eq!(world.assigned(), ["work", "work"], "two at once");
    assert_eq!(world.why(id, "each")["kind"], json!("waiting_for_instances"));
    assert_eq!(world.why(id, "each")["instances"].as_array().unwrap().len(), 2);
    done(&mut world, "work", json!("b"), completed(json!("B")));
    let check = world.take("check");
    assert_eq!(json_of(&check.input)["item"], json!("b"));
    assert_eq!(json_of(&check.input)["index"], json!(1));
    assert_eq!(json_of(&check.input)["input"], json!({ "n": 1 }));
    assert_eq!(json_of(&check.input)["tasks"], json!({ "work": { "output": "B", "status": "completed" } }));
    world.report(&check, completed(json!("b!")));
    done(&mut world, "work", json!("c"), completed(json!("C")));
    world.complete("check", json!("c!"));
    done(&mut world, "work", json!("a"), completed(json!("A")));
    assert_eq!(world.status(id), "running");
    world.complete("check", json!("a!"));
    assert_eq!(world.output(id, "each"), json!(["a!", "b!", "c!"]));
    world.complete("after", json!(1));
    assert_eq!(world.status(id), "completed");
    let rounds = world.rounds(id, "each");
    let parent = world.instance(rounds[1]).summary.parent.unwrap();
    assert_eq!((parent.instance, parent.task.as_deref(), parent.round), (id, Some("each"), 1));
    world.assert_replays(Settings::default());
}

#[test]
fn no_items_are_done_at_once_and_what_is_no_list_fails() {
    let (world, id) = begin(json!({}), json!([]));
    assert_eq!((world.output(id, "each"), world.assigned()), (json!([]), vec!["after".to_owned()]));
    let (world, id) = begin(json!({}), json!({ "not": "a list" }));
    assert_eq!(world.status(id), "failed");
    assert_eq!(world.instance(id).summary.error.unwrap().code, "bad_items");
    let (world, id) = begin(json!({}), json!(vec![0; 10_001]));
    assert_eq!(world.instance(id).summary.error.unwrap().message, "task `each`: 10001 items are more than 10000");
}

#[test]
fn a_body_sees_what_is_around_it_and_says_what_it_returns() {
    let body =
        json!([job_with("work", &[], json!({ "input": { "of": "${index}", "all": "${size(tasks.load.output)}", "n": "${input.n}" } }))]);
    let output = json!({ "item": "${item}", "got": "${tasks.work.output}" });
    let (mut world, id) = begin(json!({ "config": { "tasks": body, "output": output } }), json!(["a", "b"]));
    done(&mut world, "work", json!({ "of": 1, "all": 2, "n": 1 }), completed(json!(11)));
    done(&mut world, "work", json!({ "of": 0, "all": 2, "n": 1 }), completed(json!(10)));
    assert_eq!(world.output(id, "each"), json!([{ "item": "a", "got": 10 }, { "item": "b", "got": 11 }]));
}

#[test]
fn the_first_item_that_fails_ends_it_and_cancels_those_that_run() {
    let (mut world, id) = begin(json!({}), json!(["a", "b", "c"]));
    let running = take_for(&mut world, "work", &json!("b"));
    done(&mut world, "work", json!("a"), failed());
    assert_eq!((world.status(id), world.assigned()), ("failed", vec![]));
    assert_eq!(world.instance(id).summary.error.unwrap().message, "task `each`: item 0: task `work`: it broke");
    assert_eq!(world.cancels, [(running.worker, running.task, running.fencing_token)]);
    assert_eq!(world.report(&running, completed(json!(1))), Verdict::Stale);
    let statuses: Vec<_> = world.rounds(id, "each").into_iter().map(|round| world.status(round)).collect();
    assert_eq!(statuses, ["failed", "cancelled"], "the third never began");
    world.assert_replays(Settings::default());
}

#[test]
fn finish_runs_all_items_before_it_fails_and_ignore_puts_null_where_one_failed() {
    for (policy, status) in [("finish", "failed"), ("ignore", "completed")] {
        let body = json!([job_with("work", &[], json!({ "input": "${item}" }))]);
        let (mut world, id) = begin(json!({ "config": { "tasks": body, "on_item_failure": policy } }), json!(["a", "b", "c"]));
        done(&mut world, "work", json!("a"), failed());
        done(&mut world, "work", json!("c"), completed(json!("C")));
        assert_eq!(world.status(id), "running");
        done(&mut world, "work", json!("b"), failed());
        if policy == "ignore" {
            assert_eq!(world.output(id, "each"), json!([null, null, "C"]));
            world.complete("after", json!(1));
        } else {
            let message = world.instance(id).summary.error.unwrap().message;
            assert_eq!(message, "task `each`: item 0: task `work`: it broke (and 1 more failed)");
        }
        assert_eq!(world.status(id), status);
    }
}

#[test]
fn another_attempt_runs_only_what_failed_under_the_same_idempotency_key() {
    let retry = json!({ "retry": { "max_attempts": 2, "initial_backoff": "1s", "jitter": 0 } });
    let (mut world, id) = begin(retry, json!(["a", "b"]));
    done(&mut world, "work", json!("a"), completed(json!("A")));
    world.complete("check", json!("a!"));
    done(&mut world, "work", json!("b"), completed(json!("B")));
    let check = world.take("check");
    world.report(&check, failed());
    assert_eq!((world.task(id, "each").status, world.assigned().len()), ("backing_off", 0));
    world.advance_ms(1_000);
    assert_eq!(world.assigned(), ["check"], "the rest is done");
    let again = world.take("check");
    assert_eq!(again.idempotency_key, check.idempotency_key);
    assert!(again.fencing_token > check.fencing_token);
    world.report(&again, completed(json!("b!")));
    assert_eq!((world.output(id, "each"), world.task(id, "each").attempt), (json!(["a!", "b!"]), 2));
    world.assert_replays(Settings::default());
}

fn retry(world: &mut World, id: InstanceId, from: Option<&str>) {
    let operation = Operation::Retry { from: from.map(std::sync::Arc::from), input: None, version: None, pins: Vec::new() };
    let operate = Operate { namespace: namespace(), instance: id, operation, reason: "again".into() };
    assert_eq!(world.apply(Command::Operate(Box::new(operate))), Some(Reply::Done));
}

#[test]
fn an_operators_retry_keeps_the_items_that_completed_unless_the_loop_is_named() {
    let (mut world, id) = begin(json!({}), json!(["a", "b"]));
    done(&mut world, "work", json!("a"), completed(json!("A")));
    world.complete("check", json!("a!"));
    let first = take_for(&mut world, "work", &json!("b"));
    world.report(&first, failed());
    assert_eq!(world.status(id), "failed");
    retry(&mut world, id, None);
    assert_eq!(world.assigned(), ["work"]);
    let again = take_for(&mut world, "work", &json!("b"));
    assert_ne!(again.idempotency_key, first.idempotency_key, "an operator wants the effect");
    world.report(&again, completed(json!("B")));
    world.complete("check", json!("b!"));
    world.fail("after");
    retry(&mut world, id, Some("each"));
    assert_eq!(world.assigned(), ["work", "work"], "named: all items anew");
    for item in ["a", "b"] {
        done(&mut world, "work", json!(item), completed(json!(1)));
        world.complete("check", json!(item.to_uppercase()));
    }
    world.complete("after", json!(1));
    assert_eq!((world.status(id), world.output(id, "each")), ("completed", json!(["A", "B"])));
    let child = world.rounds(id, "each")[0];
    let operation = Operation::Retry { from: None, input: None, version: None, pins: Vec::new() };
    let operate = Operate { namespace: namespace(), instance: child, operation, reason: "again".into() };
    assert!(matches!(world.apply(Command::Operate(Box::new(operate))), Some(Reply::Refused(_))), "only its parent is retried");
    world.assert_replays(Settings::default());
}

#[test]
fn limits_of_an_item_and_of_the_whole_end_what_runs() {
    let (mut world, id) = begin(json!({ "config": { "item_timeout": "5s" } }), json!(["a"]));
    world.advance_ms(5_000);
    assert_eq!(world.instance(id).summary.error.unwrap().code, "timed_out");
    assert_eq!(world.task(id, "each").status, "timed_out");
    let (mut world, id) = begin(json!({ "timeout": "7s" }), json!(["a", "b", "c"]));
    world.advance_ms(6_999);
    assert_eq!(world.status(id), "running");
    world.advance_ms(1);
    assert_eq!((world.task(id, "each").status, world.cancels.len()), ("timed_out", 2));
    let child = world.rounds(id, "each")[0];
    assert_eq!(world.status(child), "cancelled");
    assert_eq!(world.machine.stats().instances_open, 0);
}

#[test]
fn a_cancel_reaches_every_item() {
    let (mut world, id) = begin(json!({}), json!(["a", "b", "c"]));
    assert_eq!(world.cancel(id), Reply::Done);
    assert_eq!((world.status(id), world.cancels.len(), world.machine.stats().instances_open), ("cancelled", 2, 0));
    assert_eq!(world.tasks(id), "load=completed each=cancelled after=cancelled");
    world.assert_replays(Settings::default());
}

#[test]
fn a_pause_holds_the_items_as_well() {
    let (mut world, id) = begin(json!({}), json!(["a", "b", "c"]));
    let operate = |operation| Command::Operate(Box::new(Operate { namespace: namespace(), instance: id, operation, reason: "p".into() }));
    assert_eq!(world.apply(operate(Operation::Pause)), Some(Reply::Done));
    done(&mut world, "work", json!("a"), completed(json!("A")));
    assert_eq!(world.assigned(), ["work"], "what runs goes on, what follows is held");
    assert_eq!(world.apply(operate(Operation::Resume)), Some(Reply::Done));
    assert_eq!(world.assigned(), ["work", "check"]);
    world.complete("check", json!("a!"));
    assert_eq!(world.assigned(), ["work", "work"]);
    world.assert_replays(Settings::default());
}

#[test]
fn finished_items_are_undone_in_reverse_when_the_workflow_fails_after_all() {
    let mut world = World::new();
    let undo = json!({ "type": "job", "input": "${item}" });
    let each = json!({ "id": "each", "type": "for_each", "config": { "items": ["a", "b", "c"], "max_parallel": 1, "tasks": [
        job_with("work", &[], json!({ "input": "${item}", "compensate": undo })),
        job_with("check", &["work"], json!({ "input": "${item}" })),
    ] } });
    let tasks = json!([each, job("after", &["each"])]);
    assert_eq!(world.define(json!({ "id": "w", "on_failure": "compensate", "tasks": tasks })), Reply::Done);
    world.worker_up(1, 8);
    // Once after the loop has completed, once in the middle of it.
    for fails_inside in [false, true] {
        let id = world.start(json!({}));
        for item in ["a", "b", "c"] {
            done(&mut world, "work", json!(item), completed(json!(1)));
            let outcome = if fails_inside && item == "c" { failed() } else { completed(json!(1)) };
            done(&mut world, "check", json!(item), outcome);
        }
        if !fails_inside {
            world.fail("after");
        }
        for item in ["c", "b", "a"] {
            assert_eq!(world.assigned(), ["work:compensate"], "one at a time, the latest first");
            done(&mut world, "work:compensate", json!(item), completed(json!(1)));
        }
        let statuses: Vec<_> = world.rounds(id, "each").into_iter().map(|round| world.status(round)).collect();
        let last = if fails_inside { "failed" } else { "compensated" };
        assert_eq!((world.status(id), statuses), ("failed", vec!["compensated", "compensated", last]));
        assert_eq!(world.task(id, "each").status, "compensated");
        assert_eq!(world.machine.stats().instances_open, 0);
    }
    world.assert_replays(Settings::default());
}

#[test]
fn loops_stand_in_loops_and_the_inner_item_hides_the_outer() {
    let inner = json!({ "id": "inner", "type": "for_each", "config": {
        "items": "${item}", "tasks": [job_with("work", &[], json!({ "input": "${item}" }))], "output": "${tasks.work.output + index}" } });
    let tasks = json!([{ "id": "outer", "type": "for_each", "config": { "items": [[1, 2], [3]], "tasks": [inner] } }]);
    let mut world = World::new();
    world.workflow(tasks);
    world.worker_up(1, 8);
    let id = world.start(json!({}));
    for n in [3, 1, 2] {
        done(&mut world, "work", json!(n), completed(json!(n * 10)));
    }
    assert_eq!((world.status(id), world.output(id, "outer")), ("completed", json!([[10, 21], [30]])));
}

#[test]
fn ten_thousand_items_take_many_entries_and_each_is_bounded() {
    let mut world = World::new();
    let items: Vec<u32> = (0..10_000).collect();
    let body = json!([{ "id": "b", "type": "branch", "config": { "cases": [], "default": "x" } }]);
    world.workflow(json!([{ "id": "each", "type": "for_each", "config": {
        "items": "${input}", "max_parallel": 256, "tasks": body, "output": "${item}" } }]));
    let message = world.message(json!(items));
    let entries_before = world.log.len();
    let Reply::Accepted { instances, .. } = world.ingest(message) else { panic!() };
    let id = instances[0].1;
    assert_eq!(world.output(id, "each"), json!(items));
    assert!(world.log.len() - entries_before > 30, "{} entries", world.log.len() - entries_before);
    let most = world.most_transitions(Settings::default());
    assert!(most < 2 * TRANSITIONS_PER_ENTRY_MAX as u64, "{most}");
}

#[test]
fn a_family_is_forgotten_whole_and_takes_its_bytes_with_it() {
    let settings = Settings { history_retention_ms: 60_000, ..Settings::default() };
    let mut world = World::with(settings.clone());
    let body = json!([{ "id": "b", "type": "branch", "config": { "cases": [], "default": "x" } }]);
    world.workflow(json!([{ "id": "each", "type": "for_each", "config": { "items": ["${input}", 2, 3], "tasks": body } }]));
    let empty = world.machine.stats().state_bytes;
    let id = world.start(json!({ "n": 1 }));
    assert_eq!((world.status(id), world.machine.stats().instances_finished), ("completed", 4));
    world.advance_ms(62_000);
    assert!(world.machine.instance(id).is_none());
    assert_eq!((world.machine.stats().instances_finished, world.machine.stats().state_bytes), (0, empty));
    world.assert_replays(settings);
}
