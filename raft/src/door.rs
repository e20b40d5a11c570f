//! The door: everything that can wake a replica, and everything it can ask for.

use bytes::Bytes;
use distric_model::{Instant, NodeId};

use crate::entry::Entry;
use crate::message::Message;
use crate::position::{HardState, LogIndex, Term, Ticket};

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The time asked for in [`Outputs::wake_at`] has come. Harmless at any other time.
    Tick,
    /// A peer said something.
    Message {
        /// Who, as the transport authenticated it.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// Put these at the end of the log, in this order. Answered in [`Outputs::accepted`] and [`Outputs::refused`].
    Propose {
        /// Bytes of the state machine.
        commands: Vec<Bytes>,
    },
    /// The [`Persist`] with this ticket, and every one before it, is durable.
    Persisted {
        /// Its ticket.
        ticket: Ticket,
    },
    /// The answer to [`Outputs::load`]: entries from [`Load::from`] on, at least one, read after all writes handed
    /// out before the request. Answer exactly once, with fewer entries than asked when they are many.
    Loaded {
        /// In order, without gaps.
        entries: Vec<Entry>,
    },
}

/// One write. Writes must reach the disk in the order of their tickets; several may become durable in one flush.
/// Within one write everything is durable together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persist {
    /// Reported back in [`Input::Persisted`].
    pub ticket: Ticket,
    /// Replaces the stored hard state.
    pub hard_state: Option<HardState>,
    /// Entries from this index on are removed before `entries` are added.
    pub truncate_from: Option<LogIndex>,
    /// To be added at the end.
    pub entries: Vec<Entry>,
}

impl Persist {
    /// Adds a later write of the same group to this one, so that both are one.
    pub fn merge(&mut self, later: Persist) {
        assert!(later.ticket > self.ticket, "writes are merged in order: {} after {}", later.ticket, self.ticket);
        self.ticket = later.ticket;
        self.hard_state = later.hard_state.or(self.hard_state);
        if let Some(cut) = later.truncate_from {
            self.entries.retain(|entry| entry.index < cut);
            self.truncate_from = Some(self.truncate_from.map_or(cut, |earlier| earlier.min(cut)));
        }
        self.entries.extend(later.entries);
    }
}

/// Commands that got a place in the log: not yet durable, not yet committed, and lost should another leader
/// overwrite them. Their fate is known when an entry with their index comes out of [`Outputs::committed`]: theirs
/// if it has their term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The index of the first; the others follow without gaps.
    pub first: LogIndex,
    /// How many.
    pub count: u64,
    /// The term of all.
    pub term: Term,
}

/// A command that did not enter the log; proposing it again can not double it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The bytes, given back.
    pub command: Bytes,
    /// Why.
    pub reason: Refusal,
}

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This replica does not lead; perhaps it knows who does.
    #[error("not the leader")]
    NotLeader {
        /// Whom to ask.
        leader: Option<NodeId>,
    },
    /// Too much is waiting to be committed; come back later.
    #[error("more than {limit_bytes} bytes wait to be committed")]
    Full {
        /// [`crate::Config::uncommitted_bytes_max`].
        limit_bytes: u64,
    },
    /// The command is larger than any entry may be.
    #[error("command is larger than {limit_bytes} bytes")]
    TooLarge {
        /// [`crate::Config::command_bytes_max`].
        limit_bytes: u64,
    },
}

/// What a replica is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoleKind {
    /// Takes entries from a leader, or waits for one.
    Follower,
    /// Asks whether an election could be won.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

impl RoleKind {
    /// A lower-case name for logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Follower => "follower",
            Self::PreCandidate => "pre_candidate",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
        }
    }
}

/// What this replica has become, or whom it has learnt to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleChange {
    /// The role.
    pub role: RoleKind,
    /// The term it is held in.
    pub term: Term,
    /// The leader of that term, if known; itself for a leader.
    pub leader: Option<NodeId>,
}

/// Please read entries of this group from the log store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// The first wanted.
    pub from: LogIndex,
    /// The last wanted.
    pub upto: LogIndex,
    /// Stop after the entry that reaches this many bytes.
    pub bytes_max: u64,
}

/// What a replica asks for. Lent by the caller and only added to: several steps may fill one buffer (their writes
/// merge into one) before the caller acts on it and calls [`Outputs::clear`]. Kinds are independent of each other;
/// within a kind the order counts.
#[derive(Debug, Default)]
pub struct Outputs {
    /// To be sent now. May be lost.
    pub sends: Vec<(NodeId, Message)>,
    /// To be made durable, then reported with [`Input::Persisted`].
    pub persist: Option<Persist>,
    /// Committed and locally durable entries in log order, each exactly once per run of the process.
    pub committed: Vec<Entry>,
    /// The last change of role in this buffer.
    pub role: Option<RoleChange>,
    /// Commands that entered the log.
    pub accepted: Vec<Accepted>,
    /// Commands that did not.
    pub refused: Vec<Refused>,
    /// Entries wanted from the log store. At most one request is open at a time.
    pub load: Option<Load>,
    /// When to step with [`Input::Tick`] at the latest; replaces any earlier wish, `None` means never.
    pub wake_at: Option<Instant>,
}

impl Outputs {
    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.sends.clear();
        self.persist = None;
        self.committed.clear();
        self.role = None;
        self.accepted.clear();
        self.refused.clear();
        self.load = None;
        self.wake_at = None;
    }

    /// Adds a write behind those already in the buffer.
    pub(crate) fn push_persist(&mut self, persist: Persist) {
        match &mut self.persist {
            Some(earlier) => earlier.merge(persist),
            None => self.persist = Some(persist),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryKind;

    fn entry(term: u64, index: u64) -> Entry {
        Entry { index: LogIndex(index), term: Term(term), kind: EntryKind::Command, data: Bytes::new() }
    }

    #[test]
    fn merged_writes_leave_what_the_two_in_a_row_would_leave() {
        let mut first = Persist {
            ticket: Ticket(1),
            hard_state: Some(HardState { term: Term(2), vote: None, commit: LogIndex(0) }),
            truncate_from: Some(LogIndex(5)),
            entries: vec![entry(2, 5), entry(2, 6)],
        };
        first.merge(Persist { ticket: Ticket(2), hard_state: None, truncate_from: Some(LogIndex(6)), entries: vec![entry(3, 6)] });
        assert_eq!(first.ticket, Ticket(2));
        assert_eq!(first.truncate_from, Some(LogIndex(5)));
        assert_eq!(first.entries, vec![entry(2, 5), entry(3, 6)]);
        assert_eq!(first.hard_state.unwrap().term, Term(2));
    }
}
