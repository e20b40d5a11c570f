//! What replicas of one group say to each other.
//!
//! Plain owned values; how they are laid out between processes is another room's matter. A message may be lost,
//! doubled, delayed or reordered, and every value of these types is legal to receive.

use serde::{Deserialize, Serialize};

use crate::entry::Entry;
use crate::position::{LogIndex, Position, Term};
use crate::snapshot::Snapshot;

/// One message, with the sender's term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The term that the sender was in; in the pre-vote bodies as said there.
    pub term: Term,
    /// What is said.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// "Would you vote for me?" (Ongaro 2014, section 9.6). `Message::term` is the term that the sender would
    /// campaign in, one above its own: nobody's term changes by it.
    PreVote {
        /// The last entry of the sender's log.
        last: Position,
    },
    /// The answer. Granted: `Message::term` repeats the term that was asked for. Refused: the answerer's own term.
    PreVoteReply {
        /// Whether a vote would be given.
        granted: bool,
    },
    /// "Vote for me." (Raft section 5.2)
    Vote {
        /// The last entry of the sender's log.
        last: Position,
    },
    /// The answer, durable when it arrives.
    VoteReply {
        /// Whether the vote was given.
        granted: bool,
    },
    /// Entries from the leader (Raft section 5.3).
    Append {
        /// The entry before the first of `entries`.
        prev: Position,
        /// Contiguous from `prev.index + 1`; may be empty.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: LogIndex,
    },
    /// The answer to `Append`.
    AppendReply(AppendOutcome),
    /// "I lead."
    Heartbeat(Heartbeat),
    /// The answer to `Heartbeat`.
    HeartbeatReply(HeartbeatReply),
    /// From a leader: "campaign now, I hand over to you" (Ongaro 2014, section 3.10).
    TimeoutNow,
    /// `Vote` of a candidate whom the leader asked to campaign: answered although a leader is alive.
    VoteByLeave {
        /// The last entry of the sender's log.
        last: Position,
    },
    /// From a leader: "you need this snapshot" (Raft section 7). Its bytes are fetched by the receiver; the answer is
    /// `AppendReply` once it is installed and durable.
    Snapshot(Snapshot),
}

/// A leader's sign of life. Small and fixed in size, so that one carrier message can hold those of all groups of a
/// pair of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// What the receiver may commit: never beyond what it acknowledged.
    pub commit: LogIndex,
    /// Counts the leader's rounds of heartbeats in its term.
    pub round: u64,
}

/// The answer; also repeats what an answer to an append said, should that have been lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// The round that is answered.
    pub round: u64,
    /// Entries up to here are equal to the leader's and durable at the sender.
    pub matched: LogIndex,
    /// Entries up to here are equal to the leader's; perhaps not yet durable. Never counted, only used to see that an
    /// append was lost.
    pub received: LogIndex,
}

/// How an `Append` was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendOutcome {
    /// The logs are equal, and durable at the sender of this answer, up to `matched`.
    Matched {
        /// The last such index.
        matched: LogIndex,
    },
    /// The entry before the appended ones is missing or of another term.
    Refused {
        /// The `prev.index` that was refused.
        prev: LogIndex,
        /// The sender's entry with the highest index at or below `prev` whose term is not above the refused one:
        /// nothing between the two can match, so the leader skips whole terms (Raft section 5.3, last paragraphs).
        hint: Position,
    },
    /// The `Append` was of an older term; `Message::term` says which is current.
    Stale,
}

impl Body {
    /// A short name for traces.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PreVote { .. } => "pre_vote",
            Self::PreVoteReply { .. } => "pre_vote_reply",
            Self::Vote { .. } => "vote",
            Self::VoteReply { .. } => "vote_reply",
            Self::Append { .. } => "append",
            Self::AppendReply(_) => "append_reply",
            Self::Heartbeat(_) => "heartbeat",
            Self::HeartbeatReply(_) => "heartbeat_reply",
            Self::TimeoutNow => "timeout_now",
            Self::VoteByLeave { .. } => "vote_by_leave",
            Self::Snapshot(_) => "snapshot",
        }
    }
}
