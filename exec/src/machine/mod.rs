//! The replicated machine of one work group: messages, instances, tasks, placement, workers, timers, dedupe, outbox.
//!
//! In: a [`Command`] with its [`Context`].  Out: [`Effect`]s.  Never: clocks, random numbers, unordered iteration, panics on what a
//! command contains.
//! Invariant: `digest()` is equal on all replicas that applied the same entries, whoever consumed their effects.
//! Start reading at [`Machine::apply`]: it only directs traffic. Then `ingest`, `instances`, `tasks`, in the order of a message's life.

pub mod admission;
pub mod busy;
mod checkpoint;
mod compensation;
mod control;
mod dedupe;
mod digest;
pub mod effects;
mod endings;
mod families;
mod history;
mod incidents;
mod ingest;
mod instances;
mod joins;
mod loops;
mod operations;
mod outbox;
mod outputs;
mod placement;
mod programs;
mod queries;
mod queue;
mod rendering;
mod retention;
mod rounds;
mod schedules;
mod scopes;
pub mod settings;
mod signals;
mod state;
pub mod stats;
mod tasks;
mod timers;
mod turn;
mod undo;
pub mod views;
mod why;
mod workers;

use std::sync::Arc;

use distric_model::{GroupId, InstanceId, MessageId, Namespace, TaskId, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};

use self::admission::gates::Gates;
use self::checkpoint::record::TextKind;
pub use self::checkpoint::record::{CHECKPOINT_FORMAT, RestoreError};
use self::checkpoint::tracked::{Tracked, TrackedQueue};
use self::dedupe::{Dedupe, Key};
pub use self::effects::{Assignment, Effect, Event, InResult, Out, OutBody, Published, Refusal, RefusalCode, Reply, Sent, Verdict};
pub use self::families::{FAMILY_BYTES_MAX, FAMILY_TASKS_MAX};
pub use self::history::HISTORY_ENTRIES_MAX;
use self::incidents::Incidents;
pub use self::ingest::ACTIONS_PER_MESSAGE_MAX;
use self::ingest::Message;
use self::instances::{Failure, Instance, Task, TaskAt};
use self::loops::{Loops, RoundKey};
pub use self::outbox::IN_AHEAD_MAX;
use self::outbox::{Inbox, Outbox};
use self::placement::Queues;
pub use self::programs::PROGRAMS_MAX;
use self::programs::Programs;
pub use self::queries::{InstanceFilter, PAGE_ITEMS_MAX, PAGE_SCAN_MAX, ROUNDS_NAMED_MAX, TaskFilter};
pub use self::queue::PASSED_OVER_MAX;
use self::retention::Retention;
pub use self::retention::{FORGOTTEN_PER_ENTRY_MAX, SWEEP_GRANULARITY_MS};
use self::schedules::Schedules;
pub use self::schedules::{SCHEDULE_GRACE_MS, SCHEDULE_RUNS_MADE_UP_MAX, schedule_slot};
pub use self::settings::{DefaultStrategy, Settings};
use self::signals::Signals;
pub use self::signals::{SIGNAL_TTL_MS_DEFAULT, SIGNAL_TTL_MS_MAX, SIGNALS_PER_KEY_MAX, SignalKey};
use self::state::State;
pub use self::stats::Stats;
pub use self::tasks::{RETRY_AFTER_MS_MAX, TASK_LOSSES_MAX};
use self::timers::{Timer, Timers};
pub use self::turn::TRANSITIONS_PER_ENTRY_MAX;
use self::turn::Turn;
use self::views::WorkerView;
pub use self::workers::{CREDIT_PER_WORKER_MAX, WORKER_LABELS_MAX, WORKER_TASK_TYPES_MAX, WORKERS_MAX};
use self::workers::{Lease, Workers};
use crate::command::{Cancel, Command, WorkerCredit, WorkerUp};

/// The machine version that a new group has.
pub const MACHINE_VERSION_FIRST: u32 = 1;
/// The greatest machine version that this build can follow.
pub const MACHINE_VERSION_MAX: u32 = 1;

/// Where in the log a command stands, and what its leader added to it. Everything unpredictable that apply may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The entry's log index, from 1.
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
    version: u32,
    applied_index: u64,
    now: Timestamp,
    programs: Programs,
    messages: Tracked<MessageId, Message>,
    instances: Tracked<InstanceId, Instance>,
    open_count: usize,
    queues: Queues,
    workers: Workers,
    timers: Timers,
    dedupe: Dedupe,
    outbox: Outbox,
    inbox: Inbox,
    signals: Signals,
    gates: Gates,
    schedules: Schedules,
    /// Derived from the instances.
    incidents: Incidents,
    /// How far tasks with a body have come.
    loops: Loops,
    retention: Retention,
    /// What is left to do, in order. Drained by every entry as far as its bound allows.
    errands: TrackedQueue<Errand>,
    /// A tick could not fire or forget all that was due.
    is_tick_unfinished: bool,
    state_bytes: u64,
    /// Texts of forgotten instances that the last checkpoint has in records of their own.
    texts_gone: Vec<(InstanceId, TextKind, u16)>,
    stats: Stats,
}

/// A unit of work inside the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Errand {
    /// An instance begins.
    Begin(InstanceId),
    /// A task's dependencies have changed.
    Consider(TaskAt),
    /// A worker has free credit.
    Serve(WorkerId),
    /// An attempt is lost with its worker.
    Lose { task: TaskAt, token: u64 },
    /// A gate may let more in.
    Advance(u64),
    /// A task with a body may go on.
    Round(TaskAt),
    /// A child ends before its time.
    Stop(InstanceId),
    /// A child is paused with its parent.
    Pause(InstanceId),
    /// A child goes on with its parent.
    Resume(InstanceId),
    /// The children of an instance go into retention, those behind a round.
    Retire { parent: InstanceId, after: Option<RoundKey> },
}

impl Machine {
    /// An empty machine. All replicas of a group start with the same settings.
    pub fn new(group: GroupId, settings: Settings) -> Self {
        Self {
            group,
            settings,
            version: MACHINE_VERSION_FIRST,
            applied_index: 0,
            now: Timestamp::default(),
            programs: Programs::default(),
            messages: Tracked::default(),
            instances: Tracked::default(),
            open_count: 0,
            queues: Queues::default(),
            workers: Workers::default(),
            timers: Timers::default(),
            dedupe: Dedupe::default(),
            outbox: Outbox::default(),
            inbox: Inbox::default(),
            signals: Signals::default(),
            gates: Gates::default(),
            schedules: Schedules::default(),
            incidents: Incidents::default(),
            loops: Loops::default(),
            retention: Retention::default(),
            errands: TrackedQueue::default(),
            is_tick_unfinished: false,
            state_bytes: 0,
            texts_gone: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// Applies one committed entry; effects are appended to `out`. Total: any command is legal at any time.
    ///
    /// An entry at or below [`Self::applied_index`] has been applied and is skipped.
    /// Shape: at most about [`TRANSITIONS_PER_ENTRY_MAX`] transitions; what is left waits for a `Continue` ([`Self::wants_continue`]).
    pub fn apply(&mut self, at: Context, command: Command, out: &mut Vec<Effect>) {
        if at.index <= self.applied_index {
            return;
        }
        self.applied_index = at.index;
        self.now = self.now.max(at.stamp);
        self.stats.commands_count += 1;
        let turn = &mut Turn::new(at, self.now, out);
        match command {
            Command::Define(define) => {
                let reply = self.programs.define(define, at.index, &mut self.queues);
                turn.reply(reply);
            }
            Command::Ingest(ingest) => {
                let reply = self.ingest(turn, *ingest);
                turn.reply(reply);
            }
            Command::Start(start) => {
                let reply = self.start(turn, *start);
                turn.reply(reply);
            }
            Command::TaskDone(done) => self.apply_task_done(turn, *done),
            Command::WorkerUp(up) => self.apply_worker_up(&up),
            Command::WorkerCredit(credit) => self.apply_worker_credit(turn, credit),
            Command::WorkerDown(down) => {
                let lost = self.workers.close(down.worker, down.generation, self.now);
                self.lose_leases(lost);
            }
            Command::WorkerDrain(drain) => {
                if self.workers.drain(drain.worker, drain.drain) {
                    self.errands.push_back(Errand::Serve(drain.worker));
                }
            }
            Command::WorkerLoad(load) => self.stats.commands_ignored_count += u64::from(!self.workers.set_busy(load)),
            Command::Tick => self.is_tick_unfinished = true,
            Command::Continue | Command::Noop => {}
            Command::In(record) => self.apply_in(turn, *record),
            Command::OutAck(ack) => self.apply_out_ack(turn, ack),
            Command::Cancel(cancel) => self.apply_cancel(turn, &cancel),
            Command::Signal(signal) => {
                let reply = self.signal(turn, *signal);
                turn.reply(reply);
            }
            Command::Operate(operate) => {
                let reply = self.apply_operate(turn, *operate);
                turn.reply(reply);
            }
            Command::Relay(relay) => self.apply_relay(turn, *relay),
            Command::Schedule(schedule) => self.apply_schedule(turn, &schedule),
            Command::RaiseVersion(version) => self.version = self.version.max(version),
            Command::Configure(settings) => {
                self.settings = settings;
                // Smaller bounds on history take effect now.
                self.is_tick_unfinished = true;
            }
        }
        self.run_errands(turn);
        if self.is_tick_unfinished {
            self.fire_timers(turn);
        }
        self.stats.transitions_count += turn.transitions as u64;
        self.stats.continues_count += u64::from(self.wants_continue());
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

    /// The replicated machine version. Above [`MACHINE_VERSION_MAX`] this build must not apply another entry.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The replicated settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// When a `Tick` is wanted, in machine time; `None` while nothing waits for time.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.timers.next_due().into_iter().chain(self.next_sweep()).min()
    }

    /// Whether work is left for a `Continue`.
    pub fn wants_continue(&self) -> bool {
        self.is_tick_unfinished || !self.errands.is_empty()
    }

    /// Whether the version is defined here, so that messages may start it.
    pub fn has_definition(&self, namespace: &Namespace, workflow: &str, version: u64) -> bool {
        self.programs.get(namespace, workflow, version).is_some()
    }

    /// What a send under this key is answered, when the key is remembered: the first outcome, or a conflict.
    pub fn recall(&self, namespace: &Namespace, idempotency_key: &str, payload_hash: u64) -> Option<Reply> {
        self.dedupe.recall(&Key::new(namespace, &Arc::from(idempotency_key)), payload_hash)
    }

    /// The attempts that a worker should have, by token: for a new leader to ask it about.
    pub fn assigned_to(&self, worker: WorkerId) -> Vec<(TaskId, u64)> {
        let leases = self.workers.leases_on(worker).filter(|(_, lease)| !lease.is_cancelled);
        leases.map(|(token, lease)| (lease.task.id(), token)).collect()
    }

    /// The attempts that a worker should stop and has not reported on, by token: for a new leader to tell it again.
    pub fn cancelled_on(&self, worker: WorkerId) -> Vec<(TaskId, u64)> {
        let leases = self.workers.leases_on(worker).filter(|(_, lease)| lease.is_cancelled);
        leases.map(|(token, lease)| (lease.task.id(), token)).collect()
    }

    /// The assignment of a task again, under the same token; `None` when no worker should have that attempt (any more).
    pub fn redispatch(&self, task: TaskId, fencing_token: u64) -> Option<Box<Assignment>> {
        let lease = self.workers.lease_of(fencing_token)?;
        if lease.is_cancelled || lease.task.id() != task {
            return None;
        }
        self.assignment(lease.task).map(Box::new)
    }

    /// The outbox records that are not acknowledged, by number: for a new leader to deliver again.
    pub fn pending_out(&self) -> impl Iterator<Item = &Arc<Out>> {
        self.outbox.iter()
    }

    /// The workers that this group knows, by id.
    pub fn workers_view(&self) -> Vec<WorkerView> {
        self.workers.views()
    }

    /// Which run of a worker's process this group knows.
    pub fn worker_generation(&self, worker: WorkerId) -> Option<u64> {
        self.workers.get(worker).map(|known| known.generation)
    }

    /// How busy this group holds the computer of a run of a worker to be; `None`: that run is not up.
    pub fn worker_busy(&self, worker: WorkerId, generation: u64) -> Option<u8> {
        self.workers.get(worker).filter(|known| known.is_up && known.generation == generation).map(|known| known.busy)
    }

    /// Tasks that are ready and have no worker: what a leader reports to workers as its backlog.
    pub fn ready_backlog(&self) -> u32 {
        u32::try_from(self.queues.ready_count()).unwrap_or(u32::MAX)
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        Stats {
            instances_open: self.open_count as u64,
            instances_finished: self.retention.finished_count(),
            messages_held: self.messages.len() as u64,
            tasks_ready: self.queues.ready_count() as u64,
            tasks_assigned: self.workers.leases_count() as u64,
            workers_up: self.workers.up_count() as u64,
            timers: self.timers.len() as u64,
            out_pending: self.outbox.len() as u64,
            signals_awaited: self.signals.counts().0 as u64,
            signals_kept: self.signals.counts().1 as u64,
            incidents_open: self.incidents.len() as u64,
            schedules: self.schedules.len() as u64,
            keys_open: self.gates.counts().0 as u64,
            starts_waiting: self.gates.counts().1,
            dedupe_keys: self.dedupe.len() as u64,
            state_bytes: self.held_bytes(),
            ..self.stats
        }
    }

    /// A hash of the whole replicated state; equal on replicas that applied the same entries. Walks the whole state.
    pub fn digest(&self) -> u64 {
        digest::digest(self)
    }

    fn apply_worker_up(&mut self, up: &WorkerUp) {
        let lost = self.workers.open(up, self.now);
        self.lose_leases(lost);
    }

    fn apply_worker_credit(&mut self, turn: &mut Turn<'_>, credit: WorkerCredit) {
        let WorkerCredit { worker, generation, amount, elsewhere } = credit;
        if let Some(elsewhere) = elsewhere.filter(|_| self.workers.get(worker).is_some_and(|known| known.generation == generation))
            && self.workers.tell_elsewhere(worker, elsewhere)
        {
            self.errands.push_back(Errand::Serve(worker));
        }
        match self.workers.change_credit(worker, generation, amount) {
            None => self.stats.commands_ignored_count += 1,
            Some(_) if amount >= 0 => self.errands.push_back(Errand::Serve(worker)),
            Some(amount) => turn.out.push(Effect::CreditReturned { worker, amount }),
        }
    }

    fn lose_leases(&mut self, lost: Option<Vec<(u64, Lease)>>) {
        self.stats.commands_ignored_count += u64::from(lost.is_none());
        let live = lost.into_iter().flatten().filter(|(_, lease)| !lease.is_cancelled);
        self.errands.extend(live.map(|(token, lease)| Errand::Lose { task: lease.task, token }));
    }

    fn apply_cancel(&mut self, turn: &mut Turn<'_>, cancel: &Cancel) {
        let refused = |code, reason: String| Reply::Refused(Refusal { code, reason, limit: None, retry_after_ms: None });
        let instance = self.instances.get(&cancel.instance).filter(|instance| instance.program.namespace == cancel.namespace);
        let reply = match instance {
            None => refused(RefusalCode::NotFound, format!("there is no instance {}", cancel.instance)),
            Some(instance) if instance.status.is_end() => {
                refused(RefusalCode::Conflict, format!("the instance has ended: {}", instance.status.as_str()))
            }
            Some(_) => {
                self.end_early(turn, cancel.instance, State::Cancelled, Failure::new("cancelled", &cancel.reason));
                Reply::Done
            }
        };
        turn.reply(reply);
    }

    fn run_errands(&mut self, turn: &mut Turn<'_>) {
        while !turn.is_spent() {
            let Some(errand) = self.errands.pop_front() else { return };
            // An errand that turns out to be void costs as well: the bound is on work, not on luck.
            turn.transitions += 1;
            match errand {
                Errand::Begin(instance) => self.begin(turn, instance),
                Errand::Consider(task) => self.consider(turn, task),
                Errand::Serve(worker) => self.serve(turn, worker),
                Errand::Advance(gate) => self.advance(turn, gate),
                Errand::Lose { task, token } => {
                    if self.task_mut(task).is_some_and(|task| task.token == token) {
                        self.lose_attempt(turn, task);
                    }
                }
                Errand::Round(task) => self.go_round(turn, task),
                Errand::Stop(child) => self.stop_child(turn, child),
                Errand::Pause(child) => self.pause_child(turn, child),
                Errand::Resume(child) => self.resume_child(turn, child),
                Errand::Retire { parent, after } => self.retire(turn, parent, after),
            }
        }
    }

    /// Fires what is due and forgets what may be forgotten, within the bound of the entry.
    fn fire_timers(&mut self, turn: &mut Turn<'_>) {
        while !turn.is_spent() {
            let Some(timer) = self.timers.fire(turn.now) else {
                self.is_tick_unfinished = self.sweep();
                return;
            };
            turn.transitions += 1;
            match timer {
                Timer::Begin(id) => {
                    if let Some(instance) = self.instances.get_mut(&id) {
                        instance.timer = None;
                    }
                    self.errands.push_back(Errand::Begin(id));
                }
                Timer::InstanceTimeout(instance) => {
                    let failure = Failure::new("timed_out", "the workflow took longer than its limit");
                    self.end_early(turn, instance, State::TimedOut, failure);
                }
                Timer::AttemptTimeout(task) => self.time_out_attempt(turn, task),
                Timer::BackoffEnd(task) => {
                    if self.task_mut(task).is_some_and(|task| task.status == State::BackingOff) {
                        self.next_attempt(turn, task, None);
                    }
                }
                Timer::WaitEnd(task) => self.end_wait(turn, task),
                Timer::Gate(gate) => self.gate_due(turn, gate),
                Timer::Schedule(number) => self.schedule_due(turn, number),
            }
            self.run_errands(turn);
        }
    }

    /// Bytes of state by this room's own accounting; remembered keys have an account of their own.
    fn held_bytes(&self) -> u64 {
        self.state_bytes + self.programs.bytes()
    }

    fn task_mut(&mut self, at: TaskAt) -> Option<&mut Task> {
        self.instances.get_mut(&at.instance)?.tasks.get_mut(usize::from(at.index))
    }
}

/// The replicated state in one canonical order: what `digest` walks. Counters and what is derived from the state are left out.
impl Serialize for Machine {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let log = (self.group, self.version, self.applied_index, self.now, &self.settings, self.state_bytes);
        let work = (&self.programs, &self.messages, &self.instances, &self.retention, &self.errands, self.is_tick_unfinished);
        let rest = (&self.queues, &self.workers, &self.timers, &self.dedupe, &self.outbox, &self.inbox, &self.signals);
        let rest = (rest, &self.gates, &self.schedules, &self.loops);
        (log, work, rest).serialize(serializer)
    }
}
