//! After the storm: everything heals but what is broken for ever, and every promise is looked at.

use std::collections::{BTreeMap, BTreeSet};

use distric_model::{GroupId, NodeId};
use distric_raft_store::{GroupWrite, LogStore};
use distric_wire::client::{Command, CommandKind, QueryKind};

use super::{CALM_MS, Change, GROUPS, NODES, Storm};
use crate::linear::is_linearizable;
use crate::world::{Said, diligent};

/// Commands of each group's log that are printed of a storm that left something undone.
const LOG_LINES: usize = 40;
/// One letter of a slow node travels in so many microseconds.
const SLOW_LETTER_US: u64 = 2_000;

/// What stays broken for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lasting {
    Down,
    Deaf,
    Mute,
    Slow,
}

impl Storm {
    /// The storm is over; in a part of the seeds one node stays broken for ever, and the others have to do without it.
    pub(super) fn calm(&mut self) {
        self.world.cut.clear();
        self.world.loss_percent = 0;
        let lasting = self.lasting();
        let lost = lasting.map(|(node, _)| node);
        let nodes = NODES + usize::from(self.change.is_some_and(|change| change.has_joined));
        let checkpoints = (0..nodes).flat_map(|node| (1..=GROUPS).map(move |group| (node, group)));
        let stored = |(node, group): &(usize, u32)| {
            distric_raft_store::StateStore::snapshot(&self.world.nodes[*node].states, GroupId(*group)).is_some()
        };
        for _ in 0..checkpoints.filter(stored).count() {
            self.met.note("checkpoint");
        }
        let leaves = self.change.filter(|change| change.is_asked || change.is_lost).map(|change| change.leaver);
        let living: Vec<usize> = (0..nodes).filter(|node| Some(*node) != lost && Some(*node) != leaves).collect();
        for node in 0..nodes {
            self.world.nodes[node].hold_flush = false;
            self.world.set_clock_rate(node, 1_000);
            self.restart(node);
        }
        if let Some((node, what)) = lasting {
            self.break_for_ever(node, what);
        }
        let now = self.world.mono;
        // A worker is served by the leaders on the node that it is connected to; a slow node may go on leading.
        let slow = lasting.filter(|(_, what)| *what == Lasting::Slow).map(|(node, _)| node);
        let serving: Vec<usize> = living.iter().copied().chain(slow).collect();
        for (number, worker) in self.world.workers.iter_mut().enumerate() {
            worker.silent = false;
            worker.habit = diligent(1);
            worker.node = serving[number % serving.len()];
            worker.dial_again(now);
        }
        let awake = living.clone();
        self.world.until(CALM_MS, "the nodes are ready", move |world| awake.iter().all(|node| world.nodes[*node].is_ready()));
        if let Some(change) = self.change.filter(|change| change.has_joined) {
            self.settle_members(change, &living);
        }
        self.world.run_ms(CALM_MS);
        self.collect();
        self.check_leaders();
        // Whatever became of a message, said again it is in, once.
        let client = self.world.client_of(living[1], 0);
        for key in self.sent.clone() {
            for turn in 0.. {
                assert!(turn < 50, "key {key} is not taken by a calm cluster");
                self.send(client, key);
                self.world.run_ms(20);
                self.collect();
                if self.acknowledged.contains_key(&key) && self.open.is_empty() {
                    break;
                }
                self.world.run_ms(200);
            }
        }
        self.world.run_ms(CALM_MS);
        self.collect();
        self.check_agreement(&living, slow);
        self.diary.note(&self.world, self.sent.len(), self.acknowledged.len(), "calm");
    }

    /// Who stays broken for ever, and how. Not where a founder goes for good already: the others are needed.
    fn lasting(&mut self) -> Option<(usize, Lasting)> {
        if self.change.is_some() {
            return None;
        }
        let what = match self.draw(9) {
            0 | 1 => Lasting::Down,
            2 => Lasting::Deaf,
            3 => Lasting::Mute,
            4 => Lasting::Slow,
            _ => return None,
        };
        Some((self.draw(NODES as u64) as usize, what))
    }

    fn break_for_ever(&mut self, node: usize, what: Lasting) {
        let others = (0..NODES).filter(|other| *other != node);
        let kind = match what {
            Lasting::Down => {
                self.crash(node);
                self.rot(node);
                "node down for ever"
            }
            Lasting::Deaf => {
                self.world.swallowed = others.map(|other| (other, node)).collect();
                "node deaf for ever"
            }
            Lasting::Mute => {
                self.world.swallowed = others.map(|other| (node, other)).collect();
                "node mute for ever"
            }
            Lasting::Slow => {
                self.world.nodes[node].letter_us = SLOW_LETTER_US;
                "node slow for ever"
            }
        };
        self.note(kind, &format!("{kind}: n{}", node + 1));
    }

    /// The operator sees the change of members through, and every group comes to the members that group 0 names.
    fn settle_members(&mut self, change: Change, living: &[usize]) {
        let goes = change.is_asked || change.is_lost;
        if goes {
            let id = Some(self.world.nodes[change.leaver].id.uuid());
            let remove = Command { kind: CommandKind::RemoveNode.number(), id, ..Command::default() };
            let client = self.world.client_of(living[0], 0);
            for turn in 0.. {
                match self.world.ask(client, &remove) {
                    Said::Reply(reply) if reply.body["removed"] == true => break,
                    Said::Rejection(refused) => assert!(turn < 50, "a calm cluster does not remove a node: {refused:?}"),
                    other => panic!("{other:?}"),
                }
                self.world.run_ms(200);
            }
        }
        let mut wanted: Vec<NodeId> = living.iter().map(|node| self.world.nodes[*node].id).collect();
        wanted.sort_unstable();
        let wanted = distric_raft::Membership::new(wanted, Vec::new()).expect("distinct voters");
        let awake = living.to_vec();
        self.world.until(CALM_MS, "every group has the members that group 0 names", move |world| {
            (0..=GROUPS).all(|group| awake.iter().all(|node| world.nodes[*node].members(GroupId(group)).as_ref() == Some(&wanted)))
        });
        if goes {
            // Nobody needs it any more.
            self.crash(change.leaver);
            self.note("node replaced", &format!("n{} has the place of n{}", NODES + 1, change.leaver + 1));
        }
    }

    /// The disk of a node that is down loses what it had promised to keep: the node must not start with that. Whole clusters of it do not lie.
    fn rot(&mut self, node: usize) {
        let group = GroupId(self.draw(u64::from(GROUPS) + 1) as u32);
        let store = &mut self.world.nodes[node].store;
        let Some((hard_state, last)) = store.durable(group) else { return };
        let base = store.base(group).unwrap_or_default().index;
        if !(hard_state.commit > base && hard_state.commit <= last.index) {
            return;
        }
        let cut = GroupWrite { group, truncate_from: Some(hard_state.commit), ..GroupWrite::default() };
        store.write(&[cut]).expect("memory takes every write");
        let refused = store.recover().expect_err("a log without a committed entry is no log to start with");
        self.note("disk rots", &format!("n{} would not start: {refused}", node + 1));
    }

    /// What each replica takes for its leader and its members.
    pub(super) fn nodes_in_the_end(&self) -> Vec<String> {
        let tell = |(number, node): (usize, &crate::world::node::Node)| {
            let groups = (0..=GROUPS).filter_map(|group| Some((group, node.status(GroupId(group))?)));
            let short = |id: NodeId| self.world.nodes.iter().position(|node| node.id == id).map_or(0, |at| at + 1);
            let groups: Vec<String> = groups
                .map(|(group, status)| {
                    let voters: Vec<usize> = status.membership.voters().iter().map(|id| short(*id)).collect();
                    let leader = status.leader.map(short);
                    let (term, last, commit) = (status.term, status.last, status.commit);
                    format!("{group}: leader {leader:?} term {term} voters {voters:?} last {last} committed {commit}")
                })
                .collect();
            format!("n{} {}\n  {}", number + 1, if node.is_ready() { "ready" } else { "not ready" }, groups.join("\n  "))
        };
        self.world.nodes.iter().enumerate().map(tell).collect()
    }

    /// The last commands of a group's log, and the workers as its machine knows them.
    fn end_of_log(&mut self, node: usize, group: u32) -> String {
        let log = self.world.log(node, group);
        let tail = &log[log.len().saturating_sub(LOG_LINES)..];
        let told: Vec<String> = tail
            .iter()
            .map(|(at, command)| format!("{:>6} {} {command:?}", at.index, at.stamp.as_us()))
            .map(|line| line.chars().take(160).collect())
            .collect();
        let workers: Vec<String> = self.world.machine(node, group).workers_view().iter().map(|view| format!("{view:?}")).collect();
        format!("group {group}:\n{}\n{}", told.join("\n"), workers.join("\n"))
    }

    /// Nothing is lost, doubled or left over, and the replicas are equal.
    fn check_agreement(&mut self, living: &[usize], slow: Option<usize>) {
        assert_eq!(self.acknowledged.len(), self.sent.len(), "everything that was sent is in");
        let mut instances: BTreeSet<uuid::Uuid> = BTreeSet::new();
        for (key, response) in &self.acknowledged {
            assert!(instances.insert(response.instances[0]), "key {key} shares its instance with another");
        }
        let client = self.world.client_of(living[0], 0);
        let rows = self.world.instances_of(client, "ship");
        assert_eq!(rows.len(), instances.len(), "an instance for every key, and none besides");
        let unfinished: Vec<&serde_json::Value> = rows.iter().filter(|row| row["ended_at_us"].is_null()).collect();
        if let Some(one) = unfinished.first() {
            let id = one["id"].as_str().and_then(|id| id.parse().ok());
            let view = self.world.look(client, QueryKind::Instance, id);
            for group in 1..=GROUPS {
                eprintln!("{}", self.end_of_log(living[0], group));
            }
            panic!("{} of {} instances have not ended, as this one: {view:#}", unfinished.len(), rows.len());
        }
        for group in 1..=GROUPS {
            let digests: Vec<(u64, u64)> = living
                .iter()
                .map(|node| {
                    let machine = self.world.machine(*node, group);
                    (machine.applied_index(), machine.digest())
                })
                .collect();
            assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "the replicas of group {group} differ: {digests:?}");
            let leaders = living.iter().chain(&slow).filter(|node| self.world.nodes[**node].leads().contains(&GroupId(group))).count();
            assert_eq!(leaders, 1, "group {group} has {leaders} leaders");
        }
        for (key, history) in &self.histories {
            assert!(is_linearizable(history), "no order explains what was told about key {key}: {history:#?}");
        }
        self.met.note("histories checked");
        let mut effects: BTreeMap<uuid::Uuid, u64> = BTreeMap::new();
        let confirmed: Vec<(uuid::Uuid, u64)> = self.world.workers.iter().flat_map(|worker| worker.confirmed.iter().copied()).collect();
        for (task, token) in confirmed {
            if *effects.entry(task).or_insert(token) != token {
                let said: Vec<String> = self
                    .world
                    .workers
                    .iter()
                    .enumerate()
                    .flat_map(|(number, worker)| worker.acks.iter().map(move |ack| (number, ack)))
                    .filter(|(_, ((of, _), _))| *of == task)
                    .map(|(number, ((_, token), verdict))| format!("worker {number}: token {token}, verdict {verdict}"))
                    .collect();
                for group in 1..=GROUPS {
                    eprintln!("{}", self.end_of_log(living[0], group));
                }
                panic!("two results of task {task} are accepted: {}", said.join("; "));
            }
        }
    }
}
