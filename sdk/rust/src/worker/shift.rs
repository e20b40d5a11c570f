//! The shift: the loop that runs handlers and carries words between sessions, handlers and the desk.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use distric_model::limits::TASK_OUTPUT_BYTES_MAX;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::desk::{Desk, Outbox};
use super::ledger::SessionId;
use super::roster::{Change, Roster};
use super::session::{self, Heard, Report};
use super::task::{Handlers, Task, TaskFailure, TaskKey, TaskOutcome};
use super::{Identity, WorkerOptions};
use crate::error::{ConnectionError, Error};

/// Reports of sessions that may wait; beyond it the sockets are not read.
const REPORTS_QUEUED_MAX: usize = 1_024;
/// Most reports taken in one turn, so that what they cause is sent together and soon.
const REPORTS_PER_TURN_MAX: usize = 256;
/// How long a worker that has finished waits for its last results to be confirmed, milliseconds.
const CONFIRM_WAIT_MS: u64 = 2_000;
/// Longest failure message that is sent, bytes.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// Runs a worker to its end; see [`super::WorkerBuilder::run`].
pub(super) async fn run(
    addresses: Vec<String>,
    options: WorkerOptions,
    identity: Identity,
    handlers: Handlers,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    if addresses.is_empty() {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "no address was given");
        return Err(ConnectionError::new("(none)", "connect to", source).into());
    }
    let desk = Desk::new(identity.slots, identity.prefetch, identity.capacity);
    let (options, identity) = (Arc::new(options), Arc::new(identity));
    let (reports, mut inbox) = mpsc::channel(REPORTS_QUEUED_MAX);
    // Dropped at the end of this function, which ends the sessions.
    let mut sessions: JoinSet<()> = JoinSet::new();
    let mut open: BTreeMap<SessionId, AbortHandle> = BTreeMap::new();

    let mut shift = Shift::new(desk, Roster::new(addresses), handlers);
    let mut heartbeat = interval(Duration::from_millis(options.heartbeat_ms.max(1)));
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shutdown = pin!(shutdown);
    let mut stage = Stage::Working;
    let mut batch = Vec::new();
    loop {
        for change in shift.roster.changes() {
            match change {
                Change::Open(id, address) => {
                    let session = session::run(id, address, options.clone(), identity.clone(), reports.clone());
                    open.insert(id, sessions.spawn(session));
                }
                Change::End(id) => open.remove(&id).iter().for_each(AbortHandle::abort),
            }
        }
        while sessions.try_join_next().is_some() {}
        let until = match stage {
            Stage::Working => None,
            Stage::Draining { until } | Stage::Confirming { until } => Some(until),
        };
        tokio::select! {
            biased;
            () = &mut shutdown, if matches!(stage, Stage::Working) => {
                shift.turn();
                shift.desk.stop(&mut shift.outbox);
                stage = Stage::Draining { until: Instant::now() + Duration::from_millis(options.drain_deadline_ms) };
            }
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => match stage {
                Stage::Confirming { .. } => return Ok(()),
                _ => {
                    shift.is_cut_off = true;
                    shift.desk.stop_running(&mut shift.outbox);
                    stage = Stage::Confirming { until: Instant::now() + Duration::from_millis(CONFIRM_WAIT_MS) };
                }
            },
            Some(joined) = shift.running.join_next_with_id() => {
                shift.turn();
                shift.on_joined(joined);
                while let Some(joined) = shift.running.try_join_next_with_id() {
                    shift.on_joined(joined);
                }
            }
            _ = inbox.recv_many(&mut batch, REPORTS_PER_TURN_MAX) => {
                shift.turn();
                for report in batch.drain(..) {
                    shift.on_report(report)?;
                }
            }
            _ = heartbeat.tick() => {
                shift.turn();
                shift.desk.on_tick(shift.sessions.keys().copied(), &mut shift.outbox);
            }
        }
        shift.flush();
        if let Some(gauge) = &options.gauge {
            gauge.set(shift.desk.running(), shift.desk.queued());
        }
        if matches!(stage, Stage::Draining { .. }) && shift.desk.running() == 0 {
            stage = Stage::Confirming { until: Instant::now() + Duration::from_millis(CONFIRM_WAIT_MS) };
        }
        if matches!(stage, Stage::Confirming { .. }) && shift.desk.running() == 0 && shift.desk.unconfirmed() == 0 {
            return Ok(());
        }
    }
}

enum Stage {
    Working,
    /// Running tasks may finish.
    Draining {
        until: Instant,
    },
    /// Results are sent; their confirmation is awaited.
    Confirming {
        until: Instant,
    },
}

struct Shift {
    desk: Desk,
    roster: Roster,
    outbox: Outbox,
    sessions: BTreeMap<SessionId, mpsc::Sender<Vec<u8>>>,
    handlers: Handlers,
    running: JoinSet<TaskOutcome>,
    keys: HashMap<Id, TaskKey>,
    stops: HashMap<TaskKey, AbortHandle>,
    started_at: Instant,
    /// The drain's deadline passed: what is stopped now would have gone on.
    is_cut_off: bool,
}

impl Shift {
    fn new(desk: Desk, roster: Roster, handlers: Handlers) -> Self {
        Self {
            desk,
            roster,
            outbox: Outbox::default(),
            sessions: BTreeMap::new(),
            handlers,
            running: JoinSet::new(),
            keys: HashMap::new(),
            stops: HashMap::new(),
            started_at: Instant::now(),
            is_cut_off: false,
        }
    }

    /// Begins a turn: the desk's clock is read once.
    fn turn(&mut self) {
        self.desk.now_ms = self.started_at.elapsed().as_millis() as u64;
    }

    fn on_report(&mut self, Report { session, what }: Report) -> Result<(), Error> {
        let (desk, out) = (&mut self.desk, &mut self.outbox);
        match what {
            Heard::Reached(node, answer) => {
                // Nobody waits for the answer of a session that was ended meanwhile.
                let _ = answer.send(self.roster.on_reached(session, node));
            }
            Heard::Up(chunks) => {
                self.sessions.insert(session, chunks);
            }
            Heard::Down => {
                self.sessions.remove(&session);
                desk.on_down(session, out);
                self.roster.on_down(session);
            }
            Heard::Refused(error) => return Err(error),
            Heard::Welcome(groups, coordinators) => {
                desk.on_groups(session, &groups, out);
                self.roster.on_coordinators(coordinators);
            }
            Heard::Assignment(task) => {
                let offered = self.handlers.contains_key(&task.context.task_type);
                desk.on_assignment(task, offered, out);
            }
            Heard::ResultAck(key) => desk.on_result_ack(key, out),
            Heard::CreditReturned { group, amount } => desk.on_credit_returned(group, amount, out),
            Heard::Backlog { group, ready } => desk.on_backlog(group, ready, out),
            Heard::Reconcile { group, tasks } => desk.on_reconcile(session, group, &tasks, out),
            Heard::Cancel(key) => desk.on_cancel(key, out),
            Heard::Drain(drain) => desk.on_drain(drain, out),
        }
        Ok(())
    }

    fn on_joined(&mut self, joined: Result<(Id, TaskOutcome), JoinError>) {
        let (id, outcome) = match joined {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => (error.id(), self.outcome_of(error)),
        };
        let key = self.keys.remove(&id).expect("every running handler was entered when it was started");
        self.stops.remove(&key);
        self.desk.on_finished(key, outcome, &mut self.outbox);
    }

    /// A handler that did not come to its own end.
    fn outcome_of(&self, error: JoinError) -> TaskOutcome {
        TaskOutcome::Failed(if error.is_panic() {
            TaskFailure::retryable("panic", cut(panic_text(&*error.into_panic())))
        } else if self.is_cut_off {
            TaskFailure::retryable("worker_stopped", "the worker ended before the task did")
        } else {
            TaskFailure::permanent("cancelled", "the attempt was cancelled")
        })
    }

    /// Carries out what the desk wants done.
    fn flush(&mut self) {
        let mut starts = std::mem::take(&mut self.outbox.starts);
        for task in starts.drain(..) {
            self.start(task);
        }
        self.outbox.starts = starts;
        for key in self.outbox.stops.drain(..) {
            if let Some(handle) = self.stops.get(&key) {
                handle.abort();
            }
        }
        for (session, frames) in std::mem::take(&mut self.outbox.frames) {
            // A session whose queue is full is stalled: without this sender it ends, and opens again.
            if self.sessions.get(&session).is_some_and(|chunks| chunks.try_send(frames).is_err()) {
                self.sessions.remove(&session);
            }
        }
    }

    fn start(&mut self, task: Box<Task>) {
        let key = task.key();
        let handler = self.handlers.get(&task.context.task_type).expect("the desk starts only what is offered").clone();
        let handle = self.running.spawn(async move {
            let Task { mut context, input, config, .. } = *task;
            let (input, config) = match (json(&input), json(&config)) {
                (Ok(input), Ok(config)) => (input, config),
                (Err(error), _) | (_, Err(error)) => return TaskOutcome::Failed(TaskFailure::permanent("bad_input", error.to_string())),
            };
            context.config = config;
            let timeout_ms = context.timeout_ms;
            let handled = handler(context, input);
            let result = if timeout_ms == 0 {
                handled.await
            } else {
                match timeout(Duration::from_millis(timeout_ms), handled).await {
                    Ok(result) => result,
                    Err(_) => Err(TaskFailure::retryable("timeout", format!("not done within {timeout_ms} ms"))),
                }
            };
            outcome(result)
        });
        self.keys.insert(handle.id(), key);
        self.stops.insert(key, handle);
    }
}

/// An absent document is null.
fn json(bytes: &[u8]) -> serde_json::Result<Value> {
    if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(bytes) }
}

fn outcome(result: Result<Value, TaskFailure>) -> TaskOutcome {
    match result {
        Ok(output) => {
            let output = output.to_string().into_bytes();
            if output.len() <= TASK_OUTPUT_BYTES_MAX {
                return TaskOutcome::Completed(output);
            }
            let message = format!("output of {} bytes exceeds task_output_bytes_max, {TASK_OUTPUT_BYTES_MAX}", output.len());
            TaskOutcome::Failed(TaskFailure::permanent("output_too_large", message))
        }
        Err(failure) => TaskOutcome::Failed(TaskFailure { code: cut(failure.code), message: cut(failure.message), ..failure }),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("the handler panicked").to_owned()
}

/// At most [`MESSAGE_BYTES_MAX`] bytes of it.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
    text
}
