//! The replicated machine of one work group: messages, instances, tasks, placement, workers, timers, dedupe, outbox.
//!
//! In: a [`Command`] with its [`Context`].  Out: [`Effect`]s.  Never: clocks, random numbers, unordered iteration, panics on what a
//! command contains. Start reading at [`Machine::apply`]; it only directs traffic.

pub mod effects;
pub mod settings;
pub mod stats;
pub mod views;

use std::sync::Arc;

use distric_model::{GroupId, InstanceId, MessageId, Namespace, TaskId, Timestamp, WorkerId};

pub use self::effects::{Assignment, Effect, Event, InResult, Out, OutBody, Published, Refusal, RefusalCode, Reply, Verdict};
pub use self::settings::Settings;
pub use self::stats::Stats;
use self::views::{InstanceSummary, InstanceView, MessageView, Page, TaskView, WhyView, WorkerView};
use crate::command::Command;

/// Where in the log a command stands, and what its leader added to it. Everything unpredictable that apply may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The entry's log index.
    pub index: u64,
    /// The leader's time; machine time is the greatest stamp so far.
    pub stamp: Timestamp,
    /// The leader's random draw: all randomness of the entry is derived from it.
    pub draw: u64,
}

/// The state machine of one work group.
#[derive(Debug)]
pub struct Machine {
    group: GroupId,
    settings: Settings,
    applied_index: u64,
    now: Timestamp,
    stats: Stats,
}

/// What a list of instances shall contain. Absent: everything.
#[derive(Clone, Debug, Default)]
pub struct InstanceFilter {
    /// Of this namespace.
    pub namespace: Option<Namespace>,
    /// With this status.
    pub status: Option<String>,
    /// Of this workflow.
    pub workflow: Option<String>,
}

/// What a list of tasks shall contain. Absent: everything.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// Of this namespace.
    pub namespace: Option<Namespace>,
    /// With this status. `running` means: with a worker, whether it has begun or not.
    pub status: Option<String>,
}

impl Machine {
    /// An empty machine. All replicas of a group start with the same settings.
    pub fn new(group: GroupId, settings: Settings) -> Self {
        Self { group, settings, applied_index: 0, now: Timestamp::default(), stats: Stats::default() }
    }

    /// Applies one committed entry; effects are appended to `out`. Total: any command is legal at any time.
    ///
    /// An entry at or below [`Self::applied_index`] is skipped: it has been applied.
    pub fn apply(&mut self, at: Context, command: Command, out: &mut Vec<Effect>) {
        let _ = (&self.settings, command, out);
        self.applied_index = at.index;
        self.now = self.now.max(at.stamp);
    }

    /// The group whose machine this is.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The log index of the last entry applied; 0 before the first.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// Machine time: the greatest stamp applied.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The replicated machine version.
    pub fn version(&self) -> u32 {
        1
    }

    /// The replicated settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// When a `Tick` is wanted, in machine time; `None` while nothing waits for time.
    pub fn next_due(&self) -> Option<Timestamp> {
        None
    }

    /// Whether work is left for a `Continue`.
    pub fn wants_continue(&self) -> bool {
        false
    }

    /// Whether the version is defined here, so that messages may start it.
    pub fn has_definition(&self, _namespace: &Namespace, _workflow: &str, _version: u64) -> bool {
        false
    }

    /// What a send under this key is answered, when the key is remembered: the first outcome, or a conflict.
    pub fn recall(&self, _namespace: &Namespace, _idempotency_key: &str, _payload_hash: u64) -> Option<Reply> {
        None
    }

    /// The attempts that a worker should have, by token: for a new leader to ask it about.
    pub fn assigned_to(&self, _worker: WorkerId) -> Vec<(TaskId, u64)> {
        Vec::new()
    }

    /// The attempts that a worker should stop, by token: for a new leader to tell it again.
    pub fn cancelled_on(&self, _worker: WorkerId) -> Vec<(TaskId, u64)> {
        Vec::new()
    }

    /// The assignment of a task again, under the same token; `None` when the token is not the task's present one.
    pub fn redispatch(&self, _task: TaskId, _fencing_token: u64) -> Option<Box<Assignment>> {
        None
    }

    /// The outbox records that are not acknowledged, by number: for a new leader to deliver again.
    pub fn pending_out(&self) -> impl Iterator<Item = &Arc<Out>> {
        std::iter::empty()
    }

    /// The workers that this group knows, by id.
    pub fn workers_view(&self) -> Vec<WorkerView> {
        Vec::new()
    }

    /// Tasks that are ready and have no worker: what a leader reports to workers as its backlog.
    pub fn ready_backlog(&self) -> u32 {
        0
    }

    /// A message.
    pub fn message(&self, _id: MessageId) -> Option<MessageView> {
        None
    }

    /// An instance.
    pub fn instance(&self, _id: InstanceId) -> Option<InstanceView> {
        None
    }

    /// A task.
    pub fn task(&self, _id: TaskId) -> Option<TaskView> {
        None
    }

    /// Tasks after `cursor`, at most `limit`.
    pub fn tasks(&self, _filter: &TaskFilter, _cursor: Option<TaskId>, _limit: usize) -> Page<TaskView> {
        Page { items: Vec::new(), next_cursor: None }
    }

    /// Instances after `cursor`, at most `limit`.
    pub fn instances(&self, _filter: &InstanceFilter, _cursor: Option<InstanceId>, _limit: usize) -> Page<InstanceSummary> {
        Page { items: Vec::new(), next_cursor: None }
    }

    /// Why a task is where it is: every blocker by name.
    pub fn why_task(&self, _id: TaskId) -> Option<WhyView> {
        None
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// A hash of the whole replicated state; equal on replicas that applied the same entries.
    pub fn digest(&self) -> u64 {
        self.applied_index
    }
}
