//! A shard: the clients and workers that are connected to one core, and the groups that live on it.
//!
//! In: frames, letters, the time.  Out: frames, letters ([`ShardOutputs`]).
//! May touch: every pure room.  Never: sockets, clocks, threads.
//! Lives on: one pinned thread. One owner, no sharing; the compiled catalog is shared read-only.
//!
//! This file only directs traffic. A message's way: `requests` → `submit` (limits, decision) → `proposals` → the raft core →
//! `partition` (apply) → `effects` → the answer.

mod answers;
mod barriers;
mod catalog;
mod catalog_answers;
mod catalog_export;
mod checkpoints;
mod commands;
mod connections;
mod effects;
mod filters;
mod follow;
mod gossip_keys;
mod liveness;
mod members;
mod outputs;
mod pages;
mod partition;
mod proposals;
mod queries;
mod requests;
mod rule_counts;
mod schedules;
mod staging;
mod stats;
mod submit;
mod trial;
mod trial_report;
mod workers;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use distric_exec::command::WorkerCredit;
use distric_exec::{Command, Effect, Settings};
use distric_model::{ClusterId, GroupId, InstanceId, Instant, NodeId, WorkerId};
use distric_wire::{Frame, FrameError};

use self::barriers::Barriers;
use self::catalog::MetaSeat;
use self::connections::{Batch, Connections};
use self::partition::Partition;
use self::proposals::{Proposal, Proposals, Waiting};
use self::queries::Questions;
use self::rule_counts::RuleCounts;
use self::staging::Staging;
use self::trial::TrialSeat;
use self::workers::{Attachment, Attachments};
use super::catalog_view::CatalogView;
use super::draw::Draws;
use super::envelope::ProposalNumber;
use super::letters::{Class, ConnId, ConsensusLetter, Reach, ShardIndex, ShardLetter};
use super::liveness::GossipView;
use super::machine_clock::Now;
use super::meta::Init;
use super::owner_of;
use super::peer::Member;

pub(crate) use catalog_answers::named;
pub use connections::Phase;
pub use liveness::{WORKER_GRACE_LIVE_MS, WORKER_LOAD_LASTS_MS, WORKER_SILENCE_GONE_MS};
pub use members::own_record;
pub use outputs::{Note, ShardOutputs};
pub use partition::{OUT_RETRY_MS, WORKER_GRACE_MS};
pub use proposals::{PROPOSAL_TIMEOUT_MS, PROPOSALS_IN_FLIGHT_MAX};
pub use rule_counts::{RULES_TOLD_MAX, RuleStats, WORK_EVERY, cost_share};
pub use stats::{BUCKETS_US, Histogram, ShardStats};

/// What a shard is told at its start.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Which one it is, from 0.
    pub index: ShardIndex,
    /// How many there are.
    pub count: usize,
    /// This node.
    pub node: NodeId,
    /// The node's name, for people.
    pub node_name: Arc<str>,
    /// The address clients reach this node at.
    pub address: Arc<str>,
    /// Drawn at each start of the process; the same for all threads of the node.
    pub boot: u64,
    /// Seed of this shard's draws.
    pub seed: u64,
    /// The program's version.
    pub server_version: &'static str,
    /// Largest frame payload after Hello, bytes.
    pub frame_bytes_max: u32,
    /// Most unanswered requests per connection.
    pub frames_in_flight_max: u32,
    /// Most unanswered payload bytes per connection.
    pub bytes_in_flight_max: u64,
    /// Most requests per second and connection.
    pub requests_per_second: Option<u32>,
    /// The cluster to found when group 0 is empty.
    pub init: Init,
    /// This node as the others shall know it.
    pub member: Member,
    /// Limits of the work groups' machines.
    pub settings: Settings,
    /// Nanoseconds of some monotonic clock: for the statistics only, nothing follows from it.
    pub stopwatch: fn() -> u64,
}

/// One shard.
pub struct Shard {
    options: ShardOptions,
    cluster: Option<(ClusterId, u32)>,
    connections: Connections,
    batches: BTreeMap<u64, Batch>,
    next_batch: u64,
    proposals: Proposals,
    /// Definitions on their way: encoded, by group, and how often each was put to the log.
    defining: BTreeMap<(GroupId, Bytes), u8>,
    /// Whether a worker is to be drained, as was last said.
    drains: BTreeMap<WorkerId, bool>,
    questions: Questions,
    barriers: Barriers,
    partitions: BTreeMap<GroupId, Partition>,
    meta: Option<MetaSeat>,
    leaders: BTreeMap<GroupId, (u64, Option<NodeId>)>,
    /// Work groups whose active leader is this node, wherever they live on it, and in which term.
    active_groups: BTreeMap<GroupId, u64>,
    /// Where clients and workers reach the members, by group 0.
    coordinators: Arc<[(NodeId, Arc<str>)]>,
    catalog: Arc<CatalogView>,
    /// A catalog was handed over since the start. Before that nothing may be judged: the empty catalog is not the cluster's.
    serving: bool,
    rule_counts: RuleCounts,
    trial: TrialSeat,
    staging: Staging,
    workers: Attachments,
    gossip: Option<Arc<GossipView>>,
    followers: BTreeMap<InstanceId, Vec<follow::Follower>>,
    effects: Vec<Effect>,
    draws: Draws,
    draining: bool,
    stats: ShardStats,
}

impl Shard {
    /// A shard without connections and groups.
    pub fn new(options: ShardOptions) -> Self {
        Self {
            cluster: None,
            connections: Connections::default(),
            batches: BTreeMap::new(),
            next_batch: 0,
            proposals: Proposals::new(options.index),
            defining: BTreeMap::new(),
            drains: BTreeMap::new(),
            questions: Questions::default(),
            barriers: Barriers::default(),
            partitions: BTreeMap::new(),
            meta: (owner_of(GroupId::META, options.count) == options.index).then(MetaSeat::default),
            leaders: BTreeMap::new(),
            active_groups: BTreeMap::new(),
            coordinators: Arc::default(),
            catalog: Arc::new(CatalogView::default()),
            serving: false,
            rule_counts: RuleCounts::default(),
            trial: TrialSeat::default(),
            staging: Staging::default(),
            workers: Attachments::default(),
            gossip: None,
            followers: BTreeMap::new(),
            effects: Vec::new(),
            draws: Draws::new(options.seed),
            draining: false,
            stats: ShardStats::default(),
            options,
        }
    }

    /// Someone connected.
    pub fn on_open(&mut self, now: Now, conn: ConnId) {
        self.stats.connections_opened_count += 1;
        self.connections.open(conn, now.mono);
        self.watch_silence(now, workers::HELLO_MS_MAX);
    }

    /// A frame arrived, whole and with the right checksum.
    pub fn on_frame(&mut self, now: Now, conn: ConnId, frame: &Frame<'_>, out: &mut ShardOutputs) {
        self.stats.frames_received_count += 1;
        self.on_request(now, conn, frame, out);
    }

    /// The bytes of a connection are no frame: answered once, then closed.
    pub fn on_frame_error(&mut self, now: Now, conn: ConnId, error: &FrameError, out: &mut ShardOutputs) {
        self.stats.frames_refused_count += 1;
        let reason = error.to_string();
        out.frame(conn, &error.rejection(&reason), error.message_id().unwrap_or(0), now.wall, false);
        out.closes.push(conn);
        out.notes.push(Note::BadFrame { reason });
    }

    /// A connection is gone.
    pub fn on_closed(&mut self, conn: ConnId, out: &mut ShardOutputs) {
        self.stats.connections_closed_count += 1;
        self.staging.forget(conn);
        let Some(connection) = self.connections.close(conn) else { return };
        if let Phase::Worker(card) = connection.phase {
            self.announce_detached(conn, card.worker, out);
        }
        if connection.follows {
            let shard = self.options.index;
            self.to_all_shards(Class::Request, out, || ShardLetter::FollowerGone { shard, conn });
        }
    }

    /// A letter from another core.
    pub fn on_letter(&mut self, now: Now, letter: ShardLetter, out: &mut ShardOutputs) {
        match letter {
            ShardLetter::Committed { group: GroupId::META, entries } => self.on_meta_committed(now, &entries, out),
            ShardLetter::Committed { group, entries } => self.on_committed(now, group, &entries, out),
            ShardLetter::Checkpoint { group, snapshot } => self.on_checkpoint(group, snapshot, out),
            ShardLetter::Install { group, snapshot, state } => self.on_install(now, group, &snapshot, state, out),
            ShardLetter::Leadership { group, term, leader } => self.on_leadership(now, group, term, leader, out),
            ShardLetter::Refused { number, why } => self.on_refused(now, number, why, out),
            ShardLetter::ReadReady { number, group, index } => self.on_read_ready(now, number, group, index, out),
            ShardLetter::Coordinators { addresses } => self.on_coordinators(now, addresses, out),
            ShardLetter::Announced { member } => self.on_announced(now, *member, out),
            ShardLetter::Replied { number, reply } => self.on_replied(now, number, *reply, out),
            ShardLetter::MetaReplied { number, reply, revision } => self.on_meta_replied(now, number, *reply, revision, out),
            ShardLetter::Ask { from, question } => self.on_question(now, from, *question, out),
            ShardLetter::Answered { number, answer } => self.on_answer(now, number, *answer, out),
            ShardLetter::Frames { conn, frames } => out.raw_frames(conn, &frames),
            ShardLetter::FollowerGone { shard, conn } => self.forget_follower(shard, conn),
            ShardLetter::GroupActive { group, term } => self.on_group_active(now, group, term, out),
            ShardLetter::GroupWelcome { group } => self.tell_backlog_anew(now, group, out),
            ShardLetter::WorkerAttached { shard, conn, card, opened_at } => {
                self.on_worker_attached(now, Attachment { shard, conn, card, opened_at }, out)
            }
            ShardLetter::WorkerDetached { shard, conn, worker } => self.on_worker_detached(now, shard, conn, worker, out),
            ShardLetter::WorkerCredit { group, conn, worker, generation, amount, elsewhere } => {
                self.on_worker_credit(now, group, conn, WorkerCredit { worker, generation, amount, elsewhere }, out)
            }
            ShardLetter::WorkerUnknown { group, conn, worker, unknown } => self.on_worker_unknown(now, group, conn, worker, &unknown, out),
            ShardLetter::Gossip(view) => self.on_gossip(now, view, out),
            ShardLetter::WorkerDrain { worker, drain } => self.on_worker_drain(now, worker, drain, out),
            ShardLetter::Deliver { group, from_group, record } => self.on_deliver(now, group, from_group, &record, out),
            ShardLetter::OutAcked { group, seq, result } => self.on_out_acked(now, group, seq, result, out),
            ShardLetter::Cluster { cluster, work_groups } => self.cluster = Some((cluster, work_groups)),
            ShardLetter::Catalog(view) => self.install(now, view, out),
            ShardLetter::CatalogInstalled { revision } => self.on_installed(revision, out),
            ShardLetter::TrialShare { revision, version, mode, share } => self.trial.on_share(revision, version, mode, share),
            ShardLetter::Checked { from, request, base, tries, verdict } => {
                self.on_checked(now, from, request, &base, tries, *verdict, out)
            }
            ShardLetter::Compiled(compiled) => self.on_compiled(compiled, out),
            ShardLetter::Settled(view) => self.to_all_shards(Class::Request, out, || ShardLetter::CatalogSettled(view.clone())),
            ShardLetter::CatalogSettled(view) => self.settle(view),
            ShardLetter::Drain => self.drain(now, out),
        }
    }

    /// The time asked for in [`Self::next_wake`] has come.
    pub fn on_time(&mut self, now: Now, out: &mut ShardOutputs) {
        for proposal in self.proposals.expire(now.mono) {
            self.answer_unknown(now, proposal, out);
        }
        for proposal in self.proposals.take_deferred(now.mono) {
            self.propose(now, proposal, out);
        }
        self.expire_questions(now, out);
        self.announce_again(now, out);
        self.close_silent(now, out);
        self.judge_shadowed(now);
        let groups: Vec<GroupId> = self.partitions.keys().copied().collect();
        for group in groups {
            self.give_up_absent_workers(now, group, out);
            self.retry_outbox(now, group, out);
            self.propose_wants(now, group, out);
        }
    }

    /// When [`Self::on_time`] must be called next.
    pub fn next_wake(&self) -> Option<Instant> {
        let partitions = self.partitions.values().filter_map(Partition::next_wake).min();
        let others = self.next_silence().into_iter().chain(self.next_announcement()).chain(self.trial.next_wake());
        self.proposals.next_wake().into_iter().chain(self.questions.next_wake()).chain(partitions).chain(others).min()
    }

    /// Whether the shard can serve: the cluster exists, every group has a leader, and those led here are active.
    pub fn is_ready(&self) -> bool {
        let Some((_, work_groups)) = self.cluster else { return false };
        let led = (0..=work_groups).all(|group| matches!(self.leaders.get(&GroupId(group)), Some((_, Some(_)))));
        let active = self
            .partitions
            .values()
            .all(|partition| partition.leader() != Some(self.options.node) || partition.is_active() || partition.halted().is_some());
        self.serving && led && active && self.meta.as_ref().is_none_or(MetaSeat::is_ready)
    }

    /// Whether nothing is in flight: a drained shard may stop.
    pub fn is_idle(&self) -> bool {
        self.proposals.is_empty() && self.questions.is_empty()
    }

    /// Requests this shard may still take from the sockets.
    pub fn has_room(&self) -> bool {
        self.proposals.has_room(1)
    }

    /// Counters and gauges.
    pub fn stats(&mut self) -> &ShardStats {
        self.stats.connections_count = self.connections.len() as u64;
        self.stats.proposals_in_flight = self.proposals.len() as u64;
        let told = self.rule_counts.told(|namespace| self.catalog.rules(namespace));
        (self.stats.rules, self.stats.rules_work_ns, self.stats.rules_matched_count) = told;
        self.stats.gossip = self.gossip.clone().filter(|_| self.options.index == 0);
        self.stats.machines = self.partitions.values().map(|partition| (partition.group(), partition.machine.stats())).collect();
        &self.stats
    }

    /// Stops taking new work; what is in flight is finished.
    fn drain(&mut self, now: Now, out: &mut ShardOutputs) {
        self.draining = true;
        let message = distric_wire::client::GoAway { reason: "the node is shutting down", grace_ms: PROPOSAL_TIMEOUT_MS };
        for (conn, connection) in self.connections.iter() {
            if !matches!(connection.phase, Phase::AwaitingHello) {
                out.frame(conn, &message, 0, now.wall, false);
            }
        }
    }

    /// A group of this shard, made when first heard of.
    fn partition(&mut self, group: GroupId) -> &mut Partition {
        self.partitions.entry(group).or_insert_with(|| Partition::new(group))
    }

    fn on_leadership(&mut self, now: Now, group: GroupId, term: u64, leader: Option<NodeId>, out: &mut ShardOutputs) {
        self.leaders.insert(group, (term, leader));
        if owner_of(group, self.options.count) != self.options.index {
            return;
        }
        let me = self.options.node;
        if group == GroupId::META {
            if let Some(meta) = &mut self.meta {
                meta.on_leadership(me, term, leader);
            }
            self.compile_if_behind(out);
            self.announce(now, out);
        } else if self.partition(group).on_leadership(me, term, leader) {
            out.notes.push(Note::GroupLost { group: group.to_string() });
            self.to_all_shards(Class::Request, out, || ShardLetter::GroupActive { group, term: None });
        }
    }

    /// Puts a command to a group's log for the shard's own sake, whoever leads the group.
    fn propose_housekeeping(&mut self, now: Now, group: GroupId, command: &Command, out: &mut ShardOutputs) {
        self.propose_unanswered(now, group, Waiting::Housekeeping, command, out);
    }

    /// Puts a command to the log of a group that is led here, for the leader's own sake: of its sessions and its clock. Not said while
    /// this node does not lead, nor under another lead.
    fn propose_own(&mut self, now: Now, group: GroupId, command: &Command, out: &mut ShardOutputs) {
        if let Some(term) = self.partitions.get(&group).and_then(Partition::led_term) {
            self.propose_unanswered(now, group, Waiting::OwnLead { term }, command, out);
        }
    }

    fn propose_unanswered(&mut self, now: Now, group: GroupId, waiting: Waiting, command: &Command, out: &mut ShardOutputs) {
        let command = Bytes::from(command.encode());
        let proposal = Proposal { waiting, group, command, namespace: None, definition: None, redefined: 0 };
        if self.proposals.is_deferring() {
            return self.proposals.defer(now.mono, proposal);
        }
        self.propose(now, proposal, out);
    }

    /// Puts a proposal to its group's log.
    fn propose(&mut self, now: Now, proposal: Proposal, out: &mut ShardOutputs) -> ProposalNumber {
        self.stats.proposals_count += 1;
        let (group, command) = (proposal.group, proposal.command.clone());
        let reach = match proposal.waiting {
            Waiting::OwnLead { term } => Reach::OwnLead { term },
            Waiting::Housekeeping => Reach::Once,
            _ => Reach::AnyLead,
        };
        let number = self.proposals.open(now.mono, proposal);
        out.to_consensus.push(ConsensusLetter::Propose { group, number, command, reach });
        number
    }

    /// A letter to every shard, this one included.
    fn to_all_shards(&self, class: Class, out: &mut ShardOutputs, mut letter: impl FnMut() -> ShardLetter) {
        for shard in 0..self.options.count {
            out.letter(shard, class, letter());
        }
    }
}
