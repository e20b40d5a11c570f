//! A log in memory, with the one thing that memory lacks: a difference between written and durable.

use std::collections::{BTreeMap, VecDeque};

use distric_model::GroupId;
use distric_raft::{Entry, HardState, LogIndex, Position, Recovered};

use crate::error::{Corruption, DeviceError};
use crate::identity::Identity;
use crate::record::GroupRecord;
use crate::store::{GroupWrite, LogStore, TAIL_BYTES_MAX};

/// A log store for tests and simulations. A clone is a copy of the disk as it is.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    groups: BTreeMap<GroupId, GroupLog>,
    identity: Option<Identity>,
    /// Written, not flushed.
    staged: VecDeque<Vec<GroupWrite>>,
}

#[derive(Clone, Debug, Default)]
struct GroupLog {
    record: GroupRecord,
    entries: VecDeque<Entry>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes without flushing: not durable, not read back, until [`MemoryStore::flush`].
    pub fn stage(&mut self, writes: Vec<GroupWrite>) {
        self.staged.push_back(writes);
    }

    /// Makes everything staged durable.
    pub fn flush(&mut self) {
        self.flush_first(usize::MAX);
    }

    /// Makes the first `count` staged writes durable.
    pub fn flush_first(&mut self, count: usize) {
        let count = count.min(self.staged.len());
        let flushed: Vec<Vec<GroupWrite>> = self.staged.drain(..count).collect();
        flushed.iter().for_each(|writes| self.apply(writes));
    }

    /// A power cut: what was staged and not flushed is lost.
    pub fn crash(&mut self) {
        self.staged.clear();
    }

    /// A power cut at which the disk happened to have written the first `count` staged writes already.
    pub fn crash_after(&mut self, count: usize) {
        self.staged.truncate(count);
        self.flush();
    }

    /// How many staged writes wait for a flush.
    pub fn staged_count(&self) -> usize {
        self.staged.len()
    }

    /// The last entry of a group that is compacted away, durably.
    pub fn base(&self, group: GroupId) -> Option<Position> {
        self.groups.get(&group).map(|log| log.record.base)
    }

    /// What is durable of a group besides its entries: the hard state and the last entry's position.
    pub fn durable(&self, group: GroupId) -> Option<(HardState, Position)> {
        self.groups.get(&group).map(|log| (log.record.hard_state, log.record.last))
    }

    fn apply(&mut self, writes: &[GroupWrite]) {
        for write in writes {
            let log = self.groups.entry(write.group).or_default();
            if let Some(hard_state) = write.hard_state {
                log.record.hard_state = hard_state;
            }
            if let Some(base) = write.reset_to {
                log.entries.clear();
                (log.record.base, log.record.last) = (base, base);
            }
            if let Some(cut) = write.truncate_from {
                assert!(cut > log.record.base.index, "{}: cut at {cut} into what is compacted", write.group);
                log.cut(cut);
            }
            for entry in &write.entries {
                let last = log.record.last.index;
                assert!(entry.index == last.next(), "{}: entry {} behind {last}", write.group, entry.index);
                log.record.last = entry.position();
                log.entries.push_back(entry.clone());
            }
        }
    }
}

impl GroupLog {
    fn cut(&mut self, from: LogIndex) {
        while self.entries.back().is_some_and(|entry| entry.index >= from) {
            self.entries.pop_back();
        }
        self.record.last = self.entries.back().map_or(self.record.base, Entry::position);
    }
}

impl LogStore for MemoryStore {
    fn recover(&mut self) -> Result<Vec<(GroupId, Recovered)>, DeviceError> {
        let mut all = Vec::with_capacity(self.groups.len());
        for (group, log) in &self.groups {
            let GroupRecord { hard_state, base, .. } = log.record;
            let mut recovered = Recovered { hard_state, base, last: base, ..Recovered::default() };
            log.entries.iter().for_each(|entry| recovered.note(entry));
            let mut bytes = 0;
            let kept = log.entries.iter().rev().take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.cost_bytes();
                first || bytes <= TAIL_BYTES_MAX
            });
            recovered.tail = kept.cloned().collect();
            recovered.tail.reverse();
            recovered.check().map_err(|error| DeviceError::Corrupt {
                group: *group,
                index: recovered.last.index,
                reason: Corruption::Contradiction(error),
            })?;
            all.push((*group, recovered));
        }
        Ok(all)
    }

    fn write(&mut self, writes: &[GroupWrite]) -> Result<(), DeviceError> {
        self.flush();
        self.apply(writes);
        Ok(())
    }

    fn read(&mut self, group: GroupId, from: LogIndex, upto: LogIndex, bytes_max: u64) -> Result<Vec<Entry>, DeviceError> {
        let mut found = Vec::new();
        let Some(log) = self.groups.get(&group) else { return Ok(found) };
        let mut bytes = 0;
        let skip = usize::try_from(from.prev().since(log.record.base.index)).expect("a log in memory fits in memory");
        if from <= log.record.base.index {
            return Ok(found);
        }
        for entry in log.entries.iter().skip(skip).take_while(|entry| entry.index <= upto) {
            found.push(entry.clone());
            bytes += entry.cost_bytes();
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(found)
    }

    fn truncate_prefix(&mut self, group: GroupId, upto: LogIndex) -> Result<(), DeviceError> {
        self.flush();
        let Some(log) = self.groups.get_mut(&group) else { return Ok(()) };
        while log.entries.front().is_some_and(|entry| entry.index <= upto) {
            log.record.base = log.entries.pop_front().map_or(log.record.base, |entry| entry.position());
        }
        Ok(())
    }

    fn identity(&self) -> Option<Identity> {
        self.identity
    }

    fn set_identity(&mut self, identity: Identity) -> Result<(), DeviceError> {
        match self.identity {
            Some(found) if found != identity => Err(DeviceError::ForeignIdentity { found, given: identity }),
            _ => {
                self.identity = Some(identity);
                Ok(())
            }
        }
    }
}
