//! Who belongs to a group: voters and learners, as an entry of its log carries them.

use bytes::{BufMut, Bytes, BytesMut};
use distric_model::NodeId;

use crate::entry::{Entry, EntryKind};
use crate::position::{LogIndex, Term};

/// The members of a group. In force from the moment its entry is appended, committed or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    voters: Vec<NodeId>,
    learners: Vec<NodeId>,
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
        let count = voters.len() + learners.len();
        if count > MEMBERS_MAX {
            return Err(MembershipError::TooMany { count });
        }
        voters.sort_unstable();
        learners.sort_unstable();
        let mut all: Vec<NodeId> = voters.iter().chain(&learners).copied().collect();
        all.sort_unstable();
        match all.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(MembershipError::Doubled { node: pair[0] }),
            None => Ok(Self { voters, learners }),
        }
    }

    /// Those who vote and count, ascending.
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// Those who only receive, ascending.
    pub fn learners(&self) -> &[NodeId] {
        &self.learners
    }

    /// Whether `node` votes.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.binary_search(&node).is_ok()
    }

    /// Everybody, voters first.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voters.iter().chain(&self.learners).copied()
    }

    /// The bytes of a membership entry: equal members give equal bytes on every node.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(5 + 16 * (self.voters.len() + self.learners.len()));
        out.put_u8(VERSION);
        for list in [&self.voters, &self.learners] {
            out.put_u16_le(u16::try_from(list.len()).expect("members are bounded by MEMBERS_MAX"));
            for node in list {
                out.put_slice(&node.to_bytes());
            }
        }
        out.freeze()
    }

    /// Reads what [`Membership::encode`] wrote. Errors: never panics on foreign bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, MembershipError> {
        let (version, mut rest) = bytes.split_first().ok_or(MembershipError::Malformed)?;
        if *version != VERSION {
            return Err(MembershipError::UnknownVersion { found: *version });
        }
        let voters = decode_nodes(&mut rest)?;
        let learners = decode_nodes(&mut rest)?;
        if rest.is_empty() { Self::new(voters, learners) } else { Err(MembershipError::Malformed) }
    }

    /// The entry that every founding member of a group finds at the start of its log: index 1, term 1, committed.
    /// Term 1 therefore never has a leader.
    pub fn founding_entry(&self) -> Entry {
        Entry { index: LogIndex(1), term: Term(1), kind: EntryKind::Membership, data: self.encode() }
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
    ids.iter().map(|id| NodeId::from_bytes(*id).map_err(|_| MembershipError::Malformed)).collect()
}

/// Most members of one group. Small, so that counting them never needs more than a stack array's worth of work.
pub(crate) const MEMBERS_MAX: usize = 32;
/// The layout written today. The next one adds the outgoing voters of a joint configuration.
const VERSION: u8 = 1;

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

    proptest! {
        #[test]
        fn foreign_bytes_are_an_error_or_a_membership(bytes: Vec<u8>) {
            if let Ok(membership) = Membership::decode(&bytes) {
                prop_assert_eq!(Membership::decode(&membership.encode()).unwrap(), membership);
            }
        }
    }
}
