//! From group to group: what one workflow publishes starts another one exactly once, whatever is lost or doubled.

use distric_core::node::group_of;
use distric_core::node::letters::ShardLetter;
use distric_model::Slot;
use distric_wire::client::Submit;
use serde_json::Value;

use crate::world::node::Letter;
use crate::world::{ClientId, Fate, Setup, World, keyed};

const RULES: &str = "
rules:
  - { id: first, event_type: first, actions: [{ workflow: tell }] }
  - { id: second, event_type: second, actions: [{ workflow: hear }] }
";

const WORKFLOWS: &str = "
workflows:
  - id: tell
    tasks:
      - { id: publish, type: publish, config: { event_type: second, payload: { n: '${input.n}' }, routing_key: '${input.to}' } }
  - id: hear
    tasks:
      - { id: settle, type: wait, config: { duration: 1s } }
";

fn serving(setup: Setup) -> (World, ClientId) {
    let mut world = World::new(setup);
    let client = world.client(0);
    world.apply(client, Some(RULES), Some(WORKFLOWS));
    (world, client)
}

/// A key whose home is a group.
fn key_of(group: u32) -> String {
    let home = |key: &String| group_of(Slot::of("default", key.as_bytes()), 4).0 == group;
    (0..).map(|n| format!("key-{n}")).find(home).expect("keys spread over all groups")
}

fn payload(to: &str) -> String {
    format!(r#"{{"n":1,"to":"{to}"}}"#)
}

/// Waits for calm, and checks that either workflow ran to its end exactly once.
#[track_caller]
fn check_once(world: &mut World, client: ClientId, group: u32) {
    world.run_ms(12_000);
    for workflow in ["tell", "hear"] {
        let found = world.instances_of(client, workflow);
        let states: Vec<&Value> = found.iter().map(|row| &row["status"]).collect();
        assert_eq!(states, ["completed"], "{workflow} (seed {}): {found:#?}", world.setup.seed);
    }
    let homes: Vec<u32> = (1..=4).filter(|group| world.machine(0, *group).stats().instances_started_count > 0).collect();
    assert!(homes.contains(&group), "the published message went home");
    assert_eq!(world.count(|stats| stats.out_pending), 0);
}

#[test]
fn a_published_message_starts_one_instance_in_the_group_of_its_key() {
    for (seed, shards) in [(1, 1), (2, 3), (3, 3)] {
        for (from, to) in [(1, 2), (2, 3), (1, 4), (3, 3)] {
            let (mut world, client) = serving(Setup::of(seed, shards));
            world.ask(client, &keyed("first", &payload(&key_of(to)), &key_of(from))).response();
            check_once(&mut world, client, to);
        }
    }
}

#[test]
fn doubled_deliveries_and_lost_confirmations_change_nothing() {
    for seed in 0..10 {
        let (mut world, client) = serving(Setup::of(seed, 3));
        let mut lost = 2;
        world.meddle = Some(Box::new(move |letter| match letter {
            Letter::Shard(ShardLetter::OutAcked { .. }) if lost > 0 => {
                lost -= 1;
                Fate::IsLost
            }
            Letter::Shard(ShardLetter::Deliver { .. }) => Fate::ArrivesTwice,
            _ => Fate::Arrives,
        }));
        let id = world.send(client, &keyed("first", &payload(&key_of(2)), &key_of(1)));
        world.run_ms(50);
        world.meddle = None;
        world.answer(client, id).response();
        check_once(&mut world, client, 2);
    }
}

#[test]
fn a_lost_delivery_is_made_again() {
    for seed in 0..10 {
        let (mut world, client) = serving(Setup::of(seed, 3));
        let mut left = 2;
        world.meddle = Some(Box::new(move |letter| {
            if matches!(letter, Letter::Shard(ShardLetter::Deliver { .. })) && left > 0 {
                left -= 1;
                return Fate::IsLost;
            }
            Fate::Arrives
        }));
        world.ask(client, &keyed("first", &payload(&key_of(2)), &key_of(1))).response();
        check_once(&mut world, client, 2);
    }
}

/// Runs the short story, kills the node after `step` letters, and lets the client resend until it has its answer.
fn crash_at(setup: Setup, step: u64, kept: usize, to: u32) {
    let (mut world, client) = serving(setup);
    let (payload, key) = (payload(&key_of(to)), key_of(1));
    world.send(client, &keyed("first", &payload, &key));
    world.steps(step);
    world.crash_keeping(0, kept);
    world.start(0);
    world.until(10_000, "the node is ready again", |world| world.nodes[0].is_ready());
    let client = world.client(0);
    world.ask(client, &Submit { resend: true, ..keyed("first", &payload, &key) }).response();
    check_once(&mut world, client, to);
}

#[test]
fn a_node_that_dies_between_any_two_steps_delivers_once_all_the_same() {
    for step in 0..90 {
        crash_at(Setup { is_fifo: true, ..Setup::of(step, 3) }, step, 0, 2);
        crash_at(Setup { is_fifo: true, ..Setup::of(step, 1) }, step, 1, 3);
    }
    for seed in 0..120 {
        crash_at(Setup::of(seed, 3), seed % 80, seed as usize % 3, 2 + (seed as u32 % 3));
    }
}
