//! What the raft core, the log writer, the state writer and the connections between coordinators have counted, as text for a scrape.

use std::collections::BTreeMap;
use std::fmt::Write;

use distric_model::GroupId;
use distric_raft::{RoleKind, Status};

use super::metrics::histogram;
use crate::node::consensus::ConsensusStats;
use crate::node::shard::Histogram;

/// Why a caller was not let in, or a connection between coordinators was ended. The names are the values of the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// The first frame was no hello, or could not be read.
    NoHello,
    /// It belongs to another cluster.
    OtherCluster,
    /// It looked for another node at this address.
    OtherNode,
    /// It says that it is this very node.
    Double,
    /// Too many callers are connected.
    TooManyCallers,
    /// It did not introduce itself in time.
    Silent,
    /// Bytes that are no frame.
    BadFrame,
    /// A frame that is no letter.
    BadLetter,
}

impl Refused {
    /// All of them, so that a scrape shows those too that never were.
    pub const ALL: [Self; 8] = [
        Self::NoHello,
        Self::OtherCluster,
        Self::OtherNode,
        Self::Double,
        Self::TooManyCallers,
        Self::Silent,
        Self::BadFrame,
        Self::BadLetter,
    ];

    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoHello => "no_hello",
            Self::OtherCluster => "other_cluster",
            Self::OtherNode => "other_node",
            Self::Double => "double",
            Self::TooManyCallers => "too_many_callers",
            Self::Silent => "silent",
            Self::BadFrame => "bad_frame",
            Self::BadLetter => "bad_letter",
        }
    }
}

/// What the rim of the raft core counts.
#[derive(Clone, Debug, Default)]
pub struct RimStats {
    /// Callers and connections that were refused or ended, by reason.
    pub refused: BTreeMap<Refused, u64>,
    /// Links to other coordinators that came up.
    pub links_up_count: u64,
    /// Links that were lost.
    pub links_lost_count: u64,
    /// How long each flush of the log took; their number is the number of flushes.
    pub flush: Histogram,
    /// Entries that were made durable.
    pub entries_flushed_count: u64,
    /// How long each checkpoint took to become durable.
    pub checkpoint: Histogram,
}

impl RimStats {
    /// Counts a refusal.
    pub fn refuse(&mut self, reason: Refused) {
        *self.refused.entry(reason).or_default() += 1;
    }
}

/// One look at the raft core.
#[derive(Clone, Debug, Default)]
pub struct RaftStats {
    /// Of all groups together.
    pub consensus: ConsensusStats,
    /// Of the rim.
    pub rim: RimStats,
    /// Every group of the node.
    pub groups: Vec<(GroupId, Status)>,
}

/// Appends the text of one scrape.
pub fn text(out: &mut String, node: &str, stats: &RaftStats) {
    let (of_all, rim) = (&stats.consensus, &stats.rim);
    for (name, help, value) in [
        ("distric_raft_proposals_forwarded_total", "Proposals sent to a leader on another node.", of_all.forwarded_count),
        ("distric_raft_proposals_taken_total", "Proposals of other nodes taken as their leader.", of_all.taken_for_others_count),
        ("distric_raft_proposals_unplaced_total", "Proposals that found no leader in time, or whose lead was over.", of_all.unplaced_count),
        ("distric_raft_proposals_overloaded_total", "Proposals refused because too much waited to be committed.", of_all.overloaded_count),
        ("distric_raft_snapshots_sent_total", "Snapshots made for other nodes.", of_all.snapshots_sent_count),
        ("distric_raft_snapshots_received_total", "Snapshots offered by other nodes and fetched.", of_all.snapshots_received_count),
        ("distric_raft_snapshots_installed_total", "Fetched snapshots put in place.", of_all.snapshots_installed_count),
        ("distric_raft_snapshots_failed_total", "Fetches and installations that came to nothing.", of_all.snapshots_failed_count),
        ("distric_raft_log_flushes_total", "Flushes of the log, each for all groups.", rim.flush.counts.iter().sum()),
        ("distric_raft_log_entries_flushed_total", "Entries made durable.", rim.entries_flushed_count),
        ("distric_peer_links_up_total", "Links to other coordinators that came up.", rim.links_up_count),
        ("distric_peer_links_lost_total", "Links to other coordinators that were lost.", rim.links_lost_count),
    ] {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name}{{coordinator=\"{node}\"}} {value}");
    }
    let name = "distric_peer_refused_total";
    let _ = writeln!(out, "# HELP {name} Callers not let in and connections between coordinators ended, by reason.\n# TYPE {name} counter");
    for reason in Refused::ALL {
        let (label, count) = (reason.name(), rim.refused.get(&reason).copied().unwrap_or_default());
        let _ = writeln!(out, "{name}{{coordinator=\"{node}\",reason=\"{label}\"}} {count}");
    }
    histogram(out, node, "distric_raft_log_flush_duration_seconds", "Time of one flush of the log.", std::iter::once(&rim.flush));
    histogram(
        out,
        node,
        "distric_raft_checkpoint_duration_seconds",
        "Time until a checkpoint was durable.",
        std::iter::once(&rim.checkpoint),
    );
    groups(out, node, stats);
}

/// A value of one group.
type Value = fn(&Status) -> u64;

/// Name, kind, help and value of what is told of every group.
const OF_GROUPS: [(&str, &str, &str, Value); 15] = [
    ("distric_raft_is_leader", "gauge", "1 where this node leads the group.", |s| u64::from(s.role == RoleKind::Leader)),
    ("distric_raft_term", "gauge", "The group's term.", |s| s.term.0),
    ("distric_raft_commit_index", "gauge", "Committed up to here.", |s| s.commit.0),
    ("distric_raft_log_entries", "gauge", "Entries kept in the log.", |s| s.last.index.since(s.base.index)),
    ("distric_raft_log_cache_bytes", "gauge", "Bytes of entries kept in memory.", |s| s.cache_bytes),
    ("distric_raft_uncommitted_bytes", "gauge", "Bytes of own proposals that wait to be committed; leaders only.", |s| s.uncommitted_bytes),
    ("distric_raft_pre_votes_total", "counter", "Pre-vote rounds started.", |s| s.stats.pre_votes_count),
    ("distric_raft_elections_total", "counter", "Elections started.", |s| s.stats.elections_count),
    ("distric_raft_elections_won_total", "counter", "Elections won.", |s| s.stats.elections_won_count),
    ("distric_raft_quorum_lost_total", "counter", "Leads given up because no majority was heard.", |s| s.stats.quorum_lost_count),
    ("distric_raft_transfers_total", "counter", "Transfers of leadership begun.", |s| s.stats.transfers_count),
    ("distric_raft_transfers_aborted_total", "counter", "Transfers given up.", |s| s.stats.transfers_aborted_count),
    ("distric_raft_appends_lost_total", "counter", "Appends found to be lost.", |s| s.stats.appends_lost_count),
    ("distric_raft_impossible_messages_total", "counter", "Messages that no correct peer sends.", |s| s.stats.impossible_messages_count),
    ("distric_raft_reads_total", "counter", "Linearizable reads answered.", |s| s.stats.reads_count),
];

fn groups(out: &mut String, node: &str, stats: &RaftStats) {
    let name = "distric_raft_leader_changes_total";
    let _ = writeln!(out, "# HELP {name} Leaders that a group has had, as this node learnt of them.\n# TYPE {name} counter");
    for (group, count) in &stats.consensus.leader_changes_count {
        let _ = writeln!(out, "{name}{{coordinator=\"{node}\",group=\"{group}\"}} {count}");
    }
    for (name, kind, help, value) in OF_GROUPS {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (group, status) in &stats.groups {
            let _ = writeln!(out, "{name}{{coordinator=\"{node}\",group=\"{group}\"}} {}", value(status));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_told_and_flushes_are_counted() {
        let mut stats = RaftStats::default();
        stats.rim.refuse(Refused::OtherCluster);
        stats.rim.refuse(Refused::OtherCluster);
        stats.rim.flush.observe_us(90);
        stats.consensus.leader_changes_count.insert(GroupId(1), 3);
        let mut out = String::new();
        text(&mut out, "n1", &stats);
        assert!(out.contains("distric_peer_refused_total{coordinator=\"n1\",reason=\"other_cluster\"} 2\n"));
        assert!(out.contains("distric_peer_refused_total{coordinator=\"n1\",reason=\"double\"} 0\n"));
        assert!(out.contains("distric_raft_log_flushes_total{coordinator=\"n1\"} 1\n"));
        assert!(out.contains("distric_raft_log_flush_duration_seconds_bucket{coordinator=\"n1\",le=\"0.0001\"} 1\n"));
        assert!(out.contains("distric_raft_leader_changes_total{coordinator=\"n1\",group=\"") && out.contains("\"} 3\n"));
    }
}
