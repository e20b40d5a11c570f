//! Outbox and inbox: how groups talk, each record exactly once.
//!
//! The outbox keeps a record until the target says that it has applied it; the leader delivers it again and again until then. The
//! inbox knows which records of each source it has applied: all below a number, and some above it.
//! Invariant: a record is applied at most once, however often it is delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use distric_model::limits::GROUP_COUNT_MAX;
use distric_model::{GroupId, Slot};
use serde::Serialize;

use super::effects::{Out, OutBody};
use super::instances::TaskAt;

/// Most records of one source that may be applied ahead of one that is missing.
pub const IN_AHEAD_MAX: usize = 65_536;

/// Records that their targets have not acknowledged.
#[derive(Debug, Default, Serialize)]
pub(super) struct Outbox {
    pending: BTreeMap<u64, (Arc<Out>, TaskAt)>,
    added_count: u64,
}

impl Outbox {
    /// Adds a record for the group of a slot; `task` waits for its acknowledgement.
    pub fn add(&mut self, to: Slot, body: OutBody, task: TaskAt) -> Arc<Out> {
        self.added_count += 1;
        let out = Arc::new(Out { seq: self.added_count, to, body });
        self.pending.insert(out.seq, (out.clone(), task));
        out
    }

    /// Removes a record. `None` when it is not there: acknowledged before.
    pub fn remove(&mut self, seq: u64) -> Option<(Arc<Out>, TaskAt)> {
        self.pending.remove(&seq)
    }

    /// The records, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Out>> {
        self.pending.values().map(|(out, _)| out)
    }

    pub fn len(&self) -> usize {
        self.pending.len()
    }
}

/// What a record is charged.
pub(super) fn out_bytes(out: &Out) -> u64 {
    let OutBody::Publish(message) = &out.body;
    let headers: usize = message.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    (message.payload.len() + headers) as u64 + OUT_BYTES_AROUND
}

/// Tree node share and envelope of one record.
const OUT_BYTES_AROUND: u64 = 400;

/// What this group has applied of the others' outboxes.
#[derive(Debug, Default, Serialize)]
pub(super) struct Inbox {
    sources: BTreeMap<GroupId, Seen>,
}

/// What was applied of one source: all numbers below `below`, and those in `ahead`.
#[derive(Debug, Serialize)]
struct Seen {
    below: u64,
    ahead: BTreeSet<u64>,
}

impl Inbox {
    /// Whether a record was applied.
    pub fn has_seen(&self, from: GroupId, seq: u64) -> bool {
        // Numbers start at 1; 0 counts as applied.
        seq == 0 || self.sources.get(&from).is_some_and(|seen| seq < seen.below || seen.ahead.contains(&seq))
    }

    /// Whether a record may be applied: it is not too far ahead, and its source can exist.
    pub fn has_room(&self, from: GroupId, seq: u64) -> bool {
        from.0 < GROUP_COUNT_MAX && self.sources.get(&from).is_none_or(|seen| seq == seen.below || seen.ahead.len() < IN_AHEAD_MAX)
    }

    /// Notes that a record was applied.
    pub fn note(&mut self, from: GroupId, seq: u64) {
        let seen = self.sources.entry(from).or_insert_with(|| Seen { below: 1, ahead: BTreeSet::new() });
        seen.ahead.insert(seq);
        while seen.ahead.remove(&seen.below) {
            seen.below += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_in_any_order_are_seen_once_and_leave_no_trace_when_none_is_missing() {
        let mut inbox = Inbox::default();
        let from = GroupId(3);
        for seq in [3, 1, 5, 2, 4] {
            assert!(!inbox.has_seen(from, seq));
            inbox.note(from, seq);
            assert!(inbox.has_seen(from, seq));
        }
        assert!(!inbox.has_seen(from, 6) && inbox.has_seen(from, 0));
        assert!(!inbox.has_seen(GroupId(4), 1), "sources are counted apart");
        assert!(inbox.sources[&from].ahead.is_empty());
    }
}
