//! Tasks: from ready over attempts to an end. One result per task is ever accepted.
//!
//! Invariant: a task that is `Assigned` has exactly one live lease, and its token is the task's.
//! Invariant: a task that is `Ready` is in exactly one queue. Start reading at [`Machine::start_task`].

use std::cmp::Reverse;
use std::sync::Arc;

use distric_model::WorkerId;
use distric_model::limits::{INSTANCE_BYTES_MAX, TASK_OUTPUT_BYTES_MAX};
use serde::de::IgnoredAny;

use super::effects::{Assignment, Effect, Reply, Verdict};
use super::instances::{Failure, Instance, TaskAt};
use super::placement::{Choice, Wish};
use super::queue::{FlowName, QueueKey};
use super::state::State;
use super::timers::Timer;
use super::turn::Turn;
use super::{Errand, Machine};
use crate::command::{Retry, TaskDone, TaskOutcome};
use crate::octets::Octets;

/// How many times a task may lose its worker before it is taken to be the reason, and fails.
pub const TASK_LOSSES_MAX: u32 = 5;
/// The longest wait that a worker may ask for before the next attempt, milliseconds.
pub const RETRY_AFTER_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// How an attempt ended badly.
pub(super) struct AttemptFailure {
    pub failure: Failure,
    pub is_retryable: bool,
    pub retry_after_ms: u64,
    /// `Failed` or `TimedOut`: what the task becomes when no attempt is left.
    pub end: State,
}

impl AttemptFailure {
    /// One that no other attempt can mend.
    pub fn fatal(code: &str, message: &str) -> Self {
        Self { failure: Failure::new(code, message), is_retryable: false, retry_after_ms: 0, end: State::Failed }
    }
}

impl Machine {
    /// A task may run: its condition decides whether. Control tasks run here, others look for a worker.
    pub(super) fn start_task(&mut self, turn: &mut Turn<'_>, at: TaskAt) {
        match self.condition_holds(at) {
            Ok(true) => {}
            Ok(false) => return self.close_task(turn, at, State::Skipped, Some(Arc::from("its condition is false"))),
            Err(failure) => return self.fail_for_good(turn, at, failure, State::Failed),
        }
        let Some(instance) = self.instances.get(&at.instance) else { return };
        if instance.program.steps[usize::from(at.index)].is_control {
            self.run_control(turn, at);
        } else {
            self.make_ready(turn, at, None);
        }
    }

    /// A task that was attempted is ready again, unless its instance is paused.
    pub(super) fn next_attempt(&mut self, turn: &mut Turn<'_>, at: TaskAt, reason: Option<Arc<str>>) {
        if self.is_paused(at.instance) {
            return self.hold(turn, at, reason.unwrap_or_else(|| Arc::from("its workflow is paused")));
        }
        self.make_ready(turn, at, reason);
    }

    /// A task is ready for its next attempt: it goes to a worker at once, or into its queue.
    pub(super) fn make_ready(&mut self, turn: &mut Turn<'_>, at: TaskAt, reason: Option<Arc<str>>) {
        if self.has_rounds(at) {
            return self.run_control(turn, at);
        }
        if let Err(failure) = self.prepare(at) {
            return self.fail_for_good(turn, at, failure, State::Failed);
        }
        let affinity = match self.affinity_of(at) {
            Ok(affinity) => affinity,
            Err(failure) => return self.fail_for_good(turn, at, failure, State::Failed),
        };
        let placement = self.settings.placement;
        let queues = &mut self.queues;
        let Some(instance) = self.instances.get_mut(&at.instance) else { return };
        let choice = queues.key(instance.program.steps[usize::from(at.index)].class).choice.or(placement);
        let near = if choice == Choice::Locality { near(instance, at.index) } else { None };
        let task = &mut instance.tasks[usize::from(at.index)];
        // Who was lost or returned goes back to where it stood; who failed goes to the end.
        let returns = task.arrival != 0 && task.status != State::BackingOff;
        let wish = Wish { choice, near, affinity, avoided: task.worker.filter(|_| returns) };
        if !returns {
            task.arrival = queues.arrive();
        }
        task.timer = None;
        task.next_attempt_at = None;
        let step = &instance.program.steps[usize::from(at.index)];
        let (class, priority) = (step.class, step.priority);
        let flow = flow_of(instance);
        let weight = instance.flow.as_ref().map_or(1, |flow| flow.weight);
        instance.tasks[usize::from(at.index)].turn = queues.turn_of(class, priority, &flow, weight, returns);
        let key = queue_key(instance, at.index);
        self.with_instance(at.instance, |instance| {
            instance.move_task(turn, at.index, State::Ready, reason);
            instance.tasks[usize::from(at.index)].worker = None;
        });
        let mut choose = |wish| self.queues.choose(class, &self.workers, wish, || turn.draw());
        let worker = match self.queues.is_waiting(class) {
            true => None,
            // The worker that gave it back would do so again, most likely; another one is asked first.
            false => choose(wish).or_else(|| wish.avoided.and_then(|_| choose(Wish { avoided: None, ..wish }))),
        };
        match worker {
            Some(worker) => self.assign(turn, at, worker),
            None => self.queues.push(class, key, at, flow),
        }
    }

    /// Gives waiting tasks to a worker for as long as it has free credit.
    pub(super) fn serve(&mut self, turn: &mut Turn<'_>, worker: WorkerId) {
        while self.workers.has_free_credit(worker) {
            if turn.is_spent() {
                return self.errands.push_back(Errand::Serve(worker));
            }
            let Some(at) = self.queues.take_for(worker, &self.workers) else { return };
            self.assign(turn, at, worker);
        }
    }

    /// One attempt begins: a task that is in no queue gets a credit of the worker.
    fn assign(&mut self, turn: &mut Turn<'_>, at: TaskAt, worker: WorkerId) {
        let Some(instance) = self.instances.get_mut(&at.instance) else { return };
        let step = &instance.program.steps[usize::from(at.index)];
        let token = self.workers.lease(worker, at, step.needs);
        self.queues.placed(step.class, worker);
        let timer = self.timers.set(turn.now.plus_ms(step.timeout_ms), Timer::AttemptTimeout(at));
        let task = &mut instance.tasks[usize::from(at.index)];
        task.attempt += 1;
        task.turn = 0;
        task.token = token;
        task.worker = Some(worker);
        task.assigned_at = Some(turn.now);
        task.timer = Some(timer);
        self.with_instance(at.instance, |instance| instance.move_task(turn, at.index, State::Assigned, None));
        self.stats.dispatches_count += 1;
        if let Some(assignment) = self.assignment(at) {
            turn.out.push(Effect::Dispatch(Box::new(assignment)));
        }
    }

    /// What the worker of an assigned task is told.
    pub(super) fn assignment(&self, at: TaskAt) -> Option<Assignment> {
        let instance = self.instances.get(&at.instance)?;
        let task = instance.tasks.get(usize::from(at.index))?;
        let step = instance.program.steps.get(usize::from(at.index))?;
        Some(Assignment {
            worker: task.worker?,
            group: self.group,
            task: at.id(),
            instance: at.instance,
            namespace: instance.program.namespace.clone(),
            workflow: instance.program.workflow.clone(),
            workflow_version: instance.program.version,
            task_id: step.id.clone(),
            task_type: step.task_type.clone(),
            attempt: task.attempt,
            fencing_token: task.token,
            input: self.input_of(instance, at.index),
            config: self.config_of(instance, at.index),
            timeout_ms: step.timeout_ms,
            needs: step.needs,
            idempotency_key: task.idempotency_key.clone().unwrap_or_else(|| default_key(at, task.rerun)),
            traceparent: instance.origin.traceparent.clone(),
        })
    }

    /// A worker's report on an attempt.
    pub(super) fn apply_task_done(&mut self, turn: &mut Turn<'_>, done: TaskDone) {
        let (task, fencing_token) = (done.task, done.fencing_token);
        let verdict = self.settle(turn, done);
        self.stats.stale_results_count += u64::from(verdict == Verdict::Stale);
        turn.reply(Reply::TaskVerdict { task, fencing_token, verdict });
    }

    fn settle(&mut self, turn: &mut Turn<'_>, done: TaskDone) -> Verdict {
        let lease = self.workers.lease_of(done.fencing_token).filter(|lease| lease.task.id() == done.task).copied();
        if let Some(lease) = lease {
            // A refused task would come straight back on a renewed credit, and again, through the log each time.
            let renew = done.renew_credit && !matches!(done.outcome, TaskOutcome::Returned { .. });
            self.workers.release(done.fencing_token, renew);
            if let Some(elsewhere) = done.elsewhere {
                self.workers.tell_elsewhere(lease.worker, elsewhere);
            }
            if self.workers.has_free_credit(lease.worker) {
                self.errands.push_back(Errand::Serve(lease.worker));
            }
        }
        let Some(at) = self.locate(done.task) else { return Verdict::Unknown };
        let Some(instance) = self.instances.get_mut(&at.instance) else { return Verdict::Unknown };
        let task = &mut instance.tasks[usize::from(at.index)];
        if task.settled_token == done.fencing_token && done.fencing_token != 0 {
            // Said again. A worker that was sent an attempt again after its result was settled has run it twice: when it ended another way the
            // second time, that is not what was taken.
            let says_completed = matches!(done.outcome, TaskOutcome::Completed { .. });
            let has_completed = matches!(task.status, State::Completed | State::Compensating | State::Compensated);
            return if has_completed == says_completed { Verdict::Accepted } else { Verdict::Stale };
        }
        let is_present = lease.is_some() && task.status == State::Assigned && task.token == done.fencing_token;
        if !is_present || task.attempt != done.attempt {
            return self.stale_report(turn, at, lease.is_some() && is_present);
        }
        task.settled_token = done.fencing_token;
        self.timers.remove(task.timer.take());
        match done.outcome {
            TaskOutcome::Completed { output } => self.complete_attempt(turn, at, output),
            TaskOutcome::Failed { code, error, retryable, retry_after_ms } => {
                let failure = Failure::new(&code, &error);
                let retry_after_ms = retry_after_ms.unwrap_or(0);
                self.fail_attempt(turn, at, AttemptFailure { failure, is_retryable: retryable, retry_after_ms, end: State::Failed });
            }
            TaskOutcome::Returned { reason } => {
                task.attempt -= 1;
                let reason = super::history::reason(&format!("returned by its worker: {reason}"));
                self.next_attempt(turn, at, Some(reason));
            }
        }
        Verdict::Accepted
    }

    /// A report that does not count. When it took the lease of a live attempt with it (the worker contradicts itself), that attempt is lost.
    fn stale_report(&mut self, turn: &mut Turn<'_>, at: TaskAt, took_the_lease: bool) -> Verdict {
        if took_the_lease {
            self.lose_attempt(turn, at);
        }
        Verdict::Stale
    }

    /// An attempt has completed; what it returned may still be its failure.
    pub(super) fn complete_attempt(&mut self, turn: &mut Turn<'_>, at: TaskAt, output: Octets) {
        let output = if output.is_empty() { Octets::from("null") } else { output };
        let instance_bytes = self.instances.get(&at.instance).map_or(0, |instance| instance.bytes);
        if output.len() > TASK_OUTPUT_BYTES_MAX {
            let message = format!("its output has {} bytes, more than {TASK_OUTPUT_BYTES_MAX}", output.len());
            return self.fail_attempt(turn, at, AttemptFailure::fatal("output_too_large", &message));
        }
        if instance_bytes + output.len() as u64 > INSTANCE_BYTES_MAX as u64 {
            let message = format!("with its output the instance would hold more than {INSTANCE_BYTES_MAX} bytes");
            return self.fail_attempt(turn, at, AttemptFailure::fatal("instance_too_large", &message));
        }
        if serde_json::from_slice::<IgnoredAny>(&output).is_err() {
            return self.fail_attempt(turn, at, AttemptFailure::fatal("bad_output", "its output is not JSON"));
        }
        self.complete(turn, at, output);
    }

    /// A task completes.
    pub(super) fn complete(&mut self, turn: &mut Turn<'_>, at: TaskAt, output: Octets) {
        self.with_instance(at.instance, |instance| {
            instance.bytes += output.len() as u64;
            let task = &mut instance.tasks[usize::from(at.index)];
            task.output = Some(output);
            task.failure = None;
        });
        self.close_task(turn, at, State::Completed, None);
    }

    /// An attempt ended badly: another one after a wait, or the end.
    pub(super) fn fail_attempt(&mut self, turn: &mut Turn<'_>, at: TaskAt, attempt: AttemptFailure) {
        self.stats.failures_count += 1;
        let Some(instance) = self.instances.get_mut(&at.instance) else { return };
        let policy = retry_of(instance, at.index);
        let may_start = instance.may_start(at.index);
        let codes = &instance.program.steps[usize::from(at.index)].retry_on;
        let is_listed = codes.is_empty() || codes.contains(&attempt.failure.code);
        let task = &mut instance.tasks[usize::from(at.index)];
        if !is_listed || !attempt.is_retryable || task.attempt >= policy.max_attempts || !may_start {
            return self.fail_for_good(turn, at, attempt.failure, attempt.end);
        }
        let wait_ms = backoff_ms(&policy, task.attempt, turn.draw()).max(attempt.retry_after_ms.min(RETRY_AFTER_MS_MAX));
        let due = turn.now.plus_ms(wait_ms);
        task.timer = Some(self.timers.set(due, Timer::BackoffEnd(at)));
        task.next_attempt_at = Some(due);
        let reason = attempt.failure.line();
        task.failure = Some(attempt.failure);
        self.stats.retries_count += 1;
        self.with_instance(at.instance, |instance| instance.move_task(turn, at.index, State::BackingOff, Some(reason)));
    }

    /// A task ends badly.
    pub(super) fn fail_for_good(&mut self, turn: &mut Turn<'_>, at: TaskAt, failure: Failure, end: State) {
        let reason = failure.line();
        self.with_instance(at.instance, |instance| {
            instance.bytes += failure.message.len() as u64;
            instance.tasks[usize::from(at.index)].failure = Some(failure);
        });
        self.close_task(turn, at, end, Some(reason));
    }

    /// The worker of an attempt is gone: the task is placed again. The attempt counts: it may have had effects.
    pub(super) fn lose_attempt(&mut self, turn: &mut Turn<'_>, at: TaskAt) {
        let Some(instance) = self.instances.get_mut(&at.instance) else { return };
        let may_start = instance.may_start(at.index);
        let task = &mut instance.tasks[usize::from(at.index)];
        if task.status != State::Assigned {
            return;
        }
        self.timers.remove(task.timer.take());
        task.losses_count += 1;
        self.stats.losses_count += 1;
        if task.losses_count > TASK_LOSSES_MAX || !may_start {
            let message = format!("{} workers were lost while they ran it", task.losses_count);
            return self.fail_for_good(turn, at, Failure::new("worker_lost", &message), State::Failed);
        }
        self.next_attempt(turn, at, Some(Arc::from("its worker was lost")));
    }

    /// An attempt has taken too long. Its worker is told to stop, and another attempt may begin.
    pub(super) fn time_out_attempt(&mut self, turn: &mut Turn<'_>, at: TaskAt) {
        let Some(instance) = self.instances.get(&at.instance) else { return };
        if instance.tasks[usize::from(at.index)].status != State::Assigned {
            return;
        }
        let timeout_ms = instance.program.steps[usize::from(at.index)].timeout_ms;
        self.detach(turn, at);
        let failure = Failure::new("timed_out", &format!("no result within {timeout_ms} ms"));
        self.fail_attempt(turn, at, AttemptFailure { failure, is_retryable: true, retry_after_ms: 0, end: State::TimedOut });
    }

    /// Takes a task out of whatever holds it: its queue, its timer, its worker (who is told to stop).
    pub(super) fn detach(&mut self, turn: &mut Turn<'_>, at: TaskAt) {
        let Some(instance) = self.instances.get_mut(&at.instance) else { return };
        let task = &mut instance.tasks[usize::from(at.index)];
        self.timers.remove(task.timer.take());
        match task.status {
            State::Ready => self.unqueue(at),
            State::Running => self.stop_awaiting(turn, at),
            State::Assigned => {
                let fencing_token = task.token;
                if let Some(worker) = self.workers.cancel(fencing_token) {
                    turn.out.push(Effect::CancelTask { worker, task: at.id(), fencing_token });
                }
            }
            _ => {}
        }
    }

    fn unqueue(&mut self, at: TaskAt) {
        let Some(instance) = self.instances.get(&at.instance) else { return };
        self.queues.remove(instance.program.steps[usize::from(at.index)].class, queue_key(instance, at.index));
    }
}

/// The worker that ran what a task depends on; of several the one of what completed last.
fn near(instance: &Instance, index: u16) -> Option<WorkerId> {
    let step = &instance.program.steps[usize::from(index)];
    let before = step.depends_on.iter().map(|dependency| &instance.tasks[usize::from(*dependency)]);
    let completed = before.filter(|task| task.status == State::Completed && task.worker.is_some());
    completed.max_by_key(|task| task.ended_at)?.worker
}

/// What a task names itself with outwardly: stable over attempts, new when an operator has it done anew.
pub(super) fn default_key(at: TaskAt, rerun: u32) -> Arc<str> {
    match rerun {
        0 => Arc::from(at.id().to_string()),
        rerun => Arc::from(format!("{}-{rerun}", at.id())),
    }
}

/// Which tasks take turns with those of an instance.
pub(super) fn flow_of(instance: &Instance) -> FlowName {
    instance.flow.as_ref().map(|flow| Arc::new((instance.program.namespace.clone(), flow.key.clone())))
}

/// A task's place in its queue.
pub(super) fn queue_key(instance: &Instance, index: u16) -> QueueKey {
    let task = &instance.tasks[usize::from(index)];
    (Reverse(instance.program.steps[usize::from(index)].priority), task.turn, task.arrival)
}

/// The policy of a task: its own, else that of whatever started the instance, else one attempt.
pub(super) fn retry_of(instance: &Instance, index: u16) -> Retry {
    let step = &instance.program.steps[usize::from(index)];
    if step.has_rounds {
        // The tasks in it have the policy of whoever started the instance; its own attempts would multiply theirs.
        return step.retry.unwrap_or(Retry::NONE);
    }
    step.retry.or(instance.origin.retry.as_deref().copied()).unwrap_or(Retry::NONE)
}

/// The wait after the `attempt`th attempt failed: exponential, bounded, then widened by the jitter either way.
fn backoff_ms(policy: &Retry, attempt: u32, draw: u64) -> u64 {
    let mut wait_ms = u128::from(policy.initial_backoff_ms);
    let max_ms = u128::from(policy.max_backoff_ms);
    let multiplier = u128::from(policy.multiplier_permille.max(1_000));
    // Bounded by the doublings that reach the longest wait, not by the attempt: a multiplier of one never grows.
    for _ in 1..attempt {
        if wait_ms >= max_ms || multiplier == 1_000 || wait_ms == 0 {
            break;
        }
        wait_ms = (wait_ms * multiplier / 1_000).max(wait_ms + 1);
    }
    let wait_ms = wait_ms.min(max_ms);
    let width_ms = wait_ms * u128::from(policy.jitter_permille.min(1_000)) / 1_000;
    let drawn_ms = ((2 * width_ms + 1) * u128::from(draw)) >> 64;
    u64::try_from(wait_ms - width_ms + drawn_ms).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Retry =
        Retry { max_attempts: 9, initial_backoff_ms: 100, multiplier_permille: 2_000, max_backoff_ms: 1_000, jitter_permille: 200 };

    #[test]
    fn backoff_doubles_up_to_its_limit_and_the_middle_draw_is_the_wait_itself() {
        let waits: Vec<u64> = (1..=6).map(|attempt| backoff_ms(&POLICY, attempt, 1 << 63)).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
    }

    #[test]
    fn jitter_spreads_evenly_within_its_share() {
        assert_eq!((backoff_ms(&POLICY, 1, 0), backoff_ms(&POLICY, 1, u64::MAX)), (80, 120));
        assert_eq!((backoff_ms(&POLICY, 9, 0), backoff_ms(&POLICY, 9, u64::MAX)), (800, 1_200));
    }

    #[test]
    fn extreme_policies_end() {
        let slow = Retry { multiplier_permille: 1_001, initial_backoff_ms: 1, max_backoff_ms: u64::MAX, ..POLICY };
        assert!(backoff_ms(&slow, 1_000, 0) > 0);
        let huge = Retry { multiplier_permille: u32::MAX, initial_backoff_ms: u64::MAX, max_backoff_ms: u64::MAX, ..POLICY };
        assert_eq!(backoff_ms(&huge, u32::MAX, u64::MAX), u64::MAX);
        let zero = Retry { initial_backoff_ms: 0, ..POLICY };
        assert_eq!(backoff_ms(&zero, u32::MAX, 7), 0);
    }
}
