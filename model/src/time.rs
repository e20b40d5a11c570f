//! Two clocks that must not be mixed: the monotonic one and the calendar.

use serde::{Deserialize, Serialize};

/// A reading of this process's monotonic clock, microseconds since an arbitrary start.
/// Means nothing on another machine or after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The reading `us` microseconds after the clock's start.
    pub const fn from_us(us: u64) -> Self {
        Self(us)
    }

    /// Microseconds since the clock's start.
    pub const fn as_us(self) -> u64 {
        self.0
    }

    /// `ms` milliseconds later; saturates at the end of time.
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1_000)))
    }

    /// `us` microseconds later; saturates at the end of time.
    pub const fn plus_us(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// Microseconds from `earlier` to `self`; zero when `earlier` is later.
    pub const fn since_us(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A point on the calendar, microseconds since the Unix epoch, UTC. Also the unit of machine time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The point `us` microseconds after the epoch.
    pub const fn from_us(us: u64) -> Self {
        Self(us)
    }

    /// Microseconds since the epoch.
    pub const fn as_us(self) -> u64 {
        self.0
    }

    /// `ms` milliseconds later; saturates at the end of time.
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1_000)))
    }

    /// `us` microseconds later; saturates at the end of time.
    pub const fn plus_us(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// Microseconds from `earlier` to `self`; zero when `earlier` is later.
    pub const fn since_us(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
