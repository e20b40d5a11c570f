//! Letters: what the cores of one node say to each other, one enum per receiver.
//!
//! Values only; the lanes that carry them are the reactor's. Two classes travel on separate lanes, so that a flood of
//! requests cannot hold up answers.

use std::sync::Arc;

use bytes::Bytes;
use distric_gossip::KeyChoice;
use distric_model::{Capacity, ClusterId, Elsewhere, GroupId, Instant, NodeId, WorkerId};
use distric_raft::Snapshot;

use super::catalog_view::CatalogView;
use super::checkpoint::Restored;
use super::envelope::ProposalNumber;
use super::liveness::GossipView;
use super::meta::{CatalogSource, MetaCommand, MetaReply, TrialMode};
use super::peer::Member;
use super::question::{Answer, Question};

pub use super::catalog_change::{CatalogChangeRequest, RequestedChange, SourceText};

/// Which of the two lanes of an ordered pair a letter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Work to be done.
    Request,
    /// Answers, acknowledgements and whatever frees resources.
    Reply,
}

/// One shard of this node.
pub type ShardIndex = usize;

/// A connection of one shard; never reused within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Where a question's answer goes: the shard, and its own number for the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskId {
    /// The asking shard.
    pub shard: ShardIndex,
    /// Its number there.
    pub number: u64,
}

/// One committed log entry, on its way to the shard that owns the group.
#[derive(Clone, Debug)]
pub struct CommittedEntry {
    /// Its index in the group's log.
    pub index: u64,
    /// The term in which it was proposed.
    pub term: u64,
    /// Its data, an envelope; empty for entries that raft made for itself.
    pub data: Bytes,
}

/// What a worker said of itself when it opened its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerCard {
    /// Its id.
    pub worker: WorkerId,
    /// Which run of its process.
    pub generation: u64,
    /// For people.
    pub name: String,
    /// Tasks it runs at once.
    pub slots: u32,
    /// Tasks it takes beyond that.
    pub prefetch: u32,
    /// The task types it offers.
    pub task_types: Vec<Arc<str>>,
    /// Its labels.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// What it has for its tasks.
    pub capacity: Capacity,
}

/// To a shard.
#[derive(Debug)]
pub enum ShardLetter {
    /// Entries of a group that this shard owns, in order, each once.
    Committed {
        /// The group.
        group: GroupId,
        /// The entries.
        entries: Vec<CommittedEntry>,
    },
    /// All entries up to here were handed over: what changed in the machine since the last time is wanted, as a checkpoint.
    Checkpoint {
        /// The group.
        group: GroupId,
        /// The last entry handed over.
        snapshot: Snapshot,
    },
    /// A machine made from a checkpoint, at the start or because this node lags behind the log; entries from there on follow.
    Install {
        /// The group.
        group: GroupId,
        /// Where it stands.
        snapshot: Snapshot,
        /// The machine.
        state: Restored,
    },
    /// A group's leadership as this node sees it. Sent to every shard.
    Leadership {
        /// The group.
        group: GroupId,
        /// Its term.
        term: u64,
        /// The leader, when one is known.
        leader: Option<NodeId>,
    },
    /// The proposal is in no log: certainly not applied.
    Refused {
        /// The proposal.
        number: ProposalNumber,
        /// Why.
        why: Unplaced,
    },
    /// From where on a question of this shard may be answered.
    ReadReady {
        /// As it was asked.
        number: u64,
        /// The group.
        group: GroupId,
        /// Where the machine has applied this; `None` when no leader could say.
        index: Option<u64>,
    },
    /// Who belongs to the cluster, and where clients and workers reach them. Sent to every shard.
    Coordinators {
        /// Node and address.
        addresses: Arc<[(NodeId, Arc<str>)]>,
    },
    /// A node said who it is; for the shard of group 0.
    Announced {
        /// Its record.
        member: Box<Member>,
    },
    /// A work group's machine answered a proposal of this shard.
    Replied {
        /// The proposal.
        number: ProposalNumber,
        /// The answer.
        reply: Box<distric_exec::Reply>,
    },
    /// The meta machine answered a proposal of this shard.
    MetaReplied {
        /// The proposal.
        number: ProposalNumber,
        /// The answer.
        reply: Box<MetaReply>,
        /// The catalog's revision once it was applied: the answer is for when shards use it.
        revision: u64,
    },
    /// Another shard asks what this one's groups know.
    Ask {
        /// Where the answer goes.
        from: AskId,
        /// The question.
        question: Box<Question>,
    },
    /// The answer to a question of this shard.
    Answered {
        /// Its number.
        number: u64,
        /// The answer.
        answer: Box<Answer>,
    },
    /// Whole frames for one of this shard's connections.
    Frames {
        /// The connection; gone ones are ignored.
        conn: ConnId,
        /// Encoded frames.
        frames: Vec<u8>,
    },
    /// A connection that followed instances is gone.
    FollowerGone {
        /// Its shard.
        shard: ShardIndex,
        /// The connection.
        conn: ConnId,
    },
    /// A group became active on this node, or is no longer.
    GroupActive {
        /// The group.
        group: GroupId,
        /// The term that it leads, when it is active.
        term: Option<u64>,
    },
    /// The workers of a shard know that a group is led here: what the leader says to them from now on means something to them.
    GroupWelcome {
        /// The group.
        group: GroupId,
    },
    /// A worker opened a session on some shard.
    WorkerAttached {
        /// The shard of its connection.
        shard: ShardIndex,
        /// The connection.
        conn: ConnId,
        /// The worker.
        card: Arc<WorkerCard>,
        /// When the session was opened: letters of two shards may overtake each other, the later session counts.
        opened_at: Instant,
    },
    /// A worker's session ended.
    WorkerDetached {
        /// The shard of the connection.
        shard: ShardIndex,
        /// The connection that is gone.
        conn: ConnId,
        /// The worker.
        worker: WorkerId,
    },
    /// A worker grants credit to a group of this shard, or asks some back.
    WorkerCredit {
        /// The group.
        group: GroupId,
        /// The session's connection; what an earlier session granted has lapsed.
        conn: ConnId,
        /// The worker.
        worker: WorkerId,
        /// Its generation.
        generation: u64,
        /// How much.
        amount: i64,
        /// What tasks of other groups take there, when it says so.
        elsewhere: Option<Elsewhere>,
    },
    /// A worker does not know these assignments of a group of this shard: (task, token).
    WorkerUnknown {
        /// The group.
        group: GroupId,
        /// The session's connection.
        conn: ConnId,
        /// The worker.
        worker: WorkerId,
        /// What it does not know.
        unknown: Vec<(distric_model::TaskId, u64)>,
    },
    /// What gossip holds now. A hint: nothing is applied because of it that the log did not decide.
    Gossip(Arc<GossipView>),
    /// An operator drains a worker, or ends the drain; every group hears it.
    WorkerDrain {
        /// The worker.
        worker: WorkerId,
        /// True to drain.
        drain: bool,
    },
    /// A record of another group's outbox, for a group of this shard. Not yet decided.
    Deliver {
        /// The group it is for.
        group: GroupId,
        /// The group whose outbox it is in.
        from_group: GroupId,
        /// The record.
        record: Arc<distric_exec::Out>,
    },
    /// A record of an outbox of this shard has arrived.
    OutAcked {
        /// The group whose outbox it is.
        group: GroupId,
        /// The record.
        seq: u64,
        /// What the target made of it.
        result: distric_exec::command::OutResult,
    },
    /// The cluster exists (known from the meta group).
    Cluster {
        /// Its id.
        cluster: ClusterId,
        /// Its work groups, 1 to this number.
        work_groups: u32,
    },
    /// A compiled catalog to use from the next message on.
    Catalog(Arc<CatalogView>),
    /// A shard uses a catalog of this revision now (to the shard of group 0).
    CatalogInstalled {
        /// The revision.
        revision: u64,
    },
    /// The share of a trial was changed, or the trial has ended: holds from the next message on, before anything is compiled.
    TrialShare {
        /// The revision that says so.
        revision: u64,
        /// The candidate.
        version: u64,
        /// What it is there for.
        mode: TrialMode,
        /// Hundredths of a percent; 0 when it has ended.
        share: u32,
    },
    /// The compiler's verdict on a proposed change (to the shard of group 0).
    Checked {
        /// The asking shard and its number for the question.
        from: AskId,
        /// The change.
        request: Box<CatalogChangeRequest>,
        /// The catalog it was checked against.
        base: Arc<CatalogSource>,
        /// How often it was proposed before.
        tries: u8,
        /// The verdict.
        verdict: Box<CheckVerdict>,
    },
    /// The compiler has built the catalog of the meta group.
    Compiled(Result<Arc<CatalogView>, String>),
    /// The compiler has built anew, in one piece, what it had compiled in layers: it decides the same (to the shard of group 0).
    Settled(Arc<CatalogView>),
    /// The same for every shard.
    CatalogSettled(Arc<CatalogView>),
    /// Stop accepting, finish, and say when done.
    Drain,
}

/// The compiler's verdict on a proposed change of the catalog.
#[derive(Debug)]
pub enum CheckVerdict {
    /// It may be proposed.
    Good {
        /// The command for the meta group.
        command: MetaCommand,
        /// Warnings, as JSON.
        warnings: serde_json::Value,
    },
    /// It may not.
    Bad {
        /// The first problem: words, line, column, path.
        first: Problem,
        /// All problems, as JSON.
        problems: serde_json::Value,
    },
}

/// The first thing wrong with a catalog, for the rejection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, with the name of the file.
    pub message: String,
    /// The path of the element.
    pub path: String,
    /// 1-based; 0 when unknown.
    pub line: u32,
    /// 1-based; 0 when unknown.
    pub column: u32,
}

/// Under whose lead a proposal may enter the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Whoever leads; put again under the next leader when its place is lost.
    AnyLead,
    /// Whoever leads, once. Whoever wants it again proposes it again.
    Once,
    /// What a leader says for its own sake, of its sessions and its clock: it enters the log while this node leads in this term, also
    /// after a transfer that failed, or not at all. Under the next leader it would be a lie.
    OwnLead {
        /// The term.
        term: u64,
    },
}

/// Why a proposal is in no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unplaced {
    /// No leader took it in time, or the lead that it was for is over.
    NoLeader,
    /// The group's leader has too much in flight: later it may be taken.
    Overloaded,
    /// No log takes a command of this size, now or later.
    TooLarge {
        /// Most bytes that an entry may have.
        limit_bytes: u64,
    },
}

/// To the raft core.
#[derive(Debug)]
pub enum ConsensusLetter {
    /// A command for a group's log.
    Propose {
        /// The group.
        group: GroupId,
        /// Who waits for the answer.
        number: ProposalNumber,
        /// The command's bytes.
        command: Bytes,
        /// Under whose lead it may enter the log.
        reach: Reach,
    },
    /// From where may a question about a group be answered?
    Read {
        /// The group.
        group: GroupId,
        /// Who asks, repeated in the answer.
        id: AskId,
    },
    /// The meta group names the members.
    Members {
        /// Who shall vote in every group.
        voters: Vec<NodeId>,
        /// Their records.
        members: Vec<Member>,
    },
    /// The meta group says which keys of gossip count.
    GossipKeys(KeyChoice),
    /// Where live coordinators say that they are called, and which ones are in doubt, by gossip. Hints: who is a member the meta group says.
    Found {
        /// Node and `host:port`.
        peers: Vec<(NodeId, Arc<str>)>,
        /// Coordinators that are suspected, or failed.
        doubted: Vec<NodeId>,
    },
    /// An operator wants a group's lead on a node.
    MoveLeader {
        /// The group.
        group: GroupId,
        /// The node.
        target: NodeId,
    },
    /// The replicas of this node, for its status.
    Status {
        /// Where the document goes.
        from: AskId,
    },
    /// The meta group says that these groups exist. Opens those that do not run yet.
    OpenGroups {
        /// Groups 1 to this number.
        work_groups: u32,
        /// Their voters.
        voters: Vec<NodeId>,
    },
}

/// To the compiler.
#[derive(Debug)]
pub enum CompilerLetter {
    /// Check a change against the catalog that it is made for.
    Check {
        /// The asking shard and its number for the question.
        from: AskId,
        /// The change.
        request: Box<CatalogChangeRequest>,
        /// The catalog it is made for.
        base: Arc<CatalogSource>,
        /// How often it was proposed before.
        tries: u8,
    },
    /// Build the catalog. Answered to the shard of group 0.
    Compile {
        /// The source.
        source: Arc<CatalogSource>,
    },
}
