//! Who belongs to a group: voters and learners, as an entry of its log carries them.
//!
//! A change from any set to any other goes by up to three entries: the joining nodes become learners with a goal noted
//! beside them; once they are caught up, the group is joint (old and new voters each need their majority); then the new
//! voters are alone (Ongaro 2014, sections 4.2.1 and 4.3). Each is in force from its append on.

use bytes::{BufMut, Bytes, BytesMut};
use distric_model::NodeId;
use serde::{Deserialize, Serialize};

use crate::entry::{Entry, EntryKind};
use crate::position::{LogIndex, Term};

/// The members of a group. In force from the moment its entry is appended, committed or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Bytes", try_from = "Bytes")]
pub struct Membership {
    voters: Vec<NodeId>,
    learners: Vec<NodeId>,
    /// The voters before, while the group is joint. Empty otherwise.
    outgoing: Vec<NodeId>,
    goal: Option<Goal>,
}

/// What a group is on its way to, while joining nodes are filled as learners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    voters: Vec<NodeId>,
    learners: Vec<NodeId>,
}

impl Goal {
    /// Those who shall vote, ascending.
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// Those who shall only receive, ascending.
    pub fn learners(&self) -> &[NodeId] {
        &self.learners
    }
}

/// The bytes are no membership that this version understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Written by a later version.
    #[error("membership of version {found} is unknown")]
    UnknownVersion {
        /// Its version.
        found: u8,
    },
    /// Too short, too long, or an id is no id.
    #[error("membership bytes are malformed")]
    Malformed,
    /// More members than a group may have.
    #[error("{count} members exceed the limit of {MEMBERS_MAX}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A node is named twice.
    #[error("node {node} is named twice")]
    Doubled {
        /// Which.
        node: NodeId,
    },
}

impl Membership {
    /// A group of these. Order does not matter.
    /// Errors: a node named twice, or more members than a group may have.
    pub fn new(mut voters: Vec<NodeId>, mut learners: Vec<NodeId>) -> Result<Self, MembershipError> {
        voters.sort_unstable();
        learners.sort_unstable();
        let membership = Self { voters, learners, outgoing: Vec::new(), goal: None };
        membership.check()?;
        Ok(membership)
    }

    /// Those who vote and count, ascending; in a joint configuration those who will remain.
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// Those who only receive, ascending. While the group is joint, one who is about to lose its vote is here as well.
    pub fn learners(&self) -> &[NodeId] {
        &self.learners
    }

    /// The voters of the old half of a joint configuration, ascending; empty when the group is not joint.
    pub fn outgoing(&self) -> &[NodeId] {
        &self.outgoing
    }

    /// Where the group is going as soon as the joining learners are caught up.
    pub const fn goal(&self) -> Option<&Goal> {
        self.goal.as_ref()
    }

    /// Whether two sets of voters have to agree.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `node` votes, in either half.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.binary_search(&node).is_ok() || self.outgoing.binary_search(&node).is_ok()
    }

    /// Whether `node` belongs to the group at all.
    pub fn is_member(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.binary_search(&node).is_ok()
    }

    /// Whether `node` decides everything alone.
    pub(crate) fn is_only_voter(&self, node: NodeId) -> bool {
        self.voters == [node] && !self.is_joint()
    }

    /// Everybody who votes in either half, each once.
    pub fn electorate(&self) -> impl Iterator<Item = NodeId> + '_ {
        let old = self.outgoing.iter().filter(|node| self.voters.binary_search(node).is_err());
        self.voters.iter().chain(old).copied()
    }

    /// Everybody, each once, voters first.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        let receiving = self.learners.iter().copied().filter(|node| !self.is_voter(*node));
        self.electorate().chain(receiving)
    }

    /// The learners that wait to become voters.
    pub(crate) fn joining(&self) -> impl Iterator<Item = NodeId> + '_ {
        let goal = self.goal.iter().flat_map(|goal| goal.voters.iter().copied());
        goal.filter(|node| !self.is_voter(*node))
    }

    /// The first step from here to `wanted`, which is a plain membership; from a joint one nobody starts.
    /// Errors: together they have more members than a group may have.
    pub(crate) fn first_step(&self, wanted: &Self) -> Result<Self, MembershipError> {
        assert!(!self.is_joint(), "a change begins only when the one before has ended");
        let joins = wanted.voters.iter().any(|node| !self.is_voter(*node));
        let step = if wanted.voters == self.voters {
            wanted.clone()
        } else if joins {
            let receiving = |node: &&NodeId| !self.is_voter(**node);
            let mut learners: Vec<NodeId> = wanted.voters.iter().chain(&wanted.learners).filter(receiving).copied().collect();
            learners.sort_unstable();
            let goal = Goal { voters: wanted.voters.clone(), learners: wanted.learners.clone() };
            Self { voters: self.voters.clone(), learners, outgoing: Vec::new(), goal: Some(goal) }
        } else {
            self.joint_with(&wanted.voters, &wanted.learners)
        };
        step.check()?;
        Ok(step)
    }

    /// The joint configuration that leads to the goal; `None` without one.
    pub(crate) fn enter_goal(&self) -> Option<Self> {
        self.goal.as_ref().map(|goal| self.joint_with(&goal.voters, &goal.learners))
    }

    fn joint_with(&self, voters: &[NodeId], learners: &[NodeId]) -> Self {
        Self { voters: voters.to_vec(), learners: learners.to_vec(), outgoing: self.voters.clone(), goal: None }
    }

    /// What a joint configuration ends in.
    pub(crate) fn leave_joint(&self) -> Self {
        Self { voters: self.voters.clone(), learners: self.learners.clone(), outgoing: Vec::new(), goal: None }
    }

    /// Sorted lists without doubles; nobody both votes for good and only receives; not too many in all.
    fn check(&self) -> Result<(), MembershipError> {
        disjoint(&self.voters, &self.learners)?;
        disjoint(&self.outgoing, &[])?;
        let mut all: Vec<NodeId> = self.voters.iter().chain(&self.learners).chain(&self.outgoing).copied().collect();
        if let Some(goal) = &self.goal {
            disjoint(&goal.voters, &goal.learners)?;
            all.extend(goal.voters.iter().chain(&goal.learners));
            if goal.voters.is_empty() || self.is_joint() {
                return Err(MembershipError::Malformed);
            }
        }
        if self.is_joint() && self.voters.is_empty() {
            return Err(MembershipError::Malformed);
        }
        all.sort_unstable();
        all.dedup();
        if all.len() > MEMBERS_MAX { Err(MembershipError::TooMany { count: all.len() }) } else { Ok(()) }
    }

    /// The bytes of a membership entry: equal members give equal bytes on every node.
    pub fn encode(&self) -> Bytes {
        let none = Vec::new();
        let goal = self.goal.as_ref().map_or([&none, &none], |goal| [&goal.voters, &goal.learners]);
        let lists = [&self.voters, &self.learners, &self.outgoing, goal[0], goal[1]];
        // What version 1 can say is said in version 1: the founding entry has the same bytes whoever founded when.
        let is_plain = !self.is_joint() && self.goal.is_none();
        let (version, lists) = if is_plain { (VERSION_PLAIN, &lists[..2]) } else { (VERSION, &lists[..]) };
        let mut out = BytesMut::with_capacity(1 + lists.iter().map(|list| 2 + 16 * list.len()).sum::<usize>());
        out.put_u8(version);
        for list in lists {
            out.put_u16_le(u16::try_from(list.len()).expect("members are bounded by MEMBERS_MAX"));
            for node in *list {
                out.put_slice(&node.to_bytes());
            }
        }
        out.freeze()
    }

    /// Reads what [`Membership::encode`] wrote, in this version or an earlier one. Errors: never panics on foreign bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, MembershipError> {
        let (version, mut rest) = bytes.split_first().ok_or(MembershipError::Malformed)?;
        if !matches!(*version, VERSION_PLAIN | VERSION) {
            return Err(MembershipError::UnknownVersion { found: *version });
        }
        let mut membership =
            Self { voters: decode_nodes(&mut rest)?, learners: decode_nodes(&mut rest)?, outgoing: Vec::new(), goal: None };
        if *version == VERSION {
            membership.outgoing = decode_nodes(&mut rest)?;
            let (voters, learners) = (decode_nodes(&mut rest)?, decode_nodes(&mut rest)?);
            let has_goal = !(voters.is_empty() && learners.is_empty());
            membership.goal = has_goal.then_some(Goal { voters, learners });
        }
        if !rest.is_empty() {
            return Err(MembershipError::Malformed);
        }
        membership.check()?;
        Ok(membership)
    }

    /// The entry that every founding member of a group finds at the start of its log: index 1, term 1, committed.
    /// Term 1 therefore never has a leader.
    pub fn founding_entry(&self) -> Entry {
        Entry { index: LogIndex(1), term: Term(1), kind: EntryKind::Membership, data: self.encode() }
    }
}

impl From<Membership> for Bytes {
    fn from(membership: Membership) -> Self {
        membership.encode()
    }
}

impl TryFrom<Bytes> for Membership {
    type Error = MembershipError;

    fn try_from(bytes: Bytes) -> Result<Self, MembershipError> {
        Self::decode(&bytes)
    }
}

/// Errors: the first node that is in both of two sorted lists, or twice in one.
fn disjoint(a: &[NodeId], b: &[NodeId]) -> Result<(), MembershipError> {
    let mut all: Vec<NodeId> = a.iter().chain(b).copied().collect();
    all.sort_unstable();
    match all.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(MembershipError::Doubled { node: pair[0] }),
        None => Ok(()),
    }
}

fn decode_nodes(rest: &mut &[u8]) -> Result<Vec<NodeId>, MembershipError> {
    let (count, tail) = rest.split_first_chunk::<2>().ok_or(MembershipError::Malformed)?;
    let count = usize::from(u16::from_le_bytes(*count));
    if count > MEMBERS_MAX {
        return Err(MembershipError::TooMany { count });
    }
    let (ids, tail) = tail.split_at_checked(count * 16).ok_or(MembershipError::Malformed)?;
    *rest = tail;
    let (ids, _) = ids.as_chunks::<16>();
    let mut nodes =
        ids.iter().map(|id| NodeId::from_bytes(*id).map_err(|_| MembershipError::Malformed)).collect::<Result<Vec<NodeId>, _>>()?;
    nodes.sort_unstable();
    Ok(nodes)
}

/// Most members of one group. Small, so that counting them never needs more than a stack array's worth of work.
pub(crate) const MEMBERS_MAX: usize = 32;
/// Voters and learners: the layout of every membership that is neither joint nor on its way to a goal.
const VERSION_PLAIN: u8 = 1;
/// Adds the outgoing voters, and the voters and learners of the goal.
const VERSION: u8 = 2;

#[cfg(test)]
mod tests {
    use distric_model::{Slot, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn node(n: u64) -> NodeId {
        NodeId::new(Timestamp::from_us(n * 1_000), Slot::truncate(0), n)
    }

    #[test]
    fn members_survive_their_bytes_in_any_order() {
        let a = Membership::new(vec![node(3), node(1), node(2)], vec![node(9)]).unwrap();
        let b = Membership::new(vec![node(1), node(2), node(3)], vec![node(9)]).unwrap();
        assert_eq!(a.encode(), b.encode());
        assert_eq!(Membership::decode(&a.encode()).unwrap(), b);
        assert!(matches!(Membership::new(vec![node(1)], vec![node(1)]), Err(MembershipError::Doubled { .. })));
    }

    #[test]
    fn a_replacement_goes_by_learner_joint_and_new_voters() {
        // Ongaro 2014, sections 4.2.1 (catching up first) and 4.3 (joint consensus).
        let old = Membership::new(vec![node(1), node(2), node(3)], vec![]).unwrap();
        let wanted = Membership::new(vec![node(1), node(2), node(4)], vec![node(3)]).unwrap();
        let first = old.first_step(&wanted).unwrap();
        assert_eq!((first.voters(), first.learners()), (old.voters(), &[node(4)][..]));
        assert_eq!(first.joining().collect::<Vec<_>>(), [node(4)]);
        let joint = first.enter_goal().unwrap();
        assert_eq!((joint.voters(), joint.outgoing()), (wanted.voters(), old.voters()));
        assert!(joint.is_voter(node(3)) && joint.is_voter(node(4)));
        assert_eq!(joint.members().count(), 4);
        for step in [&first, &joint] {
            assert_eq!(Membership::decode(&step.encode()).unwrap(), *step);
            assert_eq!(step.encode()[0], VERSION);
        }
        assert_eq!(joint.leave_joint(), wanted);
    }

    #[test]
    fn a_plain_membership_keeps_the_bytes_of_the_first_version() {
        let plain = Membership::new(vec![node(1)], vec![node(2)]).unwrap();
        let mut bytes = vec![1, 1, 0];
        bytes.extend_from_slice(&node(1).to_bytes());
        bytes.extend_from_slice(&[1, 0]);
        bytes.extend_from_slice(&node(2).to_bytes());
        assert_eq!(plain.encode(), bytes);
        assert_eq!(Membership::decode(&bytes), Ok(plain));
        assert_eq!(Membership::decode(&[3]), Err(MembershipError::UnknownVersion { found: 3 }));
    }

    #[test]
    fn removals_alone_need_no_learners_and_learners_alone_no_joint() {
        let old = Membership::new(vec![node(1), node(2), node(3)], vec![]).unwrap();
        let fewer = Membership::new(vec![node(1)], vec![]).unwrap();
        assert!(old.first_step(&fewer).unwrap().is_joint());
        let watched = Membership::new(vec![node(1), node(2), node(3)], vec![node(4)]).unwrap();
        assert_eq!(old.first_step(&watched).unwrap(), watched);
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_an_error_or_a_membership(bytes: Vec<u8>) {
            if let Ok(membership) = Membership::decode(&bytes) {
                prop_assert_eq!(Membership::decode(&membership.encode()).unwrap(), membership);
            }
        }
    }
}
