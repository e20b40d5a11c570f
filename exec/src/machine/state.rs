//! The states of instances and tasks.

use serde::Serialize;

/// Where an instance or a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum State {
    /// An instance that has not begun.
    Scheduled,
    /// An instance that has begun; a task that the machine itself runs.
    Running,
    /// A task that waits for others.
    Pending,
    /// A task that could run and has no worker.
    Ready,
    /// A task that a worker has.
    Assigned,
    /// A task between two attempts.
    BackingOff,
    Completed,
    Failed,
    TimedOut,
    Cancelled,
    Skipped,
}

impl State {
    /// Its name in queries and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Assigned => "assigned",
            Self::BackingOff => "backing_off",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }

    /// Whether nothing follows it.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::TimedOut | Self::Cancelled | Self::Skipped)
    }
}
