//! What happened, over all seeds.

use distric_raft::Stats;

use super::{Faults, Storm};

/// Sums over all seeds: a run in which some fault never happened proves nothing.
#[derive(Default)]
pub struct Totals {
    faults: Faults,
    stats: Stats,
    committed_count: u64,
    checks_count: u64,
}

impl Totals {
    pub fn add(&mut self, storm: &Storm) {
        let faults = &storm.faults;
        self.faults.crashes += faults.crashes;
        self.faults.lost_writes += faults.lost_writes;
        self.faults.cuts += faults.cuts;
        self.faults.lost_packets += faults.lost_packets;
        self.faults.partitions += faults.partitions;
        self.faults.clogs += faults.clogs;
        self.faults.pauses += faults.pauses;
        self.faults.clock_jumps += faults.clock_jumps;
        self.faults.late_packets += faults.late_packets;
        self.faults.doubled_packets += faults.doubled_packets;
        self.faults.stalls += faults.stalls;
        self.faults.lasting += faults.lasting;
        self.faults.changes += faults.changes;
        self.faults.changes_refused += faults.changes_refused;
        self.faults.joint_entries += faults.joint_entries;
        self.faults.transfers += faults.transfers;
        self.faults.checkpoints += faults.checkpoints;
        self.faults.purges += faults.purges;
        self.faults.fetches_failed += faults.fetches_failed;
        self.faults.crashes_in_install += faults.crashes_in_install;
        self.faults.logs_reset_at_start += faults.logs_reset_at_start;
        self.faults.reads_answered += faults.reads_answered;
        self.faults.reads_refused += faults.reads_refused;
        self.checks_count += storm.world.oracle.checks_count;
        for group in &storm.world.groups {
            self.committed_count += storm.world.oracle.committed(*group).len() as u64;
        }
        let living = (0..storm.world.nodes.len()).flat_map(|at| storm.world.stats(at));
        for stats in living.chain(storm.past_stats.iter().copied()) {
            self.stats.quorum_lost_count += stats.quorum_lost_count;
            self.stats.elections_count += stats.elections_count;
            self.stats.sticky_votes_count += stats.sticky_votes_count;
            self.stats.append_refusals_count += stats.append_refusals_count;
            self.stats.appends_lost_count += stats.appends_lost_count;
            self.stats.truncated_entries_count += stats.truncated_entries_count;
            self.stats.loads_count += stats.loads_count;
            self.stats.refused_count += stats.refused_count;
            self.stats.snapshots_needed_count += stats.snapshots_needed_count;
            self.stats.snapshots_offered_count += stats.snapshots_offered_count;
            self.stats.snapshots_installed_count += stats.snapshots_installed_count;
            self.stats.useless_snapshots_count += stats.useless_snapshots_count;
            self.stats.promotions_count += stats.promotions_count;
            self.stats.removals_count += stats.removals_count;
            self.stats.transfers_count += stats.transfers_count;
            self.stats.transfers_aborted_count += stats.transfers_aborted_count;
            self.stats.campaigns_by_leave_count += stats.campaigns_by_leave_count;
            self.stats.lease_reads_count += stats.lease_reads_count;
        }
    }

    pub fn assert_everything_happened(&self, seeds: u64) {
        let counts = [
            ("crashes", self.faults.crashes),
            ("writes lost in crashes", self.faults.lost_writes),
            ("cuts", self.faults.cuts),
            ("partitions", self.faults.partitions),
            ("clogged links", self.faults.clogs),
            ("processes that stood still", self.faults.pauses),
            ("clocks set", self.faults.clock_jumps),
            ("lost packets", self.faults.lost_packets),
            ("late packets", self.faults.late_packets),
            ("doubled packets", self.faults.doubled_packets),
            ("flushes that stalled", self.faults.stalls),
            ("nodes beyond help", self.faults.lasting),
            ("committed entries", self.committed_count),
            ("checks", self.checks_count),
            ("leaders that lost their quorum", self.stats.quorum_lost_count),
            ("elections", self.stats.elections_count),
            ("votes not looked at", self.stats.sticky_votes_count),
            ("refused appends", self.stats.append_refusals_count),
            ("lost appends found", self.stats.appends_lost_count),
            ("truncated entries", self.stats.truncated_entries_count),
            ("loads", self.stats.loads_count),
            ("refused proposals", self.stats.refused_count),
            ("changes of members begun", self.faults.changes),
            ("changes of members refused", self.faults.changes_refused),
            ("joint configurations committed", self.faults.joint_entries),
            ("promotions of learners", self.stats.promotions_count),
            ("leaders removed", self.stats.removals_count),
            ("transfers begun", self.stats.transfers_count),
            ("transfers aborted", self.stats.transfers_aborted_count),
            ("campaigns by leave", self.stats.campaigns_by_leave_count),
            ("checkpoints", self.faults.checkpoints),
            ("purges", self.faults.purges),
            ("snapshots needed", self.stats.snapshots_needed_count),
            ("snapshots offered", self.stats.snapshots_offered_count),
            ("snapshots installed", self.stats.snapshots_installed_count),
            ("snapshots of no use", self.stats.useless_snapshots_count),
            ("fetches of snapshots failed", self.faults.fetches_failed),
            ("crashes between a durable snapshot and its log", self.faults.crashes_in_install),
            ("logs begun anew at the start", self.faults.logs_reset_at_start),
            ("reads answered", self.faults.reads_answered),
            ("reads answered by lease", self.stats.lease_reads_count),
            ("reads refused", self.faults.reads_refused),
        ];
        for (what, count) in counts {
            println!("{count:>9} {what}");
            assert!(count * 25 > seeds, "{what} happened {count} times only in {seeds} seeds");
        }
    }
}
