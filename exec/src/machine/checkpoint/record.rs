//! Records: the form of a checkpoint. One key and one value for each thing that changes on its own.
//!
//! Form: a key is a tag byte and the big-endian number or id of the thing, so that the order of keys is the order of restoring:
//! what others refer to comes first. A value is MessagePack, a structure being an array of its fields in the order written here. The
//! rule of change is that of [`crate::command`]: a new field goes last and has a default; tags are never used again.
//! What can be computed from other records is in none: timers, queues, indexes, counts of users.

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_model::{Capacity, Elsewhere, GroupId, InstanceId, MessageId, Namespace, Timestamp, WorkerId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::command::Retry;
use crate::machine::Settings;
use crate::machine::admission::door::{ActionAdmission, Door};
use crate::machine::effects::Out;
use crate::machine::families::Family;
use crate::machine::history::Transition;
use crate::machine::instances::{Failure, TaskAt};
use crate::machine::operations::Pause;
use crate::machine::placement::ClassKey;
use crate::machine::queue::{Flow, Turns};
use crate::machine::state::State;
use crate::machine::timers::TimerKey;
use crate::octets::Octets;

/// The form that this build writes. It reads all forms up to it.
pub const CHECKPOINT_FORMAT: u32 = 1;

/// The first byte of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(in crate::machine) enum Tag {
    Header = 1,
    Class = 2,
    Program = 3,
    Message = 4,
    /// An instance; with three bytes more, one of its larger texts.
    Instance = 5,
    Dedupe = 6,
    Outbox = 7,
    InboxSource = 8,
    InboxAhead = 9,
    Worker = 10,
    Lease = 11,
    Finished = 12,
    Kept = 13,
    Errand = 14,
    /// A task that waits for a signal.
    Waiter = 15,
    /// A signal that is kept.
    Signal = 16,
    /// How far a task with a body has come.
    Run = 20,
    /// The items of a `for_each`.
    Items = 21,
    /// The instance of a round.
    Round = 22,
    /// A key with its rule.
    Gate = 24,
    /// An instance that waits for a key or has it.
    Asker = 25,
    /// A schedule by which a workflow starts.
    Schedule = 26,
}

impl Tag {
    const ALL: [Self; 22] = [
        Self::Header,
        Self::Class,
        Self::Program,
        Self::Message,
        Self::Instance,
        Self::Dedupe,
        Self::Outbox,
        Self::InboxSource,
        Self::InboxAhead,
        Self::Worker,
        Self::Lease,
        Self::Finished,
        Self::Kept,
        Self::Errand,
        Self::Waiter,
        Self::Signal,
        Self::Run,
        Self::Items,
        Self::Round,
        Self::Gate,
        Self::Asker,
        Self::Schedule,
    ];

    /// The tag of a key.
    pub fn of(key: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|tag| Some(&(*tag as u8)) == key.first())
    }

    /// The key of a thing with this tag.
    pub fn key(self, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = Vec::with_capacity(32);
        key.push(self as u8);
        parts.iter().for_each(|part| key.extend_from_slice(part));
        key
    }

    /// The key of the thing with this number.
    pub fn numbered(self, number: u64) -> Vec<u8> {
        self.key(&[&number.to_be_bytes()])
    }
}

/// Everything of a machine that is one.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::machine) struct Header {
    pub format: u32,
    pub group: GroupId,
    pub version: u32,
    pub applied_index: u64,
    pub now: Timestamp,
    pub settings: Settings,
    pub state_bytes: u64,
    pub is_tick_unfinished: bool,
    pub arrivals_count: u64,
    pub tokens_count: u64,
    pub timers_count: u64,
    pub out_count: u64,
    /// The numbers of the next remembered key, finished instance, kept message, errand.
    pub dedupe_next: u64,
    pub finished_next: u64,
    pub kept_next: u64,
    pub errands_next: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::machine) struct ClassRecord {
    pub key: ClassKey,
    pub last: Option<WorkerId>,
    #[serde(default, skip_serializing_if = "Turns::is_none")]
    pub turns: Turns,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::machine) struct ProgramRecord {
    pub namespace: Namespace,
    pub workflow: Arc<str>,
    pub version: u64,
    pub body: Octets,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::machine) struct MessageRecord {
    pub namespace: Namespace,
    pub event_type: Option<Arc<str>>,
    pub source: Option<Arc<str>>,
    pub timestamp_us: Option<u64>,
    pub headers: Vec<(String, String)>,
    pub payload: Octets,
    pub derived: Option<Octets>,
    pub payload_hash: u64,
    pub received_us: u64,
    pub catalog_version: u64,
    pub rules: Arc<[Arc<str>]>,
    pub instances: Arc<[(Arc<str>, InstanceId)]>,
    pub bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::machine) struct InstanceRecord {
    /// The log index at which its program was defined.
    pub program: u64,
    pub status: State,
    pub message: Option<MessageId>,
    pub rule: Option<Arc<str>>,
    pub payload: Text,
    pub params: Text,
    pub timeout_ms: Option<u64>,
    pub retry: Option<Retry>,
    pub traceparent: Option<Arc<str>>,
    pub hops: u8,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub timer: Option<TimerKey>,
    pub verdict: Option<State>,
    pub failure: Option<Failure>,
    pub history: Vec<Transition>,
    pub history_dropped_count: u64,
    pub revision: u64,
    pub bytes: u64,
    pub tasks: Vec<TaskRecord>,
    /// What few instances have. Later members go in there: only the last field of a record may be left out.
    #[serde(default, skip_serializing_if = "Seldom::is_none")]
    pub seldom: Seldom,
}

/// What few instances have.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::machine) struct Seldom {
    /// Its payload is not that of its message.
    pub is_payload_changed: bool,
    pub pause: Option<Pause>,
    #[serde(default)]
    pub door: Option<Box<Door>>,
    #[serde(default)]
    pub admission: Option<Box<ActionAdmission>>,
    #[serde(default)]
    pub flow: Option<Box<Flow>>,
    /// The turns of its tasks that have one.
    #[serde(default)]
    pub turns: Vec<(u16, u64)>,
    #[serde(default)]
    pub kin: Kin,
}

/// What only instances have that are run by others, run others, or return something.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::machine) struct Kin {
    pub family: Option<Box<Family>>,
    pub output: Option<Octets>,
    /// Which body of its program it is of.
    pub body: Option<u16>,
}

impl Seldom {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::machine) struct TaskRecord {
    pub status: State,
    pub attempt: u32,
    pub losses_count: u32,
    pub token: u64,
    pub settled_token: u64,
    pub worker: Option<WorkerId>,
    pub assigned_at: Option<Timestamp>,
    pub next_attempt_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub timer: Option<TimerKey>,
    pub arrival: u64,
    pub waiting_count: u16,
    pub input: Text,
    pub config: Text,
    pub output: Text,
    pub idempotency_key: Option<Arc<str>>,
    pub failure: Option<Failure>,
    pub out_seq: Option<u64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rerun: u32,
}

/// A text of an instance: absent, here, or in a record of its own because it is large and seldom changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::machine) enum Text {
    #[serde(rename = "n")]
    None,
    #[serde(rename = "h")]
    Here(Octets),
    #[serde(rename = "a")]
    Apart,
}

/// Larger texts have a record of their own, bytes.
pub(in crate::machine) const TEXT_BYTES_HERE_MAX: usize = 256;

/// Which text of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(in crate::machine) enum TextKind {
    Payload = 1,
    Params = 2,
    Input = 3,
    Config = 4,
    Output = 5,
}

impl TextKind {
    const ALL: [Self; 5] = [Self::Payload, Self::Params, Self::Input, Self::Config, Self::Output];

    pub fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::machine) struct DedupeRecord {
    pub at: Timestamp,
    pub namespace: Namespace,
    pub key: Arc<str>,
    pub payload_hash: u64,
    pub outcome: crate::machine::dedupe::Outcome,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::machine) struct OutRecord {
    pub out: Arc<Out>,
    /// Absent when nobody waits for its acknowledgement.
    pub task: Option<TaskAt>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::machine) struct WorkerRecord {
    pub generation: u64,
    pub is_up: bool,
    pub is_draining: bool,
    pub name: Arc<str>,
    pub slots: u32,
    pub prefetch: u32,
    pub task_types: Vec<Arc<str>>,
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    pub granted: u32,
    pub since: Timestamp,
    /// Later members go in there: only the last field of a record may be left out.
    #[serde(default, skip_serializing_if = "WorkerSeldom::is_none")]
    pub seldom: WorkerSeldom,
}

/// What few workers have: a busy computer, and a capacity. A worker that has neither is written as it was before there were any, and
/// one without a capacity as it was before there were capacities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(in crate::machine) enum WorkerSeldom {
    Busy(u8),
    Limited(u8, Capacity, Elsewhere),
}

impl Default for WorkerSeldom {
    fn default() -> Self {
        Self::Busy(0)
    }
}

impl WorkerSeldom {
    pub fn of(busy: u8, capacity: Capacity, elsewhere: Elsewhere) -> Self {
        if capacity.is_none() && elsewhere == Elsewhere::default() { Self::Busy(busy) } else { Self::Limited(busy, capacity, elsewhere) }
    }

    pub fn parts(self) -> (u8, Capacity, Elsewhere) {
        match self {
            Self::Busy(busy) => (busy, Capacity::default(), Elsewhere::default()),
            Self::Limited(busy, capacity, elsewhere) => (busy, capacity, elsewhere),
        }
    }

    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The bytes of a record.
pub(in crate::machine) fn encode(record: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec(record).expect("writing to memory cannot fail and every length in a record is known")
}

/// A record from its bytes. Errors: [`RestoreError::BadRecord`].
pub(in crate::machine) fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, RestoreError> {
    rmp_serde::from_slice(value).map_err(|error| RestoreError::bad(key, error.to_string()))
}

/// The records are not the checkpoint of a machine that this build can restore.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// There is no record of the machine itself.
    #[error("the checkpoint has no header")]
    NoHeader,
    /// A newer build wrote it.
    #[error("the checkpoint is of format {format}; this build reads formats up to {CHECKPOINT_FORMAT}")]
    UnknownFormat {
        /// Its format.
        format: u32,
    },
    /// Records must come in the order of their keys, each once.
    #[error("the record {key} comes after a greater one, or twice")]
    OutOfOrder {
        /// Its key, hexadecimal.
        key: String,
    },
    /// A record is damaged, or refers to one that is not there.
    #[error("the record {key} is damaged: {problem}")]
    BadRecord {
        /// Its key, hexadecimal.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl RestoreError {
    /// A record that is wrong.
    pub fn bad(key: &[u8], problem: impl Into<String>) -> Self {
        Self::BadRecord { key: hex(key), problem: problem.into() }
    }

    /// A record that comes at the wrong place.
    pub fn out_of_order(key: &[u8]) -> Self {
        Self::OutOfOrder { key: hex(key) }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
