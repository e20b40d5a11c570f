//! The replica: directs inputs to the role that it has, and collects what they ask for.

use bytes::Bytes;
use distric_model::{Instant, NodeId};

use crate::config::{Config, ConfigError};
use crate::core::Core;
use crate::door::{
    ChangeAnswer, ChangeRefusal, Input, Load, Outputs, ReadId, ReadRefusal, ReadRefused, Refusal, RoleChange, RoleKind, TransferAnswer,
    TransferOutcome,
};
use crate::entry::Entry;
use crate::follower::Follower;
use crate::log::Log;
use crate::membership::Membership;
use crate::message::{AppendOutcome, Body, Message};
use crate::position::{LogIndex, Position, Term, Ticket};
use crate::recovered::{Recovered, RecoveredError};
use crate::role::Role;
use crate::snapshot::Snapshot;
use crate::status::Status;

/// One replica of one group.
pub struct Raft {
    pub(crate) core: Core,
    pub(crate) role: Role,
    load: LoadState,
    /// What was last reported in [`Outputs::role`].
    reported: RoleChange,
}

/// Why a replica cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The stored state contradicts itself.
    #[error(transparent)]
    Recovered(#[from] RecoveredError),
}

/// Entries wanted from the log store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoadState {
    Idle,
    /// Asked for entries from here on.
    Open(LogIndex),
    /// The last answer was of no use. Not asked again before time has passed, so that a confused caller is not
    /// asked in a circle.
    Paused,
}

impl Raft {
    /// A replica that starts, or starts again, from what its log store recovered.
    ///
    /// `applied`: entries up to here are in the state machine already and are not handed out again; zero when its
    /// state begins empty. `seed` decides the election timeouts and nothing else; nodes should have different ones.
    /// Errors: the stored state lacks something that was promised. Such a replica must not vote, so there is none.
    pub fn new(config: Config, recovered: Recovered, applied: LogIndex, seed: u64, now: Instant) -> Result<Self, StartError> {
        config.check()?;
        let mut recovered = recovered;
        let reset_to = if recovered.needs_reset()? { recovered.checkpoint.clone() } else { None };
        let mut handed_out = recovered.base.index;
        if reset_to.is_none() {
            // What was applied was committed, even if the stored commit index is from before that.
            let checkpoint = recovered.checkpoint.as_ref().map_or(LogIndex::ZERO, |checkpoint| checkpoint.position.index);
            handed_out = handed_out.max(applied).max(checkpoint);
            recovered.hard_state.commit = recovered.hard_state.commit.max(handed_out);
        }
        recovered.check()?;
        let hard = recovered.hard_state;
        let mut core = Core::new(config, hard, Log::new(recovered), seed, handed_out);
        if let Some(snapshot) = reset_to {
            let last = snapshot.position.index;
            if applied > last {
                return Err(RecoveredError::CommittedEntryMissing { commit: applied, last }.into());
            }
            if snapshot.position.term > hard.term {
                // This term did not get to the disk before the stop, so neither did a vote in it, and none was given.
                core.enter_term(snapshot.position.term);
            }
            core.reset(snapshot);
        }
        // Whoever led before the stop may still rely on having been heard here.
        core.leader_heard_at = Some(now);
        let mut follower = Follower::new(&mut core, now, None);
        if core.log.membership().is_only_voter(core.config.id) {
            // There is nobody to wait for.
            follower.election_due = now;
        }
        let reported = RoleChange { role: RoleKind::Follower, term: core.hard.term, leader: None };
        let raft = Self { core, role: Role::Follower(follower), load: LoadState::Idle, reported };
        raft.assert_invariants();
        Ok(raft)
    }

    /// Advances this replica by one input. Total: any message that a peer can send is legal to receive.
    ///
    /// Shape: O(members) per input, plus the entries that it moves. `now` never goes back.
    /// Panics: when this replica itself is wrong (a broken invariant, a ticket that was never handed out).
    pub fn step(&mut self, now: Instant, input: Input, out: &mut Outputs) {
        match input {
            Input::Tick => self.on_tick(now, out),
            Input::Message { from, message } => self.on_message(now, from, message, out),
            Input::Propose { commands } => self.on_propose(commands, out),
            Input::Persisted { ticket } => self.on_persisted(now, ticket, out),
            Input::Loaded { entries } => self.on_loaded(entries, out),
            Input::ChangeMembership { wanted } => self.on_change(now, &wanted, out),
            Input::Transfer { target } => self.on_transfer(now, target, out),
            Input::Read { id } => self.on_read(now, id, out),
            Input::Compacted { upto } => self.on_compacted(upto, out),
            Input::SnapshotReady { to, snapshot } => self.on_snapshot_at_hand(to, Some(snapshot), out),
            Input::SnapshotFailed { peer } => self.on_snapshot_at_hand(peer, None, out),
            Input::SnapshotInstalled { snapshot } => self.on_snapshot_installed(now, snapshot),
        }
        self.advance(now, out);
        self.collect(out);
        self.assert_invariants();
    }

    /// When to step with [`Input::Tick`] at the latest: what [`Outputs::wake_at`] says, also right after the start.
    pub fn wake_at(&self) -> Option<Instant> {
        let core = &self.core;
        match &self.role {
            // Nobody to remind and nobody to hear from: a quiet group of one costs nothing.
            Role::Leader(leader) if leader.is_alone() && self.load != LoadState::Paused => None,
            Role::Leader(leader) => Some(leader.heartbeat_due),
            // Whoever does not vote does not ask for votes, and only needs waking to ask the log store again.
            Role::Follower(follower) if !core.may_campaign() => (self.load == LoadState::Paused).then_some(follower.election_due),
            Role::Follower(follower) => Some(follower.election_due),
            Role::PreCandidate(campaign) | Role::Candidate(campaign) => Some(campaign.election_due),
        }
    }

    /// Whether it leads.
    pub const fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Its term.
    pub const fn term(&self) -> Term {
        self.core.hard.term
    }

    /// The leader of its term, if it knows; itself when it leads.
    pub const fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(_) => Some(self.core.config.id),
            Role::Follower(follower) => follower.leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// Entries up to here are committed, as far as it knows.
    pub const fn commit_index(&self) -> LogIndex {
        self.core.hard.commit
    }

    /// What a checkpoint that has applied everything up to `applied` contains, to be stored with it. `None` when that is
    /// not handed out yet, or older than what is still known.
    pub fn snapshot_at(&self, applied: LogIndex) -> Option<Snapshot> {
        let log = &self.core.log;
        let term = log.term_at(applied).filter(|_| applied <= self.core.handed_out && applied > LogIndex::ZERO)?;
        let membership = log.membership_at(applied)?.clone();
        Some(Snapshot { position: Position::new(term, applied), membership })
    }

    /// The members in force: those of the last membership entry, committed or not.
    pub fn membership(&self) -> &Membership {
        self.core.log.membership()
    }

    /// Everything worth seeing from outside. Allocates; not for every step.
    pub fn status(&self) -> Status {
        let core = &self.core;
        let (peers, uncommitted_bytes, transfer_to) = match &self.role {
            Role::Leader(leader) => (leader.peers(), leader.uncommitted_bytes(), leader.transfer.as_ref().map(|transfer| transfer.target)),
            _ => (Vec::new(), 0, None),
        };
        Status {
            id: core.config.id,
            group: core.config.group,
            term: core.hard.term,
            role: self.role.kind(),
            leader: self.leader(),
            vote: core.hard.vote,
            last: core.log.last(),
            base: core.log.base(),
            durable: core.durability.durable(),
            commit: core.hard.commit,
            handed_out: core.handed_out,
            uncommitted_bytes,
            cache_bytes: core.log.cache_bytes(),
            membership: core.log.membership().clone(),
            transfer_to,
            peers,
            stats: core.stats,
        }
    }

    fn on_tick(&mut self, now: Instant, out: &mut Outputs) {
        if self.load == LoadState::Paused {
            self.load = LoadState::Idle;
        }
        if self.wake_at().is_none_or(|due| now < due) {
            return;
        }
        let may_campaign = self.core.may_campaign();
        let Role::Leader(leader) = &mut self.role else {
            return if may_campaign { self.become_pre_candidate(now, out) } else { self.become_follower(now, self.core.hard.term, None) };
        };
        if !leader.on_heartbeat_due(&mut self.core, now, out) {
            self.core.stats.quorum_lost_count += 1;
            self.become_follower(now, self.core.hard.term, None);
        }
    }

    fn on_propose(&mut self, commands: Vec<Bytes>, out: &mut Outputs) {
        let reason = Refusal::NotLeader { leader: self.leader() };
        match &mut self.role {
            Role::Leader(leader) => leader.on_propose(&mut self.core, commands, out),
            _ => commands.into_iter().for_each(|command| self.core.refuse(command, reason, out)),
        }
    }

    fn on_change(&mut self, now: Instant, wanted: &Membership, out: &mut Outputs) {
        let leader = self.leader();
        out.change = Some(match &mut self.role {
            Role::Leader(leader) => leader.on_change(&mut self.core, now, wanted, out),
            _ => ChangeAnswer::Refused(ChangeRefusal::NotLeader { leader }),
        });
    }

    fn on_transfer(&mut self, now: Instant, target: NodeId, out: &mut Outputs) {
        match &mut self.role {
            Role::Leader(leader) => leader.on_transfer(&mut self.core, now, target, out),
            _ => out.transfer = Some(TransferAnswer { target, outcome: TransferOutcome::Refused }),
        }
    }

    fn on_read(&mut self, now: Instant, id: ReadId, out: &mut Outputs) {
        match &mut self.role {
            Role::Leader(leader) => leader.on_read(&mut self.core, now, id, out),
            _ => self.core.reads_dropped.push(id),
        }
    }

    fn on_compacted(&mut self, upto: LogIndex, out: &mut Outputs) {
        assert!(upto <= self.core.handed_out, "a checkpoint up to {upto}, handed out {}", self.core.handed_out);
        let upto = match &self.role {
            Role::Leader(leader) => leader.may_compact(&self.core, upto),
            _ => upto,
        };
        // What is still on its way to the disk stays in the log.
        let upto = upto.min(self.core.durability.durable());
        if upto > self.core.log.base().index {
            self.core.log.compact(upto);
        }
        out.purge = Some(self.core.log.base().index);
    }

    fn on_snapshot_at_hand(&mut self, peer: NodeId, snapshot: Option<Snapshot>, out: &mut Outputs) {
        if snapshot.is_none() {
            // Fetching failed: the next offer is taken.
            self.core.installing.take_if(|(from, _)| *from == peer);
        }
        if let Role::Leader(leader) = &mut self.role {
            leader.on_snapshot_at_hand(&mut self.core, peer, snapshot, out);
        }
    }

    fn on_snapshot_installed(&mut self, now: Instant, snapshot: Snapshot) {
        let is_leader = self.is_leader();
        let core = &mut self.core;
        core.installing = None;
        let position = snapshot.position;
        if position.index <= core.handed_out {
            core.stats.useless_snapshots_count += 1;
            return;
        }
        // The log may have got there by itself in the meantime, and what follows in it may be needed.
        if core.log.term_at(position.index) == Some(position.term) && core.durability.durable() >= position.index {
            core.commit_upto(position.index);
            core.handed_out = position.index;
            return;
        }
        let is_committed_here = position.index <= core.hard.commit && core.log.term_at(position.index) != Some(position.term);
        if is_committed_here || position.term > core.hard.term || is_leader {
            core.stats.useless_snapshots_count += 1;
            return;
        }
        core.reset(snapshot);
        if self.load != LoadState::Idle {
            // Whatever is answered speaks of what is gone.
            self.load = LoadState::Paused;
        }
        let leader = self.leader();
        if !matches!(self.role, Role::Follower(_)) {
            self.become_follower(now, self.core.hard.term, leader);
        }
        if let Role::Follower(follower) = &mut self.role {
            follower.on_reset(&self.core);
        }
    }

    fn on_persisted(&mut self, now: Instant, ticket: Ticket, out: &mut Outputs) {
        self.core.durability.on_persisted(ticket);
        self.core.release_withheld(out);
        match &mut self.role {
            Role::Follower(follower) => follower.answer(&mut self.core, out),
            Role::PreCandidate(_) => {}
            Role::Candidate(_) => self.ask_for_votes(now, out),
            Role::Leader(leader) => leader.advance_commit(&mut self.core),
        }
    }

    fn on_loaded(&mut self, entries: Vec<Entry>, out: &mut Outputs) {
        let LoadState::Open(from) = self.load else {
            self.core.stats.useless_loads_count += 1;
            return;
        };
        if self.core.log.take_page(from, entries) == 0 {
            self.core.stats.useless_loads_count += 1;
            self.load = LoadState::Paused;
            return;
        }
        self.load = LoadState::Idle;
        self.core.hand_out_committed(out);
        if let Role::Leader(leader) = &mut self.role {
            leader.on_loaded(&mut self.core, out);
        }
    }

    /// Compares terms before anything else is looked at (Raft section 5.1).
    fn on_message(&mut self, now: Instant, from: NodeId, message: Message, out: &mut Outputs) {
        let Message { term, body } = message;
        if from == self.core.config.id || term > TERM_MAX || term == Term::ZERO {
            self.core.stats.impossible_messages_count += 1;
            return;
        }
        match &body {
            Body::PreVote { last } => return self.on_pre_vote(now, from, term, *last, out),
            Body::PreVoteReply { granted: true } => return self.on_pre_vote_reply(now, from, term, true, out),
            Body::Vote { .. } if term > self.core.hard.term && self.is_content(now) => {
                // A leader is alive: whoever asks was cut off from it or removed (Ongaro 2014, section 4.2.3).
                self.core.stats.sticky_votes_count += 1;
                return;
            }
            _ => {}
        }
        if term < self.core.hard.term {
            return self.on_stale(from, &body, out);
        }
        let is_from_leader = matches!(body, Body::Append { .. } | Body::Heartbeat(_) | Body::Snapshot(_) | Body::TimeoutNow);
        if term > self.core.hard.term {
            self.become_follower(now, term, is_from_leader.then_some(from));
        }
        if is_from_leader && !self.follow(now, from) {
            self.core.stats.impossible_messages_count += 1;
            return;
        }
        self.on_current(now, from, body, out);
    }

    /// A message of the present term.
    fn on_current(&mut self, now: Instant, from: NodeId, body: Body, out: &mut Outputs) {
        match (body, &mut self.role) {
            (Body::Append { prev, entries, commit }, Role::Follower(follower)) => {
                follower.on_append(&mut self.core, from, prev, entries, commit, out);
            }
            (Body::Heartbeat(heartbeat), Role::Follower(follower)) => follower.on_heartbeat(&mut self.core, from, heartbeat, out),
            (Body::AppendReply(outcome), Role::Leader(leader)) => leader.on_append_reply(&mut self.core, now, from, outcome, out),
            (Body::HeartbeatReply(reply), Role::Leader(leader)) => leader.on_heartbeat_reply(&mut self.core, now, from, reply, out),
            (Body::Snapshot(snapshot), Role::Follower(follower)) => follower.on_snapshot(&mut self.core, from, snapshot, out),
            (Body::TimeoutNow, Role::Follower(_)) => self.on_timeout_now(now),
            (Body::Vote { last } | Body::VoteByLeave { last }, _) => self.on_vote(now, from, last, out),
            (Body::VoteReply { granted }, _) => self.on_vote_reply(now, from, granted, out),
            (Body::PreVoteReply { .. }, _) => self.on_pre_vote_reply(now, from, self.core.hard.term, false, out),
            // Answers to a leader that is none any more.
            _ => self.core.stats.stale_messages_count += 1,
        }
    }

    /// Takes `from` for the leader of the present term. Returns false if that cannot be.
    fn follow(&mut self, now: Instant, from: NodeId) -> bool {
        match &mut self.role {
            Role::Leader(_) => return false,
            Role::Follower(follower) => {
                if *follower.leader.get_or_insert(from) != from {
                    return false;
                }
                follower.election_due = self.core.draw_election_due(now);
            }
            Role::PreCandidate(_) | Role::Candidate(_) => self.become_follower(now, self.core.hard.term, Some(from)),
        }
        self.core.leader_heard_at = Some(now);
        true
    }

    /// A message of an older term. Its sender learns ours, or it could ask, or lead, in vain for ever.
    fn on_stale(&mut self, from: NodeId, body: &Body, out: &mut Outputs) {
        self.core.stats.stale_messages_count += 1;
        match body {
            Body::Append { .. } | Body::Heartbeat(_) | Body::Snapshot(_) => {
                self.core.reply(from, Body::AppendReply(AppendOutcome::Stale), out);
            }
            Body::Vote { .. } | Body::VoteByLeave { .. } => self.core.reply(from, Body::VoteReply { granted: false }, out),
            _ => {}
        }
    }

    /// Leads, or heard from a leader so lately that there is no need for another.
    fn is_content(&self, now: Instant) -> bool {
        self.is_leader() || self.core.has_lively_leader(now)
    }

    /// What a leader does once something is committed or acknowledged, whatever the input was.
    fn advance(&mut self, now: Instant, out: &mut Outputs) {
        let Role::Leader(leader) = &mut self.role else { return };
        leader.advance_reads(&mut self.core, now, out);
        leader.tell_commit(&self.core, out);
        let is_removed = leader.advance_change(&mut self.core, now, out);
        if is_removed {
            leader.say_farewell(&mut self.core, now);
        }
        let stands_down = leader.advance_transfer(&mut self.core, now, out) || is_removed && leader.transfer.is_none();
        if stands_down {
            self.core.stats.removals_count += 1;
            self.become_follower(now, self.core.hard.term, None);
        }
    }

    /// What follows from the new state, whatever the input was.
    fn collect(&mut self, out: &mut Outputs) {
        if self.core.durability.wants_write(&self.core.hard, &self.core.log) {
            let persist = self.core.durability.next_write(&self.core.hard, &self.core.log, out.take_spare());
            out.push_persist(persist);
        }
        self.core.hand_out_committed(out);
        let reason = ReadRefusal::NotLeader { leader: self.leader() };
        self.core.stats.reads_refused_count += self.core.reads_dropped.len() as u64;
        out.reads_refused.extend(self.core.reads_dropped.drain(..).map(|id| ReadRefused { id, reason }));
        if self.load == LoadState::Idle
            && let Some(load) = self.wanted_load()
        {
            self.core.stats.loads_count += 1;
            self.load = LoadState::Open(load.from);
            out.load = Some(load);
        }
        self.core.log.shrink(self.core.config.cache_bytes_max, self.core.handed_out);
        let now_is = RoleChange { role: self.role.kind(), term: self.core.hard.term, leader: self.leader() };
        if now_is != self.reported {
            self.reported = now_is;
            out.role = Some(now_is);
        }
        out.wake_at = self.wake_at();
    }

    /// Entries for the own state machine come first, then the followers by turns.
    fn wanted_load(&mut self) -> Option<Load> {
        let from = self.core.wanted_load().or_else(|| match &mut self.role {
            Role::Leader(leader) => leader.wanted_load(&self.core),
            _ => None,
        })?;
        let upto = self.core.log.cache_first().prev();
        assert!(from <= upto, "entry {from} is wanted from the log store but is in memory from {upto} on");
        Some(Load { from, upto, bytes_max: self.core.config.load_bytes_max })
    }

    fn assert_invariants(&self) {
        self.core.assert_invariants();
        match &self.role {
            Role::Follower(follower) => follower.assert_invariants(&self.core),
            Role::PreCandidate(_) | Role::Candidate(_) => {}
            Role::Leader(leader) => leader.assert_invariants(&self.core),
        }
    }
}

/// Terms beyond this are garbage; a cluster that held an election every microsecond would not get there in 100,000
/// years. Keeps one bad message from using up the numbers.
const TERM_MAX: Term = Term(1 << 62);
