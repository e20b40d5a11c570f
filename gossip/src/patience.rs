//! Patience: a member that was suspected and spoke up again and again is slow, not dead, and gets more time for its next answer. Without
//! it a member that runs only every so often is accused and refutes several times a second, and everyone hears of each.
//!
//! The first refutation within [`FORGET_MS`] costs nothing: a lost packet happens. Each further one gives the member one probe
//! interval more, up to `patience_max`; so the death of a slow one is noticed that much later, and of the others no later.
//! Source: Lifeguard's local health, section IV-A, turned to the other side. Shown by: `slow_members_are_heard_out` (`tests/slow.rs`).

use distric_model::Instant;

/// Who did not have to speak up for so long is not slow any more, milliseconds.
const FORGET_MS: u64 = 60_000;

/// How often one member spoke up of late, as one observer heard it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    refuted_at: Instant,
    refutations: u8,
}

impl Patience {
    pub(crate) fn on_refutation(&mut self, now: Instant) {
        let before = if self.refuted_at.plus_ms(FORGET_MS) <= now { 0 } else { self.refutations };
        *self = Self { refuted_at: now, refutations: before.saturating_add(1) };
    }

    /// Probe intervals that the member gets on top, at most `most`.
    pub(crate) fn intervals(&self, now: Instant, most: u32) -> u64 {
        if self.refuted_at.plus_ms(FORGET_MS) <= now { 0 } else { u64::from(u32::from(self.refutations).saturating_sub(1).min(most)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::from_us(s * 1_000_000)
    }

    #[test]
    fn one_refutation_costs_nothing_more_buy_time_and_a_quiet_minute_ends_it() {
        let mut patience = Patience::default();
        assert_eq!(patience.intervals(at(100), 3), 0);
        for (s, intervals) in [(100, 0), (110, 1), (120, 2), (130, 3), (140, 3)] {
            patience.on_refutation(at(s));
            assert_eq!(patience.intervals(at(s), 3), intervals);
        }
        assert_eq!(patience.intervals(at(199), 3), 3);
        assert_eq!(patience.intervals(at(200), 3), 0);
        patience.on_refutation(at(201));
        assert_eq!(patience.intervals(at(201), 3), 0, "it begins anew");
    }
}
