//! Exponential backoff with jitter, bounded above; and the randomness it needs.

use std::time::Duration;

/// Bounds of the waits between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffOptions {
    /// The first wait, milliseconds; each further one is twice as long.
    pub backoff_ms_min: u64,
    /// The longest wait, milliseconds.
    pub backoff_ms_max: u64,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        Self { backoff_ms_min: 50, backoff_ms_max: 2_000 }
    }
}

impl BackoffOptions {
    /// The wait before attempt `attempt` (0 is the first repetition), drawn by `random` from the upper half of its bound:
    /// peers that failed together come back spread out, and none comes back at once.
    pub fn wait_ms(self, attempt: u32, random: u64) -> u64 {
        let bound = self.backoff_ms_min.saturating_mul(1_u64 << attempt.min(32)).min(self.backoff_ms_max).max(1);
        let half = bound / 2;
        half + random % (bound - half + 1)
    }
}

/// Counts failures in a row and draws the next wait.
#[derive(Debug)]
pub(crate) struct Backoff {
    options: BackoffOptions,
    attempt: u32,
}

impl Backoff {
    pub(crate) fn new(options: BackoffOptions) -> Self {
        Self { options, attempt: 0 }
    }

    /// The next wait, at least `at_least_ms`.
    pub(crate) fn next(&mut self, at_least_ms: u64) -> Duration {
        let wait_ms = self.options.wait_ms(self.attempt, random_u64()).max(at_least_ms);
        self.attempt = self.attempt.saturating_add(1);
        Duration::from_millis(wait_ms)
    }

    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }
}

/// 64 bits from the system's generator.
///
/// Panics: when the system has none, which no supported system lacks after start-up.
pub(crate) fn random_u64() -> u64 {
    getrandom::u64().expect("the system's random generator works after start-up")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_stay_in_its_upper_half() {
        let options = BackoffOptions { backoff_ms_min: 50, backoff_ms_max: 2_000 };
        for (attempt, bound) in [(0, 50), (1, 100), (2, 200), (5, 1_600), (6, 2_000), (4_000_000_000, 2_000)] {
            for random in [0, 1, 977, u64::MAX] {
                let wait = options.wait_ms(attempt, random);
                assert!((bound / 2..=bound).contains(&wait), "attempt {attempt} waits {wait} ms");
            }
        }
    }
}
