//! A storm over loops and calls: workers crash, fail, answer late and twice, at any moment, and replicas are restored from checkpoints in the
//! middle. Whatever happens, each item has its effect once: it is done under one idempotency key, and one result of it counts.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use distric_exec::command::{Command, Define, TaskOutcome};
use distric_exec::{Assignment, Machine, Octets, Reply, Settings, Verdict};
use distric_model::{Change, InstanceId};
use serde_json::{Value, json};
use support::*;

/// `SplitMix64`, so that a seed tells the whole story.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

const ITEMS: u64 = 7;
const ITERATIONS: u64 = 4;
const WORKERS: u64 = 3;
const WORKFLOWS: u64 = 6;

/// What a job does to the outside: `{"run": …, "what": …}` is the thing that shall happen once.
fn effect(id: &str, what: &str) -> Value {
    let retry = json!({ "max_attempts": 2, "initial_backoff": "10ms", "jitter": 0 });
    job_with(id, &[], json!({ "retry": retry, "input": { "run": "${input.run}", "what": what } }))
}

fn define(world: &mut World, id: &str, definition: &mut Value) {
    definition["id"] = json!(id);
    let define = Define { namespace: namespace(), workflow: id.into(), version: 1, body: Octets::from(&*definition) };
    assert_eq!(world.apply(Command::Define(define)), Some(Reply::Done));
}

fn begin() -> World {
    let mut world = World::new();
    define(&mut world, "called", &mut json!({ "tasks": [effect("inside", "${input.what}")] }));
    let retry = json!({ "max_attempts": 50, "initial_backoff": "20ms", "max_backoff": "20ms", "jitter": 0 });
    let items: Vec<u64> = (0..ITEMS).collect();
    let state = json!({ "initial": 0, "condition": format!("state < {ITERATIONS}"), "output": "${state + 1}", "tasks": [effect("round", "round ${state}")] });
    let tasks = json!([
        { "id": "each", "type": "for_each", "retry": retry, "config": { "items": items, "max_parallel": 3, "on_item_failure": "finish",
            "tasks": [effect("item", "item ${item}")], "output": "${item}" } },
        { "id": "loop", "type": "while", "retry": retry, "depends_on": ["each"], "config": state },
        { "id": "call", "type": "sub_workflow", "retry": retry, "config": { "workflow": "called" }, "input": { "run": "${input.run}", "what": "call" } },
        { "id": "calls", "type": "for_each", "retry": retry, "depends_on": ["call"], "config": { "items": items, "workflow": "called" },
            "input": { "run": "${input.run}", "what": "called ${index}" } },
    ]);
    define(&mut world, "w", &mut json!({ "timeout": "100h", "tasks": tasks }));
    world
}

/// One process of a worker: what it holds, and what it has already answered and may answer again.
#[derive(Default)]
struct Process {
    generation: u64,
    answered: Vec<(Assignment, TaskOutcome)>,
}

fn up(world: &mut World, number: u64, process: &mut Process) {
    process.generation += 1;
    world.apply(Command::WorkerUp(Box::new(session(number, process.generation, 4, &["job"], &[]))));
    world.credit(number, process.generation, 4);
}

fn storm(seed: u64) {
    let mut dice = Dice(seed);
    let mut world = begin();
    let mut processes: Vec<Process> = (0..WORKERS).map(|_| Process::default()).collect();
    (0..WORKERS).for_each(|number| up(&mut world, number, &mut processes[number as usize]));
    let ids: Vec<InstanceId> = (0..WORKFLOWS).map(|run| world.start_calling(json!({ "run": run }), &[("called", 1)])).collect();
    // The outside world: which keys did each thing, and how many results of each key counted.
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut counted: BTreeMap<String, u32> = BTreeMap::new();
    let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut steps = 0;
    while world.machine.stats().instances_open > 0 {
        steps += 1;
        assert!(steps < 20_000, "seed {seed}: it does not end");
        if dice.roll(10) == 0 {
            world.advance_ms(dice.roll(40));
        }
        if dice.roll(40) == 0 {
            let number = dice.roll(WORKERS);
            let process = &mut processes[number as usize];
            world.worker_down(number, process.generation);
            let lost = worker(number);
            // What it had begun has had its effect; its answer may still come.
            for assignment in world.inbox.extract_if(.., |assignment| assignment.worker == lost).collect::<Vec<_>>() {
                if dice.roll(2) == 0 {
                    keys.entry(json_of(&assignment.input).to_string()).or_default().insert(assignment.idempotency_key.to_string());
                    process.answered.push((assignment, completed(json!(1))));
                }
            }
            up(&mut world, number, process);
        }
        if dice.roll(25) == 0 {
            let mut changes = Vec::new();
            world.machine.take_changes(&mut changes);
            for Change { key, value } in changes {
                match value {
                    Some(value) => drop(records.insert(key, value)),
                    None => drop(records.remove(&key)),
                }
            }
            let restored = Machine::restore(&records).expect("records that the machine told can be restored");
            assert_eq!(restored.digest(), world.machine.digest(), "seed {seed}");
            world.machine = restored;
        }
        let late = &processes[dice.roll(WORKERS) as usize].answered;
        if !late.is_empty() && dice.roll(6) == 0 {
            let (assignment, outcome) = late[dice.roll(late.len() as u64) as usize].clone();
            world.report(&assignment, outcome);
        }
        if world.inbox.is_empty() {
            world.advance_ms(10);
            continue;
        }
        let place = dice.roll(world.inbox.len() as u64) as usize;
        let assignment = world.inbox.remove(place);
        let outcome = match dice.roll(8) {
            0 | 1 => failed(),
            2 => TaskOutcome::Returned { reason: "full".into() },
            _ => completed(json!(1)),
        };
        if !matches!(outcome, TaskOutcome::Returned { .. }) {
            keys.entry(json_of(&assignment.input).to_string()).or_default().insert(assignment.idempotency_key.to_string());
        }
        let verdict = world.report(&assignment, outcome.clone());
        if let (Verdict::Accepted, TaskOutcome::Completed { .. }) = (verdict, &outcome) {
            *counted.entry(assignment.idempotency_key.to_string()).or_default() += 1;
        }
        processes[assignment.worker.to_bytes()[15] as usize % WORKERS as usize].answered.push((assignment, outcome));
    }
    for id in ids {
        assert_eq!(world.status(id), "completed", "seed {seed}: {:?}", world.instance(id).summary.error);
        assert_eq!(world.output(id, "each"), json!((0..ITEMS).collect::<Vec<_>>()));
        assert_eq!(world.output(id, "loop"), json!(ITERATIONS));
    }
    let things = WORKFLOWS * (ITEMS + ITERATIONS + 1 + ITEMS);
    assert_eq!(keys.len() as u64, things, "seed {seed}: everything was done");
    assert!(keys.values().all(|keys| keys.len() == 1), "seed {seed}: {:?}", keys.iter().find(|(_, keys)| keys.len() > 1));
    assert!(counted.values().all(|count| *count == 1), "seed {seed}: {counted:?}");
    world.assert_replays(Settings::default());
}

#[test]
fn each_item_has_its_effect_once_whatever_happens_to_the_workers() {
    (1..=12).for_each(storm);
}
