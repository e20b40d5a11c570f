//! Compensation: what completed is undone when the workflow fails after all, the latest first, one at a time.
//!
//! A compensation is a task of its own behind those of the definition; nothing depends on it and no join waits for it. It starts when
//! all else has ended and the outcome is a failure. One that fails does not stop the others: its task stays `completed`, and the
//! instance says which tasks were not undone.
//! Invariant: at most one compensation of an instance is open. Invariant: a task is undone at most once, and only after it completed.
//! Source: Garcia-Molina & Salem 1987, "Sagas", section 2 (backward recovery). Start reading at [`Machine::compensate_next`].

use std::cmp::Reverse;
use std::sync::Arc;

use distric_model::InstanceId;

use super::instances::{Failure, Instance, Task, TaskAt};
use super::loops::Loops;
use super::programs::Program;
use super::state::State;
use super::turn::Turn;
use super::{Errand, Machine};
use crate::definition::Work;

/// Most tasks named in one sentence.
const TASKS_NAMED_MAX: usize = 8;

/// Whether a task has something left to do: a compensation only while its task is being undone, that task not meanwhile.
pub(super) fn is_open(program: &Program, tasks: &[Task], index: u16) -> bool {
    let status = tasks[usize::from(index)].status;
    match program.steps[usize::from(index)].compensates {
        Some(undone) => !status.is_end() && tasks[usize::from(undone)].status == State::Compensating,
        None => !status.is_end() && status != State::Compensating,
    }
}

/// Whether people see a task: compensations only when they were begun or given up.
pub(super) fn is_shown(instance: &Instance, index: u16) -> bool {
    let is_idle = instance.tasks[usize::from(index)].status == State::Pending && !is_open(&instance.program, &instance.tasks, index);
    instance.program.steps[usize::from(index)].compensates.is_none() || !is_idle
}

impl Machine {
    /// Begins the next compensation of an instance whose tasks have all ended. False when there is none.
    pub(super) fn compensate_next(&mut self, turn: &mut Turn<'_>, id: InstanceId) -> bool {
        let Some(instance) = self.instances.get(&id) else { return false };
        let Some((undone, compensation)) = next_of(&self.loops, instance) else { return false };
        let from = instance.status;
        let is_first = from != State::Compensating;
        if is_first {
            // What was done is undone however long that takes: each attempt at it has its own limit.
            let timer = instance.timer;
            self.timers.remove(timer);
        }
        let was = instance.tasks[usize::from(undone)].status;
        if let Some(run) = self.loops.run_mut(TaskAt { instance: id, index: undone }) {
            run.was = Some(was);
        }
        self.with_instance(id, |instance| {
            if is_first {
                instance.timer = None;
                instance.status = State::Compensating;
                let reason = instance.failure.as_ref().map(Failure::line);
                instance.record(turn, None, from, State::Compensating, reason);
            }
            instance.open_count += 1;
            instance.turn_task(turn, undone, State::Compensating, None);
        });
        self.errands.push_back(Errand::Consider(TaskAt { instance: id, index: compensation }));
        true
    }

    /// A compensation has ended as `to`: so has the undoing of its task.
    pub(super) fn compensation_ended(&mut self, turn: &mut Turn<'_>, at: TaskAt, to: State, reason: Option<&Arc<str>>) {
        let undone = self.instances.get(&at.instance).and_then(|instance| instance.program.steps[usize::from(at.index)].compensates);
        let Some(undone) = undone else { return };
        let was = self.loops.run(TaskAt { index: undone, ..at }).and_then(|run| run.was).unwrap_or(State::Completed);
        self.with_instance(at.instance, |instance| match to {
            State::Completed => instance.turn_task(turn, undone, State::Compensated, None),
            _ => {
                let why = reason.map_or("no reason was given", |reason| reason);
                let reason = super::history::reason(&format!("not undone, its compensation {}: {why}", to.as_str()));
                instance.turn_task(turn, undone, was, Some(reason));
            }
        });
    }

    /// Gives up the compensations that have not begun.
    pub(super) fn cut_compensation_short(&mut self, turn: &mut Turn<'_>, id: InstanceId, reason: &Arc<str>) {
        let Some(instance) = self.instances.get(&id) else { return };
        let idle: Vec<u16> = undoable(&self.loops, instance).map(|(_, compensation)| compensation).collect();
        self.with_instance(id, |instance| {
            for index in idle {
                instance.tasks[usize::from(index)].ended_at = Some(turn.now);
                instance.move_task(turn, index, State::Cancelled, Some(reason.clone()));
            }
        });
    }
}

/// The task that is undone next, and its compensation.
fn next_of(loops: &Loops, instance: &Instance) -> Option<(u16, u16)> {
    let fails = match instance.status {
        State::Running | State::Compensating => matches!(instance.verdict, Some(State::Failed | State::TimedOut | State::Compensated)),
        // Its parent takes it back.
        State::Completed => instance.verdict == Some(State::Compensated),
        _ => false,
    };
    if !instance.program.compensates || !fails {
        return None;
    }
    // The latest first; of those that ended at one stamp, whoever comes later in the graph.
    undoable(loops, instance).min_by_key(|(undone, _)| {
        Reverse((instance.tasks[usize::from(*undone)].ended_at, instance.program.steps[usize::from(*undone)].rank))
    })
}

/// The tasks that could be undone and are not yet, each with its compensation: those that completed, and loops that ended otherwise after some of
/// their rounds had completed.
fn undoable<'a>(loops: &'a Loops, instance: &'a Instance) -> impl Iterator<Item = (u16, u16)> + 'a {
    let compensations = (0..).zip(&instance.program.steps).filter_map(|(index, step)| Some((step.compensates?, index)));
    compensations.filter(|(undone, compensation)| {
        let status = |index: u16| instance.tasks[usize::from(index)].status;
        let has_rounds_left = || {
            let is_loop = matches!(instance.program.tasks[usize::from(*undone)].work, Work::ForEach { .. } | Work::While { .. });
            let undoes_rounds = instance.program.steps[usize::from(*compensation)].has_rounds;
            let run = loops.run(TaskAt { instance: instance.id, index: *undone });
            is_loop && undoes_rounds && run.is_some_and(|run| run.completed_count > 0)
        };
        let is_left = match status(*undone) {
            State::Completed => true,
            State::Failed | State::TimedOut | State::Cancelled => has_rounds_left(),
            _ => false,
        };
        is_left && status(*compensation) == State::Pending
    })
}

/// What the end of an instance says about tasks that were not undone.
pub(super) fn left_undone(instance: &Instance) -> Option<String> {
    if instance.status != State::Compensating {
        return None;
    }
    let steps = (0_u16..).zip(&instance.program.steps);
    let failed = steps.filter_map(|(index, step)| {
        let status = instance.tasks[usize::from(index)].status;
        let is_failure = matches!(status, State::Failed | State::TimedOut | State::Cancelled);
        Some(&*instance.program.steps[usize::from(step.compensates?)].id).filter(|_| is_failure)
    });
    let names: Vec<&str> = failed.take(TASKS_NAMED_MAX).collect();
    (!names.is_empty()).then(|| format!("not undone: {}", names.join(", ")))
}
