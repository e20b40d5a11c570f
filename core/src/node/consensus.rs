//! Consensus: all Raft groups of this node, composed.
//!
//! In: proposals from the shards, reports from the log writer, messages of peers, the time.  Out: writes, loads, sends, letters.
//! May touch: `raft`, `model`.  Never: sockets, files, clocks, the meaning of a command.
//! Lives on: the raft core thread. One owner, no sharing.
//! Invariant: stamps of one group never go back.   Invariant: what needs the disk is not said before the log writer reported.
//! Start reading at [`Consensus::flush`].

use std::collections::BTreeMap;

use bytes::Bytes;
use distric_model::{GroupId, Instant, NodeId};
use distric_raft::{
    Config, Entry, EntryKind, HardState, Input, Load, LogIndex, Membership, Message, Outputs, Raft, Recovered, Refusal, StartError, Ticket,
};

use super::draw::Draws;
use super::envelope::{Envelope, Origin, ProposalNumber};
use super::letters::{Class, CommittedEntry, ConsensusLetter, ShardIndex, ShardLetter};
use super::machine_clock::{MachineClock, Now};
use super::owner_of;

/// Most proposals that one group takes from the lanes in one turn; the rest waits in the lanes.
pub const PROPOSALS_PER_TURN_MAX: usize = 4_096;

/// What every group of this node is told at its start.
#[derive(Clone, Debug)]
pub struct ConsensusOptions {
    /// This node.
    pub node: NodeId,
    /// Drawn at each start of the process.
    pub boot: u64,
    /// How many shards the node has.
    pub shard_count: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Heartbeat of a leader, milliseconds.
    pub heartbeat_ms: u64,
    /// Shortest election timeout, milliseconds.
    pub election_timeout_ms_min: u64,
    /// Longest election timeout, milliseconds.
    pub election_timeout_ms_max: u64,
}

/// All groups of one node.
pub struct Consensus {
    options: ConsensusOptions,
    groups: BTreeMap<GroupId, Replica>,
    founding: BTreeMap<GroupId, Recovered>,
    draws: Draws,
    steps: Outputs,
}

struct Replica {
    raft: Raft,
    clock: MachineClock,
    /// Entries up to here were found at the start: their stamps say nothing about how long ago they were made.
    recovered_upto: LogIndex,
    waiting: Vec<(ProposalNumber, Bytes)>,
    wake_at: Option<Instant>,
}

/// One write for the log writer.
#[derive(Debug)]
pub struct LogWrite {
    /// The group.
    pub group: GroupId,
    /// Replaces the stored hard state.
    pub hard_state: Option<HardState>,
    /// Entries from here on are removed first.
    pub truncate_from: Option<LogIndex>,
    /// Entries to add.
    pub entries: Vec<Entry>,
    /// What to report when it is durable.
    pub report: LogReport,
}

/// What the log writer reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogReport {
    /// A replica's write is durable.
    Persisted(Ticket),
    /// A new group's founding state is durable.
    Founded,
}

/// What the raft core is asked to do.
#[derive(Default)]
pub struct ConsensusOutputs {
    /// To be made durable, in this order.
    pub writes: Vec<LogWrite>,
    /// Entries wanted from the log store.
    pub loads: Vec<(GroupId, Load)>,
    /// For peers.
    pub sends: Vec<(NodeId, GroupId, Message)>,
    /// For the shards.
    pub letters: Vec<(ShardIndex, Class, ShardLetter)>,
}

impl Consensus {
    /// A node without groups.
    pub fn new(options: ConsensusOptions) -> Self {
        let draws = Draws::new(options.seed);
        Self { options, groups: BTreeMap::new(), founding: BTreeMap::new(), draws, steps: Outputs::default() }
    }

    /// Starts a replica from what the log store found. Errors: when the stored state contradicts itself; such a
    /// replica must not vote, and the node does not start with it.
    pub fn open_group(&mut self, now: Now, group: GroupId, recovered: Recovered, out: &mut ConsensusOutputs) -> Result<(), StartError> {
        let mut clock = MachineClock::default();
        for entry in recovered.tail.iter().filter(|entry| entry.kind == EntryKind::Command) {
            if let Ok(envelope) = Envelope::open(&entry.data) {
                clock.recover(envelope.stamp);
            }
        }
        let mut config = Config::new(self.options.node, group);
        config.heartbeat_ms = self.options.heartbeat_ms;
        config.election_timeout_ms_min = self.options.election_timeout_ms_min;
        config.election_timeout_ms_max = self.options.election_timeout_ms_max;
        let recovered_upto = recovered.last.index;
        let raft = Raft::new(config, recovered, LogIndex(0), self.draws.draw(), now.mono)?;
        self.groups.insert(group, Replica { raft, clock, recovered_upto, waiting: Vec::new(), wake_at: Some(now.mono) });
        self.step(now, group, Input::Tick, out);
        Ok(())
    }

    /// Makes the founding state of a group durable; the replica starts when that is reported.
    pub fn found_group(&mut self, group: GroupId, voters: &[NodeId], out: &mut ConsensusOutputs) {
        if self.groups.contains_key(&group) || self.founding.contains_key(&group) {
            return;
        }
        let members = Membership::new(voters.to_vec(), Vec::new()).expect("voters were checked when the cluster was initialised");
        let state = Recovered::founding(&members);
        out.writes.push(LogWrite {
            group,
            hard_state: Some(state.hard_state),
            truncate_from: None,
            entries: state.tail.clone(),
            report: LogReport::Founded,
        });
        self.founding.insert(group, state);
    }

    /// Takes a letter from a shard. Proposals wait for [`Self::flush`].
    pub fn on_letter(&mut self, letter: ConsensusLetter, out: &mut ConsensusOutputs) {
        match letter {
            ConsensusLetter::Propose { group, number, command } => match self.groups.get_mut(&group) {
                Some(replica) => replica.waiting.push((number, command)),
                None => refuse(out, number, None, false),
            },
            ConsensusLetter::OpenGroups { work_groups, voters } => {
                for group in 1..=work_groups {
                    self.found_group(GroupId(group), &voters, out);
                }
            }
        }
    }

    /// Proposes what has gathered since the last turn: one step per group, however many proposals.
    pub fn flush(&mut self, now: Now, out: &mut ConsensusOutputs) {
        let waiting: Vec<GroupId> =
            self.groups.iter().filter(|(_, replica)| !replica.waiting.is_empty()).map(|(group, _)| *group).collect();
        for group in waiting {
            let replica = self.groups.get_mut(&group).expect("listed above");
            let stamp = replica.clock.estimate(now);
            let (node, boot) = (self.options.node, self.options.boot);
            let draws = &mut self.draws;
            let commands = replica
                .waiting
                .drain(..)
                .map(|(number, command)| Envelope::seal(stamp, draws.draw(), Origin { node, boot, number }, &command))
                .collect();
            self.step(now, group, Input::Propose { commands }, out);
        }
    }

    /// The log writer has made a write durable.
    pub fn on_report(&mut self, now: Now, group: GroupId, report: LogReport, out: &mut ConsensusOutputs) {
        match report {
            LogReport::Persisted(ticket) => self.step(now, group, Input::Persisted { ticket }, out),
            LogReport::Founded => {
                let Some(state) = self.founding.remove(&group) else { return };
                self.open_group(now, group, state, out).expect("a founding state fits together");
            }
        }
    }

    /// The log writer has read entries.
    pub fn on_loaded(&mut self, now: Now, group: GroupId, entries: Vec<Entry>, out: &mut ConsensusOutputs) {
        self.step(now, group, Input::Loaded { entries }, out);
    }

    /// A peer said something about a group.
    pub fn on_message(&mut self, now: Now, from: NodeId, group: GroupId, message: Message, out: &mut ConsensusOutputs) {
        self.step(now, group, Input::Message { from, message }, out);
    }

    /// Lets every replica whose time has come look at the clock.
    pub fn on_time(&mut self, now: Now, out: &mut ConsensusOutputs) {
        let due: Vec<GroupId> =
            self.groups.iter().filter(|(_, replica)| replica.wake_at.is_some_and(|at| at <= now.mono)).map(|(group, _)| *group).collect();
        for group in due {
            self.step(now, group, Input::Tick, out);
        }
    }

    /// When [`Self::on_time`] must be called next.
    pub fn next_wake(&self) -> Option<Instant> {
        self.groups.values().filter_map(|replica| replica.wake_at).min()
    }

    /// The replicas, for status and metrics.
    pub fn statuses(&self) -> impl Iterator<Item = (GroupId, distric_raft::Status)> + '_ {
        self.groups.iter().map(|(group, replica)| (*group, replica.raft.status()))
    }

    fn step(&mut self, now: Now, group: GroupId, input: Input, out: &mut ConsensusOutputs) {
        let Some(replica) = self.groups.get_mut(&group) else { return };
        let steps = &mut self.steps;
        steps.clear();
        replica.raft.step(now.mono, input, steps);
        replica.wake_at = steps.wake_at;
        out.sends.extend(steps.sends.drain(..).map(|(to, message)| (to, group, message)));
        if let Some(persist) = steps.persist.take() {
            out.writes.push(LogWrite {
                group,
                hard_state: persist.hard_state,
                truncate_from: persist.truncate_from,
                entries: persist.entries,
                report: LogReport::Persisted(persist.ticket),
            });
        }
        if let Some(load) = steps.load.take() {
            out.loads.push((group, load));
        }
        if let Some(change) = steps.role.take() {
            for shard in 0..self.options.shard_count {
                let letter = ShardLetter::Leadership { group, term: change.term.0, leader: change.leader };
                out.letters.push((shard, Class::Request, letter));
            }
        }
        for refused in steps.refused.drain(..) {
            let (leader, overloaded) = match refused.reason {
                Refusal::NotLeader { leader } => (leader, false),
                Refusal::Full { .. } | Refusal::TooLarge { .. } => (None, true),
            };
            if let Ok(envelope) = Envelope::open(&refused.command) {
                refuse(out, envelope.origin.number, leader, overloaded);
            }
        }
        if !steps.committed.is_empty() {
            let entries: Vec<CommittedEntry> = steps
                .committed
                .drain(..)
                .map(|entry| CommittedEntry {
                    index: entry.index.0,
                    term: entry.term.0,
                    data: if entry.kind == EntryKind::Command { entry.data } else { Bytes::new() },
                })
                .collect();
            let new = entries.iter().rev().take_while(|entry| entry.index > replica.recovered_upto.0);
            if let Some(envelope) = new.filter_map(|entry| Envelope::open(&entry.data).ok()).next() {
                replica.clock.observe(now, envelope.stamp);
            }
            let owner = owner_of(group, self.options.shard_count);
            out.letters.push((owner, Class::Request, ShardLetter::Committed { group, entries }));
        }
    }
}

fn refuse(out: &mut ConsensusOutputs, number: ProposalNumber, leader: Option<NodeId>, overloaded: bool) {
    if number != super::envelope::NO_REPLY {
        out.letters.push((number.shard(), Class::Reply, ShardLetter::Refused { number, leader, overloaded }));
    }
}
