//! Handing leadership over (Ongaro 2014, section 3.10): no new entries, the target's disk gets the whole log, then it
//! is told to campaign at once.

use distric_model::{Instant, NodeId};

use crate::core::Core;
use crate::door::{Outputs, TransferAnswer, TransferOutcome};
use crate::leader::Leader;
use crate::message::Body;

pub(crate) struct Transfer {
    pub(crate) target: NodeId,
    /// When to give up.
    pub(crate) due: Instant,
    /// When the target was told last.
    told_at: Option<Instant>,
    /// The leader is removed: it stands down whether or not the target takes over.
    is_farewell: bool,
}

impl Leader {
    /// Begins to hand over, if `target` can lead at all: one that will not vote for good must not.
    pub(crate) fn on_transfer(&mut self, core: &mut Core, now: Instant, target: NodeId, out: &mut Outputs) {
        let is_able = target != core.config.id && core.log.membership().voters().contains(&target) && self.peers.contains_key(&target);
        let outcome = match &self.transfer {
            Some(transfer) if transfer.target != target => TransferOutcome::Refused,
            Some(_) => TransferOutcome::Begun,
            None if !is_able => TransferOutcome::Refused,
            None => {
                self.begin_transfer(core, now, target, false);
                TransferOutcome::Begun
            }
        };
        out.transfer = Some(TransferAnswer { target, outcome });
    }

    fn begin_transfer(&mut self, core: &mut Core, now: Instant, target: NodeId, is_farewell: bool) {
        core.stats.transfers_count += 1;
        let due = now.plus_ms(core.config.election_timeout_ms_max);
        self.transfer = Some(Transfer { target, due, told_at: None, is_farewell });
    }

    /// This leader was removed. Prepares the voter who is furthest for taking over.
    pub(crate) fn say_farewell(&mut self, core: &mut Core, now: Instant) {
        match &mut self.transfer {
            Some(transfer) => transfer.is_farewell = true,
            None => {
                let matched = |voter: &NodeId| self.peers.get(voter).map(|progress| progress.matched);
                let best = core.log.membership().voters().iter().copied().max_by_key(matched);
                if let Some(target) = best {
                    self.begin_transfer(core, now, target, true);
                }
            }
        }
    }

    /// Tells the target as soon as its disk has everything, and again with every round of heartbeats should that be lost.
    /// Gives up in time. Returns whether this leader has to stand down.
    pub(crate) fn advance_transfer(&mut self, core: &mut Core, now: Instant, out: &mut Outputs) -> bool {
        let Some(transfer) = &mut self.transfer else { return false };
        let (target, is_farewell) = (transfer.target, transfer.is_farewell);
        let Some(progress) = self.peers.get(&target).filter(|_| now < transfer.due) else {
            self.transfer = None;
            core.stats.transfers_aborted_count += 1;
            out.transfer = Some(TransferAnswer { target, outcome: TransferOutcome::Aborted });
            return is_farewell;
        };
        let is_time = transfer.told_at.is_none_or(|at| now.since_us(at) >= core.config.heartbeat_ms * 1_000);
        // Matched means durable there: a target whose disk lags could lose its own election, or the log.
        if progress.matched == core.log.last().index && is_time {
            transfer.told_at = Some(now);
            self.lease.end();
            core.send(target, Body::TimeoutNow, out);
            return is_farewell;
        }
        false
    }
}
