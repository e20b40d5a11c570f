//! Who gets which task.

mod support;

use distric_exec::command::TaskOutcome;
use distric_exec::definition::{KnownTypes, check_workflows};
use distric_exec::machine::views::Blocker;
use distric_exec::{DefaultStrategy, Effect, Settings};
use serde_json::json;
use support::*;

fn placed(strategy: &str) -> serde_json::Value {
    json!([job_with("a", &[], json!({"placement": {"strategy": strategy}}))])
}

fn counts(world: &World) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for assignment in &world.inbox {
        *counts.entry(assignment.worker).or_insert(0) += 1;
    }
    counts.into_iter().map(|(worker, count)| (worker.to_string()[34..].to_owned(), count)).collect()
}

#[test]
fn credit_is_never_exceeded_and_what_waits_goes_out_with_new_credit() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    world.worker_up(1, 3);
    for _ in 0..10 {
        world.start(json!({}));
    }
    assert_eq!((world.inbox.len(), world.machine.ready_backlog()), (3, 7));
    world.complete("a", json!(1));
    assert_eq!((world.inbox.len(), world.machine.ready_backlog()), (3, 6));
    let a = world.take("a");
    world.report_with(&a, completed(json!(1)), false);
    assert_eq!((world.inbox.len(), world.machine.ready_backlog()), (2, 6), "credit that is not renewed is gone");
    world.credit(1, 1, 100);
    assert_eq!((world.inbox.len(), world.machine.ready_backlog()), (3, 5), "slots and prefetch are the limit");
}

#[test]
fn a_timed_out_attempt_keeps_its_credit_busy_until_the_worker_reports() {
    let mut world = World::new();
    world.workflow(json!([job_with("a", &[], json!({"timeout": "1s"}))]));
    world.worker_up(1, 1);
    world.start(json!({}));
    let stuck = world.take("a");
    world.start(json!({}));
    world.advance_ms(1_000);
    assert_eq!(world.inbox.len(), 0, "the slot is still busy with the attempt");
    world.report(&stuck, failed());
    assert_eq!(world.inbox.len(), 1, "the renewed credit is used");
}

#[test]
fn credit_that_is_asked_back_is_returned_as_far_as_it_is_free() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    world.worker_up(1, 5);
    world.start(json!({}));
    world.credit(1, 1, -10);
    assert!(world.effects.iter().any(|effect| *effect == Effect::CreditReturned { worker: worker(1), amount: 4 }));
    let view = &world.machine.workers_view()[0];
    assert_eq!((view.credit_granted, view.credit_in_use), (1, 1));
}

#[test]
fn round_robin_gives_each_worker_the_same_share() {
    let mut world = World::new();
    world.workflow(placed("round_robin"));
    for number in 1..=4 {
        world.worker_up(number, 100);
    }
    for _ in 0..40 {
        world.start(json!({}));
    }
    assert_eq!(counts(&world).iter().map(|(_, count)| *count).collect::<Vec<_>>(), [10, 10, 10, 10]);
    // Whoever has no credit is passed over; the turn goes on from there.
    world.credit(2, 1, -100);
    for _ in 0..30 {
        world.start(json!({}));
    }
    assert_eq!(counts(&world).iter().map(|(_, count)| *count).collect::<Vec<_>>(), [20, 10, 20, 20]);
}

#[test]
fn least_loaded_follows_the_share_of_credit_in_use() {
    let mut world = World::new();
    world.workflow(placed("least_loaded"));
    world.worker_up(1, 10);
    world.worker_up(2, 30);
    for _ in 0..20 {
        world.start(json!({}));
    }
    assert_eq!(counts(&world).iter().map(|(_, count)| *count).collect::<Vec<_>>(), [5, 15]);
}

#[test]
fn higher_priority_goes_first_then_earlier_arrival_across_types() {
    let mut world = World::new();
    world.workflow(json!([
        job_with("low", &[], json!({"priority": -1})),
        job("first", &[]),
        {"id": "other", "type": "other", "priority": 5},
        job("second", &[]),
        job_with("high", &[], json!({"priority": 9})),
    ]));
    world.start(json!({}));
    world.worker_with(1, 5, &["job", "other"], &[]);
    assert_eq!(world.assigned(), ["high", "other", "first", "second", "low"]);
}

#[test]
fn a_returned_task_keeps_its_place_in_the_queue() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[]), job("b", &[])]));
    world.worker_up(1, 1);
    world.start(json!({}));
    let a = world.take("a");
    world.report(&a, TaskOutcome::Returned { reason: "no".into() });
    world.credit(1, 1, 1);
    assert_eq!(world.assigned(), ["a"]);
}

#[test]
fn labels_and_types_decide_who_is_eligible_and_why_says_so() {
    let mut world = World::new();
    world.workflow(json!([job_with("a", &[], json!({"placement": {"labels": {"zone": "eu"}}}))]));
    let id = world.start(json!({}));
    let task = world.task(id, "a").id;
    let blockers = |world: &World| world.machine.why_task(task).unwrap().blockers;
    assert_eq!(blockers(&world), [Blocker::NoWorkerOffersType { task_type: "job".into() }]);
    world.worker_with(1, 1, &["job"], &[("zone", "us")]);
    let labels = vec![("zone".into(), "eu".into())];
    assert_eq!(blockers(&world), [Blocker::NoWorkerWithLabels { labels, offering_count: 1 }]);
    world.worker_with(2, 0, &["job"], &[("zone", "eu"), ("disk", "ssd")]);
    assert_eq!(blockers(&world), [Blocker::NoCredit { workers: vec![worker(2)] }]);
    world.drain(2, true);
    assert_eq!(blockers(&world), [Blocker::WorkersDraining { workers: vec![worker(2)] }]);
    world.worker_with(3, 1, &["job"], &[("zone", "eu")]);
    assert_eq!(world.take("a").worker, worker(3));
    assert!(matches!(&blockers(&world)[..], [Blocker::AssignedTo { worker: who, .. }] if *who == worker(3)));
}

#[test]
fn why_names_dependencies_backoff_and_the_queue() {
    let mut world = World::new();
    world.workflow(json!([
        job_with("a", &[], json!({"retry": {"max_attempts": 3, "initial_backoff": "5s", "jitter": 0}})),
        job("b", &[]),
        job("c", &["a", "b"]),
        {"id": "d", "type": "wait", "config": {"duration": "9s"}},
    ]));
    world.worker_up(1, 1);
    let id = world.start(json!({}));
    let why = |world: &World, task: &str| world.machine.why_task(world.task(id, task).id).unwrap().blockers;
    assert_eq!(why(&world, "c"), [Blocker::WaitingForTasks { tasks: vec!["a".into(), "b".into()] }]);
    assert_eq!(why(&world, "b"), [Blocker::NoCredit { workers: vec![worker(1)] }]);
    assert_eq!(why(&world, "d"), [Blocker::WaitingUntil { until_us: world.now.plus_ms(9_000).as_us() }]);
    world.fail("a");
    assert!(matches!(&why(&world, "a")[..], [Blocker::BackingOff { attempt: 1, max_attempts: 3, .. }]));
    world.complete("b", json!(1));
    assert_eq!(why(&world, "c"), [Blocker::WaitingForTasks { tasks: vec!["a".into()] }]);
    assert_eq!(why(&world, "b"), []);
    let json = serde_json::to_value(world.machine.why_task(world.task(id, "c").id)).unwrap();
    assert_eq!(json["blockers"][0], json!({"kind": "waiting_for_tasks", "tasks": ["a"]}));
    world.start(json!({}));
    world.start(json!({}));
    let waiting = world.machine.tasks(&Default::default(), None, 100).items.into_iter().filter(|task| task.status == "ready");
    let last = waiting.last().unwrap();
    assert!(world.machine.why_task(last.id).unwrap().blockers.iter().any(|b| matches!(b, Blocker::Queued { ahead_count: 2 | 3 })));
}

#[test]
fn a_draining_worker_finishes_and_gets_nothing_new_until_it_is_undrained() {
    let mut world = World::new();
    world.workflow(json!([job("a", &[])]));
    world.worker_up(1, 2);
    world.start(json!({}));
    world.drain(1, true);
    world.start(json!({}));
    assert_eq!(world.inbox.len(), 1);
    world.complete("a", json!(1));
    assert_eq!(world.inbox.len(), 0);
    world.drain(1, false);
    assert_eq!(world.inbox.len(), 1);
    // A drain outlives a reconnect, not the process.
    world.drain(1, true);
    world.apply(distric_exec::Command::WorkerUp(Box::new(session(1, 1, 2, &["job"], &[]))));
    assert_eq!(world.machine.workers_view()[0].status, "draining");
    world.apply(distric_exec::Command::WorkerUp(Box::new(session(1, 2, 2, &["job"], &[]))));
    assert_eq!(world.machine.workers_view()[0].status, "up");
}

#[test]
fn tasks_of_one_key_go_to_one_worker_as_long_as_it_has_room() {
    let mut world = World::new();
    world.workflow(json!([job_with("a", &[], json!({"placement": {"affinity_key": "${input.user}"}}))]));
    for number in 1..=5 {
        world.worker_up(number, 60);
    }
    let mut homes = std::collections::BTreeMap::new();
    for round in 0..60 {
        world.start(json!({"user": format!("u{}", round % 12)}));
        let assignment = world.inbox.last().unwrap().clone();
        let home = *homes.entry(round % 12).or_insert(assignment.worker);
        assert_eq!(assignment.worker, home, "round {round}");
    }
    let used: std::collections::BTreeSet<_> = homes.values().collect();
    assert!(used.len() > 1, "all keys are at one worker");
    // A worker that is gone takes only its own keys with it.
    let gone = homes[&0];
    let number = (1..=5).find(|number| worker(*number) == gone).unwrap();
    for assignment in std::mem::take(&mut world.inbox) {
        world.report(&assignment, completed(json!(1)));
    }
    world.worker_down(number, 1);
    for user in 0..12 {
        world.start(json!({"user": format!("u{user}")}));
        let assignment = world.inbox.last().unwrap();
        assert!(homes[&user] == gone || assignment.worker == homes[&user], "u{user} moved without need");
    }
    world.assert_replays(Settings::default());
}

#[test]
fn of_two_that_are_drawn_the_less_loaded_is_taken() {
    let mut world = World::new();
    world.define(json!({"id": "w", "placement": {"strategy": "power_of_two"}, "tasks": [job("a", &[])]}));
    for number in 1..=8 {
        world.worker_up(number, 100);
    }
    let mut loads = std::collections::BTreeMap::new();
    for _ in 0..400 {
        world.draw = world.draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        world.start(json!(1));
        *loads.entry(world.inbox.last().unwrap().worker).or_insert(0) += 1;
    }
    assert!(loads.len() == 8 && loads.values().all(|count| (35..=65).contains(count)), "{loads:?}");
    world.assert_replays(Settings::default());
}

#[test]
fn a_condition_says_which_workers_may_and_why_says_that_none_does() {
    let mut world = World::new();
    let condition = "worker.labels.zone in ['eu', 'us'] && worker.slots >= 2";
    world.workflow(json!([job_with("a", &[], json!({"placement": {"where": condition}}))]));
    world.worker_with(1, 8, &["job"], &[("zone", "ap")]);
    world.worker_with(2, 1, &["job"], &[("zone", "eu")]);
    world.worker_with(3, 8, &["job"], &[]);
    let id = world.start(json!({}));
    assert_eq!(world.inbox.len(), 0);
    let task = world.task(id, "a").id;
    let why = world.machine.why_task(task).unwrap();
    assert_eq!(why.blockers, [Blocker::NoWorkerFulfils { condition: condition.into(), offering_count: 3 }]);
    world.worker_with(4, 2, &["job"], &[("zone", "us")]);
    assert_eq!(world.take("a").worker, worker(4));
}

#[test]
fn a_custom_strategy_prefers_by_its_expression() {
    let mut world = World::new();
    let prefer = "worker.labels.zone == 'near' ? 100 + worker.free : worker.free";
    world.workflow(json!([job_with("a", &[], json!({"placement": {"strategy": "custom", "prefer": prefer}}))]));
    world.worker_with(1, 9, &["job"], &[("zone", "far")]);
    world.worker_with(2, 2, &["job"], &[("zone", "near")]);
    world.worker_with(3, 3, &["job"], &[("zone", "near")]);
    // A worker of which the expression says nothing comes last.
    world.worker_with(4, 9, &["job"], &[]);
    let mut order = Vec::new();
    for _ in 0..15 {
        world.start(json!({}));
        order.push(world.inbox.last().expect("there is room").worker);
    }
    let of = |number| order.iter().position(|placed| *placed == worker(number)).unwrap();
    assert_eq!((of(3), of(2), of(1), of(4)), (0, 1, 5, 14), "{order:?}");
}

#[test]
fn a_class_with_expressions_survives_a_checkpoint() {
    let mut world = World::new();
    let placement = json!({"where": "worker.labels.zone == 'eu'", "prefer": "worker.slots"});
    world.workflow(json!([job_with("a", &[], json!({"placement": placement}))]));
    world.start(json!({}));
    let mut records = Vec::new();
    world.machine.take_changes(&mut records);
    let mut stored = std::collections::BTreeMap::new();
    for change in records {
        if let Some(value) = change.value {
            stored.insert(change.key, value);
        }
    }
    let restored = distric_exec::Machine::restore(stored).expect("the records are those of a machine");
    assert_eq!(restored.digest(), world.machine.digest());
    world.machine = restored;
    world.worker_with(1, 8, &["job"], &[("zone", "ap")]);
    assert_eq!(world.inbox.len(), 0);
    world.worker_with(2, 1, &["job"], &[("zone", "eu")]);
    assert_eq!(world.take("a").worker, worker(2));
}

/// A world whose cluster places so, with a workflow as a text defines it.
fn cluster(placement: DefaultStrategy, workflow: &str) -> World {
    let mut world = World::with(Settings { placement, ..Settings::default() });
    let checked = check_workflows("f", workflow, &KnownTypes::any());
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    world.define(checked.definitions[0].to_json());
    (1..=4).for_each(|number| _ = world.worker_up(number, 100));
    world
}

#[test]
fn the_strategy_of_a_task_comes_before_that_of_its_workflow_and_that_before_the_clusters() {
    let placed = |workflow: &str, placement| {
        let mut world = cluster(placement, workflow);
        // The first worker is always the least loaded but in turn the last: its credit grows with what it gets.
        world.apply(distric_exec::Command::WorkerUp(Box::new(session(1, 1, 16_000, &["job"], &[]))));
        world.credit(1, 1, 16_000);
        for _ in 0..8 {
            world.start(json!({}));
        }
        let number = |assignment: &distric_exec::Assignment| (1..=4).find(|number| worker(*number) == assignment.worker);
        world.inbox.iter().filter_map(number).collect::<Vec<u64>>()
    };
    let plain = "workflow: { id: w, tasks: [{ id: a, type: job }] }";
    let of_workflow = "workflow: { id: w, placement: { strategy: least_loaded }, tasks: [{ id: a, type: job }] }";
    let of_task =
        "workflow: { id: w, placement: { strategy: least_loaded }, tasks: [{ id: a, type: job, placement: { strategy: cluster } }] }";
    let in_turn = [1, 2, 3, 4, 1, 2, 3, 4];
    assert_eq!(placed(plain, DefaultStrategy::RoundRobin), in_turn);
    assert_eq!(placed(of_workflow, DefaultStrategy::RoundRobin), [1, 2, 3, 4, 1, 1, 1, 1], "by load");
    assert_eq!(placed(of_task, DefaultStrategy::RoundRobin), in_turn);
    assert_eq!(placed(plain, DefaultStrategy::LeastLoaded), [1, 2, 3, 4, 1, 1, 1, 1]);
}

#[test]
fn a_cluster_that_places_otherwise_does_so_from_that_entry_on_and_after_a_checkpoint() {
    let mut world = cluster(DefaultStrategy::LeastLoaded, "workflow: { id: w, tasks: [{ id: a, type: job }] }");
    let settings = Settings { placement: DefaultStrategy::RoundRobin, ..Settings::default() };
    world.apply(distric_exec::Command::Configure(settings.clone()));
    let mut changes = Vec::new();
    world.machine.take_changes(&mut changes);
    let stored: std::collections::BTreeMap<_, _> = changes.into_iter().filter_map(|change| Some((change.key, change.value?))).collect();
    world.machine = distric_exec::Machine::restore(stored).expect("the records are those of a machine");
    assert_eq!(*world.machine.settings(), settings);
    world.credit(1, 1, -90);
    for _ in 0..8 {
        world.start(json!({}));
    }
    assert_eq!(counts(&world).into_iter().map(|(_, count)| count).collect::<Vec<_>>(), [2, 2, 2, 2]);
}

#[test]
fn random_draws_among_those_with_room_and_replays_alike() {
    let mut world = World::new();
    world.workflow(placed("random"));
    (1..=8).for_each(|number| _ = world.worker_up(number, 100));
    for _ in 0..400 {
        world.draw = world.draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        world.start(json!(1));
    }
    let counts = counts(&world);
    assert!(counts.len() == 8 && counts.iter().all(|(_, count)| (15..=100).contains(count)), "{counts:?}");
    assert!(counts.iter().any(|(_, count)| *count != 50), "nobody balances: {counts:?}");
    world.assert_replays(Settings::default());
}

#[test]
fn locality_follows_what_a_task_depends_on_as_long_as_there_is_room() {
    let mut world = World::new();
    world.workflow(json!([
        job_with("a", &[], json!({"placement": {"strategy": "round_robin"}})),
        job_with("b", &["a"], json!({"placement": {"strategy": "locality"}})),
    ]));
    (1..=3).for_each(|number| _ = world.worker_up(number, 2));
    for _ in 0..3 {
        world.start(json!({}));
    }
    for _ in 0..3 {
        let a = world.take("a");
        world.report(&a, completed(json!(1)));
        assert_eq!(world.inbox.last().map(|b| (&*b.task_id, b.worker)), Some(("b", a.worker)));
    }
    // Its worker has no credit left: the least loaded of the others.
    world.start(json!({}));
    let a = world.take("a");
    let number = (1..=3).find(|number| worker(*number) == a.worker).unwrap();
    world.report_with(&a, completed(json!(1)), false);
    assert_ne!(world.inbox.last().unwrap().worker, worker(number));
}
