//! Checkpoints on the shard: what changed in a machine is told, and a machine takes the place of one that lags behind.
//!
//! Both letters come in the lane of the committed entries, so "up to here" means the same on both sides.

use distric_model::GroupId;
use distric_raft::Snapshot;

use super::{Shard, ShardOutputs};
use crate::node::checkpoint::{Checkpoint, Restored};
use crate::node::machine_clock::Now;

impl Shard {
    /// The raft core wants a checkpoint of a group that lives here.
    pub(super) fn on_checkpoint(&mut self, group: GroupId, snapshot: Snapshot, out: &mut ShardOutputs) {
        let mut changes = Vec::new();
        if group == GroupId::META {
            let Some(seat) = &mut self.meta else { return };
            seat.take_changes(&mut changes);
        } else {
            let partition = self.partition(group);
            if partition.halted().is_some() {
                // What it could not apply must stay in the log, for a version that can.
                return;
            }
            partition.machine.take_changes(&mut changes);
        }
        out.checkpoints.push(Checkpoint { group, snapshot, changes });
    }

    /// A machine from a checkpoint. One that has applied as much by itself stays.
    pub(super) fn on_install(&mut self, now: Now, group: GroupId, snapshot: &Snapshot, state: Restored, out: &mut ShardOutputs) {
        match state {
            Restored::Meta(meta) => {
                let Some(seat) = &mut self.meta else { return };
                if !seat.install(*meta, snapshot.position) {
                    return;
                }
                self.open_groups(out);
                self.tell_members(out);
                self.tell_gossip_keys(out);
                self.compile_if_behind(out);
                self.announce(now, out);
            }
            Restored::Work(machine) => {
                if !self.partition(group).install(*machine, snapshot.position) {
                    return;
                }
                self.propose_wants(now, group, out);
            }
        }
        self.release_barriers(now, group, out);
    }
}
