//! A link: the background task that owns one connection, and the handle through which callers reach it.
//!
//! The task reads, takes jobs from the queue and writes, once each per turn; when the connection breaks it makes a new one and sends again what was
//! unanswered. It ends when the last handle is gone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::tcp::WriteHalf;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::backoff::Backoff;
use crate::dial::{Caller, Connection, Welcome, answer_limits, dial};
use crate::error::{ConnectionError, Error, ProtocolError};
use crate::job::{Job, Request, Settled, Subscription, Work};
use crate::options::{ClientOptions, LARGE_REQUEST_BYTES, LARGE_REQUESTS_BYTES_MAX};
use crate::pipeline::{Heard, Pipeline};

/// Whether the link has a connection now.
#[derive(Clone, Debug)]
pub(crate) enum LinkState {
    Up(Arc<Welcome>),
    /// Not now, and why.
    Down {
        last: Arc<Welcome>,
        why: Arc<str>,
    },
}

/// The caller's end. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    jobs: mpsc::Sender<Job>,
    state: watch::Receiver<LinkState>,
    large: Arc<Semaphore>,
}

impl Link {
    /// Connects to the first of `addresses` that welcomes this client, and starts the task.
    ///
    /// Errors: those of the last address, when none does.
    pub(crate) async fn open(options: Arc<ClientOptions>, addresses: Vec<String>) -> Result<Self, Error> {
        let no_address = || io::Error::new(io::ErrorKind::InvalidInput, "no address was given");
        let mut failure = Error::from(ConnectionError::new("(none)", "connect to", no_address()));
        for (index, address) in addresses.iter().enumerate() {
            match dial(address, caller(&options), options.connect_timeout_ms).await {
                Ok(connection) => return Ok(Self::start(options, addresses, index, connection)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn start(options: Arc<ClientOptions>, addresses: Vec<String>, index: usize, connection: Connection) -> Self {
        let (jobs, queue) = mpsc::channel(options.queue_depth_max.max(1));
        let welcome = Arc::new(connection.welcome.clone());
        let (state, watcher) = watch::channel(LinkState::Up(welcome.clone()));
        let backoff = Backoff::new(options.retry.backoff);
        let task =
            LinkTask { options, addresses, next: index + 1, queue, state, welcome, pipeline: Pipeline::new(), backoff, batch: Vec::new() };
        tokio::spawn(task.run(connection));
        Self { jobs, state: watcher, large: Arc::new(Semaphore::new(LARGE_REQUESTS_BYTES_MAX)) }
    }

    /// Sends work and waits for its end, over reconnects. Errors: `Closed`, when the task is gone.
    pub(crate) async fn ask(&self, work: Work, resend: bool) -> Result<Settled, Error> {
        let bytes = work.frame_bytes(resend);
        let share = if bytes > LARGE_REQUEST_BYTES {
            let permits = bytes.min(LARGE_REQUESTS_BYTES_MAX) as u32;
            Some(self.large.clone().acquire_many_owned(permits).await.map_err(|_| Error::Closed)?)
        } else {
            None
        };
        let (reply, settled) = oneshot::channel();
        self.jobs.send(Job::Request(Request { work, resend, sends: 0, reply, _share: share })).await.map_err(|_| Error::Closed)?;
        settled.await.map_err(|_| Error::Closed)
    }

    /// Asks for events; they come through the subscription's own channel. Errors: `Closed`.
    pub(crate) async fn subscribe(&self, subscription: Subscription) -> Result<(), Error> {
        self.jobs.send(Job::Subscribe(subscription)).await.map_err(|_| Error::Closed)
    }

    /// What the server said last when it welcomed this link.
    pub(crate) fn welcome(&self) -> Arc<Welcome> {
        match &*self.state.borrow() {
            LinkState::Up(welcome) | LinkState::Down { last: welcome, .. } => welcome.clone(),
        }
    }

    /// Why there is no connection, when there is none.
    pub(crate) fn down(&self) -> Option<String> {
        match &*self.state.borrow() {
            LinkState::Up(_) => None,
            LinkState::Down { why, .. } => Some(why.to_string()),
        }
    }
}

fn caller(options: &ClientOptions) -> Caller<'_> {
    Caller { name: &options.name, api_key: options.api_key.as_deref(), compress: true }
}

/// Why serving a connection ended.
enum End {
    /// The last handle is gone.
    Unused,
    /// The server asked to leave, and everything is answered or its patience is over.
    GoAway,
    Lost(Error),
}

struct LinkTask {
    options: Arc<ClientOptions>,
    addresses: Vec<String>,
    /// Which address to try next, modulo their number.
    next: usize,
    queue: mpsc::Receiver<Job>,
    state: watch::Sender<LinkState>,
    welcome: Arc<Welcome>,
    pipeline: Pipeline,
    backoff: Backoff,
    batch: Vec<Job>,
}

impl LinkTask {
    async fn run(mut self, first: Connection) {
        let mut connection = Some(first);
        loop {
            if let Some(connection) = connection.take() {
                let address = connection.address.clone();
                let since = Instant::now();
                let why = match self.serve(connection).await {
                    End::Unused => return,
                    End::GoAway => format!("{address} is going away"),
                    End::Lost(error) => error.to_string(),
                };
                tracing::info!(address, why, "connection lost");
                if since.elapsed() > Duration::from_millis(self.options.retry.backoff.backoff_ms_max) {
                    self.backoff.reset();
                }
                self.pipeline.lost(self.options.retry.attempts_max);
                self.down(&why);
            }
            sleep(self.backoff.next(0)).await;
            if !self.keep_waiting() {
                return;
            }
            let address = self.addresses[self.next % self.addresses.len()].clone();
            self.next = (self.next + 1) % self.addresses.len();
            match dial(&address, caller(&self.options), self.options.connect_timeout_ms).await {
                Ok(welcomed) => {
                    self.welcome = Arc::new(welcomed.welcome.clone());
                    self.state.send_replace(LinkState::Up(self.welcome.clone()));
                    connection = Some(welcomed);
                }
                Err(error) => self.down(&error.to_string()),
            }
        }
    }

    fn down(&self, why: &str) {
        self.state.send_replace(LinkState::Down { last: self.welcome.clone(), why: why.into() });
    }

    /// Drops what nobody waits for any more; `false` when no handle is left.
    fn keep_waiting(&mut self) -> bool {
        self.pipeline.forget_abandoned();
        while self.pipeline.held_len() < self.options.queue_depth_max {
            match self.queue.try_recv() {
                Ok(job) if job.is_abandoned() => {}
                Ok(job) => self.pipeline.hold(job),
                Err(mpsc::error::TryRecvError::Empty) => return true,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
        true
    }

    /// Drives one connection to its end.
    async fn serve(&mut self, connection: Connection) -> End {
        let Connection { address, mut stream, mut frames, welcome } = connection;
        let failed = |op: &'static str, source| End::Lost(ConnectionError::new(&address, op, source).into());
        let limits = answer_limits(&welcome);
        self.pipeline.open(&welcome);
        let (mut read, write) = stream.split();
        let keepalive = Duration::from_millis(self.options.keepalive_ms.max(2));
        let mut tick = interval(keepalive / 2);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard_at = Instant::now();
        let mut leave_at: Option<Instant> = None;
        loop {
            self.pipeline.now = Instant::now();
            loop {
                match frames.next_frame() {
                    Ok(None) => break,
                    Err(error) => return End::Lost(ProtocolError::from(error).into()),
                    Ok(Some(frame)) => match self.pipeline.on_frame(&frame, limits) {
                        Heard::Nothing => {}
                        Heard::GoAway { grace_ms } => {
                            self.pipeline.close();
                            leave_at = Some(self.pipeline.now + Duration::from_millis(grace_ms));
                        }
                        Heard::Refused(rejection) => return End::Lost(Error::Rejected(Box::new(rejection))),
                    },
                }
            }
            if leave_at.is_some() && self.pipeline.is_answered() {
                return End::GoAway;
            }
            self.pipeline.advance();
            if let Err(source) = write_now(&write, &mut self.pipeline) {
                return failed("write to", source);
            }
            let room = self.pipeline.room();
            tokio::select! {
                biased;
                count = frames.fill(&mut read) => match count {
                    Ok(0) => return failed("read from", io::ErrorKind::UnexpectedEof.into()),
                    Ok(_) => heard_at = Instant::now(),
                    Err(source) => return failed("read from", source),
                },
                count = self.queue.recv_many(&mut self.batch, room), if room > 0 => {
                    if count == 0 {
                        return End::Unused;
                    }
                    self.batch.drain(..).for_each(|job| self.pipeline.hold(job));
                }
                ready = write.writable(), if !self.pipeline.unwritten().is_empty() => if let Err(source) = ready {
                    return failed("write to", source);
                },
                now = tick.tick() => {
                    if let Some(why) = self.on_tick(now, heard_at, keepalive) {
                        return failed("read from", io::Error::new(io::ErrorKind::TimedOut, why));
                    }
                    if leave_at.is_some_and(|at| at <= now) {
                        return End::GoAway;
                    }
                    if self.queue.is_closed() && self.queue.is_empty() {
                        return End::Unused;
                    }
                }
            }
        }
    }

    /// Looks for signs of life. Returns why the connection must be taken for dead, if so.
    fn on_tick(&mut self, now: Instant, heard_at: Instant, keepalive: Duration) -> Option<String> {
        let silence = now.saturating_duration_since(heard_at);
        if silence >= keepalive * 2 {
            return Some(format!("no sign of life for {} ms", silence.as_millis()));
        }
        if silence >= keepalive {
            self.pipeline.ping();
        }
        // A server that answers pings and not requests: their callers have given up, but the credit would never come back.
        let patience = Duration::from_millis(self.options.request_timeout_ms.saturating_mul(2));
        let oldest = self.pipeline.oldest_sent_at()?;
        let age = now.saturating_duration_since(oldest);
        (age > patience).then(|| format!("a request was not answered for {} ms", age.as_millis()))
    }
}

/// Writes what the socket takes now.
fn write_now(write: &WriteHalf<'_>, pipeline: &mut Pipeline) -> io::Result<()> {
    while !pipeline.unwritten().is_empty() {
        match write.try_write(pipeline.unwritten()) {
            Ok(count) => pipeline.wrote(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
