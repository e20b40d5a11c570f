//! History: the transitions of one instance, bounded.

use std::collections::VecDeque;
use std::sync::Arc;

use distric_model::{Timestamp, WorkerId};
use serde::{Deserialize, Serialize};

use super::state::State;

/// Most transitions kept per instance; beyond it the oldest goes and is counted.
pub const HISTORY_ENTRIES_MAX: usize = 4_096;
/// Longest reason kept, bytes.
pub(super) const REASON_BYTES_MAX: usize = 1_024;

/// One transition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Transition {
    pub at: Timestamp,
    /// The task's place in the definition; `None` for the instance itself.
    pub task: Option<u16>,
    pub from: State,
    pub to: State,
    pub attempt: u32,
    pub worker: Option<WorkerId>,
    pub reason: Option<Arc<str>>,
}

/// The transitions of one instance, oldest first.
#[derive(Debug, Default, Serialize)]
pub(super) struct History {
    entries: VecDeque<Transition>,
    dropped_count: u64,
}

impl History {
    /// A history from its record.
    pub fn restored(entries: Vec<Transition>, dropped_count: u64) -> Self {
        Self { entries: entries.into(), dropped_count }
    }

    /// Adds one. Returns the bytes that the history grew by; dropping an old one counts as nothing, to stay on the safe side.
    pub fn push(&mut self, transition: Transition) -> u64 {
        let bytes = transition.reason.as_ref().map_or(0, |reason| reason.len() as u64) + TRANSITION_BYTES;
        if self.entries.len() >= HISTORY_ENTRIES_MAX {
            self.entries.pop_front();
            self.dropped_count += 1;
        }
        self.entries.push_back(transition);
        bytes
    }

    /// Gives the tasks other places, those of another version of the definition. What is said of a task without one is dropped.
    pub fn renumber(&mut self, place: impl Fn(u16) -> Option<u16>) {
        let count = self.entries.len();
        self.entries.retain_mut(|entry| match entry.task {
            None => true,
            Some(index) => {
                entry.task = place(index);
                entry.task.is_some()
            }
        });
        self.dropped_count += (count - self.entries.len()) as u64;
    }

    pub fn iter(&self) -> impl Iterator<Item = &Transition> {
        self.entries.iter()
    }

    pub fn dropped_count(&self) -> u64 {
        self.dropped_count
    }
}

/// What one transition is charged. A constant of the format, not `size_of`: replicas of different builds must agree.
const TRANSITION_BYTES: u64 = 64;

/// A reason cut to [`REASON_BYTES_MAX`] at a character boundary.
pub(super) fn reason(text: &str) -> Arc<str> {
    Arc::from(&text[..text.floor_char_boundary(REASON_BYTES_MAX)])
}
