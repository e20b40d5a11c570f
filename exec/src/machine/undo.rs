//! Undoing what a task with a body ran: its rounds that completed, the latest first, one at a time.
//!
//! When a workflow that compensates has failed, a task with a body is undone like any other; its compensation, unless it says one, is made
//! by the machine and takes each round back: the tasks in it that have a `compensate` are undone by the same rules.
//! Start reading at [`Machine::undo_below`].

use distric_model::InstanceId;

use super::compensation::left_undone;
use super::instances::{Failure, Instance, TaskAt};
use super::loops::{RoundKey, Run};
use super::state::State;
use super::turn::Turn;
use super::{Errand, Machine};
use crate::definition::Work;
use crate::octets::Octets;

/// What the walk over rounds finds.
pub(super) enum Undo {
    /// A round that completed.
    Round(u32, InstanceId),
    /// None is left.
    Done(Result<Octets, Failure>),
}

impl Machine {
    /// The task whose rounds a task undoes, when it does.
    pub(super) fn undoes(&self, at: TaskAt) -> Option<TaskAt> {
        let instance = self.instances.get(&at.instance)?;
        let is_undo = matches!(instance.program.tasks.get(usize::from(at.index))?.work, Work::Undo);
        let index = instance.program.steps[usize::from(at.index)].compensates.filter(|_| is_undo)?;
        Some(TaskAt { index, ..at })
    }

    /// The task that undoes the rounds of a task, when there is one.
    pub(super) fn undo_of(&self, at: TaskAt) -> Option<TaskAt> {
        let program = &self.instances.get(&at.instance)?.program;
        let index = program.steps.iter().position(|step| step.compensates == Some(at.index) && step.has_rounds)?;
        Some(TaskAt { index: index as u16, ..at })
    }

    pub(super) fn is_undone_now(&self, at: TaskAt) -> bool {
        let instance = self.instances.get(&at.instance);
        instance.and_then(|instance| instance.tasks.get(usize::from(at.index))).is_some_and(|task| task.status == State::Compensating)
    }

    /// The latest round that is left to be undone below the place where the walk is.
    pub(super) fn undo_below(&self, undo: TaskAt, run: &Run) -> Undo {
        let target = self.undoes(undo).and_then(|task| Some((task, self.loops.run(task)?.life)));
        match target.and_then(|(task, life)| self.loops.round_below(task, life, run.next)) {
            Some((place, id)) => Undo::Round(place, id),
            None => Undo::Done(match &run.failure {
                None => Ok(Octets::from("null")),
                Some(failure) => Err(failure.clone()),
            }),
        }
    }

    /// Takes back a round that completed. False when there is nothing in it to undo.
    pub(super) fn undo_round(&mut self, turn: &mut Turn<'_>, id: InstanceId) -> bool {
        let Some(child) = self.instances.get_mut(&id) else { return false };
        if child.status != State::Completed || !child.program.compensates {
            return false;
        }
        child.verdict = Some(State::Compensated);
        if self.compensate_next(turn, id) {
            self.open_count += 1;
            self.with_instance(id, |child| child.ended_at = None);
            return true;
        }
        if let Some(child) = self.instances.get_mut(&id) {
            child.verdict = None;
        }
        false
    }

    /// A round was taken back: the task that undoes them goes on with the one before it.
    pub(super) fn round_undone(&mut self, undo: TaskAt, key: RoundKey, id: InstanceId) {
        let left = self.instances.get(&id).and_then(|child| child.failure.clone());
        let Some(run) = self.loops.run_mut(undo) else { return };
        if run.open.remove(&key.place).is_none() {
            return;
        }
        if let Some(left) = left {
            run.failed_count += 1;
            run.failure.get_or_insert_with(|| Failure::new("not_undone", &format!("round {}: {}", key.place, left.message)));
        }
        self.errands.push_back(Errand::Round(undo));
    }
}

/// Why a round that was taken back is not wholly undone.
pub(super) fn undone_failure(instance: &Instance) -> Option<Failure> {
    left_undone(instance).map(|left| Failure::new("not_undone", &left))
}
