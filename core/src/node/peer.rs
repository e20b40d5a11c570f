//! What coordinators say to each other, as values. How it is laid out between processes is [`super::peer_wire`]'s matter.
//!
//! Letters may be lost with a connection, never changed and, on one connection, never reordered.

use std::sync::Arc;

use bytes::Bytes;
use distric_model::{GroupId, NodeId};
use distric_raft::{LogIndex, Message};
use serde::{Deserialize, Serialize};

use super::envelope::ProposalNumber;

/// Longest address or name in a member record, bytes.
pub const MEMBER_TEXT_BYTES_MAX: usize = 256;

/// A coordinator as the cluster knows it. Kept in group 0, where a newer record of a node replaces the older.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its name, for people.
    pub name: Arc<str>,
    /// Where other coordinators reach it, `host:port`.
    pub peer_address: Arc<str>,
    /// Where clients and workers reach it, `host:port`.
    pub wire_address: Arc<str>,
    /// The newest version of the machines that its program knows.
    pub machine_version_max: u32,
    /// Where its gossip is reached, `host:port`; empty when it takes no part.
    #[serde(default)]
    pub gossip_address: Arc<str>,
}

/// The bytes are no member record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a member record: {0}")]
pub struct MemberError(String);

impl Member {
    /// The record as it travels: MessagePack, fields in order, new ones last.
    pub fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec(self).expect("a record of plain data always encodes")
    }

    /// Reads a record. Errors: see [`MemberError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MemberError> {
        let member: Self = rmp_serde::from_slice(bytes).map_err(|error| MemberError(error.to_string()))?;
        let texts = [&member.name, &member.peer_address, &member.wire_address, &member.gossip_address];
        if texts.iter().any(|text| text.len() > MEMBER_TEXT_BYTES_MAX) {
            return Err(MemberError(format!("a name or address is longer than {MEMBER_TEXT_BYTES_MAX} bytes")));
        }
        Ok(member)
    }
}

/// One thing that a coordinator says to another.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerLetter {
    /// From replica to replica.
    Raft(GroupId, Message),
    /// A proposal for a group that the receiver leads.
    Propose(Forwarded),
    /// A forwarded proposal did not enter the log.
    Refused {
        /// The group.
        group: GroupId,
        /// As it was forwarded.
        term: u64,
        /// As it was forwarded.
        number: ProposalNumber,
        /// Whether too much waits to be committed there.
        overloaded: bool,
    },
    /// From where may reads be served?
    ReadIndex {
        /// The group.
        group: GroupId,
        /// Repeated in the answer.
        id: u64,
    },
    /// The answer.
    ReadAt {
        /// The group.
        group: GroupId,
        /// As in the question.
        id: u64,
        /// Where this is applied; `None` when the answerer cannot tell.
        index: Option<LogIndex>,
    },
    /// For a group's leader: hand over to this node.
    MoveLeader {
        /// The group.
        group: GroupId,
        /// The new leader.
        target: NodeId,
    },
}

/// A proposal on its way to a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// The group.
    pub group: GroupId,
    /// The term in which the receiver is believed to lead: only in this one may it append the command, so that its fate is known
    /// as soon as an entry of a later term is committed.
    pub term: u64,
    /// The proposer's run of its process.
    pub boot: u64,
    /// Its number there.
    pub number: ProposalNumber,
    /// The command.
    pub command: Bytes,
}
