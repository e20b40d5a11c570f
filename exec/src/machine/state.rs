//! The states of instances and tasks.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where an instance or a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
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
    /// An instance whose tasks are undone; a task that is undone.
    Compensating,
    /// A task that was undone.
    Compensated,
    /// An instance that starts nothing. In histories only: the state that it comes back to is kept beside it.
    Paused,
    /// An instance that waits for its keys.
    Queued,
}

impl State {
    /// All of them: a state's place here is its number in records. New ones go last.
    pub const ALL: [Self; 15] = [
        Self::Scheduled,
        Self::Running,
        Self::Pending,
        Self::Ready,
        Self::Assigned,
        Self::BackingOff,
        Self::Completed,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
        Self::Skipped,
        Self::Compensating,
        Self::Compensated,
        Self::Paused,
        Self::Queued,
    ];

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
            Self::Compensating => "compensating",
            Self::Compensated => "compensated",
            Self::Paused => "paused",
            Self::Queued => "queued",
        }
    }

    /// Whether nothing follows it.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::TimedOut | Self::Cancelled | Self::Skipped | Self::Compensated)
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u8::deserialize(deserializer)?;
        let state = Self::ALL.get(usize::from(number)).copied();
        state.ok_or_else(|| serde::de::Error::custom(format!("there is no state {number}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_its_place_in_records() {
        for (place, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, place, "{state:?}");
        }
    }
}
