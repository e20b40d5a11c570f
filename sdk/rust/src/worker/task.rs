//! One task as its handler sees it: context in, output or failure out.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use distric_model::Needs;
use serde_json::Value;
use uuid::Uuid;

/// What a handler is told about its task, besides the input.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskContext {
    /// The task, stable over attempts.
    pub task_id: Uuid,
    /// Its workflow instance.
    pub instance_id: Uuid,
    /// Its namespace.
    pub namespace: String,
    /// Its workflow.
    pub workflow: String,
    /// Version of the workflow.
    pub workflow_version: u64,
    /// The task's id in the workflow.
    pub task: String,
    /// Its type: the name under which the handler was registered.
    pub task_type: String,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Greater for every later assignment: lets a system outside turn away a late writer.
    pub fencing_token: u64,
    /// Configuration, templates filled in.
    pub config: Value,
    /// How long the attempt may take, milliseconds; zero means no limit.
    pub timeout_ms: u64,
    /// Key for effects outside; the same for all attempts.
    pub idempotency_key: String,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

/// Why an attempt failed, and whether another one may help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct TaskFailure {
    /// A short stable name.
    pub code: String,
    /// What happened.
    pub message: String,
    /// Whether another attempt may help.
    pub retryable: bool,
    /// The least wait before it, milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl TaskFailure {
    /// A failure that another attempt may mend.
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retryable: true, retry_after_ms: None }
    }

    /// A failure that no attempt can mend.
    pub fn permanent(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retryable: false, retry_after_ms: None }
    }

    /// Sets the least wait before another attempt, milliseconds.
    pub fn after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }
}

pub(super) type Handled = Pin<Box<dyn Future<Output = Result<Value, TaskFailure>> + Send>>;
pub(super) type Handler = Arc<dyn Fn(TaskContext, Value) -> Handled + Send + Sync>;
pub(super) type Handlers = Arc<BTreeMap<String, Handler>>;

/// A task in this worker's hands is named by its id and the token of the assignment: two attempts at one task may overlap here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TaskKey {
    pub(super) task_id: Uuid,
    pub(super) fencing_token: u64,
}

/// An assignment, owned.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Task {
    pub(super) group: u32,
    pub(super) context: TaskContext,
    /// JSON, parsed when the task starts.
    pub(super) input: Vec<u8>,
    /// JSON, parsed when the task starts.
    pub(super) config: Vec<u8>,
    /// What it takes of the worker's room.
    pub(super) needs: Needs,
}

impl Task {
    pub(super) fn key(&self) -> TaskKey {
        TaskKey { task_id: self.context.task_id, fencing_token: self.context.fencing_token }
    }

    pub(super) fn of_wire(wire: &distric_wire::task::Assignment<'_>) -> Self {
        Self {
            group: wire.group,
            context: TaskContext {
                task_id: wire.task_id,
                instance_id: wire.instance_id,
                namespace: wire.namespace.to_owned(),
                workflow: wire.workflow.to_owned(),
                workflow_version: wire.workflow_version,
                task: wire.task.to_owned(),
                task_type: wire.task_type.to_owned(),
                attempt: wire.attempt,
                fencing_token: wire.fencing_token,
                config: Value::Null,
                timeout_ms: wire.timeout_ms,
                idempotency_key: wire.idempotency_key.to_owned(),
                traceparent: wire.traceparent.map(str::to_owned),
            },
            input: wire.input.to_vec(),
            config: wire.config.to_vec(),
            needs: Needs { cpu_millis: wire.cpu_millis.unwrap_or(0), memory_mib: wire.memory_mib.unwrap_or(0) },
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TaskOutcome {
    /// With this output, JSON.
    Completed(Vec<u8>),
    Failed(TaskFailure),
    /// Never started, and why.
    Returned(String),
    /// Never started, since the worker has no room for it.
    NoRoom(String),
}
