//! Durable logs: where the entries and the hard states of all groups of a node become durable together.
//!
//! In: [`GroupWrite`]s of many groups.  Out: durability on return, or a [`DeviceError`] that ends the node.
//! May touch: `model`, the types of `raft`, files.  Never: sockets, clocks, the protocol.
//! Lives on: the log writer thread. Calls block.
//! Invariant: after `write` returned, a power cut loses none of it; one that failed is never tried again.
//! Invariant: a record is returned as it was written or reported as corrupt, never skipped.
//! Start reading at [`LogStore`].

mod directory;
mod error;
mod identity;
mod lmdb;
mod memory;
mod record;
mod segment;
mod state;
mod store;

pub use error::{Corruption, DeviceError};
pub use identity::Identity;
pub use lmdb::{LmdbOptions, LmdbStore};
pub use memory::MemoryStore;
pub use segment::{SEGMENT_BYTES, SegmentOptions, SegmentStore};
pub use state::{LmdbStateStore, MemoryStateStore, OwnedRecord, RecordIter, SnapshotFile, StateOptions, StateStore, write_snapshot};
pub use store::{GroupWrite, LogStore, Pinned, TAIL_BYTES_MAX};
