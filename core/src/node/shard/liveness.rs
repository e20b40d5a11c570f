//! Liveness of workers: two witnesses before the log is asked to declare a run of a worker down.
//!
//! One witness is the stream: it broke, or nothing came over it. The other is gossip. Where both agree the group's leader proposes
//! `WorkerDown` at once; where gossip knows nothing of a worker the stream alone counts, after a time of grace; where gossip says
//! that the process lives it has longer to come back. A stream that speaks outweighs whatever gossip says.
//! Checked by: `core/tests/claims/liveness.rs`.

use std::sync::Arc;

use distric_exec::Command;
use distric_exec::command::WorkerLoad;
use distric_exec::machine::busy::busy_level;
use distric_gossip::{State, Verdict};
use distric_model::{GroupId, NodeId, WorkerId};

use super::partition::WORKER_GRACE_MS;
use super::workers::WORKER_SILENCE_MS;
use super::{Shard, ShardOutputs};
use crate::node::letters::ConsensusLetter;
use crate::node::liveness::{GossipView, Word, gossip_generation};
use crate::node::machine_clock::Now;

/// A worker whose stream broke while gossip says that it lives is given up after this long all the same, milliseconds: whoever cannot
/// report results holds up their tasks.
pub const WORKER_GRACE_LIVE_MS: u64 = 15_000;
/// A stream over which nothing came for this long is silent enough to be the second witness, milliseconds; a worker says something
/// every second.
pub const WORKER_SILENCE_GONE_MS: u64 = 1_500;
/// The level of load of a worker's computer is told to the log once it has been another one for so long, milliseconds: a short peak is
/// nothing that placement could make use of, and entries are not free.
pub const WORKER_LOAD_LASTS_MS: u64 = 10_000;
/// Most such entries of one group for one view of gossip, of which there is one every second or so; the rest waits for the next.
pub const WORKER_LOADS_AT_ONCE_MAX: usize = 16;

const _: () = assert!(WORKER_SILENCE_GONE_MS < WORKER_SILENCE_MS, "gossip's word makes silence count earlier, not later");
const _: () = assert!(WORKER_GRACE_MS < WORKER_GRACE_LIVE_MS, "gossip's word for a worker gives it more time, not less");

impl Shard {
    /// Gossip has something to say.
    pub(super) fn on_gossip(&mut self, now: Now, view: Arc<GossipView>, out: &mut ShardOutputs) {
        // Of the views that all shards get, one is enough to learn addresses from.
        if self.options.index == 0 {
            let said = |view: &GossipView| (view.peers(), view.doubted_coordinators());
            let (known, news) = (self.gossip.as_deref().map(said), said(&view));
            if known.as_ref() != Some(&news) {
                let (peers, doubted) = news;
                out.to_consensus.push(ConsensusLetter::Found { peers, doubted });
            }
        }
        self.gossip = Some(view);
        let groups: Vec<GroupId> = self.partitions.keys().copied().collect();
        for group in groups {
            let mut absent = std::mem::take(&mut self.partition(group).absent);
            for (worker, absent) in &mut absent {
                if self.word_on(*worker, absent.generation) == Word::Gone {
                    absent.until = now.mono;
                }
            }
            self.partition(group).absent = absent;
            self.give_up_absent_workers(now, group, out);
            self.tell_loads(now, group, out);
        }
        if self.workers.cards().iter().any(|card| self.word_on(card.worker, card.generation) == Word::Gone) {
            self.watch_silence(now, 0);
        }
    }

    /// Proposes the level of load of the computers that have kept another one than the group holds for [`WORKER_LOAD_LASTS_MS`].
    fn tell_loads(&mut self, now: Now, group: GroupId, out: &mut ShardOutputs) {
        let Some(view) = self.gossip.clone() else { return };
        let Some(partition) = self.partitions.get_mut(&group) else { return };
        if !partition.is_active() {
            return partition.busy.clear();
        }
        let (machine, before) = (&partition.machine, std::mem::take(&mut partition.busy));
        let mut due = Vec::new();
        for (worker, generation, load) in view.worker_loads() {
            let level = busy_level(load.cpu_permille, load.memory_permille);
            let Some(known) = machine.worker_generation(worker).filter(|known| gossip_generation(*known) == generation) else { continue };
            if machine.worker_busy(worker, known).is_none_or(|held| held == level) {
                continue;
            }
            let since = before.get(&worker).filter(|(kept, _)| *kept == level).map_or(now.mono, |(_, since)| *since);
            if since.plus_ms(WORKER_LOAD_LASTS_MS) <= now.mono && due.len() < WORKER_LOADS_AT_ONCE_MAX {
                due.push(WorkerLoad { worker, generation: known, level });
                // Not again before the log has had the same time to take it.
                partition.busy.insert(worker, (level, now.mono));
            } else {
                partition.busy.insert(worker, (level, since));
            }
        }
        for load in due {
            self.propose_own(now, group, &Command::WorkerLoad(load), out);
        }
    }

    /// What gossip says about one run of a worker.
    fn word_on(&self, worker: WorkerId, generation: u64) -> Word {
        self.gossip.as_ref().map_or(Word::Unknown, |view| view.word_on(worker, generation))
    }

    /// The node's check of gossip: `DEGRADED` when this side is not the larger one of a partition, or when another coordinator of the
    /// cluster failed. Where gossip is switched off it has nothing against the node.
    pub(super) fn gossip_check(&self) -> &'static str {
        let Some(view) = self.gossip.as_deref() else { return "UP" };
        let is_cut_off = matches!(view.verdict, Verdict::Minority | Verdict::Even);
        let has_failed = |node: &NodeId| view.members.get(node).is_some_and(|seat| seat.standing.state == State::Dead);
        if is_cut_off || self.coordinators.iter().any(|(node, _)| has_failed(node)) { "DEGRADED" } else { "UP" }
    }

    /// How long a worker whose stream broke has to come back, milliseconds.
    pub(super) fn grace_ms(&self, worker: WorkerId, generation: u64) -> u64 {
        match self.word_on(worker, generation) {
            Word::Gone => 0,
            Word::Unknown => WORKER_GRACE_MS,
            Word::Live => WORKER_GRACE_LIVE_MS,
        }
    }

    /// How long a worker's stream may be silent, milliseconds.
    pub(super) fn silence_ms(&self, worker: WorkerId, generation: u64) -> u64 {
        if self.word_on(worker, generation) == Word::Gone { WORKER_SILENCE_GONE_MS } else { WORKER_SILENCE_MS }
    }
}
