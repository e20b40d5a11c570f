//! What can go wrong with a device.

use std::io;
use std::path::PathBuf;

use distric_model::GroupId;
use distric_raft::LogIndex;

use crate::identity::Identity;

/// The log store failed. Ends the node: see [`crate::LogStore`].
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The operating system refused or failed an operation: disk full, flush failed, no permission.
    #[error("log store: {op} failed at {}: {source}{}", path.display(), remedy(source))]
    Io {
        /// What was tried.
        op: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The store reached its configured size.
    #[error("log store: {op} at {} needs more than the configured {limit_bytes} bytes", path.display())]
    Full {
        /// What was tried.
        op: &'static str,
        /// Where.
        path: PathBuf,
        /// The bound that was set.
        limit_bytes: u64,
    },
    /// A record of a log is not what was written.
    #[error("log store: {group} at index {index} is damaged: {reason}")]
    Corrupt {
        /// Whose.
        group: GroupId,
        /// Which entry; zero for the group's own record.
        index: LogIndex,
        /// How.
        reason: Corruption,
    },
    /// The store's files are damaged beyond naming an entry.
    #[error("log store: files at {} are damaged: {reason}", path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A later version of this program wrote the store.
    #[error("log store: written in format {found}, this program reads up to format {supported}: use the newer program")]
    NewerFormat {
        /// In the store.
        found: u32,
        /// By this program.
        supported: u32,
    },
    /// The store belongs to somebody else.
    #[error("log store: belongs to {found}, not to {given}")]
    ForeignIdentity {
        /// Stored.
        found: Identity,
        /// Offered.
        given: Identity,
    },
    /// A write was offered after one had failed.
    #[error("log store: an earlier write failed; nothing is written any more")]
    Failed,
}

/// Whether a disk, or what of it is granted, is full.
pub(crate) fn is_no_room(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What the operator can do about it, where that is plain.
fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        _ if is_no_room(source) => "; free some space there, or move the data directory",
        io::ErrorKind::PermissionDenied => "; give this user the right to write there",
        io::ErrorKind::ReadOnlyFilesystem => "; mount it writable, or move the data directory",
        _ => "",
    }
}

/// How a record is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// The bytes do not have their checksum.
    #[error("checksum {found:08x} instead of {stored:08x}")]
    Checksum {
        /// In the record.
        stored: u32,
        /// Of the bytes.
        found: u32,
    },
    /// Too short to be a record.
    #[error("only {found_bytes} bytes")]
    Short {
        /// How long it is.
        found_bytes: usize,
    },
    /// A sound record of another entry or group.
    #[error("holds the record of {group} index {index}")]
    Misplaced {
        /// Whose it is.
        group: GroupId,
        /// Which it is.
        index: LogIndex,
    },
    /// A version or kind that this program does not know.
    #[error("unknown {what} {number}")]
    Unknown {
        /// "version" or "kind".
        what: &'static str,
        /// Its number.
        number: u8,
    },
    /// An entry that must exist does not.
    #[error("the entry is missing")]
    Missing,
    /// Entries exist behind the recorded end of the log, or before its recorded start.
    #[error("the entry is outside of the recorded log {first}..={last}")]
    Outside {
        /// The recorded first index.
        first: LogIndex,
        /// The recorded last index.
        last: LogIndex,
    },
    /// The parts contradict each other.
    #[error("{0}")]
    Contradiction(#[from] distric_raft::RecoveredError),
}
