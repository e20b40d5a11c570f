//! Processors and memory: where there is room, and what happens where there was none after all.

mod support;

use std::collections::BTreeMap;

use distric_exec::definition::{Definition, KnownTypes, check_workflows};
use distric_exec::machine::views::Blocker;
use distric_exec::{Machine, Settings, Verdict};
use serde_json::{Value, json};
use support::*;

fn needing(resources: Value) -> Value {
    json!([job_with("a", &[], json!({"resources": resources}))])
}

fn blockers(world: &World, id: distric_model::InstanceId) -> Vec<Blocker> {
    world.machine.why_task(world.task(id, "a").id).unwrap().blockers
}

fn no_room(world: &World, id: distric_model::InstanceId) -> String {
    let found = blockers(world, id).into_iter().find_map(|blocker| match blocker {
        Blocker::NoRoom { message, .. } => Some(message.to_string()),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{:?}", blockers(world, id)))
}

#[test]
fn tasks_go_where_their_memory_is_free_and_what_ended_makes_room() {
    let mut world = World::new();
    world.workflow(needing(json!({"memory": "4GiB"})));
    world.worker_of(1, 10, None, Some(5 << 10));
    world.worker_of(2, 10, None, Some(8 << 10));
    let ids: Vec<_> = (0..4).map(|_| world.start(json!({}))).collect();
    let mut placed: Vec<_> = world.inbox.iter().map(|assignment| assignment.worker).collect();
    placed.sort();
    assert_eq!(placed, [worker(1), worker(2), worker(2)], "one fits on the first, two on the second");
    assert_eq!(no_room(&world, ids[3]), "needs 4 GiB memory, the most free is 1 GiB on worker-1");
    let view = &world.machine.workers_view()[1];
    assert_eq!((view.capacity.memory_mib, view.held.memory_mib), (Some(8 << 10), 8 << 10));
    world.complete("a", json!(1));
    assert_eq!(world.inbox.len(), 3, "the room is used again at once");
    world.assert_replays(Settings::default());
}

#[test]
fn a_smaller_task_of_another_kind_goes_by_where_a_larger_one_does_not_fit() {
    let mut world = World::new();
    let large = job_with("a", &[], json!({"resources": {"cpu": 2}, "priority": 5}));
    let small = job_with("b", &[], json!({"resources": {"cpu": "500m"}}));
    let plain = job("c", &[]);
    world.workflow(json!([large, small, plain]));
    world.worker_of(1, 10, Some(1_500), None);
    let id = world.start(json!({}));
    assert_eq!(world.assigned(), ["b", "c"], "who needs nothing always fits");
    assert_eq!(no_room(&world, id), "needs 2 cpu, the most that a worker has is 1.5 cpu on worker-1");
    // One that does not say what it has is not limited.
    world.worker_up(2, 1);
    assert_eq!(world.take("a").worker, worker(2));
}

#[test]
fn both_must_fit_on_one_worker() {
    let mut world = World::new();
    world.workflow(needing(json!({"cpu": 1, "memory": "1GiB"})));
    world.worker_of(1, 9, Some(1_000), Some(512));
    world.worker_of(2, 9, Some(500), Some(2_048));
    let id = world.start(json!({}));
    assert_eq!(no_room(&world, id), "needs 1 cpu and 1 GiB memory; no worker has both free");
}

#[test]
fn a_refused_task_moves_on_to_another_worker_and_history_says_why() {
    let mut world = World::new();
    world.workflow(needing(json!({"memory": "4GiB"})));
    world.worker_of(1, 4, None, Some(4 << 10));
    let id = world.start(json!({}));
    world.worker_of(2, 4, None, Some(4 << 10));
    let first = world.take("a");
    assert_eq!(first.worker, worker(1));
    // Another group's task has taken 2 GiB there meanwhile.
    assert_eq!(world.refuse(&first, 1, 2 << 10), Verdict::Accepted);
    let second = world.take("a");
    assert_eq!((second.worker, second.attempt), (worker(2), 1), "a refusal costs no attempt");
    assert!(second.fencing_token > first.fencing_token);
    let reasons: Vec<String> =
        world.instance(id).history.iter().filter_map(|entry| entry.reason.as_ref().map(ToString::to_string)).collect();
    assert_eq!(reasons, ["returned by its worker: it needs 4 GiB memory, 2 GiB is free"]);
    // What the first one says of that attempt now is of no account.
    assert_eq!(world.report(&first, completed(json!(1))), Verdict::Stale, "it was settled as returned");
    assert_eq!(world.task(id, "a").status, "assigned");
    world.assert_replays(Settings::default());
}

#[test]
fn where_no_other_worker_has_room_it_waits_until_the_one_that_refused_it_has() {
    let mut world = World::new();
    world.workflow(needing(json!({"memory": "4GiB"})));
    world.worker_of(1, 4, None, Some(4 << 10));
    let id = world.start(json!({}));
    let first = world.take("a");
    world.refuse(&first, 1, 2 << 10);
    assert_eq!(world.inbox.len(), 0, "it does not come straight back, although there is credit");
    world.credit(1, 1, 1);
    assert_eq!(world.inbox.len(), 0);
    assert_eq!(no_room(&world, id), "needs 4 GiB memory, the most free is 2 GiB on worker-1");
    let came_back = "returned by its worker: it needs 4 GiB memory, 2 GiB is free";
    assert!(blockers(&world, id).contains(&Blocker::CameBack { reason: came_back.into() }), "{:?}", blockers(&world, id));
    // An older word that comes late does not count, a newer one does.
    world.tell_elsewhere(1, 1, 0);
    assert_eq!(world.inbox.len(), 0);
    world.tell_elsewhere(1, 2, 0);
    assert_eq!(world.take("a").worker, worker(1));
    world.assert_replays(Settings::default());
}

#[test]
fn a_worker_that_returned_a_task_for_another_reason_is_asked_last() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    world.worker_up(1, 9);
    let _ = world.start(json!({}));
    world.worker_up(2, 1);
    let first = world.take("a");
    world.report(&first, distric_exec::command::TaskOutcome::Returned { reason: "not now".into() });
    let second = world.take("a");
    assert_eq!((first.worker, second.worker), (worker(1), worker(2)));
    world.report(&second, distric_exec::command::TaskOutcome::Returned { reason: "nor here".into() });
    assert_eq!(world.take("a").worker, worker(1), "the other one has no credit left");
}

#[test]
fn expressions_see_what_a_worker_has_and_has_free() {
    let mut world = World::new();
    let placement = json!({"where": "has(worker.memory) && worker.memory >= 1024", "prefer": "worker.cpu_free"});
    world.workflow(json!([job_with("a", &[], json!({"placement": placement, "resources": {"cpu": "100m"}}))]));
    world.worker_up(1, 9);
    world.worker_of(2, 9, Some(1_000), Some(1_024));
    world.worker_of(3, 9, Some(950), Some(2_048));
    for _ in 0..3 {
        world.start(json!({}));
    }
    let placed: Vec<_> = world.inbox.iter().map(|assignment| assignment.worker).collect();
    assert_eq!(placed, [worker(2), worker(3), worker(2)]);
}

#[test]
fn the_least_loaded_is_the_one_with_the_least_of_what_is_scarcest() {
    let mut world = World::new();
    world.workflow(needing(json!({"memory": "1GiB"})));
    world.worker_of(1, 4, None, Some(100 << 10));
    world.worker_of(2, 400, None, Some(4 << 10));
    for _ in 0..4 {
        world.start(json!({}));
    }
    let of = |number| world.inbox.iter().filter(|assignment| assignment.worker == worker(number)).count();
    assert_eq!((of(1), of(2)), (2, 2));
}

#[test]
fn room_survives_a_checkpoint_and_a_worker_that_is_lost_holds_nothing() {
    let mut world = World::new();
    world.workflow(needing(json!({"cpu": "250m", "memory": "3GiB"})));
    world.worker_of(1, 9, Some(4_000), Some(8 << 10));
    world.tell_elsewhere(1, 7, 1 << 10);
    let ids: Vec<_> = (0..3).map(|_| world.start(json!({}))).collect();
    let mut changes = Vec::new();
    world.machine.take_changes(&mut changes);
    let stored: BTreeMap<_, _> = changes.into_iter().filter_map(|change| Some((change.key, change.value?))).collect();
    let restored = Machine::restore(stored).expect("the records are those of a machine");
    assert_eq!(restored.digest(), world.machine.digest());
    world.machine = restored;
    assert_eq!(no_room(&world, ids[2]), "needs 3 GiB memory, the most free is 1 GiB on worker-1");
    world.complete("a", json!(1));
    assert_eq!(world.inbox.len(), 2);
    world.worker_down(1, 1);
    let view = &world.machine.workers_view()[0];
    assert!(view.held.is_none(), "{view:?}");
    // Another run of it says its own.
    world.worker_of(2, 9, None, Some(6 << 10));
    assert_eq!(world.inbox.iter().filter(|assignment| assignment.worker == worker(2)).count(), 2);
}

#[test]
fn what_is_needed_is_read_written_back_and_checked_at_its_place() {
    let text = |resources: &str| format!("workflow:\n  id: w\n  tasks:\n    - id: a\n      type: job\n      resources: {resources}\n");
    let check = |resources: &str| check_workflows("f.yaml", &text(resources), &KnownTypes::any());
    let read = check("{ cpu: 0.25, memory: 2GiB }");
    assert!(read.problems.is_empty(), "{:?}", read.problems);
    let definition = &read.definitions[0];
    assert_eq!((definition.tasks[0].needs.cpu_millis, definition.tasks[0].needs.memory_mib), (250, 2_048));
    assert_eq!(definition.to_json()["tasks"][0]["resources"], json!({"cpu": "250m", "memory": "2048MiB"}));
    assert_eq!(Definition::from_json(&definition.to_json()).as_ref(), Ok(definition));
    for (resources, expected) in [
        (
            "{ memory: 512 }",
            "f.yaml:6:28: workflow.tasks[0].resources.memory: not an amount of memory (expected memory with its unit, such as 512MiB or 4GiB)",
        ),
        ("{ memory: 0MiB }", "f.yaml:6:28: workflow.tasks[0].resources.memory: the memory is out of range (expected 1MiB to 67108864MiB)"),
        (
            "{ cpu: -1 }",
            "f.yaml:6:25: workflow.tasks[0].resources.cpu: not a number of processors (expected a number of processors such as 2 or 0.5, or \
             thousandths such as 500m)",
        ),
        (
            "{ cpu: 5000 }",
            "f.yaml:6:25: workflow.tasks[0].resources.cpu: the number of processors is out of range (expected 1m to 4096000m)",
        ),
    ] {
        let problems: Vec<String> = check(resources).problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, [expected]);
    }
    let unknown = check("{ memroy: 1GiB }").problems.iter().map(ToString::to_string).collect::<String>();
    assert!(unknown.contains("did you mean `memory`?"), "{unknown}");
    let wait = "workflow: { id: w, tasks: [{ id: a, type: wait, config: { duration: 1s }, resources: { cpu: 1 } }] }";
    let problem = check_workflows("f", wait, &KnownTypes::any()).problems[0].to_string();
    assert!(problem.contains("`resources` means nothing for a `wait`"), "{problem}");
}
