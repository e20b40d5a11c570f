//! Machine time: the only time that replicated machines know.
//!
//! In: readings of both clocks at the rim, stamps seen in the log.  Out: the stamp for the next entry.
//! Invariant: estimates never go back, and never fall behind a stamp seen.
//! Invariant: while a reference exists, the wall clock moves the estimate by at most [`SLEW_PER_MILLE`] of the time passed.
//!
//! A leader goes on from the last stamp plus the monotonic time since it saw it. A replica that has just started has no such
//! reference (nobody measured the time it was away): it begins at the later of last stamp and wall clock.

use distric_model::{Instant, Timestamp};

/// How fast the wall clock may pull machine time: thousandths of the monotonic time passed.
pub const SLEW_PER_MILLE: u64 = 100;

/// One reading of both clocks, taken together at the rim and handed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub mono: Instant,
    /// The calendar.
    pub wall: Timestamp,
}

/// The estimate of one group's machine time.
#[derive(Clone, Debug, Default)]
pub struct MachineClock {
    reference: Option<(Instant, Timestamp)>,
    last_stamp: Timestamp,
}

impl MachineClock {
    /// Takes note of a stamp found in the log on recovery: a floor, not a reference.
    pub fn recover(&mut self, stamp: Timestamp) {
        self.last_stamp = self.last_stamp.max(stamp);
    }

    /// Takes note of a stamp seen in an entry that has just arrived.
    pub fn observe(&mut self, now: Now, stamp: Timestamp) {
        if stamp >= self.last_stamp {
            self.last_stamp = stamp;
            if self.reference.is_none_or(|(mono, at)| at.plus_us(now.mono.since_us(mono)) < stamp) {
                self.reference = Some((now.mono, stamp));
            }
        }
    }

    /// Machine time now, and the reference for later estimates.
    pub fn estimate(&mut self, now: Now) -> Timestamp {
        let estimate = match self.reference {
            None => self.last_stamp.max(now.wall),
            Some((mono, at)) => {
                let passed_us = now.mono.since_us(mono);
                let free_running = at.plus_us(passed_us);
                let slew_us = passed_us.saturating_mul(SLEW_PER_MILLE) / 1_000;
                let ahead_us = now.wall.since_us(free_running).min(slew_us);
                let behind_us = free_running.since_us(now.wall).min(slew_us);
                Timestamp::from_us(free_running.as_us() + ahead_us - behind_us)
            }
        };
        let estimate = estimate.max(self.last_stamp);
        self.reference = Some((now.mono, estimate));
        self.last_stamp = estimate;
        estimate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(mono_us: u64, wall_us: u64) -> Now {
        Now { mono: Instant::from_us(mono_us), wall: Timestamp::from_us(wall_us) }
    }

    #[test]
    fn a_wall_clock_jump_moves_machine_time_by_a_tenth_at_most() {
        let mut clock = MachineClock::default();
        assert_eq!(clock.estimate(now(0, 1_000_000)).as_us(), 1_000_000);
        assert_eq!(clock.estimate(now(1_000, 9_000_000)).as_us(), 1_001_100);
        assert_eq!(clock.estimate(now(2_000, 0)).as_us(), 1_002_000, "back by a tenth of the 1,000 µs passed");
    }

    #[test]
    fn a_new_leader_goes_on_from_the_last_stamp() {
        let mut clock = MachineClock::default();
        clock.observe(now(500, 7_000_000), Timestamp::from_us(42_000_000));
        assert_eq!(clock.estimate(now(1_500, 7_001_000)).as_us(), 42_000_900, "its own wall clock is far behind and only slews");
    }

    #[test]
    fn a_restart_never_goes_back_and_does_catch_up() {
        let mut clock = MachineClock::default();
        clock.recover(Timestamp::from_us(50));
        assert_eq!(clock.estimate(now(0, 10)).as_us(), 50, "a wall clock behind the log does not turn time back");
        let mut clock = MachineClock::default();
        clock.recover(Timestamp::from_us(50));
        assert_eq!(clock.estimate(now(0, 3_600_000_000)).as_us(), 3_600_000_000, "an hour away is an hour passed");
    }
}
