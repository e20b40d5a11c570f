//! The worker: runs the tasks that coordinators assign to it.
//!
//! One session per coordinator, one budget of slots and prefetch for all of them. One address is enough to find the others. A result is kept until its commit is confirmed, and sent again over
//! reconnects; a task that was lost on the way is said to be unknown and comes again.
//!
//! Parts: `desk` is the pure machine that knows what is in hand and what was promised to whom; `ledger` is its credits, `room` its processors
//! and memory; `roster` knows which
//! coordinators there are; a `session` is one connection; `shift` is the loop that runs handlers and brings the others together.

mod desk;
mod gauge;
mod ledger;
mod room;
mod roster;
mod session;
mod shift;
mod task;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use distric_model::{Capacity, Slot, Timestamp, WorkerId};
use serde_json::Value;

pub use self::desk::{RESULTS_KEPT_BYTES_MAX, RESULTS_KEPT_MAX};
use self::task::Handler;
pub use self::task::{TaskContext, TaskFailure};
use crate::backoff::{BackoffOptions, random_u64};
use crate::dial::now_us;
use crate::error::Error;
pub use gauge::WorkerGauge;

/// Most slots and prefetch together that one worker offers.
pub const WORKER_CREDITS_MAX: u32 = 16_384;

/// Who a worker is and how much it takes.
#[derive(Clone)]
pub struct WorkerOptions {
    /// Its id, stable over reconnects; a random one when `None`.
    pub worker_id: Option<WorkerId>,
    /// Which run of its process this is: greater at every start. The start time in microseconds when `None`.
    pub generation: Option<u64>,
    /// Its name for people.
    pub name: String,
    /// Tasks that run at once, at least 1.
    pub slots: u32,
    /// Tasks that wait here beyond those, so that a slot is never idle for a round trip.
    pub prefetch: u32,
    /// Processors that it has for its tasks, thousandths; `None`: not limited. Tasks that need more than is left are returned.
    pub cpu_millis: Option<u64>,
    /// Memory that it has for its tasks, MiB; `None`: not limited. Nothing measures what a task really takes.
    pub memory_mib: Option<u64>,
    /// What placement may ask for, such as `zone` to `eu`.
    pub labels: Vec<(String, String)>,
    /// The API key, when the coordinators want one. Never printed.
    pub api_key: Option<String>,
    /// How long running tasks may go on after the shutdown began, milliseconds.
    pub drain_deadline_ms: u64,
    /// Longest wait for one connection and its welcome, milliseconds.
    pub connect_timeout_ms: u64,
    /// After this long without a byte from a coordinator it is asked for a sign of life; after twice as long the session is
    /// given up, milliseconds.
    pub keepalive_ms: u64,
    /// How often coordinators hear from this worker, milliseconds.
    pub heartbeat_ms: u64,
    /// Waits between attempts to connect.
    pub backoff: BackoffOptions,
    /// Kept true with what the worker has in hand, when somebody wants to know.
    pub gauge: Option<WorkerGauge>,
}

impl Default for WorkerOptions {
    /// Four slots and as many prefetched tasks, a heartbeat each second, 30 s to drain.
    fn default() -> Self {
        Self {
            worker_id: None,
            generation: None,
            name: "worker".to_owned(),
            slots: 4,
            prefetch: 4,
            cpu_millis: None,
            memory_mib: None,
            labels: Vec::new(),
            api_key: None,
            drain_deadline_ms: 30_000,
            connect_timeout_ms: 5_000,
            keepalive_ms: 5_000,
            heartbeat_ms: 1_000,
            backoff: BackoffOptions::default(),
            gauge: None,
        }
    }
}

impl fmt::Debug for WorkerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerOptions")
            .field("worker_id", &self.worker_id)
            .field("generation", &self.generation)
            .field("name", &self.name)
            .field("slots", &self.slots)
            .field("prefetch", &self.prefetch)
            .field("cpu_millis", &self.cpu_millis)
            .field("memory_mib", &self.memory_mib)
            .field("labels", &self.labels)
            .field("api_key", &self.api_key.as_ref().map(|_| "(secret)"))
            .field("drain_deadline_ms", &self.drain_deadline_ms)
            .field("connect_timeout_ms", &self.connect_timeout_ms)
            .field("keepalive_ms", &self.keepalive_ms)
            .field("heartbeat_ms", &self.heartbeat_ms)
            .field("backoff", &self.backoff)
            .finish()
    }
}

/// A worker before it starts: where to connect, and what it can do.
pub struct WorkerBuilder {
    addresses: Vec<String>,
    options: WorkerOptions,
    handlers: BTreeMap<String, Handler>,
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types: Vec<&String> = self.handlers.keys().collect();
        f.debug_struct("WorkerBuilder").field("addresses", &self.addresses).field("options", &self.options).field("types", &types).finish()
    }
}

impl WorkerBuilder {
    /// A worker for the cluster of the coordinators at these addresses; it learns of the others from them, and holds a session with each.
    pub fn new<A: Into<String>>(addresses: impl IntoIterator<Item = A>, options: WorkerOptions) -> Self {
        Self { addresses: addresses.into_iter().map(Into::into).collect(), options, handlers: BTreeMap::new() }
    }

    /// Offers a type of task. A second handler for one type replaces the first.
    ///
    /// The handler runs as a task of the runtime. It is dropped at its next `await` when the attempt's time is over or the task is cancelled;
    /// one that blocks the thread cannot be stopped. A panic fails the attempt with the code `panic`; the worker lives on.
    pub fn task<F, R>(mut self, task_type: impl Into<String>, handler: F) -> Self
    where
        F: Fn(TaskContext, Value) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, TaskFailure>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |context, input| Box::pin(handler(context, input)));
        self.handlers.insert(task_type.into(), handler);
        self
    }

    /// Runs until `shutdown` is ready, then drains: takes nothing more, returns what has not started, lets running tasks finish until the
    /// deadline, and waits a moment for the last results to be confirmed. Lost sessions are opened again with backoff.
    ///
    /// Errors: [`Error::Rejected`], when a coordinator refuses this worker for good; [`Error::Connection`], when no address was given.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let started_us = now_us();
        let identity = Identity {
            worker_id: self
                .options
                .worker_id
                .unwrap_or_else(|| WorkerId::new(Timestamp::from_us(started_us), Slot::truncate(random_u64() as u16), random_u64())),
            generation: self.options.generation.unwrap_or(started_us),
            slots: self.options.slots.clamp(1, WORKER_CREDITS_MAX),
            prefetch: self.options.prefetch.min(WORKER_CREDITS_MAX - self.options.slots.clamp(1, WORKER_CREDITS_MAX)),
            capacity: Capacity { cpu_millis: self.options.cpu_millis, memory_mib: self.options.memory_mib },
            task_types: self.handlers.keys().cloned().collect(),
        };
        shift::run(self.addresses, self.options, identity, Arc::new(self.handlers), shutdown).await
    }
}

/// What every session says about this worker.
#[derive(Debug)]
struct Identity {
    worker_id: WorkerId,
    generation: u64,
    slots: u32,
    prefetch: u32,
    capacity: Capacity,
    task_types: Vec<String>,
}
