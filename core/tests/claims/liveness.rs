//! Liveness: what gossip says about a worker counts only together with its stream, and nothing counts but through the log.

use distric_core::node::shard::{WORKER_GRACE_LIVE_MS, WORKER_GRACE_MS, WORKER_LOAD_LASTS_MS};
use distric_gossip::{Load, State};
use distric_wire::task::Verdict;

use crate::world::{ClientId, Ending, RULES, Setup, WORKFLOWS, World, diligent, holding, message};

/// A world with a worker that holds five tasks, and one that does what it gets.
fn holding_five(setup: Setup) -> (World, ClientId, usize, usize, Vec<uuid::Uuid>) {
    let mut world = World::new(setup);
    let client = world.client(0);
    world.apply(client, Some(RULES), Some(WORKFLOWS));
    let held = world.worker(0, &["job"], holding());
    let ids: Vec<u64> = (0..5).map(|_| world.send(client, &message("order", "{}"))).collect();
    let instances = ids.into_iter().map(|id| world.answer(client, id).response().instances[0]).collect();
    world.until(5_000, "tasks run", |world| world.workers[held].running().len() == 5);
    let other = world.worker(world.setup.shards - 1, &["job"], diligent(10));
    world.run_ms(200);
    (world, client, held, other, instances)
}

fn setups() -> [Setup; 2] {
    [Setup::of(71, 1), Setup::of(72, 3)]
}

#[test]
fn a_worker_that_both_witnesses_miss_loses_its_tasks_at_once_and_its_late_results_are_stale() {
    for setup in setups() {
        let (mut world, client, held, other, instances) = holding_five(setup);
        world.workers[held].reconnects = false;
        world.gossip(&[(held, State::Alive)]);
        world.run_ms(10);
        world.break_worker(held);
        world.run_ms(500);
        assert_eq!(world.workers[other].assignments.len(), 0, "gossip has not said anything against it");
        world.gossip(&[(held, State::Dead)]);
        world.run_ms(500);
        assert_eq!(world.workers[other].assignments.len(), 5);
        for instance in &instances {
            assert_eq!(world.ended(client, *instance, 1_000)["status"], "completed");
        }
        for key in world.workers[held].running() {
            world.finish(held, key, Ending::Done(0, "{}".to_owned()));
        }
        world.workers[held].come_back(world.mono);
        world.until(10_000, "late results are answered", |world| world.workers[held].acks.len() >= 5);
        assert!(world.workers[held].acks.iter().all(|(_, verdict)| *verdict == Verdict::Stale.number()));
        assert_eq!(world.count(|stats| stats.instances_completed_count), 5);
    }
}

#[test]
fn a_verdict_that_was_there_first_makes_a_broken_stream_final() {
    for setup in setups() {
        let (mut world, _, held, other, _) = holding_five(setup);
        world.workers[held].reconnects = false;
        world.gossip(&[(held, State::Dead)]);
        world.break_worker(held);
        world.run_ms(300);
        assert_eq!(world.workers[other].assignments.len(), 5);
    }
}

#[test]
fn a_worker_that_gossip_holds_alive_has_longer_to_come_back_but_not_for_ever() {
    for setup in setups() {
        let (mut world, _, held, other, _) = holding_five(setup);
        world.workers[held].reconnects = false;
        world.gossip(&[(held, State::Suspect)]);
        world.run_ms(10);
        world.break_worker(held);
        world.run_ms(2 * WORKER_GRACE_MS);
        assert_eq!((world.workers[other].assignments.len(), world.logged("worker_down")), (0, 0));
        world.run_ms(WORKER_GRACE_LIVE_MS);
        assert_eq!(world.workers[other].assignments.len(), 5);
    }
}

#[test]
fn a_stream_that_speaks_outweighs_gossip() {
    for setup in setups() {
        let (mut world, client, held, _, instances) = holding_five(setup);
        world.gossip(&[(held, State::Dead)]);
        world.run_ms(2 * WORKER_GRACE_MS);
        assert_eq!(world.logged("worker_down"), 0);
        for key in world.workers[held].running() {
            world.finish(held, key, Ending::Done(0, "{}".to_owned()));
        }
        for instance in &instances {
            assert_eq!(world.ended(client, *instance, 5_000)["tasks"][0]["attempt"], 1);
        }
    }
}

/// Gossip samples loads all the time; the log hears of a level that lasts, once, and of its end.
#[test]
fn a_computer_that_stays_busy_is_told_to_the_log_once_and_a_peak_is_not() {
    for setup in setups() {
        let (mut world, _, held, other, _) = holding_five(setup);
        let for_a_while = |world: &mut World, ms: u64, cpu: u16| {
            for _ in 0..ms / 1_000 {
                let load = |cpu_permille| Load { cpu_permille, ..Load::default() };
                world.gossip_with_loads(&[(held, State::Alive, load(cpu)), (other, State::Alive, load(100))]);
                world.run_ms(1_000);
            }
            world.logged("worker_load")
        };
        let groups = world.setup.work_groups as usize;
        assert_eq!(for_a_while(&mut world, WORKER_LOAD_LASTS_MS - 2_000, 990), 0, "it may be a peak");
        assert_eq!(for_a_while(&mut world, 2_000, 100), 0, "it was one");
        assert_eq!(for_a_while(&mut world, WORKER_LOAD_LASTS_MS + 2_000, 990), groups, "each group hears of it");
        assert_eq!(for_a_while(&mut world, 3 * WORKER_LOAD_LASTS_MS, 970), groups, "nothing is new about that");
        assert_eq!(for_a_while(&mut world, WORKER_LOAD_LASTS_MS + 2_000, 100), 2 * groups, "it is quiet again");
        for group in 1..=world.setup.work_groups {
            let machine = world.machine(0, group);
            let generation = machine.worker_generation(world.workers[held].id).expect("it is up");
            assert_eq!(machine.worker_busy(world.workers[held].id, generation), Some(0));
        }
    }
}
