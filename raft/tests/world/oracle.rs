//! What must hold after every step, whatever happened before.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use distric_model::{GroupId, NodeId};
use distric_raft::*;
use distric_raft_store::{LogStore, MemoryStore};

use super::{Node, NodeAt};

/// Sees everything that replicas say, and the flushed part of every disk.
pub struct Oracle {
    /// Who led which term. Election safety (Raft figure 3).
    leaders: BTreeMap<(GroupId, Term), NodeId>,
    /// The one true log of each group, as far as it was committed. State machine safety, leader completeness.
    committed: BTreeMap<GroupId, Vec<Entry>>,
    /// Commit index of each replica when last seen.
    commit_seen: BTreeMap<(NodeAt, GroupId), LogIndex>,
    /// The members in force in each replica when last seen.
    members_seen: BTreeMap<(NodeAt, GroupId), Membership>,
    /// For whom each replica voted, in every term. A vote is one per term whatever happens in between (Raft section 5.2).
    votes: BTreeMap<(NodeId, GroupId, Term), NodeId>,
    /// How far the log of each candidate went that asked for votes.
    candidacies: BTreeMap<(NodeId, GroupId, Term), Position>,
    /// The hard state that each replica handed to its disk last; since a restart, what the disk held then.
    saved: BTreeMap<(NodeAt, GroupId), HardState>,
    /// No command is ever proposed a second time: then each is committed at most once, and not at all if it was refused.
    pub serials_are_unique: bool,
    serials: BTreeSet<(GroupId, Bytes)>,
    refused: BTreeSet<(GroupId, Bytes)>,
    pub checks_count: u64,
}

impl Oracle {
    pub fn new(groups: &[GroupId], founding: &Entry) -> Self {
        let committed = groups.iter().map(|group| (*group, vec![founding.clone()])).collect();
        Self {
            leaders: BTreeMap::new(),
            committed,
            commit_seen: BTreeMap::new(),
            members_seen: BTreeMap::new(),
            votes: BTreeMap::new(),
            candidacies: BTreeMap::new(),
            saved: BTreeMap::new(),
            serials_are_unique: false,
            serials: BTreeSet::new(),
            refused: BTreeSet::new(),
            checks_count: 0,
        }
    }

    /// A node started from what its disk holds.
    pub fn on_start(&mut self, at: NodeAt, node: &Node) {
        self.saved.retain(|(found, _), _| *found != at);
        let groups: Vec<GroupId> = self.committed.keys().copied().collect();
        self.saved.extend(groups.into_iter().filter_map(|group| Some(((at, group), node.store.durable(group)?.0))));
        self.commit_seen.retain(|(node, _), _| *node != at);
        self.members_seen.retain(|(node, _), _| *node != at);
    }

    /// A snapshot is the log up to its position, the members included (Raft section 7).
    pub fn on_installed(&self, group: GroupId, snapshot: &Snapshot, state: &[Entry]) {
        let upto = state.len();
        assert_eq!(snapshot.position.index.0, upto as u64, "{group}: the snapshot has another length than its name says");
        assert!(self.committed[&group].get(..upto) == Some(state), "{group}: a snapshot at {} of something else", snapshot.position);
        assert_eq!(state.last().map(Entry::position), Some(snapshot.position), "{group}: the snapshot ends in another term");
        let mut members = state.iter().rev().filter(|entry| entry.kind == EntryKind::Membership);
        let members = members.next().map(|entry| Membership::decode(&entry.data).unwrap());
        assert_eq!(members.as_ref(), Some(&snapshot.membership), "{group}: a snapshot at {} with other members", snapshot.position);
    }

    pub fn committed(&self, group: GroupId) -> &[Entry] {
        &self.committed[&group]
    }

    /// `nodes[at]`, which led in `led_in` before, was stepped and said `out`; its writes of this step are not staged yet.
    pub fn check(&mut self, at: NodeAt, group: GroupId, led_in: Option<Term>, out: &Outputs, nodes: &mut [Node]) {
        self.checks_count += 1;
        let (id, applied_count) = (nodes[at].id, nodes[at].applied[&group].len());
        self.check_said(at, group, out, nodes);
        self.check_votes(id, group, out);
        self.check_written(at, group, led_in, out, nodes);
        self.check_bounds(at, group, nodes);
        self.refused.extend(out.refused.iter().map(|refused| (group, refused.command.clone())));
        if let Some(change) = out.role
            && change.role == RoleKind::Leader
        {
            let leader = *self.leaders.entry((group, change.term)).or_insert(id);
            assert_eq!(leader, id, "{group}: two leaders in term {}", change.term);
            self.check_complete(at, group, nodes);
        }
        self.check_committed(at, group, nodes);
        self.check_one_change(at, group, out, nodes);
        let first = applied_count - out.committed.len();
        for (place, entry) in out.committed.iter().enumerate() {
            assert_eq!(entry.index, LogIndex((first + place + 1) as u64), "n{}: handed out of order", at + 1);
            let truth = self.committed[&group].get(first + place);
            assert_eq!(Some(entry), truth, "n{} {group}: handed out another entry than was committed", at + 1);
            let disk = &mut nodes[at].store;
            if entry.index > base(disk, group) {
                assert_eq!(on_disk(disk, group, entry.index).as_ref(), Some(entry), "n{}: handed out before it is durable", at + 1);
            }
        }
        let (purged, applied) = (base(&nodes[at].store, group), nodes[at].applied[&group].len() as u64);
        assert!(purged.0 <= applied, "n{} {group}: purged up to {purged}, applied {applied}", at + 1);
    }

    /// A replica votes once in a term, whatever it forgot in between.
    fn check_votes(&mut self, id: NodeId, group: GroupId, out: &Outputs) {
        for (to, message) in &out.sends {
            let vote = match message.body {
                Body::Vote { last } | Body::VoteByLeave { last } => {
                    self.candidacies.insert((id, group, message.term), last);
                    id
                }
                Body::VoteReply { granted: true } => *to,
                _ => continue,
            };
            let given = *self.votes.entry((id, group, message.term)).or_insert(vote);
            assert_eq!(given, vote, "{group}: {id} votes twice in term {}", message.term);
        }
    }

    /// Terms, votes and commit indexes on a disk never go back, and a leader only appends (Raft figure 3).
    fn check_written(&mut self, at: NodeAt, group: GroupId, led_in: Option<Term>, out: &Outputs, nodes: &[Node]) {
        let Some(persist) = &out.persist else { return };
        if let Some(hard) = persist.hard_state {
            let before = self.saved.get(&(at, group)).copied().unwrap_or_default();
            assert!(hard.term >= before.term, "n{} {group}: term {} is written over {}", at + 1, hard.term, before.term);
            let keeps_vote = hard.term > before.term || before.vote.is_none() || hard.vote == before.vote;
            assert!(keeps_vote, "n{} {group}: the vote in term {} is taken back", at + 1, hard.term);
            self.check_choice(at, group, before, hard, nodes);
            assert!(hard.commit >= before.commit, "n{} {group}: commit {} is written over {}", at + 1, hard.commit, before.commit);
            self.saved.insert((at, group), hard);
        }
        let leads = nodes[at]
            .rafts
            .as_ref()
            .and_then(|rafts| rafts.get(&group))
            .is_some_and(|raft| Some(raft.term()) == led_in && raft.is_leader());
        assert!(
            !(leads && (persist.truncate_from.is_some() || persist.reset_to.is_some())),
            "n{} {group}: a leader cuts its own log",
            at + 1
        );
        let was = self.commit_seen.get(&(at, group)).copied().unwrap_or_default();
        if let Some(anew) = persist.reset_to {
            // Behind the very entry that is committed here: it was not on this disk yet, so nothing behind it was either.
            assert!(anew.index >= was, "n{} {group}: the log begins anew behind {anew}, committed here up to {was}", at + 1);
        }
        let known = self.committed[&group].len() as u64;
        let cut = persist.truncate_from.filter(|cut| cut.0 <= known);
        if let Some(cut) = cut {
            // What is committed somewhere may still be cut from a disk that held something else there.
            assert!(cut > was, "n{} {group}: cut from {cut}, committed here up to {was}", at + 1);
        }
    }

    /// A vote goes to a log that lacks nothing of the voter's own (Raft section 5.4.1).
    fn check_choice(&self, at: NodeAt, group: GroupId, before: HardState, now: HardState, nodes: &[Node]) {
        let chosen = now.vote.filter(|chosen| (now.term, Some(*chosen)) != (before.term, before.vote) && *chosen != nodes[at].id);
        let asked = chosen.and_then(|chosen| self.candidacies.get(&(chosen, group, now.term)));
        let own = nodes[at].rafts.as_ref().and_then(|rafts| rafts.get(&group)).map(|raft| raft.status().last);
        if let (Some(asked), Some(own)) = (asked, own) {
            assert!(own <= *asked, "n{} {group}: a log up to {own} votes for one up to {asked} in term {}", at + 1, now.term);
        }
    }

    /// What is on its way to a follower, and what waits, has a bound.
    fn check_bounds(&self, at: NodeAt, group: GroupId, nodes: &[Node]) {
        if !self.checks_count.is_multiple_of(BOUNDS_EVERY) {
            return;
        }
        let Some(raft) = nodes[at].rafts.as_ref().and_then(|rafts| rafts.get(&group)) else { return };
        for peer in raft.status().peers {
            assert!(peer.matched < peer.next, "n{} {group}: matched {} is not before next {}", at + 1, peer.matched, peer.next);
            assert!(peer.in_flight_messages <= 64 && peer.in_flight_bytes <= (8 << 20) + (4 << 20), "n{} {group}: {peer:?}", at + 1);
        }
    }

    /// Of two configurations that follow each other no majorities are disjoint (Ongaro 2014, section 4.3).
    fn check_succession(group: GroupId, before: &Membership, after: &Membership) {
        let follows = match (before.is_joint(), after.is_joint()) {
            (true, true) => false,
            (true, false) => after.voters() == before.voters(),
            (false, true) => after.outgoing() == before.voters(),
            (false, false) => after.voters() == before.voters(),
        };
        assert!(follows, "{group}: {after:?} cannot follow {before:?}");
    }

    /// A leader has at most one membership entry that is not committed.
    fn check_one_change(&self, at: NodeAt, group: GroupId, out: &Outputs, nodes: &mut [Node]) {
        if !nodes[at].rafts.as_ref().and_then(|rafts| rafts.get(&group)).is_some_and(Raft::is_leader) {
            return;
        }
        let known = LogIndex(self.committed[&group].len() as u64);
        let mut entries = nodes[at].store.read(group, known.next(), LogIndex(u64::MAX), u64::MAX).unwrap();
        if let Some(persist) = &out.persist {
            entries.retain(|entry| persist.entries.first().is_none_or(|first| entry.index < first.index));
            entries.extend(persist.entries.iter().filter(|entry| entry.index > known).cloned());
        }
        let changes = entries.iter().filter(|entry| entry.kind == EntryKind::Membership).count();
        assert!(changes <= 1, "n{} {group}: {changes} changes of members at once", at + 1);
    }

    /// Nothing that promises durability is said before the disk holds it.
    fn check_said(&self, at: NodeAt, group: GroupId, out: &Outputs, nodes: &mut [Node]) {
        let node = &mut nodes[at];
        let (hard, last) = node.store.durable(group).unwrap_or_default();
        for (to, message) in &out.sends {
            let voted =
                |vote| assert_eq!((hard.term, hard.vote), (message.term, Some(vote)), "n{}: a vote left before it was durable", at + 1);
            let acked = |matched: LogIndex| assert!(matched <= last.index, "n{}: {matched} acknowledged, {} durable", at + 1, last.index);
            match &message.body {
                Body::Vote { .. } | Body::VoteByLeave { .. } => voted(node.id),
                Body::VoteReply { granted: true } => voted(*to),
                Body::AppendReply(AppendOutcome::Matched { matched }) => acked(*matched),
                Body::HeartbeatReply(reply) => acked(reply.matched),
                _ => {}
            }
            let binds = !matches!(message.body, Body::PreVote { .. } | Body::PreVoteReply { granted: true });
            assert!(!binds || message.term <= hard.term, "n{}: term {} left before it was durable", at + 1, message.term);
        }
    }

    /// A leader has every entry that was ever committed. It won with a durable vote, so all of its log is on its disk.
    fn check_complete(&self, at: NodeAt, group: GroupId, nodes: &mut [Node]) {
        let compacted = base(&nodes[at].store, group);
        for entry in self.committed[&group].iter().filter(|entry| entry.index > compacted) {
            let found = on_disk(&mut nodes[at].store, group, entry.index);
            assert_eq!(found.as_ref(), Some(entry), "n{} {group}: leads without a committed entry", at + 1);
        }
    }

    /// Whatever a replica calls committed is durable on a majority of disks, in each half of a joint configuration.
    fn check_committed(&mut self, at: NodeAt, group: GroupId, nodes: &mut [Node]) {
        let Some(raft) = nodes[at].rafts.as_ref().and_then(|rafts| rafts.get(&group)) else { return };
        let commit = raft.commit_index();
        // Those in force when the step began: a leader commits first and takes the next step of a change then.
        let members = self.members_seen.insert((at, group), raft.membership().clone()).unwrap_or_else(|| raft.membership().clone());
        let sets: Vec<Vec<NodeId>> = members.quorum_sets().map(<[NodeId]>::to_vec).collect();
        let seen = self.commit_seen.insert((at, group), commit).unwrap_or_default();
        assert!(commit >= seen, "n{} {group}: commit index went back from {seen} to {commit}", at + 1);
        let truth = self.committed.get_mut(&group).unwrap();
        while (truth.len() as u64) < commit.0 {
            let index = LogIndex(truth.len() as u64 + 1);
            let found: Vec<(NodeId, Option<Entry>)> =
                nodes.iter_mut().map(|node| (node.id, on_disk(&mut node.store, group, index))).collect();
            let has = |voter: &NodeId, entry: &Entry| found.iter().any(|(id, other)| id == voter && other.as_ref() == Some(entry));
            let is_durable = |entry: &&Entry| sets.iter().all(|set| set.iter().filter(|voter| has(voter, entry)).count() > set.len() / 2);
            let durable = found.iter().filter_map(|(_, entry)| entry.as_ref()).find(is_durable);
            let entry = durable.unwrap_or_else(|| panic!("n{} {group}: {index} committed without a durable majority", at + 1)).clone();
            if entry.kind == EntryKind::Command && self.serials_are_unique {
                let serial = (group, entry.data.clone());
                assert!(!self.refused.contains(&serial), "{group}: {index} was refused and is committed");
                assert!(self.serials.insert(serial), "{group}: {index} is committed a second time");
            }
            if entry.kind == EntryKind::Membership {
                let members = |entry: &Entry| Membership::decode(&entry.data).expect("what is committed can be read");
                let before = truth.iter().rev().find(|entry| entry.kind == EntryKind::Membership).map(members);
                Self::check_succession(group, &before.expect("the founding entry is one"), &members(&entry));
            }
            truth.push(entry);
        }
    }

    /// Log matching (Raft figure 3): where two disks have an entry of one term at one index, all before is equal too.
    pub fn check_log_matching(&self, group: GroupId, nodes: &mut [Node]) {
        let mut logs: Vec<BTreeMap<LogIndex, Entry>> = Vec::new();
        for node in nodes {
            let from = base(&node.store, group).next();
            let entries = node.store.read(group, from, LogIndex(u64::MAX), u64::MAX).unwrap();
            logs.push(entries.into_iter().map(|entry| (entry.index, entry)).collect());
        }
        for (a, b) in (0..logs.len()).flat_map(|a| (0..a).map(move |b| (a, b))) {
            let both = logs[a].values().filter_map(|entry| Some((entry, logs[b].get(&entry.index)?))).collect::<Vec<_>>();
            if let Some(upto) = both.iter().rposition(|(x, y)| x.position() == y.position()) {
                for (x, y) in &both[..=upto] {
                    assert_eq!(x, y, "{group}: the logs of n{} and n{} part before {upto}", a + 1, b + 1);
                }
            }
        }
    }
}

/// The bounds of a leader are looked at in every so many steps.
const BOUNDS_EVERY: u64 = 16;

fn base(store: &MemoryStore, group: GroupId) -> LogIndex {
    store.base(group).unwrap_or_default().index
}

fn on_disk(store: &mut MemoryStore, group: GroupId, index: LogIndex) -> Option<Entry> {
    store.read(group, index, index, u64::MAX).unwrap().pop()
}
