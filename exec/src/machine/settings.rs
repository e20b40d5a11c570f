//! Settings: the replicated limits of one machine. Every replica of a group starts from the same ones; a
//! [`crate::Command::Configure`] in the log replaces them on all replicas at the same entry.

use distric_model::limits::{DEDUPE_WINDOW_MS, HISTORY_RETENTION_MS};
use serde::{Deserialize, Serialize};

/// Limits that apply obeys. Part of the replicated state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How long an idempotency key is remembered, milliseconds.
    pub dedupe_window_ms: u64,
    /// Most bytes of remembered keys; beyond it messages with new keys are refused, and no key is forgotten early.
    pub dedupe_bytes_max: u64,
    /// Most bytes of state, by this room's own accounting; beyond it nothing new is taken in, while results, cancels and ticks pass.
    pub state_bytes_max: u64,
    /// How long finished instances and unmatched messages stay, milliseconds.
    pub history_retention_ms: u64,
    /// Most finished instances kept; beyond it the oldest goes before its time.
    pub history_instances_max: u64,
    /// Most unmatched messages kept; beyond it the oldest goes before its time.
    pub history_messages_max: u64,
    /// How tasks are placed that say nothing of it, nor their workflow.
    #[serde(default, skip_serializing_if = "DefaultStrategy::is_first")]
    pub placement: DefaultStrategy,
}

/// How tasks are placed that say nothing of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultStrategy {
    /// The least share in use first.
    #[default]
    LeastLoaded,
    /// One after another.
    RoundRobin,
    /// Two are drawn, the less loaded of them is taken.
    PowerOfTwo,
    /// One is drawn.
    Random,
    /// The one that ran what the task depends on.
    Locality,
}

impl DefaultStrategy {
    /// Every strategy that a cluster can have, as it is written.
    pub const WORDS: [(&str, Self); 5] = [
        ("least_loaded", Self::LeastLoaded),
        ("round_robin", Self::RoundRobin),
        ("power_of_two", Self::PowerOfTwo),
        ("random", Self::Random),
        ("locality", Self::Locality),
    ];

    /// The words alone.
    pub const NAMES: [&str; 5] = [Self::WORDS[0].0, Self::WORDS[1].0, Self::WORDS[2].0, Self::WORDS[3].0, Self::WORDS[4].0];

    /// The strategy of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.into_iter().find(|(known, _)| *known == word).map(|(_, strategy)| strategy)
    }

    fn is_first(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dedupe_window_ms: DEDUPE_WINDOW_MS,
            dedupe_bytes_max: 256 << 20,
            state_bytes_max: 4 << 30,
            history_retention_ms: HISTORY_RETENTION_MS,
            history_instances_max: 200_000,
            history_messages_max: 200_000,
            placement: DefaultStrategy::default(),
        }
    }
}
