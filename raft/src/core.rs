//! What a replica has in every role: its log, its hard state, its disk, and the words that wait for the disk.

use std::collections::VecDeque;

use bytes::Bytes;
use distric_model::{Instant, NodeId};

use crate::config::Config;
use crate::door::{Outputs, ReadId, Refusal, Refused};
use crate::durability::Durability;
use crate::log::Log;
use crate::message::{Body, Message};
use crate::position::{HardState, LogIndex, Position};
use crate::random::Random;
use crate::snapshot::Snapshot;
use crate::status::Stats;

pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) random: Random,
    pub(crate) hard: HardState,
    pub(crate) log: Log,
    pub(crate) durability: Durability,
    /// Committed entries up to here have left the machine.
    pub(crate) handed_out: LogIndex,
    /// When a leader was last heard of; `None` before the first.
    pub(crate) leader_heard_at: Option<Instant>,
    /// The snapshot that the driver was asked to install, and whom it is fetched from.
    pub(crate) installing: Option<(NodeId, Position)>,
    /// Reads whose leader is gone, not yet refused.
    pub(crate) reads_dropped: Vec<ReadId>,
    /// Messages of the current term that rest on a term or a vote not yet durable.
    withheld: VecDeque<(NodeId, Message)>,
    pub(crate) stats: Stats,
}

impl Core {
    pub(crate) fn new(config: Config, hard: HardState, log: Log, seed: u64, handed_out: LogIndex) -> Self {
        let durability = Durability::new(hard, log.last().index);
        Self {
            config,
            random: Random::new(seed),
            hard,
            log,
            durability,
            handed_out,
            leader_heard_at: None,
            installing: None,
            reads_dropped: Vec::new(),
            withheld: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Sends at once. For what rests on nothing that the disk does not have: a leader's messages (its term was durable
    /// before it won), and pre-votes, which bind nobody.
    pub(crate) fn send(&self, to: NodeId, body: Body, out: &mut Outputs) {
        out.sends.push((to, Message { term: self.hard.term, body }));
    }

    /// Sends what rests on this replica's term and vote: at once if they are durable, otherwise as soon as they are.
    pub(crate) fn reply(&mut self, to: NodeId, body: Body, out: &mut Outputs) {
        if self.durability.vote_is_durable(&self.hard) {
            self.send(to, body, out);
        } else if self.withheld.len() < WITHHELD_MAX {
            self.withheld.push_back((to, Message { term: self.hard.term, body }));
        } else {
            // The disk stalls. A lost reply is nothing new to a peer.
            self.stats.withheld_dropped_count += 1;
        }
    }

    /// Sends what waited, if the term and the vote are durable by now.
    pub(crate) fn release_withheld(&mut self, out: &mut Outputs) {
        if self.durability.vote_is_durable(&self.hard) {
            out.sends.extend(self.withheld.drain(..));
        }
    }

    /// Goes to a later term, without a vote in it. What waited in the old one is nobody's concern any more.
    pub(crate) fn enter_term(&mut self, term: crate::position::Term) {
        assert!(term > self.hard.term, "term {} cannot follow {}", term, self.hard.term);
        self.hard.term = term;
        self.hard.vote = None;
        self.withheld.clear();
    }

    pub(crate) fn refuse(&mut self, command: Bytes, reason: Refusal, out: &mut Outputs) {
        self.stats.refused_count += 1;
        out.refused.push(Refused { command, reason });
    }

    pub(crate) fn truncate_from(&mut self, from: LogIndex) {
        assert!(from > self.hard.commit, "cut at {from} into what is committed up to {}", self.hard.commit);
        self.stats.truncated_entries_count += self.log.truncate_from(from);
        self.durability.on_truncated(from);
    }

    /// Everything up to `index` is committed. Less than is known already changes nothing.
    pub(crate) fn commit_upto(&mut self, index: LogIndex) {
        self.hard.commit = self.hard.commit.max(index);
    }

    /// Everything gives way to a snapshot: the log begins behind it, and its members are in force.
    pub(crate) fn reset(&mut self, snapshot: Snapshot) {
        let Snapshot { position, membership } = snapshot;
        assert!(position.index > self.handed_out, "a snapshot at {position} behind {} handed out", self.handed_out);
        assert!(position.term <= self.hard.term, "a snapshot at {position} in term {}", self.hard.term);
        self.log.reset(position, membership);
        self.durability.on_reset(position);
        self.hard.commit = position.index;
        self.handed_out = position.index;
        self.stats.snapshots_installed_count += 1;
    }

    /// Whether this replica may ask for votes: as a voter, and also as one whose removal is not known to be committed. The
    /// voters to be may lack an entry that only those who leave have; then one of these must lead once more to bring it
    /// to them (Ongaro 2014, section 4.2.2). Its own vote does not count for it.
    pub(crate) fn may_campaign(&self) -> bool {
        let (id, index) = (self.config.id, self.log.membership_index());
        let was_voter = || self.log.membership_at(index.prev()).is_some_and(|before| before.is_voter(id));
        self.log.membership().is_voter(id) || index > self.hard.commit && was_voter()
    }

    /// Drawn anew for every attempt: with fixed timeouts two candidates could split the votes for ever.
    pub(crate) fn draw_election_due(&mut self, now: Instant) -> Instant {
        let (min_ms, max_ms) = (self.config.election_timeout_ms_min, self.config.election_timeout_ms_max);
        now.plus_ms(self.config.election_offset_ms).plus_us(self.random.between(min_ms * 1_000, max_ms * 1_000))
    }

    /// Whether a leader was heard of so lately that no other is needed.
    pub(crate) fn has_lively_leader(&self, now: Instant) -> bool {
        self.leader_heard_at.is_some_and(|at| now.since_us(at) < self.config.election_timeout_ms_min * 1_000)
    }

    /// Hands out committed entries that are durable here too: state built from an entry must not outlive it.
    pub(crate) fn hand_out_committed(&mut self, out: &mut Outputs) {
        let upto = self.hard.commit.min(self.durability.durable());
        let before = out.committed.len();
        out.committed.extend(self.log.held(self.handed_out.next(), upto, u64::MAX).cloned());
        self.handed_out = self.handed_out.plus((out.committed.len() - before) as u64);
    }

    /// The first committed entry that waits to be handed out and is not in memory.
    pub(crate) fn wanted_load(&self) -> Option<LogIndex> {
        let upto = self.hard.commit.min(self.durability.durable());
        (self.handed_out < upto).then(|| self.handed_out.next())
    }

    pub(crate) fn assert_invariants(&self) {
        let (last, durable, commit) = (self.log.last(), self.durability.durable(), self.hard.commit);
        assert!(commit <= last.index, "committed up to {commit}, the log ends at {}", last.index);
        assert!(self.handed_out <= commit.min(durable), "handed out {}, committed {commit}, durable {durable}", self.handed_out);
        assert!(self.log.base().index <= self.handed_out, "compacted up to {}, handed out {}", self.log.base(), self.handed_out);
        assert!(last.term <= self.hard.term, "the log ends in term {}, the replica is in {}", last.term, self.hard.term);
        self.log.assert_invariants();
        self.durability.assert_invariants(&self.log);
    }
}

/// Most messages that wait for a term or a vote to become durable.
const WITHHELD_MAX: usize = 256;
