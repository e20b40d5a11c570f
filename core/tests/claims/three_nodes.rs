//! Three nodes: every group has one leader, replicas agree, and a message is in exactly once whoever dies.

use std::collections::BTreeMap;

use distric_model::GroupId;
use distric_wire::Code;
use distric_wire::client::{Command, CommandKind, Submit};

use crate::world::said::Response;
use crate::world::{ClientId, RULES, Said, Setup, WORKFLOWS, World, catalog_body, hello, keyed};

/// Three nodes of two work groups with one rule and one workflow.
pub fn cluster(seed: u64, shards: usize) -> World {
    let mut world = World::new(Setup { nodes: 3, work_groups: 2, ..Setup::of(seed, shards) });
    let body = catalog_body(Some(RULES), Some(WORKFLOWS));
    let apply = Command { kind: CommandKind::ApplyCatalog.number(), body: Some(body.as_bytes()), ..Command::default() };
    // Whichever node is asked brings it to the leader.
    let node = world.draw(3) as usize;
    let client = world.client_of(node, 0);
    match world.ask(client, &apply) {
        Said::Reply(reply) => assert_eq!(reply.version, Some(1)),
        other => panic!("node {node}: {other:?}"),
    }
    world.run_ms(1_000);
    world
}

/// A client that goes from node to node until one takes its message; the key makes that safe.
pub struct Wanderer {
    clients: BTreeMap<usize, ClientId>,
    pub at: usize,
}

impl Wanderer {
    pub fn new(at: usize) -> Self {
        Self { clients: BTreeMap::new(), at }
    }

    /// A connection to the present node, if it can be had.
    fn connection(&mut self, world: &mut World) -> Option<ClientId> {
        let node = self.at;
        if let Some(client) = self.clients.get(&node).copied().filter(|client| world.clients[*client].is_open) {
            return Some(client);
        }
        world.nodes[node].life.as_ref()?;
        let client = world.stranger(node, 0);
        matches!(world.ask(client, &hello()), Said::Welcome { .. }).then(|| {
            self.clients.insert(node, client);
            client
        })
    }

    #[track_caller]
    pub fn submit(&mut self, world: &mut World, submit: &Submit<'_>) -> Response {
        for turn in 0..2_000 {
            if let Some(client) = self.connection(world) {
                match world.ask(client, &Submit { resend: turn > 0, ..*submit }) {
                    Said::Response(response) => return response,
                    Said::Rejection(refused) => assert!(
                        matches!(refused.code, Code::WrongLeader | Code::Unavailable | Code::OutcomeUnknown | Code::Overloaded),
                        "{refused:?}"
                    ),
                    Said::Gone => {}
                    other => panic!("{other:?}"),
                }
            }
            self.at = (self.at + 1) % 3;
            world.run_ms(20);
        }
        panic!("no node takes the message (seed {})", world.setup.seed);
    }
}

/// All replicas of all groups have the same log and the same state; returns how many instances were started.
#[track_caller]
fn check_agreement(world: &mut World) -> u64 {
    world.run_ms(3_000);
    let mut started = 0;
    for group in 1..=2 {
        let machines: Vec<_> = (0..3).map(|node| world.machine(node, group)).collect();
        for machine in &machines[1..] {
            assert_eq!(machine.applied_index(), machines[0].applied_index(), "group {group}, seed {}", world.setup.seed);
            assert_eq!(machine.digest(), machines[0].digest(), "group {group}, seed {}", world.setup.seed);
        }
        started += machines[0].stats().instances_started_count;
        // The shards of all three applied it as well, followers too.
        for node in 0..3 {
            let stats = world.nodes[node].stats();
            let applied = stats.iter().flat_map(|shard| &shard.machines).find(|(found, _)| found.0 == group).expect("every node has it");
            assert_eq!(applied.1.instances_started_count, machines[0].stats().instances_started_count);
        }
        let leaders = (0..3).filter(|node| world.nodes[*node].leads().contains(&GroupId(group))).count();
        assert_eq!(leaders, 1, "group {group}");
    }
    started
}

#[test]
fn three_replicas_agree() {
    for (seed, shards) in [(1, 1), (2, 3), (3, 1)] {
        let mut world = cluster(seed, shards);
        world.loss_percent = 5;
        let mut wanderer = Wanderer::new(0);
        for n in 0..40 {
            assert!(wanderer.submit(&mut world, &keyed("order", "{}", &format!("k{n}"))).instances.len() == 1);
        }
        world.loss_percent = 0;
        assert_eq!(check_agreement(&mut world), 40);
    }
}

#[test]
fn a_leader_that_dies_is_replaced_and_every_key_is_in_once() {
    for seed in 0..40 {
        let mut world = cluster(seed, if seed % 2 == 0 { 1 } else { 3 });
        let mut wanderer = Wanderer::new(0);
        let mut acknowledged = BTreeMap::new();
        let mut down: Option<usize> = None;
        for n in 0..30 {
            let key = format!("k{n}");
            let response = wanderer.submit(&mut world, &keyed("order", "{}", &key));
            acknowledged.insert(key, response);
            if n % 6 == 2 {
                if let Some(node) = down.take() {
                    world.start(node);
                    world.run_ms(2_000);
                }
                // Whoever leads a group dies in the middle of the next message.
                let group = GroupId(1 + n % 2);
                let leader = (0..3).find(|node| world.nodes[*node].leads().contains(&group)).expect("somebody leads");
                wanderer.at = leader;
                if let Some(client) = wanderer.connection(&mut world) {
                    world.send(client, &keyed("order", "{}", &format!("k{}", n + 1)));
                }
                let steps = world.draw(60);
                world.steps(steps);
                let kept = world.draw(3) as usize;
                world.crash_keeping(leader, kept);
                down = Some(leader);
            }
        }
        if let Some(node) = down {
            world.start(node);
        }
        world.run_ms(2_000);
        for (key, first) in &acknowledged {
            let again = wanderer.submit(&mut world, &Submit { resend: true, ..keyed("order", "{}", key) });
            assert_eq!((again.message_id, &again.instances), (first.message_id, &first.instances), "{key}, seed {seed}");
        }
        assert_eq!(check_agreement(&mut world), 30, "seed {seed}");
    }
}

#[test]
fn a_minority_acknowledges_nothing_and_heals() {
    for seed in 20..26 {
        let mut world = cluster(seed, 1);
        let mut wanderer = Wanderer::new(0);
        wanderer.submit(&mut world, &keyed("order", "{}", "before"));
        let lonely = (0..3).find(|node| world.nodes[*node].leads().contains(&GroupId(1))).expect("somebody leads");
        let others: Vec<usize> = (0..3).filter(|node| *node != lonely).collect();
        let stuck = world.client_of(lonely, 0);
        world.cut = others.iter().map(|other| (lonely, *other)).collect();
        let ids: Vec<u64> = (0..10).map(|n| world.send(stuck, &keyed("order", "{}", &format!("k{n}")))).collect();
        world.run_ms(12_000);
        for id in ids {
            let code = world.took(stuck, id).expect("an answer within the node's patience").code();
            assert!(matches!(code, Code::OutcomeUnknown | Code::WrongLeader | Code::Unavailable), "{code}");
        }
        wanderer.at = others[0];
        for n in 0..10 {
            wanderer.submit(&mut world, &keyed("order", "{}", &format!("k{n}")));
        }
        world.cut.clear();
        world.run_ms(3_000);
        assert_eq!(check_agreement(&mut world), 11, "seed {seed}");
    }
}
