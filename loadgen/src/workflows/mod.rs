//! Workflows from end to end: instances of one workflow of no-op tasks, and workers for them, all in this process.
//!
//! In: [`WorkflowOptions`].  Out: a [`WorkflowReport`].
//!
//! Closed loop: a window of open instances; one that ends starts the next. Every instance is followed by its events, so that its latency is what a client
//! sees, and so that none is counted which did not complete. The hand-over is the time from a task's return in the worker to the start of
//! the next task of the same instance: result, log, flush, dispatch. *Parked* instances wait for a signal that never comes: they measure what an open instance
//! costs in memory.
//! Start reading at [`run`].

mod flush;
mod report;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use distric_sdk::worker::{WorkerBuilder, WorkerOptions};
use distric_sdk::{Client, ClientOptions, Command, CommandKind, Query, QueryKind};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

pub use self::report::{Memory, WorkflowReport};
use crate::Error;
use crate::cpu::{CpuClock, resident_bytes};

/// Most tasks of the measured workflow.
pub const STEPS_MAX: u32 = 100;
/// Most instances that are open at a time by the window.
pub const IN_FLIGHT_MAX: u32 = 16_384;
/// Instances that share one client, each with a subscription of its own.
const PER_CLIENT: u32 = 512;
/// Most worker sessions of one run.
pub const WORKERS_MAX: u32 = 10_000;
/// The type that this process offers.
const TASK_TYPE: &str = "distric.bench.noop";
/// The longest time that is told apart, microseconds: ten minutes.
const TIME_US_MAX: u64 = 600_000_000;
/// How long all sessions of workers have to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(60);
/// How long the last instances have to end after the measurement.
const DRAIN_WITHIN: Duration = Duration::from_secs(60);
/// A moment for memory to settle before it is read.
const SETTLE: Duration = Duration::from_secs(2);

/// What to run where.
#[derive(Clone, Debug)]
pub struct WorkflowOptions {
    /// The coordinators, `host:port` each.
    pub addresses: Vec<String>,
    /// The API key, when they want one.
    pub api_key: Option<String>,
    /// Tasks of the workflow, one after the other, `1..=STEPS_MAX`.
    pub steps: u32,
    /// Instances open at a time, `1..=IN_FLIGHT_MAX`.
    pub in_flight: u32,
    /// Sessions of workers per coordinator, `1..=WORKERS_MAX`.
    pub workers: u32,
    /// Tasks that each of them runs at once.
    pub slots: u32,
    /// Instances that wait for ever instead of running; zero: none, and the window is measured.
    pub park: u64,
    /// How long to run before anything counts, milliseconds.
    pub warm_up_ms: u64,
    /// How long to measure, milliseconds.
    pub duration_ms: u64,
    /// The servers' processes, to read their CPU time and memory; they must run on this machine.
    pub server_pids: Vec<u32>,
    /// A directory on the servers' disk, to time its flush in the same run.
    pub flush_dir: Option<PathBuf>,
}

impl Default for WorkflowOptions {
    /// Three steps, one instance at a time, one worker of 64 slots, 2 s of warm-up, 10 s of measurement.
    fn default() -> Self {
        Self {
            addresses: vec!["127.0.0.1:7400".to_owned()],
            api_key: None,
            steps: 3,
            in_flight: 1,
            workers: 1,
            slots: 64,
            park: 0,
            warm_up_ms: 2_000,
            duration_ms: 10_000,
            server_pids: Vec::new(),
            flush_dir: None,
        }
    }
}

/// What was measured, shared by the tasks of the run. The mutexes are never contended: all run on one thread.
#[derive(Default)]
struct Books {
    /// From when to when it counts; set when the workers are there.
    window: OnceLock<(Instant, Instant)>,
    counts: Mutex<Counts>,
    /// When a task of an instance returned in a worker last.
    returned: Mutex<HashMap<Uuid, Instant>>,
}

/// Times are those of what began inside of the measurement.
struct Counts {
    completed: u64,
    failed: u64,
    latency_us: Histogram<u64>,
    hand_over_us: Histogram<u64>,
}

impl Default for Counts {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1, TIME_US_MAX, 3).expect("the bounds are legal constants");
        Self { completed: 0, failed: 0, latency_us: histogram(), hand_over_us: histogram() }
    }
}

impl Books {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn returned(&self) -> MutexGuard<'_, HashMap<Uuid, Instant>> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_measured(&self, at: Instant) -> bool {
        self.window.get().is_some_and(|(from, until)| at >= *from && at < *until)
    }

    /// A task begins in a worker.
    fn on_task(&self, instance: Uuid) {
        let returned = self.returned().remove(&instance);
        if let Some(returned) = returned.filter(|at| self.is_measured(*at)) {
            self.counts().hand_over_us.saturating_record(us_since(returned));
        }
    }

    /// An instance is at its end.
    fn on_end(&self, began: Instant, completed: bool) {
        let mut counts = self.counts();
        if self.is_measured(began) {
            counts.latency_us.saturating_record(us_since(began));
        }
        if self.is_measured(Instant::now()) {
            *(if completed { &mut counts.completed } else { &mut counts.failed }) += 1;
        }
    }
}

fn us_since(at: Instant) -> u64 {
    u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Runs on a runtime of its own, on this thread. Errors: as [`run`].
pub fn run_blocking(options: &WorkflowOptions) -> Result<WorkflowReport, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Start)?;
    runtime.block_on(run(options))
}

/// Defines the workflow, connects workers, runs instances, waits for the last of them. The definition stays in the catalog, as
/// `distric_bench_<steps>` or `distric_bench_park`.
///
/// Errors: [`Error::BadOption`]; [`Error::Connect`], when a coordinator refuses something; [`Error::Workers`], when they do not come about;
/// [`Error::Cpu`]; [`Error::Start`]; [`Error::Flush`].
pub async fn run(options: &WorkflowOptions) -> Result<WorkflowReport, Error> {
    check(options)?;
    let flush_us = options.flush_dir.as_deref().map(flush::median_us).transpose()?;
    let client = connect(options).await?;
    let workflow = define(&client, options).await?;
    let before = resident(options)?;
    let books = Arc::new(Books::default());
    let (stop, stopped) = watch::channel(());
    let mut workers = JoinSet::new();
    if options.park == 0 {
        let present = workers_of(&client).await?;
        for n in 0..options.workers {
            workers.spawn(worker(options, n, Arc::clone(&books), stopped.clone()));
        }
        let deadline = Instant::now() + CONNECT_WITHIN;
        while workers_of(&client).await? < present + u64::from(options.workers) {
            if Instant::now() > deadline {
                return Err(Error::Workers { within_s: CONNECT_WITHIN.as_secs() });
            }
            sleep(Duration::from_millis(50)).await;
        }
        // What sessions cost in memory shows after a moment.
        sleep(if options.workers > 1 { SETTLE } else { Duration::ZERO }).await;
    }
    let connected = resident(options)?;
    let (mut cpu_us, mut parked_s) = ((0, 0), None);
    if options.park > 0 {
        parked_s = Some(park(options, &workflow).await?);
        sleep(SETTLE).await;
    } else {
        cpu_us = measure(options, &workflow, &books).await?;
    }
    let after = resident(options)?;
    // Nobody listens any more only when every worker has ended.
    let _ = stop.send(());
    drop(stop);
    while let Some(ended) = workers.join_next().await {
        ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    }
    let counts = books.counts();
    Ok(WorkflowReport::new(options, flush_us, &counts, parked_s, cpu_us, Memory { before, connected, after }))
}

fn check(options: &WorkflowOptions) -> Result<(), Error> {
    let bad = |option, expected| Err(Error::BadOption { option, expected });
    match options {
        _ if options.addresses.is_empty() => bad("addresses", "at least one"),
        _ if !(1..=STEPS_MAX).contains(&options.steps) => bad("steps", "1 to 100"),
        _ if !(1..=IN_FLIGHT_MAX).contains(&options.in_flight) => bad("in-flight", "1 to 16,384"),
        _ if !(1..=WORKERS_MAX).contains(&options.workers) => bad("workers", "1 to 10,000"),
        _ if options.slots == 0 => bad("slots", "at least 1"),
        _ if options.duration_ms == 0 => bad("duration", "longer than nothing"),
        _ => Ok(()),
    }
}

async fn connect(options: &WorkflowOptions) -> Result<Client, Error> {
    let base = ClientOptions::new(options.addresses.clone()).name("distric-bench");
    Ok(Client::connect(ClientOptions { api_key: options.api_key.clone(), ..base }).await?)
}

/// Puts the workflow into the catalog. Returns its id.
async fn define(client: &Client, options: &WorkflowOptions) -> Result<String, Error> {
    let (id, tasks) = if options.park > 0 {
        let config = json!({ "name": "distric_bench_never", "key": "${instance.id}" });
        ("distric_bench_park".to_owned(), vec![json!({ "id": "t0", "type": "wait_for_signal", "config": config })])
    } else {
        let task = |n: u32| {
            let after: Vec<String> = n.checked_sub(1).map(|before| format!("t{before}")).into_iter().collect();
            json!({ "id": format!("t{n}"), "type": TASK_TYPE, "input": {}, "depends_on": after })
        };
        (format!("distric_bench_{}", options.steps), (0..options.steps).map(task).collect())
    };
    let body = json!({ "workflow": { "id": id, "tasks": tasks } }).to_string();
    let command = Command::new(CommandKind::PutWorkflow).name(&id).body(body).author("distric bench");
    client.command(Command { content_type: Some("application/json".to_owned()), ..command }).await?;
    Ok(id)
}

/// Workers that the coordinator at hand knows.
async fn workers_of(client: &Client) -> Result<u64, Error> {
    let status = client.query(Query::new(QueryKind::ClusterStatus)).await?;
    Ok(status.json().ok().and_then(|status| status["workers"].as_u64()).unwrap_or(0))
}

/// A worker with a session to each coordinator, until it is told to stop.
fn worker(
    options: &WorkflowOptions,
    n: u32,
    books: Arc<Books>,
    mut stopped: watch::Receiver<()>,
) -> impl Future<Output = Result<(), Error>> + 'static {
    let worker_options = WorkerOptions {
        name: format!("distric-bench-{n}"),
        slots: options.slots,
        prefetch: options.slots,
        api_key: options.api_key.clone(),
        ..WorkerOptions::default()
    };
    let builder = WorkerBuilder::new(options.addresses.clone(), worker_options).task(TASK_TYPE, move |context, _| {
        books.on_task(context.instance_id);
        books.returned().insert(context.instance_id, Instant::now());
        async { Ok(Value::Null) }
    });
    // The channel ends with the run, too.
    async move { Ok(builder.run(async move { drop(stopped.changed().await) }).await?) }
}

/// Keeps the window full for the time of the measurement, and waits for the last instances. Returns the CPU time of servers and of this process, microseconds.
async fn measure(options: &WorkflowOptions, workflow: &str, books: &Arc<Books>) -> Result<(u64, u64), Error> {
    let start = Instant::now();
    let from = start + Duration::from_millis(options.warm_up_ms);
    let until = from + Duration::from_millis(options.duration_ms);
    books.window.set((from, until)).expect("the window is set once");
    let mut loops = JoinSet::new();
    let mut client = None;
    for n in 0..options.in_flight {
        let shared = match &client {
            Some(client) if n % PER_CLIENT != 0 => client,
            _ => client.insert(connect(options).await?),
        };
        loops.spawn(one_after_the_other(shared.clone(), workflow.to_owned(), Arc::clone(books), until));
    }
    sleep_until(from).await;
    let before = cpu_us(options)?;
    sleep_until(until).await;
    let after = cpu_us(options)?;
    let drained = timeout(DRAIN_WITHIN, async {
        while let Some(ended) = loops.join_next().await {
            ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        }
        Ok::<(), Error>(())
    });
    drained.await.map_err(|_| Error::Undone { within_s: DRAIN_WITHIN.as_secs() })??;
    Ok((after.0 - before.0, after.1 - before.1))
}

/// One place of the window: starts an instance, follows it to its end, starts the next.
async fn one_after_the_other(client: Client, workflow: String, books: Arc<Books>, until: Instant) -> Result<(), Error> {
    while Instant::now() < until {
        let began = Instant::now();
        let instance = start(&client, &workflow).await?;
        let mut events = client.subscribe_instance(instance).await?;
        let mut completed = false;
        while let Some(event) = events.next().await {
            completed = event?.kind == "workflow.completed";
        }
        books.returned().remove(&instance);
        books.on_end(began, completed);
    }
    Ok(())
}

async fn start(client: &Client, workflow: &str) -> Result<Uuid, Error> {
    let reply = client.command(Command::start_workflow(workflow, "{}")).await?;
    let body: Value = reply.json().unwrap_or_default();
    body["instance"].as_str().and_then(|id| id.parse().ok()).ok_or(Error::NoInstance)
}

/// Starts so many instances that wait. Returns how long that took, seconds.
async fn park(options: &WorkflowOptions, workflow: &str) -> Result<f64, Error> {
    let began = Instant::now();
    let mut loops = JoinSet::new();
    let places = u64::from(options.in_flight).min(options.park);
    let client = connect(options).await?;
    for place in 0..places {
        let count = options.park / places + u64::from(place < options.park % places);
        let (client, workflow) = (client.clone(), workflow.to_owned());
        loops.spawn(async move {
            for _ in 0..count {
                start(&client, &workflow).await?;
            }
            Ok::<(), Error>(())
        });
    }
    while let Some(ended) = loops.join_next().await {
        ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    }
    Ok(began.elapsed().as_secs_f64())
}

fn cpu_us(options: &WorkflowOptions) -> Result<(u64, u64), Error> {
    let zero = CpuClock::default();
    let servers = options.server_pids.iter().map(|pid| Ok(CpuClock::read(&pid.to_string())?.since_us(zero))).sum::<Result<u64, Error>>()?;
    Ok((servers, CpuClock::read("self")?.since_us(zero)))
}

/// Resident memory of the servers together, bytes.
fn resident(options: &WorkflowOptions) -> Result<u64, Error> {
    options.server_pids.iter().map(|pid| resident_bytes(&pid.to_string())).sum()
}
