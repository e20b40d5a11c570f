//! Liveness of workers: two witnesses before the log is asked to declare a run of a worker down.
//!
//! One witness is the stream: it broke, or nothing came over it. The other is gossip. Where both agree the group's leader proposes
//! `WorkerDown` at once; where gossip knows nothing of a worker the stream alone counts, after a time of grace; where gossip says
//! that the process lives it has longer to come back. A stream that speaks outweighs whatever gossip says.
//! Checked by: `core/tests/claims/liveness.rs`.

use std::sync::Arc;

use distric_model::{GroupId, WorkerId};

use super::partition::WORKER_GRACE_MS;
use super::workers::WORKER_SILENCE_MS;
use super::{Shard, ShardOutputs};
use crate::node::letters::ConsensusLetter;
use crate::node::liveness::{GossipView, Word};
use crate::node::machine_clock::Now;

/// A worker whose stream broke while gossip says that it lives is given up after this long all the same, milliseconds: whoever cannot
/// report results holds up their tasks.
pub const WORKER_GRACE_LIVE_MS: u64 = 15_000;
/// A stream over which nothing came for this long is silent enough to be the second witness, milliseconds; a worker says something
/// every second.
pub const WORKER_SILENCE_GONE_MS: u64 = 1_500;

const _: () = assert!(WORKER_SILENCE_GONE_MS < WORKER_SILENCE_MS, "gossip's word makes silence count earlier, not later");
const _: () = assert!(WORKER_GRACE_MS < WORKER_GRACE_LIVE_MS, "gossip's word for a worker gives it more time, not less");

impl Shard {
    /// Gossip has something to say.
    pub(super) fn on_gossip(&mut self, now: Now, view: Arc<GossipView>, out: &mut ShardOutputs) {
        // Of the views that all shards get, one is enough to learn addresses from.
        if self.options.index == 0 {
            let known = self.gossip.as_deref().map(GossipView::peers);
            let peers = view.peers();
            if known.as_ref() != Some(&peers) {
                out.to_consensus.push(ConsensusLetter::Found { peers });
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
        }
        if self.workers.cards().iter().any(|card| self.word_on(card.worker, card.generation) == Word::Gone) {
            self.watch_silence(now, 0);
        }
    }

    /// What gossip says about one run of a worker.
    fn word_on(&self, worker: WorkerId, generation: u64) -> Word {
        self.gossip.as_ref().map_or(Word::Unknown, |view| view.word_on(worker, generation))
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
