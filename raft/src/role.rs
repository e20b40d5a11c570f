//! What a replica is, with the data that only such a one has.

use distric_model::{Instant, NodeId};

use crate::door::RoleKind;
use crate::follower::Follower;
use crate::leader::Leader;

pub(crate) enum Role {
    Follower(Follower),
    PreCandidate(Campaign),
    Candidate(Campaign),
    Leader(Leader),
}

/// An election, or the question whether one could be won.
pub(crate) struct Campaign {
    /// Answers so far, at most one per node.
    pub(crate) votes: Vec<(NodeId, bool)>,
    /// Whether the votes were asked for. A candidate asks once its own vote is durable.
    pub(crate) asked: bool,
    /// The leader asked for this campaign: it is not disturbed by it.
    pub(crate) by_leave: bool,
    /// When to try again.
    pub(crate) election_due: Instant,
}

impl Campaign {
    /// Keeps the first answer of each node.
    pub(crate) fn record(&mut self, from: NodeId, granted: bool) {
        if self.vote_of(from).is_none() {
            self.votes.push((from, granted));
        }
    }

    pub(crate) fn vote_of(&self, node: NodeId) -> Option<bool> {
        self.votes.iter().find(|(voter, _)| *voter == node).map(|(_, granted)| *granted)
    }
}

impl Role {
    pub(crate) const fn kind(&self) -> RoleKind {
        match self {
            Self::Follower(_) => RoleKind::Follower,
            Self::PreCandidate(_) => RoleKind::PreCandidate,
            Self::Candidate(_) => RoleKind::Candidate,
            Self::Leader(_) => RoleKind::Leader,
        }
    }
}
