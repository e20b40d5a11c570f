//! Members: every group is brought to the voters that group 0 names, and the leads are spread over them.
//!
//! Group 0's state says who belongs to the cluster; each group's leader changes its own group to that, by as many steps as raft needs,
//! and goes on after a fail-over, because wanted and present are compared anew. A lead moves only when something has changed (a node
//! came, went or returned, an operator asked): a lead that an operator put somewhere stays there.

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_model::{GroupId, Instant, NodeId};
use distric_raft::{Input, Membership, TransferAnswer, TransferOutcome};

use super::{Consensus, ConsensusOutputs};
use crate::node::machine_clock::Now;
use crate::node::peer::{Member, PeerLetter};

/// Between two tries to bring a group to its members, milliseconds.
pub const MEMBERS_RETRY_MS: u64 = 500;
/// The leads are spread this long after something changed, milliseconds: a node that has just started has its logs to read.
pub const SPREAD_AFTER_MS: u64 = 3_000;
/// So often is a spread looked after again, until every lead is where it should be.
const SPREAD_ROUNDS_MAX: u32 = 10;
/// Leads moved in one round.
const MOVES_PER_ROUND_MAX: usize = 8;
/// A group whose transfer was given up keeps its leader for this long, milliseconds.
const TRANSFER_PAUSE_MS: u64 = 30_000;
/// A member that lacks more entries than this does not get the lead.
const LEAD_LAG_ENTRIES_MAX: u64 = 1_024;

/// What group 0 says about the members, and what is still to be done for it.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Who shall vote, ascending. Empty until group 0 has said it.
    voters: Vec<NodeId>,
    /// Their records, and those of others who are known.
    pub records: BTreeMap<NodeId, Member>,
    /// Where live coordinators say that they are called, by gossip.
    pub found: Vec<(NodeId, Arc<str>)>,
    /// Coordinators that gossip suspects or holds failed, ascending: none of them is handed a lead.
    pub doubted: Vec<NodeId>,
    reconcile_at: Option<Instant>,
    spread_at: Option<Instant>,
    spread_rounds: u32,
    paused: BTreeMap<GroupId, Instant>,
}

impl Members {
    pub fn next_wake(&self) -> Option<Instant> {
        self.reconcile_at.into_iter().chain(self.spread_at).min()
    }

    /// A group has a new leader.
    pub fn on_role(&mut self, now: Instant, group: GroupId, leads: bool) {
        self.paused.remove(&group);
        if leads && !self.voters.is_empty() {
            self.reconcile_at.get_or_insert(now.plus_ms(MEMBERS_RETRY_MS));
        }
    }

    /// A transfer was begun, refused or given up.
    pub fn on_transfer(&mut self, now: Instant, group: GroupId, answer: TransferAnswer) {
        if answer.outcome != TransferOutcome::Begun {
            self.paused.insert(group, now.plus_ms(TRANSFER_PAUSE_MS));
        }
    }

    /// A node came or went.
    pub fn on_link(&mut self, now: Instant, up: bool) {
        if up {
            self.spread_soon(now);
        }
    }

    fn spread_soon(&mut self, now: Instant) {
        self.spread_at = Some(now.plus_ms(SPREAD_AFTER_MS));
        self.spread_rounds = SPREAD_ROUNDS_MAX;
    }

    /// Whose lead a group should be under: every node gets its turn.
    fn preferred(&self, group: GroupId) -> Option<NodeId> {
        let count = self.voters.len();
        self.voters.get(group.0 as usize % count.max(1)).copied()
    }
}

impl Consensus {
    /// Group 0 names the members.
    pub(super) fn on_members(&mut self, now: Now, voters: &[NodeId], records: Vec<Member>, out: &mut ConsensusOutputs) {
        self.members.records = records.into_iter().map(|record| (record.node, record)).collect();
        let mut voters = voters.to_vec();
        voters.sort_unstable();
        if self.members.voters != voters {
            self.members.voters = voters;
            self.members.spread_soon(now.mono);
        }
        self.members.reconcile_at = Some(now.mono);
        out.book = Some(self.members.records.values().cloned().collect());
        self.tell_found(out);
    }

    /// Gossip says where live coordinators are called now, and whom it doubts. Who is doubted no more gets its leads back.
    pub(super) fn on_found(&mut self, now: Now, peers: Vec<(NodeId, Arc<str>)>, doubted: Vec<NodeId>, out: &mut ConsensusOutputs) {
        let is_back = self.members.doubted.iter().any(|node| !doubted.contains(node));
        self.members.doubted = doubted;
        if is_back {
            self.members.spread_soon(now.mono);
        }
        self.members.found = peers;
        self.tell_found(out);
    }

    /// Members that gossip has found elsewhere than their records say: they have moved, and could not tell the log yet.
    fn tell_found(&self, out: &mut ConsensusOutputs) {
        let has_moved = |(node, address): &&(NodeId, Arc<str>)| {
            self.members.records.get(node).is_some_and(|record| *node != self.options.node && record.peer_address != *address)
        };
        out.found = self.members.found.iter().filter(has_moved).cloned().collect();
    }

    /// An operator wants a lead elsewhere.
    pub(super) fn move_leader(&mut self, now: Now, group: GroupId, target: NodeId, out: &mut ConsensusOutputs) {
        let leader = self.groups.get(&group).and_then(|replica| replica.raft.leader());
        match leader {
            Some(leader) if leader == self.options.node => self.step(now, group, Input::Transfer { target }, out),
            Some(leader) => out.sends.push((leader, PeerLetter::MoveLeader { group, target })),
            None => {}
        }
    }

    pub(super) fn look_after_members(&mut self, now: Now, out: &mut ConsensusOutputs) {
        if self.members.reconcile_at.is_some_and(|at| at <= now.mono) {
            self.members.reconcile_at = None;
            if self.reconcile(now, out) {
                self.members.reconcile_at = Some(now.mono.plus_ms(MEMBERS_RETRY_MS));
            }
        }
        if self.members.spread_at.is_some_and(|at| at <= now.mono) {
            self.members.spread_at = None;
            let is_spread = self.spread(now, out);
            self.members.spread_rounds = self.members.spread_rounds.saturating_sub(1);
            if !is_spread && self.members.spread_rounds > 0 {
                self.members.spread_at = Some(now.mono.plus_ms(SPREAD_AFTER_MS));
            }
        }
    }

    fn led(&self) -> impl Iterator<Item = (GroupId, &super::Replica)> {
        self.groups.iter().filter(|(_, replica)| replica.raft.is_leader()).map(|(group, replica)| (*group, replica))
    }

    /// Begins whatever change the groups that are led here need. Returns whether one of them is not yet where it should be.
    fn reconcile(&mut self, now: Now, out: &mut ConsensusOutputs) -> bool {
        let Ok(wanted) = Membership::new(self.members.voters.clone(), Vec::new()) else { return false };
        if wanted.voters().is_empty() {
            return false;
        }
        let differing: Vec<GroupId> =
            self.led().filter(|(_, replica)| *replica.raft.membership() != wanted).map(|(group, _)| group).collect();
        for group in &differing {
            // One that is on its way there already, or cannot begin now, is looked at again.
            let heads_there = self.groups[group].raft.membership().goal().is_some_and(|goal| goal.voters() == wanted.voters());
            if !heads_there {
                self.step(now, *group, Input::ChangeMembership { wanted: wanted.clone() }, out);
            }
        }
        !differing.is_empty()
    }

    /// Hands over leads that should be elsewhere. Returns whether none is left.
    fn spread(&mut self, now: Now, out: &mut ConsensusOutputs) -> bool {
        let misplaced: Vec<(GroupId, NodeId, bool)> = self
            .led()
            .filter_map(|(group, replica)| {
                let target = self.members.preferred(group).filter(|node| *node != self.options.node)?;
                let membership = replica.raft.membership();
                let votes = membership.voters().contains(&target) && !membership.is_joint();
                let status = replica.raft.status();
                let last = status.last.index;
                let peer = status.peers.iter().find(|peer| peer.id == target);
                let keeps_up = peer.is_some_and(|peer| peer.streaming && last.since(peer.matched) <= LEAD_LAG_ENTRIES_MAX);
                let is_paused = self.members.paused.get(&group).is_some_and(|until| *until > now.mono);
                let is_well = self.links.contains(&target) && !self.members.doubted.contains(&target);
                Some((group, target, votes && keeps_up && !is_paused && is_well))
            })
            .collect();
        for (group, target, _) in misplaced.iter().filter(|(.., ready)| *ready).take(MOVES_PER_ROUND_MAX) {
            self.step(now, *group, Input::Transfer { target: *target }, out);
        }
        misplaced.is_empty()
    }
}
