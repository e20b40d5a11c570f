//! The door of every log store.

use distric_model::GroupId;
use distric_raft::{Entry, HardState, LogIndex, Persist, Position, Recovered};

use crate::error::DeviceError;
use crate::identity::Identity;

/// What one group wants to have durable: its hard state is replaced, the log begins anew behind `reset_to`, entries from
/// `truncate_from` on are removed, then `entries` are added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupWrite {
    /// The group.
    pub group: GroupId,
    /// Replaces the stored hard state.
    pub hard_state: Option<HardState>,
    /// Removes every entry: the log begins anew behind this position, which a snapshot covers.
    pub reset_to: Option<Position>,
    /// Removes the entries from this index on.
    pub truncate_from: Option<LogIndex>,
    /// Added at the end, in order, without gaps.
    pub entries: Vec<Entry>,
}

/// Nothing, of group 0.
impl Default for GroupWrite {
    fn default() -> Self {
        Self { group: GroupId::META, hard_state: None, reset_to: None, truncate_from: None, entries: Vec::new() }
    }
}

impl GroupWrite {
    /// The write that a replica asked for; its ticket stays with the caller.
    pub fn of(group: GroupId, persist: Persist) -> Self {
        let Persist { hard_state, reset_to, truncate_from, entries, .. } = persist;
        Self { group, hard_state, reset_to, truncate_from, entries }
    }

    /// Bytes of the entries, for whoever bounds a batch.
    pub fn cost_bytes(&self) -> u64 {
        self.entries.iter().map(Entry::cost_bytes).sum()
    }
}

/// A group whose old entries keep files from being used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The group.
    pub group: GroupId,
    /// Its last entry that lies in the oldest file.
    pub upto: LogIndex,
    /// Bytes of its entries there.
    pub bytes: u64,
    /// How many files are in use, the oldest and the newest counted.
    pub files: u64,
}

/// A log of many groups on one device.
///
/// A device that failed a write is in an unknown state: the kernel may have dropped what it could not write and
/// call the next flush a success. So any error of [`LogStore::write`] is final: the caller stops the node, and a
/// store that failed refuses every later write. The restart reads what really is on disk.
pub trait LogStore: Send {
    /// Reads and checks everything: for each group the hard state, the terms and the end of the log.
    ///
    /// Shape: reads all records once. The tail holds at most [`TAIL_BYTES_MAX`] bytes, and at least the last entry.
    /// Errors: the first record that is missing, damaged or out of place.
    fn recover(&mut self) -> Result<Vec<(GroupId, Recovered)>, DeviceError>;

    /// Makes all of `writes` durable with one flush; durable on return, all or nothing. A group may occur more
    /// than once; order counts.
    ///
    /// Errors: final, see above.
    fn write(&mut self, writes: &[GroupWrite]) -> Result<(), DeviceError>;

    /// Entries of one group from `from` to `upto`, both counted, in order: at least one if `from` exists, and no
    /// more after the one that reaches `bytes_max`. Entries that do not exist are not an error: the answer ends.
    ///
    /// Errors: a damaged record, or the device.
    fn read(&mut self, group: GroupId, from: LogIndex, upto: LogIndex, bytes_max: u64) -> Result<Vec<Entry>, DeviceError>;

    /// Removes the entries of one group up to `upto`, counted; durable on return. What is not there needs no
    /// removing. The caller has made sure that a snapshot covers them.
    ///
    /// Errors: final, as for [`LogStore::write`].
    fn truncate_prefix(&mut self, group: GroupId, upto: LogIndex) -> Result<(), DeviceError>;

    /// Useful work for when there is nothing to write: some milliseconds of it. Returns whether more is left. A store
    /// that is never given this time does the work while it writes.
    ///
    /// Errors: final, as for [`LogStore::write`].
    fn upkeep(&mut self) -> Result<bool, DeviceError> {
        Ok(false)
    }

    /// The group that keeps the most of the oldest files alive; `None` when nothing is kept that could go. Compacting
    /// that group up to [`Pinned::upto`] is what gives the space back.
    fn oldest_pinned(&self) -> Option<Pinned> {
        None
    }

    /// Whose log this is; `None` before [`LogStore::set_identity`].
    fn identity(&self) -> Option<Identity>;

    /// Gives the store its owner; durable on return. Setting the same again changes nothing.
    ///
    /// Errors: [`DeviceError::ForeignIdentity`] when it already belongs to another.
    fn set_identity(&mut self, identity: Identity) -> Result<(), DeviceError>;
}

/// Most bytes of entries that [`LogStore::recover`] returns for one group; the rest is read on demand.
pub const TAIL_BYTES_MAX: u64 = 4 << 20;
