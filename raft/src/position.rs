//! Where in the log, and in which term: the small numbers of the protocol, one type each.

use std::fmt;

use distric_model::NodeId;
use serde::{Deserialize, Serialize};

/// A period with at most one leader (Raft section 5.1). Zero is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

impl Term {
    /// Before the first term.
    pub const ZERO: Self = Self(0);

    /// The term after this one; stays at the end of numbers, which no cluster reaches.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of an entry in its group's log. The first entry has index 1; zero is before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogIndex(pub u64);

impl LogIndex {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// The index after this one; saturates.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The index before this one; zero stays zero.
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The index `count` further; saturates.
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// Entries from `earlier` (not counted) to `self`; zero when `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of one [`crate::Persist`] output. Grows by one per write, starts at 1 in every run of the process, and
/// acknowledges everything before it as well. It is not an index: entries can be overwritten while they are on
/// their way to the disk, and "index 7 is durable" would then speak of the wrong entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An entry's term and index, which together name it: two entries of one position are equal (log matching,
/// Raft section 5.3). Ordered as the voting rule of section 5.4.1 compares logs: by term, then by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The term of the leader that made the entry.
    pub term: Term,
    /// Its place in the log.
    pub index: LogIndex,
}

impl Position {
    /// Before the first entry.
    pub const ZERO: Self = Self { term: Term::ZERO, index: LogIndex::ZERO };

    /// The position of `term` and `index`.
    pub const fn new(term: Term, index: LogIndex) -> Self {
        Self { term, index }
    }
}

impl fmt::Display for Position {
    /// `term/index`, as in `3/17`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.term, self.index)
    }
}

/// What a replica must remember besides its log (Raft figure 2, "persistent state").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The latest term seen.
    pub term: Term,
    /// Who got this replica's vote in `term`.
    pub vote: Option<NodeId>,
    /// An index known to be committed. May lag behind the truth: it rides along with other writes and is never
    /// flushed for itself, since a leader tells it again.
    pub commit: LogIndex,
}
