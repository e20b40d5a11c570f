//! The door: everything that can wake a replica, and everything it can ask for.

use bytes::Bytes;
use distric_model::{Instant, NodeId};

use crate::entry::Entry;
use crate::membership::{Membership, MembershipError};
use crate::message::Message;
use crate::position::{HardState, LogIndex, Position, Term, Ticket};
use crate::snapshot::Snapshot;

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
    /// Bring the group from its present members to these, whoever they are: joining voters are filled as learners and
    /// promoted once they are caught up, through a joint configuration; a leader that is not among them hands over and
    /// stands down at the end. Answered in [`Outputs::change`]; carried on by the next leader should this one die.
    ChangeMembership {
        /// Neither joint nor with a goal of its own.
        wanted: Membership,
    },
    /// Hand leadership over to this voter, once its disk has the whole log. Answered in [`Outputs::transfer`].
    /// Meanwhile proposals are refused; for no longer than [`crate::Config::election_timeout_ms_max`].
    Transfer {
        /// To whom.
        target: NodeId,
    },
    /// From where may a linearizable read be served? Answered in [`Outputs::reads`] or [`Outputs::reads_refused`].
    Read {
        /// Repeated in the answer.
        id: ReadId,
    },
    /// A durable checkpoint of the state machine covers everything up to here, so the log need not keep it. Entries
    /// behind it may be kept by calling with a lower index. Answered in [`Outputs::purge`].
    ///
    /// Panics: beyond what was handed out.
    Compacted {
        /// The last entry that is not needed.
        upto: LogIndex,
    },
    /// The answer to [`Outputs::snapshot_wanted`]: this snapshot is at hand and will be served to `to` on demand. Asked
    /// again while `to` fetches one, the driver names that one as long as it keeps it.
    SnapshotReady {
        /// Who needs it.
        to: NodeId,
        /// Not older than the oldest entry of the log.
        snapshot: Snapshot,
    },
    /// A leader's answer to [`Outputs::snapshot_wanted`], or a follower's to [`Outputs::install`]: it did not work. Both
    /// are asked again.
    SnapshotFailed {
        /// The other side.
        peer: NodeId,
    },
    /// The answer to [`Outputs::install`]: the state machine is in that state and it is durable, as a checkpoint that
    /// the next start finds ([`crate::Recovered::checkpoint`]). A driver that has applied as much in the meantime keeps what
    /// it has and reports [`Input::SnapshotFailed`].
    SnapshotInstalled {
        /// Which.
        snapshot: Snapshot,
    },
}

/// Names a question, see [`Input::Read`]. Chosen by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// A read may be served from any replica whose state machine has applied everything up to `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadReady {
    /// The question.
    pub id: ReadId,
    /// At least what was acknowledged to anybody when the question came.
    pub index: LogIndex,
}

/// A read that this replica cannot answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRefused {
    /// The question.
    pub id: ReadId,
    /// Why.
    pub reason: ReadRefusal,
}

/// Why a read was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadRefusal {
    /// It does not lead, or ceased to before the proof was there.
    #[error("not the leader")]
    NotLeader {
        /// Whom to ask.
        leader: Option<NodeId>,
    },
    /// Too many reads wait already.
    #[error("more than {limit_count} reads wait")]
    Full {
        /// [`crate::Config::reads_max`].
        limit_count: usize,
    },
}

/// How [`Input::ChangeMembership`] was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeAnswer {
    /// The first step is in the log; the change has ended when an entry of [`Outputs::committed`] carries the wanted members.
    Begun {
        /// The place of its entry.
        at: Position,
    },
    /// Nothing has changed.
    Refused(ChangeRefusal),
}

/// Why members were not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefusal {
    /// Only a leader can.
    #[error("not the leader")]
    NotLeader {
        /// Whom to ask.
        leader: Option<NodeId>,
    },
    /// Nothing of this leader's term is committed yet: a change of its predecessor may still be on its way.
    #[error("the leader has not committed anything in its term yet")]
    NotReady,
    /// One change at a time. One that still fills its joining nodes can be replaced by another.
    #[error("another change is under way")]
    InProgress,
    /// Leadership is being handed over.
    #[error("leadership is being handed over")]
    Transferring,
    /// The members wanted are those of now.
    #[error("these are the members already")]
    Unchanged,
    /// Without voters, or itself joint.
    #[error("this is no membership to end in")]
    NotPlain,
    /// Too many.
    #[error(transparent)]
    Invalid(#[from] MembershipError),
}

/// How [`Input::Transfer`] went. When it works there is no answer but the loss of leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferAnswer {
    /// To whom.
    pub target: NodeId,
    /// What became of it.
    pub outcome: TransferOutcome,
}

/// What became of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferOutcome {
    /// Proposals are refused from now on, until it has worked or is aborted.
    Begun,
    /// Not begun: this replica does not lead, or the target is itself, or does not vote for good, or leadership is
    /// being handed to another.
    Refused,
    /// The target did not take over in time; this replica goes on.
    Aborted,
}

/// Please bring the state machine into this state; see [`Input::SnapshotInstalled`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// Who has it.
    pub from: NodeId,
    /// Which.
    pub snapshot: Snapshot,
}

/// One write. Writes must reach the disk in the order of their tickets; several may become durable in one flush.
/// Within one write everything is durable together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persist {
    /// Reported back in [`Input::Persisted`].
    pub ticket: Ticket,
    /// Replaces the stored hard state.
    pub hard_state: Option<HardState>,
    /// Before all else every entry is removed and the log begins anew behind this position: a snapshot was installed.
    pub reset_to: Option<Position>,
    /// Entries from this index on are removed before `entries` are added.
    pub truncate_from: Option<LogIndex>,
    /// To be added at the end.
    pub entries: Vec<Entry>,
}

impl Persist {
    /// Adds a later write of the same group to this one, so that both are one. Returns the later one's vector, emptied.
    pub fn merge(&mut self, mut later: Persist) -> Vec<Entry> {
        assert!(later.ticket > self.ticket, "writes are merged in order: {} after {}", later.ticket, self.ticket);
        self.ticket = later.ticket;
        self.hard_state = later.hard_state.or(self.hard_state);
        if later.reset_to.is_some() {
            self.reset_to = later.reset_to;
            self.truncate_from = None;
            self.entries.clear();
        }
        if let Some(cut) = later.truncate_from {
            self.entries.retain(|entry| entry.index < cut);
            self.truncate_from = Some(self.truncate_from.map_or(cut, |earlier| earlier.min(cut)));
        }
        self.entries.append(&mut later.entries);
        later.entries
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
    /// This replica does not lead, or is handing leadership over; perhaps it knows who leads.
    #[error("not the leader")]
    NotLeader {
        /// Whom to ask; nobody yet during a transfer.
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
    /// How a change of members was taken.
    pub change: Option<ChangeAnswer>,
    /// How a transfer of leadership goes.
    pub transfer: Option<TransferAnswer>,
    /// Reads that may be served.
    pub reads: Vec<ReadReady>,
    /// Reads that may not.
    pub reads_refused: Vec<ReadRefused>,
    /// The log store may drop entries up to here, whenever it likes: they will not be loaded. Bound to no write.
    pub purge: Option<LogIndex>,
    /// Followers that need what is compacted away. Answer each with [`Input::SnapshotReady`] or [`Input::SnapshotFailed`].
    pub snapshot_wanted: Vec<NodeId>,
    /// A snapshot to fetch and to install. At most one is open at a time. Everything else goes on meanwhile.
    pub install: Option<Install>,
    /// When to step with [`Input::Tick`] at the latest; replaces any earlier wish, `None` means never.
    pub wake_at: Option<Instant>,
    /// Empty vectors with room, for the entries of the next messages and writes.
    spare: Vec<Vec<Entry>>,
}

/// Most vectors kept for later.
const SPARE_VECTORS_MAX: usize = 64;
/// A vector with more room than this is not kept.
const SPARE_ENTRIES_MAX: usize = 4_096;

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
        self.change = None;
        self.transfer = None;
        self.reads.clear();
        self.reads_refused.clear();
        self.purge = None;
        self.snapshot_wanted.clear();
        self.install = None;
        self.wake_at = None;
    }

    /// Takes back the entries of a message that was sent or of a write that was handed on, to use their memory again.
    ///
    /// A driver that gives back everything makes a step allocate nothing once all has grown to its size
    /// (`raft/tests/allocations.rs`); one that does not only pays for new vectors. Bounded: what is more than is kept is let go.
    pub fn give_back(&mut self, mut entries: Vec<Entry>) {
        entries.clear();
        if self.spare.len() < SPARE_VECTORS_MAX && (1..=SPARE_ENTRIES_MAX).contains(&entries.capacity()) {
            self.spare.push(entries);
        }
    }

    /// An empty vector, with room if one was given back.
    pub(crate) fn take_spare(&mut self) -> Vec<Entry> {
        self.spare.pop().unwrap_or_default()
    }

    /// Adds a write behind those already in the buffer.
    pub(crate) fn push_persist(&mut self, persist: Persist) {
        match &mut self.persist {
            Some(earlier) => {
                let emptied = earlier.merge(persist);
                self.give_back(emptied);
            }
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
            reset_to: None,
            truncate_from: Some(LogIndex(5)),
            entries: vec![entry(2, 5), entry(2, 6)],
        };
        let second = Persist { ticket: Ticket(2), truncate_from: Some(LogIndex(6)), entries: vec![entry(3, 6)], ..Persist::default() };
        first.merge(second);
        assert_eq!(first.ticket, Ticket(2));
        assert_eq!(first.truncate_from, Some(LogIndex(5)));
        assert_eq!(first.entries, vec![entry(2, 5), entry(3, 6)]);
        assert_eq!(first.hard_state.unwrap().term, Term(2));

        let reset_to = Some(Position::new(Term(3), LogIndex(9)));
        first.merge(Persist { ticket: Ticket(3), reset_to, entries: vec![entry(3, 10)], ..Persist::default() });
        assert_eq!((first.reset_to, first.truncate_from), (reset_to, None));
        assert_eq!(first.entries, vec![entry(3, 10)]);
        assert_eq!(first.hard_state.unwrap().term, Term(2), "a reset of the log is none of the hard state");
    }
}
