//! A leader: brings its log to the others and finds out what is committed.

use std::collections::BTreeMap;

use bytes::Bytes;
use distric_model::{Instant, NodeId};

use crate::core::Core;
use crate::door::{Accepted, Outputs, ReadId, ReadReady, ReadRefusal, ReadRefused, Refusal};
use crate::entry::{ENTRY_OVERHEAD_BYTES, Entry, EntryKind};
use crate::lease::Lease;
use crate::message::{AppendOutcome, Body, Heartbeat, HeartbeatReply};
use crate::position::{LogIndex, Position};
use crate::progress::{Again, Delivery, Flow, Progress};
use crate::read::Reads;
use crate::snapshot::Snapshot;
use crate::status::PeerStatus;
use crate::transfer::Transfer;

pub(crate) struct Leader {
    /// Everybody who receives: the other members, and for a while those who were removed.
    pub(crate) peers: BTreeMap<NodeId, Progress>,
    pub(crate) heartbeat_due: Instant,
    /// Counts rounds of heartbeats in this term.
    round: u64,
    /// The first entry of this term, which is the no-op.
    pub(crate) term_first: LogIndex,
    reads: Reads,
    pub(crate) lease: Lease,
    /// Leadership is being handed over.
    pub(crate) transfer: Option<Transfer>,
    /// Bytes of entries of this term that are not committed.
    uncommitted_bytes: u64,
    /// Whose turn it was to have entries loaded.
    loaded_for: Option<NodeId>,
}

impl Leader {
    /// Takes over: everybody is unknown, and a no-op is appended, without which nothing of earlier terms could be
    /// committed (Raft section 5.4.2).
    pub(crate) fn new(core: &mut Core, now: Instant, out: &mut Outputs) -> Self {
        let last = core.log.last().index;
        let others = core.log.membership().members().filter(|member| *member != core.config.id);
        let mut leader = Self {
            peers: others.map(|member| (member, Progress::new(last, now))).collect(),
            heartbeat_due: next_heartbeat(core, now),
            round: 0,
            term_first: last.next(),
            reads: Reads::default(),
            lease: Lease::new(core.config.lease_ms),
            transfer: None,
            uncommitted_bytes: 0,
            loaded_for: None,
        };
        leader.append(core, EntryKind::Noop, Bytes::new());
        leader.send_to_all(core, out);
        leader
    }

    pub(crate) const fn uncommitted_bytes(&self) -> u64 {
        self.uncommitted_bytes
    }

    pub(crate) fn on_propose(&mut self, core: &mut Core, commands: Vec<Bytes>, out: &mut Outputs) {
        let first = core.log.last().index.next();
        let mut is_full = false;
        for command in commands {
            match self.refusal(core, &command, is_full) {
                None => self.append(core, EntryKind::Command, command),
                Some(reason) => {
                    // Behind a command that has to come back later nothing is taken, so that order can be kept.
                    is_full |= matches!(reason, Refusal::Full { .. });
                    core.refuse(command, reason, out);
                }
            }
        }
        let count = core.log.last().index.next().since(first);
        if count > 0 {
            out.accepted.push(Accepted { first, count, term: core.hard.term });
            self.send_to_all(core, out);
        }
    }

    fn refusal(&self, core: &Core, command: &Bytes, is_full: bool) -> Option<Refusal> {
        if self.transfer.is_some() {
            // The target could never get all of a log that still grows.
            return Some(Refusal::NotLeader { leader: None });
        }
        let (bytes, config) = (command.len() as u64, &core.config);
        if bytes > config.command_bytes_max {
            return Some(Refusal::TooLarge { limit_bytes: config.command_bytes_max });
        }
        // One alone is always taken, so that a small limit cannot stop the group.
        let is_full =
            is_full || self.uncommitted_bytes > 0 && self.uncommitted_bytes + bytes + ENTRY_OVERHEAD_BYTES > config.uncommitted_bytes_max;
        is_full.then_some(Refusal::Full { limit_bytes: config.uncommitted_bytes_max })
    }

    pub(crate) fn append(&mut self, core: &mut Core, kind: EntryKind, data: Bytes) {
        let entry = Entry { index: core.log.last().index.next(), term: core.hard.term, kind, data };
        if kind == EntryKind::Command {
            self.uncommitted_bytes += entry.cost_bytes();
        }
        core.log.append(entry);
    }

    pub(crate) fn send_to_all(&mut self, core: &mut Core, out: &mut Outputs) {
        for (peer, progress) in &mut self.peers {
            send_appends(core, self.round, *peer, progress, out);
        }
    }

    /// Whether the group has no other member.
    pub(crate) fn is_alone(&self) -> bool {
        self.peers.is_empty()
    }

    /// Sends the heartbeats of one round. Returns whether a majority was heard from in time; if not, nothing was
    /// sent, and this leader must stand down: others may have another by now (Ongaro 2014, section 6.2).
    pub(crate) fn on_heartbeat_due(&mut self, core: &mut Core, now: Instant, out: &mut Outputs) -> bool {
        let heard_at = core.log.membership().reached_by_majority(|voter| self.heard_at(core, voter, now));
        let is_heard = heard_at.is_some_and(|at| now.since_us(at) < core.config.election_timeout_ms_max * 1_000);
        if !is_heard {
            return false;
        }
        self.heartbeat_due = next_heartbeat(core, now);
        self.begin_round(core, now, out);
        self.dismiss_departed(core, now);
        true
    }

    fn begin_round(&mut self, core: &mut Core, now: Instant, out: &mut Outputs) {
        self.round += 1;
        self.lease.on_round(self.round, now);
        for (peer, progress) in &mut self.peers {
            // Never beyond what the follower has acknowledged: it may hold other entries there.
            let commit = core.hard.commit.min(progress.matched);
            progress.on_heartbeat_sent(self.round);
            progress.told_commit = progress.told_commit.max(commit);
            core.send(*peer, Body::Heartbeat(Heartbeat { commit, round: self.round }), out);
        }
    }

    /// Tells followers that wait for nothing what is committed, if that is wanted; see [`crate::Config::eager_commit`].
    pub(crate) fn tell_commit(&mut self, core: &Core, out: &mut Outputs) {
        if !core.config.eager_commit {
            return;
        }
        for (peer, progress) in &mut self.peers {
            let commit = core.hard.commit.min(progress.matched);
            if progress.told_commit < commit && progress.is_idle_stream() {
                progress.told_commit = commit;
                core.send(*peer, Body::Heartbeat(Heartbeat { commit, round: UNANSWERED_ROUND }), out);
            }
        }
    }

    /// Takes a read; see [`Reads`] and [`Lease`].
    pub(crate) fn on_read(&mut self, core: &mut Core, now: Instant, id: ReadId, out: &mut Outputs) {
        if self.lease.holds(now) && core.hard.commit >= self.term_first {
            core.stats.reads_count += 1;
            core.stats.lease_reads_count += 1;
            out.reads.push(ReadReady { id, index: core.hard.commit });
            return;
        }
        let limit_count = core.config.reads_max;
        if self.reads.len() >= limit_count {
            core.stats.reads_refused_count += 1;
            out.reads_refused.push(ReadRefused { id, reason: ReadRefusal::Full { limit_count } });
            return;
        }
        let is_alone = core.log.membership().is_only_voter(core.config.id);
        if self.reads.ask(id, core.hard.commit.max(self.term_first), self.round) && !is_alone {
            self.begin_round(core, now, out);
        }
    }

    /// Answers the reads that are proven by now.
    pub(crate) fn advance_reads(&mut self, core: &mut Core, now: Instant, out: &mut Outputs) {
        if self.reads.len() == 0 && !self.lease.waits() {
            return;
        }
        let confirmed = core.log.membership().reached_by_majority(|voter| {
            if voter == core.config.id { u64::MAX } else { self.peers.get(&voter).map_or(0, |peer| peer.confirmed_round) }
        });
        self.lease.on_confirmed(confirmed.unwrap_or(0).min(self.round));
        let before = out.reads.len();
        self.reads.release(confirmed.unwrap_or(0), core.hard.commit, &mut out.reads);
        core.stats.reads_count += (out.reads.len() - before) as u64;
        if self.reads.wants_round(self.round) {
            self.begin_round(core, now, out);
        }
    }

    /// Gives up its reads; for a leader that is none any more.
    pub(crate) fn drop_reads(&mut self) -> impl Iterator<Item = ReadId> {
        self.reads.drain()
    }

    fn heard_at(&self, core: &Core, voter: NodeId, now: Instant) -> Instant {
        if voter == core.config.id { now } else { self.peers.get(&voter).map_or(Instant::default(), |progress| progress.heard_at) }
    }

    pub(crate) fn on_append_reply(&mut self, core: &mut Core, now: Instant, from: NodeId, outcome: AppendOutcome, out: &mut Outputs) {
        let Some(progress) = self.peers.get_mut(&from) else {
            // Of one who was removed.
            core.stats.stale_messages_count += 1;
            return;
        };
        progress.heard_at = now;
        match outcome {
            AppendOutcome::Matched { matched } => self.on_matched(core, from, matched, true, out),
            AppendOutcome::Refused { prev, hint } => {
                core.stats.append_refusals_count += 1;
                if !(progress.is_refusal_current(prev) && prev < progress.next) {
                    return;
                }
                // The last entry that can be equal: not above the hint in index, nor in term.
                let limit = Position::new(hint.term, hint.index.min(prev.prev()));
                progress.become_probe(core.log.highest_not_above(limit).index.next().min(prev));
                send_appends(core, self.round, from, progress, out);
            }
            // To what it said in an earlier term, by one who knew of this term before it led it.
            AppendOutcome::Stale => core.stats.stale_messages_count += 1,
        }
    }

    pub(crate) fn on_heartbeat_reply(&mut self, core: &mut Core, now: Instant, from: NodeId, reply: HeartbeatReply, out: &mut Outputs) {
        let HeartbeatReply { round, matched, received } = reply;
        let Some(progress) = self.peers.get_mut(&from) else {
            core.stats.stale_messages_count += 1;
            return;
        };
        if !(round <= self.round && matched <= received) {
            core.stats.impossible_messages_count += 1;
            return;
        }
        progress.heard_at = now;
        progress.confirmed_round = progress.confirmed_round.max(round);
        if progress.on_heartbeat_answered(round, received) {
            core.stats.appends_lost_count += 1;
        }
        match progress.again(round, self.round) {
            Again::Nothing => {}
            Again::Want => out.snapshot_wanted.push(from),
            Again::Offer(snapshot) => offer(core, from, snapshot, out),
        }
        self.on_matched(core, from, matched, false, out);
        self.note_caught_up(core, from);
    }

    fn on_matched(&mut self, core: &mut Core, from: NodeId, matched: LogIndex, answers_append: bool, out: &mut Outputs) {
        let Some(progress) = self.peers.get_mut(&from).filter(|_| matched <= core.log.last().index) else {
            core.stats.impossible_messages_count += 1;
            return;
        };
        if progress.on_matched(matched, answers_append) {
            self.advance_commit(core);
        }
        if let Some(progress) = self.peers.get_mut(&from) {
            if progress.matched >= core.log.base().index {
                progress.leave_snapshot();
            }
            send_appends(core, self.round, from, progress, out);
        }
    }

    /// The driver has a snapshot for a follower, or has none.
    pub(crate) fn on_snapshot_at_hand(&mut self, core: &mut Core, to: NodeId, snapshot: Option<Snapshot>, out: &mut Outputs) {
        let Some(progress) = self.peers.get_mut(&to) else { return };
        let Flow::Snapshot(delivery) = &mut progress.flow else { return };
        let fits = |snapshot: &Snapshot| core.log.term_at(snapshot.position.index) == Some(snapshot.position.term);
        // Behind an older one the follower could not go on; one of another history is none of ours.
        match snapshot.filter(|snapshot| fits(snapshot) && snapshot.position.index <= core.hard.commit) {
            Some(snapshot) => {
                *delivery = Delivery::Offered { snapshot: snapshot.clone(), round: self.round, times: 1 };
                offer(core, to, snapshot, out);
            }
            None => *delivery = Delivery::Failed { round: self.round },
        }
    }

    /// How far the log may be compacted when `upto` is wished: entries that a follower needs behind the snapshot that it
    /// is installing are kept, or it would need another one then; but not without bound.
    pub(crate) fn may_compact(&self, core: &Core, upto: LogIndex) -> LogIndex {
        let kept = self.peers.values().filter_map(Progress::pinned);
        let bounded = kept.filter(|index| core.log.last().index.since(*index) <= core.config.snapshot_kept_entries_max);
        bounded.min().map_or(upto, |pinned| pinned.min(upto))
    }

    /// Commits what a majority of disks holds. Only an entry of this term is counted; those before it follow from
    /// log matching. Counting copies of an older term's entry can commit what is later overwritten (figure 8).
    pub(crate) fn advance_commit(&mut self, core: &mut Core) {
        let own = core.durability.durable();
        let matched =
            |voter| if voter == core.config.id { own } else { self.peers.get(&voter).map_or(LogIndex::ZERO, |peer| peer.matched) };
        let Some(reached) = core.log.membership().reached_by_majority(matched) else { return };
        let before = core.hard.commit;
        if !(reached > before && core.log.term_at(reached) == Some(core.hard.term)) {
            return;
        }
        core.commit_upto(reached);
        let mut index = before.next().max(self.term_first);
        while index <= reached {
            let entry = core.log.cached(index).expect("entries stay in memory until they are committed and handed out");
            if entry.kind == EntryKind::Command {
                self.uncommitted_bytes -= entry.cost_bytes();
            }
            index = index.next();
        }
    }

    /// Goes on with the followers that waited for entries from the log store.
    pub(crate) fn on_loaded(&mut self, core: &mut Core, out: &mut Outputs) {
        for (peer, progress) in self.peers.iter_mut().filter(|(_, progress)| progress.wants_load) {
            send_appends(core, self.round, *peer, progress, out);
        }
    }

    /// The next index to load, by turns among those who wait.
    pub(crate) fn wanted_load(&mut self, core: &Core) -> Option<LogIndex> {
        // Some were brought past what they waited for by an acknowledgement.
        let is_waiting =
            |progress: &Progress| progress.wants_load && progress.next < core.log.cache_first() && progress.next > core.log.base().index;
        let waiting = || self.peers.iter().filter(|(_, progress)| is_waiting(progress)).map(|(peer, progress)| (*peer, progress.next));
        let (peer, next) = waiting().find(|(peer, _)| Some(*peer) > self.loaded_for).or_else(|| waiting().next())?;
        self.loaded_for = Some(peer);
        Some(next)
    }

    pub(crate) fn peers(&self) -> Vec<PeerStatus> {
        let status = |(id, progress): (&NodeId, &Progress)| {
            let (streaming, in_flight_messages, in_flight_bytes) = match &progress.flow {
                Flow::Probe { sent } => (false, usize::from(sent.is_some()), 0),
                Flow::Stream { window } => (true, window.messages(), window.bytes()),
                Flow::Snapshot(_) => (false, 0, 0),
            };
            let needs_snapshot = matches!(progress.flow, Flow::Snapshot(_));
            let (matched, next) = (progress.matched, progress.next);
            PeerStatus { id: *id, matched, next, streaming, needs_snapshot, in_flight_messages, in_flight_bytes }
        };
        self.peers.iter().map(status).collect()
    }

    pub(crate) fn assert_invariants(&self, core: &Core) {
        assert!(core.durability.vote_is_durable(&core.hard), "leads term {} before its vote is durable", core.hard.term);
        self.peers.values().for_each(Progress::assert_invariants);
    }
}

/// A heartbeat of this round only tells the commit index; nobody answers it. Rounds of heartbeats count from one.
pub(crate) const UNANSWERED_ROUND: u64 = 0;

fn next_heartbeat(core: &Core, now: Instant) -> Instant {
    let (interval_us, now_us) = (core.config.heartbeat_ms * 1_000, now.as_us());
    let into_us = if core.config.aligned_heartbeats { now_us % interval_us } else { 0 };
    now.plus_us(interval_us - into_us)
}

fn offer(core: &mut Core, to: NodeId, snapshot: Snapshot, out: &mut Outputs) {
    core.stats.snapshots_offered_count += 1;
    core.send(to, Body::Snapshot(snapshot), out);
}

/// Sends one follower what it may be sent.
fn send_appends(core: &mut Core, round: u64, peer: NodeId, progress: &mut Progress, out: &mut Outputs) {
    progress.wants_load = false;
    while progress.may_send(&core.config) {
        let last = core.log.last().index;
        let is_probe = matches!(progress.flow, Flow::Probe { .. });
        if progress.next > last && !is_probe {
            return;
        }
        let before = progress.next.prev();
        let Some(term) = core.log.term_at(before) else {
            // Compacted away. The search is over until a snapshot brings the follower forward.
            core.stats.snapshots_needed_count += 1;
            progress.become_snapshot();
            return out.snapshot_wanted.push(peer);
        };
        let mut entries = out.take_spare();
        entries.extend(core.log.held(progress.next, last, core.config.append_bytes_max).cloned());
        if entries.is_empty() && progress.next <= last {
            progress.wants_load = true;
            return out.give_back(entries);
        }
        let bytes = entries.iter().map(Entry::cost_bytes).sum();
        let upto = before.plus(entries.len() as u64);
        core.send(peer, Body::Append { prev: Position::new(term, before), entries, commit: core.hard.commit }, out);
        progress.told_commit = progress.told_commit.max(core.hard.commit.min(upto));
        progress.on_sent(upto, bytes, round);
    }
}
