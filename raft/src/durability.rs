//! What is on the disk, what is on its way there, and what may therefore be said.
//!
//! Writes are numbered by tickets and become durable in that order. The log in memory moves on meanwhile: an entry that
//! was handed to the disk can be cut off and replaced before the disk reports. So each write in flight remembers up to
//! where it still agrees with memory, and a cut lowers that mark in all of them. "Index 7 is durable" is then
//! never said of another entry that had the index before (the ABA race of asynchronous log writes).

use std::collections::VecDeque;

use crate::door::Persist;
use crate::entry::Entry;
use crate::log::Log;
use crate::position::{HardState, LogIndex, Position, Ticket};

pub(crate) struct Durability {
    issued: Ticket,
    persisted: Ticket,
    in_flight: VecDeque<Flight>,
    /// Entries of the log in memory up to here are on the disk.
    durable: LogIndex,
    /// Entries of the log in memory up to here were handed to the disk.
    handed: LogIndex,
    /// The lowest index that must be cut off on disk and that no write has cut yet.
    cut: Option<LogIndex>,
    /// The log in memory began anew here, and no write says so yet.
    reset: Option<Position>,
    /// The write that said so last.
    reset_in: Ticket,
    /// The hard state handed to the disk last, and in which write.
    saved: HardState,
    saved_in: Ticket,
}

/// A write on its way.
struct Flight {
    ticket: Ticket,
    /// Once it is durable, the disk holds the log in memory up to here.
    agrees_upto: LogIndex,
}

impl Durability {
    /// Everything recovered came from the disk.
    pub(crate) fn new(hard_state: HardState, last: LogIndex) -> Self {
        Self {
            issued: Ticket(0),
            persisted: Ticket(0),
            in_flight: VecDeque::new(),
            durable: last,
            handed: last,
            cut: None,
            reset: None,
            reset_in: Ticket(0),
            saved: hard_state,
            saved_in: Ticket(0),
        }
    }

    /// The last entry of the log in memory of which the disk holds it and all before.
    pub(crate) const fn durable(&self) -> LogIndex {
        self.durable
    }

    /// Whether `current`'s term and vote are on the disk. A commit index may lag; it is told again by a leader.
    pub(crate) fn vote_is_durable(&self, current: &HardState) -> bool {
        self.saved_in <= self.persisted && (self.saved.term, self.saved.vote) == (current.term, current.vote)
    }

    /// The log in memory was cut: nothing from `from` on is what the disk has or will have.
    pub(crate) fn on_truncated(&mut self, from: LogIndex) {
        if from <= self.handed {
            self.cut = Some(self.cut.map_or(from, |earlier| earlier.min(from)));
            self.handed = from.prev();
        }
        self.durable = self.durable.min(from.prev());
        for flight in &mut self.in_flight {
            flight.agrees_upto = flight.agrees_upto.min(from.prev());
        }
    }

    /// The log in memory was replaced by a snapshot up to `base`, which is durable elsewhere: as a checkpoint, of which a
    /// restart makes this same log. So all of it counts as durable, and nothing in flight says more about it.
    pub(crate) fn on_reset(&mut self, base: Position) {
        self.reset = Some(base);
        self.cut = None;
        self.handed = base.index;
        self.durable = base.index;
        self.in_flight.iter_mut().for_each(|flight| flight.agrees_upto = LogIndex::ZERO);
    }

    /// Whether the log on disk begins where the one in memory does. Nothing is acknowledged before.
    pub(crate) fn reset_is_durable(&self) -> bool {
        self.reset.is_none() && self.reset_in <= self.persisted
    }

    /// Whether anything needs a write. A commit index alone needs none and rides along with the next.
    pub(crate) fn wants_write(&self, current: &HardState, log: &Log) -> bool {
        let vote_changed = (self.saved.term, self.saved.vote) != (current.term, current.vote);
        vote_changed || self.reset.is_some() || self.cut.is_some() || self.handed < log.last().index
    }

    /// The next write, with its entries in `entries`, which is empty.
    pub(crate) fn next_write(&mut self, current: &HardState, log: &Log, mut entries: Vec<Entry>) -> Persist {
        let vote_changed = (self.saved.term, self.saved.vote) != (current.term, current.vote);
        self.issued = Ticket(self.issued.0 + 1);
        log.add_entries_after(self.handed, &mut entries);
        let hard_state = (self.saved != *current).then_some(*current);
        if vote_changed {
            self.saved_in = self.issued;
        }
        if self.reset.is_some() {
            self.reset_in = self.issued;
        }
        self.saved = *current;
        self.handed = log.last().index;
        self.in_flight.push_back(Flight { ticket: self.issued, agrees_upto: self.handed });
        Persist { ticket: self.issued, hard_state, reset_to: self.reset.take(), truncate_from: self.cut.take(), entries }
    }

    /// The disk reports. An old or doubled report changes nothing.
    pub(crate) fn on_persisted(&mut self, ticket: Ticket) {
        assert!(ticket <= self.issued, "ticket {ticket} was never handed out, the last is {}", self.issued);
        self.persisted = self.persisted.max(ticket);
        while let Some(flight) = self.in_flight.pop_front_if(|flight| flight.ticket <= ticket) {
            self.durable = self.durable.max(flight.agrees_upto);
        }
    }

    pub(crate) fn assert_invariants(&self, log: &Log) {
        assert!(self.durable <= self.handed, "durable up to {}, handed out only up to {}", self.durable, self.handed);
        assert!(self.handed <= log.last().index, "handed out up to {}, the log ends at {}", self.handed, log.last().index);
        assert!(self.persisted <= self.issued, "ticket {} persisted, {} issued", self.persisted, self.issued);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::entry::EntryKind;
    use crate::position::Term;
    use crate::recovered::Recovered;

    fn entry(term: u64, index: u64) -> Entry {
        Entry { index: LogIndex(index), term: Term(term), kind: EntryKind::Command, data: Bytes::new() }
    }

    #[test]
    fn a_report_about_an_overwritten_entry_says_nothing_about_its_successor() {
        let mut log = Log::new(Recovered::default());
        let mut hard_state = HardState::default();
        let mut durability = Durability::new(hard_state, LogIndex::ZERO);

        hard_state.term = Term(1);
        log.append(entry(1, 1));
        log.append(entry(1, 2));
        assert_eq!(durability.next_write(&hard_state, &log, Vec::new()).ticket, Ticket(1));

        // Index 2 is replaced by term 2, and then by term 3 with the same bytes as ever, before the disk says anything.
        for term in [2, 3] {
            hard_state.term = Term(term);
            log.truncate_from(LogIndex(2));
            durability.on_truncated(LogIndex(2));
            log.append(entry(term, 2));
            let write = durability.next_write(&hard_state, &log, Vec::new());
            assert_eq!((write.ticket, write.truncate_from), (Ticket(term), Some(LogIndex(2))));
        }
        durability.on_persisted(Ticket(1));
        assert_eq!(durability.durable(), LogIndex(1));
        durability.on_persisted(Ticket(2));
        assert_eq!(durability.durable(), LogIndex(1));
        assert!(!durability.vote_is_durable(&hard_state));
        durability.on_persisted(Ticket(3));
        assert_eq!(durability.durable(), LogIndex(2));
        assert!(durability.vote_is_durable(&hard_state));
    }

    #[test]
    fn after_a_reset_only_its_own_write_makes_it_acknowledgeable() {
        let mut log = Log::new(Recovered::default());
        let hard_state = HardState { term: Term(1), ..HardState::default() };
        let mut durability = Durability::new(hard_state, LogIndex::ZERO);
        log.append(entry(1, 1));
        assert!(durability.wants_write(&hard_state, &log));
        durability.next_write(&hard_state, &log, Vec::new());

        let base = Position::new(Term(1), LogIndex(9));
        log.reset(base, crate::Membership::default());
        durability.on_reset(base);
        durability.on_persisted(Ticket(1));
        assert_eq!(durability.durable(), LogIndex(9));
        assert!(!durability.reset_is_durable());
        let write = durability.next_write(&hard_state, &log, Vec::new());
        assert_eq!((write.reset_to, write.entries.len()), (Some(base), 0));
        assert!(!durability.reset_is_durable());
        durability.on_persisted(Ticket(2));
        assert!(durability.reset_is_durable());
    }

    #[test]
    fn a_commit_index_alone_is_not_written() {
        let log = Log::new(Recovered::default());
        let durability = Durability::new(HardState::default(), LogIndex::ZERO);
        let moved = HardState { commit: LogIndex(0), ..HardState::default() };
        assert!(!durability.wants_write(&moved, &log));
        assert!(durability.vote_is_durable(&moved));
    }
}
