//! Outbox and inbox: how groups talk, each record exactly once.
//!
//! The outbox keeps a record until the target says that it has applied it; the leader delivers it again and again until then. The
//! inbox knows which records of each source it has applied: all below a number, and some above it.
//! Invariant: a record is applied at most once, however often it is delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use distric_model::limits::GROUP_COUNT_MAX;
use distric_model::{Change, GroupId, Slot};
use serde::Serialize;

use super::admission::{GateKey, Word};
use super::checkpoint::record::encode;
use super::checkpoint::tracked::Tracked;
use super::effects::{Out, OutBody, says_nothing};
use super::instances::TaskAt;

/// Most records of one source that may be applied ahead of one that is missing.
pub const IN_AHEAD_MAX: usize = 65_536;

/// Records that their targets have not acknowledged.
#[derive(Debug, Default, Serialize)]
pub(super) struct Outbox {
    pending: Tracked<u64, (Arc<Out>, Option<TaskAt>)>,
    added_count: u64,
    /// The records of each gate: what follows one must not overtake it.
    #[serde(skip)]
    by_gate: BTreeMap<GateKey, BTreeSet<u64>>,
}

impl Outbox {
    /// An outbox from its records, after so many were ever added.
    pub fn restored(pending: BTreeMap<u64, (Arc<Out>, Option<TaskAt>)>, added_count: u64) -> Self {
        let mut by_gate = BTreeMap::<GateKey, BTreeSet<u64>>::new();
        for (seq, (out, _)) in &pending {
            if let Some(gate) = gate_of(&out.body) {
                by_gate.entry(gate.clone()).or_default().insert(*seq);
            }
        }
        Self { pending: Tracked::restored(pending), added_count, by_gate }
    }

    /// How many were ever added.
    pub fn added_count(&self) -> u64 {
        self.added_count
    }

    /// Tells what changed since the last call.
    pub fn take_changes(
        &mut self,
        out: &mut Vec<Change>,
        key_of: impl Fn(&u64) -> Vec<u8>,
        value_of: impl Fn(&(Arc<Out>, Option<TaskAt>)) -> Vec<u8>,
    ) {
        self.pending.take_changes(out, key_of, |_, record, _| value_of(record));
    }

    /// Adds a record for the group of a slot; `task`, when there is one, waits for its acknowledgement.
    pub fn add(&mut self, to: Slot, body: OutBody, task: Option<TaskAt>) -> Arc<Out> {
        self.added_count += 1;
        let floor = self.pending.iter().next().map_or(self.added_count, |(first, _)| *first);
        let floor = if says_nothing(&floor) { 0 } else { floor };
        if let Some(gate) = gate_of(&body) {
            self.by_gate.entry(gate.clone()).or_default().insert(self.added_count);
        }
        let out = Arc::new(Out { seq: self.added_count, to, body, floor });
        self.pending.insert(out.seq, (out.clone(), task));
        out
    }

    /// Removes a record. `None` when it is not there: acknowledged before.
    pub fn remove(&mut self, seq: u64) -> Option<(Arc<Out>, Option<TaskAt>)> {
        let (out, task) = self.pending.remove(&seq)?;
        if let Some(gate) = gate_of(&out.body)
            && let Some(numbers) = self.by_gate.get_mut(gate)
        {
            numbers.remove(&seq);
            if numbers.is_empty() {
                self.by_gate.remove(gate);
            }
        }
        Some((out, task))
    }

    /// The last record for a gate that is not acknowledged; 0 when there is none.
    pub fn last_at(&self, gate: &GateKey) -> u64 {
        self.by_gate.get(gate).and_then(|numbers| numbers.last()).copied().unwrap_or(0)
    }

    /// The records, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Out>> {
        self.pending.values().map(|(out, _)| out)
    }

    pub fn len(&self) -> usize {
        self.pending.len()
    }
}

/// The gate that an instance asks at or leaves with a record.
fn gate_of(body: &OutBody) -> Option<&GateKey> {
    match body {
        OutBody::Ask(ask) => Some(&ask.gate),
        OutBody::Leave(leave) => Some(&leave.gate),
        _ => None,
    }
}

/// What a record is charged.
pub(super) fn out_bytes(out: &Out) -> u64 {
    let content = match &out.body {
        OutBody::Publish(message) => {
            let headers: usize = message.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
            message.payload.len() + headers
        }
        OutBody::Await { key, .. } => key.name.len() + key.key.len(),
        OutBody::StopAwaiting { .. } => 0,
        OutBody::Deliver { signal, .. } => signal.payload.len() + signal.key.name.len() + signal.key.key.len(),
        OutBody::Ask(ask) => ask.input.len() + ask.gate.key.len(),
        OutBody::Leave(leave) => leave.gate.key.len(),
        OutBody::Told(told) => match &told.word {
            Word::EnterWith(input) => input.len(),
            _ => told.gate.key.len(),
        },
    };
    content as u64 + OUT_BYTES_AROUND
}

/// Tree node share and envelope of one record.
const OUT_BYTES_AROUND: u64 = 400;

/// What this group has applied of the others' outboxes.
#[derive(Debug, Default, Serialize)]
pub(super) struct Inbox {
    sources: Tracked<GroupId, Seen>,
    /// Applied ahead of one that is missing.
    ahead: Tracked<(GroupId, u64), ()>,
}

/// What was applied of one source: all numbers below `below`, and so many ahead of one that is missing.
#[derive(Debug, Serialize)]
struct Seen {
    below: u64,
    ahead_count: usize,
}

impl Inbox {
    /// Whether a record was applied.
    pub fn has_seen(&self, from: GroupId, seq: u64) -> bool {
        // Numbers start at 1; 0 counts as applied.
        seq == 0 || self.sources.get(&from).is_some_and(|seen| seq < seen.below) || self.ahead.contains_key(&(from, seq))
    }

    /// All records of a source below a number are done with, seen here or not: they need not be told apart any more.
    pub fn raise(&mut self, from: GroupId, floor: u64) {
        if floor <= 1 || from.0 >= GROUP_COUNT_MAX || self.sources.get(&from).is_some_and(|seen| seen.below >= floor) {
            return;
        }
        if !self.sources.contains_key(&from) {
            self.sources.insert(from, Seen { below: 1, ahead_count: 0 });
        }
        let passed: Vec<u64> = self.ahead.range((from, 0)..(from, floor)).map(|((_, seq), ())| *seq).collect();
        passed.iter().for_each(|seq| _ = self.ahead.remove(&(from, *seq)));
        let Some(seen) = self.sources.get_mut(&from) else { return };
        seen.below = floor;
        seen.ahead_count -= passed.len();
        while self.ahead.remove(&(from, seen.below)).is_some() {
            seen.below += 1;
            seen.ahead_count -= 1;
        }
    }

    /// Whether a record may be applied: it is not too far ahead, and its source can exist.
    pub fn has_room(&self, from: GroupId, seq: u64) -> bool {
        from.0 < GROUP_COUNT_MAX && self.sources.get(&from).is_none_or(|seen| seq == seen.below || seen.ahead_count < IN_AHEAD_MAX)
    }

    /// Notes that a record was applied.
    pub fn note(&mut self, from: GroupId, seq: u64) {
        if !self.sources.contains_key(&from) {
            self.sources.insert(from, Seen { below: 1, ahead_count: 0 });
        }
        let Some(seen) = self.sources.get_mut(&from) else { return };
        if seq != seen.below {
            seen.ahead_count += usize::from(self.ahead.insert((from, seq), ()).is_none());
            return;
        }
        seen.below += 1;
        while self.ahead.remove(&(from, seen.below)).is_some() {
            seen.below += 1;
            seen.ahead_count -= 1;
        }
    }

    /// An inbox from its records. Errors: a source that is ahead of nothing.
    pub fn restored(below: BTreeMap<GroupId, u64>, ahead: BTreeSet<(GroupId, u64)>) -> Result<Self, GroupId> {
        let seen = |(from, below)| (from, Seen { below, ahead_count: 0 });
        let mut sources: BTreeMap<GroupId, Seen> = below.into_iter().map(seen).collect();
        for (from, _) in &ahead {
            sources.get_mut(from).ok_or(*from)?.ahead_count += 1;
        }
        let ahead = ahead.into_iter().map(|key| (key, ())).collect();
        Ok(Self { sources: Tracked::restored(sources), ahead: Tracked::restored(ahead) })
    }

    /// Tells what changed since the last call.
    pub fn take_changes(
        &mut self,
        out: &mut Vec<Change>,
        source_key: impl Fn(&GroupId) -> Vec<u8>,
        ahead_key: impl Fn(&(GroupId, u64)) -> Vec<u8>,
    ) {
        self.sources.take_changes(out, source_key, |_, seen, _| encode(&seen.below));
        self.ahead.take_changes(out, ahead_key, |_, (), _| Vec::new());
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
        assert!(inbox.ahead.len() == 0 && inbox.sources.get(&from).is_some_and(|seen| seen.ahead_count == 0));
    }
}
