//! Rounds: `for_each`, `while` and `sub_workflow` from their first round to their last.
//!
//! A task with a body is `Running` while its rounds run. Whatever happens to it (it begins, a round ends, it is resumed) is one errand,
//! [`Errand::Round`], that does what can be done now, as far as the entry allows: so ten thousand items take as many entries as they need.
//! A task that ends before its time (a round failed, it took too long, its workflow is cancelled) waits until its open rounds have
//! ended, which includes what they undo. Start reading at [`Machine::enter_run`], then [`Machine::go_round`].

use std::sync::Arc;

use distric_model::InstanceId;
use distric_model::limits::{INSTANCE_BYTES_MAX, TASK_OUTPUT_BYTES_MAX};
use distric_rules::expr::{Budget, Scope, Template};
use serde_json::Value;
use serde_json::value::RawValue;

use super::instances::{Failure, Instance, TaskAt};
use super::loops::{RoundKey, Run, Stop};
use super::outputs::output_of;
use super::programs::Body;
use super::rendering::expression_failure;
use super::scopes::Round;
use super::state::State;
use super::tasks::AttemptFailure;
use super::turn::Turn;
use super::undo::Undo;
use super::{Errand, Machine};
use crate::definition::{FOR_EACH_ITEMS_MAX, ItemFailure, Work};
use crate::octets::Octets;

/// What a task with a body begins with.
pub(super) enum Begun {
    /// The items of a `for_each`: JSON texts, one behind the other, and how many.
    Items(Octets, u32),
    /// The state before the first iteration of a `while`.
    State(Octets),
    /// One call, or the undoing of what was run.
    Once,
}

/// What a task with a body does next.
enum Move {
    /// Begins a round.
    Begin {
        place: u32,
        payload: Octets,
        cursor: u64,
    },
    /// Takes a round back.
    Undo {
        place: u32,
        id: InstanceId,
    },
    /// Puts outputs of rounds together.
    Gather,
    Complete(Octets),
    /// Ends as its stop says.
    Close,
    Stop(Stop),
}

impl Stop {
    /// It failed, and another attempt may mend it.
    pub fn failed(failure: Failure) -> Self {
        Self { end: State::Failed, failure, is_retryable: true }
    }

    /// It failed, and no other attempt can mend it.
    pub fn fatal(failure: Failure) -> Self {
        Self { end: State::Failed, failure, is_retryable: false }
    }
}

/// The items of a `for_each`, from what its expression gave. Errors: it is no list, or too long a one.
pub(super) fn items_of(items: &Template, scope: &Scope<'_>, budget: &mut Budget) -> Result<Begun, Failure> {
    let value = items.render(scope, budget).map_err(|error| expression_failure("config.items", &error))?;
    let Value::Array(list) = value else {
        return Err(Failure::new("bad_items", "config.items: the value is not a list"));
    };
    if list.len() > FOR_EACH_ITEMS_MAX {
        return Err(Failure::new("bad_items", &format!("{} items are more than {FOR_EACH_ITEMS_MAX}", list.len())));
    }
    let mut texts = Vec::new();
    for item in &list {
        texts.extend_from_slice(item.to_string().as_bytes());
        texts.push(b'\n');
    }
    Ok(Begun::Items(Octets::from(texts), list.len() as u32))
}

impl Machine {
    /// Whether a task has a body, or undoes what one ran.
    pub(super) fn has_rounds(&self, at: TaskAt) -> bool {
        let instance = self.instances.get(&at.instance);
        instance.and_then(|instance| instance.program.steps.get(usize::from(at.index))).is_some_and(|step| step.has_rounds)
    }

    /// A task with a body begins, for the first time or again: rounds that completed stay as they are.
    pub(super) fn enter_run(&mut self, turn: &mut Turn<'_>, at: TaskAt, begun: Begun) {
        let Some(instance) = self.instances.get(&at.instance) else { return };
        let timeout_ms = instance.program.steps[usize::from(at.index)].timeout_ms;
        let before = self.loops.run(at).cloned().unwrap_or_default();
        let (items, count, state) = match begun {
            Begun::Items(texts, count) => (Some(texts), count, Octets::default()),
            Begun::State(state) => (None, 0, state),
            Begun::Once => (None, 0, Octets::default()),
        };
        let charged = items.as_ref().map_or(0, |items| items.len()) as u64 + state.len() as u64;
        if instance.bytes - before.charged.min(instance.bytes) + charged > INSTANCE_BYTES_MAX as u64 {
            let message = format!("with its items the instance would hold more than {INSTANCE_BYTES_MAX} bytes");
            return self.fail_for_good(turn, at, Failure::new("instance_too_large", &message), State::Failed);
        }
        let next = if self.undoes(at).is_some() { u32::MAX } else { 0 };
        let run = Run { life: before.life, count, next, state, charged, replaced_count: before.replaced_count, ..Run::default() };
        self.loops.begin(at, run, items);
        self.with_instance(at.instance, |instance| instance.bytes = instance.bytes - before.charged.min(instance.bytes) + charged);
        if timeout_ms > 0 {
            self.set_wait_timer(at, turn.now.plus_ms(timeout_ms));
        }
        self.errands.push_back(Errand::Round(at));
    }

    /// Does what can be done now for a task with a body, as far as the entry allows.
    pub(super) fn go_round(&mut self, turn: &mut Turn<'_>, at: TaskAt) {
        while let Some(next) = self.next_move(at) {
            if turn.is_spent() {
                return self.errands.push_back(Errand::Round(at));
            }
            turn.transitions += 1;
            match next {
                Move::Begin { place, payload, cursor } => {
                    if let Err(failure) = self.begin_round(turn, at, place, payload) {
                        self.stop_run(at, Stop::fatal(failure));
                    } else if let Some(run) = self.loops.run_mut(at) {
                        (run.next, run.cursor) = (place + 1, cursor);
                    }
                }
                Move::Undo { place, id } => {
                    if let Some(run) = self.loops.run_mut(at) {
                        run.next = place;
                    }
                    if self.undo_round(turn, id) {
                        self.note_begun(at, place, id);
                    }
                }
                Move::Gather => {
                    let room = super::TRANSITIONS_PER_ENTRY_MAX.saturating_sub(turn.transitions).max(1);
                    turn.transitions += self.gather(at, room);
                }
                Move::Complete(output) => return self.end_run(turn, at, Ok(output)),
                Move::Stop(stop) => self.stop_run(at, stop),
                Move::Close => {
                    let stop = self.loops.run_mut(at).and_then(|run| run.stop.take());
                    if let Some(stop) = stop {
                        self.end_run(turn, at, Err(stop));
                    }
                    return;
                }
            }
        }
    }

    /// What a task with a body does next; `None` while it waits for its rounds, is paused, or runs no more.
    fn next_move(&self, at: TaskAt) -> Option<Move> {
        let instance = self.instances.get(&at.instance)?;
        let task = instance.tasks.get(usize::from(at.index))?;
        let run = self.loops.run(at).filter(|_| task.status == State::Running)?;
        if run.stop.is_some() {
            return run.open.is_empty().then_some(Move::Close);
        }
        if instance.pause.is_some() {
            return None;
        }
        match &instance.program.tasks[usize::from(at.index)].work {
            Work::ForEach { max_parallel, on_item_failure, .. } => {
                if run.next < run.count {
                    return ((run.open.len() as u32) < *max_parallel).then(|| self.next_item(instance, at, run));
                }
                if !run.open.is_empty() {
                    return None;
                }
                let failed = run.failure.clone().filter(|_| *on_item_failure == ItemFailure::Finish);
                Some(match failed {
                    Some(failure) => Move::Stop(Stop::failed(more_failed(&failure, run.failed_count))),
                    None if run.gathered.1 < run.count => Move::Gather,
                    None => Move::Complete(closed(&run.gathered.0)),
                })
            }
            Work::While { condition, max_iterations, .. } => {
                run.open.is_empty().then(|| self.next_iteration(instance, at, run, condition, *max_iterations))
            }
            Work::SubWorkflow => run.open.is_empty().then(|| match run.next {
                0 => self.begin_move(instance, at, 0, super::scopes::payload_of(self.lexical_root(instance)), 0),
                _ => Move::Complete(run.state.clone()),
            }),
            Work::Undo => run.open.is_empty().then(|| match self.undo_below(at, run) {
                Undo::Round(place, id) => Move::Undo { place, id },
                Undo::Done(Ok(output)) => Move::Complete(output),
                Undo::Done(Err(failure)) => Move::Stop(Stop::fatal(failure)),
            }),
            _ => None,
        }
    }

    fn next_item(&self, instance: &Instance, at: TaskAt, run: &Run) -> Move {
        let rest = self.loops.items_from(at, run.cursor).unwrap_or_default();
        let mut items = serde_json::Deserializer::from_slice(rest).into_iter::<&RawValue>();
        match items.next() {
            Some(Ok(item)) => {
                let payload = Octets::from(item.get());
                self.begin_move(instance, at, run.next, payload, run.cursor + items.byte_offset() as u64)
            }
            _ => Move::Stop(Stop::fatal(Failure::new("internal", "the items end before their number"))),
        }
    }

    fn next_iteration(
        &self,
        instance: &Instance,
        at: TaskAt,
        run: &Run,
        condition: &distric_rules::expr::Expr,
        max_iterations: u32,
    ) -> Move {
        let round = Round { value: &run.state, number: run.next };
        let holds = self.with_round(instance, at.index, Some(round), |scope| {
            condition.evaluate_bool(scope, &mut Budget::default()).map_err(|error| expression_failure("config.condition", &error))
        });
        match holds {
            Err(failure) => Move::Stop(Stop::fatal(failure)),
            Ok(false) => Move::Complete(run.state.clone()),
            Ok(true) if run.next >= max_iterations => {
                let message = format!("its condition still holds after max_iterations, {max_iterations}");
                Move::Stop(Stop::fatal(Failure::new("iterations_exceeded", &message)))
            }
            Ok(true) => self.begin_move(instance, at, run.next, run.state.clone(), 0),
        }
    }

    /// The beginning of a round over `value`: a workflow that is called gets what `input` makes of it.
    fn begin_move(&self, instance: &Instance, at: TaskAt, place: u32, value: Octets, cursor: u64) -> Move {
        let index = usize::from(at.index);
        let input = instance.program.tasks[index].input.as_ref();
        let Some(input) = input.filter(|_| matches!(instance.program.steps[index].body, Some(Body::Workflow(_)))) else {
            return Move::Begin { place, payload: value, cursor };
        };
        let rendered = self.with_round(instance, at.index, Some(Round { value: &value, number: place }), |scope| {
            input.render(scope, &mut Budget::default()).map_err(|error| expression_failure("input", &error))
        });
        match rendered {
            Ok(input) => Move::Begin { place, payload: Octets::from(&input), cursor },
            Err(failure) => Move::Stop(Stop::fatal(failure)),
        }
    }

    /// A round runs.
    pub(super) fn note_begun(&mut self, at: TaskAt, place: u32, id: InstanceId) {
        if let Some(run) = self.loops.run_mut(at) {
            run.open.insert(place, id);
        }
    }

    /// A round has completed, now or before the task began again.
    pub(super) fn note_completed(&mut self, at: TaskAt, id: InstanceId) {
        let is_for_each = self
            .instances
            .get(&at.instance)
            .is_some_and(|instance| matches!(instance.program.tasks[usize::from(at.index)].work, Work::ForEach { .. }));
        let output = if is_for_each { None } else { self.instances.get(&id).map(output_of) };
        let Some(run) = self.loops.run_mut(at) else { return };
        run.completed_count += 1;
        let Some(output) = output else { return };
        if output.len() > TASK_OUTPUT_BYTES_MAX {
            let message = format!("what it returned has {} bytes, more than {TASK_OUTPUT_BYTES_MAX}", output.len());
            return self.stop_run(at, Stop::fatal(Failure::new("output_too_large", &message)));
        }
        let before = std::mem::replace(&mut run.charged, output.len() as u64);
        let charged = run.charged;
        run.state = output;
        self.with_instance(at.instance, |instance| instance.bytes = instance.bytes - before.min(instance.bytes) + charged);
    }

    pub(super) fn round_completed(&mut self, _turn: &mut Turn<'_>, key: RoundKey, id: InstanceId) {
        let Some(run) = self.loops.run_mut(key.task).filter(|run| run.life == key.life) else { return };
        if run.open.remove(&key.place).is_some() {
            self.note_completed(key.task, id);
            self.errands.push_back(Errand::Round(key.task));
        }
    }

    pub(super) fn round_failed(&mut self, _turn: &mut Turn<'_>, key: RoundKey, id: InstanceId) {
        let Some((parent, child)) = self.instances.get(&key.task.instance).zip(self.instances.get(&id)) else { return };
        let work = &parent.program.tasks[usize::from(key.task.index)].work;
        let what = match work {
            Work::ForEach { .. } => format!("item {}", key.place),
            Work::While { .. } => format!("iteration {}", key.place),
            _ => format!("workflow `{}`", child.program.workflow),
        };
        let failure = child.failure.clone().unwrap_or_else(|| Failure::new("failed", "no reason was given"));
        let failure = Failure::new(&failure.code, &format!("{what}: {}", failure.message));
        let goes_on = matches!(work, Work::ForEach { on_item_failure: ItemFailure::Finish | ItemFailure::Ignore, .. });
        let end = if child.status == State::TimedOut { State::TimedOut } else { State::Failed };
        let Some(run) = self.loops.run_mut(key.task).filter(|run| run.life == key.life) else { return };
        if run.open.remove(&key.place).is_none() {
            return;
        }
        run.failed_count += 1;
        if run.failure.is_none() {
            run.failure = Some(failure.clone());
        }
        if !goes_on {
            self.stop_run(key.task, Stop { end, ..Stop::failed(failure) });
        }
        self.errands.push_back(Errand::Round(key.task));
    }

    /// Ends a run when its open rounds have ended; those are stopped. What decided first stays, unless it is cancelled.
    fn stop_run(&mut self, at: TaskAt, stop: Stop) {
        let Some(run) = self.loops.run_mut(at) else { return };
        if run.stop.is_none() || stop.end == State::Cancelled {
            run.stop = Some(stop);
        }
        let open: Vec<InstanceId> = run.open.values().copied().collect();
        self.errands.extend(open.into_iter().map(Errand::Stop));
        self.errands.push_back(Errand::Round(at));
    }

    /// Cancels a task with open rounds: it ends when they have. False when it has none, and may end at once.
    pub(super) fn cancel_run(&mut self, at: TaskAt, reason: &Arc<str>) -> bool {
        let is_running = self.task_mut(at).is_some_and(|task| task.status == State::Running);
        if !is_running || self.loops.run(at).is_none_or(|run| run.open.is_empty()) {
            return false;
        }
        let timer = self.task_mut(at).and_then(|task| task.timer.take());
        self.timers.remove(timer);
        let failure = Failure::new("cancelled", reason);
        self.stop_run(at, Stop { end: State::Cancelled, failure, is_retryable: false });
        true
    }

    /// A task with a body has taken too long.
    pub(super) fn time_out_run(&mut self, at: TaskAt) {
        let Some(instance) = self.instances.get_mut(&at.instance) else { return };
        let timeout_ms = instance.program.steps[usize::from(at.index)].timeout_ms;
        let task = &mut instance.tasks[usize::from(at.index)];
        task.timer = None;
        if task.status == State::Running {
            let failure = Failure::new("timed_out", &format!("it did not end within {timeout_ms} ms"));
            self.stop_run(at, Stop { end: State::TimedOut, ..Stop::failed(failure) });
        }
    }

    /// The rounds of a task have ended: so does its attempt.
    fn end_run(&mut self, turn: &mut Turn<'_>, at: TaskAt, end: Result<Octets, Stop>) {
        let timer = self.task_mut(at).and_then(|task| task.timer.take());
        self.timers.remove(timer);
        self.loops.drop_items(at);
        let charged = self.loops.run_mut(at).map_or(0, |run| {
            (run.state, run.gathered) = Default::default();
            std::mem::take(&mut run.charged)
        });
        self.with_instance(at.instance, |instance| {
            instance.bytes -= charged.min(instance.bytes);
            instance.tasks[usize::from(at.index)].next_attempt_at = None;
        });
        match end {
            Ok(output) => self.complete_attempt(turn, at, output),
            Err(Stop { end: State::Cancelled, failure, .. }) => self.close_task(turn, at, State::Cancelled, Some(failure.message.clone())),
            Err(Stop { end, failure, is_retryable }) => {
                self.fail_attempt(turn, at, AttemptFailure { failure, is_retryable, retry_after_ms: 0, end });
            }
        }
    }

    /// Puts the outputs of at most `count_max` more rounds together. Returns of how many.
    fn gather(&mut self, at: TaskAt, count_max: usize) -> usize {
        let Some(run) = self.loops.run(at) else { return 0 };
        let (text, from) = &run.gathered;
        let (mut text, from) = (text.to_vec(), *from);
        let to = run.count.min(from.saturating_add(u32::try_from(count_max).unwrap_or(u32::MAX)));
        for place in from..to {
            text.push(if place == 0 { b'[' } else { b',' });
            let round = self.loops.round(RoundKey { task: at, life: run.life, place }).and_then(|id| self.instances.get(&id));
            match round.filter(|round| round.status == State::Completed) {
                Some(round) => text.extend_from_slice(&output_of(round)),
                None => text.extend_from_slice(b"null"),
            }
            if text.len() > TASK_OUTPUT_BYTES_MAX {
                let message = format!("the outputs of its items have more than {TASK_OUTPUT_BYTES_MAX} bytes");
                self.stop_run(at, Stop::fatal(Failure::new("output_too_large", &message)));
                return (place - from) as usize;
            }
        }
        if let Some(run) = self.loops.run_mut(at) {
            run.gathered = (Octets::from(text), to);
        }
        (to - from) as usize
    }

    /// What becomes of the open rounds of an instance that is paused or goes on: the same.
    pub(super) fn tell_rounds(&mut self, id: InstanceId, errand: impl Fn(InstanceId) -> Errand) {
        let Some(instance) = self.instances.get(&id).filter(|instance| instance.program.has_bodies) else { return };
        let running = (0..instance.tasks.len() as u16).map(|index| TaskAt { instance: id, index }).filter(|at| {
            let index = usize::from(at.index);
            instance.program.steps[index].has_rounds && instance.tasks[index].status == State::Running
        });
        for at in running.collect::<Vec<_>>() {
            let open: Vec<InstanceId> = self.loops.run(at).map_or_else(Vec::new, |run| run.open.values().copied().collect());
            self.errands.extend(open.into_iter().map(&errand));
            self.errands.push_back(Errand::Round(at));
        }
    }

    /// An operator has an instance done anew: which of its tasks with a body forget the rounds that they had.
    pub(super) fn renew_runs(&mut self, id: InstanceId, anew: &[u16]) {
        for index in anew {
            if let Some(run) = self.loops.run_mut(TaskAt { instance: id, index: *index }) {
                run.life += 1;
            }
        }
    }
}

fn closed(gathered: &Octets) -> Octets {
    if gathered.is_empty() {
        return Octets::from("[]");
    }
    let mut text = gathered.to_vec();
    text.push(b']');
    Octets::from(text)
}

fn more_failed(failure: &Failure, count: u32) -> Failure {
    match count {
        0 | 1 => failure.clone(),
        count => Failure::new(&failure.code, &format!("{} (and {} more failed)", failure.message, count - 1)),
    }
}
