//! A gauge: how much a running worker has in hand, for whoever wants to tell others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Tasks of a worker now. Given to it in [`super::WorkerOptions`]; clones read the same numbers.
#[derive(Clone, Debug, Default)]
pub struct WorkerGauge(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    running: AtomicU32,
    queued: AtomicU32,
}

impl WorkerGauge {
    /// Tasks that run.
    pub fn running(&self) -> u32 {
        self.0.running.load(Ordering::Relaxed)
    }

    /// Tasks that wait here for a slot.
    pub fn queued(&self) -> u32 {
        self.0.queued.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, running: usize, queued: usize) {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.0.running.store(number(running), Ordering::Relaxed);
        self.0.queued.store(number(queued), Ordering::Relaxed);
    }
}
