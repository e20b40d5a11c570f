//! Control: how the rest of the process stops a node, hears of its failure and reads its counters.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

/// Why a node stopped by itself. Nothing that was not durable has been acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{thread} stopped: {reason}")]
pub struct Failure {
    /// The thread.
    pub thread: &'static str,
    /// Why.
    pub reason: String,
}

/// Shared by the threads of a node; touched when something starts or stops, never per message.
#[derive(Clone)]
pub struct Control {
    stop: Arc<AtomicBool>,
    shards_running: Arc<AtomicUsize>,
    raft_core_done: Arc<AtomicBool>,
    ready: mpsc::Sender<usize>,
    failures: Failures,
}

/// The first failure of a node, and who waits for it. Off the way of messages.
#[derive(Clone, Default)]
pub struct Failures(Arc<Mutex<(Option<Failure>, Option<Waker>)>>);

impl Failures {
    fn report(&self, failure: Failure) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.0.get_or_insert(failure);
        if let Some(waker) = slot.1.take() {
            waker.wake();
        }
    }

    /// The failure, if there was one.
    pub fn first(&self) -> Option<Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Resolves when the node has failed. One waiter at a time.
    pub async fn wait(&self) -> Failure {
        poll_fn(|context| {
            let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match &slot.0 {
                Some(failure) => Poll::Ready(failure.clone()),
                None => {
                    slot.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Control {
    /// For `shard_count` shards; readiness is sent to the channel, failures are kept.
    pub fn new(shard_count: usize, ready: mpsc::Sender<usize>, failures: Failures) -> Self {
        Self {
            stop: Arc::new(AtomicBool::new(false)),
            shards_running: Arc::new(AtomicUsize::new(shard_count)),
            raft_core_done: Arc::new(AtomicBool::new(false)),
            ready,
            failures,
        }
    }

    /// Asks all threads to finish.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Whether they were asked.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// A shard can serve.
    pub fn shard_is_ready(&self, shard: usize) {
        let _ = self.ready.send(shard);
    }

    /// A shard has finished.
    pub fn shard_is_done(&self) {
        self.shards_running.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether all shards have finished: nobody proposes any more.
    pub fn shards_are_done(&self) -> bool {
        self.shards_running.load(Ordering::Acquire) == 0
    }

    /// The raft core has finished.
    pub fn raft_core_is_done(&self) {
        self.raft_core_done.store(true, Ordering::Release);
    }

    /// Whether nothing more will come for the log.
    pub fn log_is_closed(&self) -> bool {
        self.raft_core_done.load(Ordering::Acquire)
    }

    /// A thread cannot go on; the node is to be stopped.
    pub fn fail(&self, thread: &'static str, reason: String) {
        tracing::error!(target: "distric_core::node", thread, reason = %reason, "the node cannot go on");
        self.failures.report(Failure { thread, reason });
    }
}
