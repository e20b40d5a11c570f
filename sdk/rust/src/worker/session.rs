//! A session: one connection of the worker to one coordinator, opened again whenever it breaks.
//!
//! In: bytes from the coordinator; frames to send.  Out: [`Report`]s to the shift, in the order of the connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use distric_wire::client::{GoAway, Ping, Pong, Rejection as WireRejection};
use distric_wire::task::{Assignment, Backlog, CancelTask, CreditReturned, Drain, Reconcile, ResultAck, WorkerHello, WorkerWelcome};
use distric_wire::{DecodeError, Frame, FrameLimits, Headers, Message, Strs};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use super::ledger::SessionId;
use super::task::{Task, TaskKey};
use super::{Identity, WorkerOptions};
use crate::backoff::Backoff;
use crate::dial::{Caller, Connection, PING_ID, answer_limits, dial, put_frame};
use crate::error::{ConnectionError, Error, ProtocolError, Rejection};

/// Chunks of frames that may wait for a slow coordinator before its session is given up; one chunk is what one turn made.
const CHUNKS_QUEUED_MAX: usize = 1_024;
/// Between two looks at an address whose node is reached by another session, milliseconds.
const STAND_ASIDE_MS: u64 = 5_000;
/// Message id of the WorkerHello.
const WORKER_HELLO_ID: u64 = 1 << 61;

/// What a session tells.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) session: SessionId,
    pub(super) what: Heard,
}

/// See [`Report`].
#[derive(Debug)]
pub(super) enum Heard {
    /// The connection is with this node; the answer is whether to introduce the worker there.
    Reached(Uuid, oneshot::Sender<bool>),
    /// The worker is being introduced; frames go here.
    Up(mpsc::Sender<Vec<u8>>),
    /// The connection is gone; another one is being made.
    Down,
    /// The coordinator refuses this worker for good.
    Refused(Error),
    /// Groups that are led there, each in which term (0: not said), and all coordinators: node and address.
    Welcome(Vec<(u32, u64)>, Vec<(Uuid, String)>),
    Assignment(Box<Task>),
    ResultAck(TaskKey),
    CreditReturned {
        group: u32,
        amount: u32,
    },
    Backlog {
        group: u32,
        ready: u32,
    },
    Reconcile {
        group: u32,
        tasks: Vec<TaskKey>,
    },
    Cancel(TaskKey),
    Drain(bool),
}

/// Keeps a session with `address` for as long as somebody takes its reports.
pub(super) async fn run(
    id: SessionId,
    address: String,
    options: Arc<WorkerOptions>,
    identity: Arc<Identity>,
    reports: mpsc::Sender<Report>,
) {
    let mut backoff = Backoff::new(options.backoff);
    loop {
        let caller = Caller { name: &options.name, api_key: options.api_key.as_deref(), compress: true };
        let failure = match dial(&address, caller, options.connect_timeout_ms).await {
            Ok(connection) => {
                let since = Instant::now();
                let session = Session { id, options: &options, identity: &identity, reports: &reports };
                let Ok(is_first) = session.ask(connection.welcome.node_id).await else { return };
                if !is_first {
                    tracing::debug!(address, node = %connection.welcome.node_id, "another address leads to this coordinator as well");
                    drop(connection);
                    sleep(Duration::from_millis(STAND_ASIDE_MS)).await;
                    continue;
                }
                let failure = session.serve(connection).await;
                if since.elapsed() > Duration::from_millis(options.backoff.backoff_ms_max) {
                    backoff.reset();
                }
                if reports.send(Report { session: id, what: Heard::Down }).await.is_err() {
                    return;
                }
                failure
            }
            Err(failure) => failure,
        };
        if let Error::Rejected(rejection) = &failure
            && !rejection.code.is_transient()
        {
            // Nobody listens any more only when the worker ends anyway.
            let _ = reports.send(Report { session: id, what: Heard::Refused(failure) }).await;
            return;
        }
        let retry_after_ms = failure.rejection().and_then(|rejection| rejection.retry_after_ms).unwrap_or(0);
        tracing::info!(address, why = %failure, "no session");
        sleep(backoff.next(retry_after_ms)).await;
    }
}

struct Session<'a> {
    id: SessionId,
    options: &'a WorkerOptions,
    identity: &'a Identity,
    reports: &'a mpsc::Sender<Report>,
}

impl Session<'_> {
    /// Drives one connection to its end; says why it ended.
    async fn serve(&self, connection: Connection) -> Error {
        let Connection { address, mut stream, mut frames, welcome } = connection;
        let failed = |op: &'static str, source| Error::from(ConnectionError::new(&address, op, source));
        let limits = answer_limits(&welcome);
        let (mut read, mut write) = stream.split();
        let mut hello = Vec::new();
        self.put_hello(&mut hello);
        if let Err(source) = write.write_all(&hello).await {
            return failed("write to", source);
        }
        let (chunks, mut queue) = mpsc::channel(CHUNKS_QUEUED_MAX);
        if self.tell(Heard::Up(chunks)).await.is_err() {
            return Error::Closed;
        }
        let keepalive = Duration::from_millis(self.options.keepalive_ms.max(2));
        let mut tick = interval(keepalive / 2);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard_at = Instant::now();
        let mut leave_at: Option<Instant> = None;
        let mut out: Vec<u8> = Vec::new();
        let mut written = 0;
        let mut scratch = Vec::new();
        loop {
            loop {
                let heard = match frames.next_frame() {
                    Ok(None) => break,
                    Ok(Some(frame)) => hear(&frame, limits, &mut scratch),
                    Err(error) => return ProtocolError::from(error).into(),
                };
                match heard {
                    Err(error) => return ProtocolError::from(error).into(),
                    Ok(Word::Report(what)) => {
                        if self.tell(what).await.is_err() {
                            return Error::Closed;
                        }
                    }
                    Ok(Word::Ping { token, id }) => put_frame(&Pong { token }, id, false, &mut out),
                    Ok(Word::GoAway { grace_ms }) => leave_at = Some(Instant::now() + Duration::from_millis(grace_ms)),
                    Ok(Word::Rejection { id, rejection }) if id == WORKER_HELLO_ID || rejection.code.ends_connection() => {
                        return Error::Rejected(Box::new(rejection));
                    }
                    Ok(Word::Rejection { rejection, .. }) => tracing::warn!(address, why = %rejection, "the coordinator refused a frame"),
                    Ok(Word::Nothing) => {}
                }
            }
            tokio::select! {
                biased;
                count = frames.fill(&mut read) => match count {
                    Ok(0) => return failed("read from", io::ErrorKind::UnexpectedEof.into()),
                    Ok(_) => heard_at = Instant::now(),
                    Err(source) => return failed("read from", source),
                },
                chunk = queue.recv(), if written == out.len() => match chunk {
                    Some(chunk) => (out, written) = (chunk, 0),
                    // The shift gave this session up: it did not take what was sent.
                    None => return failed("write to", io::ErrorKind::TimedOut.into()),
                },
                count = write.write(&out[written..]), if written < out.len() => match count {
                    Ok(count) => written += count,
                    Err(source) => return failed("write to", source),
                },
                now = tick.tick() => {
                    let silence = now.saturating_duration_since(heard_at);
                    if silence >= keepalive * 2 {
                        let why = format!("no sign of life for {} ms", silence.as_millis());
                        return failed("read from", io::Error::new(io::ErrorKind::TimedOut, why));
                    }
                    if silence >= keepalive {
                        put_frame(&Ping { token: 0 }, PING_ID, false, &mut out);
                    }
                    if leave_at.is_some_and(|at| at <= now) {
                        return failed("read from", io::Error::new(io::ErrorKind::ConnectionAborted, "the coordinator is going away"));
                    }
                }
            }
        }
    }

    /// Asks the shift whether this session is the one for the node.
    async fn ask(&self, node: Uuid) -> Result<bool, Error> {
        let (answer, answered) = oneshot::channel();
        self.tell(Heard::Reached(node, answer)).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)
    }

    async fn tell(&self, what: Heard) -> Result<(), mpsc::error::SendError<Report>> {
        self.reports.send(Report { session: self.id, what }).await
    }

    fn put_hello(&self, out: &mut Vec<u8>) {
        let task_types: Vec<&str> = self.identity.task_types.iter().map(String::as_str).collect();
        let hello = WorkerHello {
            worker_id: self.identity.worker_id.uuid(),
            generation: self.identity.generation,
            name: &self.options.name,
            slots: self.identity.slots,
            prefetch: self.identity.prefetch,
            cpu_millis: self.identity.capacity.cpu_millis,
            memory_mib: self.identity.capacity.memory_mib,
            task_types: Strs::of(&task_types),
            labels: Headers::of_owned(&self.options.labels),
        };
        put_frame(&hello, WORKER_HELLO_ID, false, out);
    }
}

/// What a frame means here.
enum Word {
    Report(Heard),
    Ping { token: u64, id: u64 },
    GoAway { grace_ms: u64 },
    Rejection { id: u64, rejection: Rejection },
    Nothing,
}

fn hear(frame: &Frame<'_>, limits: FrameLimits, scratch: &mut Vec<u8>) -> Result<Word, DecodeError> {
    let payload = frame.decompressed(scratch, limits)?;
    let id = frame.header.message_id;
    let heard = match frame.header.message_type {
        WorkerWelcome::TYPE => {
            let welcome = WorkerWelcome::decode(payload)?;
            // What is no node's id comes from a later version, and is left to it.
            let coordinators = welcome.coordinators.iter().filter_map(|(node, address)| Some((node.parse().ok()?, address.to_owned())));
            let terms = welcome.terms.iter().chain(std::iter::repeat(0));
            Heard::Welcome(welcome.groups.iter().zip(terms).collect(), coordinators.collect())
        }
        Assignment::TYPE => Heard::Assignment(Box::new(Task::of_wire(&Assignment::decode(payload)?))),
        ResultAck::TYPE => {
            let ack = ResultAck::decode(payload)?;
            // Whatever the verdict: the leader has looked at it, and will not look again.
            Heard::ResultAck(TaskKey { task_id: ack.task_id, fencing_token: ack.fencing_token })
        }
        CreditReturned::TYPE => {
            let CreditReturned { group, amount } = CreditReturned::decode(payload)?;
            Heard::CreditReturned { group, amount }
        }
        Backlog::TYPE => {
            let Backlog { group, ready } = Backlog::decode(payload)?;
            Heard::Backlog { group, ready }
        }
        Reconcile::TYPE => {
            let reconcile = Reconcile::decode(payload)?;
            let tasks = reconcile.tasks.iter().map(|task| TaskKey { task_id: task.task_id, fencing_token: task.fencing_token }).collect();
            Heard::Reconcile { group: reconcile.group, tasks }
        }
        CancelTask::TYPE => {
            let CancelTask { task_id, fencing_token } = CancelTask::decode(payload)?;
            Heard::Cancel(TaskKey { task_id, fencing_token })
        }
        Drain::TYPE => Heard::Drain(Drain::decode(payload)?.drain),
        Ping::TYPE => return Ok(Word::Ping { token: Ping::decode(payload)?.token, id }),
        GoAway::TYPE => return Ok(Word::GoAway { grace_ms: GoAway::decode(payload)?.grace_ms }),
        WireRejection::TYPE => return Ok(Word::Rejection { id, rejection: Rejection::of_wire(&WireRejection::decode(payload)?) }),
        // A pong, or a message of a later version.
        _ => return Ok(Word::Nothing),
    };
    Ok(Word::Report(heard))
}
