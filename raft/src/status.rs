//! Seeing inside: what a replica is and has counted.

use distric_model::{GroupId, NodeId};

use crate::door::RoleKind;
use crate::membership::Membership;
use crate::position::{LogIndex, Position, Term};

/// A replica at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// This node.
    pub id: NodeId,
    /// Its group.
    pub group: GroupId,
    /// Its term.
    pub term: Term,
    /// Its role.
    pub role: RoleKind,
    /// The leader it knows; itself when it leads.
    pub leader: Option<NodeId>,
    /// Whom it voted for in `term`.
    pub vote: Option<NodeId>,
    /// The last entry.
    pub last: Position,
    /// The last entry that is compacted away; zero when none is.
    pub base: Position,
    /// Entries up to here are on its disk.
    pub durable: LogIndex,
    /// Entries up to here are committed.
    pub commit: LogIndex,
    /// Entries up to here were handed out in [`crate::Outputs::committed`].
    pub handed_out: LogIndex,
    /// Bytes of own proposals waiting for commitment; leaders only.
    pub uncommitted_bytes: u64,
    /// Bytes of entries held in memory.
    pub cache_bytes: u64,
    /// The members in force.
    pub membership: Membership,
    /// To whom a leader hands over.
    pub transfer_to: Option<NodeId>,
    /// What a leader knows of the others.
    pub peers: Vec<PeerStatus>,
    /// Counters since the start of the process.
    pub stats: Stats,
}

/// What a leader knows of one other member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub id: NodeId,
    /// Durable there up to here.
    pub matched: LogIndex,
    /// The next entry to send.
    pub next: LogIndex,
    /// Whether entries stream, rather than the place to start from being searched.
    pub streaming: bool,
    /// Whether it must install a snapshot first.
    pub needs_snapshot: bool,
    /// Unanswered appends.
    pub in_flight_messages: usize,
    /// Unanswered bytes of entries.
    pub in_flight_bytes: u64,
}

/// Counters since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Pre-vote rounds started.
    pub pre_votes_count: u64,
    /// Elections started.
    pub elections_count: u64,
    /// Elections won.
    pub elections_won_count: u64,
    /// Times a leader stood down because it heard from no majority.
    pub quorum_lost_count: u64,
    /// Messages of an older term.
    pub stale_messages_count: u64,
    /// Messages that no correct peer sends: impossible index, broken order, a second leader in one term.
    pub impossible_messages_count: u64,
    /// Vote requests not looked at because a leader is alive.
    pub sticky_votes_count: u64,
    /// Replies dropped because too many already waited for the disk.
    pub withheld_dropped_count: u64,
    /// Appends that a follower refused.
    pub append_refusals_count: u64,
    /// Appends found to be lost.
    pub appends_lost_count: u64,
    /// Proposals refused.
    pub refused_count: u64,
    /// Entries cut off because a leader had others.
    pub truncated_entries_count: u64,
    /// Requests to the log store for old entries.
    pub loads_count: u64,
    /// Answers of the log store that did not fit.
    pub useless_loads_count: u64,
    /// Times that a follower needed entries that are compacted away.
    pub snapshots_needed_count: u64,
    /// Snapshots offered to followers, repetitions included.
    pub snapshots_offered_count: u64,
    /// Snapshots that replaced this replica's log.
    pub snapshots_installed_count: u64,
    /// Snapshots that brought nothing: older than what is here, or of another history.
    pub useless_snapshots_count: u64,
    /// Membership entries appended as a leader.
    pub membership_entries_count: u64,
    /// Joint configurations entered because all joining learners were caught up.
    pub promotions_count: u64,
    /// Times it stood down because it was removed.
    pub removals_count: u64,
    /// Transfers of leadership begun.
    pub transfers_count: u64,
    /// Transfers given up.
    pub transfers_aborted_count: u64,
    /// Campaigns begun because the leader asked for it.
    pub campaigns_by_leave_count: u64,
    /// Reads answered.
    pub reads_count: u64,
    /// Those of them that needed no round of heartbeats, because a lease held.
    pub lease_reads_count: u64,
    /// Reads refused, or given up with the leadership.
    pub reads_refused_count: u64,
}
