//! Proposals in flight: what this shard has put to the log and not yet heard of.
//!
//! Invariant: at most [`PROPOSALS_IN_FLIGHT_MAX`]; beyond it requests are refused before they cost anything.
//! Invariant: every proposal is answered once: by its machine, by a refusal, or, when nothing is heard in time, by "unknown".

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use distric_model::{GroupId, Instant, Namespace};

use super::connections::ReplyTo;
use crate::node::envelope::ProposalNumber;
use crate::node::letters::{AskId, CatalogChangeRequest, ConnId, ShardIndex};

/// Most proposals that one shard has in flight.
pub const PROPOSALS_IN_FLIGHT_MAX: usize = 65_536;
/// A proposal of which nothing is heard is answered `outcome_unknown` after this long, milliseconds.
pub const PROPOSAL_TIMEOUT_MS: u64 = 10_000;
/// What a full log refused of the node's own is put again after this long, milliseconds.
pub const DEFER_MS: u64 = 50;
/// How often a proposal is put again behind the definition that it needs.
pub const REDEFINE_MAX: u8 = 64;

/// One proposal.
#[derive(Debug)]
pub struct Proposal {
    /// Who waits, and for what.
    pub waiting: Waiting,
    /// The group.
    pub group: GroupId,
    /// Its bytes, to put it again behind a definition.
    pub command: Bytes,
    /// Whose definitions it needs.
    pub namespace: Option<Namespace>,
    /// The one definition that it needs, when the catalog does not have it: an encoded `Define`.
    pub definition: Option<Bytes>,
    /// How often it was put again.
    pub redefined: u8,
}

/// Who waits for a proposal.
#[derive(Debug)]
pub enum Waiting {
    /// A submitted message.
    Submit(ReplyTo),
    /// A start or cancellation.
    Command(ReplyTo),
    /// A worker's result.
    Result {
        /// Its connection.
        conn: ConnId,
    },
    /// A change of the catalog.
    Catalog {
        /// Who asked.
        from: AskId,
        /// The change, to check and propose it again when another was faster.
        request: Box<CatalogChangeRequest>,
        /// How often it was proposed.
        tries: u8,
    },
    /// Something between groups: nobody is told, and whoever wants it proposes it again.
    Housekeeping,
    /// An operator's drain, who has been told that it is done: whoever leads takes it.
    Drain {
        /// How often it was put again.
        tries: u8,
    },
    /// A leader's tick, its workers' comings and goings: nobody is told, and no other lead takes it.
    OwnLead {
        /// The term that it leads.
        term: u64,
    },
    /// A definition; the commands that need it are behind it. Proposed once, however many wait for it.
    Definition,
}

impl Waiting {
    /// Whether nobody waits for an answer: the commit ends it.
    pub fn is_for_nobody(&self) -> bool {
        matches!(self, Self::Housekeeping | Self::Drain { .. } | Self::OwnLead { .. })
    }
}

/// The table.
#[derive(Debug)]
pub struct Proposals {
    shard: ShardIndex,
    next: u64,
    open: BTreeMap<ProposalNumber, (Instant, Proposal)>,
    deadlines: VecDeque<(Instant, ProposalNumber)>,
    /// What a full log refused and nobody else would put again, in order.
    deferred: VecDeque<Proposal>,
    deferred_until: Option<Instant>,
    /// First and last of those that were put again last.
    again: Option<(ProposalNumber, ProposalNumber)>,
}

impl Proposals {
    /// An empty table of one shard.
    pub fn new(shard: ShardIndex) -> Self {
        Self {
            shard,
            next: 0,
            open: BTreeMap::new(),
            deadlines: VecDeque::new(),
            deferred: VecDeque::new(),
            deferred_until: None,
            again: None,
        }
    }

    /// Whether there is room for `more`.
    pub fn has_room(&self, more: usize) -> bool {
        self.open.len() + more <= PROPOSALS_IN_FLIGHT_MAX
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open or deferred.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.deferred.is_empty()
    }

    /// Whether something waits to be put again: what comes behind it must wait as well, or a worker's credit would arrive before the worker.
    pub fn is_deferring(&self) -> bool {
        !self.deferred.is_empty() || self.again.is_some_and(|(first, last)| self.open.range(first..=last).next().is_some())
    }

    /// Keeps a proposal to put it again. Beyond [`PROPOSALS_IN_FLIGHT_MAX`] it is dropped, as if the node had lost it.
    pub fn defer(&mut self, now: Instant, proposal: Proposal) {
        if self.deferred.len() < PROPOSALS_IN_FLIGHT_MAX {
            self.deferred.push_back(proposal);
            self.deferred_until.get_or_insert(now.plus_ms(DEFER_MS));
        }
    }

    /// Takes out what is to be put again now. The caller puts all of it again before anything else.
    pub fn take_deferred(&mut self, now: Instant) -> VecDeque<Proposal> {
        if self.deferred_until.is_none_or(|until| until > now) {
            return VecDeque::new();
        }
        self.deferred_until = None;
        let last = self.next + self.deferred.len() as u64 - 1;
        self.again = Some((ProposalNumber::new(self.shard, self.next), ProposalNumber::new(self.shard, last)));
        std::mem::take(&mut self.deferred)
    }

    /// Enters a proposal and numbers it.
    pub fn open(&mut self, now: Instant, proposal: Proposal) -> ProposalNumber {
        let number = ProposalNumber::new(self.shard, self.next);
        self.next += 1;
        self.open.insert(number, (now, proposal));
        self.deadlines.push_back((now.plus_ms(PROPOSAL_TIMEOUT_MS), number));
        number
    }

    /// Takes a proposal out, once, with the time it was entered.
    pub fn close(&mut self, number: ProposalNumber) -> Option<(Instant, Proposal)> {
        self.open.remove(&number)
    }

    /// The log has committed a proposal that its machine does not answer: nobody waits for it any more.
    pub fn settle(&mut self, number: ProposalNumber) {
        if self.open.get(&number).is_some_and(|(_, proposal)| proposal.waiting.is_for_nobody()) {
            self.open.remove(&number);
        }
    }

    /// Takes out what nothing was heard of in time.
    pub fn expire(&mut self, now: Instant) -> Vec<Proposal> {
        let mut expired = Vec::new();
        while let Some((deadline, number)) = self.deadlines.front().copied()
            && (deadline <= now || !self.open.contains_key(&number))
        {
            self.deadlines.pop_front();
            expired.extend(self.open.remove(&number).map(|(_, proposal)| proposal));
        }
        expired
    }

    /// When the next one expires.
    pub fn next_wake(&self) -> Option<Instant> {
        // The front may be answered already; waking up for it once costs less than searching.
        let expires = self.deadlines.front().map(|(deadline, _)| *deadline).filter(|_| !self.open.is_empty());
        expires.into_iter().chain(self.deferred_until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal() -> Proposal {
        Proposal {
            waiting: Waiting::Housekeeping,
            group: GroupId(1),
            command: Bytes::new(),
            namespace: None,
            definition: None,
            redefined: 0,
        }
    }

    #[test]
    fn a_proposal_is_taken_out_once_by_answer_or_by_time() {
        let mut proposals = Proposals::new(2);
        let start = Instant::from_us(0);
        let first = proposals.open(start, proposal());
        let second = proposals.open(start.plus_ms(1), proposal());
        assert_eq!((first.shard(), first != second), (2, true));
        assert!(proposals.close(first).is_some());
        assert!(proposals.close(first).is_none());
        assert_eq!(proposals.expire(start.plus_ms(PROPOSAL_TIMEOUT_MS)).len(), 0);
        assert_eq!(proposals.next_wake(), Some(start.plus_ms(PROPOSAL_TIMEOUT_MS + 1)));
        assert_eq!(proposals.expire(start.plus_ms(PROPOSAL_TIMEOUT_MS + 1)).len(), 1);
        assert_eq!((proposals.len(), proposals.next_wake()), (0, None));
    }

    #[test]
    fn what_is_put_again_goes_before_what_comes_later() {
        let mut proposals = Proposals::new(1);
        let start = Instant::from_us(0);
        proposals.defer(start, proposal());
        assert_eq!((proposals.is_deferring(), proposals.take_deferred(start).len()), (true, 0));
        let due = start.plus_ms(DEFER_MS);
        assert_eq!(proposals.next_wake(), Some(due));
        let again = proposals.take_deferred(due).pop_front().expect("its time has come");
        let number = proposals.open(due, again);
        assert!(proposals.is_deferring(), "its fate is open");
        proposals.settle(number);
        assert_eq!((proposals.is_deferring(), proposals.is_empty()), (false, true));
    }

    #[test]
    fn a_commit_settles_housekeeping_and_nothing_that_waits_for_an_answer() {
        let mut proposals = Proposals::new(0);
        let tick = proposals.open(Instant::from_us(0), proposal());
        let result = proposals.open(Instant::from_us(0), Proposal { waiting: Waiting::Result { conn: ConnId(1) }, ..proposal() });
        proposals.settle(tick);
        proposals.settle(result);
        assert_eq!((proposals.close(tick).is_none(), proposals.close(result).is_some()), (true, true));
    }
}
