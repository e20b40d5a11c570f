//! Workers: sessions, credit, assignments, results, and what happens when any of them is lost.

use std::collections::BTreeSet;

use distric_core::node::shard::WORKER_GRACE_MS;
use distric_model::WorkerId;
use distric_wire::Code;
use distric_wire::client::{Command, CommandKind, QueryKind};
use distric_wire::task::{Verdict, WorkerHello};

use crate::world::{ClientId, Ending, Key, RULES, Said, Setup, WORKFLOWS, World, diligent, holding, message};

const ACCEPTED: u8 = Verdict::Accepted.number();
const STALE: u8 = Verdict::Stale.number();

fn serving(setup: Setup) -> (World, ClientId) {
    let mut world = World::new(setup);
    let client = world.client(0);
    world.apply(client, Some(RULES), Some(WORKFLOWS));
    (world, client)
}

fn both(seed: u64) -> [Setup; 3] {
    [Setup::of(seed, 1), Setup::of(seed, 3), Setup { is_fifo: true, ..Setup::of(seed, 3) }]
}

/// Starts so many instances.
fn start(world: &mut World, client: ClientId, count: usize) -> Vec<uuid::Uuid> {
    let ids: Vec<u64> = (0..count).map(|_| world.send(client, &message("order", "{}"))).collect();
    ids.into_iter().map(|id| world.answer(client, id).response().instances[0]).collect()
}

/// Verdicts on a worker's results.
fn verdicts(world: &World, worker: usize) -> Vec<u8> {
    world.workers[worker].acks.iter().map(|(_, verdict)| *verdict).collect()
}

#[test]
fn work_of_all_groups_is_done_and_confirmed() {
    for setup in both(31) {
        let (mut world, client) = serving(setup);
        let early = world.worker(0, &["job"], diligent(3));
        let instances = start(&mut world, client, 60);
        let late = world.worker(world.setup.shards - 1, &["job", "other"], diligent(2));
        let more = start(&mut world, client, 60);
        for instance in instances.iter().chain(&more) {
            assert_eq!(world.ended(client, *instance, 20_000)["status"], "completed");
        }
        world.run_ms(100);
        assert!([early, late].iter().all(|worker| verdicts(&world, *worker).iter().all(|verdict| *verdict == ACCEPTED)));
        let done: BTreeSet<Key> = world.workers.iter().flat_map(|worker| worker.acks.iter().map(|(key, _)| *key)).collect();
        assert_eq!((done.len(), world.workers.iter().map(|worker| worker.assignments.len()).sum::<usize>()), (120, 120));
        assert!(!world.workers[late].acks.is_empty(), "both work");
        assert_eq!((world.count(|stats| stats.tasks_assigned), world.count(|stats| stats.tasks_ready)), (0, 0));
    }
}

#[test]
fn a_worker_that_came_before_its_groups_gets_work_of_all_of_them() {
    for seed in 0..60 {
        let mut world = World::still(Setup::of(seed, 3));
        let worker = world.worker(2, &["job"], diligent(1));
        world.start(0);
        world.steps(seed);
        world.workers[worker].come_back(world.mono);
        world.until(10_000, "the node is ready", |world| world.nodes[0].is_ready());
        let client = world.client(0);
        world.apply(client, Some(RULES), Some(WORKFLOWS));
        for instance in start(&mut world, client, 40) {
            assert_eq!(world.ended(client, instance, 20_000)["status"], "completed");
        }
        for turn in 0..3 {
            world.crash(0);
            world.start(0);
            world.steps(seed + 20 * turn);
            world.workers[worker].come_back(world.mono);
            world.until(10_000, "the node is ready", |world| world.nodes[0].is_ready());
            let client = world.client(0);
            for instance in start(&mut world, client, 40) {
                assert_eq!(world.ended(client, instance, 20_000)["status"], "completed", "seed {seed}");
            }
        }
    }
}

#[test]
fn a_result_that_comes_twice_counts_once() {
    for setup in both(33) {
        let (mut world, client) = serving(setup);
        let worker = world.worker(0, &["job"], holding());
        let instance = start(&mut world, client, 1)[0];
        world.until(5_000, "the task runs", |world| !world.workers[0].running().is_empty());
        let key = world.workers[worker].running()[0];
        world.nodes[0].hold_flush = true;
        world.finish(worker, key, Ending::Done(0, r#"{"n":1}"#.to_owned()));
        world.run_ms(5_000);
        world.nodes[0].hold_flush = false;
        let view = world.ended(client, instance, 5_000);
        assert_eq!((&view["status"], &view["tasks"][0]["output"]["n"]), (&"completed".into(), &1.into()));
        world.run_ms(3_000);
        let verdicts = verdicts(&world, worker);
        assert!(verdicts.len() >= 2 && verdicts.iter().all(|verdict| *verdict == ACCEPTED), "sent again and again: {verdicts:?}");
        assert_eq!(world.count(|stats| stats.instances_completed_count), 1);
    }
}

#[test]
fn after_a_restart_running_tasks_go_on_unknown_ones_are_sent_again_and_results_count_once() {
    for setup in both(34) {
        let (mut world, client) = serving(setup);
        let shards = world.setup.shards;
        let faithful = world.worker(0, &["job"], holding());
        world.workers[faithful].slots = 12;
        let instances = start(&mut world, client, 12);
        world.until(5_000, "tasks run", |world| world.workers[faithful].running().len() == 12);
        let running: BTreeSet<Key> = world.workers[faithful].running().into_iter().collect();
        // One result is on its way when the node dies; its worker keeps it.
        world.nodes[0].hold_flush = true;
        let done = *running.first().unwrap();
        world.finish(faithful, done, Ending::Done(0, "{}".to_owned()));
        world.run_ms(20);
        world.workers[faithful].shard = shards - 1;
        world.restart(0);
        world.until(5_000, "the result is confirmed", |world| !world.workers[faithful].acks.is_empty());
        world.run_ms(1_000);
        assert_eq!(verdicts(&world, faithful), [ACCEPTED]);
        assert_eq!(world.workers[faithful].assignments.len(), 12, "nothing that runs is sent again");
        // The same process has forgotten some: they come again under the same tokens.
        let forgotten: Vec<Key> = world.workers[faithful].forget(3);
        world.restart(0);
        world.until(5_000, "they run again", |world| world.workers[faithful].running().len() == 11);
        assert_eq!(world.workers[faithful].assignments.len(), 15);
        let again: BTreeSet<Key> = world.workers[faithful].started[12..].iter().copied().collect();
        assert_eq!(again, forgotten.into_iter().collect());
        for key in world.workers[faithful].running() {
            world.finish(faithful, key, Ending::Done(0, "{}".to_owned()));
        }
        let client = world.client(0);
        for instance in instances {
            let view = world.ended(client, instance, 10_000);
            assert_eq!((&view["status"], &view["tasks"][0]["attempt"]), (&"completed".into(), &1.into()));
        }
    }
}

#[test]
fn a_worker_that_stays_away_loses_its_tasks_once_and_its_late_results() {
    for setup in both(35) {
        let (mut world, client) = serving(setup);
        let gone = world.worker(0, &["job"], holding());
        let instances = start(&mut world, client, 5);
        world.until(5_000, "tasks run", |world| world.workers[gone].running().len() == 5);
        world.workers[gone].reconnects = false;
        world.break_worker(gone);
        let other = world.worker(world.setup.shards - 1, &["job"], diligent(10));
        world.run_ms(WORKER_GRACE_MS - 500);
        assert_eq!(world.workers[other].assignments.len(), 0, "it may still come back");
        world.run_ms(1_000);
        for instance in &instances {
            let view = world.ended(client, *instance, 5_000);
            assert_eq!((&view["status"], &view["tasks"][0]["worker"]), (&"completed".into(), &world.workers[other].id.to_string().into()));
        }
        assert_eq!(world.workers[other].assignments.len(), 5);
        // It comes back with its results: they are stale, and it gets new work.
        for key in world.workers[gone].running() {
            world.finish(gone, key, Ending::Done(0, "{}".to_owned()));
        }
        world.workers[other].reconnects = false;
        world.workers[gone].come_back(world.mono);
        world.until(10_000, "late results are answered", |world| world.workers[gone].acks.len() >= 5);
        assert!(verdicts(&world, gone).iter().all(|verdict| *verdict == STALE), "{:?}", verdicts(&world, gone));
        world.break_worker(other);
        world.workers[gone].habit = diligent(1);
        let more = start(&mut world, client, 20);
        for instance in more {
            assert_eq!(world.ended(client, instance, 20_000)["status"], "completed");
        }
        assert_eq!(world.count(|stats| stats.instances_completed_count), 25);
    }
}

#[test]
fn a_worker_that_comes_back_in_time_keeps_its_tasks_on_any_shard() {
    for seed in 0..20 {
        let (mut world, client) = serving(Setup::of(seed, 3));
        let worker = world.worker(0, &["job"], holding());
        let other = world.worker(1, &["other"], holding());
        let instances = start(&mut world, client, 6);
        world.until(5_000, "tasks run", |world| world.workers[worker].running().len() == 6);
        for turn in 0..8 {
            world.workers[worker].shard = (turn * 2 + 1) % 3;
            if turn % 2 == 0 {
                world.break_worker(worker);
            } else {
                // It dials again before the old connection is known to be gone.
                world.workers[worker].dial_again(world.mono);
            }
            let pause = world.draw(400);
            world.run_ms(pause);
        }
        world.run_ms(2 * WORKER_GRACE_MS);
        assert_eq!((world.workers[worker].running().len(), world.workers[worker].assignments.len()), (6, 6));
        for key in world.workers[worker].running() {
            world.finish(worker, key, Ending::Done(0, "{}".to_owned()));
        }
        world.workers[worker].habit = diligent(1);
        let more = start(&mut world, client, 30);
        for instance in instances.iter().chain(&more) {
            let view = world.ended(client, *instance, 20_000);
            assert_eq!((&view["status"], &view["tasks"][0]["attempt"]), (&"completed".into(), &1.into()));
        }
        assert!(world.workers[other].is_welcome());
    }
}

#[test]
fn quick_reconnects_leave_no_group_without_its_worker() {
    for seed in 0..60 {
        let (mut world, client) = serving(Setup::of(seed, 3));
        let worker = world.worker(0, &["job"], diligent(1));
        world.run_ms(50);
        for turn in 0..4 {
            world.workers[worker].shard = turn % 3;
            world.workers[worker].dial_again(world.mono);
            let steps = world.draw(30);
            world.steps(steps);
        }
        world.run_ms(3 * WORKER_GRACE_MS);
        for instance in start(&mut world, client, 30) {
            assert_eq!(world.ended(client, instance, 5_000)["status"], "completed", "seed {seed}");
        }
    }
}

#[test]
fn a_new_process_of_a_worker_starts_over() {
    for setup in both(36) {
        let (mut world, client) = serving(setup);
        let worker = world.worker(0, &["job"], holding());
        let instances = start(&mut world, client, 4);
        world.until(5_000, "tasks run", |world| world.workers[worker].running().len() == 4);
        world.workers[worker].restart();
        world.workers[worker].habit = diligent(1);
        world.break_worker(worker);
        for instance in instances {
            assert_eq!(world.ended(client, instance, 5_000)["status"], "completed", "without waiting for the grace");
        }
        // The old process is not let in any more.
        let stranger = world.client(0);
        let id: WorkerId = world.workers[worker].id;
        let old = WorkerHello { worker_id: id.uuid(), generation: 1, name: "old", slots: 1, ..WorkerHello::default() };
        assert_eq!(world.ask(stranger, &old).code(), Code::Conflict);
    }
}

#[test]
fn a_silent_worker_is_hung_up_on_and_its_tasks_go_to_others() {
    for setup in both(37) {
        let (mut world, client) = serving(setup);
        let mute = world.worker(0, &["job"], holding());
        let instance = start(&mut world, client, 1)[0];
        world.until(5_000, "the task runs", |world| !world.workers[mute].running().is_empty());
        world.workers[mute].silent = true;
        world.workers[mute].reconnects = false;
        let at = world.mono;
        world.worker(world.setup.shards - 1, &["job"], diligent(1));
        assert_eq!(world.ended(client, instance, 20_000)["status"], "completed");
        let took_ms = world.mono.since_us(at) / 1_000;
        assert!(took_ms < 8_000, "{took_ms} ms until silence, grace and the task are over");
        assert_eq!(world.workers[mute].conn, None);
    }
}

#[test]
fn failed_attempts_are_tried_again_and_returned_ones_cost_nothing() {
    for setup in both(38) {
        let mut world = World::new(setup);
        let client = world.client(0);
        let retried =
            "workflow: { id: ship, tasks: [{ id: pack, type: job, retry: { max_attempts: 3, initial_backoff: 100ms, jitter: 0 } }] }";
        world.apply(client, Some(RULES), Some(retried));
        let mut turn = 0;
        let worker = world.worker(
            0,
            &["job"],
            Box::new(move |_| {
                turn += 1;
                match turn {
                    1 => Ending::Return,
                    2 | 3 => Ending::Fail(1, true),
                    _ => Ending::Done(1, "{}".to_owned()),
                }
            }),
        );
        let instance = start(&mut world, client, 1)[0];
        let view = world.ended(client, instance, 10_000);
        assert_eq!((&view["status"], &view["tasks"][0]["attempt"]), (&"completed".into(), &3.into()));
        let attempts: Vec<u32> = world.workers[worker].assignments.iter().map(|assigned| assigned.attempt).collect();
        assert_eq!(attempts, [1, 1, 2, 3]);
    }
}

#[test]
fn a_drained_worker_gets_nothing_new_until_it_is_undrained() {
    for setup in both(39) {
        let (mut world, client) = serving(setup);
        let worker = world.worker(world.setup.shards - 1, &["job"], diligent(1));
        world.run_ms(50);
        let id = Some(world.workers[worker].id.uuid());
        let drain = Command { kind: CommandKind::DrainWorker.number(), id, ..Command::default() };
        world.ask(client, &drain).reply();
        world.run_ms(50);
        assert!(world.workers[worker].drained);
        let instances = start(&mut world, client, 8);
        world.run_ms(500);
        assert_eq!(world.workers[worker].assignments.len(), 0);
        let rows = world.look(client, QueryKind::Workers, None);
        assert_eq!((rows["items"].as_array().unwrap().len(), &rows["items"][0]["status"]), (1, &"draining".into()));
        world.ask(client, &Command { kind: CommandKind::UndrainWorker.number(), ..drain }).reply();
        for instance in instances {
            assert_eq!(world.ended(client, instance, 5_000)["status"], "completed");
        }
        let nobody = Some(WorkerId::new(distric_model::Timestamp::from_us(5), distric_model::Slot::truncate(0), 99).uuid());
        assert_eq!(world.ask(client, &Command { id: nobody, ..drain }).code(), Code::NotFound);
    }
}

#[test]
fn a_cancelled_instance_stops_its_tasks_on_the_worker() {
    for setup in both(40) {
        let (mut world, client) = serving(setup);
        let worker = world.worker(world.setup.shards - 1, &["job"], holding());
        let instance = start(&mut world, client, 1)[0];
        world.until(5_000, "the task runs", |world| !world.workers[worker].running().is_empty());
        let cancel = Command { kind: CommandKind::CancelInstance.number(), id: Some(instance), ..Command::default() };
        world.ask(client, &cancel).reply();
        world.until(1_000, "the worker hears of it", |world| !world.workers[worker].cancelled.is_empty());
        world.run_ms(1_000);
        assert_eq!(world.look(client, QueryKind::Instance, Some(instance))["status"], "cancelled");
        assert_eq!(verdicts(&world, worker), [STALE]);
        world.workers[worker].habit = diligent(1);
        for instance in start(&mut world, client, 40) {
            assert_eq!(world.ended(client, instance, 5_000)["status"], "completed", "its credit is free again");
        }
    }
}

const SHORT: &str = "
workflow:
  id: ship
  tasks:
    - { id: pack, type: job, timeout: 500ms, retry: { max_attempts: 9, initial_backoff: 50ms, max_backoff: 50ms } }
";

/// Four attempts on four slots are lost with their stream, unknown to the worker, and time out `before_us` before it comes back.
#[track_caller]
fn comes_back_around_a_timeout(seed: u64, before_us: i64) {
    let mut world = World::new(Setup { work_groups: 1, ..Setup::of(seed, 1) });
    let client = world.client(0);
    world.apply(client, Some(RULES), Some(SHORT));
    let worker = world.worker(0, &["job"], holding());
    world.run_ms(50);
    let from = world.mono;
    let instances = start(&mut world, client, 4);
    world.until(400, "four attempts run", |world| world.workers[worker].running().len() == 4);
    world.workers[worker].reconnects = false;
    world.break_worker(worker);
    world.workers[worker].forget(4);
    world.workers[worker].habit = diligent(1);
    let back_us = (from.as_us() + 500_000).saturating_add_signed(before_us);
    let back = distric_model::Instant::from_us(back_us);
    world.workers[worker].reconnects = true;
    world.workers[worker].come_back(back);
    for instance in instances {
        let view = world.ended(client, instance, 5_000);
        assert_eq!(view["status"], "completed", "seed {seed}, back {before_us} us after the first timeout");
    }
}

#[test]
fn attempts_that_timed_out_while_their_worker_was_away_take_up_none_of_its_room() {
    (0..3).for_each(|seed| comes_back_around_a_timeout(seed, 300_000));
}

#[test]
fn nor_do_attempts_that_time_out_while_a_worker_comes_back() {
    for seed in 0..3 {
        (0..60).for_each(|step| comes_back_around_a_timeout(seed, step * 20 - 200));
    }
}

#[test]
fn a_worker_that_goes_before_it_is_known_is_given_up_all_the_same() {
    for seed in 0..3 {
        let mut world = World::new(Setup { work_groups: 1, ..Setup::of(seed, 1) });
        let client = world.client(0);
        world.apply(client, Some(RULES), Some(WORKFLOWS));
        world.nodes[0].hold_flush = true;
        let gone = world.worker(0, &["job"], holding());
        world.until(1_000, "the worker is welcome", |world| world.workers[gone].is_welcome());
        world.run_ms(20);
        world.workers[gone].reconnects = false;
        world.break_worker(gone);
        // Its time to come back is over before its introduction is durable.
        world.run_ms(WORKER_GRACE_MS + 1_000);
        world.nodes[0].hold_flush = false;
        world.run_ms(500);
        let rows = world.look(client, QueryKind::Workers, None);
        assert_eq!((rows["items"].as_array().unwrap().len(), &rows["items"][0]["status"]), (1, &"down".into()), "seed {seed}: {rows:#}");
    }
}

#[test]
fn workers_outlive_an_overloaded_log() {
    let flood = Setup { frames_in_flight_max: 1_000, bytes_in_flight_max: 1 << 40, work_groups: 1, ..Setup::of(41, 1) };
    let (mut world, client) = serving(flood);
    let large = format!("{}{}", " ".repeat(1_000_000), "{}");
    world.nodes[0].hold_flush = true;
    let mut full = Vec::new();
    for (count, bytes) in [(70, 1_000_000), (120, 10_000), (30, 1_000), (30, 10)] {
        full.extend((0..count).map(|_| world.send(client, &message("order", &large[large.len() - bytes..]))));
    }
    world.settle();
    // A worker opens its session while the log takes nothing.
    let worker = world.worker(0, &["job"], diligent(1));
    world.run_ms(1_000);
    world.nodes[0].hold_flush = false;
    let answers: Vec<Said> = full.into_iter().map(|id| world.answer(client, id)).collect();
    let accepted = answers.iter().filter(|said| matches!(said, Said::Response(_))).count() as u64;
    assert!(accepted > 0 && accepted < 250, "{accepted} accepted");
    world.run_ms(20_000);
    assert_eq!(world.count(|stats| stats.instances_completed_count), accepted);
    assert!(world.workers[worker].is_welcome());
}
