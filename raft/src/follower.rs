//! A follower: takes the leader's entries and acknowledges what is durable.
//!
//! Nothing received is ever acknowledged as such: an acknowledgement is computed from what the disk holds, in one
//! place, whatever it answers (append, doubled append, heartbeat).

use distric_model::{Instant, NodeId};

use crate::core::Core;
use crate::door::{Install, Outputs};
use crate::entry::{Entry, EntryKind};
use crate::leader::UNANSWERED_ROUND;
use crate::membership::Membership;
use crate::message::{AppendOutcome, Body, Heartbeat, HeartbeatReply};
use crate::position::{LogIndex, Position};
use crate::snapshot::Snapshot;

pub(crate) struct Follower {
    /// The leader of this term, once it was heard of.
    pub(crate) leader: Option<NodeId>,
    /// When to ask for an election.
    pub(crate) election_due: Instant,
    /// The log equals the leader's up to here. Starts at the commit index, which every leader's log contains.
    received: LogIndex,
    /// The last index acknowledged in this term; what was committed before needs no acknowledging.
    acknowledged: LogIndex,
    /// An append waits for its answer.
    owes_answer: bool,
}

impl Follower {
    pub(crate) fn new(core: &mut Core, now: Instant, leader: Option<NodeId>) -> Self {
        Self {
            leader,
            election_due: core.draw_election_due(now),
            received: core.hard.commit,
            acknowledged: core.hard.commit,
            owes_answer: false,
        }
    }

    /// Takes the entries of an `Append` of this term (Raft figure 2, "AppendEntries RPC").
    pub(crate) fn on_append(
        &mut self,
        core: &mut Core,
        from: NodeId,
        prev: Position,
        entries: Vec<Entry>,
        commit: LogIndex,
        out: &mut Outputs,
    ) {
        if !is_well_formed(core, prev, &entries) {
            core.stats.impossible_messages_count += 1;
            return;
        }
        // What is committed here is in every leader's log, so it needs no comparing and must not be touched.
        let settled = core.hard.commit;
        if prev.index >= settled && core.log.term_at(prev.index) != Some(prev.term) {
            let outcome = AppendOutcome::Refused { prev: prev.index, hint: core.log.highest_not_above(prev) };
            return core.reply(from, Body::AppendReply(outcome), out);
        }
        let upto = prev.index.plus(entries.len() as u64).max(settled);
        let mut fresh = entries;
        let known = fresh.iter().take_while(|entry| entry.index <= settled || core.log.term_at(entry.index) == Some(entry.term)).count();
        fresh.drain(..known);
        if let Some(first) = fresh.first() {
            // A leader never changes its own log, and terms never decrease: this one contradicts itself.
            let before = core.log.term_at(first.index.prev());
            if first.index <= self.received || before.is_none_or(|before| first.term < before) {
                core.stats.impossible_messages_count += 1;
                return;
            }
            // Only on a conflict. An append that ends early, perhaps a delayed one, must not cut what came after it.
            if first.index <= core.log.last().index {
                core.truncate_from(first.index);
            }
            fresh.drain(..).for_each(|entry| core.log.append(entry));
        }
        out.give_back(fresh);
        self.received = self.received.max(upto);
        core.commit_upto(commit.min(self.received));
        self.owes_answer = true;
        self.answer(core, out);
    }

    /// Acknowledges what has become durable, if an append waits for that.
    pub(crate) fn answer(&mut self, core: &mut Core, out: &mut Outputs) {
        let Some(leader) = self.leader else { return };
        if !core.durability.reset_is_durable() {
            return;
        }
        let (matched, is_all) = (self.matched(core), core.durability.durable() >= self.received);
        if self.owes_answer && (matched > self.acknowledged || is_all) {
            core.reply(leader, Body::AppendReply(AppendOutcome::Matched { matched }), out);
            self.acknowledged = matched;
            self.owes_answer = !is_all;
        }
    }

    pub(crate) fn on_heartbeat(&mut self, core: &mut Core, from: NodeId, heartbeat: Heartbeat, out: &mut Outputs) {
        let Heartbeat { commit, round } = heartbeat;
        // A leader names no commit index beyond what was acknowledged to it, so all of it is here.
        if commit > core.log.last().index {
            core.stats.impossible_messages_count += 1;
            return;
        }
        self.received = self.received.max(commit);
        core.commit_upto(commit);
        if round == UNANSWERED_ROUND {
            return;
        }
        let reply = HeartbeatReply { round, matched: self.matched(core), received: self.received };
        core.reply(from, Body::HeartbeatReply(reply), out);
    }

    /// The leader has compacted away what comes next here and offers a snapshot instead (Raft section 7).
    pub(crate) fn on_snapshot(&mut self, core: &mut Core, from: NodeId, snapshot: Snapshot, out: &mut Outputs) {
        let position = snapshot.position;
        if position.index == LogIndex::ZERO || position.term > core.hard.term || snapshot.membership.voters().is_empty() {
            core.stats.impossible_messages_count += 1;
            return;
        }
        let is_known = position.index <= core.hard.commit || core.log.term_at(position.index) == Some(position.term);
        if !is_known {
            // One at a time. A newer one is offered again when this one is through or has failed.
            if core.installing.is_none() {
                core.installing = Some((from, position));
                out.install = Some(Install { from, snapshot });
            }
            return;
        }
        // Late or doubled, or a prefix of what is here: nothing is given up for it, and the leader learns how far we are.
        core.stats.useless_snapshots_count += 1;
        if position.index > core.hard.commit {
            self.received = self.received.max(position.index);
            core.commit_upto(position.index);
        }
        self.owes_answer = true;
        self.answer(core, out);
    }

    /// The log has begun anew behind a snapshot. All of it is committed, so it equals every leader's log.
    pub(crate) fn on_reset(&mut self, core: &Core) {
        self.received = core.log.last().index;
        self.owes_answer = true;
    }

    /// Equal to the leader's log and on this disk.
    fn matched(&self, core: &Core) -> LogIndex {
        if core.durability.reset_is_durable() { self.received.min(core.durability.durable()) } else { LogIndex::ZERO }
    }

    pub(crate) fn assert_invariants(&self, core: &Core) {
        assert!(self.received <= core.log.last().index, "received {} of {}", self.received, core.log.last().index);
        assert!(
            self.acknowledged <= core.durability.durable().max(core.hard.commit),
            "acknowledged {} before it is durable",
            self.acknowledged
        );
    }
}

/// Whether a correct leader could have sent these entries behind `prev`.
fn is_well_formed(core: &Core, prev: Position, entries: &[Entry]) -> bool {
    let mut before = prev;
    entries.iter().all(|entry| {
        let follows = entry.index.0.checked_sub(1) == Some(before.index.0) && entry.term >= before.term && entry.term <= core.hard.term;
        before = entry.position();
        follows && (entry.kind != EntryKind::Membership || Membership::decode(&entry.data).is_ok())
    }) && prev.term <= core.hard.term
}
