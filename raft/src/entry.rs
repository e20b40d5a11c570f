//! Entries of the log.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::position::{LogIndex, Position, Term};

/// What an entry's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EntryKind {
    /// Empty; a leader's first entry, which lets it commit what earlier terms left (Raft section 8).
    Noop,
    /// Bytes of the state machine, opaque here.
    Command,
    /// An encoded [`crate::Membership`], in force from the moment it is appended.
    Membership,
}

impl EntryKind {
    /// The number that stands for this kind in stored records.
    pub const fn number(self) -> u8 {
        match self {
            Self::Noop => 1,
            Self::Command => 2,
            Self::Membership => 3,
        }
    }

    /// The kind that `number` stands for; `None` for a kind of a later version.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Noop),
            2 => Some(Self::Command),
            3 => Some(Self::Membership),
            _ => None,
        }
    }
}

/// One entry. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place in the log.
    pub index: LogIndex,
    /// The term of the leader that made it.
    pub term: Term,
    /// What `data` is.
    pub kind: EntryKind,
    /// The bytes.
    pub data: Bytes,
}

impl Entry {
    /// Its term and index.
    pub const fn position(&self) -> Position {
        Position { term: self.term, index: self.index }
    }

    /// What it counts for in every budget of bytes: its data and a fixed overhead.
    pub const fn cost_bytes(&self) -> u64 {
        self.data.len() as u64 + ENTRY_OVERHEAD_BYTES
    }
}

/// Stands for the head of a record and of an in-memory entry, so that empty entries are not free.
pub(crate) const ENTRY_OVERHEAD_BYTES: u64 = 64;
