//! The way of this node's proposals to whoever leads their group.
//!
//! Invariant: a proposal is with one leader in one term at a time. It is put again only when its first place is certainly lost: the
//! leader refused it, or an entry of a later term is committed, behind which nothing of an earlier term can come (log matching,
//! Raft section 5.3). So nothing is doubled, and a fail-over is invisible to whoever proposed.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use distric_model::{Instant, NodeId};

use crate::node::envelope::ProposalNumber;
use crate::node::letters::Reach;

/// A proposal that finds no leader is refused after this long, milliseconds. Longer than an election takes.
pub const HOLD_MS_MAX: u64 = 5_000;
/// After a refusal a group's proposals wait this long, milliseconds: a transfer of leadership takes a round trip and a flush.
pub const HOLD_PAUSE_MS: u64 = 10;
/// Most proposals of one group that are with leaders; beyond it the others wait.
pub const UNDERWAY_MAX: usize = 262_144;

/// A proposal that is with nobody.
#[derive(Debug)]
pub(super) struct Pending {
    pub number: ProposalNumber,
    pub command: Bytes,
    /// Under whose lead it may enter the log.
    pub reach: Reach,
    pub since: Instant,
}

#[derive(Debug)]
struct Underway {
    to: NodeId,
    term: u64,
    pending: Pending,
}

/// Who leads a group, as this node knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lead {
    pub node: NodeId,
    pub term: u64,
    /// It is this node.
    pub is_own: bool,
}

impl Lead {
    fn may_take(self, reach: Reach) -> bool {
        match reach {
            Reach::AnyLead | Reach::Once => true,
            Reach::OwnLead { term } => self.is_own && self.term == term,
        }
    }
}

/// What became of a proposal that its leader did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Return {
    /// It was not there, or not in that term.
    Unknown,
    /// It waits to be put again.
    Waits,
    /// It is not put again; its shard is to be told.
    Dropped,
}

/// The proposals of this node for one group.
#[derive(Debug, Default)]
pub(super) struct Route {
    waiting: VecDeque<Pending>,
    underway: BTreeMap<ProposalNumber, Underway>,
    hold_until: Option<Instant>,
    /// The term of the last entry that was seen committed.
    settled_term: u64,
}

impl Route {
    /// A new proposal.
    pub fn push(&mut self, pending: Pending) {
        self.waiting.push_back(pending);
    }

    /// Whether something waits to be sent.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When something is due although nothing happens.
    pub fn next_wake(&self) -> Option<Instant> {
        let oldest = self.waiting.front()?.since.plus_ms(HOLD_MS_MAX);
        Some(self.hold_until.map_or(oldest, |until| until.min(oldest)))
    }

    /// Proposals that waited too long for a leader. A pause that is over is forgotten, also when there is nobody to send to: a time in
    /// the past would keep its caller awake.
    pub fn expire(&mut self, now: Instant) -> Vec<ProposalNumber> {
        self.hold_until.take_if(|until| *until <= now);
        let mut expired = Vec::new();
        while let Some(pending) = self.waiting.pop_front_if(|pending| pending.since.plus_ms(HOLD_MS_MAX) <= now) {
            expired.push(pending.number);
        }
        expired
    }

    /// Takes out what may go to a leader now, at most `max`, and enters it as being there. What was for a lead that is over goes to `lost`.
    pub fn take(&mut self, now: Instant, to: Lead, max: usize, lost: &mut Vec<ProposalNumber>) -> Vec<(ProposalNumber, Bytes)> {
        if self.hold_until.is_some_and(|until| until > now) {
            return Vec::new();
        }
        self.hold_until = None;
        let count = self.waiting.len().min(max).min(UNDERWAY_MAX.saturating_sub(self.underway.len()));
        let mut taken = Vec::with_capacity(count);
        for pending in self.waiting.drain(..count) {
            if !to.may_take(pending.reach) {
                lost.push(pending.number);
                continue;
            }
            taken.push((pending.number, pending.command.clone()));
            self.underway.insert(pending.number, Underway { to: to.node, term: to.term, pending });
        }
        taken
    }

    /// The leader did not take a proposal.
    pub fn on_refused(&mut self, now: Instant, from: NodeId, term: u64, number: ProposalNumber) -> Return {
        let Some(Underway { pending, .. }) = self.take_underway(from, term, number) else { return Return::Unknown };
        if pending.reach == Reach::Once {
            return Return::Dropped;
        }
        let order = (pending.since, pending.number);
        let at = self.waiting.partition_point(|other| (other.since, other.number) < order);
        self.waiting.insert(at, pending);
        self.hold_until = Some(now.plus_ms(HOLD_PAUSE_MS));
        Return::Waits
    }

    /// The leader has too much to do: the proposal goes back to its shard. False: it was not there.
    pub fn give_back(&mut self, from: NodeId, term: u64, number: ProposalNumber) -> bool {
        self.take_underway(from, term, number).is_some()
    }

    fn take_underway(&mut self, from: NodeId, term: u64, number: ProposalNumber) -> Option<Underway> {
        self.underway.get(&number).filter(|underway| underway.to == from && underway.term == term)?;
        self.underway.remove(&number)
    }

    /// An entry is committed. `own`: the number, when this run of this node proposed it. Returns what is lost and not put again.
    pub fn on_committed(&mut self, term: u64, own: Option<ProposalNumber>) -> Vec<ProposalNumber> {
        if let Some(number) = own {
            self.underway.remove(&number);
        }
        if term <= self.settled_term {
            return Vec::new();
        }
        self.settled_term = term;
        let is_lost = |underway: &Underway| underway.term < term;
        let lost: Vec<ProposalNumber> = self.underway.iter().filter(|(_, underway)| is_lost(underway)).map(|(number, _)| *number).collect();
        let lost = lost.into_iter().filter_map(|number| self.underway.remove(&number)).map(|underway| underway.pending);
        let (again, dropped): (Vec<Pending>, Vec<Pending>) = lost.partition(|pending| pending.reach == Reach::AnyLead);
        if !again.is_empty() {
            let mut waiting: Vec<Pending> = again.into_iter().chain(self.waiting.drain(..)).collect();
            waiting.sort_by_key(|pending| (pending.since, pending.number));
            self.waiting = waiting.into();
        }
        dropped.into_iter().map(|pending| pending.number).collect()
    }

    /// The log began anew behind a snapshot: what became of the proposals in it cannot be told. Their shards say so in time.
    pub fn on_reset(&mut self, term: u64) {
        self.underway.retain(|_, underway| underway.term > term);
        self.settled_term = self.settled_term.max(term);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use distric_model::{Slot, Timestamp};

    fn node(number: u64) -> NodeId {
        NodeId::new(Timestamp::from_us(1), Slot::truncate(0), number)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_us(ms * 1_000)
    }

    fn route(count: u64) -> Route {
        let mut route = Route::default();
        for number in 0..count {
            let command = Bytes::from(vec![number as u8]);
            let reach = if number == 3 { Reach::Once } else { Reach::AnyLead };
            route.push(Pending { number: ProposalNumber(number), command, reach, since: at(number) });
        }
        route
    }

    /// Takes for a leader that is another node.
    fn take(route: &mut Route, now: Instant, to: NodeId, term: u64, max: usize) -> Vec<(ProposalNumber, Bytes)> {
        let mut lost = Vec::new();
        let taken = route.take(now, Lead { node: to, term, is_own: false }, max, &mut lost);
        assert_eq!(lost, []);
        taken
    }

    fn numbers(taken: &[(ProposalNumber, Bytes)]) -> Vec<u64> {
        taken.iter().map(|(number, _)| number.0).collect()
    }

    #[test]
    fn what_a_later_term_left_behind_is_put_again_in_order_and_once() {
        let mut route = route(4);
        assert_eq!(take(&mut route, at(9), node(1), 5, 3).len(), 3);
        route.on_committed(5, Some(ProposalNumber(0)));
        assert!(take(&mut route, at(9), node(1), 5, 0).is_empty());
        // Proposals 1 and 2 were with the leader of term 5; an entry of term 6 ends that.
        route.on_committed(6, None);
        assert_eq!(numbers(&take(&mut route, at(9), node(2), 6, 9)), [1, 2, 3]);
        route.on_committed(6, None);
        assert!(!route.is_waiting(), "term 6 goes on");
    }

    #[test]
    fn a_refusal_counts_for_its_leader_and_term_only() {
        let mut route = route(2);
        take(&mut route, at(5), node(1), 5, 9);
        assert_eq!(route.on_refused(at(6), node(2), 5, ProposalNumber(0)), Return::Unknown);
        assert_eq!(route.on_refused(at(6), node(1), 4, ProposalNumber(0)), Return::Unknown);
        assert_eq!(route.on_refused(at(6), node(1), 5, ProposalNumber(1)), Return::Waits);
        assert_eq!(route.on_refused(at(6), node(1), 5, ProposalNumber(0)), Return::Waits);
        assert!(take(&mut route, at(7), node(1), 5, 9).is_empty(), "after a refusal there is a pause");
        assert_eq!(numbers(&take(&mut route, at(6 + HOLD_PAUSE_MS), node(2), 6, 9)), [0, 1]);
    }

    #[test]
    fn a_pause_that_is_over_keeps_nobody_awake_while_there_is_no_leader() {
        let mut route = route(1);
        take(&mut route, at(5), node(1), 5, 9);
        assert_eq!(route.on_refused(at(6), node(1), 5, ProposalNumber(0)), Return::Waits);
        let over = at(6 + HOLD_PAUSE_MS);
        assert_eq!(route.next_wake(), Some(over));
        assert!(route.expire(over).is_empty());
        assert!(route.next_wake() > Some(over));
    }

    #[test]
    fn housekeeping_of_a_lost_lead_is_not_put_again() {
        let mut route = route(4);
        take(&mut route, at(5), node(1), 5, 9);
        assert_eq!(route.on_committed(6, Some(ProposalNumber(1))), [ProposalNumber(3)]);
        assert_eq!(numbers(&take(&mut route, at(9), node(2), 6, 9)), [0, 2]);
    }

    #[test]
    fn nobody_waits_for_a_leader_for_ever() {
        let mut route = route(2);
        assert_eq!(route.next_wake(), Some(at(HOLD_MS_MAX)));
        assert_eq!(route.expire(at(HOLD_MS_MAX)), [ProposalNumber(0)]);
        assert_eq!(route.next_wake(), Some(at(HOLD_MS_MAX + 1)));
    }

    #[test]
    fn what_a_leader_says_for_its_own_sake_outlives_a_refusal_and_not_its_lead() {
        let mut route = Route::default();
        let lead = |term, is_own| Lead { node: node(1), term, is_own };
        for number in 0..3 {
            let reach = Reach::OwnLead { term: 5 };
            route.push(Pending { number: ProposalNumber(number), command: Bytes::new(), reach, since: at(number) });
        }
        let mut lost = Vec::new();
        assert_eq!(route.take(at(5), lead(5, true), 1, &mut lost).len(), 1);
        // The lead was being handed over, which failed: the same lead takes it again, in order.
        assert_eq!(route.on_refused(at(6), node(1), 5, ProposalNumber(0)), Return::Waits);
        assert_eq!(numbers(&route.take(at(16), lead(5, true), 2, &mut lost)), [0, 1]);
        assert_eq!(lost, []);
        // The lead is over. What was underway is lost with it, and what waits reaches nobody: another node, or this one in a later term.
        assert_eq!(route.on_committed(6, None), [ProposalNumber(0), ProposalNumber(1)]);
        assert!(route.take(at(17), lead(6, false), 9, &mut lost).is_empty());
        assert_eq!(lost, [ProposalNumber(2)]);
        let reach = Reach::OwnLead { term: 5 };
        route.push(Pending { number: ProposalNumber(3), command: Bytes::new(), reach, since: at(20) });
        assert!(route.take(at(21), lead(7, true), 9, &mut lost).is_empty());
        assert_eq!((lost, route.is_waiting()), (vec![ProposalNumber(2), ProposalNumber(3)], false));
    }
}
