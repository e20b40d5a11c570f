//! Checkpoints as values: what a shard says about a machine, and what a machine is made of again.

use distric_exec::{Machine, RestoreError};
use distric_model::{Change, GroupId, Timestamp};
use distric_raft::Snapshot;

use super::meta::Meta;

/// What changed in a group's machine since its last checkpoint; with it the records are those of `snapshot`.
#[derive(Debug)]
pub struct Checkpoint {
    /// The group.
    pub group: GroupId,
    /// The last entry applied, and who were members there.
    pub snapshot: Snapshot,
    /// The changes, in order.
    pub changes: Vec<Change>,
}

/// A machine made from the records of a checkpoint.
#[derive(Debug)]
pub enum Restored {
    /// Of group 0.
    Meta(Box<Meta>),
    /// Of a work group.
    Work(Box<Machine>),
}

impl Restored {
    /// Makes the machine of `group` from records in the order of their keys. Errors: [`RestoreError`]; never a panic.
    pub fn of<'r>(group: GroupId, records: impl IntoIterator<Item = (&'r [u8], &'r [u8])>) -> Result<Self, RestoreError> {
        Ok(match group {
            GroupId::META => Self::Meta(Box::new(Meta::restore(records)?)),
            _ => Self::Work(Box::new(Machine::restore(records)?)),
        })
    }

    /// Machine time there: no later stamp may be earlier.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::Meta(meta) => meta.now(),
            Self::Work(machine) => machine.now(),
        }
    }
}
