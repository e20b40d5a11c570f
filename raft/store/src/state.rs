//! Where the checkpoints of the state machines are: for each group the records of its machine as of one position of its log.
//!
//! In: what changed since the last checkpoint.  Out: the records, in the order of their keys.
//! Invariant: records and position of a group change together, durably, or not at all.
//! Invariant: a record is returned as it was written or reported as damaged.
//! Checked by: `tests/state.rs`, for every store.

mod file;
mod lmdb;
mod memory;

use distric_model::{Change, GroupId};
use distric_raft::Snapshot;

use crate::error::DeviceError;
use crate::identity::Identity;

pub use file::{SnapshotFile, write_snapshot};
pub use lmdb::{LmdbStateStore, StateOptions};
pub use memory::MemoryStateStore;

/// The records of one group in the order of their keys: key and value.
pub type RecordIter<'r> = dyn Iterator<Item = (&'r [u8], &'r [u8])> + 'r;

/// A record that is owned: key and value.
pub type OwnedRecord = (Vec<u8>, Vec<u8>);

/// The checkpoints of all groups of a node.
///
/// As with the log, a device that failed a write is not written to again; the caller stops the node.
pub trait StateStore: Send {
    /// The groups that have a checkpoint, ascending.
    fn groups(&self) -> Vec<GroupId>;

    /// Where a group's checkpoint stands.
    fn snapshot(&self, group: GroupId) -> Option<&Snapshot>;

    /// Brings a group's records to `snapshot`: of two changes of one key the later counts. Durable on return. Returns `false`, and
    /// nothing has changed, when what is stored is as new already.
    ///
    /// Errors: final.
    fn commit(&mut self, group: GroupId, snapshot: &Snapshot, changes: &[Change]) -> Result<bool, DeviceError>;

    /// Puts other records in the place of all that a group has, unless what is stored is as new already (`false`). `bytes`: about how
    /// many all of them have. Durable on return.
    ///
    /// Errors: the first error among the records, and nothing has changed; or the device's, which is final.
    fn replace(
        &mut self,
        group: GroupId,
        snapshot: &Snapshot,
        bytes: u64,
        records: &mut dyn Iterator<Item = Result<OwnedRecord, DeviceError>>,
    ) -> Result<bool, DeviceError>;

    /// Lends all records of a group, in the order of their keys, as of one moment.
    ///
    /// Errors: a damaged record, before which the iterator ended: what was made of the others is to be thrown away.
    fn read(&self, group: GroupId, with: &mut dyn FnMut(&mut RecordIter<'_>)) -> Result<(), DeviceError>;

    /// Whose checkpoints these are; `None` before [`StateStore::set_identity`].
    fn identity(&self) -> Option<Identity>;

    /// Gives the store its owner; durable on return. Setting the same again changes nothing.
    ///
    /// Errors: [`DeviceError::ForeignIdentity`] when it already belongs to another.
    fn set_identity(&mut self, identity: Identity) -> Result<(), DeviceError>;
}

/// Whether a checkpoint at `offered` is news to a group that has `stored`.
fn is_news(stored: Option<&Snapshot>, offered: &Snapshot) -> bool {
    stored.is_none_or(|stored| stored.position.index < offered.position.index)
}
