//! Where everything is: rebuilt by one scan when a store is opened, and told of every batch after it is durable.
//!
//! In: the records of sound batches, in order.  Out: places of entries, states of groups.
//! A write and a scan go the same way through [`Index::learn`], so what a restart finds is what the writer believed.
//! Invariant: a group's `live` counts are those of its places.

use std::collections::{BTreeMap, VecDeque};

use distric_model::{GroupId, NodeId};
use distric_raft::{EntryKind, HardState, LogIndex, Position, Recovered, Term};

use super::format::{Batch, Record, RecordKind};
use crate::error::Corruption;
use crate::identity::Identity;
use crate::record::{self, GroupRecord};

/// Where the record of an entry lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub term: Term,
    /// The segment; zero while a scan has not met the entry yet: its first place was given up after it had moved.
    pub generation: u32,
    pub offset: u32,
    pub data_bytes: u32,
    pub kind: EntryKind,
}

impl Place {
    pub fn record_end(&self) -> u64 {
        u64::from(self.offset) + Record::bytes(u64::from(self.data_bytes))
    }

    fn is_known(&self) -> bool {
        self.generation != 0
    }
}

/// What of a segment is still needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub entries: u64,
    pub bytes: u64,
}

/// One group.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupIndex {
    pub hard_state: HardState,
    pub base: Position,
    places: VecDeque<Place>,
    live: BTreeMap<u32, Live>,
}

impl GroupIndex {
    pub fn last(&self) -> Position {
        let index = self.base.index.plus(self.places.len() as u64);
        self.places.back().map_or(self.base, |place| Position::new(place.term, index))
    }

    pub fn place(&self, index: LogIndex) -> Option<&Place> {
        let behind = index.0.checked_sub(self.base.index.0)?.checked_sub(1)?;
        self.places.get(usize::try_from(behind).ok()?)
    }

    /// The places in order, with their indexes.
    pub fn places(&self) -> impl DoubleEndedIterator<Item = (LogIndex, &Place)> + ExactSizeIterator {
        self.places.iter().enumerate().map(|(behind, place)| (self.base.index.plus(behind as u64 + 1), place))
    }

    pub fn live_in(&self, generation: u32) -> Live {
        self.live.get(&generation).copied().unwrap_or_default()
    }

    /// State, first and last index, and the terms. Memberships and tail are for whoever can read.
    pub fn outline(&self) -> Recovered {
        let mut found = Recovered { hard_state: self.hard_state, base: self.base, last: self.last(), ..Recovered::default() };
        for (index, place) in self.places() {
            if found.term_runs.last().is_none_or(|run| run.term != place.term) {
                found.term_runs.push(distric_raft::TermRun { first: index, term: place.term });
            }
        }
        found
    }

    fn count(&mut self, place: &Place) {
        let live = self.live.entry(place.generation).or_default();
        live.entries += 1;
        live.bytes += Record::bytes(u64::from(place.data_bytes));
    }

    fn discount(&mut self, place: &Place) {
        if !place.is_known() {
            return;
        }
        let live = self.live.get_mut(&place.generation).expect("a known place is counted");
        live.entries -= 1;
        live.bytes -= Record::bytes(u64::from(place.data_bytes));
        if live.entries == 0 {
            self.live.remove(&place.generation);
        }
    }

    fn cut(&mut self, from: LogIndex) {
        while self.last().index >= from {
            let Some(place) = self.places.pop_back() else { return };
            self.discount(&place);
        }
    }

    fn outside(&self) -> Corruption {
        Corruption::Outside { first: self.base.index.next(), last: self.last().index }
    }

    fn state(&self) -> GroupRecord {
        GroupRecord { hard_state: self.hard_state, base: self.base, last: self.last() }
    }

    /// Takes the state at the beginning of the oldest segment: entries are known to exist, not yet where.
    fn found(&mut self, state: &GroupRecord) -> Result<(), Corruption> {
        (self.hard_state, self.base) = (state.hard_state, state.base);
        let count = state.last.index.0.checked_sub(state.base.index.0).ok_or(self.outside())?;
        if count > ENTRIES_PER_GROUP_MAX {
            return Err(self.outside());
        }
        let unknown = |term| Place { term, generation: 0, offset: 0, data_bytes: 0, kind: EntryKind::Noop };
        self.places = (0..count).map(|_| unknown(Term::ZERO)).collect();
        if let Some(last) = self.places.back_mut() {
            last.term = state.last.term;
        }
        Ok(())
    }

    /// Compares with the state at the beginning of a later segment.
    fn confirm(&mut self, state: &GroupRecord) -> Result<(), Corruption> {
        if let Some(last) = self.places.back_mut()
            && !last.is_known()
        {
            last.term = state.last.term;
        }
        if self.state() == *state { Ok(()) } else { Err(self.outside()) }
    }
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub groups: BTreeMap<GroupId, GroupIndex>,
    pub identity: Option<Identity>,
}

impl Index {
    /// Takes in one record that lies at `offset` of the segment `generation`; `is_first_batch` when it stands in the first
    /// batch of the oldest segment. Errors: why it cannot follow what was learned before.
    pub fn learn(&mut self, generation: u32, offset: u32, is_first_batch: bool, record: &Record<'_>) -> Result<(), Corruption> {
        match record.kind {
            RecordKind::Identity => {
                let identity = record::decode_identity(record.data)?;
                self.identity = Some(identity);
                return Ok(());
            }
            RecordKind::Group => {
                let state = record::decode_group(record.group, record.data)?;
                return match self.groups.get_mut(&record.group) {
                    Some(group) => group.confirm(&state),
                    None if is_first_batch => self.groups.entry(record.group).or_default().found(&state),
                    None => Err(Corruption::Outside { first: LogIndex::ZERO, last: LogIndex::ZERO }),
                };
            }
            _ => {}
        }
        let group = self.groups.entry(record.group).or_default();
        let index = record.at.index;
        match record.kind {
            RecordKind::Entry | RecordKind::Moved => {
                let kind = EntryKind::from_number(record.detail).ok_or(Corruption::Unknown { what: "kind", number: record.detail })?;
                let data_bytes = u32::try_from(record.data.len()).expect("a batch is shorter");
                let place = Place { term: record.at.term, generation, offset, data_bytes, kind };
                if record.kind == RecordKind::Entry {
                    if index != group.last().index.next() {
                        return Err(group.outside());
                    }
                    group.places.push_back(place);
                } else {
                    let behind = index.0.checked_sub(group.base.index.0 + 1).and_then(|behind| usize::try_from(behind).ok());
                    let Some(old) = behind.and_then(|behind| group.places.get_mut(behind)) else { return Err(group.outside()) };
                    let old = std::mem::replace(old, place);
                    group.discount(&old);
                }
                group.count(&place);
            }
            RecordKind::HardState => {
                let vote = match record.detail {
                    0 => None,
                    _ => {
                        let bytes = record.data.try_into().map_err(|_| Corruption::Short { found_bytes: record.data.len() })?;
                        Some(NodeId::from_bytes(bytes).map_err(|_| Corruption::Unknown { what: "vote", number: bytes[6] })?)
                    }
                };
                group.hard_state = HardState { term: record.at.term, vote, commit: index };
            }
            RecordKind::TruncateFrom => group.cut(index),
            RecordKind::TruncatePrefix => {
                if !(index > group.base.index && index <= group.last().index) {
                    return Err(group.outside());
                }
                while group.base.index < index {
                    let place = group.places.pop_front().expect("the index was checked to be within");
                    group.discount(&place);
                    group.base.index = group.base.index.next();
                }
                group.base = record.at;
            }
            RecordKind::Reset => {
                while let Some(place) = group.places.pop_front() {
                    group.discount(&place);
                }
                group.base = record.at;
            }
            RecordKind::Group | RecordKind::Identity => unreachable!("answered above"),
        }
        Ok(())
    }

    /// The first entry that is known to exist and was never met: a segment is gone.
    pub fn first_unknown(&self) -> Option<(GroupId, LogIndex)> {
        let unknown = |group: &GroupIndex| group.places().find(|(_, place)| !place.is_known()).map(|(index, _)| index);
        self.groups.iter().find_map(|(id, group)| Some((*id, unknown(group)?)))
    }

    /// Writes the state of everybody, for the beginning of a segment.
    pub fn checkpoint(&self, batch: &mut Batch) {
        if let Some(identity) = &self.identity {
            let data = record::encode_identity(identity);
            batch.push(&Record { data: &data, ..Record::bare(RecordKind::Identity, GroupId::META, Position::ZERO) });
        }
        for (id, group) in &self.groups {
            let data = record::encode_group(*id, &group.state());
            batch.push(&Record { data: &data, ..Record::bare(RecordKind::Group, *id, Position::ZERO) });
        }
    }

    /// Most bytes that [`Index::checkpoint`] writes.
    pub fn checkpoint_bytes(&self) -> u64 {
        (self.groups.len() as u64 + 1) * Record::bytes(CHECKPOINT_DATA_BYTES_MAX)
    }

    /// What is still needed of a segment.
    pub fn live_in(&self, generation: u32) -> Live {
        let add = |sum: Live, group: &GroupIndex| {
            let live = group.live_in(generation);
            Live { entries: sum.entries + live.entries, bytes: sum.bytes + live.bytes }
        };
        self.groups.values().fold(Live::default(), add)
    }

    /// Entries of all groups.
    pub fn entries(&self) -> u64 {
        self.groups.values().map(|group| group.places.len() as u64).sum()
    }
}

/// Of one record of a group or of the owner.
const CHECKPOINT_DATA_BYTES_MAX: u64 = 80;
/// More cannot be: a bound on what a damaged count could make a scan allocate.
const ENTRIES_PER_GROUP_MAX: u64 = 1 << 28;
