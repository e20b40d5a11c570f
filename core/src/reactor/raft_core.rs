//! The raft core: the thread of all Raft groups of this node.

use distric_lane::Sleeper;

use super::clock;
use super::control::Control;
use super::mesh::{Inbox, LogLetter, LogReply, Post};
use crate::node::consensus::{Consensus, ConsensusOutputs, PROPOSALS_PER_TURN_MAX};
use crate::node::letters::ConsensusLetter;

/// How long the core sleeps at most, microseconds: a stop is noticed then, should its bell be lost.
const SLEEP_US_MAX: u64 = 500_000;
/// Between two tries to hand over what a full lane did not take, microseconds.
const OVERFLOW_RETRY_US: u64 = 200;

/// Runs until all shards are done.
pub fn run(
    mut consensus: Consensus,
    mut out: ConsensusOutputs,
    mut post: Post,
    mut letters: Inbox<ConsensusLetter>,
    mut reports: Inbox<LogReply>,
    sleeper: &Sleeper,
    control: &Control,
) {
    loop {
        let now = clock::now();
        let mut busy = false;
        while let Some(reply) = reports.pop() {
            busy = true;
            match reply {
                LogReply::Report(group, report) => consensus.on_report(now, group, report, &mut out),
                LogReply::Loaded(group, entries) => consensus.on_loaded(now, group, entries, &mut out),
            }
        }
        for _ in 0..PROPOSALS_PER_TURN_MAX {
            let Some(letter) = letters.pop() else { break };
            busy = true;
            consensus.on_letter(letter, &mut out);
        }
        consensus.flush(now, &mut out);
        consensus.on_time(now, &mut out);
        for write in out.writes.drain(..) {
            post.log(LogLetter::Write(write));
        }
        for (group, load) in out.loads.drain(..) {
            post.log(LogLetter::Load(group, load));
        }
        for (shard, class, letter) in out.letters.drain(..) {
            post.shard(shard, class, letter);
        }
        // A group of one voter has no peers; messages for others have no way out of this node yet.
        out.sends.clear();
        let flushed = post.ring();
        if busy {
            continue;
        }
        if control.shards_are_done() {
            control.raft_core_is_done();
            return;
        }
        if sleeper.prepare(|| letters.is_empty() && reports.is_empty()) {
            let until_due_us = consensus.next_wake().map_or(SLEEP_US_MAX, |at| at.since_us(clock::now().mono));
            sleeper.wait(Some(if flushed { until_due_us.min(SLEEP_US_MAX) } else { OVERFLOW_RETRY_US }));
        }
    }
}
