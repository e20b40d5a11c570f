//! Endings: how tasks and instances end, by themselves and before their time.
//!
//! A task that ends has those that waited for it considered; the first failure of a critical task decides the outcome; when no task is
//! open the instance ends, once what completed is undone where that is asked for. Start reading at [`Machine::close_task`].

use std::sync::Arc;

use distric_model::InstanceId;

use super::compensation::{is_open, left_undone};
use super::instances::{Failure, TaskAt};
use super::state::State;
use super::turn::Turn;
use super::undo::undone_failure;
use super::{Errand, Machine};
use crate::definition::Join;

impl Machine {
    /// Ends a task that is in no queue, on no worker and has no timer; what depends on it is considered.
    pub(super) fn close_task(&mut self, turn: &mut Turn<'_>, at: TaskAt, to: State, reason: Option<Arc<str>>) {
        self.end_task(turn, at, to, reason);
        let Some(instance) = self.instances.get(&at.instance) else { return };
        let is_critical = instance.program.steps[usize::from(at.index)].is_critical;
        if is_critical && matches!(to, State::Failed | State::TimedOut) && instance.verdict.is_none() {
            self.fail_instance(turn, at);
        }
        self.end_if_all_tasks_have(turn, at.instance);
    }

    /// A task has ended: those that waited for it only, or for any, are considered.
    fn end_task(&mut self, turn: &mut Turn<'_>, at: TaskAt, to: State, reason: Option<Arc<str>>) {
        assert!(to.is_end(), "a task ends as {to:?}");
        self.with_instance(at.instance, |instance| instance.move_task(turn, at.index, to, reason.clone()));
        self.compensation_ended(turn, at, to, reason.as_ref());
        let Some(instance) = self.instances.get_mut(&at.instance) else { return };
        instance.open_count -= 1;
        instance.tasks[usize::from(at.index)].ended_at = Some(turn.now);
        for index in instance.program.steps[usize::from(at.index)].dependents.iter().copied() {
            let dependent = &mut instance.tasks[usize::from(index)];
            dependent.waiting_count -= 1;
            let joins_any = instance.program.steps[usize::from(index)].join == Join::Any;
            if dependent.status == State::Pending && (dependent.waiting_count == 0 || (joins_any && to == State::Completed)) {
                self.errands.push_back(Errand::Consider(TaskAt { instance: at.instance, index }));
            }
        }
    }

    /// A critical task failed: the outcome is decided, and all but the cleaning up is cancelled.
    fn fail_instance(&mut self, turn: &mut Turn<'_>, at: TaskAt) {
        let Some(instance) = self.instances.get_mut(&at.instance) else { return };
        let program = instance.program.clone();
        let name = &program.steps[usize::from(at.index)].id;
        let failure = instance.tasks[usize::from(at.index)].failure.clone();
        let failure = failure.unwrap_or_else(|| Failure::new("task_failed", "no reason was given"));
        instance.verdict = Some(State::Failed);
        instance.failure = Some(Failure::new(&failure.code, &format!("task `{name}`: {}", failure.message)));
        let reason: Arc<str> = Arc::from(format!("task `{name}` failed"));
        self.cancel_tasks(turn, at.instance, &reason, |step_cleans_up| !step_cleans_up);
    }

    /// Ends an instance before its tasks have ended by themselves; they are all cancelled.
    pub(super) fn end_early(&mut self, turn: &mut Turn<'_>, id: InstanceId, verdict: State, failure: Failure) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if instance.status.is_end() {
            return;
        }
        let reason = failure.message.clone();
        instance.pause = None;
        // What was decided stays decided; the clean-up that was going on is cut short.
        if instance.verdict.is_none() {
            instance.verdict = Some(verdict);
            instance.failure = Some(failure);
        }
        match instance.status {
            State::Scheduled => self.timers.remove(instance.timer.take()),
            State::Compensating => self.cut_compensation_short(turn, id, &reason),
            _ => {}
        }
        self.cancel_tasks(turn, id, &reason, |_| true);
        self.end_if_all_tasks_have(turn, id);
    }

    fn cancel_tasks(&mut self, turn: &mut Turn<'_>, id: InstanceId, reason: &Arc<str>, concerns: impl Fn(bool) -> bool) {
        let Some(instance) = self.instances.get(&id) else { return };
        let program = instance.program.clone();
        for index in 0..instance.tasks.len() as u16 {
            if concerns(program.steps[usize::from(index)].cleans_up) {
                self.cancel_task(turn, TaskAt { instance: id, index }, reason);
            }
        }
    }

    fn cancel_task(&mut self, turn: &mut Turn<'_>, at: TaskAt, reason: &Arc<str>) {
        let Some(instance) = self.instances.get(&at.instance) else { return };
        if !is_open(&instance.program, &instance.tasks, at.index) {
            return;
        }
        if self.cancel_run(at, reason) {
            return;
        }
        self.detach(turn, at);
        self.end_task(turn, at, State::Cancelled, Some(reason.clone()));
    }

    pub(super) fn end_if_all_tasks_have(&mut self, turn: &mut Turn<'_>, id: InstanceId) {
        let Some(instance) = self.instances.get(&id) else { return };
        if instance.open_count > 0
            || instance.status.is_end()
            || (instance.verdict.is_none() && matches!(instance.status, State::Scheduled | State::Queued))
        {
            return;
        }
        self.render_output(id);
        if self.compensate_next(turn, id) {
            return;
        }
        let Some(instance) = self.instances.get_mut(&id) else { return };
        self.timers.remove(instance.timer.take());
        let to = instance.verdict.unwrap_or(State::Completed);
        self.with_instance(id, |instance| {
            if let (Some(failure), Some(undone)) = (&instance.failure, left_undone(instance)) {
                instance.failure = Some(Failure::new(&failure.code, &format!("{}; {undone}", failure.message)));
            } else if to == State::Compensated {
                instance.failure = undone_failure(instance);
            }
            instance.pause = None;
            instance.ended_at = Some(turn.now);
            let from = std::mem::replace(&mut instance.status, to);
            let reason = instance.failure.as_ref().map(Failure::line);
            instance.record(turn, None, from, to, reason);
        });
        match to {
            State::Completed => self.stats.instances_completed_count += 1,
            State::Skipped => self.stats.instances_skipped_count += 1,
            State::Compensated => {}
            _ => self.stats.instances_failed_count += 1,
        }
        // A child's failure is a matter of its parent, which is what can be retried.
        if self.instances.get(&id).is_some_and(|instance| instance.parent().is_none()) {
            self.incidents.note(id, to);
        }
        self.forget_signals_to(id);
        self.leave_gates(turn, id);
        self.open_count -= 1;
        if matches!(to, State::Failed | State::TimedOut) {
            self.start_handler(turn, id);
        }
        let Some(instance) = self.instances.get(&id) else { return };
        if instance.parent().is_some() {
            // It goes into retention when its family does.
            return self.child_ended(turn, id);
        }
        if instance.program.has_bodies {
            self.errands.push_back(Errand::Retire { parent: id, after: None });
        }
        self.retention.instance_ended(turn.now, id);
        if self.retention.finished_count() > self.settings.history_instances_max {
            self.forget_oldest_instance();
        }
    }
}
