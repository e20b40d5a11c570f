//! Notes of the shards as log events. The only place of the node that writes to the log about what happens in it.

use crate::node::shard::Note;

/// Writes one note.
pub fn write(shard: usize, note: Note) {
    match note {
        Note::GroupActive { group, term } => tracing::info!(target: "distric_core::raft", shard, group, term, "leading"),
        Note::GroupLost { group } => tracing::warn!(target: "distric_core::raft", shard, group, "no longer leading"),
        Note::GroupHalted { group, index, reason } => {
            tracing::error!(target: "distric_core::exec", shard, group, index, reason, "the group stopped at an entry that this version cannot apply");
        }
        Note::WorkerAttached { worker, name, slots } => {
            tracing::info!(target: "distric_core::workers", shard, worker, name, slots, "worker connected")
        }
        Note::WorkerDetached { worker } => tracing::warn!(target: "distric_core::workers", shard, worker, "worker disconnected"),
        Note::WorkerGivenUp { group, worker } => {
            tracing::warn!(target: "distric_core::workers", shard, group, worker, "worker given up, its tasks are placed again")
        }
        Note::CommandTooLarge { group, bytes, limit_bytes } => {
            tracing::warn!(target: "distric_core::raft", shard, group, bytes, limit_bytes, "command refused, no log takes one of its size")
        }
        Note::BadFrame { reason } => tracing::warn!(target: "distric_core::wire", shard, reason, "connection closed"),
        Note::CatalogInstalled { version } => tracing::info!(target: "distric_core::catalog", shard, version, "catalog in use"),
        Note::CatalogUnusable { reason } => {
            tracing::error!(target: "distric_core::catalog", shard, reason, "the committed catalog cannot be compiled")
        }
    }
}
