//! What must hold after every step, whatever happened before.

use std::collections::BTreeMap;

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
    pub checks_count: u64,
}

impl Oracle {
    pub fn new(groups: &[GroupId], founding: &Entry) -> Self {
        let committed = groups.iter().map(|group| (*group, vec![founding.clone()])).collect();
        Self { leaders: BTreeMap::new(), committed, commit_seen: BTreeMap::new(), members_seen: BTreeMap::new(), checks_count: 0 }
    }

    pub fn on_start(&mut self, at: NodeAt) {
        self.commit_seen.retain(|(node, _), _| *node != at);
        self.members_seen.retain(|(node, _), _| *node != at);
    }

    pub fn committed(&self, group: GroupId) -> &[Entry] {
        &self.committed[&group]
    }

    /// `nodes[at]` was stepped and said `out`; its writes of this step are not staged yet.
    pub fn check(&mut self, at: NodeAt, group: GroupId, out: &Outputs, nodes: &mut [Node]) {
        self.checks_count += 1;
        let (id, applied_count) = (nodes[at].id, nodes[at].applied[&group].len());
        self.check_said(at, group, out, nodes);
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
            truth.push(durable.unwrap_or_else(|| panic!("n{} {group}: {index} committed without a durable majority", at + 1)).clone());
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

fn base(store: &MemoryStore, group: GroupId) -> LogIndex {
    store.base(group).unwrap_or_default().index
}

fn on_disk(store: &mut MemoryStore, group: GroupId, index: LogIndex) -> Option<Entry> {
    store.read(group, index, index, u64::MAX).unwrap().pop()
}
