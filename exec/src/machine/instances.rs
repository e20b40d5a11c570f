//! Instances: one run of a workflow, from its creation to its end.
//!
//! An instance begins (its tasks appear), each task is considered when what it depends on has ended, and when no task is open the
//! instance ends. The first failure of a critical task decides the outcome: what has not ended is cancelled, except the
//! tasks that clean up (`join: all_done`, and what follows them). Start reading at [`Machine::create_instance`].

use std::ops::Deref;
use std::sync::Arc;

use distric_model::{InstanceId, MessageId, Slot, TaskId, Timestamp, WorkerId};
use serde::{Deserialize, Serialize, Serializer};

use super::admission::door::{ActionAdmission, Door};
use super::checkpoint::StoredText;
use super::effects::{Effect, Event};
use super::families::Family;
use super::history::{History, Transition};
use super::joins::{Readiness, readiness};
use super::operations::Pause;
use super::programs::Program;
use super::queue::Flow;
use super::state::State;
use super::timers::{Timer, TimerKey};
use super::turn::Turn;
use super::{Errand, Machine};
use crate::command::Retry;
use crate::octets::Octets;

/// A task by its place: the tasks of an instance stand in the order of its definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct TaskAt {
    pub instance: InstanceId,
    pub index: u16,
}

impl TaskAt {
    /// The task's id. Ids of an instance and its tasks are consecutive numbers, so that no table of tasks is needed.
    pub fn id(self) -> TaskId {
        let number = u128::from_be_bytes(self.instance.to_bytes()) + 1 + u128::from(self.index);
        TaskId::from_bytes(number.to_be_bytes()).expect("the numbers of an entry's ids stay in the low bits")
    }
}

/// What went wrong. Boxed, for most tasks and instances have none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Failure(Box<FailureText>);

/// The content of a [`Failure`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FailureText {
    pub code: Arc<str>,
    pub message: Arc<str>,
}

impl Deref for Failure {
    type Target = FailureText;
    fn deref(&self) -> &FailureText {
        &self.0
    }
}

impl Failure {
    pub fn new(code: &str, message: &str) -> Self {
        Self(Box::new(FailureText { code: super::history::reason(code), message: super::history::reason(message) }))
    }

    /// As one line for a history.
    pub fn line(&self) -> Arc<str> {
        Arc::from(format!("{}: {}", self.code, self.message))
    }
}

/// One run of a workflow.
#[derive(Debug, Serialize)]
pub(super) struct Instance {
    pub id: InstanceId,
    #[serde(serialize_with = "program_key")]
    pub program: Arc<Program>,
    pub status: State,
    pub origin: Origin,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// The wait for the beginning, then the limit of the whole.
    pub timer: Option<TimerKey>,
    /// Empty before the beginning.
    pub tasks: Vec<Task>,
    /// Tasks that have not ended.
    pub open_count: usize,
    /// It starts nothing now.
    pub pause: Option<Box<Pause>>,
    /// The gates that it passes before it begins.
    pub door: Option<Box<Door>>,
    /// The key that its tasks take turns under.
    pub flow: Option<Box<Flow>>,
    /// How it will end, when that is decided before its last task has ended.
    pub verdict: Option<State>,
    pub failure: Option<Failure>,
    /// What it returned, when its definition says what that is.
    pub output: Option<Octets>,
    pub history: History,
    /// The log index of its last change.
    pub revision: u64,
    /// What it is charged.
    pub bytes: u64,
    /// Its texts that the last checkpoint has in records of their own.
    #[serde(skip)]
    pub stored_texts: Vec<StoredText>,
}

/// Why an instance exists, and what it was given.
#[derive(Debug, Serialize)]
pub(super) struct Origin {
    pub message: Option<MessageId>,
    pub rule: Option<Arc<str>>,
    /// What the rule's action says of its beginning.
    pub admission: Option<Box<ActionAdmission>>,
    /// The message's payload, after transforms; or the input of a start. Shared with the message.
    pub payload: Octets,
    /// The payload is that of a retry, not the message's.
    pub is_payload_changed: bool,
    /// The action's parameters; empty for none.
    pub params: Octets,
    pub timeout_ms: Option<u64>,
    pub retry: Option<Box<Retry>>,
    pub traceparent: Option<Arc<str>>,
    pub hops: u8,
    /// What ties it to other instances.
    pub family: Option<Box<Family>>,
}

/// One task of an instance.
#[derive(Debug, Serialize)]
pub(super) struct Task {
    pub status: State,
    /// Attempts that started.
    pub attempt: u32,
    /// Attempts that ended with their worker.
    pub losses_count: u32,
    /// The token of the latest attempt.
    pub token: u64,
    /// The token whose result was accepted last.
    pub settled_token: u64,
    pub worker: Option<WorkerId>,
    pub assigned_at: Option<Timestamp>,
    pub next_attempt_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub timer: Option<TimerKey>,
    /// Its place in its queue among equals in priority.
    pub arrival: u64,
    /// Its turn in its queue.
    pub turn: u64,
    /// Dependencies that have not ended.
    pub waiting_count: u16,
    pub input: Option<Octets>,
    pub config: Option<Octets>,
    pub idempotency_key: Option<Arc<str>>,
    pub output: Option<Octets>,
    pub failure: Option<Failure>,
    /// The outbox record that it waits for.
    pub out_seq: Option<u64>,
    /// How often an operator had it done anew.
    pub rerun: u32,
}

/// What an instance, and each of its tasks, is charged beside its content. Constants of the format: replicas must agree.
const INSTANCE_BYTES: u64 = 400;
const TASK_BYTES: u64 = 280;

fn program_key<S: Serializer>(program: &Arc<Program>, serializer: S) -> Result<S::Ok, S::Error> {
    (&program.namespace, &program.workflow, program.version, program.body).serialize(serializer)
}

impl Instance {
    /// Notes a transition in the history and tells the world.
    pub fn record(&mut self, turn: &mut Turn<'_>, task: Option<u16>, from: State, to: State, reason: Option<Arc<str>>) {
        turn.transitions += 1;
        self.revision = turn.index;
        let (attempt, worker) = task.map_or((0, None), |index| {
            let task = &self.tasks[usize::from(index)];
            (task.attempt, task.worker)
        });
        self.bytes += self.history.push(&Transition { at: turn.now, task, from, to, attempt, worker, reason: reason.clone() });
        turn.out.push(Effect::Event(Box::new(Event {
            index: turn.index,
            instance: self.id,
            at: turn.now,
            task: task.map(|index| self.program.steps[usize::from(index)].id.clone()),
            from: from.as_str(),
            to: to.as_str(),
            attempt,
            worker,
            reason,
            last: task.is_none() && to.is_end(),
        })));
    }

    /// Moves a task on and records it.
    pub fn move_task(&mut self, turn: &mut Turn<'_>, index: u16, to: State, reason: Option<Arc<str>>) {
        let task = &mut self.tasks[usize::from(index)];
        assert!(!task.status.is_end(), "task {index} moves from {:?} to {to:?}", task.status);
        let from = std::mem::replace(&mut task.status, to);
        self.record(turn, Some(index), from, to, reason);
    }

    /// Moves on a task that has ended, or takes it back to its end, and records it.
    pub fn turn_task(&mut self, turn: &mut Turn<'_>, index: u16, to: State, reason: Option<Arc<str>>) {
        let from = std::mem::replace(&mut self.tasks[usize::from(index)].status, to);
        self.record(turn, Some(index), from, to, reason);
    }

    /// Whether a task may still start: not when the outcome is decided, unless it cleans up or undoes.
    pub fn may_start(&self, index: u16) -> bool {
        let step = &self.program.steps[usize::from(index)];
        match (self.status, self.verdict) {
            (State::Compensating, _) => step.compensates.is_some(),
            (State::Running, None) => true,
            (State::Running, Some(State::Failed)) => step.cleans_up,
            _ => false,
        }
    }
}

impl Machine {
    /// Creates an instance; it begins in this entry, or `delay_ms` later.
    pub(super) fn create_instance(
        &mut self,
        turn: &mut Turn<'_>,
        slot: Slot,
        program: Arc<Program>,
        origin: Origin,
        delay_ms: u64,
    ) -> InstanceId {
        let id = InstanceId::new(turn.now, slot, turn.mint(1 + program.steps.len() as u64));
        let mut instance = Instance {
            id,
            status: State::Scheduled,
            created_at: turn.now,
            started_at: None,
            ended_at: None,
            timer: None,
            tasks: Vec::new(),
            open_count: 0,
            pause: None,
            door: None,
            flow: None,
            verdict: None,
            failure: None,
            output: None,
            history: History::default(),
            revision: turn.index,
            bytes: INSTANCE_BYTES + program.steps.len() as u64 * TASK_BYTES + origin.params.len() as u64,
            program: program.clone(),
            origin,
            stored_texts: Vec::new(),
        };
        // The payload of a message is charged to the message.
        if instance.origin.message.is_none() {
            instance.bytes += instance.origin.payload.len() as u64;
        }
        if delay_ms > 0 {
            instance.timer = Some(self.timers.set(turn.now.plus_ms(delay_ms), Timer::Begin(id)));
        } else {
            self.errands.push_back(Errand::Begin(id));
        }
        self.programs.used(&program);
        if let Some(family) = instance.origin.family.as_deref().filter(|family| family.parent.is_none()) {
            self.use_pins(&program.namespace, Some(family), true);
        }
        self.state_bytes += instance.bytes;
        self.instances.insert(id, instance);
        self.open_count += 1;
        self.stats.instances_started_count += 1;
        id
    }

    /// Changes an instance and keeps the account of bytes.
    pub(super) fn with_instance<T>(&mut self, id: InstanceId, change: impl FnOnce(&mut Instance) -> T) -> Option<T> {
        let instance = self.instances.get_mut(&id)?;
        let bytes_before = instance.bytes;
        let result = change(instance);
        self.state_bytes = self.state_bytes + instance.bytes - bytes_before;
        Some(result)
    }

    /// The tasks appear; those that depend on nothing are considered.
    pub(super) fn begin(&mut self, turn: &mut Turn<'_>, id: InstanceId) {
        let Some(instance) = self.instances.get(&id) else { return };
        if !matches!(instance.status, State::Scheduled | State::Queued) || instance.pause.is_some() || !self.pass_door(turn, id) {
            return;
        }
        let Some(instance) = self.instances.get(&id) else { return };
        if !instance.tasks.is_empty() {
            return self.go_on(turn, id, None);
        }
        let program = instance.program.clone();
        let timeout_ms = instance.origin.timeout_ms.unwrap_or(program.timeout_ms);
        self.timers.remove(instance.timer);
        let timer = self.set_limit(turn, id, timeout_ms);
        self.with_instance(id, |instance| {
            instance.timer = timer;
            instance.started_at = Some(turn.now);
            instance.tasks = program.steps.iter().map(|step| Task::pending(step.depends_on.len() as u16)).collect();
            instance.open_count = program.steps.iter().filter(|step| step.compensates.is_none()).count();
            let from = std::mem::replace(&mut instance.status, State::Running);
            instance.record(turn, None, from, State::Running, None);
        });
        let roots = (0..).zip(&program.steps).filter(|(_, step)| step.depends_on.is_empty());
        self.errands.extend(roots.map(|(index, _)| Errand::Consider(TaskAt { instance: id, index })));
        self.end_if_all_tasks_have(turn, id);
    }

    /// Sets the limit of a whole instance; 0 for none, as bodies have that say nothing.
    pub(super) fn set_limit(&mut self, turn: &Turn<'_>, id: InstanceId, timeout_ms: u64) -> Option<TimerKey> {
        (timeout_ms > 0).then(|| self.timers.set(turn.now.plus_ms(timeout_ms), Timer::InstanceTimeout(id)))
    }

    /// A task whose dependencies have changed: does it run, wait, or is it skipped?
    pub(super) fn consider(&mut self, turn: &mut Turn<'_>, at: TaskAt) {
        let Some(instance) = self.instances.get(&at.instance) else { return };
        let Some(task) = instance.tasks.get(usize::from(at.index)) else { return };
        // A paused instance considers everything when it goes on: tasks that were held among it.
        if instance.pause.is_some() {
            return;
        }
        if task.status == State::BackingOff && task.timer.is_none() {
            return self.make_ready(turn, at, None);
        }
        if task.status != State::Pending {
            return;
        }
        if !instance.may_start(at.index) {
            return self.close_task(turn, at, State::Cancelled, None);
        }
        if instance.program.steps[usize::from(at.index)].compensates.is_some() {
            return self.start_task(turn, at);
        }
        match readiness(instance, at.index) {
            Readiness::Waits => {}
            Readiness::Runs => self.start_task(turn, at),
            Readiness::Skipped(reason) => self.close_task(turn, at, State::Skipped, Some(Arc::from(reason))),
        }
    }
}

impl Task {
    /// What its texts are charged.
    pub fn texts_bytes(&self) -> u64 {
        let texts = [&self.input, &self.config, &self.output].into_iter().flatten().map(|text| text.len());
        (texts.sum::<usize>() + self.idempotency_key.as_ref().map_or(0, |key| key.len())) as u64
    }

    pub fn pending(waiting_count: u16) -> Self {
        Self {
            status: State::Pending,
            attempt: 0,
            losses_count: 0,
            token: 0,
            settled_token: 0,
            worker: None,
            assigned_at: None,
            next_attempt_at: None,
            ended_at: None,
            timer: None,
            arrival: 0,
            turn: 0,
            waiting_count,
            input: None,
            config: None,
            idempotency_key: None,
            output: None,
            failure: None,
            out_seq: None,
            rerun: 0,
        }
    }
}
