//! A trusted plugin in the worker's own process: no sandbox at all, on a thread of its own because plugins are called from one thread.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::Identity;
use crate::call::{Call, LogLevel, Outcome, Sink};
use crate::error::{CallError, StartError};
use crate::load_unsafe::Loaded;
use crate::spec::{Isolation, Spec};

/// Attempts that may wait for the thread; beyond it the caller waits.
const CALLS_QUEUED_MAX: usize = 64;

type Job = (Call, oneshot::Sender<Outcome>);

/// A plugin without isolation: when it crashes, the worker crashes. Cheap to clone; clones share the thread.
#[derive(Clone, Debug)]
pub struct InProcess {
    jobs: SyncSender<Job>,
    identity: Identity,
}

impl InProcess {
    /// Opens the plugin in this process.
    ///
    /// Errors: [`StartError::Isolation`] when the spec requires any; otherwise as [`crate::Pool::start`].
    pub async fn start(spec: Spec) -> Result<Self, StartError> {
        if spec.isolation_required > Isolation::None {
            let lacks = "it is configured to run in the worker's process".to_owned();
            return Err(StartError::Isolation { required: spec.isolation_required, reached: Isolation::None, lacks });
        }
        let (jobs, queue) = sync_channel::<Job>(CALLS_QUEUED_MAX);
        let (opened, first_words) = oneshot::channel();
        let spawn = |error: io::Error| StartError::Spawn { reason: error.to_string() };
        thread::Builder::new()
            .name("plugin-inside".to_owned())
            .spawn(move || {
                let loaded = Loaded::open(&spec.path, &spec.config_json, spec.limits.output_bytes, &spec.grants.secrets);
                let mut loaded = match loaded {
                    Ok(loaded) => loaded,
                    Err(error) => {
                        // Nobody waits: then nobody needs to know.
                        let _ = opened.send(Err(StartError::Refused { reason: error.to_string(), tail: String::new() }));
                        return;
                    }
                };
                let identity =
                    Identity { name: loaded.name().to_owned(), version: loaded.version().to_owned(), isolation: Isolation::None };
                if opened.send(Ok(identity.clone())).is_err() {
                    return;
                }
                for (call, mut reply) in queue {
                    let deadline = (call.timeout_ms > 0).then(|| Instant::now() + Duration::from_millis(call.timeout_ms));
                    let mut sink = Inside { plugin: &identity.name, reply: &mut reply, deadline };
                    let outcome = loaded.execute(&call, &mut sink);
                    // The attempt was cancelled meanwhile.
                    let _ = reply.send(outcome);
                }
                loaded.shutdown();
            })
            .map_err(spawn)?;
        let gone = || StartError::Spawn { reason: "the plugin's thread ended".to_owned() };
        let identity = first_words.await.map_err(|_| gone())??;
        tracing::warn!(
            plugin = identity.name,
            "THIS PLUGIN RUNS INSIDE THE WORKER (in_process: true): no sandbox, no limits; when it crashes, the worker and all its tasks crash"
        );
        Ok(Self { jobs, identity })
    }

    /// Who the plugin is; its isolation is [`Isolation::None`].
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Runs one attempt after those that came before. Dropping the future cancels it as far as the plugin listens.
    ///
    /// Errors: [`CallError::NotStarted`] when too many wait, or the thread has ended.
    pub async fn execute(&self, call: Call) -> Result<Outcome, CallError> {
        let refused = |reason: &str| CallError::NotStarted(StartError::Spawn { reason: reason.to_owned() });
        let (reply, outcome) = oneshot::channel();
        self.jobs.try_send((call, reply)).map_err(|_| refused("more attempts wait for the plugin's thread than it may have"))?;
        outcome.await.map_err(|_| refused("the plugin's thread ended"))
    }
}

struct Inside<'a> {
    plugin: &'a str,
    reply: &'a mut oneshot::Sender<Outcome>,
    deadline: Option<Instant>,
}

impl Sink for Inside<'_> {
    fn log(&mut self, level: LogLevel, text: &str) {
        let plugin = self.plugin;
        match level {
            LogLevel::Error => tracing::error!(plugin, text, "plugin"),
            LogLevel::Warn => tracing::warn!(plugin, text, "plugin"),
            LogLevel::Info => tracing::info!(plugin, text, "plugin"),
            LogLevel::Debug => tracing::debug!(plugin, text, "plugin"),
        }
    }

    fn progress(&mut self, fraction: f64, text: &str) {
        tracing::debug!(plugin = self.plugin, fraction, text, "progress");
    }

    fn is_cancelled(&mut self) -> bool {
        self.reply.is_closed() || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn remaining_ms(&mut self) -> u64 {
        self.deadline.map_or(u64::MAX, |deadline| deadline.saturating_duration_since(Instant::now()).as_millis() as u64)
    }
}
