//! Returning: how soon a member that was held dead is taken back. One that is cut off again and again (a link that works in one
//! direction, or by turns; datagrams blocked while streams pass) would else be lost and found for ever, and whoever listens would
//! move work each time.
//!
//! The first return is free. After the second death of one life there is none for [`PAUSE_MS_MIN`], after each further one for
//! twice as long, up to [`PAUSE_MS_MAX`]. Deaths while a cut is suspected do not count: many are lost then, and come back together.
//! After [`FORGET_MS`] of life all is forgotten. A restart is a new life and owes nothing.
//!
//! A pause ends early when others vouch for the member: who is lost again and again is lost to all, and nobody holds it live meanwhile;
//! who was lost here only, as on one side of a cut that somebody bridges, is held live elsewhere.
//! Source: route flap damping (RFC 2439); Suresh et al. 2018 (Rapid), section 7, for what happens without it.

use distric_model::{Instant, NodeId};

/// The first pause between a death and a return, milliseconds.
const PAUSE_MS_MIN: u64 = 600_000;
/// The longest.
const PAUSE_MS_MAX: u64 = 3_600_000;
/// A member that lived for so long since its return has no deaths behind it, milliseconds.
const FORGET_MS: u64 = 600_000;

/// So many that hold a member live end its pause.
const VOUCHERS: usize = 3;

/// The deaths of one member in one life, as one observer saw them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Returns {
    deaths: u8,
    back_at: Option<Instant>,
    /// Who said since its death that it lives.
    vouchers: [Option<NodeId>; VOUCHERS],
}

impl Returns {
    /// Whether nothing is held against the member.
    pub(crate) const fn are_free(self) -> bool {
        self.deaths == 0
    }

    pub(crate) fn on_death(&mut self, now: Instant) {
        if self.back_at.is_some_and(|at| at.plus_ms(FORGET_MS) <= now) {
            self.deaths = 0;
        }
        self.deaths = self.deaths.saturating_add(1);
    }

    pub(crate) const fn on_return(&mut self, now: Instant) {
        self.back_at = Some(now);
        self.vouchers = [None; VOUCHERS];
    }

    /// Whether the word of `voucher` is new and counts.
    pub(crate) fn wants(&self, voucher: NodeId) -> bool {
        !self.vouchers.contains(&Some(voucher)) && self.vouchers.contains(&None)
    }

    /// Counts one that holds the member live.
    pub(crate) fn vouch(&mut self, voucher: NodeId) {
        if self.wants(voucher) {
            let vacant = self.vouchers.iter_mut().find(|other| other.is_none());
            *vacant.expect("there is one when a word is wanted") = Some(voucher);
        }
    }

    /// Whether enough vouch for it: three, or where `others` are few more than half of them.
    pub(crate) fn are_vouched_for(&self, others: usize) -> bool {
        self.vouchers.iter().flatten().count() >= VOUCHERS.min(others / 2 + 1)
    }

    /// Whether one that died at `died_at` is taken back now.
    pub(crate) fn may_return(&self, died_at: Instant, now: Instant) -> bool {
        let doublings = u32::from(self.deaths.saturating_sub(2)).min(10);
        let pause_ms = if self.deaths < 2 { 0 } else { (PAUSE_MS_MIN << doublings).min(PAUSE_MS_MAX) };
        died_at.plus_ms(pause_ms) <= now
    }
}

#[cfg(test)]
mod tests {
    use distric_model::{Slot, Timestamp};

    use super::*;

    fn at(s: u64) -> Instant {
        Instant::from_us(s * 1_000_000)
    }

    #[test]
    fn the_first_return_is_free_and_each_later_one_waits_longer() {
        let mut returns = Returns::default();
        let mut now = 100;
        for pause in [0, 600, 1_200, 2_400, 3_600, 3_600] {
            returns.on_death(at(now));
            let back = (now..).find(|s| returns.may_return(at(now), at(*s))).unwrap();
            assert_eq!(back - now, pause);
            returns.on_return(at(back));
            now = back + 5;
        }
    }

    #[test]
    fn each_voucher_counts_once_and_a_return_spends_them() {
        let node = |n| NodeId::new(Timestamp::from_us(0), Slot::truncate(0), n);
        let mut returns = Returns::default();
        for n in [1, 2, 2, 1] {
            returns.vouch(node(n));
        }
        assert!(!returns.are_vouched_for(100) && returns.are_vouched_for(3), "two are more than half of three");
        returns.vouch(node(3));
        assert!(returns.are_vouched_for(100) && !returns.wants(node(4)), "enough is enough");
        returns.on_return(at(1));
        assert!(!returns.are_vouched_for(1));
    }

    #[test]
    fn after_ten_minutes_of_life_all_is_forgotten() {
        let mut returns = Returns::default();
        returns.on_death(at(1));
        returns.on_death(at(2));
        assert!(!returns.may_return(at(2), at(3)));
        returns.on_return(at(22));
        returns.on_death(at(700));
        assert!(returns.may_return(at(700), at(700)));
    }
}
