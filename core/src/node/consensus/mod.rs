//! Consensus: all Raft groups of this node, composed.
//!
//! In: proposals and questions from the shards, reports from the log writer, letters of peers, the time.  Out: writes, loads, sends,
//! letters.  May touch: `raft`, `model`.  Never: sockets, files, clocks, the meaning of a command.
//! Lives on: the raft core thread. One owner, no sharing.
//! Invariant: stamps of one group never go back.   Invariant: what needs the disk is not said before the log writer reported.
//!
//! This file only directs traffic: `route` brings proposals to leaders, `reads` finds out from where questions may be answered,
//! `members` brings the groups to the members that group 0 names, `peers` is what other nodes say.
//! Start reading at [`Consensus::flush`].

mod checkpoints;
mod members;
mod peers;
mod reads;
mod route;
mod stats;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use distric_gossip::KeyChoice;
use distric_model::{GroupId, Instant, NodeId};
use distric_raft::{
    Body, Config, Entry, EntryKind, HardState, Input, Install, Load, LogIndex, Membership, Message, Outputs, Position, Raft, Recovered,
    Refusal, StartError, Ticket,
};

use self::checkpoints::SinceCheckpoint;
use self::members::Members;
use self::reads::{For, Reads};
use self::route::{Lead, Pending, Return, Route};
use super::draw::Draws;
use super::envelope::{ENVELOPE_BYTES, Envelope, Origin, ProposalNumber};
use super::letters::{AskId, Class, CommittedEntry, ConsensusLetter, ShardIndex, ShardLetter, Unplaced};
use super::machine_clock::{MachineClock, Now};
use super::owner_of;
use super::peer::{Forwarded, Member, PeerLetter};

pub use checkpoints::{CheckpointPolicy, Export};
pub use members::{MEMBERS_RETRY_MS, SPREAD_AFTER_MS};
pub use route::HOLD_MS_MAX;
pub use stats::ConsensusStats;

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
    /// How long a leader answers questions by its lease, milliseconds; zero: it never does.
    pub lease_ms: u64,
    /// When the machines are asked for checkpoints.
    pub checkpoints: CheckpointPolicy,
}

/// All groups of one node.
pub struct Consensus {
    options: ConsensusOptions,
    groups: BTreeMap<GroupId, Replica>,
    founding: BTreeMap<GroupId, Recovered>,
    members: Members,
    /// Nodes that can be told something now.
    links: BTreeSet<NodeId>,
    draws: Draws,
    stats: ConsensusStats,
    steps: Outputs,
}

struct Replica {
    raft: Raft,
    clock: MachineClock,
    /// Most bytes of a command with its envelope.
    command_bytes_max: u64,
    /// Entries up to here were found at the start: their stamps say nothing about how long ago they were made.
    recovered_upto: LogIndex,
    /// Proposals of this node.
    route: Route,
    /// Proposals of other nodes, of this turn.
    foreign: Vec<(NodeId, Forwarded)>,
    reads: Reads,
    since_checkpoint: SinceCheckpoint,
    wake_at: Option<Instant>,
}

impl Replica {
    fn next_wake(&self, me: NodeId) -> Option<Instant> {
        self.wake_at.into_iter().chain(self.route.next_wake()).chain(self.reads.next_wake(me)).min()
    }

    fn is_busy(&self) -> bool {
        self.route.is_waiting() || !self.foreign.is_empty() || self.reads.is_busy()
    }
}

/// One write for the log writer.
#[derive(Debug)]
pub struct LogWrite {
    /// The group.
    pub group: GroupId,
    /// Replaces the stored hard state.
    pub hard_state: Option<HardState>,
    /// All entries are removed first, and the log begins anew behind this position.
    pub reset_to: Option<Position>,
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
    /// Entries that the log store may let go: everything up to the index.
    pub purges: Vec<(GroupId, LogIndex)>,
    /// Snapshots wanted as files. Each is answered with [`Consensus::on_exported`].
    pub exports: Vec<Export>,
    /// Snapshots to fetch from another node and to make durable. Each is answered with [`Consensus::on_installed`] or
    /// [`Consensus::on_install_failed`].
    pub installs: Vec<(GroupId, Install)>,
    /// For peers.
    pub sends: Vec<(NodeId, PeerLetter)>,
    /// Where the other members are, when that has changed.
    pub book: Option<Vec<Member>>,
    /// Where members may be called besides, after the book.
    pub found: Vec<(NodeId, Arc<str>)>,
    /// Which keys of gossip count, when that was told.
    pub gossip_keys: Option<KeyChoice>,
    /// For the shards.
    pub letters: Vec<(ShardIndex, Class, ShardLetter)>,
}

impl Consensus {
    /// A node without groups.
    pub fn new(options: ConsensusOptions) -> Self {
        let draws = Draws::new(options.seed);
        Self {
            options,
            groups: BTreeMap::new(),
            founding: BTreeMap::new(),
            members: Members::default(),
            links: BTreeSet::new(),
            draws,
            stats: ConsensusStats::default(),
            steps: Outputs::default(),
        }
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
        config.lease_ms = self.options.lease_ms;
        config.eager_commit = true;
        config.aligned_heartbeats = true;
        let (recovered_upto, command_bytes_max) = (recovered.last.index, config.command_bytes_max);
        let raft = Raft::new(config, recovered, LogIndex(0), self.draws.draw(), now.mono)?;
        let replica = Replica {
            raft,
            clock,
            command_bytes_max,
            recovered_upto,
            route: Route::default(),
            foreign: Vec::new(),
            reads: Reads::default(),
            since_checkpoint: SinceCheckpoint::default(),
            wake_at: Some(now.mono),
        };
        self.groups.insert(group, replica);
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
            reset_to: None,
            truncate_from: None,
            entries: state.tail.clone(),
            report: LogReport::Founded,
        });
        self.founding.insert(group, state);
    }

    /// Takes a letter from a shard. Proposals and questions wait for [`Self::flush`].
    pub fn on_letter(&mut self, now: Now, letter: ConsensusLetter, out: &mut ConsensusOutputs) {
        match letter {
            ConsensusLetter::Propose { group, number, command, reach } => match self.groups.get_mut(&group) {
                // Every leader would refuse it, and it would be put again until somebody gave up.
                Some(replica) if (command.len() + ENVELOPE_BYTES) as u64 > replica.command_bytes_max => {
                    refuse(out, number, Unplaced::TooLarge { limit_bytes: replica.command_bytes_max });
                }
                Some(replica) => replica.route.push(Pending { number, command, reach, since: now.mono }),
                None => refuse(out, number, Unplaced::NoLeader),
            },
            ConsensusLetter::Read { group, id } => match self.groups.get_mut(&group) {
                Some(replica) => replica.reads.push(now.mono, id),
                None => tell_reader(out, group, id, None),
            },
            ConsensusLetter::OpenGroups { work_groups, voters } => self.open_groups(now, work_groups, &voters, out),
            ConsensusLetter::Members { voters, members } => self.on_members(now, &voters, members, out),
            ConsensusLetter::GossipKeys(choice) => out.gossip_keys = Some(choice),
            ConsensusLetter::Found { peers, doubted } => self.on_found(now, peers, doubted, out),
            ConsensusLetter::MoveLeader { group, target } => self.move_leader(now, group, target, out),
            ConsensusLetter::Status { from } => self.answer_status(from, out),
        }
    }

    /// The groups that exist by the map of group 0. A founding voter founds them; everyone else waits to be filled by their leaders.
    fn open_groups(&mut self, now: Now, work_groups: u32, voters: &[NodeId], out: &mut ConsensusOutputs) {
        for group in (1..=work_groups).map(GroupId) {
            if voters.contains(&self.options.node) {
                self.found_group(group, voters, out);
            } else if !self.groups.contains_key(&group) {
                self.open_group(now, group, Recovered::default(), out).expect("an empty log contradicts nothing");
            }
        }
    }

    /// Brings what has gathered since the last turn to the leaders: one step per group, however many proposals.
    pub fn flush(&mut self, now: Now, out: &mut ConsensusOutputs) {
        let busy: Vec<GroupId> = self.groups.iter().filter(|(_, replica)| replica.is_busy()).map(|(group, _)| *group).collect();
        for group in busy {
            self.flush_group(now, group, out);
        }
    }

    fn flush_group(&mut self, now: Now, group: GroupId, out: &mut ConsensusOutputs) {
        let (me, boot) = (self.options.node, self.options.boot);
        let Some(replica) = self.groups.get_mut(&group) else { return };
        let mut lost = replica.route.expire(now.mono);
        replica.reads.expire(now.mono).into_iter().for_each(|id| tell_reader(out, group, id, None));
        let (leader, term) = (replica.raft.leader(), replica.raft.term().0);
        replica.reads.recall(now.mono, me, leader, term);
        match leader {
            Some(leader) if leader == me => {
                let stamp = replica.clock.estimate(now);
                let draws = &mut self.draws;
                let mut seal =
                    |node, boot, number, command: &[u8]| Envelope::seal(stamp, draws.draw(), Origin { node, boot, number }, command);
                let own = replica.route.take(now.mono, Lead { node: me, term, is_own: true }, PROPOSALS_PER_TURN_MAX, &mut lost);
                let mut commands: Vec<Bytes> = own.iter().map(|(number, command)| seal(me, boot, *number, command)).collect();
                self.stats.taken_for_others_count += replica.foreign.len() as u64;
                for (from, forwarded) in std::mem::take(&mut replica.foreign) {
                    commands.push(seal(from, forwarded.boot, forwarded.number, &forwarded.command));
                }
                let read = replica.reads.ask(now.mono, me, term);
                if !commands.is_empty() {
                    self.step(now, group, Input::Propose { commands }, out);
                }
                if let Some(id) = read {
                    self.step(now, group, Input::Read { id }, out);
                }
            }
            Some(leader) if self.links.contains(&leader) => {
                let to = Lead { node: leader, term, is_own: false };
                for (number, command) in replica.route.take(now.mono, to, PROPOSALS_PER_TURN_MAX, &mut lost) {
                    self.stats.forwarded_count += 1;
                    out.sends.push((leader, PeerLetter::Propose(Forwarded { group, term, boot, number, command })));
                }
                if let Some(id) = replica.reads.ask(now.mono, leader, term) {
                    out.sends.push((leader, PeerLetter::ReadIndex { group, id: id.0 }));
                }
            }
            _ => {}
        }
        self.stats.unplaced_count += lost.len() as u64;
        lost.into_iter().for_each(|number| refuse(out, number, Unplaced::NoLeader));
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

    /// Lets every replica whose time has come look at the clock.
    pub fn on_time(&mut self, now: Now, out: &mut ConsensusOutputs) {
        let is_due = |replica: &Replica| replica.wake_at.is_some_and(|at| at <= now.mono);
        let due: Vec<GroupId> = self.groups.iter().filter(|(_, replica)| is_due(replica)).map(|(group, _)| *group).collect();
        for group in due {
            self.step(now, group, Input::Tick, out);
        }
        self.look_after_members(now, out);
        self.flush(now, out);
    }

    /// When [`Self::on_time`] must be called next.
    pub fn next_wake(&self) -> Option<Instant> {
        self.groups.values().filter_map(|replica| replica.next_wake(self.options.node)).chain(self.members.next_wake()).min()
    }

    /// The replicas, for status and metrics.
    pub fn statuses(&self) -> impl Iterator<Item = (GroupId, distric_raft::Status)> + '_ {
        self.groups.iter().map(|(group, replica)| (*group, replica.raft.status()))
    }

    /// Takes back a letter of [`ConsensusOutputs::sends`] that is on its way, to use its memory again.
    pub fn give_back(&mut self, letter: PeerLetter) {
        if let PeerLetter::Raft(_, Message { body: Body::Append { entries, .. }, .. }) = letter {
            self.steps.give_back(entries);
        }
    }

    fn step(&mut self, now: Now, group: GroupId, input: Input, out: &mut ConsensusOutputs) {
        let Some(replica) = self.groups.get_mut(&group) else { return };
        let steps = &mut self.steps;
        steps.clear();
        replica.raft.step(now.mono, input, steps);
        replica.wake_at = steps.wake_at;
        out.sends.extend(steps.sends.drain(..).map(|(to, message)| (to, PeerLetter::Raft(group, message))));
        if let Some(persist) = steps.persist.take() {
            if let Some(position) = persist.reset_to {
                replica.route.on_reset(position.term.0);
            }
            out.writes.push(LogWrite {
                group,
                hard_state: persist.hard_state,
                reset_to: persist.reset_to,
                truncate_from: persist.truncate_from,
                entries: persist.entries,
                report: LogReport::Persisted(persist.ticket),
            });
        }
        if let Some(load) = steps.load.take() {
            out.loads.push((group, load));
        }
        out.purges.extend(steps.purge.take().map(|upto| (group, upto)));
        if let Some(install) = steps.install.take() {
            self.stats.snapshots_received_count += 1;
            out.installs.push((group, install));
        }
        if !steps.snapshot_wanted.is_empty() {
            let at_least = replica.raft.status().base.index;
            out.exports.extend(steps.snapshot_wanted.drain(..).map(|to| Export { group, to, at_least }));
        }
        if let Some(change) = steps.role.take() {
            self.stats.on_role(group, &change);
            for shard in 0..self.options.shard_count {
                let letter = ShardLetter::Leadership { group, term: change.term.0, leader: change.leader };
                out.letters.push((shard, Class::Request, letter));
            }
            self.members.on_role(now.mono, group, change.leader == Some(self.options.node));
        }
        if let Some(answer) = steps.transfer.take() {
            self.members.on_transfer(now.mono, group, answer);
        }
        let (me, boot, term) = (self.options.node, self.options.boot, replica.raft.term().0);
        for refused in steps.refused.drain(..) {
            // A foreign command of a size that this build does not take counts as one without a leader: its node gives up in time.
            let overloaded = matches!(refused.reason, Refusal::Full { .. });
            let Ok(Envelope { origin, .. }) = Envelope::open(&refused.command) else { continue };
            if origin.node != me {
                out.sends.push((origin.node, PeerLetter::Refused { group, term, number: origin.number, overloaded }));
            } else if !overloaded {
                if replica.route.on_refused(now.mono, me, term, origin.number) == Return::Dropped {
                    refuse(out, origin.number, Unplaced::NoLeader);
                }
            } else if replica.route.give_back(me, term, origin.number) {
                self.stats.overloaded_count += 1;
                refuse(out, origin.number, Unplaced::Overloaded);
            }
        }
        for ready in steps.reads.drain(..) {
            match replica.reads.close(ready.id.0) {
                Some(For::Readers(readers)) => readers.iter().for_each(|reader| tell_reader(out, group, reader.id, Some(ready.index))),
                Some(For::Peer { node, id }) => out.sends.push((node, PeerLetter::ReadAt { group, id, index: Some(ready.index) })),
                None => {}
            }
        }
        for refused in steps.reads_refused.drain(..) {
            if let Some((node, id)) = replica.reads.put_back(now.mono, refused.id.0) {
                out.sends.push((node, PeerLetter::ReadAt { group, id, index: None }));
            }
        }
        if !steps.committed.is_empty() {
            let mut entries: Vec<CommittedEntry> = Vec::with_capacity(steps.committed.len());
            for entry in steps.committed.drain(..) {
                let is_command = entry.kind == EntryKind::Command;
                let origin = if is_command { Envelope::open(&entry.data).ok().map(|envelope| envelope.origin) } else { None };
                let own = origin.filter(|origin| origin.node == me && origin.boot == boot).map(|origin| origin.number);
                let lost = replica.route.on_committed(entry.term.0, own);
                lost.into_iter().for_each(|number| refuse(out, number, Unplaced::NoLeader));
                let data = if is_command { entry.data } else { Bytes::new() };
                entries.push(CommittedEntry { index: entry.index.0, term: entry.term.0, data });
            }
            let new = entries.iter().rev().take_while(|entry| entry.index > replica.recovered_upto.0);
            if let Some(envelope) = new.filter_map(|entry| Envelope::open(&entry.data).ok()).next() {
                replica.clock.observe(now, envelope.stamp);
            }
            let owner = owner_of(group, self.options.shard_count);
            let bytes = entries.iter().map(|entry| entry.data.len() as u64).sum();
            let (count, last) = (entries.len() as u64, entries.last().map_or(0, |entry| entry.index));
            out.letters.push((owner, Class::Request, ShardLetter::Committed { group, entries }));
            if replica.since_checkpoint.count(count, bytes, &self.options.checkpoints)
                && let Some(snapshot) = replica.raft.snapshot_at(LogIndex(last))
            {
                out.letters.push((owner, Class::Request, ShardLetter::Checkpoint { group, snapshot }));
            }
        }
    }
}

/// A proposal is in no log and goes to none.
fn refuse(out: &mut ConsensusOutputs, number: ProposalNumber, why: Unplaced) {
    if number != super::envelope::NO_REPLY {
        out.letters.push((number.shard(), Class::Reply, ShardLetter::Refused { number, why }));
    }
}

/// From where a question may be answered; `None`: nobody could say.
fn tell_reader(out: &mut ConsensusOutputs, group: GroupId, id: AskId, index: Option<LogIndex>) {
    let index = index.map(|index| index.0);
    out.letters.push((id.shard, Class::Reply, ShardLetter::ReadReady { number: id.number, group, index }));
}
