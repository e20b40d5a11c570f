//! Views: what queries see. Plain values with ids as text; times are microseconds since the epoch and named `*_us`.

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_model::{Capacity, GroupId, InstanceId, MessageId, Namespace, Needs, TaskId, WorkerId};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::machine::admission::GateKey;

/// A message.
#[derive(Clone, Debug, Serialize)]
pub struct MessageView {
    /// Its id.
    pub message_id: MessageId,
    /// Whose it is.
    pub namespace: Namespace,
    /// Its event type.
    pub event_type: Option<Arc<str>>,
    /// Its source.
    pub source: Option<Arc<str>>,
    /// The sender's time, microseconds since the epoch.
    pub timestamp_us: Option<u64>,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// When a coordinator received it.
    pub received_at_us: u64,
    /// The catalog that decided.
    pub catalog_version: u64,
    /// The rules that matched.
    pub rules: Vec<Arc<str>>,
    /// What they started.
    pub instances: Vec<StartedView>,
    /// The payload as sent; null when it is not JSON.
    pub payload: Option<Box<RawValue>>,
}

/// An instance that a message started.
#[derive(Clone, Debug, Serialize)]
pub struct StartedView {
    /// The workflow.
    pub workflow: Arc<str>,
    /// The instance.
    pub id: InstanceId,
    /// Its status; absent when retention has removed it.
    pub status: Option<&'static str>,
}

/// An instance with its tasks and its history.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceView {
    /// What lists show of it.
    #[serde(flatten)]
    pub summary: InstanceSummary,
    /// Its input; null when it is not JSON. That of a round of tasks is its item, or its state.
    pub input: Option<Box<RawValue>>,
    /// What it returned, once it completed.
    pub output: Option<Box<RawValue>>,
    /// Its tasks in the order of the definition. Empty before a delayed start.
    pub tasks: Vec<TaskView>,
    /// Its transitions, oldest first.
    pub history: Vec<HistoryView>,
    /// How many older transitions were dropped to keep the history within its bound.
    pub history_dropped: u64,
}

/// An instance in a list.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceSummary {
    /// Its id.
    pub id: InstanceId,
    /// Whose it is.
    pub namespace: Namespace,
    /// The workflow.
    pub workflow: Arc<str>,
    /// Its version.
    pub version: u64,
    /// `scheduled`, `running`, `paused`, `compensating`, `completed`, `failed`, `timed_out` or `cancelled`.
    pub status: &'static str,
    /// The rule that started it.
    pub rule: Option<Arc<str>>,
    /// The message that started it.
    pub message_id: Option<MessageId>,
    /// When it was created.
    pub created_at_us: u64,
    /// When its first tasks became ready.
    pub started_at_us: Option<u64>,
    /// When it ended.
    pub ended_at_us: Option<u64>,
    /// Why it did not complete.
    pub error: Option<ErrorView>,
    /// The log index of its last change.
    pub revision: u64,
    /// The task that runs it, when another instance does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentView>,
    /// The instance whose failure it handles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_of: Option<InstanceId>,
    /// The instance that handles its failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_handled_by: Option<InstanceId>,
}

/// What runs an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParentView {
    /// The instance.
    pub instance: InstanceId,
    /// The task's id in its workflow; absent when retention has removed the instance.
    pub task: Option<Arc<str>>,
    /// Which round: the index of the item, the number of the iteration, 0 for a call.
    pub round: u32,
}

/// The rounds of a task with a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoundsView {
    /// Items of a `for_each`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<u32>,
    /// Rounds that completed.
    pub completed: u32,
    /// Rounds that failed.
    pub failed: u32,
    /// The instances that run now, at most [`super::ROUNDS_NAMED_MAX`].
    pub open: Vec<InstanceId>,
    /// The instances of the first rounds, at most [`super::ROUNDS_NAMED_MAX`].
    pub instances: Vec<InstanceId>,
}

/// A task.
#[derive(Clone, Debug, Serialize)]
pub struct TaskView {
    /// Its id.
    pub id: TaskId,
    /// Its instance.
    pub instance: InstanceId,
    /// Whose it is.
    pub namespace: Namespace,
    /// The workflow.
    pub workflow: Arc<str>,
    /// Its id in the workflow.
    pub task: Arc<str>,
    /// Its type.
    #[serde(rename = "type")]
    pub task_type: Arc<str>,
    /// `pending`, `ready`, `assigned`, `running`, `backing_off`, `completed`, `failed`, `timed_out`, `cancelled`, `skipped`, `compensating`
    /// or `compensated`.
    pub status: &'static str,
    /// Attempts started so far.
    pub attempt: u32,
    /// Most attempts.
    pub max_attempts: u32,
    /// Its priority; higher first.
    pub priority: i32,
    /// The worker of the latest attempt.
    pub worker: Option<WorkerId>,
    /// The token of the latest attempt; 0 before the first.
    pub fencing_token: u64,
    /// When the latest attempt was dispatched.
    pub assigned_at_us: Option<u64>,
    /// When the next attempt may start, while backing off.
    pub next_attempt_at_us: Option<u64>,
    /// When it ended.
    pub ended_at_us: Option<u64>,
    /// Its input, once it became ready.
    pub input: Option<Box<RawValue>>,
    /// Its output, once it completed.
    pub output: Option<Box<RawValue>>,
    /// What went wrong last.
    pub error: Option<ErrorView>,
    /// What it runs, when it has a body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<RoundsView>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorView {
    /// A short stable name.
    pub code: String,
    /// What happened.
    pub message: String,
}

/// One transition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HistoryView {
    /// When.
    pub at_us: u64,
    /// The task's id in the workflow; absent for the instance.
    pub task: Option<Arc<str>>,
    /// The state before.
    pub from: &'static str,
    /// The state after.
    pub to: &'static str,
    /// The attempt; 0 before the first.
    pub attempt: u32,
    /// The worker concerned.
    pub worker: Option<WorkerId>,
    /// Why.
    pub reason: Option<Arc<str>>,
}

/// A worker as this group sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerView {
    /// Its id.
    pub id: WorkerId,
    /// Its name.
    pub name: Arc<str>,
    /// Which run of its process.
    pub generation: u64,
    /// `up`, `draining` or `down`.
    pub status: &'static str,
    /// Tasks it runs at once, over all groups.
    pub slots: u32,
    /// Tasks it takes beyond that.
    pub prefetch: u32,
    /// How busy its computer is held to be: 0, 1 (from 85 % of processors or memory on) or 2 (from 95 %).
    pub computer_busy: u8,
    /// Credit leased to this group, in use included.
    pub credit_granted: u32,
    /// Credit in use in this group.
    pub credit_in_use: u32,
    /// Task types it offers.
    pub task_types: Vec<Arc<str>>,
    /// Its labels.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// Processors and memory that it has for tasks, of all groups together; null: not limited.
    pub capacity: Capacity,
    /// What this group's tasks take of that.
    pub held: Needs,
    /// What tasks of other groups take of it, as far as the worker has said so here.
    pub elsewhere: Needs,
}

/// A page of a list.
#[derive(Clone, Debug, Serialize)]
pub struct Page<T> {
    /// The items, by id ascending.
    pub items: Vec<T>,
    /// Where the next page starts; absent when this is the last one. A page may be short, even empty, and not the last.
    pub next_cursor: Option<String>,
}

/// Why a task is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WhyView {
    /// The task.
    pub task: TaskId,
    /// The group that holds it.
    pub group: GroupId,
    /// Its id in the workflow.
    pub name: Arc<str>,
    /// Its status.
    pub status: &'static str,
    /// Everything that keeps it from going on; empty when nothing does.
    pub blockers: Vec<Blocker>,
}

/// An instance that failed, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IncidentView {
    /// The instance; the incident has its id.
    pub instance: InstanceId,
    /// Whose it is.
    pub namespace: Namespace,
    /// The workflow.
    pub workflow: Arc<str>,
    /// Its version.
    pub version: u64,
    /// The rule that started it.
    pub rule: Option<Arc<str>>,
    /// The message that started it.
    pub message_id: Option<MessageId>,
    /// The task that is the reason, by its id in the workflow; absent when the instance failed as a whole.
    pub task: Option<Arc<str>>,
    /// The same task by its id.
    pub task_id: Option<TaskId>,
    /// Its type.
    #[serde(rename = "type")]
    pub task_type: Option<Arc<str>>,
    /// What went wrong.
    pub error: Option<ErrorView>,
    /// When the instance ended.
    pub opened_at_us: Option<u64>,
}

/// An incident with what it takes to understand it.
#[derive(Clone, Debug, Serialize)]
pub struct IncidentDetailView {
    /// What lists show of it.
    #[serde(flatten)]
    pub incident: IncidentView,
    /// The input of the task, or of the instance when it failed as a whole.
    pub input: Option<Box<RawValue>>,
    /// The attempts at the task, as far as the history goes back.
    pub attempts: Vec<AttemptView>,
}

/// One attempt at a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttemptView {
    /// Which, from 1.
    pub attempt: u32,
    /// The worker.
    pub worker: Option<WorkerId>,
    /// When it was dispatched.
    pub started_at_us: u64,
    /// When it ended.
    pub ended_at_us: Option<u64>,
    /// The task's state after it.
    pub outcome: Option<&'static str>,
    /// Why.
    pub reason: Option<Arc<str>>,
}

/// A schedule by which a workflow starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScheduleView {
    /// Whose it is.
    pub namespace: Namespace,
    /// The workflow.
    pub workflow: Arc<str>,
    /// The version that it starts.
    pub version: u64,
    /// When, in five fields.
    pub cron: Arc<str>,
    /// The offset from UTC that the fields are meant in.
    pub offset: String,
    /// What becomes of runs that nobody could start in time: `once`, `skip` or `all`.
    pub missed: &'static str,
    /// The next run.
    pub next_at_us: Option<u64>,
    /// The time of the last run.
    pub last_at_us: Option<u64>,
    /// Runs so far.
    pub runs_count: u64,
    /// Runs that were missed and not made up for.
    pub missed_count: u64,
}

/// Why an instance is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WhyInstanceView {
    /// The instance.
    pub instance: InstanceId,
    /// The group that holds it.
    pub group: GroupId,
    /// Its status.
    pub status: &'static str,
    /// What keeps the instance itself.
    pub blockers: Vec<Blocker>,
    /// Its open tasks with their blockers; the first 64.
    pub tasks: Vec<WhyView>,
}

/// What a key of starts holds, at its home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GateView {
    /// The rule: `concurrency`, `ordering_key`, `rate_limit`, `debounce` or `batch`.
    pub rule: &'static str,
    /// The key.
    pub key: Arc<str>,
    /// How many it lets in.
    pub limit: u32,
    /// How many are inside.
    pub inside_count: usize,
    /// The first of them.
    pub inside: Vec<InstanceId>,
    /// How many wait.
    pub waiting_count: usize,
    /// How many wait before the instance that asks.
    pub ahead_count: Option<usize>,
    /// When something happens here by itself.
    pub next_at_us: Option<u64>,
}

/// One thing that keeps a task from going on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Blocker {
    /// Tasks it depends on have not ended.
    WaitingForTasks {
        /// Their ids in the workflow.
        tasks: Vec<Arc<str>>,
    },
    /// No worker that is up offers its type.
    NoWorkerOffersType {
        /// The type.
        task_type: Arc<str>,
    },
    /// Workers offer its type, but none of them has its labels.
    NoWorkerWithLabels {
        /// The labels that are asked for.
        labels: Vec<(Arc<str>, Arc<str>)>,
        /// How many workers offer the type.
        offering_count: usize,
    },
    /// Workers offer its type and have its labels, but none of them fulfils its `placement.where`.
    NoWorkerFulfils {
        /// The condition.
        condition: Arc<str>,
        /// How many workers were asked.
        offering_count: usize,
    },
    /// The workers that could run it are draining.
    WorkersDraining {
        /// They.
        workers: Vec<WorkerId>,
    },
    /// The workers that could run it have no free credit for this group.
    NoCredit {
        /// They.
        workers: Vec<WorkerId>,
    },
    /// Workers that could run it have free credit, but not the processors or the memory that it needs.
    NoRoom {
        /// What it needs.
        needs: Needs,
        /// What is missing, in words, with the worker that comes nearest.
        message: Arc<str>,
    },
    /// It was placed before and came back.
    CameBack {
        /// Why: its worker was lost, or returned it.
        reason: Arc<str>,
    },
    /// Other tasks of its type are before it.
    Queued {
        /// How many.
        ahead_count: usize,
    },
    /// It is placed as soon as the leader continues.
    Placing,
    /// Its last attempt failed.
    BackingOff {
        /// When the next one may start.
        until_us: u64,
        /// The attempts so far.
        attempt: u32,
        /// Most attempts.
        max_attempts: u32,
        /// Why the last one failed.
        error: Option<ErrorView>,
    },
    /// A worker has it.
    AssignedTo {
        /// The worker.
        worker: WorkerId,
        /// Since when.
        since_us: u64,
        /// The attempt's token.
        fencing_token: u64,
        /// When the attempt times out.
        timeout_at_us: Option<u64>,
    },
    /// Its workflow is paused.
    Paused {
        /// Why.
        reason: Arc<str>,
    },
    /// It waits for a signal.
    WaitingForSignal {
        /// The signal's name.
        name: Arc<str>,
        /// The key that it correlates by; the instance's id without one.
        key: Arc<str>,
        /// When it stops waiting, when it does.
        until_us: Option<u64>,
    },
    /// Its instance waits for a key.
    WaitingForKey {
        /// The rule: `concurrency`, `ordering_key`, `rate_limit`, `debounce` or `batch`.
        rule: &'static str,
        /// The key.
        key: Arc<str>,
        /// Where the key is looked for: its namespace, the key, and what it belongs to.
        at: GateKey,
        /// It has asked at the key's home.
        is_asked: bool,
        /// What the home of the key says; absent when it was not asked, or does not know the key yet.
        gate: Option<GateView>,
    },
    /// It waits for instances that it runs.
    WaitingForInstances {
        /// They, at most [`super::ROUNDS_NAMED_MAX`].
        instances: Vec<InstanceId>,
        /// Rounds that completed.
        completed: u32,
        /// Rounds that failed.
        failed: u32,
        /// Why it ends as soon as they have.
        #[serde(skip_serializing_if = "Option::is_none")]
        ending: Option<ErrorView>,
    },
    /// It waits for its time.
    WaitingUntil {
        /// Which is.
        until_us: u64,
    },
    /// Its message is on its way to another group.
    WaitingForDelivery {
        /// The number of the outbox record.
        seq: u64,
    },
}
