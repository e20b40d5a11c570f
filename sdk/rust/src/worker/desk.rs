//! The desk: what this worker has in hand, what it has finished, and what it says to whom. Pure: no sockets, no clock, no tasks of the runtime.
//!
//! In: what sessions and handlers report.  Out: an [`Outbox`] of frames per session, tasks to start and tasks to stop.
//! Invariant: at most `slots` tasks run at once.
//! Invariant: a result is kept until a leader says what became of it, or until its bound is reached.
//! Start reading at [`Desk::on_assignment`] and [`Desk::on_finished`].

use std::collections::{BTreeMap, VecDeque};

use distric_model::{Capacity, Elsewhere, Needs};
use distric_wire::task::{Credit, ReconcileReply, ResultOutcome, Status, TaskRef, TaskResult};
use distric_wire::{Message, TaskRefs};

use super::ledger::{Ledger, SessionId};
use super::room::Room;
use super::task::{Task, TaskKey, TaskOutcome};
use crate::dial::put_frame;

/// Most results kept for confirmation; beyond it the oldest is forgotten, and its task runs again.
pub const RESULTS_KEPT_MAX: usize = 4_096;
/// Most bytes of outputs kept for confirmation, as above; the newest is always kept.
pub const RESULTS_KEPT_BYTES_MAX: usize = 64 << 20;
/// How long until an unconfirmed result is sent again on the same session, milliseconds.
const RESULT_RESEND_MS: u64 = 5_000;
/// How long a new leader has to reconcile before unconfirmed results are sent unasked, milliseconds.
const RECONCILE_WAIT_MS: u64 = 1_000;

/// What the desk wants done.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Frames per session, in order.
    pub(super) frames: BTreeMap<SessionId, Vec<u8>>,
    /// Tasks to start.
    pub(super) starts: VecDeque<Box<Task>>,
    /// Tasks to stop; each is reported as finished nevertheless.
    pub(super) stops: Vec<TaskKey>,
    message_id: u64,
}

impl Outbox {
    fn send<'a, M: Message<'a>>(&mut self, session: SessionId, message: &M) {
        self.message_id += 1;
        put_frame(message, self.message_id, false, self.frames.entry(session).or_default());
    }
}

/// A task in hand.
#[derive(Debug)]
struct InHand {
    group: u32,
    attempt: u32,
    /// What it takes of the room.
    needs: Needs,
    /// The session on which it came still lives: its credit can go back with the result.
    is_current: bool,
    is_running: bool,
}

/// A result that no leader has confirmed.
#[derive(Debug)]
struct Kept {
    group: u32,
    attempt: u32,
    outcome: TaskOutcome,
    /// Its credit went to the leader with it, on the present session.
    renewed: bool,
    /// When it is to be sent again.
    due_ms: u64,
    /// Order of arrival.
    number: u64,
}

impl Kept {
    fn bytes(&self) -> usize {
        match &self.outcome {
            TaskOutcome::Completed(output) => output.len(),
            TaskOutcome::Failed(failure) => failure.message.len(),
            TaskOutcome::Returned(_) | TaskOutcome::NoRoom(_) => 0,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    slots: usize,
    /// Most tasks in hand; what a leader sends beyond it is returned.
    in_hand_max: usize,
    ledger: Ledger,
    room: Room,
    in_hand: BTreeMap<TaskKey, InHand>,
    /// Not yet started, in order of arrival.
    queued: VecDeque<Box<Task>>,
    running: usize,
    kept: BTreeMap<TaskKey, Kept>,
    kept_bytes: usize,
    results_count: u64,
    /// A leader drains this worker.
    drained_by_leader: bool,
    /// The process is about to end.
    stopping: bool,
    /// The turn's reading of a monotonic clock, milliseconds.
    pub(super) now_ms: u64,
}

impl Desk {
    pub(super) fn new(slots: u32, prefetch: u32, capacity: Capacity) -> Self {
        let budget = slots + prefetch;
        Self {
            slots: slots as usize,
            in_hand_max: 2 * budget as usize,
            ledger: Ledger::new(budget),
            room: Room::new(capacity),
            in_hand: BTreeMap::new(),
            queued: VecDeque::new(),
            running: 0,
            kept: BTreeMap::new(),
            kept_bytes: 0,
            results_count: 0,
            drained_by_leader: false,
            stopping: false,
            now_ms: 0,
        }
    }

    /// Tasks that run.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// Results that are not confirmed.
    /// Tasks that wait for a slot.
    pub(super) fn queued(&self) -> usize {
        self.queued.len()
    }

    pub(super) fn unconfirmed(&self) -> usize {
        self.kept.len()
    }

    fn is_draining(&self) -> bool {
        self.drained_by_leader || self.stopping
    }

    /// The leaders of exactly these groups, each with its term, answer on this session now, as it says.
    pub(super) fn on_groups(&mut self, session: SessionId, groups: &[(u32, u64)], out: &mut Outbox) {
        let (came, left) = self.ledger.attach(session, groups);
        self.part_from(&left);
        self.part_from(&came);
        self.settle(out);
        // What was told last may have been lost with the session before.
        for group in came.into_iter().filter(|group| self.room.has_told(*group)).collect::<Vec<_>>() {
            self.tell_room(group, out);
        }
    }

    /// A session is gone.
    pub(super) fn on_down(&mut self, session: SessionId, out: &mut Outbox) {
        let left = self.ledger.detach(session);
        self.part_from(&left);
        out.frames.remove(&session);
        self.settle(out);
    }

    /// The sessions of these groups ended: what was promised on them does not hold any more.
    fn part_from(&mut self, groups: &[u32]) {
        for task in self.in_hand.values_mut().filter(|task| groups.contains(&task.group)) {
            if std::mem::take(&mut task.is_current) {
                self.room.lapse(task.group, task.needs);
            }
        }
        for kept in self.kept.values_mut().filter(|kept| groups.contains(&kept.group)) {
            kept.due_ms = self.now_ms + RECONCILE_WAIT_MS;
            if std::mem::take(&mut kept.renewed) {
                self.ledger.unrenewed();
            }
        }
    }

    /// A leader assigned a task.
    pub(super) fn on_assignment(&mut self, task: Box<Task>, offered: bool, out: &mut Outbox) {
        let (key, group) = (task.key(), task.group);
        if self.in_hand.contains_key(&key) {
            return; // Dispatched again under the same token, which uses no further credit.
        }
        if self.kept.contains_key(&key) {
            return self.send_kept(key, out);
        }
        self.ledger.task_came(group);
        // An older attempt at the same task that still runs here is of no use any more.
        let older = TaskKey { task_id: key.task_id, fencing_token: 0 }..key;
        out.stops.extend(self.in_hand.range(older).filter(|(_, task)| task.is_running).map(|(key, _)| *key));
        let in_hand = InHand { group, attempt: task.context.attempt, needs: Needs::default(), is_current: true, is_running: false };
        self.in_hand.insert(key, in_hand);
        let refusal = if self.is_draining() {
            Some("the worker is draining".to_owned())
        } else if !offered {
            Some(format!("the worker has no handler for {:?}", task.context.task_type))
        } else if self.in_hand.len() > self.in_hand_max {
            Some(format!("the worker has {} tasks in hand already", self.in_hand_max))
        } else {
            None
        };
        let refusal = refusal.map(TaskOutcome::Returned).or_else(|| self.room.take(group, task.needs).err().map(TaskOutcome::NoRoom));
        match refusal {
            Some(outcome) => self.finish(key, outcome, out),
            None => {
                self.in_hand.get_mut(&key).expect("it was just put there").needs = task.needs;
                self.queued.push_back(task);
            }
        }
        self.start_queued(out);
        self.settle(out);
    }

    /// A handler ended, by itself or because it was stopped.
    pub(super) fn on_finished(&mut self, key: TaskKey, outcome: TaskOutcome, out: &mut Outbox) {
        if self.in_hand.get(&key).is_some_and(|task| task.is_running) {
            self.running -= 1;
            self.finish(key, outcome, out);
            self.start_queued(out);
            self.settle(out);
        }
    }

    /// A leader wants an attempt stopped. It is reported on nevertheless: its credit is in use until then.
    pub(super) fn on_cancel(&mut self, key: TaskKey, out: &mut Outbox) {
        match self.in_hand.get(&key) {
            Some(task) if task.is_running => out.stops.push(key),
            Some(_) => {
                self.queued.retain(|task| task.key() != key);
                self.finish(key, TaskOutcome::Returned("cancelled before it started".to_owned()), out);
                self.settle(out);
            }
            None => {}
        }
    }

    /// A leader says what became of a result.
    pub(super) fn on_result_ack(&mut self, key: TaskKey, out: &mut Outbox) {
        self.forget(key);
        self.settle(out);
    }

    /// A leader gave credit back.
    pub(super) fn on_credit_returned(&mut self, group: u32, amount: u32, out: &mut Outbox) {
        self.ledger.returned(group, amount);
        self.settle(out);
    }

    /// A leader reported work that waits.
    pub(super) fn on_backlog(&mut self, group: u32, ready: u32, out: &mut Outbox) {
        self.ledger.backlog(group, ready);
        self.settle(out);
    }

    /// A leader says which tasks it believes to be here: finished ones are reported again, running ones need no word, the others are unknown.
    pub(super) fn on_reconcile(&mut self, session: SessionId, group: u32, tasks: &[TaskKey], out: &mut Outbox) {
        let mut unknown = Vec::new();
        for key in tasks {
            if self.kept.contains_key(key) {
                self.send_kept(*key, out);
            } else if !self.in_hand.contains_key(key) {
                unknown.push(TaskRef { task_id: key.task_id, fencing_token: key.fencing_token });
            }
        }
        out.send(session, &ReconcileReply { group, unknown: TaskRefs::of(&unknown) });
    }

    /// A leader drains this worker, or ends that.
    pub(super) fn on_drain(&mut self, drain: bool, out: &mut Outbox) {
        self.drained_by_leader = drain;
        self.drain(out);
    }

    /// The process is about to end: takes no more, returns what has not started.
    pub(super) fn stop(&mut self, out: &mut Outbox) {
        self.stopping = true;
        self.drain(out);
    }

    /// The drain's deadline has passed: stops what still runs.
    pub(super) fn stop_running(&mut self, out: &mut Outbox) {
        out.stops.extend(self.in_hand.iter().filter(|(_, task)| task.is_running).map(|(key, _)| *key));
    }

    /// The heartbeat: tells the sessions how things are, and sends again what was not confirmed in time.
    pub(super) fn on_tick(&mut self, sessions: impl Iterator<Item = SessionId>, out: &mut Outbox) {
        self.ledger.forget_questions();
        let status = Status { running: self.running as u32, queued: self.queued.len() as u32, draining: self.is_draining() };
        for session in sessions {
            out.send(session, &status);
        }
        let due: Vec<TaskKey> = self.kept.iter().filter(|(_, kept)| kept.due_ms <= self.now_ms).map(|(key, _)| *key).collect();
        due.into_iter().for_each(|key| self.send_kept(key, out));
        self.settle(out);
    }

    fn drain(&mut self, out: &mut Outbox) {
        self.ledger.drain(self.is_draining());
        if self.is_draining() {
            for task in std::mem::take(&mut self.queued) {
                self.finish(task.key(), TaskOutcome::Returned("the worker is draining".to_owned()), out);
            }
        }
        self.settle(out);
    }

    fn start_queued(&mut self, out: &mut Outbox) {
        while self.running < self.slots
            && let Some(task) = self.queued.pop_front()
        {
            self.in_hand.get_mut(&task.key()).expect("what is queued is in hand").is_running = true;
            self.running += 1;
            out.starts.push_back(task);
        }
    }

    /// A task in hand becomes a result.
    fn finish(&mut self, key: TaskKey, outcome: TaskOutcome, out: &mut Outbox) {
        let task = self.in_hand.remove(&key).expect("only what is in hand can finish");
        // On a later session than the one it came on, the leader may have taken the lease away: credit left with such a result would be lost.
        let room = self.kept.len() < RESULTS_KEPT_MAX / 2;
        // What is returned takes its credit back, whatever the result says: renewed here, it would be nobody's.
        let is_returned = matches!(outcome, TaskOutcome::Returned(_) | TaskOutcome::NoRoom(_));
        let renewed = !is_returned && task.is_current && room && self.ledger.renews(task.group);
        self.ledger.task_left(task.group);
        self.room.leave(task.group, task.needs, task.is_current);
        if renewed {
            self.ledger.renewed(task.group);
        }
        self.results_count += 1;
        let kept = Kept { group: task.group, attempt: task.attempt, outcome, renewed, due_ms: self.now_ms, number: self.results_count };
        self.kept_bytes += kept.bytes();
        self.kept.insert(key, kept);
        self.send_kept(key, out);
        for group in self.room.outdated() {
            self.tell_room(group, out);
        }
        while self.kept.len() > RESULTS_KEPT_MAX || (self.kept_bytes > RESULTS_KEPT_BYTES_MAX && self.kept.len() > 1) {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.number).map(|(key, _)| *key).expect("there is more than one");
            tracing::warn!(task = %oldest.task_id, "too many unconfirmed results: the oldest is forgotten, its task will run again");
            self.forget(oldest);
        }
    }

    /// Sends a result, if its group has a session.
    fn send_kept(&mut self, key: TaskKey, out: &mut Outbox) {
        let Some(kept) = self.kept.get_mut(&key) else { return };
        let Some(session) = self.ledger.session_of(kept.group) else { return };
        kept.due_ms = self.now_ms + RESULT_RESEND_MS;
        let mut result = TaskResult {
            group: kept.group,
            task_id: key.task_id,
            attempt: kept.attempt,
            fencing_token: key.fencing_token,
            renew_credit: kept.renewed,
            ..TaskResult::default()
        };
        match &kept.outcome {
            TaskOutcome::Completed(output) => {
                result.outcome = ResultOutcome::Completed.number();
                result.output = Some(output);
            }
            TaskOutcome::Failed(failure) => {
                result.outcome = ResultOutcome::Failed.number();
                result.error_code = Some(&failure.code);
                result.error = Some(&failure.message);
                result.retryable = Some(failure.retryable);
                result.retry_after_ms = failure.retry_after_ms;
            }
            TaskOutcome::Returned(reason) => {
                result.outcome = ResultOutcome::Returned.number();
                result.error = Some(reason);
            }
            TaskOutcome::NoRoom(reason) => {
                result.outcome = ResultOutcome::Returned.number();
                result.error = Some(reason);
                // As it is now, also when this is sent again: whatever the group hears last must be true.
                let Elsewhere { number, taken } = self.room.tell(kept.group);
                result.elsewhere = Some(number);
                result.cpu_millis_elsewhere = Some(taken.cpu_millis);
                result.memory_mib_elsewhere = Some(taken.memory_mib);
            }
        }
        out.send(session, &result);
    }

    fn forget(&mut self, key: TaskKey) {
        if let Some(kept) = self.kept.remove(&key) {
            self.kept_bytes -= kept.bytes();
            if !kept.renewed {
                self.ledger.settled();
            }
        }
    }

    fn settle(&mut self, out: &mut Outbox) {
        for (group, amount) in self.ledger.settle() {
            let session = self.ledger.session_of(group).expect("the ledger speaks of groups with a session");
            out.send(session, &Credit { group, amount, ..Credit::default() });
        }
    }

    /// Tells a group what others take here now.
    fn tell_room(&mut self, group: u32, out: &mut Outbox) {
        let Some(session) = self.ledger.session_of(group) else { return };
        let Elsewhere { number, taken } = self.room.tell(group);
        out.send(
            session,
            &Credit {
                group,
                amount: 0,
                elsewhere: Some(number),
                cpu_millis_elsewhere: Some(taken.cpu_millis),
                memory_mib_elsewhere: Some(taken.memory_mib),
            },
        );
    }
}
