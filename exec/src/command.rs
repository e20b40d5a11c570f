//! Commands: what the log of a work group carries, and how it is written there.
//!
//! In: bytes of a log entry.  Out: a [`Command`].  May touch: `model`, and the retry policy of `rules`.
//! Form: MessagePack; an enum is a map of one pair, its variant's name and its content; a struct is an array of its
//! fields in the order written here. The rule of change: variants are never renamed, fields never reordered or removed;
//! a new field goes last and has a default, so that entries of older versions decode for ever.
//! Invariant: `decode(encode(c)) == c`. Checked by: `exec/tests/log_format.rs` (golden entries).

use std::sync::Arc;

use distric_model::{Capacity, Elsewhere, GroupId, InstanceId, MessageId, Namespace, Slot, TaskId, WorkerId};
use distric_rules::RetryPolicy;
use serde::{Deserialize, Serialize};

pub use crate::machine::busy::WorkerLoad;
use crate::machine::effects::says_nothing;
use crate::machine::{OutBody, Settings};
use crate::octets::Octets;

/// Workflows that may come to be called, by id, each with the version that is called.
pub type PinList = Vec<(Arc<str>, u64)>;

/// One entry of a work group's log. Applied by [`crate::Machine::apply`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Makes a workflow version known to this group. Answered: [`crate::Reply::Done`] or `Refused`.
    Define(Define),
    /// Takes a message in, with the decision of the rules. Answered.
    Ingest(Box<Ingest>),
    /// Starts one workflow without a rule. Answered.
    Start(Box<Start>),
    /// What a worker says about one attempt. Answered: [`crate::Reply::TaskVerdict`].
    TaskDone(Box<TaskDone>),
    /// A worker opened a session with the leader of this group.
    WorkerUp(Box<WorkerUp>),
    /// A worker grants credit (positive) or asks some back (negative).
    WorkerCredit(WorkerCredit),
    /// A worker's process is gone: both witnesses agree.
    WorkerDown(WorkerDown),
    /// A worker shall get no new tasks, or shall get them again.
    WorkerDrain(WorkerDrain),
    /// Time has come to something: fires the timers that are due.
    Tick,
    /// Goes on with what one entry could not finish.
    Continue,
    /// A message from another group's outbox, decided by this group's leader.
    In(Box<In>),
    /// The target of one of this group's outbox records has applied it.
    OutAck(OutAck),
    /// Ends an instance early. Answered: [`crate::Reply::Done`] or `Refused`.
    Cancel(Cancel),
    /// All members of the group understand this machine version.
    RaiseVersion(u32),
    /// Replaces the replicated settings.
    Configure(Settings),
    /// Nothing; advances machine time only.
    Noop,
    /// A signal for whoever waits for it. Answered: [`crate::Reply::Signalled`] or `Refused`.
    Signal(Box<Signal>),
    /// A record of another group's outbox that needs no decision of rules.
    Relay(Box<Relay>),
    /// What an operator does to an instance. Answered: [`crate::Reply::Done`], `Undefined` or `Refused`.
    Operate(Box<Operate>),
    /// The schedules of a workflow whose home is here are those of this version.
    Schedule(Schedule),
    /// The computer under a worker is busy, or no longer.
    WorkerLoad(WorkerLoad),
}

/// A workflow definition for this group. Immutable: a second one for the same version must have the same body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Define {
    /// Whose workflow it is.
    pub namespace: Namespace,
    /// Its id.
    pub workflow: Arc<str>,
    /// Its version in the catalog.
    pub version: u64,
    /// The canonical JSON of the definition.
    pub body: Octets,
}

/// A message and what the rules decided about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingest {
    /// Whose message it is.
    pub namespace: Namespace,
    /// Its id; the slot in it is the message's home and belongs to this group.
    pub message_id: MessageId,
    /// The event type, when there is one.
    pub event_type: Option<Arc<str>>,
    /// The sender's name for itself.
    pub source: Option<Arc<str>>,
    /// The sender's time of the event, µs since the epoch.
    pub timestamp_us: Option<u64>,
    /// Headers as sent.
    pub headers: Vec<(String, String)>,
    /// Content type as sent.
    pub content_type: Option<String>,
    /// The payload: JSON text.
    pub payload: Octets,
    /// The payload after the rules' transforms, when any rule transformed it: JSON text.
    pub derived: Option<Octets>,
    /// The routing key, when one was given.
    pub routing_key: Option<String>,
    /// The idempotency key, when one was given: 1 to [`distric_model::limits::KEY_BYTES_MAX`] bytes.
    pub idempotency_key: Option<Arc<str>>,
    /// A hash of what was sent, to tell a resend from another message under the same key.
    pub payload_hash: u64,
    /// W3C trace context, handed on to the tasks.
    pub traceparent: Option<Arc<str>>,
    /// When the coordinator received it, µs since the epoch.
    pub received_us: u64,
    /// The catalog that decided.
    pub catalog_version: u64,
    /// The rules that matched, in order.
    pub rules: Vec<Arc<str>>,
    /// What they start.
    pub actions: Vec<StartAction>,
    /// How many times the message behind this one was published from workflow to workflow.
    #[serde(default)]
    pub hops: u8,
}

/// One workflow that a rule starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartAction {
    /// The rule that says so.
    pub rule: Arc<str>,
    /// The workflow.
    pub workflow: Arc<str>,
    /// Its version, resolved from `latest` by whoever decided.
    pub version: u64,
    /// The action's parameters: a JSON object, or empty for none.
    pub params: Octets,
    /// Limit of the whole workflow, milliseconds; the definition's when absent.
    pub timeout_ms: Option<u64>,
    /// Retries for those tasks that have no policy of their own.
    pub retry: Option<Retry>,
    /// How long after the ingest the workflow starts, milliseconds.
    pub delay_ms: u64,
    /// Instances with one key run one after another.
    #[serde(default)]
    pub ordering_key: Option<Arc<str>>,
    /// At most so many instances with this key run at once.
    #[serde(default)]
    pub concurrency: Option<(Arc<str>, u32)>,
    /// Versions of the workflows that it may come to call, directly or not, at most [`crate::definition::CALLED_WORKFLOWS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: PinList,
}

/// A retry policy in whole numbers, as the log carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// All attempts, the first included; at least 1.
    pub max_attempts: u32,
    /// Wait before the second attempt, milliseconds.
    pub initial_backoff_ms: u64,
    /// Growth of the wait from attempt to attempt, thousandths: 2,000 doubles it.
    pub multiplier_permille: u32,
    /// Longest wait, milliseconds.
    pub max_backoff_ms: u64,
    /// Width of the random part, thousandths of the wait: 200 is up to 20 % more or less.
    pub jitter_permille: u32,
}

impl Retry {
    /// One attempt and no other.
    pub const NONE: Self =
        Self { max_attempts: 1, initial_backoff_ms: 1_000, multiplier_permille: 2_000, max_backoff_ms: 60_000, jitter_permille: 200 };
}

/// Thousandths, rounded: the log and apply know whole numbers only, which every machine multiplies alike.
impl From<RetryPolicy> for Retry {
    fn from(policy: RetryPolicy) -> Self {
        let permille = |factor: f64| (factor * 1_000.0).round().clamp(0.0, f64::from(u32::MAX)) as u32;
        Self {
            max_attempts: policy.max_attempts.max(1),
            initial_backoff_ms: policy.initial_backoff_ms,
            multiplier_permille: permille(policy.multiplier),
            max_backoff_ms: policy.max_backoff_ms,
            jitter_permille: permille(policy.jitter),
        }
    }
}

/// One workflow started without a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Whose workflow it is.
    pub namespace: Namespace,
    /// The home slot of the instance; belongs to this group.
    pub slot: Slot,
    /// The workflow.
    pub workflow: Arc<str>,
    /// Its version, resolved.
    pub version: u64,
    /// The input: JSON text; empty for `null`.
    pub input: Octets,
    /// The idempotency key, when one was given.
    pub idempotency_key: Option<Arc<str>>,
    /// A hash of workflow and input, to tell a resend from another start under the same key.
    pub payload_hash: u64,
    /// Limit of the whole workflow, milliseconds; the definition's when absent.
    pub timeout_ms: Option<u64>,
    /// Retries for those tasks that have no policy of their own.
    pub retry: Option<Retry>,
    /// How long until it starts, milliseconds.
    pub delay_ms: u64,
    /// W3C trace context, handed on to the tasks.
    pub traceparent: Option<Arc<str>>,
    /// When the coordinator received it, µs since the epoch.
    pub received_us: u64,
    /// Versions of the workflows that it may come to call, directly or not, at most [`crate::definition::CALLED_WORKFLOWS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: PinList,
}

/// What became of one attempt at a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDone {
    /// The task.
    pub task: TaskId,
    /// The attempt, 1-based.
    pub attempt: u32,
    /// The token of the assignment.
    pub fencing_token: u64,
    /// The outcome.
    pub outcome: TaskOutcome,
    /// The worker leaves the credit that this attempt used with the group. Counts whatever the verdict, except that a
    /// `Returned` always takes the credit back.
    pub renew_credit: bool,
    /// What tasks of other groups take on the worker, when it says so: with a task that had no room beside them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<Elsewhere>,
}

/// The outcome of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskOutcome {
    /// Done.
    Completed {
        /// JSON text; empty for `null`.
        output: Octets,
    },
    /// Tried and failed.
    Failed {
        /// A short stable name, for `retry_on` and for people.
        code: String,
        /// What happened.
        error: String,
        /// Whether another attempt could help.
        retryable: bool,
        /// The least wait before it, milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// Never started: refused, or given back. Costs no attempt.
    Returned {
        /// Why.
        reason: String,
    },
}

/// A worker's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerUp {
    /// The worker.
    pub worker: WorkerId,
    /// Which run of its process; grows.
    pub generation: u64,
    /// For people.
    pub name: String,
    /// Tasks it runs at once.
    pub slots: u32,
    /// Tasks it takes beyond that, to have them at hand.
    pub prefetch: u32,
    /// The task types it offers.
    pub task_types: Vec<Arc<str>>,
    /// Its labels.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// What it has for all its tasks together.
    #[serde(default, skip_serializing_if = "Capacity::is_none")]
    pub capacity: Capacity,
}

/// A change of the credit that a worker leases to this group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerCredit {
    /// The worker.
    pub worker: WorkerId,
    /// Its generation; another one's is ignored.
    pub generation: u64,
    /// Granted when positive, asked back when negative.
    pub amount: i64,
    /// What tasks of other groups take on the worker, when it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<Elsewhere>,
}

/// The end of a worker's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerDown {
    /// The worker.
    pub worker: WorkerId,
    /// The generation that is gone; a later one lives on.
    pub generation: u64,
}

/// A change of a worker's drain state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerDrain {
    /// The worker.
    pub worker: WorkerId,
    /// True: no new tasks. False: as usual.
    pub drain: bool,
}

/// An outbox record of another group, with the decision of the rules on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct In {
    /// The group whose outbox it is in.
    pub from: GroupId,
    /// Its number there.
    pub seq: u64,
    /// The message; `message_id` and `hops` are those of the record.
    pub body: Ingest,
    /// The record's `floor`.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub floor: u64,
}

/// A signal for a task of type `wait_for_signal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Whose signal it is.
    pub namespace: Namespace,
    /// Its name.
    pub name: Arc<str>,
    /// The key that it correlates by: its slot belongs to this group. Absent: it is for one instance.
    pub key: Option<Arc<str>>,
    /// The instance that it is for, without a key.
    pub instance: Option<InstanceId>,
    /// What it carries: JSON text; empty for `null`.
    pub payload: Octets,
    /// How long it is kept while nobody waits for it, milliseconds; [`crate::machine::SIGNAL_TTL_MS_DEFAULT`] when absent.
    pub ttl_ms: Option<u64>,
    /// The idempotency key, when one was given.
    pub idempotency_key: Option<Arc<str>>,
    /// A hash of what was sent, to tell a resend from another signal under the same key.
    pub payload_hash: u64,
}

/// An outbox record of another group (or this one) that is applied as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// The group whose outbox it is in.
    pub from: GroupId,
    /// Its number there.
    pub seq: u64,
    /// What it says. A `Publish` is none of these: it goes through [`In`].
    pub body: OutBody,
    /// The record's `floor`.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub floor: u64,
}

/// What an operator does to an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operate {
    /// Whose instance it must be; another namespace's is not found.
    pub namespace: Namespace,
    /// The instance.
    pub instance: InstanceId,
    /// What.
    pub operation: Operation,
    /// Why, for its history.
    pub reason: String,
}

/// The operations on an instance beside its [`Cancel`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Starts nothing new until it is resumed.
    Pause,
    /// Goes on.
    Resume,
    /// Takes an instance that failed, timed out or was cancelled back to where that happened.
    Retry {
        /// From this task on, although it may have completed. Absent: what completed stays.
        from: Option<Arc<str>>,
        /// Another input: JSON text.
        input: Option<Octets>,
        /// Another version of its definition, resolved.
        version: Option<u64>,
        /// Other versions of workflows that it calls; those that are not named stay as they were pinned.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pins: PinList,
    },
}

/// By which version of its definition a workflow is scheduled. The leader proposes it when that differs from its catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Whose workflow it is.
    pub namespace: Namespace,
    /// The workflow.
    pub workflow: Arc<str>,
    /// The version, which must be defined here; absent: the workflow is not scheduled any more.
    pub version: Option<u64>,
    /// Versions of the workflows that its runs may come to call; they must be defined here as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: PinList,
}

/// The end of one outbox record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutAck {
    /// Its number in this group's outbox.
    pub seq: u64,
    /// What the target made of it.
    pub result: OutResult,
}

/// What the target group made of an outbox record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutResult {
    /// It is in.
    Accepted {
        /// Its id at the target.
        message_id: MessageId,
        /// The workflows that it started there. Empty as well when the target has forgotten them.
        instances: Vec<(Arc<str>, InstanceId)>,
    },
    /// It is done.
    Done,
    /// It can never be taken in.
    Refused {
        /// A short stable name.
        code: String,
        /// Why.
        reason: String,
    },
}

/// The early end of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// Whose instance it must be; another namespace's is not found.
    pub namespace: Namespace,
    /// The instance.
    pub instance: InstanceId,
    /// Why, for its history.
    pub reason: String,
}

/// The bytes are not a command that this version knows.
#[derive(Debug, thiserror::Error)]
#[error("log entry of {entry_bytes} bytes is not a command of this version: {source}")]
pub struct CommandError {
    /// How long the entry is.
    pub entry_bytes: usize,
    /// What is wrong with it.
    pub source: rmp_serde::decode::Error,
}

impl Command {
    /// Appends the command to `out` in the form of the log.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        rmp_serde::encode::write(out, self).expect("writing to memory cannot fail and every length in a command is known");
    }

    /// The command in the form of the log.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ENTRY_BYTES_USUAL);
        self.encode_into(&mut out);
        out
    }

    /// Reads one entry of the log. Errors: [`CommandError`], when a newer version wrote it or it is damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        rmp_serde::from_slice(bytes).map_err(|source| CommandError { entry_bytes: bytes.len(), source })
    }

    /// The variant's name: for logs and counters.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Define(_) => "define",
            Self::Ingest(_) => "ingest",
            Self::Start(_) => "start",
            Self::TaskDone(_) => "task_done",
            Self::WorkerUp(_) => "worker_up",
            Self::WorkerCredit(_) => "worker_credit",
            Self::WorkerDown(_) => "worker_down",
            Self::WorkerDrain(_) => "worker_drain",
            Self::Tick => "tick",
            Self::Continue => "continue",
            Self::In(_) => "in",
            Self::OutAck(_) => "out_ack",
            Self::Cancel(_) => "cancel",
            Self::RaiseVersion(_) => "raise_version",
            Self::Configure(_) => "configure",
            Self::Noop => "noop",
            Self::Signal(_) => "signal",
            Self::Relay(_) => "relay",
            Self::Operate(_) => "operate",
            Self::Schedule(_) => "schedule",
            Self::WorkerLoad(_) => "worker_load",
        }
    }
}

/// A message of 300 bytes with its envelope and one action fits without growing the buffer.
const ENTRY_BYTES_USUAL: usize = 768;
