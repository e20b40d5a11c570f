//! The node: the rooms composed, without a clock, a socket or a thread.
//!
//! In: frames, letters from the other cores, the time.  Out: frames, letters, writes.
//! May touch: every pure room.  Never: sockets, files, clocks, threads, async, unseeded randomness.
//! The reactor around it owns every system call; a simulator may take the reactor's place and drive the same code.
//! Start reading at [`shard::Shard`], then [`consensus::Consensus`].

pub mod catalog_change;
pub mod catalog_view;
pub mod checkpoint;
pub mod compile;
pub mod consensus;
pub mod draw;
pub mod envelope;
pub mod letters;
pub mod liveness;
pub mod machine_clock;
pub mod meta;
pub mod peer;
pub mod peer_wire;
pub mod question;
pub mod refusal;
pub mod rule_sets;
pub mod shard;

use distric_model::{GroupId, Slot};

/// The shard that owns a group: its machine lives there.
pub fn owner_of(group: GroupId, shard_count: usize) -> usize {
    group.0 as usize % shard_count
}

/// The work group of a slot under a map of `work_groups` equal parts.
pub fn group_of(slot: Slot, work_groups: u32) -> GroupId {
    GroupId(1 + u32::from(slot.number()) % work_groups.max(1))
}
