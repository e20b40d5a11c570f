//! Definitions: they go before their first use, once per group, and an instance keeps its own.

use std::collections::BTreeSet;

use distric_core::node::peer::PeerLetter;
use distric_exec::Command;
use distric_model::GroupId;
use distric_wire::client::QueryKind;

use crate::claims::three_nodes::cluster;
use crate::world::node::Letter;
use crate::world::{Fate, RULES, Setup, WORKFLOWS, World, diligent, holding, message};

#[test]
fn a_definition_is_in_each_groups_log_once_and_before_the_first_message_that_uses_it() {
    for (seed, shards) in [(1, 1), (2, 1), (3, 3), (4, 3)] {
        let mut world = World::new(Setup::of(seed, shards));
        let clients: Vec<usize> = (0..shards).map(|shard| world.client(shard)).collect();
        world.apply(clients[0], Some(RULES), Some(WORKFLOWS));
        let mut sent = Vec::new();
        for n in 0..200 {
            let client = clients[n % shards];
            sent.push((client, world.send(client, &message("order", "{}"))));
        }
        for (client, id) in sent {
            assert_eq!(world.answer(client, id).response().outcome, 1);
        }
        for group in 1..=4 {
            let log = world.log(0, group);
            let defines = log.iter().filter(|(_, command)| matches!(command, Command::Define(_))).count();
            assert!(defines >= 1 && defines <= shards, "group {group}: {defines} definitions by {shards} shards");
        }
        assert_eq!(world.count(|stats| stats.instances_started_count), 200);
    }
}

#[test]
fn a_workflow_that_changes_between_two_messages_leaves_the_running_instance_alone() {
    for (seed, shards) in [(5, 1), (6, 3)] {
        let mut world = World::new(Setup::of(seed, shards));
        let client = world.client(0);
        world.apply(client, Some(RULES), Some(WORKFLOWS));
        let held = world.worker(0, &["job"], holding());
        let first = world.ask(client, &message("order", "{}")).response().instances[0];
        world.until(5_000, "the task runs", |world| !world.workers[held].running().is_empty());
        let second_version = "workflow: { id: ship, tasks: [{ id: pack, type: job }, { id: send, type: job, depends_on: [pack] }] }";
        assert_eq!(world.apply(client, None, Some(second_version)), 2);
        let second = world.ask(client, &message("order", "{}")).response().instances[0];
        let version = |world: &mut World, id| world.look(client, QueryKind::Instance, Some(id))["version"].as_u64().unwrap();
        assert_eq!((version(&mut world, first), version(&mut world, second)), (1, 2));
        world.restart(0);
        let client = world.client(0);
        world.until(5_000, "the worker is back", |world| world.workers[held].is_welcome());
        world.workers[held].habit = diligent(1);
        for key in world.workers[held].running() {
            world.finish(held, key, crate::world::Ending::Done(0, "{}".to_owned()));
        }
        assert_eq!(world.ended(client, first, 10_000)["tasks"].as_array().unwrap().len(), 1);
        world.until(5_000, "both instances run", |world| !world.workers[held].running().is_empty() || world.workers[held].acks.len() >= 3);
        for key in world.workers[held].running() {
            world.finish(held, key, crate::world::Ending::Done(0, "{}".to_owned()));
        }
        assert_eq!(world.ended(client, second, 10_000)["tasks"].as_array().unwrap().len(), 2);
        let versions: BTreeSet<u64> = world.workers[held].assignments.iter().map(|assigned| assigned.workflow_version).collect();
        assert_eq!(versions, BTreeSet::from([1, 2]));
    }
}

#[test]
fn a_definition_that_is_lost_on_its_way_is_sent_again_and_no_message_is_refused_for_it() {
    for seed in 0..6 {
        let mut world = cluster(seed, 1);
        let leads = |node: usize| world.nodes[node].leads().len();
        // From a node that leads nothing, whatever is proposed goes to another one.
        let from = (0..3).min_by_key(|node| leads(*node)).expect("there are three");
        let away: Vec<u32> = (1..=2).filter(|group| !world.nodes[from].leads().contains(&GroupId(*group))).collect();
        let mut lost = 0;
        world.meddle = Some(Box::new(move |letter| match letter {
            Letter::Peer(PeerLetter::Propose(forwarded))
                if lost < 3 && matches!(Command::decode(&forwarded.command), Ok(Command::Define(_))) =>
            {
                lost += 1;
                Fate::IsLost
            }
            _ => Fate::Arrives,
        }));
        let client = world.client_of(from, 0);
        let before: u64 = away.iter().map(|group| world.log(from, *group).len() as u64).sum();
        for _ in 0..8 {
            assert_eq!(world.ask(client, &message("order", "{}")).response().outcome, 1, "seed {seed}");
        }
        let entries: u64 = away.iter().map(|group| world.log(from, *group).len() as u64).sum::<u64>() - before;
        assert!(entries < 100, "seed {seed}: {entries} entries for eight messages");
    }
}

#[test]
fn a_single_task_brings_its_own_definition() {
    use distric_wire::client::{Command, CommandKind};
    let mut world = World::new(Setup::of(8, 3));
    let client = world.client(1);
    world.worker(0, &["resize"], diligent(3));
    let start = Command {
        kind: CommandKind::StartTask.number(),
        name: Some("resize"),
        body: Some(br#"{"config":{"width":10},"input":{"url":"x"}}"#),
        ..Command::default()
    };
    let instance = world.ask(client, &start).reply().body["instance"].as_str().unwrap().parse().unwrap();
    assert_eq!(world.ended(client, instance, 10_000)["status"], "completed");
    let assigned = &world.workers[0].assignments[0];
    assert_eq!((&assigned.config["width"], &assigned.input["url"]), (&10.into(), &"x".into()));
}

const CALLING: &str = "
workflows:
  - { id: ship, tasks: [{ id: pack, type: for_each, config: { items: [1, 2, 3], workflow: packing } }], on_failure: { workflow: help } }
  - { id: packing, tasks: [{ id: wrap, type: job }, { id: deep, type: sub_workflow, config: { workflow: deeper } }] }
  - { id: deeper, tasks: [{ id: dig, type: job }] }
  - { id: help, tasks: [{ id: tell, type: job }] }
";

#[test]
fn what_a_workflow_may_call_is_defined_before_it_and_pinned_at_its_start() {
    for (seed, shards) in [(11, 1), (12, 3)] {
        let mut world = World::new(Setup::of(seed, shards));
        let client = world.client(0);
        assert_eq!(world.apply(client, Some(RULES), Some(CALLING)), 1);
        let held = world.worker(0, &["job"], holding());
        let first = world.ask(client, &message("order", "{}")).response().instances[0];
        world.until(5_000, "tasks of all items run", |world| world.workers[held].running().len() >= 3);
        assert_eq!(world.apply(client, None, Some(&CALLING.replace("wrap", "box"))), 2);
        world.workers[held].habit = diligent(1);
        for key in world.workers[held].running() {
            world.finish(held, key, crate::world::Ending::Done(0, "{}".to_owned()));
        }
        let view = world.ended(client, first, 10_000);
        assert_eq!((&view["status"], &view["tasks"][0]["rounds"]["completed"]), (&"completed".into(), &3.into()));
        let second = world.ask(client, &message("order", "{}")).response().instances[0];
        assert_eq!(world.ended(client, second, 10_000)["status"], "completed");
        let assigned: BTreeSet<(String, u64)> =
            world.workers[held].assignments.iter().map(|assigned| (assigned.workflow.clone(), assigned.workflow_version)).collect();
        let expected = [("packing", 1), ("packing", 2), ("deeper", 1)];
        assert_eq!(assigned, expected.iter().map(|(workflow, version)| ((*workflow).to_owned(), *version)).collect());
    }
}
