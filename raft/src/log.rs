//! The log as one replica knows it: the terms of all entries, and the bytes of the newest.
//!
//! The end of the log is in memory (`cache`), bounded in bytes. Older entries are committed, durable and handed out; who
//! needs one asks the caller to load a page of them. Terms stay known for every index, as runs.
//! Invariant: the cache is a suffix of the log.   Invariant: terms never decrease along the log.

use std::collections::VecDeque;

use crate::entry::{Entry, EntryKind};
use crate::membership::Membership;
use crate::position::{LogIndex, Position, Term};
use crate::recovered::{Recovered, TermRun};

pub(crate) struct Log {
    base: Position,
    last: Position,
    runs: Vec<TermRun>,
    cache: VecDeque<Entry>,
    cache_bytes: u64,
    /// What was loaded last; always below the cache.
    page: Vec<Entry>,
    /// All memberships that the log holds, with their index. The last is in force.
    memberships: Vec<(LogIndex, Membership)>,
    /// In force before the first of those: from the checkpoint, or of what was compacted away. Nobody in a new log.
    base_membership: Membership,
    /// From where on that is known.
    base_membership_at: LogIndex,
}

impl Log {
    /// The log that was found on disk. The caller has checked it.
    pub(crate) fn new(recovered: Recovered) -> Self {
        let checkpoint = recovered.checkpoint;
        let base_membership_at = checkpoint.as_ref().map_or(recovered.base.index, |checkpoint| checkpoint.position.index);
        // A checkpoint knows the members at its position, whatever entries before it said.
        let decoded = recovered.memberships.iter().filter(|entry| entry.index > base_membership_at).map(|entry| {
            let membership = Membership::decode(&entry.data).expect("the recovered log was checked");
            (entry.index, membership)
        });
        Self {
            base: recovered.base,
            last: recovered.last,
            runs: recovered.term_runs,
            cache_bytes: recovered.tail.iter().map(Entry::cost_bytes).sum(),
            memberships: decoded.collect(),
            cache: recovered.tail.into(),
            page: Vec::new(),
            base_membership: checkpoint.map(|checkpoint| checkpoint.membership).unwrap_or_default(),
            base_membership_at,
        }
    }

    pub(crate) const fn last(&self) -> Position {
        self.last
    }

    pub(crate) const fn cache_bytes(&self) -> u64 {
        self.cache_bytes
    }

    /// The members in force: those of the last membership entry, committed or not.
    pub(crate) fn membership(&self) -> &Membership {
        self.memberships.last().map_or(&self.base_membership, |(_, membership)| membership)
    }

    /// The entry that put the members in force there; at most the base if it is compacted away.
    pub(crate) fn membership_index(&self) -> LogIndex {
        self.memberships.last().map_or(self.base_membership_at, |(index, _)| *index)
    }

    /// The members in force at `index`; `None` where that is no longer known.
    pub(crate) fn membership_at(&self, index: LogIndex) -> Option<&Membership> {
        let at = self.memberships.partition_point(|(first, _)| *first <= index);
        match at.checked_sub(1) {
            Some(at) => Some(&self.memberships[at].1),
            None => (index >= self.base_membership_at).then_some(&self.base_membership),
        }
    }

    /// The last entry that is compacted away.
    pub(crate) const fn base(&self) -> Position {
        self.base
    }

    /// Forgets the entries up to `upto`, which is one of them.
    pub(crate) fn compact(&mut self, upto: LogIndex) {
        let term = self.term_at(upto).expect("only entries that are there are compacted away");
        self.base = Position::new(term, upto);
        let passed = self.runs.partition_point(|run| run.first <= upto);
        // The run that `upto` is in goes on behind it, if it has more.
        self.runs.drain(..passed.saturating_sub(1));
        if let Some(run) = self.runs.first_mut().filter(|run| run.first <= upto) {
            run.first = upto.next();
        }
        self.runs.retain(|run| run.first <= self.last.index);
        while self.memberships.first().is_some_and(|(index, _)| *index <= upto) {
            let (index, membership) = self.memberships.remove(0);
            (self.base_membership_at, self.base_membership) = (index, membership);
        }
        while let Some(entry) = self.cache.pop_front_if(|entry| entry.index <= upto) {
            self.cache_bytes -= entry.cost_bytes();
        }
        if self.page.first().is_some_and(|entry| entry.index <= upto) {
            self.page.clear();
        }
    }

    /// Begins anew behind `base`: a snapshot took the place of everything.
    pub(crate) fn reset(&mut self, base: Position, membership: Membership) {
        self.base = base;
        self.last = base;
        self.runs.clear();
        self.cache.clear();
        self.cache_bytes = 0;
        self.page.clear();
        self.memberships.clear();
        // A membership that was here and is not in the snapshot's history must not outlive it.
        self.base_membership = membership;
        self.base_membership_at = base.index;
    }

    /// The term of an entry; `None` for one that is compacted away or does not exist yet.
    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last.index {
            return None;
        }
        // The newest run is asked for nearly always.
        let newest = self.runs.last()?;
        if index >= newest.first {
            return Some(newest.term);
        }
        let at = self.runs.partition_point(|run| run.first <= index);
        self.runs.get(at.checked_sub(1)?).map(|run| run.term)
    }

    /// The highest position at or below `limit.index` whose term is not above `limit.term`; the base if there is no
    /// better one. Everything between it and the limit is of later terms, so it cannot match what the limit is from.
    pub(crate) fn highest_not_above(&self, limit: Position) -> Position {
        let index = limit.index.min(self.last.index);
        let at = self.runs.partition_point(|run| run.first <= index && run.term <= limit.term);
        let Some(run) = at.checked_sub(1).map(|at| self.runs[at]) else { return self.base };
        let end = self.runs.get(at).map_or(self.last.index, |next| next.first.prev());
        Position::new(run.term, end.min(index))
    }

    /// Adds an entry at the end.
    pub(crate) fn append(&mut self, entry: Entry) {
        assert!(entry.index == self.last.index.next(), "entry {} behind {}", entry.index, self.last.index);
        assert!(entry.term >= self.last.term, "term {} behind {}", entry.term, self.last.term);
        if self.runs.last().is_none_or(|run| run.term != entry.term) {
            self.runs.push(TermRun { first: entry.index, term: entry.term });
        }
        if entry.kind == EntryKind::Membership {
            let membership = Membership::decode(&entry.data).expect("membership entries are checked before they enter the log");
            self.memberships.push((entry.index, membership));
        }
        self.last = entry.position();
        self.cache_bytes += entry.cost_bytes();
        self.cache.push_back(entry);
    }

    /// Removes the entries from `from` on; returns how many.
    pub(crate) fn truncate_from(&mut self, from: LogIndex) -> u64 {
        assert!(from > self.base.index, "cut at {from} into what is compacted up to {}", self.base.index);
        let count = self.last.index.next().since(from);
        while let Some(entry) = self.cache.pop_back_if(|entry| entry.index >= from) {
            self.cache_bytes -= entry.cost_bytes();
        }
        if self.page.last().is_some_and(|entry| entry.index >= from) {
            self.page.clear();
        }
        let before = self.term_at(from.prev()).expect("entries behind the base have terms");
        while self.runs.pop_if(|run| run.first >= from).is_some() {}
        while self.memberships.pop_if(|(index, _)| *index >= from).is_some() {}
        self.last = Position::new(before, from.prev());
        count
    }

    /// The first index whose entry is in the cache; one after the last when the cache is empty.
    pub(crate) fn cache_first(&self) -> LogIndex {
        LogIndex(self.last.index.0 + 1 - self.cache.len() as u64)
    }

    /// An entry, if it is in the cache.
    pub(crate) fn cached(&self, index: LogIndex) -> Option<&Entry> {
        let at = index.0.checked_sub(self.cache_first().0)?;
        self.cache.get(usize::try_from(at).ok()?)
    }

    /// Entries from `from` on, no further than `upto`, and none after the one that reaches `bytes_max`: as many as
    /// are in memory in one piece. Empty means: load them.
    pub(crate) fn held(&self, from: LogIndex, upto: LogIndex, bytes_max: u64) -> impl Iterator<Item = &Entry> {
        let cache_first = self.cache_first();
        let paged = match self.page.first() {
            Some(first) if first.index <= from && from < cache_first => self.page.get(offset(first.index, from)..).unwrap_or_default(),
            _ => &[],
        };
        // The page may end right where the cache begins.
        let rest_from = paged.last().map_or(from, |entry| entry.index.next());
        let skipped = if rest_from >= cache_first { offset(cache_first, rest_from) } else { self.cache.len() };
        let cached = self.cache.range(skipped.min(self.cache.len())..);
        let mut bytes = 0;
        paged.iter().chain(cached).take_while(move |entry| {
            let more = entry.index <= upto && bytes < bytes_max;
            bytes += entry.cost_bytes();
            more
        })
    }

    /// Takes loaded entries that continue from `from`; stops at the first that is not the entry of this log at its
    /// place (it may have been overwritten while it was read). Returns how many were taken.
    pub(crate) fn take_page(&mut self, from: LogIndex, mut entries: Vec<Entry>) -> usize {
        let mut expected = from;
        let fitting = entries.iter().take_while(|entry| {
            let fits = entry.index == expected && self.term_at(entry.index) == Some(entry.term) && entry.index < self.cache_first();
            expected = expected.next();
            fits
        });
        let count = fitting.count();
        entries.truncate(count);
        self.page = entries;
        count
    }

    /// Drops the oldest cached entries while they take more than `bytes_max`, but none after `upto`.
    pub(crate) fn shrink(&mut self, bytes_max: u64, upto: LogIndex) {
        while self.cache_bytes > bytes_max
            && let Some(entry) = self.cache.pop_front_if(|entry| entry.index <= upto)
        {
            self.cache_bytes -= entry.cost_bytes();
        }
    }

    /// Adds the entries after `after` to those to be written.
    pub(crate) fn add_entries_after(&self, after: LogIndex, to: &mut Vec<Entry>) {
        let first = after.next().max(self.cache_first());
        assert!(first == after.next() || after >= self.last.index, "unwritten entries stay in memory");
        to.extend(self.held(first, self.last.index, u64::MAX).cloned());
    }

    pub(crate) fn assert_invariants(&self) {
        assert!(self.last.index >= self.base.index, "the log ends at {} before its base {}", self.last.index, self.base.index);
        assert!(self.cache.len() as u64 <= self.last.index.since(self.base.index), "more entries are cached than the log has");
        if let Some(entry) = self.cache.back() {
            assert!(entry.position() == self.last, "the cache ends at {}, the log at {}", entry.position(), self.last);
        }
    }
}

/// How far `index` is behind `first`, as a place in memory.
fn offset(first: LogIndex, index: LogIndex) -> usize {
    usize::try_from(index.since(first)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn entry(term: u64, index: u64) -> Entry {
        Entry { index: LogIndex(index), term: Term(term), kind: EntryKind::Command, data: Bytes::from_static(b"x") }
    }

    fn log_of(terms: &[u64]) -> Log {
        let mut log = Log::new(Recovered::default());
        for (at, term) in terms.iter().enumerate() {
            log.append(entry(*term, at as u64 + 1));
        }
        log
    }

    #[test]
    fn entries_dropped_from_memory_come_back_as_a_page() {
        let mut log = log_of(&[1, 1, 2, 2, 3]);
        log.shrink(0, LogIndex(3));
        assert_eq!(log.cache_first(), LogIndex(4));
        assert_eq!(log.held(LogIndex(2), LogIndex(5), 1_000).count(), 0);
        assert_eq!(log.take_page(LogIndex(2), vec![entry(1, 2), entry(2, 3)]), 2);
        let found: Vec<u64> = log.held(LogIndex(2), LogIndex(5), u64::MAX).map(|entry| entry.index.0).collect();
        assert_eq!(found, [2, 3, 4, 5]);
        assert_eq!(log.take_page(LogIndex(2), vec![entry(1, 2), entry(9, 3)]), 1);
        assert_eq!(log.take_page(LogIndex(2), vec![entry(1, 1)]), 0);
    }

    #[test]
    fn members_are_known_from_the_compacted_end_on() {
        // Raft section 7: a snapshot includes the latest configuration in the log as of its last included index.
        let node = |n| distric_model::NodeId::new(distric_model::Timestamp::from_us(0), distric_model::Slot::truncate(0), n);
        let members = |count: u64| Membership::new((0..count).map(node).collect(), vec![]).unwrap();
        let mut log = log_of(&[1]);
        for (index, count) in [(2, 1), (4, 3)] {
            let data = members(count).encode();
            log.append(Entry { index: LogIndex(index), term: Term(1), kind: EntryKind::Membership, data });
            log.append(entry(1, index + 1));
        }
        assert_eq!(log.membership_at(LogIndex(3)), Some(&members(1)));
        log.compact(LogIndex(3));
        assert_eq!(log.membership_at(LogIndex(3)), Some(&members(1)));
        assert_eq!(log.membership_at(LogIndex(4)), Some(&members(3)));
        // An uncommitted change that is cut off leaves what the compacted part said.
        log.truncate_from(LogIndex(4));
        assert_eq!(log.membership(), &members(1));
        log.reset(Position::new(Term(2), LogIndex(9)), members(5));
        assert_eq!((log.membership(), log.membership_index()), (&members(5), LogIndex(9)));
        assert_eq!(log.membership_at(LogIndex(8)), None);
    }

    proptest! {
        #[test]
        fn a_compacted_log_knows_the_rest_as_before(steps in prop::collection::vec(0_u64..3, 1..40), upto in 1_u64..40, limit in (0_u64..40, 0_u64..45)) {
            let mut term = 1;
            let terms: Vec<u64> = steps.iter().map(|step| { term += step / 2; term }).collect();
            let upto = upto.min(terms.len() as u64);
            let (whole, mut log) = (log_of(&terms), log_of(&terms));
            log.compact(LogIndex(upto));
            log.assert_invariants();
            for index in 0..45 {
                let expected = if index < upto { None } else { whole.term_at(LogIndex(index)) };
                prop_assert_eq!(log.term_at(LogIndex(index)), expected);
            }
            let limit = Position::new(Term(limit.0), LogIndex(limit.1));
            let expected = whole.highest_not_above(limit);
            prop_assert_eq!(log.highest_not_above(limit), if expected.index <= LogIndex(upto) { log.base() } else { expected });
            log.append(entry(50, terms.len() as u64 + 1));
            log.compact(LogIndex(terms.len() as u64 + 1));
            prop_assert_eq!(log.cache_first(), LogIndex(terms.len() as u64 + 2));
            log.append(entry(50, terms.len() as u64 + 2));
            prop_assert_eq!(log.term_at(LogIndex(terms.len() as u64 + 2)), Some(Term(50)));
        }

        #[test]
        fn terms_and_limits_agree_with_a_plain_list(steps in prop::collection::vec(0_u64..3, 1..40), cut in 1_u64..40, limit in (0_u64..40, 0_u64..45)) {
            let mut term = 1;
            let mut terms: Vec<u64> = steps.iter().map(|step| { term += step / 2; term }).collect();
            let mut log = log_of(&terms);
            if cut <= terms.len() as u64 {
                terms.truncate(cut as usize - 1);
                log.truncate_from(LogIndex(cut));
            }
            log.assert_invariants();
            for index in 0..45 {
                let expected = if index == 0 { Some(0) } else { terms.get(index as usize - 1).copied() };
                prop_assert_eq!(log.term_at(LogIndex(index)), expected.map(Term));
            }
            let best = (1..=terms.len() as u64).rev().find(|index| *index <= limit.1 && terms[*index as usize - 1] <= limit.0);
            let expected = best.map_or(Position::ZERO, |index| Position::new(Term(terms[index as usize - 1]), LogIndex(index)));
            prop_assert_eq!(log.highest_not_above(Position::new(Term(limit.0), LogIndex(limit.1))), expected);
        }
    }
}
