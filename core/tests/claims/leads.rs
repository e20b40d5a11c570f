//! Leads that move: a worker that comes while a lead is handed over serves whoever leads in the end, and what a former leader had to say
//! is not said under the next one.

use distric_core::node::peer::PeerLetter;
use distric_model::{GroupId, MessageId};
use distric_raft::Body;
use distric_wire::client::{Command, CommandKind};

use crate::claims::three_nodes::{Wanderer, cluster};
use crate::world::node::Letter;
use crate::world::{Fate, World, diligent, keyed};

/// Asks for the lead of a group on another node.
fn move_lead(world: &mut World, group: u32, from: usize, to: usize) {
    let (name, target) = (group.to_string(), world.nodes[to].id.uuid());
    let command = Command { kind: CommandKind::TransferLeader.number(), name: Some(&name), id: Some(target), ..Command::default() };
    let client = world.stranger(from, 0);
    world.send(client, &crate::world::hello());
    world.send(client, &command);
}

fn leader(world: &World, group: u32) -> usize {
    (0..3).find(|node| world.nodes[*node].leads().contains(&GroupId(group))).expect("somebody leads")
}

/// Whether a message's home is group 1 of two.
fn is_of_group_1(message: uuid::Uuid) -> bool {
    MessageId::from_uuid(message).is_ok_and(|id| distric_core::node::group_of(id.slot(), 2) == GroupId(1))
}

#[test]
fn a_worker_that_comes_while_a_transfer_fails_gets_work_from_the_leader_that_stays() {
    for (seed, shards) in [(1, 1), (2, 3), (3, 1)] {
        let mut world = cluster(seed, shards);
        let stays = leader(&world, 1);
        let term = world.nodes[stays].led();
        world.meddle = Some(Box::new(|letter| match letter {
            Letter::Peer(PeerLetter::Raft(_, message)) if message.body == Body::TimeoutNow => Fate::IsLost,
            _ => Fate::Arrives,
        }));
        move_lead(&mut world, 1, stays, (stays + 1) % 3);
        world.run_ms(20);
        let worker = world.worker_of(stays, 0, &["job"], diligent(5));
        world.until(2_000, "the worker is welcome", |world| world.workers[worker].is_welcome());
        world.run_ms(2_000);
        assert_eq!(world.nodes[stays].led(), term, "the transfer was given up and the lead went on, seed {seed}");
        let mut wanderer = Wanderer::new(stays);
        let mut asked = 0;
        for n in 0..12 {
            let response = wanderer.submit(&mut world, &keyed("order", "{}", &format!("k{n}")));
            if is_of_group_1(response.message_id) {
                asked += 1;
                let client = world.client_of(stays, 0);
                let view = world.ended(client, response.instances[0], 5_000);
                assert_eq!((&view["status"], &view["tasks"][0]["attempt"]), (&"completed".into(), &1.into()), "seed {seed}: {view:#}");
            }
        }
        assert!(asked > 0, "some message's home is group 1");
    }
}

#[test]
fn leads_that_go_round_while_workers_come_and_go_leave_no_task_behind() {
    for seed in 0..60 {
        let mut world = cluster(seed, if seed % 2 == 0 { 1 } else { 3 });
        for node in 0..3 {
            world.worker_of(node, 0, &["job"], diligent(5));
        }
        world.run_ms(300);
        let mut wanderer = Wanderer::new(0);
        let mut instances = Vec::new();
        for n in 0..24 {
            instances.extend(wanderer.submit(&mut world, &keyed("order", "{}", &format!("k{n}"))).instances);
            let group = 1 + world.draw(2) as u32;
            if let Some(from) = (0..3).find(|node| world.nodes[*node].leads().contains(&GroupId(group))) {
                let to = (from + 1 + world.draw(2) as usize) % 3;
                // The worker of the leader, or of the one that is to follow, comes at the same moment.
                let comes = if world.draw(2) == 0 { from } else { to };
                move_lead(&mut world, group, from, to);
                let steps = world.draw(200);
                world.steps(steps);
                let mono = world.mono;
                world.workers[comes].dial_again(mono);
                let steps = world.draw(120);
                world.steps(steps);
                if world.draw(3) == 0 {
                    world.cut = vec![(from, to)];
                    world.run_ms(300);
                    world.cut.clear();
                }
            }
        }
        world.run_ms(5_000);
        for instance in instances {
            let client = world.client_of(0, 0);
            // Less than a task's patience with its worker, 30 s: nothing may wait for that to end.
            let view = world.ended(client, instance, 20_000);
            assert_eq!(view["status"], "completed", "seed {seed}: {view:#}");
        }
    }
}

/// The worker follows the lead; a drain outlives its session. What its group then says of it on this node.
fn status_at_the_leader(world: &mut World, node: usize, worker: usize) -> Vec<&'static str> {
    let mono = world.mono;
    world.workers[worker].node = leader(world, 1);
    world.workers[worker].dial_again(mono);
    world.run_ms(1_000);
    world.machine(node, 1).workers_view().iter().map(|view| view.status).collect()
}

#[test]
fn a_drain_that_meets_a_lead_on_the_move_is_not_lost() {
    for seed in 0..40 {
        let mut world = cluster(seed, if seed % 2 == 0 { 1 } else { 3 });
        let (from, shard) = (leader(&world, 1), 0);
        let to = (from + 1) % 3;
        let worker = world.worker_of(from, shard, &["job"], diligent(5));
        world.run_ms(500);
        let client = world.client_of(from, 0);
        move_lead(&mut world, 1, from, to);
        let steps = world.draw(120);
        world.steps(steps);
        let id = Some(world.workers[worker].id.uuid());
        let drain = Command { kind: CommandKind::DrainWorker.number(), id, ..Command::default() };
        world.ask(client, &drain).reply();
        world.run_ms(1_000);
        assert_eq!(status_at_the_leader(&mut world, from, worker), ["draining"], "seed {seed}");
    }
}

#[test]
fn a_drain_that_meets_no_lead_for_long_is_put_again_and_the_last_word_counts() {
    for (seed, words) in [(1, &[true][..]), (2, &[true, false]), (3, &[true, false, true])] {
        let mut world = cluster(seed, 2);
        let from = leader(&world, 1);
        let worker = world.worker_of(from, 0, &["job"], diligent(5));
        world.run_ms(500);
        let client = world.client_of(from, 0);
        let others = [(from + 1) % 3, (from + 2) % 3];
        others.iter().for_each(|other| world.crash(*other));
        world.run_ms(2_000);
        let id = Some(world.workers[worker].id.uuid());
        for drain in words {
            let kind = if *drain { CommandKind::DrainWorker } else { CommandKind::UndrainWorker };
            world.ask(client, &Command { kind: kind.number(), id, ..Command::default() }).reply();
            // Longer than a proposal is held for a leader, so that they meet.
            world.run_ms(7_000);
        }
        others.iter().for_each(|other| world.start(*other));
        world.run_ms(8_000);
        let status = status_at_the_leader(&mut world, from, worker);
        assert_eq!((status.len(), status[0] == "draining"), (1, *words.last().unwrap()), "seed {seed}: {status:?}");
    }
}

#[test]
fn a_new_leader_tells_what_waits_once_its_group_is_welcome() {
    for seed in 0..20 {
        let shards = if seed % 2 == 0 { 1 } else { 3 };
        let mut world = cluster(seed, shards);
        // Nobody runs these, so that they wait; the workers hear of it, and would bring their credit there.
        let mut workers: Vec<usize> = (0..3).map(|node| world.worker_of(node, 0, &["other"], diligent(5))).collect();
        workers.extend((0..3).map(|node| world.worker_of(node, shards - 1, &["other"], diligent(5))));
        world.run_ms(500);
        let mut wanderer = Wanderer::new(0);
        let mut waiting = 0;
        for n in 0..6 {
            waiting += u32::from(is_of_group_1(wanderer.submit(&mut world, &keyed("order", "{}", &format!("k{n}"))).message_id));
        }
        assert!(waiting > 0, "some message's home is group 1");
        let from = leader(&world, 1);
        // There and back again: what was said under an earlier lead is forgotten with its session.
        for (from, to) in [(from, (from + 1) % 3), ((from + 1) % 3, from)] {
            move_lead(&mut world, 1, from, to);
            world.until(5_000, "the lead moves", |world| world.nodes[to].leads().contains(&GroupId(1)));
            world.run_ms(1_000);
            for worker in workers.iter().map(|worker| &world.workers[*worker]).filter(|worker| worker.node == to) {
                assert_eq!(worker.backlogs.get(&1), Some(&waiting), "seed {seed}, a worker of shard {}", worker.shard);
            }
        }
    }
}
