//! The log writer: the only place that waits for the disk. One flush commits what arrived while the one before it ran.
//!
//! A failed flush is final: nothing is reported, so nothing that waits for it is ever said, and the node stops.

use std::collections::BTreeMap;

use distric_lane::Sleeper;
use distric_raft_store::{DeviceError, GroupWrite, LogStore};

use super::clock;
use super::control::Control;
use super::mesh::{Inbox, LogLetter, LogReply, Post};
use super::priority_unsafe;
use crate::node::consensus::{LogReport, LogWrite};
use distric_model::GroupId;
use distric_raft::LogIndex;

/// Most bytes of entries in one flush; more wait for the next.
pub const FLUSH_BYTES_MAX: u64 = 8 << 20;
/// How long the writer sleeps at most, microseconds: a stop is noticed then, should its bell be lost.
const SLEEP_US_MAX: u64 = 500_000;
/// Between two tries to hand over what a full lane did not take, microseconds.
const OVERFLOW_RETRY_US: u64 = 200;

/// Runs until the raft core is done and everything is written, or the device fails.
pub fn run(mut store: Box<dyn LogStore>, mut post: Post, mut inbox: Inbox<LogLetter>, sleeper: &Sleeper, control: &Control) {
    let granted = priority_unsafe::request_low_latency();
    tracing::info!(target: "distric_core::log_writer", scheduling = granted.name(), "log writer started");
    let mut writes: Vec<GroupWrite> = Vec::new();
    let mut reports: Vec<(GroupId, LogReport)> = Vec::new();
    let mut purges: BTreeMap<GroupId, LogIndex> = BTreeMap::new();
    loop {
        let mut bytes = 0;
        while bytes < FLUSH_BYTES_MAX {
            match inbox.pop() {
                Some(LogLetter::Write(write)) => {
                    let LogWrite { group, hard_state, reset_to, truncate_from, entries, report } = write;
                    let group_write = GroupWrite { group, hard_state, reset_to, truncate_from, entries };
                    bytes += group_write.cost_bytes();
                    reports.push((group, report));
                    writes.push(group_write);
                }
                Some(LogLetter::Load(group, load)) => match store.read(group, load.from, load.upto, load.bytes_max) {
                    Ok(entries) => post.reply_of_log(LogReply::Loaded(group, entries)),
                    Err(error) => return fail(control, &error),
                },
                Some(LogLetter::Purge(group, upto)) => {
                    purges.insert(group, upto);
                }
                None => break,
            }
        }
        if !writes.is_empty() {
            let began_ns = clock::mono_ns();
            if let Err(error) = store.write(&writes) {
                return fail(control, &error);
            }
            let took_us = (clock::mono_ns() - began_ns) / 1_000;
            let entries = writes.iter().map(|write| write.entries.len() as u64).sum();
            writes.clear();
            for (group, report) in reports.drain(..) {
                post.reply_of_log(LogReply::Report(group, report));
            }
            post.reply_of_log(LogReply::Flushed { took_us, entries });
        }
        let flushed = post.ring();
        // After what others wait for.
        while let Some((group, upto)) = purges.pop_first() {
            if let Err(error) = store.truncate_prefix(group, upto) {
                return fail(control, &error);
            }
        }
        if inbox.is_empty() {
            if control.log_is_closed() {
                return;
            }
            // Idle moments make room ahead of the next writes, so that no write pays for it.
            match store.upkeep() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => return fail(control, &error),
            }
            if sleeper.prepare(|| inbox.is_empty()) {
                sleeper.wait(Some(if flushed { SLEEP_US_MAX } else { OVERFLOW_RETRY_US }));
            }
        }
    }
}

fn fail(control: &Control, error: &DeviceError) {
    control.fail("log writer", error.to_string());
}
