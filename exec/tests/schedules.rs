//! Workflows that start by themselves: each run once, whatever is late, and what was missed as the schedule says.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_exec::command::{Command, Define, Schedule};
use distric_exec::{Machine, Octets, Reply, Settings};
use distric_model::Change;
use serde_json::{Value, json};
use support::*;

/// Machine time starts at 22:13:20 UTC.
const TO_THE_QUARTER_MS: u64 = 100_000;

fn scheduled(members: Value) -> World {
    let mut world = World::new();
    world.define(json!({"id": "w", "schedule": [members], "tasks": [job("a", &[])]}));
    schedule(&mut world, Some(1));
    world
}

fn schedule(world: &mut World, version: Option<u64>) {
    world.apply(Command::Schedule(Schedule { namespace: namespace(), workflow: Arc::from("w"), version, pins: Vec::new() }));
}

/// The times that the runs were for.
fn runs(world: &World) -> Vec<String> {
    let ids = world.machine.instances(&Default::default(), None, 1_000).items;
    let mut times: Vec<String> = ids
        .iter()
        .map(|view| {
            let input: Value = serde_json::from_str(world.instance(view.id).input.unwrap().get()).unwrap();
            input["scheduled_at"].as_str().unwrap().to_owned()
        })
        .collect();
    times.sort_unstable();
    times
}

#[test]
fn a_run_comes_at_its_time_with_its_input() {
    let mut world = scheduled(json!({"cron": "*/15 * * * *", "input": {"kind": "quarter"}}));
    world.advance_ms(TO_THE_QUARTER_MS - 1);
    assert_eq!(runs(&world), Vec::<String>::new());
    world.advance_ms(1);
    assert_eq!(runs(&world), ["2023-11-14T22:15:00Z"]);
    let id = world.machine.instances(&Default::default(), None, 1).items[0].id;
    let input: Value = serde_json::from_str(world.instance(id).input.unwrap().get()).unwrap();
    assert_eq!(input, json!({"kind": "quarter", "scheduled_at": "2023-11-14T22:15:00Z"}));
    world.advance_ms(30 * 60 * 1_000);
    assert_eq!(runs(&world).len(), 3);
    let view = &world.machine.schedules_view(&namespace())[0];
    assert_eq!((view.runs_count, view.missed_count, &*view.cron), (3, 0, "*/15 * * * *"));
    world.assert_replays(Settings::default());
}

#[test]
fn what_was_missed_becomes_one_run_none_or_all() {
    for (missed, expected) in
        [("once", vec!["23:15:00"]), ("skip", vec![]), ("all", vec!["22:15:00", "22:30:00", "22:45:00", "23:00:00", "23:15:00"])]
    {
        let mut world = scheduled(json!({"cron": "*/15 * * * *", "missed": missed}));
        // Nobody led for an hour and some minutes.
        world.now = world.now.plus_ms(TO_THE_QUARTER_MS + 62 * 60 * 1_000);
        world.apply(Command::Tick);
        let times = runs(&world);
        assert_eq!(times.len(), expected.len(), "{missed}: {times:?}");
        assert!(times.iter().zip(&expected).all(|(time, expected)| time.contains(expected)), "{missed}: {times:?}");
        let view = &world.machine.schedules_view(&namespace())[0];
        assert_eq!((view.runs_count as usize, view.missed_count as usize), (expected.len(), 5 - expected.len()));
        world.advance_ms(13 * 60 * 1_000);
        assert_eq!(runs(&world).len(), expected.len() + 1, "{missed}: it goes on");
    }
}

#[test]
fn a_schedule_follows_its_workflow_and_one_that_is_told_twice_stays_as_it_is() {
    let mut world = scheduled(json!({"cron": "*/15 * * * *"}));
    // A run is due and nobody has looked yet when a second leader says the same.
    world.now = world.now.plus_ms(TO_THE_QUARTER_MS);
    schedule(&mut world, Some(1));
    world.apply(Command::Tick);
    assert_eq!(runs(&world).len(), 1);
    schedule(&mut world, Some(2));
    assert_eq!(world.machine.stats().commands_ignored_count, 1, "a version that is not defined here");
    let body = Octets::from(&json!({"id": "w", "schedule": [{"cron": "0 * * * *"}], "tasks": [job("a", &[])]}));
    let define = Define { namespace: namespace(), workflow: Arc::from("w"), version: 2, body };
    assert_eq!(world.apply(Command::Define(define)), Some(Reply::Done));
    schedule(&mut world, Some(2));
    assert_eq!(world.machine.scheduled().into_values().map(|(version, _)| version).collect::<Vec<_>>(), [2]);
    world.advance_ms(44 * 60 * 1_000);
    assert_eq!(runs(&world).len(), 1, "the old times do not count any more");
    world.advance_ms(60 * 1_000);
    assert_eq!(runs(&world).len(), 2);
    schedule(&mut world, None);
    world.advance_ms(24 * 60 * 60 * 1_000);
    assert_eq!((world.machine.stats().instances_started_count, world.machine.stats().schedules), (2, 0));
}

#[test]
fn a_restored_machine_goes_on_with_its_schedules() {
    let mut world = scheduled(json!({"cron": "*/15 * * * *"}));
    world.advance_ms(TO_THE_QUARTER_MS);
    let mut changes: Vec<Change> = Vec::new();
    world.machine.take_changes(&mut changes);
    let records: BTreeMap<Vec<u8>, Vec<u8>> = changes.into_iter().filter_map(|change| Some((change.key, change.value?))).collect();
    let restored = Machine::restore(&records).unwrap();
    assert_eq!((restored.digest(), restored.next_due()), (world.machine.digest(), world.machine.next_due()));
    world.machine = restored;
    world.advance_ms(15 * 60 * 1_000);
    assert_eq!(runs(&world).len(), 2);
}
