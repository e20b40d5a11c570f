//! Dedupe: idempotency keys and their first outcomes, for a window of machine time.
//!
//! Invariant: a key is not forgotten before its window is over. When the table is full, new keys are refused instead.
//! Source: the window and its refusal are a contract with SDKs that resend: forgetting early would run an effect twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_model::{Change, InstanceId, MessageId, Namespace, Timestamp};
use serde::{Deserialize, Serialize};

use super::checkpoint::tracked::TrackedQueue;
use super::digest::Fnv;
use super::effects::{Refusal, RefusalCode, Reply};
use super::settings::Settings;

/// A key in its namespace. The hash comes first so that comparisons in the tree rarely look at text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Key {
    hash: u64,
    pub namespace: Namespace,
    pub key: Arc<str>,
}

impl Key {
    pub fn new(namespace: &Namespace, key: &Arc<str>) -> Self {
        let mut hash = Fnv::default();
        hash.update(namespace.as_str().as_bytes());
        hash.update(&[0]);
        hash.update(key.as_bytes());
        Self { hash: hash.finish(), namespace: namespace.clone(), key: key.clone() }
    }
}

/// What the first send led to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Outcome {
    Message { message_id: MessageId, catalog_version: u64, rules: Arc<[Arc<str>]>, instances: Arc<[(Arc<str>, InstanceId)]> },
    Start { instance: InstanceId },
    Signal { delivered: bool },
}

impl Outcome {
    /// What a resend is answered.
    pub fn repeated(&self) -> Reply {
        match self {
            Self::Message { message_id, catalog_version, rules, instances } => Reply::Accepted {
                message_id: *message_id,
                catalog_version: *catalog_version,
                rules: rules.clone(),
                instances: instances.clone(),
                repeat: true,
            },
            Self::Signal { delivered } => Reply::Signalled { delivered: *delivered, repeat: true },
            Self::Start { instance } => Reply::Started { instance: *instance, repeat: true },
        }
    }
}

#[derive(Debug, Serialize)]
struct Remembered {
    payload_hash: u64,
    outcome: Outcome,
}

/// The remembered keys.
#[derive(Debug, Default, Serialize)]
pub(super) struct Dedupe {
    table: BTreeMap<Key, Remembered>,
    /// In order of arrival, which is the order of forgetting: the window is the same for all.
    order: TrackedQueue<(Timestamp, Key)>,
    bytes: u64,
}

impl Dedupe {
    /// An empty table whose first key will have this number.
    pub fn restored(first: u64) -> Self {
        Self { table: BTreeMap::new(), order: TrackedQueue::restored(first, [].into()), bytes: 0 }
    }

    /// A checkpoint has all that is here.
    pub fn mark_stored(&mut self) {
        self.order.mark_stored();
    }

    /// The number of the next key.
    pub fn next(&self) -> u64 {
        self.order.next()
    }

    /// Tells what changed since the last call.
    pub fn take_changes(
        &mut self,
        out: &mut Vec<Change>,
        key_of: impl Fn(u64) -> Vec<u8>,
        value_of: impl Fn(Timestamp, &Key, u64, &Outcome) -> Vec<u8>,
    ) {
        let table = &self.table;
        self.order.take_changes(out, key_of, |(at, key)| {
            let remembered = table.get(key).expect("a key in the order of forgetting is in the table");
            value_of(*at, key, remembered.payload_hash, &remembered.outcome)
        });
    }

    /// What a send under this key is answered, when the key is remembered.
    pub fn recall(&self, key: &Key, payload_hash: u64) -> Option<Reply> {
        let remembered = self.table.get(key)?;
        if remembered.payload_hash == payload_hash {
            return Some(remembered.outcome.repeated());
        }
        let message_id = match remembered.outcome {
            Outcome::Message { message_id, .. } => Some(message_id),
            Outcome::Start { .. } | Outcome::Signal { .. } => None,
        };
        Some(Reply::Conflict { message_id })
    }

    /// Whether another key fits. Errors: `dedupe_full`, with the time until the oldest key is forgotten.
    pub fn room_for(&self, key: &Key, settings: &Settings, now: Timestamp) -> Result<(), Refusal> {
        if self.bytes + key_bytes(key) <= settings.dedupe_bytes_max {
            return Ok(());
        }
        let oldest_due = self.order.front().map_or(now, |(at, _)| at.plus_ms(settings.dedupe_window_ms));
        Err(Refusal {
            code: RefusalCode::DedupeFull,
            reason: format!("{} idempotency keys are remembered, and none may be forgotten early", self.table.len()),
            limit: Some(("dedupe_bytes_max", settings.dedupe_bytes_max)),
            retry_after_ms: Some(oldest_due.since_us(now) / 1_000 + 1),
        })
    }

    /// Remembers the first outcome of a key.
    pub fn remember(&mut self, key: Key, now: Timestamp, payload_hash: u64, outcome: Outcome) {
        self.bytes += key_bytes(&key);
        self.order.push_back((now, key.clone()));
        self.table.insert(key, Remembered { payload_hash, outcome });
    }

    /// Forgets at most `count_max` keys whose window is over. Returns whether more are.
    pub fn forget(&mut self, now: Timestamp, window_ms: u64, count_max: usize) -> bool {
        for _ in 0..count_max {
            if !self.is_due(now, window_ms) {
                return false;
            }
            if let Some((_, key)) = self.order.pop_front() {
                self.bytes -= key_bytes(&key);
                self.table.remove(&key);
            }
        }
        self.is_due(now, window_ms)
    }

    /// When the oldest key's window is over.
    pub fn next_due(&self, window_ms: u64) -> Option<Timestamp> {
        self.order.front().map(|(at, _)| at.plus_ms(window_ms))
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    fn is_due(&self, now: Timestamp, window_ms: u64) -> bool {
        self.next_due(window_ms).is_some_and(|due| due <= now)
    }
}

/// What one key is charged: the text, and the constant of the format for all around it.
fn key_bytes(key: &Key) -> u64 {
    key.key.len() as u64 + KEY_BYTES_AROUND
}

/// Tree node share, queue entry and outcome of one key.
const KEY_BYTES_AROUND: u64 = 160;
