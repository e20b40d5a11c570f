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
    pub checks_count: u64,
}

impl Oracle {
    pub fn new(groups: &[GroupId]) -> Self {
        let committed = groups.iter().map(|group| (*group, Vec::new())).collect();
        Self { leaders: BTreeMap::new(), committed, commit_seen: BTreeMap::new(), checks_count: 0 }
    }

    pub fn on_start(&mut self, at: NodeAt) {
        self.commit_seen.retain(|(node, _), _| *node != at);
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
        let first = applied_count - out.committed.len();
        for (place, entry) in out.committed.iter().enumerate() {
            assert_eq!(entry.index, LogIndex((first + place + 1) as u64), "n{}: handed out of order", at + 1);
            let truth = self.committed[&group].get(first + place);
            assert_eq!(Some(entry), truth, "n{} {group}: handed out another entry than was committed", at + 1);
            assert_eq!(
                on_disk(&mut nodes[at].store, group, entry.index).as_ref(),
                Some(entry),
                "n{}: handed out before it is durable",
                at + 1
            );
        }
    }

    /// Nothing that promises durability is said before the disk holds it.
    fn check_said(&self, at: NodeAt, group: GroupId, out: &Outputs, nodes: &mut [Node]) {
        let node = &mut nodes[at];
        let (hard, last) = node.store.durable(group).expect("groups are founded on every disk");
        for (to, message) in &out.sends {
            let voted =
                |vote| assert_eq!((hard.term, hard.vote), (message.term, Some(vote)), "n{}: a vote left before it was durable", at + 1);
            let acked = |matched: LogIndex| assert!(matched <= last.index, "n{}: {matched} acknowledged, {} durable", at + 1, last.index);
            match &message.body {
                Body::Vote { .. } => voted(node.id),
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
        for entry in &self.committed[&group] {
            let found = on_disk(&mut nodes[at].store, group, entry.index);
            assert_eq!(found.as_ref(), Some(entry), "n{} {group}: leads without a committed entry", at + 1);
        }
    }

    /// Whatever a replica calls committed is durable on a majority of disks.
    fn check_committed(&mut self, at: NodeAt, group: GroupId, nodes: &mut [Node]) {
        let Some(raft) = nodes[at].rafts.as_ref().and_then(|rafts| rafts.get(&group)) else { return };
        let commit = raft.commit_index();
        let seen = self.commit_seen.insert((at, group), commit).unwrap_or_default();
        assert!(commit >= seen, "n{} {group}: commit index went back from {seen} to {commit}", at + 1);
        let truth = self.committed.get_mut(&group).unwrap();
        while (truth.len() as u64) < commit.0 {
            let index = LogIndex(truth.len() as u64 + 1);
            let found: Vec<Option<Entry>> = nodes.iter_mut().map(|node| on_disk(&mut node.store, group, index)).collect();
            let copies = |entry: &Entry| found.iter().filter(|other| other.as_ref() == Some(entry)).count();
            let durable = found.iter().flatten().find(|entry| copies(entry) > nodes.len() / 2);
            truth.push(durable.unwrap_or_else(|| panic!("n{} {group}: {index} committed without a durable majority", at + 1)).clone());
        }
    }

    /// Log matching (Raft figure 3): where two disks have an entry of one term at one index, all before is equal too.
    pub fn check_log_matching(&self, group: GroupId, nodes: &mut [Node]) {
        let logs: Vec<Vec<Entry>> =
            nodes.iter_mut().map(|node| node.store.read(group, LogIndex(1), LogIndex(u64::MAX), u64::MAX).unwrap()).collect();
        for (a, b) in (0..logs.len()).flat_map(|a| (0..a).map(move |b| (a, b))) {
            let equal_upto = logs[a].iter().zip(&logs[b]).rposition(|(x, y)| x.position() == y.position());
            if let Some(upto) = equal_upto {
                assert_eq!(logs[a][..=upto], logs[b][..=upto], "{group}: the logs of n{} and n{} part before {upto}", a + 1, b + 1);
            }
        }
    }
}

fn on_disk(store: &mut MemoryStore, group: GroupId, index: LogIndex) -> Option<Entry> {
    store.read(group, index, index, u64::MAX).unwrap().pop()
}
