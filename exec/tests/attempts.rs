//! Attempts at a task: retries, timeouts, lost workers, late results. One result is accepted, ever.

mod support;

use distric_exec::command::{Command, Retry, TaskDone, TaskOutcome, WorkerUp};
use distric_exec::machine::TASK_LOSSES_MAX;
use distric_exec::{Octets, Reply, Settings, Verdict};
use distric_model::{Slot, TaskId};
use serde_json::json;
use support::*;

fn retried(max_attempts: u32, jitter: f64) -> serde_json::Value {
    json!([job_with(
        "a",
        &[],
        json!({
            "retry": {"max_attempts": max_attempts, "initial_backoff": "1s", "multiplier": 2, "max_backoff": "3s", "jitter": jitter},
        })
    )])
}

#[test]
fn a_failed_attempt_is_retried_after_growing_waits_until_none_is_left() {
    let mut world = World::new();
    world.workflow(retried(4, 0.0));
    world.worker_up(1, 1);
    let id = world.start(json!({}));
    for (attempt, wait_ms) in [(1, 1_000), (2, 2_000), (3, 3_000)] {
        let a = world.take("a");
        assert_eq!(a.attempt, attempt);
        world.report(&a, failed());
        assert_eq!(world.task(id, "a").next_attempt_at_us, Some(world.now.plus_ms(wait_ms).as_us()));
        world.advance_ms(wait_ms - 1);
        assert_eq!(world.task(id, "a").status, "backing_off");
        world.advance_ms(1);
    }
    world.fail("a");
    let task = world.task(id, "a");
    assert_eq!((task.status, task.attempt, task.max_attempts), ("failed", 4, 4));
    assert_eq!(world.status(id), "failed");
    world.assert_replays(Settings::default());
}

#[test]
fn jitter_is_drawn_by_the_leader_stays_in_its_share_and_replays() {
    let mut waits = std::collections::BTreeSet::new();
    for draw in 0..50 {
        let mut world = World::new();
        world.workflow(retried(2, 0.2));
        world.worker_up(1, 1);
        let id = world.start(json!({}));
        world.draw = draw;
        world.fail("a");
        let wait_us = world.task(id, "a").next_attempt_at_us.unwrap() - world.now.as_us();
        assert!((800_000..=1_200_000).contains(&wait_us), "{wait_us}");
        waits.insert(wait_us);
        world.assert_replays(Settings::default());
    }
    assert!(waits.len() > 30, "draws spread: {}", waits.len());
}

#[test]
fn tasks_that_fail_in_one_entry_draw_apart() {
    let mut world = World::new();
    let retry = json!({"max_attempts": 2, "initial_backoff": "10s", "jitter": 1.0});
    let tasks: Vec<_> = (0..10).map(|n| job_with(&format!("t{n}"), &[], json!({"timeout": "1s", "retry": retry}))).collect();
    world.workflow(json!(tasks));
    world.worker_up(1, 10);
    let id = world.start(json!({}));
    world.advance_ms(1_000);
    let waits: std::collections::BTreeSet<_> = world.instance(id).tasks.iter().map(|task| task.next_attempt_at_us.unwrap()).collect();
    assert!(waits.len() > 5, "{waits:?}");
}

#[test]
fn retry_after_is_a_least_wait_and_bounded() {
    for (retry_after_ms, expected_ms) in [(5_000, 5_000), (10, 1_000), (u64::MAX, distric_exec::machine::RETRY_AFTER_MS_MAX)] {
        let mut world = World::new();
        assert_eq!(world.define(json!({"id": "w", "timeout": "100h", "tasks": retried(2, 0.0)})), Reply::Done);
        world.worker_up(1, 1);
        let id = world.start(json!({}));
        let a = world.take("a");
        let outcome =
            TaskOutcome::Failed { code: "busy".into(), error: String::new(), retryable: true, retry_after_ms: Some(retry_after_ms) };
        world.report(&a, outcome);
        assert_eq!(world.task(id, "a").next_attempt_at_us, Some(world.now.plus_ms(expected_ms).as_us()));
    }
}

#[test]
fn what_is_not_retryable_is_not_retried() {
    let mut world = World::new();
    world.workflow(retried(5, 0.0));
    world.worker_up(1, 1);
    let id = world.start(json!({}));
    let a = world.take("a");
    world.report(&a, TaskOutcome::Failed { code: "bad".into(), error: "no".into(), retryable: false, retry_after_ms: None });
    assert_eq!(world.status(id), "failed");
}

#[test]
fn a_rules_retry_is_the_default_of_its_workflows_tasks() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    world.worker_up(1, 1);
    let mut message = world.message(json!({}));
    message.actions[0].retry = Some(Retry { max_attempts: 2, jitter_permille: 0, ..Retry::NONE });
    world.ingest(message);
    world.fail("a");
    world.advance_ms(1_000);
    assert_eq!(world.take("a").attempt, 2);
}

#[test]
fn an_attempt_beyond_its_timeout_is_cancelled_retried_and_its_late_result_is_stale() {
    let mut world = World::new();
    let mut tasks = retried(2, 0.0);
    tasks[0]["timeout"] = json!("10s");
    world.workflow(tasks);
    world.worker_up(1, 2);
    let id = world.start(json!({}));
    let first = world.take("a");
    assert_eq!(first.timeout_ms, 10_000);
    world.advance_ms(10_000);
    assert_eq!(world.cancels, [(worker(1), first.task, first.fencing_token)]);
    assert_eq!(world.machine.cancelled_on(worker(1)), [(first.task, first.fencing_token)]);
    world.advance_ms(1_000);
    let second = world.take("a");
    assert_eq!(second.attempt, 2);
    assert_eq!(world.report(&first, completed(json!("late"))), Verdict::Stale);
    assert_eq!(world.task(id, "a").status, "assigned");
    world.advance_ms(10_000);
    assert_eq!((world.task(id, "a").status, world.status(id)), ("timed_out", "failed"));
    assert_eq!(world.report(&second, completed(json!("late"))), Verdict::Stale);
    assert_eq!(world.task(id, "a").output.map(|output| output.to_string()), None);
}

#[test]
fn the_tasks_of_a_dead_worker_are_placed_once_more_and_its_results_are_stale() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[]), job("b", &[])]));
    world.worker_up(1, 2);
    let id = world.start(json!({}));
    let (a, b) = (world.take("a"), world.take("b"));
    world.worker_up(2, 2);
    world.worker_down(1, 1);
    world.worker_down(1, 1);
    let (a2, b2) = (world.take("a"), world.take("b"));
    assert_eq!(world.assigned().len(), 0, "each was placed once");
    assert_eq!((a2.worker, a2.attempt, a2.task), (worker(2), 2, a.task));
    assert!(a2.fencing_token > b.fencing_token);
    assert_eq!(world.report(&a, completed(json!("dead"))), Verdict::Stale);
    assert_eq!(world.report(&a2, completed(json!("alive"))), Verdict::Accepted);
    assert_eq!(world.report(&b2, completed(json!("alive"))), Verdict::Accepted);
    assert_eq!(world.task(id, "a").output.unwrap().get(), "\"alive\"");
    assert_eq!(world.status(id), "completed");
    world.assert_replays(Settings::default());
}

#[test]
fn the_end_of_an_old_generation_does_not_touch_a_new_one() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    world.worker_up(1, 1);
    let id = world.start(json!({}));
    let first = world.take("a");
    // The worker's process is back before anybody noticed: what the old one had is lost.
    world.apply(Command::WorkerUp(Box::new(session(1, 2, 1, &["job"], &[]))));
    assert_eq!(world.task(id, "a").status, "ready");
    world.credit(1, 1, 1);
    assert_eq!(world.task(id, "a").status, "ready", "credit of the old session counts no more");
    world.credit(1, 2, 1);
    let second = world.take("a");
    world.worker_down(1, 1);
    assert_eq!(world.task(id, "a").status, "assigned");
    world.apply(Command::WorkerUp(Box::new(session(1, 1, 9, &["job"], &[]))));
    assert_eq!(world.machine.workers_view()[0].generation, 2);
    assert_eq!(world.report(&first, completed(json!(1))), Verdict::Stale);
    assert_eq!(world.report(&second, completed(json!(1))), Verdict::Accepted);
}

#[test]
fn a_reconnect_of_the_same_process_keeps_its_tasks_and_drops_free_credit() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    world.worker_up(1, 3);
    world.start(json!({}));
    let a = world.take("a");
    world.apply(Command::WorkerUp(Box::new(session(1, 1, 3, &["job"], &[]))));
    let view = &world.machine.workers_view()[0];
    assert_eq!((view.credit_granted, view.credit_in_use), (1, 1));
    assert_eq!(world.report(&a, completed(json!(1))), Verdict::Accepted);
}

#[test]
fn a_task_that_outlives_too_many_workers_is_taken_for_the_reason() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    let id = world.start(json!({}));
    for generation in 1..=u64::from(TASK_LOSSES_MAX) + 1 {
        world.apply(Command::WorkerUp(Box::new(session(1, generation, 1, &["job"], &[]))));
        world.credit(1, generation, 1);
        world.take("a");
        world.worker_down(1, generation);
    }
    let error = world.task(id, "a").error.unwrap();
    assert_eq!((error.code.as_str(), world.status(id)), ("worker_lost", "failed"));
}

#[test]
fn a_returned_task_costs_no_attempt_and_takes_its_credit_with_it() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    world.worker_up(1, 1);
    let id = world.start(json!({}));
    let first = world.take("a");
    assert_eq!(world.report(&first, TaskOutcome::Returned { reason: "draining".into() }), Verdict::Accepted);
    let task = world.task(id, "a");
    assert_eq!((task.status, task.attempt), ("ready", 0));
    assert_eq!(world.machine.workers_view()[0].credit_granted, 0);
    world.worker_up(2, 1);
    let second = world.take("a");
    assert_eq!((second.attempt, second.worker), (1, worker(2)));
    let returned = TaskOutcome::Returned { reason: "draining".into() };
    assert_eq!(world.report(&first, returned), Verdict::Accepted, "what was settled stays settled");
    assert_eq!(world.report(&first, completed(json!(1))), Verdict::Stale, "and something else was not");
    assert_eq!(world.task(id, "a").status, "assigned", "and the late result did nothing");
    assert_eq!(world.report(&second, completed(json!(1))), Verdict::Accepted);
}

#[test]
fn a_result_that_comes_twice_is_accepted_twice_and_counts_once() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[]), job("b", &["a"])]));
    world.worker_up(1, 2);
    let id = world.start(json!({}));
    let a = world.take("a");
    assert_eq!(world.report(&a, completed(json!(1))), Verdict::Accepted);
    assert_eq!(world.report(&a, completed(json!(2))), Verdict::Accepted);
    assert_eq!(world.task(id, "a").output.unwrap().get(), "1");
    assert_eq!(world.trace(id).matches("b:pending>ready").count(), 1);
    let view = &world.machine.workers_view()[0];
    assert_eq!((view.credit_granted, view.credit_in_use), (2, 1));
}

#[test]
fn an_attempt_that_was_run_twice_has_one_result_whatever_it_says_later() {
    let mut world = World::new();
    world.workflow(retried(4, 0.0));
    world.worker_up(1, 2);
    let id = world.start(json!({}));
    let first = world.take("a");
    assert_eq!(world.report(&first, failed()), Verdict::Accepted);
    assert_eq!(world.report(&first, completed(json!(1))), Verdict::Stale, "it failed");
    world.advance_ms(1_000);
    let second = world.take("a");
    assert_eq!(world.report(&second, completed(json!(2))), Verdict::Accepted);
    assert_eq!(world.report(&second, failed()), Verdict::Stale, "it has completed");
    assert_eq!(world.report(&second, completed(json!(2))), Verdict::Accepted, "said again");
    assert_eq!(world.task(id, "a").output.unwrap().get(), "2");
}

#[test]
fn results_that_fit_nothing_change_nothing() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    world.worker_up(1, 1);
    let id = world.start(json!({}));
    let a = world.take("a");
    let strange = TaskId::new(world.now, Slot::truncate(1), 77);
    for (task, fencing_token, verdict) in
        [(strange, a.fencing_token, Verdict::Unknown), (a.task, 0, Verdict::Stale), (a.task, a.fencing_token + 1, Verdict::Stale)]
    {
        let done = TaskDone { task, attempt: 1, fencing_token, outcome: completed(json!(1)), renew_credit: true, elsewhere: None };
        let reply = world.apply(Command::TaskDone(Box::new(done)));
        assert_eq!(reply, Some(Reply::TaskVerdict { task, fencing_token, verdict }));
    }
    assert_eq!(world.task(id, "a").status, "assigned");
    assert_eq!(world.machine.workers_view()[0].credit_in_use, 1);
}

#[test]
fn outputs_that_cannot_be_kept_fail_the_task() {
    for (output, code) in [(Octets::from("not json"), "bad_output"), (Octets::from(&json!("x".repeat(2 << 20))), "output_too_large")] {
        let mut world = World::new();
        world.workflow(retried(3, 0.0));
        world.worker_up(1, 1);
        let id = world.start(json!({}));
        let a = world.take("a");
        assert_eq!(world.report(&a, TaskOutcome::Completed { output }), Verdict::Accepted);
        assert_eq!((world.task(id, "a").error.unwrap().code.as_str(), world.status(id)), (code, "failed"));
    }
}

#[test]
fn a_new_leader_learns_what_workers_have_and_dispatches_it_again_under_the_same_token() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    world.worker_up(1, 1);
    world.start(json!({"n": 1}));
    let a = world.take("a");
    assert_eq!(world.machine.assigned_to(worker(1)), [(a.task, a.fencing_token)]);
    let again = world.machine.redispatch(a.task, a.fencing_token).expect("it is the present attempt");
    assert_eq!(*again, a);
    assert_eq!(world.machine.redispatch(a.task, a.fencing_token + 1), None);
    world.report(&a, completed(json!(1)));
    assert_eq!(world.machine.assigned_to(worker(1)), []);
    assert_eq!(world.machine.redispatch(a.task, a.fencing_token), None);
}

#[test]
fn a_worker_that_nobody_knows_is_ignored() {
    let mut world = World::new();
    world.credit(9, 1, 5);
    world.worker_down(9, 1);
    world.drain(9, true);
    assert_eq!(world.machine.workers_view(), []);
    assert_eq!(world.machine.stats().commands_ignored_count, 2);
    let nameless = WorkerUp { task_types: Vec::new(), slots: 0, ..session(9, 0, 0, &[], &[]) };
    world.apply(Command::WorkerUp(Box::new(nameless)));
    world.credit(9, 0, i64::MAX);
    assert_eq!(world.machine.workers_view()[0].credit_granted, 0, "no slots, no credit");
}

#[test]
fn only_the_listed_codes_are_tried_again() {
    let mut world = World::new();
    let retry = json!({"max_attempts": 5, "initial_backoff": 0, "retry_on": ["connect_failed", "timed_out"]});
    world.workflow(json!([job_with("a", &[], json!({"retry": retry, "timeout": "1s"}))]));
    world.worker_up(1, 8);
    let fail = |world: &mut World, code: &str| {
        let a = world.take("a");
        let (code, error) = (code.into(), "it broke".into());
        world.report(&a, TaskOutcome::Failed { code, error, retryable: true, retry_after_ms: None });
        world.advance_ms(1);
    };
    let id = world.start(json!({}));
    fail(&mut world, "connect_failed");
    let late = world.take("a");
    world.advance_ms(1_000);
    world.report(&late, failed());
    world.advance_ms(1);
    assert_eq!(world.task(id, "a").attempt, 3, "both codes are listed");
    fail(&mut world, "http_status");
    assert_eq!((world.task(id, "a").status, world.status(id)), ("failed", "failed"));
}
