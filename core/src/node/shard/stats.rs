//! Counters of one shard; the rim publishes them.

use std::sync::Arc;

use distric_model::GroupId;

use super::rule_counts::RuleStats;
use crate::node::liveness::GossipView;

/// Upper bounds of the latency buckets, microseconds; one more bucket holds what is above.
pub const BUCKETS_US: [u64; 18] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000];

/// A latency histogram with fixed buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Observations per bucket, not cumulative.
    pub counts: [u64; BUCKETS_US.len() + 1],
    /// Sum of all observations, microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// Counts one observation.
    pub fn observe_us(&mut self, us: u64) {
        let bucket = BUCKETS_US.iter().position(|bound| us <= *bound).unwrap_or(BUCKETS_US.len());
        self.counts[bucket] += 1;
        self.sum_us += us;
    }
}

/// What one shard counted since it started, and a few gauges.
#[derive(Clone, Debug, Default)]
pub struct ShardStats {
    /// Connections accepted.
    pub connections_opened_count: u64,
    /// Connections gone.
    pub connections_closed_count: u64,
    /// Connections now.
    pub connections_count: u64,
    /// Frames taken in.
    pub frames_received_count: u64,
    /// Connections closed for bytes that are no frame.
    pub frames_refused_count: u64,
    /// Messages submitted, batch items included.
    pub messages_received_count: u64,
    /// Messages acknowledged after commit.
    pub messages_accepted_count: u64,
    /// Messages answered from the record of their idempotency key.
    pub messages_repeat_count: u64,
    /// Messages that matched nothing and were acknowledged at once.
    pub messages_unmatched_count: u64,
    /// Requests refused, for whatever reason.
    pub rejections_count: u64,
    /// Proposals put to logs.
    pub proposals_count: u64,
    /// Proposals open now.
    pub proposals_in_flight: u64,
    /// Entries applied.
    pub entries_applied_count: u64,
    /// Tasks sent to workers.
    pub tasks_dispatched_count: u64,
    /// Results taken from workers.
    pub task_results_count: u64,
    /// How long the rules took per message.
    pub rule_evaluation: Histogram,
    /// What rules did, the costliest first; a bounded part of them.
    pub rules: Vec<RuleStats>,
    /// What all rules cost the messages that were looked at for that, estimated, nanoseconds.
    pub rules_work_ns: u64,
    /// Matches of all rules.
    pub rules_matched_count: u64,
    /// From proposal to answer.
    pub commit: Histogram,
    /// What gossip holds; told by one shard of a node.
    pub gossip: Option<Arc<GossipView>>,
    /// The machines of this shard.
    pub machines: Vec<(GroupId, distric_exec::Stats)>,
}
