//! Metrics: the shards' counters merged at scrape, as text in the exposition format of Prometheus.
//!
//! Hand-written text: every value here is a snapshot that a shard has already counted, so there is nothing for a registry to own.

use std::collections::BTreeMap;
use std::fmt::Write;

use distric_gossip::State;

use super::raft_stats::{self, RaftStats};
use crate::node::liveness::{GossipView, state_name, verdict_name};
use crate::node::shard::{BUCKETS_US, Histogram, ShardStats, cost_share};

/// The text for one scrape.
pub fn text(node: &str, shards: &[ShardStats], raft: Option<&RaftStats>) -> String {
    let mut out = String::with_capacity(8_192);
    let sum = |of: fn(&ShardStats) -> u64| shards.iter().map(of).sum::<u64>();
    let mut counter = |name: &str, help: &str, value: u64| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name}{{coordinator=\"{node}\"}} {value}");
    };
    counter("distric_messages_received_total", "Messages submitted, batch items included.", sum(|s| s.messages_received_count));
    counter("distric_messages_accepted_total", "Messages acknowledged after commit.", sum(|s| s.messages_accepted_count));
    counter(
        "distric_messages_repeat_total",
        "Messages answered from the record of their idempotency key.",
        sum(|s| s.messages_repeat_count),
    );
    counter("distric_messages_unmatched_total", "Messages that matched nothing.", sum(|s| s.messages_unmatched_count));
    counter("distric_requests_rejected_total", "Requests refused.", sum(|s| s.rejections_count));
    counter("distric_tcp_connections_opened_total", "Connections accepted.", sum(|s| s.connections_opened_count));
    counter("distric_tcp_connections_closed_total", "Connections gone.", sum(|s| s.connections_closed_count));
    counter("distric_tcp_frames_received_total", "Frames taken in.", sum(|s| s.frames_received_count));
    counter("distric_tcp_frames_refused_total", "Connections closed for bytes that are no frame.", sum(|s| s.frames_refused_count));
    counter("distric_raft_proposals_total", "Commands put to logs.", sum(|s| s.proposals_count));
    counter("distric_raft_entries_applied_total", "Log entries applied.", sum(|s| s.entries_applied_count));
    counter("distric_tasks_dispatched_total", "Tasks sent to workers.", sum(|s| s.tasks_dispatched_count));
    counter("distric_task_results_total", "Results taken from workers.", sum(|s| s.task_results_count));
    let mut gauge = |name: &str, help: &str, value: u64| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{coordinator=\"{node}\"}} {value}");
    };
    gauge("distric_tcp_connections", "Connections now.", sum(|s| s.connections_count));
    gauge("distric_raft_proposals_in_flight", "Commands put to logs and not yet answered.", sum(|s| s.proposals_in_flight));
    if let Some(view) = shards.iter().find_map(|shard| shard.gossip.as_deref()) {
        gossip(&mut out, node, view);
    }
    histogram(
        &mut out,
        node,
        "distric_rule_evaluation_duration_seconds",
        "Time of one decision of the catalog.",
        shards.iter().map(|s| &s.rule_evaluation),
    );
    rules(&mut out, node, shards);
    histogram(
        &mut out,
        node,
        "distric_raft_commit_duration_seconds",
        "From proposal to the machine's answer.",
        shards.iter().map(|s| &s.commit),
    );
    machines(&mut out, shards);
    if let Some(raft) = raft {
        raft_stats::text(&mut out, node, raft);
    }
    out
}

/// Rules of a node that have series of their own, the costliest of the moment; so labels stay few however large the catalog is.
pub const RULES_LABELLED_MAX: usize = 50;

/// What rules did: all of them together, and the costliest one by one.
fn rules(out: &mut String, node: &str, shards: &[ShardStats]) {
    let mut sums: BTreeMap<(&str, &str), [u64; 4]> = BTreeMap::new();
    for row in shards.iter().flat_map(|shard| &shard.rules) {
        let sum = sums.entry((row.namespace.as_str(), &row.rule)).or_default();
        for (sum, count) in sum.iter_mut().zip([row.work_ns, row.matched_count, row.evaluated_count, row.errors_count]) {
            *sum += count;
        }
    }
    let mut rows: Vec<((&str, &str), [u64; 4])> = sums.into_iter().collect();
    // Costs first, then matches; stable, so equals stay in the order of their names.
    rows.sort_by_key(|(_, counts)| std::cmp::Reverse([counts[0], counts[1]]));
    rows.truncate(RULES_LABELLED_MAX);
    let work_ns: u64 = shards.iter().map(|shard| shard.rules_work_ns).sum();
    let matched: u64 = shards.iter().map(|shard| shard.rules_matched_count).sum();
    let _ = writeln!(
        out,
        "# HELP distric_rules_matched_total Matches of all rules.\n# TYPE distric_rules_matched_total counter\n\
         distric_rules_matched_total{{coordinator=\"{node}\"}} {matched}"
    );
    for (name, kind, help) in [
        ("distric_rule_evaluated_total", "counter", "Messages that the rule was judged on; the costliest rules only."),
        ("distric_rule_matched_total", "counter", "Messages that the rule matched; the costliest rules only."),
        ("distric_rule_errors_total", "counter", "Templates and expressions of the rule without a value; the costliest rules only."),
        ("distric_rule_cost_share", "gauge", "The rule's share in the estimated work of all rules, 0 to 1; the costliest rules only."),
    ] {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for ((namespace, rule), [work, matched, evaluated, errors]) in &rows {
            let _ = write!(out, "{name}{{coordinator=\"{node}\",namespace=\"{namespace}\",rule=\"{rule}\"}} ");
            let _ = match name {
                "distric_rule_evaluated_total" => writeln!(out, "{evaluated}"),
                "distric_rule_matched_total" => writeln!(out, "{matched}"),
                "distric_rule_errors_total" => writeln!(out, "{errors}"),
                _ => writeln!(out, "{}", cost_share(*work, work_ns)),
            };
        }
    }
}

/// What gossip holds and has done.
fn gossip(out: &mut String, node: &str, view: &GossipView) {
    let _ = writeln!(out, "# HELP distric_gossip_members Members by state, this node included.\n# TYPE distric_gossip_members gauge");
    for state in [State::Alive, State::Suspect, State::Dead, State::Left] {
        let name = state_name(state);
        let _ = writeln!(out, "distric_gossip_members{{coordinator=\"{node}\",state=\"{name}\"}} {}", view.count(state));
    }
    let verdict = verdict_name(view.verdict);
    let _ = writeln!(
        out,
        "# HELP distric_gossip_partition Whether a partition is held possible; 1 on the verdict that stands.\n# TYPE distric_gossip_partition gauge\n\
         distric_gossip_partition{{coordinator=\"{node}\",verdict=\"{verdict}\"}} 1"
    );
    let _ = writeln!(
        out,
        "# HELP distric_gossip_local_health How far the node distrusts itself, 0 healthy to 8.\n# TYPE distric_gossip_local_health gauge\n\
         distric_gossip_local_health{{coordinator=\"{node}\"}} {}",
        view.local_health
    );
    let sealed = view.members.get(&view.node).is_some_and(|seat| !seat.keys.held.is_empty());
    let _ = writeln!(
        out,
        "# HELP distric_gossip_sealed Whether gossip is sealed: 1 or 0.\n# TYPE distric_gossip_sealed gauge\n\
         distric_gossip_sealed{{coordinator=\"{node}\"}} {}",
        u8::from(sealed)
    );
    let _ = writeln!(
        out,
        "# HELP distric_gossip_refused_total Datagrams and stream messages of gossip that were dropped, by reason.\n\
         # TYPE distric_gossip_refused_total counter"
    );
    let stats = &view.stats;
    for (refusal, count) in stats.refusals.iter() {
        let _ = writeln!(out, "distric_gossip_refused_total{{coordinator=\"{node}\",reason=\"{}\"}} {count}", refusal.name());
    }
    for (name, help, value) in [
        ("distric_gossip_failure_detections_total", "Members that were held alive and then failed.", stats.failures_count),
        ("distric_gossip_suspicions_total", "Members that came under suspicion.", stats.suspicions_count),
        ("distric_gossip_refutations_total", "Suspicions that the suspected member refuted.", stats.refutations_count),
        ("distric_gossip_probes_total", "Probes of members.", stats.probes_count),
        ("distric_gossip_probes_failed_total", "Probes that nobody answered.", stats.probes_failed_count),
        ("distric_gossip_late_wakes_total", "Times that the node itself slept and excused its peers.", stats.late_wakes_count),
        (
            "distric_gossip_urgent_throttled_total",
            "Times that the valve of the urgent lane held something back.",
            stats.urgent_throttled_count,
        ),
        ("distric_udp_datagrams_received_total", "Gossip datagrams received.", stats.datagrams_received_count),
        ("distric_udp_datagrams_sent_total", "Gossip datagrams sent.", stats.datagrams_sent_count),
        ("distric_udp_datagrams_refused_total", "Gossip datagrams that were not understood.", stats.datagrams_refused_count),
        ("distric_udp_bytes_received_total", "Bytes of gossip datagrams received.", stats.datagram_bytes_received),
        ("distric_udp_bytes_sent_total", "Bytes of gossip datagrams sent.", stats.datagram_bytes_sent),
    ] {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name}{{coordinator=\"{node}\"}} {value}");
    }
}

/// One gauge or counter per group, straight from the machines' own names.
fn machines(out: &mut String, shards: &[ShardStats]) {
    let rows: Vec<(String, Vec<(&'static str, u64)>)> =
        shards.iter().flat_map(|shard| &shard.machines).map(|(group, stats)| (group.to_string(), stats.rows().to_vec())).collect();
    let Some((_, names)) = rows.first() else { return };
    for (position, (name, _)) in names.iter().enumerate() {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let _ = writeln!(out, "# TYPE distric_{name} {kind}");
        for (group, values) in &rows {
            let _ = writeln!(out, "distric_{name}{{group=\"{group}\"}} {}", values[position].1);
        }
    }
}

/// One histogram, its parts added up.
pub fn histogram<'a>(out: &mut String, node: &str, name: &str, help: &str, parts: impl Iterator<Item = &'a Histogram>) {
    let mut whole = Histogram::default();
    for part in parts {
        whole.counts.iter_mut().zip(&part.counts).for_each(|(sum, count)| *sum += count);
        whole.sum_us += part.sum_us;
    }
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
    let mut below = 0;
    for (bound, count) in BUCKETS_US.iter().zip(&whole.counts) {
        below += count;
        let _ = writeln!(out, "{name}_bucket{{coordinator=\"{node}\",le=\"{}\"}} {below}", *bound as f64 / 1e6);
    }
    let total = whole.counts.iter().sum::<u64>();
    let _ = writeln!(out, "{name}_bucket{{coordinator=\"{node}\",le=\"+Inf\"}} {total}");
    let _ =
        writeln!(out, "{name}_sum{{coordinator=\"{node}\"}} {}\n{name}_count{{coordinator=\"{node}\"}} {total}", whole.sum_us as f64 / 1e6);
}

#[cfg(test)]
mod tests {
    use distric_model::Namespace;

    use super::*;
    use crate::node::shard::RuleStats;

    #[test]
    fn only_the_costliest_rules_have_labels_and_shards_add_up() {
        let row = |i: u64, work_ns: u64| RuleStats {
            namespace: Namespace::default(),
            rule: format!("r{i:03}").into(),
            evaluated_count: 10,
            matched_count: i,
            errors_count: 1,
            work_ns,
        };
        let shard = |factor: u64| ShardStats {
            rules: (0..RULES_LABELLED_MAX as u64 + 10).map(|i| row(i, factor * i)).collect(),
            rules_work_ns: 1_770 * factor,
            rules_matched_count: 7,
            ..ShardStats::default()
        };
        let text = text("n1", &[shard(1), shard(3)], None);
        assert_eq!(text.matches("distric_rule_cost_share{").count(), RULES_LABELLED_MAX);
        let of = |name: &str, rule: &str| format!("{name}{{coordinator=\"n1\",namespace=\"default\",rule=\"{rule}\"}} ");
        assert!(text.contains(&(of("distric_rule_cost_share", "r059") + "0.033333\n")), "{text}");
        assert!(text.contains(&(of("distric_rule_matched_total", "r059") + "118\n")));
        assert!(text.contains(&(of("distric_rule_evaluated_total", "r010") + "20\n")));
        assert!(text.contains(&(of("distric_rule_errors_total", "r010") + "2\n")));
        assert!(!text.contains("rule=\"r009\""));
        assert!(text.contains("distric_rules_matched_total{coordinator=\"n1\"} 14\n"));
    }

    #[test]
    fn shards_are_merged_and_buckets_are_cumulative() {
        let mut one = ShardStats { messages_received_count: 3, ..ShardStats::default() };
        one.commit.observe_us(7);
        let mut two = ShardStats { messages_received_count: 4, ..ShardStats::default() };
        two.commit.observe_us(6_000_000);
        let text = text("n1", &[one, two], None);
        assert!(text.contains("distric_messages_received_total{coordinator=\"n1\"} 7\n"));
        assert!(text.contains("distric_raft_commit_duration_seconds_bucket{coordinator=\"n1\",le=\"0.000005\"} 0\n"));
        assert!(text.contains("distric_raft_commit_duration_seconds_bucket{coordinator=\"n1\",le=\"0.00001\"} 1\n"));
        assert!(text.contains("distric_raft_commit_duration_seconds_bucket{coordinator=\"n1\",le=\"+Inf\"} 2\n"));
        assert!(text.contains("distric_raft_commit_duration_seconds_sum{coordinator=\"n1\"} 6.000007\n"));
    }
}
