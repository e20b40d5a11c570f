//! Checkpoints and compaction: when a machine is asked what has changed, how far the log is let go behind that, and how a node that lags
//! behind the log is brought back (Raft section 7).
//!
//! The way of a checkpoint: enough entries were handed over → the shard tells the changes → the state writer makes them durable →
//! the replica compacts, keeping some entries for followers a little behind → the log store lets go.
//! Invariant: nothing is compacted that a durable checkpoint does not contain.

use distric_model::{GroupId, NodeId};
use distric_raft::{Input, Install, LogIndex, Recovered, Snapshot, StartError};

use super::{Consensus, ConsensusOutputs};
use crate::node::checkpoint::Restored;
use crate::node::letters::{Class, ShardLetter};
use crate::node::machine_clock::Now;
use crate::node::owner_of;

/// When checkpoints are made, and what stays in the log behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointPolicy {
    /// After so many entries of a group.
    pub entries: u64,
    /// Or after so many bytes of their data.
    pub bytes: u64,
    /// So many entries before the checkpoint stay in the log: a follower that lacks no more needs no snapshot.
    pub keep_entries: u64,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self { entries: 10_000, bytes: 64 << 20, keep_entries: 5_000 }
    }
}

/// A snapshot of a group is wanted as a file, for another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export {
    /// The group.
    pub group: GroupId,
    /// Who needs it.
    pub to: NodeId,
    /// An older one is of no use: the log begins behind this.
    pub at_least: LogIndex,
}

/// What was handed over since the last checkpoint of a group.
#[derive(Debug, Default)]
pub(super) struct SinceCheckpoint {
    entries: u64,
    bytes: u64,
    /// One is being made.
    is_open: bool,
}

impl SinceCheckpoint {
    /// More was handed over. Returns whether a checkpoint is due; then it counts as being made.
    pub fn count(&mut self, entries: u64, bytes: u64, policy: &CheckpointPolicy) -> bool {
        self.entries += entries;
        self.bytes += bytes;
        if self.is_open || (self.entries < policy.entries && self.bytes < policy.bytes) {
            return false;
        }
        *self = Self { is_open: true, ..Self::default() };
        true
    }
}

impl Consensus {
    /// As [`Self::open_group`], with the machine that was made from the group's checkpoint; [`Recovered::checkpoint`] says where it stands.
    pub fn restore_group(
        &mut self,
        now: Now,
        group: GroupId,
        recovered: Recovered,
        state: Restored,
        out: &mut ConsensusOutputs,
    ) -> Result<(), StartError> {
        let stamp = state.now();
        if let Some(snapshot) = recovered.checkpoint.clone() {
            // Before anything else that the shard hears of the group.
            out.letters.push((owner_of(group, self.options.shard_count), Class::Request, ShardLetter::Install { group, snapshot, state }));
        }
        self.open_group(now, group, recovered, out)?;
        if let Some(replica) = self.groups.get_mut(&group) {
            replica.clock.recover(stamp);
        }
        Ok(())
    }

    /// A group's checkpoint is durable at `snapshot`: the log behind it may go.
    pub fn on_checkpointed(&mut self, now: Now, group: GroupId, snapshot: &Snapshot, out: &mut ConsensusOutputs) {
        let keep_entries = self.options.checkpoints.keep_entries;
        let Some(replica) = self.groups.get_mut(&group) else { return };
        replica.since_checkpoint.is_open = false;
        let status = replica.raft.status();
        // A snapshot that was installed while the log got there by itself can be ahead of what was handed over.
        let covered = snapshot.position.index.min(status.handed_out);
        let upto = LogIndex(covered.0.saturating_sub(keep_entries));
        if upto > status.base.index {
            self.step(now, group, Input::Compacted { upto }, out);
        }
    }

    /// The file that was wanted in [`ConsensusOutputs::exports`] is there; or it cannot be made.
    pub fn on_exported(&mut self, now: Now, group: GroupId, to: NodeId, snapshot: Option<Snapshot>, out: &mut ConsensusOutputs) {
        let input = match snapshot {
            Some(snapshot) => {
                self.stats.snapshots_sent_count += 1;
                Input::SnapshotReady { to, snapshot }
            }
            None => Input::SnapshotFailed { peer: to },
        };
        self.step(now, group, input, out);
    }

    /// The snapshot wanted in [`ConsensusOutputs::installs`] is durable here, and this is its machine.
    pub fn on_installed(&mut self, now: Now, group: GroupId, snapshot: Snapshot, state: Restored, out: &mut ConsensusOutputs) {
        let owner = owner_of(group, self.options.shard_count);
        let Some(replica) = self.groups.get_mut(&group) else { return };
        self.stats.snapshots_installed_count += 1;
        replica.clock.recover(state.now());
        // Before the entries that follow it: in their lane.
        out.letters.push((owner, Class::Request, ShardLetter::Install { group, snapshot: snapshot.clone(), state }));
        self.step(now, group, Input::SnapshotInstalled { snapshot }, out);
    }

    /// The snapshot wanted in [`ConsensusOutputs::installs`] could not be had from `from`, or is of no use any more.
    pub fn on_install_failed(&mut self, now: Now, group: GroupId, from: NodeId, out: &mut ConsensusOutputs) {
        self.stats.snapshots_failed_count += 1;
        self.step(now, group, Input::SnapshotFailed { peer: from }, out);
    }

    /// Whether this replica has handed over as much by itself as a snapshot holds.
    pub fn has_outrun(&self, group: GroupId, install: &Install) -> bool {
        self.groups.get(&group).is_none_or(|replica| replica.raft.status().handed_out >= install.snapshot.position.index)
    }
}
