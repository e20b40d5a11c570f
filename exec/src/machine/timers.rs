//! Timers: what waits for machine time, earliest first; among equals, first set first.
//!
//! An ordered map, not a wheel: setting and removing are O(log n) over a few hundred thousand entries, far below the cost of
//! the entry that causes them, and the order of firing needs no argument.

use std::collections::BTreeMap;

use distric_model::{InstanceId, Timestamp};
use serde::Serialize;

use super::instances::TaskAt;

/// A timer's place: when it is due, and which one it is.
pub(super) type TimerKey = (Timestamp, u64);

/// What happens when it fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Timer {
    /// An instance begins.
    Begin(InstanceId),
    /// An instance has taken too long.
    InstanceTimeout(InstanceId),
    /// An attempt has taken too long.
    AttemptTimeout(TaskAt),
    /// The wait before the next attempt is over.
    BackoffEnd(TaskAt),
    /// A `wait` task is over.
    WaitEnd(TaskAt),
    /// Something happens at a gate.
    Gate(u64),
    /// A schedule has a run.
    Schedule(u64),
}

/// All timers of a machine.
#[derive(Debug, Default, Serialize)]
pub(super) struct Timers {
    by_due: BTreeMap<TimerKey, Timer>,
    set_count: u64,
}

impl Timers {
    /// No timers, after so many were set; [`Self::restore`] puts those back that are left.
    pub fn restored(set_count: u64) -> Self {
        Self { by_due: BTreeMap::new(), set_count }
    }

    /// Puts a timer back at its place.
    pub fn restore(&mut self, key: Option<TimerKey>, timer: Option<Timer>) {
        if let (Some(key), Some(timer)) = (key, timer) {
            self.by_due.insert(key, timer);
        }
    }

    /// How many were ever set.
    pub fn set_count(&self) -> u64 {
        self.set_count
    }

    /// Sets a timer; the key removes it.
    pub fn set(&mut self, due: Timestamp, timer: Timer) -> TimerKey {
        self.set_count += 1;
        let key = (due, self.set_count);
        self.by_due.insert(key, timer);
        key
    }

    /// Removes a timer; nothing when it has fired.
    pub fn remove(&mut self, key: Option<TimerKey>) {
        if let Some(key) = key {
            self.by_due.remove(&key);
        }
    }

    /// Takes the earliest timer that is due.
    pub fn fire(&mut self, now: Timestamp) -> Option<Timer> {
        if self.next_due()? <= now { self.by_due.pop_first().map(|(_, timer)| timer) } else { None }
    }

    /// When the earliest one is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.by_due.first_key_value().map(|((due, _), _)| *due)
    }

    pub fn len(&self) -> usize {
        self.by_due.len()
    }
}
