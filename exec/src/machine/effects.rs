//! Effects: what apply asks the leader to do, and what it answers. Hints: a follower drops them, a leader may die before
//! it acts on them; everything in them can be read from the state again.

use std::sync::Arc;

use distric_model::{GroupId, InstanceId, MessageId, Namespace, Needs, Slot, TaskId, Timestamp, WorkerId};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use super::admission::{Ask, Leave, Told};
use super::signals::SignalKey;
use crate::command::OutResult;
use crate::octets::Octets;

/// One thing to do. Effects of one apply come in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answers whoever proposed the entry. Exactly one per `Define`, `Ingest`, `Start`, `TaskDone`, `Cancel`, `Signal` and `Operate`; none for other commands.
    Reply(Reply),
    /// Sends a task to its worker.
    Dispatch(Box<Assignment>),
    /// Tells a worker to stop an attempt whose result nobody waits for. Its credit stays in use until the worker reports on it.
    CancelTask {
        /// The worker that runs it.
        worker: WorkerId,
        /// The task.
        task: TaskId,
        /// The token of the attempt.
        fencing_token: u64,
    },
    /// Tells a worker that credit it asked back is its own again.
    CreditReturned {
        /// The worker.
        worker: WorkerId,
        /// How much.
        amount: u32,
    },
    /// Something happened to an instance.
    Event(Box<Event>),
    /// Delivers an outbox record to the group of its slot, again and again until `OutAck`.
    Out(Arc<Out>),
    /// An [`crate::command::In`] was looked at.
    InApplied {
        /// The group whose record it is.
        from: GroupId,
        /// Its number there.
        seq: u64,
        /// What became of it.
        result: InResult,
    },
}

/// What a client or worker is told about its command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The message is in, now or since an earlier send.
    Accepted {
        /// Its id: the first one, when this is a repeat.
        message_id: MessageId,
        /// The catalog that decided.
        catalog_version: u64,
        /// The rules that matched.
        rules: Arc<[Arc<str>]>,
        /// The workflows started, with their instances.
        instances: Arc<[(Arc<str>, InstanceId)]>,
        /// An earlier send did it.
        repeat: bool,
    },
    /// The workflow is started, now or since an earlier send.
    Started {
        /// Its instance.
        instance: InstanceId,
        /// An earlier send did it.
        repeat: bool,
    },
    /// The signal is in, now or since an earlier send.
    Signalled {
        /// A task got it, or has it on its way; else it is kept.
        delivered: bool,
        /// An earlier send did it.
        repeat: bool,
    },
    /// The idempotency key was used for something else. State is unchanged.
    Conflict {
        /// The message that used it, when it was a message.
        message_id: Option<MessageId>,
    },
    /// This group does not know the workflow version: propose its `Define`, then this again. State is unchanged.
    Undefined {
        /// The workflow.
        workflow: Arc<str>,
        /// The version.
        version: u64,
    },
    /// Not done. State is unchanged.
    Refused(Refusal),
    /// What became of a worker's result.
    TaskVerdict {
        /// The task.
        task: TaskId,
        /// The token it came with.
        fencing_token: u64,
        /// The verdict.
        verdict: Verdict,
    },
    /// Done; nothing to say.
    Done,
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which kind.
    pub code: RefusalCode,
    /// A sentence for people.
    pub reason: String,
    /// The limit that was met, by the name and unit of its setting, when it was one.
    pub limit: Option<(&'static str, u64)>,
    /// When another try may succeed, milliseconds from now.
    pub retry_after_ms: Option<u64>,
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// The window of idempotency keys is full.
    DedupeFull,
    /// The state is at its byte limit.
    StorageFull,
    /// No such instance.
    NotFound,
    /// It contradicts what is: another body for a defined version, the cancellation of what has ended.
    Conflict,
    /// The definition cannot be compiled.
    BadDefinition,
    /// A field is beyond its bounds.
    BadArgument,
}

impl RefusalCode {
    /// A short stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DedupeFull => "dedupe_full",
            Self::StorageFull => "storage_full",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::BadDefinition => "bad_catalog",
            Self::BadArgument => "bad_argument",
        }
    }
}

/// What became of a worker's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts; also said when the very same result comes again.
    Accepted,
    /// Another attempt has taken its place, or the task has ended without it.
    Stale,
    /// No such task.
    Unknown,
}

/// What became of another group's outbox record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InResult {
    /// Final, now or since an earlier delivery: send it to the source as `OutAck`.
    Final(OutResult),
    /// Propose the `Define` of this version, then the same `In` again.
    Undefined {
        /// The workflow.
        workflow: Arc<str>,
        /// The version.
        version: u64,
    },
    /// There is no room now: the source delivers it again.
    Later(Refusal),
}

/// One attempt at a task, for its worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The worker.
    pub worker: WorkerId,
    /// This group: the result comes back to it.
    pub group: GroupId,
    /// The task.
    pub task: TaskId,
    /// Its instance.
    pub instance: InstanceId,
    /// Whose it is.
    pub namespace: Namespace,
    /// The workflow.
    pub workflow: Arc<str>,
    /// Its version.
    pub workflow_version: u64,
    /// The task's id in the workflow.
    pub task_id: Arc<str>,
    /// Its type.
    pub task_type: Arc<str>,
    /// Which attempt, 1-based.
    pub attempt: u32,
    /// Greater than every token that this group gave out before.
    pub fencing_token: u64,
    /// Its input: JSON text.
    pub input: Octets,
    /// Its configuration: JSON text.
    pub config: Octets,
    /// How long it may take from dispatch, milliseconds.
    pub timeout_ms: u64,
    /// What it takes of the worker's capacity.
    pub needs: Needs,
    /// What the task names itself with outwardly; the same for all attempts.
    pub idempotency_key: Arc<str>,
    /// W3C trace context of the message behind it.
    pub traceparent: Option<Arc<str>>,
}

/// Something that happened to an instance or to one of its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The log index at which it happened.
    pub index: u64,
    /// The instance.
    pub instance: InstanceId,
    /// When, machine time.
    pub at: Timestamp,
    /// The task's id in the workflow; absent when it happened to the instance.
    pub task: Option<Arc<str>>,
    /// The state before.
    pub from: &'static str,
    /// The state after.
    pub to: &'static str,
    /// The attempt; 0 before the first one.
    pub attempt: u32,
    /// The worker concerned.
    pub worker: Option<WorkerId>,
    /// Why.
    pub reason: Option<Arc<str>>,
    /// Nothing more will happen to the instance.
    pub last: bool,
}

impl Event {
    /// `workflow.<state>` or `task.<state>`.
    pub fn kind(&self) -> String {
        format!("{}.{}", if self.task.is_some() { "task" } else { "workflow" }, self.to)
    }

    /// The event as a JSON object, without index and time.
    pub fn body(&self) -> Value {
        let mut body = json!({ "instance": self.instance.to_string(), "from": self.from, "state": self.to });
        if let Some(task) = &self.task {
            body["task"] = json!(task);
            body["attempt"] = json!(self.attempt);
        }
        if let Some(worker) = self.worker {
            body["worker"] = json!(worker.to_string());
        }
        if let Some(reason) = &self.reason {
            body["reason"] = json!(reason);
        }
        body
    }
}

/// An outbox record: something for the group of another slot (which may be this one).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Out {
    /// Its number in this group's outbox; from 1, growing.
    pub seq: u64,
    /// Whose group it is for.
    pub to: Slot,
    /// What.
    pub body: OutBody,
    /// Every record below this number was acknowledged when this one was added: its target may forget them. 0 and 1 say nothing.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub floor: u64,
}

/// What an outbox record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutBody {
    /// A message that a workflow publishes: the target's leader asks its catalog, then proposes it as [`crate::command::In`].
    Publish(Box<Published>),
    /// A task waits for a signal by a key whose home is the target.
    Await {
        /// The signal and its key.
        key: SignalKey,
        /// The task.
        task: TaskId,
        /// Which of its lives waits: one more each time that an operator has it done anew.
        round: u32,
    },
    /// A task does not wait any more.
    StopAwaiting {
        /// The task.
        task: TaskId,
        /// Which of its lives.
        round: u32,
    },
    /// A signal for a task of the target.
    Deliver {
        /// The task.
        task: TaskId,
        /// The signal.
        signal: Box<Sent>,
    },
    /// An instance asks at a gate of the target.
    Ask(Box<Ask>),
    /// An instance leaves a gate of the target.
    Leave(Box<Leave>),
    /// A gate tells an instance of the target.
    Told(Box<Told>),
}

/// A signal on its way to a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The signal and its key.
    pub key: SignalKey,
    /// What it carries: JSON text.
    pub payload: Octets,
    /// Until when it is kept when its task has ended meanwhile.
    pub expires_at: Timestamp,
}

/// A message that a workflow publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Its namespace: the publishing workflow's.
    pub namespace: Namespace,
    /// Its id, the same at every delivery; its slot is the record's.
    pub message_id: MessageId,
    /// Its event type.
    pub event_type: Option<Arc<str>>,
    /// Its source.
    pub source: Option<Arc<str>>,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its payload: JSON text.
    pub payload: Octets,
    /// Its routing key; its slot is this one's, or the idempotency key's when there is none.
    pub routing_key: Option<String>,
    /// Its idempotency key: the id of the publishing task.
    pub idempotency_key: Arc<str>,
    /// Trace context of the message behind the workflow.
    pub traceparent: Option<Arc<str>>,
    /// How many times the message behind it was published before, and once more.
    pub hops: u8,
    /// When it was published, machine time.
    pub at: Timestamp,
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Accepted => "accepted",
            Self::Stale => "stale",
            Self::Unknown => "unknown",
        })
    }
}

/// Numbers start at 1: below that is nothing to forget.
pub(crate) fn says_nothing(floor: &u64) -> bool {
    *floor <= 1
}
