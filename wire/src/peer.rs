//! The raft family, 0x1xxx: what coordinators say to each other. The page is `docs/peer-protocol.md`.
//!
//! Every coordinator opens one connection to every other and says on it what it has to say; nothing but the
//! [`PeerWelcome`] comes back on it. Messages may be lost with a connection; none depends on another.

use uuid::Uuid;

use crate::tlv::structs::tlv_struct;
use crate::tlv::views::Items;

tlv_struct! {
    /// The first message on a connection: who calls. Answered by a [`PeerWelcome`] or a Rejection.
    struct PeerHello<'a> = 0x1010 {
        /// The caller's cluster; absent when it wants to become a member.
        1 cluster_id: optional Uuid,
        /// The caller.
        2 node_id: required Uuid,
        /// Drawn at each start of the caller's process.
        3 boot: required u64,
        /// Whom it wants to reach, when it knows; another node answers with a refusal.
        4 wanted_node_id: optional Uuid,
        /// The caller as the cluster shall know it: a member record.
        5 member: required &'a [u8],
        /// The caller invites: a node without a cluster becomes a member of the caller's.
        6 invites: default bool,
        /// The connection carries snapshots: the caller asks with [`FetchSnapshot`], and is answered on it.
        7 bulk: default bool,
    }
}

tlv_struct! {
    /// The answer to a [`PeerHello`].
    struct PeerWelcome<'a> = 0x1011 {
        /// The cluster.
        1 cluster_id: required Uuid,
        /// Who answers.
        2 node_id: required Uuid,
        /// Drawn at each start of its process.
        3 boot: required u64,
        /// The members that it knows: member records.
        4 members: required Items<'a>,
    }
}

tlv_struct! {
    /// A candidate asks for a vote, or whether it would get one (Raft section 5.2; Ongaro 2014, sections 3.10 and 9.6).
    struct RequestVote = 0x1001 {
        /// The group.
        1 group: required u32,
        /// The candidate's term; of a pre-vote the term it would campaign in.
        2 term: required u64,
        /// 0: would you? 1: vote. 2: vote, the leader asked for it.
        3 kind: required u8,
        /// Term of its last entry.
        4 last_term: required u64,
        /// Index of its last entry.
        5 last_index: required u64,
    }
}

tlv_struct! {
    /// The answer to a [`RequestVote`].
    struct RequestVoteResponse = 0x1002 {
        /// The group.
        1 group: required u32,
        /// The term, as in the question when a pre-vote is granted.
        2 term: required u64,
        /// Whether a pre-vote is answered.
        3 pre_vote: required bool,
        /// Whether the vote is given.
        4 granted: required bool,
    }
}

tlv_struct! {
    /// Entries of a leader (Raft section 5.3).
    struct AppendEntries<'a> = 0x1003 {
        /// The group.
        1 group: required u32,
        /// The leader's term.
        2 term: required u64,
        /// Term of the entry before the first.
        3 prev_term: required u64,
        /// Index of the entry before the first.
        4 prev_index: required u64,
        /// The leader's commit index.
        5 commit: required u64,
        /// Each entry: term (8 bytes), kind (1), length (4), data; contiguous from `prev_index + 1`.
        6 entries: required &'a [u8],
    }
}

tlv_struct! {
    /// The answer to [`AppendEntries`], or to the offer of a snapshot.
    struct AppendEntriesResponse = 0x1004 {
        /// The group.
        1 group: required u32,
        /// The answerer's term.
        2 term: required u64,
        /// 0: equal and durable up to `index`. 1: the entry at `index` is missing or other. 2: of an older term.
        3 outcome: required u8,
        /// See `outcome`.
        4 index: required u64,
        /// With outcome 1: term of the last entry that may match.
        5 hint_term: required u64,
        /// With outcome 1: its index.
        6 hint_index: required u64,
    }
}

tlv_struct! {
    /// A leader offers a snapshot; its bytes are fetched by the receiver (Raft section 7).
    struct InstallSnapshot<'a> = 0x1005 {
        /// The group.
        1 group: required u32,
        /// The leader's term.
        2 term: required u64,
        /// Term of the last entry in it.
        3 last_term: required u64,
        /// Index of the last entry in it.
        4 last_index: required u64,
        /// The members in force there, as an entry of the log carries them.
        5 membership: required &'a [u8],
    }
}

tlv_struct! {
    /// A leader's signs of life, of all groups that are due.
    struct Heartbeats<'a> = 0x1006 {
        /// Each: group (4 bytes), term (8), commit (8), round (8).
        1 beats: required &'a [u8],
    }
}

tlv_struct! {
    /// The answers to [`Heartbeats`].
    struct HeartbeatResponses<'a> = 0x1007 {
        /// Each: group (4 bytes), term (8), round (8), matched (8), received (8).
        1 beats: required &'a [u8],
    }
}

tlv_struct! {
    /// A leader hands over: campaign now (Ongaro 2014, section 3.10).
    struct TimeoutNow = 0x1008 {
        /// The group.
        1 group: required u32,
        /// The leader's term.
        2 term: required u64,
    }
}

tlv_struct! {
    /// A proposal of the caller for the log of a group that the receiver leads.
    struct Forward<'a> = 0x1020 {
        /// The group.
        1 group: required u32,
        /// The term that the receiver leads in, as the caller knows it; in any other it refuses.
        2 term: required u64,
        /// The proposal's number on the caller's node, which is in the entry's envelope as well.
        3 number: required u64,
        /// The command.
        4 command: required &'a [u8],
    }
}

tlv_struct! {
    /// A forwarded proposal did not enter the log: putting it again cannot double it.
    struct ForwardRefused = 0x1021 {
        /// The group.
        1 group: required u32,
        /// As in the [`Forward`].
        2 term: required u64,
        /// As in the [`Forward`].
        3 number: required u64,
        /// Whether too much waits to be committed.
        4 overloaded: required bool,
    }
}

tlv_struct! {
    /// From where may reads be served? (Ongaro 2014, section 6.4)
    struct ReadIndex = 0x1022 {
        /// The group.
        1 group: required u32,
        /// Repeated in the answer.
        2 id: required u64,
    }
}

tlv_struct! {
    /// The answer to a [`ReadIndex`].
    struct ReadIndexResponse = 0x1023 {
        /// The group.
        1 group: required u32,
        /// As in the question.
        2 id: required u64,
        /// Reads may be served where this is applied. Absent: the answerer cannot tell.
        3 index: optional u64,
    }
}

tlv_struct! {
    /// An operator wants the lead of a group elsewhere: for its leader.
    struct MoveLeader = 0x1024 {
        /// The group.
        1 group: required u32,
        /// The new leader.
        2 target: required Uuid,
    }
}

tlv_struct! {
    /// On a bulk connection: the bytes of a snapshot from an offset on. Asked again after a broken connection, the fetch goes on there.
    struct FetchSnapshot = 0x1030 {
        /// The group.
        1 group: required u32,
        /// Term of the last entry in it, as it was offered.
        2 last_term: required u64,
        /// Index of the last entry in it.
        3 last_index: required u64,
        /// From here on.
        4 offset: required u64,
    }
}

tlv_struct! {
    /// The answer to a [`FetchSnapshot`].
    struct SnapshotChunk<'a> = 0x1031 {
        /// The group.
        1 group: required u32,
        /// Where `data` begins.
        2 offset: required u64,
        /// How long the whole is; 0: this snapshot is not kept any more, a newer one is offered in time.
        3 total_bytes: required u64,
        /// Some of it; how much is the answerer's choice.
        4 data: required &'a [u8],
    }
}
