//! A leader changes the members: one entry after the other, each only when the one before is committed.
//!
//! Whatever step comes next follows from the last membership entry alone, so a new leader goes on where the old one
//! stopped. It waits until it has committed an entry of its own term: a change of a predecessor that is not committed
//! could otherwise come back beside this one, with disjoint majorities (Ongaro 2014, chapter 4, and its erratum).
//! Invariant: at most one membership entry is uncommitted.

use distric_model::{Instant, NodeId};

use crate::core::Core;
use crate::door::{ChangeAnswer, ChangeRefusal, Outputs};
use crate::entry::EntryKind;
use crate::leader::Leader;
use crate::membership::Membership;
use crate::position::Position;
use crate::progress::Progress;

impl Leader {
    /// Begins a change, if none is under way.
    pub(crate) fn on_change(&mut self, core: &mut Core, now: Instant, wanted: &Membership, out: &mut Outputs) -> ChangeAnswer {
        match self.first_step(core, wanted) {
            Ok(step) => ChangeAnswer::Begun { at: self.append_membership(core, now, &step, out) },
            Err(refusal) => ChangeAnswer::Refused(refusal),
        }
    }

    fn first_step(&self, core: &Core, wanted: &Membership) -> Result<Membership, ChangeRefusal> {
        let present = core.log.membership();
        if core.hard.commit < self.term_first {
            return Err(ChangeRefusal::NotReady);
        }
        if self.transfer.is_some() {
            return Err(ChangeRefusal::Transferring);
        }
        if present.is_joint() || core.hard.commit < core.log.membership_index() {
            return Err(ChangeRefusal::InProgress);
        }
        if wanted.voters().is_empty() || wanted.is_joint() || wanted.goal().is_some() {
            return Err(ChangeRefusal::NotPlain);
        }
        if present == wanted {
            return Err(ChangeRefusal::Unchanged);
        }
        Ok(present.first_step(wanted)?)
    }

    fn append_membership(&mut self, core: &mut Core, now: Instant, membership: &Membership, out: &mut Outputs) -> Position {
        core.stats.membership_entries_count += 1;
        self.append(core, EntryKind::Membership, membership.encode());
        let at = core.log.last();
        // In force from now on.
        for member in membership.members().filter(|member| *member != core.config.id) {
            self.peers.entry(member).or_insert_with(|| Progress::new(at.index, now)).departing = None;
        }
        // Whoever was close behind before has to show that it is so with this entry, too.
        self.peers.values_mut().for_each(|progress| progress.caught_up_rounds = 0);
        let grace_ms = DEPARTING_ELECTIONS * core.config.election_timeout_ms_max;
        for (_, progress) in self.peers.iter_mut().filter(|(peer, _)| !membership.is_member(**peer)) {
            progress.departing.get_or_insert((at.index, now.plus_ms(grace_ms)));
        }
        self.send_to_all(core, out);
        at
    }

    /// Takes the next step of a change, if it is time. Returns whether this leader is not a member any more, by an entry
    /// that is committed.
    pub(crate) fn advance_change(&mut self, core: &mut Core, now: Instant, out: &mut Outputs) -> bool {
        if core.hard.commit < core.log.membership_index().max(self.term_first) {
            return false;
        }
        let present = core.log.membership();
        let next = if present.is_joint() {
            present.leave_joint()
        } else if let Some(joint) = present.enter_goal() {
            if self.transfer.is_some() || !present.joining().all(|node| self.is_caught_up(core, node)) {
                return false;
            }
            core.stats.promotions_count += 1;
            joint
        } else {
            return !present.is_voter(core.config.id);
        };
        self.append_membership(core, now, &next, out);
        false
    }

    fn is_caught_up(&self, core: &Core, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|progress| progress.caught_up_rounds >= core.config.promotion_rounds)
    }

    /// An answered heartbeat shows how far a follower lags behind. A learner has to have the entry that made it one, too:
    /// otherwise it would not know that it may be asked (Ongaro 2014, section 4.2.1).
    pub(crate) fn note_caught_up(&mut self, core: &Core, from: NodeId) {
        let membership_index = core.log.membership_index();
        if let Some(progress) = self.peers.get_mut(&from) {
            let lag = core.hard.commit.since(progress.matched);
            let lacks_little = lag <= core.config.promotion_lag_entries_max && progress.matched >= membership_index;
            progress.caught_up_rounds = if lacks_little { progress.caught_up_rounds.saturating_add(1) } else { 0 };
        }
    }

    /// Sends no more to those who know that they are removed, or have had their time to learn it. Called after a round of
    /// heartbeats, which carried the commit index to them.
    pub(crate) fn dismiss_departed(&mut self, core: &Core, now: Instant) {
        let commit = core.hard.commit;
        self.peers.retain(|_, progress| match progress.departing {
            Some((index, until)) => now < until && (commit < index || progress.matched < index),
            None => true,
        });
    }
}

/// For how many of the longest election timeouts a removed node is told so, should it not answer.
const DEPARTING_ELECTIONS: u64 = 5;
