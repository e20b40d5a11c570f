//! What the groups of this node have counted, for whoever looks at the node from outside.

use std::collections::BTreeMap;

use distric_model::{GroupId, NodeId};
use distric_raft::{RoleChange, Status};

use super::Consensus;

/// Counters of all groups since the start of the process.
#[derive(Clone, Debug, Default)]
pub struct ConsensusStats {
    /// Leaders that each group has had, as this node learnt of them: one for each term with a known leader.
    pub leader_changes_count: BTreeMap<GroupId, u64>,
    /// Proposals of this node that went to a leader on another node.
    pub forwarded_count: u64,
    /// Proposals of other nodes that this one took as their leader.
    pub taken_for_others_count: u64,
    /// Proposals that found no leader in time, or whose lead was over.
    pub unplaced_count: u64,
    /// Proposals that a leader refused because too much waited to be committed.
    pub overloaded_count: u64,
    /// Snapshots that this node made for others.
    pub snapshots_sent_count: u64,
    /// Snapshots that this node was offered and began to fetch.
    pub snapshots_received_count: u64,
    /// Fetched snapshots that were put in place.
    pub snapshots_installed_count: u64,
    /// Fetches and installations that came to nothing.
    pub snapshots_failed_count: u64,
    /// The last term in which a leader of each group was known.
    last_lead: BTreeMap<GroupId, (u64, NodeId)>,
}

impl ConsensusStats {
    /// A replica has changed its role, or learnt of a leader.
    pub(super) fn on_role(&mut self, group: GroupId, change: &RoleChange) {
        let Some(leader) = change.leader else { return };
        let lead = (change.term.0, leader);
        if self.last_lead.insert(group, lead) != Some(lead) {
            *self.leader_changes_count.entry(group).or_default() += 1;
        }
    }
}

impl Consensus {
    /// The counters, and every replica as it stands.
    pub fn stats(&self) -> (ConsensusStats, Vec<(GroupId, Status)>) {
        (self.stats.clone(), self.statuses().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use distric_model::{Slot, Timestamp};
    use distric_raft::{RoleKind, Term};

    #[test]
    fn a_leader_is_counted_once_a_term_and_no_leader_is_none() {
        let node = |number| NodeId::new(Timestamp::from_us(1), Slot::truncate(0), number);
        let change = |term, leader| RoleChange { role: RoleKind::Follower, term: Term(term), leader };
        let mut stats = ConsensusStats::default();
        let group = GroupId(1);
        for change in [
            change(1, Some(node(1))),
            change(1, None),
            change(1, Some(node(1))),
            change(2, None),
            change(2, Some(node(1))),
            change(3, Some(node(2))),
        ] {
            stats.on_role(group, &change);
        }
        assert_eq!(stats.leader_changes_count[&group], 3);
    }
}
