//! What an executor is given: the words of one attempt of one task.

use serde_json::Value;

/// One attempt of one task.
#[derive(Clone, Debug, Default)]
pub struct TaskInput {
    /// The task's input, rendered.
    pub input: Value,
    /// The task's config, rendered; only the expressions of a `transform` are still text.
    pub config: Value,
    /// Who runs this and why.
    pub meta: TaskMeta,
}

/// The identity of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskMeta {
    /// Namespace of the instance.
    pub namespace: String,
    /// Id of the workflow's definition.
    pub workflow: String,
    /// Version of the workflow's definition.
    pub workflow_version: u64,
    /// Id of the task within the workflow.
    pub task: String,
    /// Id of this task of this instance, in its usual text form.
    pub task_id: String,
    /// Id of the instance, in its usual text form.
    pub instance_id: String,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// Outward idempotency key: the same over all attempts.
    pub idempotency_key: String,
    /// W3C trace context of the message that started the workflow.
    pub traceparent: Option<String>,
}
