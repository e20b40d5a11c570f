//! What is bounded: the work of one entry, history, pages, retention.

mod support;

use distric_exec::Settings;
use distric_exec::command::Command;
use distric_exec::machine::{HISTORY_ENTRIES_MAX, InstanceFilter, TRANSITIONS_PER_ENTRY_MAX, TaskFilter};
use serde_json::json;
use support::*;

#[test]
fn ten_thousand_timers_at_once_are_fired_over_several_entries() {
    let mut world = World::new();
    world.workflow(json!([{"id": "a", "type": "wait", "config": {"duration": "10s"}}]));
    for _ in 0..5_000 {
        world.start(json!({}));
    }
    world.now = world.now.plus_ms(10_000);
    world.apply_once(Command::Tick);
    assert!(world.machine.wants_continue());
    assert!(world.machine.stats().instances_open > 0);
    let entries_before = world.log.len();
    while world.machine.wants_continue() {
        world.apply_once(Command::Continue);
    }
    assert_eq!(world.machine.stats().instances_open, 0);
    assert!(world.log.len() - entries_before > 5, "{} entries", world.log.len() - entries_before);
    let most = world.most_transitions(Settings::default());
    assert!(most < 2 * TRANSITIONS_PER_ENTRY_MAX as u64, "{most}");
}

#[test]
fn a_wide_workflow_and_a_great_credit_are_worked_off_in_steps() {
    let mut world = World::new();
    let tasks: Vec<_> = (0..1_024).map(|n| job(&format!("t{n}"), &[])).collect();
    world.workflow(json!(tasks));
    let ids: Vec<_> = (0..3).map(|_| world.start(json!({}))).collect();
    world.worker_up(1, 5_000);
    assert_eq!(world.inbox.len(), 3 * 1_024);
    world.cancel(ids[0]);
    world.worker_down(1, 1);
    assert_eq!(world.machine.ready_backlog(), 2 * 1_024);
    let most = world.most_transitions(Settings::default());
    assert!(most < 3 * TRANSITIONS_PER_ENTRY_MAX as u64, "{most}");
    world.assert_replays(Settings::default());
}

#[test]
fn an_entry_between_a_tick_and_its_continue_finds_consistent_state() {
    let mut world = World::new();
    world.workflow(json!([{"id": "a", "type": "wait", "config": {"duration": "10s"}}, job("b", &["a"])]));
    world.worker_up(1, 10);
    for _ in 0..1_000 {
        world.start(json!({}));
    }
    world.now = world.now.plus_ms(10_000);
    world.apply_once(Command::Tick);
    assert!(world.machine.wants_continue());
    let message = world.message(json!({}));
    world.apply_once(Command::Ingest(Box::new(message)));
    world.worker_down(1, 1);
    world.worker_up(2, 2_000);
    assert_eq!(world.machine.stats().tasks_assigned, 1_000);
    world.assert_replays(Settings::default());
}

#[test]
fn finished_instances_go_with_their_messages_when_their_time_is_over() {
    let settings = Settings { history_retention_ms: 60_000, ..Settings::default() };
    let mut world = World::with(settings.clone());
    world.workflow(json!([job("a", &[])]));
    world.worker_up(1, 1);
    let bytes_before = world.machine.stats().state_bytes;
    let open = {
        let id = world.start(json!({}));
        world.complete("a", json!(1));
        let message = world.message(json!({}));
        let mut unmatched = message.clone();
        unmatched.actions.clear();
        world.ingest(unmatched);
        assert_eq!(world.machine.stats().messages_held, 2);
        world.advance_ms(59_999);
        assert!(world.machine.instance(id).is_some());
        world.advance_ms(1_001);
        assert!(world.machine.instance(id).is_none());
        world.machine.stats()
    };
    assert_eq!((open.messages_held, open.instances_finished, open.state_bytes), (0, 0, bytes_before));
    assert_eq!(world.machine.next_due(), None, "nothing waits for time");
    world.assert_replays(settings);
}

#[test]
fn history_is_bounded_by_count_as_well_oldest_first() {
    let settings = Settings { history_instances_max: 3, history_messages_max: 2, ..Settings::default() };
    let mut world = World::with(settings);
    world.workflow(json!([job("a", &[])]));
    world.worker_up(1, 1);
    let ids: Vec<_> = (0..5)
        .map(|_| {
            let id = world.start(json!({}));
            world.complete("a", json!(1));
            id
        })
        .collect();
    let kept: Vec<_> = ids.iter().map(|id| world.machine.instance(*id).is_some()).collect();
    assert_eq!(kept, [false, false, true, true, true]);
    for _ in 0..5 {
        let mut unmatched = world.message(json!({}));
        unmatched.actions.clear();
        world.ingest(unmatched);
    }
    assert_eq!(world.machine.stats().messages_held, 3 + 2);
    world.apply(Command::Configure(Settings { history_instances_max: 1, ..Settings::default() }));
    assert_eq!(world.machine.stats().instances_finished, 1);
}

#[test]
fn the_history_of_one_instance_is_bounded_and_says_what_it_dropped() {
    let mut world = World::new();
    let retry = json!({"max_attempts": 1000, "initial_backoff": "0s", "max_backoff": "0s", "jitter": 0});
    let tasks: Vec<_> = (0..5).map(|n| job_with(&format!("t{n}"), &[], json!({"retry": retry, "critical": false}))).collect();
    world.workflow(json!(tasks));
    world.worker_up(1, 5);
    let id = world.start(json!({}));
    for _ in 0..400 {
        for n in 0..5 {
            world.fail(&format!("t{n}"));
        }
        world.advance_ms(1);
    }
    let view = world.instance(id);
    assert_eq!(view.history.len(), HISTORY_ENTRIES_MAX);
    assert_eq!(view.history_dropped, 1 + 5 * 2 + 400 * 5 * 3 - HISTORY_ENTRIES_MAX as u64);
}

#[test]
fn lists_come_in_pages_by_id() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[]), job("b", &["a"])]));
    for _ in 0..7 {
        world.now = world.now.plus_ms(1);
        world.start(json!({}));
    }
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = world.machine.tasks(&TaskFilter::default(), cursor, 3);
        assert!(page.items.len() <= 3);
        seen.extend(page.items.iter().map(|task| task.id));
        match page.next_cursor {
            Some(next) => cursor = Some(next.parse().unwrap()),
            None => break,
        }
    }
    assert_eq!(seen.len(), 14);
    assert!(seen.is_sorted());
    let ready = world.machine.tasks(&TaskFilter { status: Some("ready".into()), ..Default::default() }, None, 100);
    assert_eq!((ready.items.len(), ready.next_cursor), (7, None));
    let filter = InstanceFilter {
        workflow: Some("w".into()),
        status: Some("running".into()),
        namespace: Some(namespace()),
        ..InstanceFilter::default()
    };
    assert_eq!(world.machine.instances(&filter, None, 100).items.len(), 7);
    assert_eq!(world.machine.instances(&InstanceFilter { status: Some("failed".into()), ..filter }, None, 100).items.len(), 0);
    let other = TaskFilter { namespace: Some(distric_model::Namespace::new("other").unwrap()), status: None };
    assert_eq!(world.machine.tasks(&other, None, 100).items.len(), 0);
}
