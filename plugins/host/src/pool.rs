//! A plugin's processes: warm, a bounded number, one attempt each.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Identity;
use crate::call::{Call, Outcome};
use crate::error::{CallError, StartError};
use crate::keeper::Keeper;
use crate::process::Process;
use crate::spec::Spec;

/// The processes of one plugin. Cheap to clone; clones share them. They end with the last clone.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    spec: Spec,
    keeper: Keeper,
    identity: Identity,
    /// Processes that wait, the warmest last. Never more than there are permits.
    idle: Mutex<Vec<Process>>,
    permits: Arc<Semaphore>,
}

impl Pool {
    /// Starts the first process, which says who the plugin is.
    ///
    /// Errors: [`StartError`]: the file is no plugin, or does not accept its config, or the sandbox is weaker than required.
    pub async fn start(keeper: &Keeper, spec: Spec) -> Result<Self, StartError> {
        let (process, identity) = Process::start(keeper, &spec).await?;
        let permits = Arc::new(Semaphore::new(spec.limits.processes.clamp(1, Semaphore::MAX_PERMITS)));
        Ok(Self(Arc::new(Inner { spec, keeper: keeper.clone(), identity, idle: Mutex::new(vec![process]), permits })))
    }

    /// Who the plugin is, and how far it is kept apart.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Runs one attempt in a process of its own for that time; waits when all are busy. Dropping the future cancels the attempt: the plugin
    /// is told, and killed when it does not listen.
    ///
    /// Errors: [`CallError`]: the plugin crashed, did not return in time, or could not be started. Other attempts go on.
    pub async fn execute(&self, call: &Call) -> Result<Outcome, CallError> {
        let inner = &self.0;
        let permit = inner.permits.clone().acquire_owned().await.expect("the pool never closes its permits");
        let process = match inner.warm() {
            Some(process) => process,
            None => inner.fresh().await?,
        };
        let mut lease = Lease { process: Some(process), inner: inner.clone(), permit: Some(permit) };
        let own = inner.spec.limits.timeout_ms;
        let timeout_ms = if call.timeout_ms == 0 { own } else { call.timeout_ms };
        let process = lease.process.as_mut().expect("the lease was just made");
        let result = process.call(call, timeout_ms).await;
        if let Some(process) = lease.process.take() {
            inner.put_back(process);
        }
        result
    }

    /// Lets idle processes shut down in order.
    pub async fn close(&self) {
        let idle = std::mem::take(&mut *self.0.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for process in idle {
            process.shut_down().await;
        }
    }
}

impl Inner {
    /// A process that waits; those that have died meanwhile are dropped.
    fn warm(&self) -> Option<Process> {
        loop {
            let process = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if process.is_fit() {
                return Some(process);
            }
        }
    }

    async fn fresh(&self) -> Result<Process, StartError> {
        let (process, identity) = Process::start(&self.keeper, &self.spec).await?;
        if identity.name != self.identity.name {
            return Err(StartError::Renamed { before: self.identity.name.clone(), now: identity.name });
        }
        Ok(process)
    }

    /// Keeps a process that has answered in order; any other is dropped, and with it killed.
    fn put_back(&self, process: Process) {
        if !process.is_busy() && process.calls() < self.spec.limits.calls_per_process {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(process);
        }
    }
}

/// A process during one attempt.
struct Lease {
    process: Option<Process>,
    inner: Arc<Inner>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Lease {
    /// The attempt was dropped in the middle: the plugin is told, keeps its permit until it has stopped, and is killed if it does not.
    fn drop(&mut self) {
        let (Some(mut process), Some(permit)) = (self.process.take(), self.permit.take()) else { return };
        let inner = self.inner.clone();
        // Without a runtime the process is dropped here, which kills it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if process.stop().await.is_some() {
                    inner.put_back(process);
                }
                drop(permit);
            });
        }
    }
}
