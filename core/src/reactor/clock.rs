//! The clocks: read here, handed in everywhere else.

use std::sync::OnceLock;
use std::time::{Instant as StdInstant, SystemTime, UNIX_EPOCH};

use distric_model::{Instant, Timestamp};

use crate::node::machine_clock::Now;

static START: OnceLock<StdInstant> = OnceLock::new();

/// Reads both clocks.
pub fn now() -> Now {
    Now { mono: Instant::from_us(mono_ns() / 1_000), wall: wall() }
}

/// Reads the calendar. A clock before 1970 reads as 1970.
pub fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_us(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}

/// Nanoseconds since the first call in this process.
pub fn mono_ns() -> u64 {
    u64::try_from(START.get_or_init(StdInstant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}
