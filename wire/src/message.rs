//! What every message can do, and a message whose type is known only at run time.

use crate::client::{
    BatchResponse, Command, Event, GoAway, Hello, Ping, Pong, Query, QueryReply, Rejection, Response, Submit, SubmitBatch, Subscribe,
    Welcome,
};
use crate::error::DecodeError;
use crate::peer::{
    AppendEntries, AppendEntriesResponse, FetchSnapshot, Forward, ForwardRefused, HeartbeatResponses, Heartbeats, InstallSnapshot,
    MoveLeader, PeerHello, PeerWelcome, ReadIndex, ReadIndexResponse, RequestVote, RequestVoteResponse, SnapshotChunk, TimeoutNow,
};
use crate::task::{
    Assignment, Backlog, CancelTask, Credit, CreditReturned, Drain, Reconcile, ReconcileReply, ResultAck, Status, TaskResult, WorkerHello,
    WorkerWelcome,
};
use crate::tlv::FieldSpec;

/// One message of the protocol: a type number and a TLV payload.
///
/// Decoded messages borrow from the payload for `'a`; nothing is allocated.
pub trait Message<'a>: Sized {
    /// The header's message type.
    const TYPE: u16;
    /// Its name in errors and in `docs/protocol.md`.
    const NAME: &'static str;

    /// Reads a payload (decompressed). Errors: [`DecodeError`], naming message and tag.
    fn decode(payload: &'a [u8]) -> Result<Self, DecodeError>;
    /// Appends the payload.
    fn encode_payload(&self, out: &mut Vec<u8>);
    /// Bytes that [`Message::encode_payload`] appends.
    fn payload_bytes(&self) -> usize;
}

/// Lists all messages of one kind of connection once: the enum, decoding and encoding by type, the tables.
macro_rules! any_message {
    ($(#[$meta:meta])* $any:ident { $($variant:ident: $ty:ty),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum $any<'a> {
            $( #[doc = concat!("A [`", stringify!($ty), "`].")] $variant($ty), )+
        }

        impl<'a> $any<'a> {
            /// Every message: type, name, table of fields.
            pub const TABLE: &'static [(u16, &'static str, &'static [FieldSpec])] =
                &[$( (<$ty as Message<'a>>::TYPE, <$ty as Message<'a>>::NAME, <$ty>::FIELDS) ),+];

            /// Reads the payload of a frame with this message type; `Ok(None)` when this version knows no such type.
            pub fn decode(message_type: u16, payload: &'a [u8]) -> Result<Option<Self>, DecodeError> {
                Ok(Some(match message_type {
                    $( <$ty as Message<'a>>::TYPE => Self::$variant(<$ty>::decode(payload)?), )+
                    _ => return Ok(None),
                }))
            }

            /// The header's message type.
            pub const fn message_type(&self) -> u16 {
                match self {
                    $( Self::$variant(_) => <$ty as Message<'a>>::TYPE, )+
                }
            }

            /// Its name.
            pub const fn name(&self) -> &'static str {
                match self {
                    $( Self::$variant(_) => <$ty as Message<'a>>::NAME, )+
                }
            }

            /// Appends the payload.
            pub fn encode_payload(&self, out: &mut Vec<u8>) {
                match self {
                    $( Self::$variant(message) => message.encode_payload(out), )+
                }
            }

            /// Bytes that [`Self::encode_payload`] appends.
            pub fn payload_bytes(&self) -> usize {
                match self {
                    $( Self::$variant(message) => message.payload_bytes(), )+
                }
            }
        }

        $(
            impl<'a> From<$ty> for $any<'a> {
                fn from(message: $ty) -> Self {
                    Self::$variant(message)
                }
            }
        )+
    };
}

any_message! {
    /// Any message of the client and task families.
    AnyMessage {
    Submit: Submit<'a>,
    Response: Response<'a>,
    Query: Query<'a>,
    Hello: Hello<'a>,
    Welcome: Welcome<'a>,
    SubmitBatch: SubmitBatch<'a>,
    BatchResponse: BatchResponse<'a>,
    Ping: Ping,
    Pong: Pong,
    GoAway: GoAway<'a>,
    Rejection: Rejection<'a>,
    Subscribe: Subscribe<'a>,
    Event: Event<'a>,
    Command: Command<'a>,
    QueryReply: QueryReply<'a>,
    Assignment: Assignment<'a>,
    TaskResult: TaskResult<'a>,
    Status: Status,
    WorkerHello: WorkerHello<'a>,
    WorkerWelcome: WorkerWelcome<'a>,
    Credit: Credit,
    ResultAck: ResultAck,
    Reconcile: Reconcile<'a>,
    Backlog: Backlog,
    ReconcileReply: ReconcileReply<'a>,
    Drain: Drain,
    CancelTask: CancelTask,
    CreditReturned: CreditReturned,
    }
}

any_message! {
    /// Any message between two coordinators.
    PeerMessage {
        RequestVote: RequestVote,
        RequestVoteResponse: RequestVoteResponse,
        AppendEntries: AppendEntries<'a>,
        AppendEntriesResponse: AppendEntriesResponse,
        InstallSnapshot: InstallSnapshot<'a>,
        Heartbeats: Heartbeats<'a>,
        HeartbeatResponses: HeartbeatResponses<'a>,
        TimeoutNow: TimeoutNow,
        PeerHello: PeerHello<'a>,
        PeerWelcome: PeerWelcome<'a>,
        Forward: Forward<'a>,
        ForwardRefused: ForwardRefused,
        ReadIndex: ReadIndex,
        ReadIndexResponse: ReadIndexResponse,
        MoveLeader: MoveLeader,
        FetchSnapshot: FetchSnapshot,
        SnapshotChunk: SnapshotChunk<'a>,
    }
}

/// Which family a message type belongs to, by its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// 0x1000 to 0x1fff: between coordinators, consensus.
    Raft,
    /// 0x2000 to 0x2fff: between all nodes, liveness.
    Gossip,
    /// 0x3000 to 0x3fff: between coordinators and workers.
    Task,
    /// 0x4000 to 0x4fff: between clients and coordinators.
    Client,
}

impl Family {
    /// The family of a message type, `None` outside the ranges.
    pub const fn of(message_type: u16) -> Option<Self> {
        match message_type >> 12 {
            1 => Some(Self::Raft),
            2 => Some(Self::Gossip),
            3 => Some(Self::Task),
            4 => Some(Self::Client),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn types_are_unique_and_in_the_range_of_their_family() {
        let types: BTreeSet<u16> = AnyMessage::TABLE.iter().map(|(message_type, ..)| *message_type).collect();
        assert_eq!(types.len(), AnyMessage::TABLE.len());
        for message_type in types {
            assert!(matches!(Family::of(message_type), Some(Family::Client | Family::Task)), "{message_type:#06x}");
        }
        let types: BTreeSet<u16> = PeerMessage::TABLE.iter().map(|(message_type, ..)| *message_type).collect();
        assert_eq!(types.len(), PeerMessage::TABLE.len());
        assert!(types.into_iter().all(|message_type| Family::of(message_type) == Some(Family::Raft)));
        assert_eq!((Family::of(0x1001), Family::of(0x2004), Family::of(0x5000)), (Some(Family::Raft), Some(Family::Gossip), None));
    }

    #[test]
    fn tags_are_unique_and_ascending() {
        for (_, name, fields) in AnyMessage::TABLE.iter().chain(PeerMessage::TABLE) {
            assert!(fields.windows(2).all(|pair| pair[0].tag < pair[1].tag), "{name}");
            assert_eq!(fields[0].tag, 1, "{name}");
        }
    }
}
