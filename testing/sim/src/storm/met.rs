//! What a batch of storms has met.

use std::collections::BTreeMap;

/// How often each kind of fault and of outcome was met; a batch in which one never was is red.
#[derive(Clone, Debug, Default)]
pub struct Met(BTreeMap<&'static str, u64>);

/// Everything that a batch has to meet.
const KINDS: [&str; 31] = [
    "acknowledged",
    "all nodes crash",
    "calendar jumps",
    "checkpoint",
    "clock drifts",
    "lead moves",
    "client leaves",
    "connection lost",
    "crash",
    "disk rots",
    "histories checked",
    "cut",
    "disk stands still",
    "loss",
    "node deaf for ever",
    "node down for ever",
    "node is lost for ever",
    "node joins",
    "node mute for ever",
    "node removed",
    "node replaced",
    "node slow for ever",
    "outcome unknown",
    "read",
    "refused for now",
    "restart",
    "worker crashes",
    "worker falls silent",
    "worker dials again",
    "write torn",
    "write kept over a crash",
];

impl Met {
    pub(super) fn note(&mut self, kind: &'static str) {
        debug_assert!(KINDS.contains(&kind), "{kind} is not listed");
        *self.0.entry(kind).or_default() += 1;
    }

    /// Adds what another storm met.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    /// Each kind with its count, those never met too.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        KINDS.iter().map(|kind| (*kind, self.0.get(kind).copied().unwrap_or_default()))
    }
}
