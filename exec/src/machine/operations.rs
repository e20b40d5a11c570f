//! Operations: what an operator does to an instance: pause, resume, retry.
//!
//! A paused instance starts nothing new: attempts that run go on and their results count, waits and signals go on, what would come next is
//! held. Its limit does not run meanwhile. A retry takes an instance that failed back to where it failed, with another input or another
//! version of its definition when that was the reason.
//! Invariant: a task of a paused instance is in no queue. Start reading at [`Machine::apply_operate`].

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_model::InstanceId;
use distric_model::limits::{INSTANCE_BYTES_MAX, MESSAGE_BYTES_MAX};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::compensation::is_open;
use super::effects::{Refusal, RefusalCode, Reply};
use super::families::{Family, Pins};
use super::instances::{Instance, Task, TaskAt};
use super::programs::Program;
use super::state::State;
use super::tasks::default_key;
use super::timers::Timer;
use super::turn::Turn;
use super::{Errand, Machine};
use crate::command::{Operate, Operation, PinList};
use crate::definition::CALLED_WORKFLOWS_MAX;
use crate::octets::Octets;

/// Why an instance starts nothing, and what its limit has left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pause {
    pub reason: Arc<str>,
    /// Milliseconds of its limit; absent when none ran.
    pub left_ms: Option<u64>,
}

/// What an ended instance is asked to become.
struct Retry {
    from: Option<Arc<str>>,
    input: Option<Octets>,
    program: Arc<Program>,
    /// What it may come to call, when that is not as it was.
    pins: Option<Pins>,
    /// Idempotency keys stay: nobody asked for the effects once more.
    keeps_keys: bool,
    reason: Arc<str>,
}

fn refused(code: RefusalCode, reason: String) -> Reply {
    Reply::Refused(Refusal { code, reason, limit: None, retry_after_ms: None })
}

impl Machine {
    /// Carries out an operation on an instance, or says why not.
    pub(super) fn apply_operate(&mut self, turn: &mut Turn<'_>, operate: Operate) -> Reply {
        let Operate { namespace, instance: id, operation, reason } = operate;
        let Some(instance) = self.instances.get(&id).filter(|instance| instance.program.namespace == namespace) else {
            return refused(RefusalCode::NotFound, format!("there is no instance {id}"));
        };
        let conflict = |reason: String| refused(RefusalCode::Conflict, reason);
        let (status, is_paused) = (instance.status, instance.pause.is_some());
        let reason = super::history::reason(&reason);
        match operation {
            Operation::Pause | Operation::Resume if status.is_end() => conflict(format!("the instance has ended: {}", status.as_str())),
            Operation::Pause if is_paused => conflict("the instance is paused already".into()),
            Operation::Pause => {
                self.pause(turn, id, reason);
                Reply::Done
            }
            Operation::Resume if !is_paused => conflict("the instance is not paused".into()),
            Operation::Resume => {
                self.resume(turn, id, reason);
                Reply::Done
            }
            Operation::Retry { .. } if !matches!(status, State::Failed | State::TimedOut | State::Cancelled) => {
                conflict(format!("only what failed can be retried; the instance is {}", status.as_str()))
            }
            Operation::Retry { .. } if instance.parent().is_some() => {
                let parent = instance.parent().map_or_else(String::new, |key| key.task.instance.to_string());
                conflict(format!("the instance is run by instance {parent}: retry that one"))
            }
            Operation::Retry { from, input, version, pins } => {
                let program = match version.filter(|version| *version != instance.program.version) {
                    None => instance.program.clone(),
                    Some(version) => match self.programs.get(&namespace, &instance.program.workflow, version) {
                        Some(program) => program.clone(),
                        None => return Reply::Undefined { workflow: instance.program.workflow.clone(), version },
                    },
                };
                if let Err(undefined) = self.check_pins(&namespace, &pins) {
                    return undefined;
                }
                let pins = merged_pins(instance, pins);
                let retry = Retry { from, input, program, pins, keeps_keys: false, reason };
                match check_retry(instance, &retry) {
                    Ok(()) => {
                        self.retry(turn, id, retry);
                        Reply::Done
                    }
                    Err(refusal) => Reply::Refused(refusal),
                }
            }
        }
    }

    fn pause(&mut self, turn: &mut Turn<'_>, id: InstanceId, reason: Arc<str>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        // A delayed beginning comes in its time and is held then; only the limit of the whole stops.
        let timer = if instance.status == State::Scheduled { None } else { instance.timer.take() };
        let left_ms = timer.map(|(due, _)| due.since_us(turn.now) / 1_000);
        self.timers.remove(timer);
        let (status, program) = (instance.status, instance.program.clone());
        self.with_instance(id, |instance| {
            instance.pause = Some(Box::new(Pause { reason: reason.clone(), left_ms }));
            instance.record(turn, None, status, State::Paused, Some(reason));
        });
        for index in 0..program.steps.len() as u16 {
            let at = TaskAt { instance: id, index };
            if self.task_mut(at).is_some_and(|task| task.status == State::Ready) {
                self.detach(turn, at);
                self.hold(turn, at, Arc::from("its workflow is paused"));
            }
        }
        self.tell_rounds(id, Errand::Pause);
    }

    /// Pauses a child with its parent, unless that goes on already.
    pub(super) fn pause_child(&mut self, turn: &mut Turn<'_>, id: InstanceId) {
        let Some(child) = self.instances.get(&id).filter(|child| !child.status.is_end() && child.pause.is_none()) else { return };
        let parent = child.parent().and_then(|key| self.instances.get(&key.task.instance));
        if let Some(pause) = parent.and_then(|parent| parent.pause.as_ref()) {
            let reason = pause.reason.clone();
            self.pause(turn, id, reason);
        }
    }

    /// A child goes on with its parent.
    pub(super) fn resume_child(&mut self, turn: &mut Turn<'_>, id: InstanceId) {
        let Some(child) = self.instances.get(&id).filter(|child| child.pause.is_some()) else { return };
        let parent = child.parent().and_then(|key| self.instances.get(&key.task.instance));
        if parent.is_some_and(|parent| parent.pause.is_none()) {
            self.resume(turn, id, Arc::from("its parent goes on"));
        }
    }

    /// Keeps a task that would be ready from its queue until the instance is resumed.
    pub(super) fn hold(&mut self, turn: &mut Turn<'_>, at: TaskAt, reason: Arc<str>) {
        self.with_instance(at.instance, |instance| {
            let task = &mut instance.tasks[usize::from(at.index)];
            task.timer = None;
            task.next_attempt_at = None;
            if task.status != State::BackingOff {
                instance.move_task(turn, at.index, State::BackingOff, Some(reason));
            }
        });
    }

    /// Whether an instance starts nothing now.
    pub(super) fn is_paused(&self, id: InstanceId) -> bool {
        self.instances.get(&id).is_some_and(|instance| instance.pause.is_some())
    }

    fn resume(&mut self, turn: &mut Turn<'_>, id: InstanceId, reason: Arc<str>) {
        let Some(pause) = self.instances.get_mut(&id).and_then(|instance| instance.pause.take()) else { return };
        let timer = pause.left_ms.map(|left_ms| self.timers.set(turn.now.plus_ms(left_ms), Timer::InstanceTimeout(id)));
        self.with_instance(id, |instance| {
            if timer.is_some() {
                instance.timer = timer;
            }
            instance.record(turn, None, State::Paused, instance.status, Some(reason));
        });
        let Some(instance) = self.instances.get(&id) else { return };
        if matches!(instance.status, State::Scheduled | State::Queued) && instance.timer.is_none() {
            self.errands.push_back(Errand::Begin(id));
        }
        // What is considered in vain costs no more than the look at it.
        let considered = (0..instance.tasks.len() as u16).filter(|index| {
            let task = &instance.tasks[usize::from(*index)];
            is_open(&instance.program, &instance.tasks, *index)
                && (task.status == State::Pending || (task.status == State::BackingOff && task.timer.is_none()))
        });
        self.errands.extend(considered.map(|index| Errand::Consider(TaskAt { instance: id, index })));
        self.tell_rounds(id, Errand::Resume);
    }

    /// Takes an instance that failed back to where it failed, because its parent tries again.
    pub(super) fn rerun(&mut self, turn: &mut Turn<'_>, id: InstanceId, keeps_keys: bool) {
        let Some(program) = self.instances.get(&id).map(|instance| instance.program.clone()) else { return };
        // Its parent may call other versions by now.
        let parent = self.instances.get(&id).and_then(Instance::parent).and_then(|key| self.instances.get(&key.task.instance));
        let pins = parent.and_then(|parent| Some(parent.origin.family.as_ref()?.pins.clone()));
        if let (Some(pins), Some(family)) = (pins, self.instances.get_mut(&id).and_then(|child| child.origin.family.as_mut())) {
            family.pins = pins;
        }
        let reason = Arc::from("its parent tries again");
        self.retry(turn, id, Retry { from: None, input: None, program, pins: None, keeps_keys, reason });
    }

    /// Takes an instance that has ended back to where it failed.
    fn retry(&mut self, turn: &mut Turn<'_>, id: InstanceId, retry: Retry) {
        let Retry { from, input, program, pins, keeps_keys, reason } = retry;
        let Some(instance) = self.instances.get(&id) else { return };
        let old = instance.program.clone();
        if !Arc::ptr_eq(&old, &program) {
            self.programs.unused(&old);
            self.programs.used(&program);
        }
        if let Some(pins) = pins {
            self.change_pins(id, pins);
        }
        let Some(instance) = self.instances.get(&id) else { return };
        let keeps = kept_tasks(instance, &program, from.as_deref());
        let anew = renewed_loops(instance, &keeps, from.as_deref());
        self.renew_runs(id, &anew);
        self.with_instance(id, |instance| {
            if let Some(family) = &mut instance.origin.family {
                family.is_stopped = false;
            }
            instance.change_program(program.clone(), keeps, keeps_keys);
            if let Some(input) = input {
                // The payload of a message is charged to the message.
                let origin = &mut instance.origin;
                let charged = if origin.message.is_none() || origin.is_payload_changed { origin.payload.len() as u64 } else { 0 };
                instance.bytes = instance.bytes + input.len() as u64 - charged;
                origin.payload = input;
                origin.is_payload_changed = origin.message.is_some();
            }
            instance.started_at = instance.started_at.or(Some(turn.now));
            (instance.ended_at, instance.verdict, instance.failure) = (None, None, None);
        });
        self.open_count += 1;
        self.stats.reruns_count += 1;
        self.incidents.note(id, State::Running);
        self.begin_again(turn, id, reason);
    }
}

impl Machine {
    /// Another version of an instance's definition calls other workflows.
    fn change_pins(&mut self, id: InstanceId, pins: Pins) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let namespace = instance.program.namespace.clone();
        let mut family = instance.origin.family.take().unwrap_or_else(|| Box::new(Family::of_root(Arc::from([]))));
        self.use_pins(&namespace, Some(&family), false);
        family.pins = pins;
        self.use_pins(&namespace, Some(&family), true);
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.origin.family = Some(family);
        }
    }
}

/// The tasks with a body whose rounds are all run anew: those that are named, and those that had completed and follow something that is done
/// anew. A loop that failed keeps the rounds that completed.
fn renewed_loops(instance: &Instance, keeps: &[bool], from: Option<&str>) -> Vec<u16> {
    let steps = (0_u16..).zip(&instance.program.steps).filter(|(_, step)| step.body.is_some());
    let is_renewed = |(index, step): &(u16, &super::programs::Step)| {
        let had_completed = instance.tasks.get(usize::from(*index)).is_some_and(|task| task.status == State::Completed);
        from == Some(&*step.id) || (had_completed && keeps.get(usize::from(*index)) == Some(&false))
    };
    steps.filter(is_renewed).map(|(index, _)| index).collect()
}

/// The pins of an instance with others beside them, or in their place. `None` when there are no others.
fn merged_pins(instance: &Instance, others: PinList) -> Option<Pins> {
    if others.is_empty() {
        return None;
    }
    let pinned = instance.origin.family.iter().flat_map(|family| family.pins.iter().cloned());
    let merged: BTreeMap<Arc<str>, u64> = pinned.chain(others).collect();
    Some(merged.into_iter().collect())
}

/// Whether a retry can be carried out. Errors: why not.
fn check_retry(instance: &Instance, retry: &Retry) -> Result<(), Refusal> {
    let bad = |reason: String| Refusal { code: RefusalCode::BadArgument, reason, limit: None, retry_after_ms: None };
    let program = &retry.program;
    let place = |id: &str| program.steps.iter().position(|step| &*step.id == id);
    if let Some(from) = &retry.from
        && place(from).is_none_or(|index| program.steps[index].compensates.is_some())
    {
        return Err(bad(format!("the workflow has no task `{from}`")));
    }
    if let Some(pins) = retry.pins.as_ref().filter(|pins| pins.len() > CALLED_WORKFLOWS_MAX) {
        return Err(bad(format!("{} called workflows are more than {CALLED_WORKFLOWS_MAX}", pins.len())));
    }
    if let Some(input) = &retry.input {
        let bytes_max = (MESSAGE_BYTES_MAX as u64).min(INSTANCE_BYTES_MAX as u64 - instance.bytes.min(INSTANCE_BYTES_MAX as u64));
        if input.len() as u64 > bytes_max {
            return Err(bad(format!("an input of {} bytes is more than {bytes_max}", input.len())));
        }
        if serde_json::from_slice::<IgnoredAny>(input).is_err() {
            return Err(bad("the input is not JSON".into()));
        }
    }
    // Ids of tasks are numbers behind that of their instance, as many as its first definition had.
    if program.steps.len() > instance.program.steps.len() {
        let (more, fewer) = (program.steps.len(), instance.program.steps.len());
        return Err(bad(format!("version {} has {more} tasks, the instance has room for {fewer}; start it anew", program.version)));
    }
    // Rounds are known by the place of their task.
    let moved = (0..).zip(&instance.program.steps).find(|(index, step)| {
        step.has_rounds && program.steps.get(*index).is_none_or(|new: &super::programs::Step| new.id != step.id || !new.has_rounds)
    });
    if let Some((_, step)) = moved {
        return Err(bad(format!(
            "version {} has the task `{}`, which runs others, at another place; start it anew",
            program.version, step.id
        )));
    }
    let has_run = |index: usize| instance.history.iter().any(|transition| transition.task == Some(index as u16) && transition.attempt > 0);
    let gone = instance.program.steps.iter().enumerate().find(|(index, step)| has_run(*index) && place(&step.id).is_none());
    match gone {
        Some((_, step)) => Err(bad(format!("version {} has no task `{}`, which has run", program.version, step.id))),
        None => Ok(()),
    }
}

/// Which tasks of the program keep what they did: those that completed, unless they come after `from`.
fn kept_tasks(instance: &Instance, program: &Program, from: Option<&str>) -> Vec<bool> {
    let mut order: Vec<usize> = (0..program.steps.len()).collect();
    order.sort_by_key(|index| program.steps[*index].rank);
    let mut keeps = vec![false; program.steps.len()];
    for index in order {
        let step = &program.steps[index];
        let has_completed = |task: &Task| task.status == State::Completed;
        let old = instance.program.steps.iter().position(|old| old.id == step.id && old.task_type == step.task_type);
        let completed = old.and_then(|old| instance.tasks.get(old)).is_some_and(has_completed);
        // What follows something that is done anew is done anew as well. Skipped tasks are only looked at again.
        let follows = step.depends_on.iter().any(|dependency| {
            let before = instance.program.steps.iter().position(|old| old.id == program.steps[usize::from(*dependency)].id);
            let was_skipped = before.and_then(|old| instance.tasks.get(old)).is_some_and(|task| task.status == State::Skipped);
            !was_skipped && !keeps[usize::from(*dependency)]
        });
        keeps[index] = completed && step.compensates.is_none() && from != Some(&*step.id) && !follows;
    }
    keeps
}

impl Instance {
    /// Takes on a program (it may be its own): tasks that are kept stay as they are, all others start anew.
    fn change_program(&mut self, program: Arc<Program>, keeps: Vec<bool>, keeps_keys: bool) {
        let old_program = std::mem::replace(&mut self.program, program.clone());
        let mut old: Vec<Option<Task>> = std::mem::take(&mut self.tasks).into_iter().map(Some).collect();
        let place_of = |id: &str| old_program.steps.iter().position(|step| &*step.id == id);
        for (index, step) in program.steps.iter().enumerate() {
            let before = place_of(&step.id).and_then(|place| old.get_mut(place)).and_then(Option::take);
            self.tasks.push(match before {
                Some(task) if keeps[index] => task,
                Some(task) => {
                    self.bytes -= task.texts_bytes();
                    // What was undone has to have its effect once more: under a key of its own.
                    let keeps_key = keeps_keys && task.attempt > 0 && task.status != State::Compensated;
                    let at = TaskAt { instance: self.id, index: index as u16 };
                    let key = || task.idempotency_key.clone().unwrap_or_else(|| default_key(at, task.rerun));
                    let idempotency_key = keeps_key.then(key);
                    self.bytes += idempotency_key.as_ref().map_or(0, |key| key.len() as u64);
                    Task { rerun: task.rerun + 1, idempotency_key, ..Task::pending(0) }
                }
                None => Task::pending(0),
            });
        }
        for (index, step) in program.steps.iter().enumerate() {
            let waiting = step.depends_on.iter().filter(|dependency| !self.tasks[usize::from(**dependency)].status.is_end()).count();
            let is_compensation = step.compensates.is_some();
            self.tasks[index].waiting_count = if is_compensation { step.depends_on.len() as u16 } else { waiting as u16 };
        }
        self.open_count = (0..self.tasks.len() as u16).filter(|index| is_open(&program, &self.tasks, *index)).count();
        if !Arc::ptr_eq(&old_program, &program) {
            let place = |index: u16| {
                let id = &old_program.steps[usize::from(index)].id;
                program.steps.iter().position(|step| step.id == *id).map(|place| place as u16)
            };
            self.history.renumber(place);
        }
    }
}
