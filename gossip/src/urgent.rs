//! The urgent lane: what is passed on at first receipt and not at the next tick, so that a round is a hop.
//!
//! A rumour travels three hops: its origin, those who heard it from there, and those who heard it from them. With the
//! fan-out of [`fan_out`] that reaches everyone with high probability; the normal lane repairs the tail. A valve bounds the
//! packets: in a storm the fan-out falls, many rumours share a packet, and the normal lane takes over.

use std::collections::VecDeque;

use distric_model::Instant;

use crate::packet::Rumour;

/// The hops of a new rumour. A copy says how many it had left, its own included: 3 from the origin, 1 at the end. So a copy in haste
/// is never taken for one of the ticks, which have none.
pub(crate) const HOPS: u8 = 3;
/// Most rumours in waiting; more go by the normal lane alone.
const PENDING_MAX: usize = 2_048;
/// Rumours that come within this time share packets; the first of a calm moment goes at once.
const COALESCE_US: u64 = 5_000;
/// A fan-out below this is not worth its packets: better wait for the valve.
pub(crate) const FAN_OUT_MIN: usize = 3;
/// Accepted chance that a rumour misses someone by the urgent lane alone.
const MISS: f64 = 0.01;

/// The smallest fan-out whose three hops reach all of `members` but with a chance of 1 %: the least `f` with
/// `f * (1 - exp(-f * (f + 1) / n)) >= ln(n / 0.01)`, at most everyone else.
pub fn fan_out(members: usize) -> usize {
    let others = members.saturating_sub(1);
    let n = members.max(2) as f64;
    let enough = |f: &usize| {
        let f = *f as f64;
        f * (1.0 - (-f * (f + 1.0) / n).exp()) >= (n / MISS).ln()
    };
    (1..others).find(enough).unwrap_or(others)
}

/// Rumours in haste, and the valve.
#[derive(Clone, Debug)]
pub(crate) struct UrgentLane {
    pending: VecDeque<Rumour>,
    per_s: u64,
    /// Packets that may be sent, in thousandths.
    tokens_milli: u64,
    filled_at: Instant,
    flushed_at: Instant,
    flush_at: Option<Instant>,
}

impl UrgentLane {
    pub(crate) const fn new(now: Instant, packets_per_s: u32) -> Self {
        let per_s = packets_per_s as u64;
        Self {
            pending: VecDeque::new(),
            per_s,
            tokens_milli: per_s * 1_000,
            filled_at: now,
            flushed_at: Instant::from_us(0),
            flush_at: None,
        }
    }

    pub(crate) const fn flush_at(&self) -> Option<Instant> {
        self.flush_at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Forgets what waits: there is nobody to tell.
    pub(crate) fn clear(&mut self) {
        self.pending.clear();
        self.flush_at = None;
    }

    /// Queues a rumour; false when the lane is full.
    pub(crate) fn push(&mut self, now: Instant, rumour: Rumour) -> bool {
        // Newer words about the same member make the older ones useless.
        if let Some(old) = self.pending.iter_mut().find(|old| old.node == rumour.node && old.standing < rumour.standing) {
            *old = rumour;
            return true;
        }
        if self.pending.len() >= PENDING_MAX {
            return false;
        }
        self.pending.push_back(rumour);
        self.flush_at.get_or_insert(now.max(self.flushed_at.plus_us(COALESCE_US)));
        true
    }

    /// Takes what waits, when the valve lets packets through: the rumours and the fan-out for them. `packets` tells how
    /// many packets so many rumours take.
    pub(crate) fn flush(&mut self, now: Instant, fan_out: usize, packets: impl Fn(usize) -> usize) -> Option<(Vec<Rumour>, usize)> {
        let gained = now.since_us(self.filled_at).saturating_mul(self.per_s) / 1_000;
        if gained > 0 {
            self.tokens_milli = self.tokens_milli.saturating_add(gained).min(self.per_s * 1_000);
            self.filled_at = now;
        }
        let each = packets(self.pending.len()).max(1);
        let affordable = (self.tokens_milli / 1_000) as usize / each;
        if affordable < fan_out.min(FAN_OUT_MIN) {
            self.flush_at = Some(now.plus_us(4 * COALESCE_US));
            return None;
        }
        // A storm takes half of what there is at most, so that what comes next is not held up.
        let chosen = if affordable >= 2 * fan_out { fan_out } else { (affordable / 2).max(FAN_OUT_MIN).min(fan_out) };
        self.tokens_milli -= (chosen * each * 1_000) as u64;
        self.flushed_at = now;
        self.flush_at = None;
        Some((self.pending.drain(..).collect(), chosen))
    }
}

#[cfg(test)]
mod tests {
    use distric_model::{NodeId, Slot, Timestamp};

    use super::*;
    use crate::standing::{Generation, Incarnation, Standing, State};

    fn rumour(n: u64) -> Rumour {
        let node = NodeId::new(Timestamp::from_us(0), Slot::truncate(0), n);
        Rumour::brief(node, Standing::new(Generation(1), Incarnation(0), State::Dead), Incarnation(0))
    }

    #[test]
    fn the_fan_out_is_that_of_the_closed_form() {
        assert_eq!([fan_out(1), fan_out(2), fan_out(5)], [0, 1, 4]);
        assert_eq!([fan_out(128), fan_out(1_000), fan_out(10_000)], [13, 25, 54]);
    }

    #[test]
    fn one_event_goes_at_once_and_a_burst_shares_packets() {
        let at = Instant::from_us(1_000_000);
        let mut lane = UrgentLane::new(at, 400);
        assert!(lane.push(at, rumour(1)));
        assert_eq!(lane.flush_at(), Some(at));
        assert_eq!(lane.flush(at, 25, |_| 1).map(|(rumours, f)| (rumours.len(), f)), Some((1, 25)));
        assert!(lane.push(at, rumour(2)) && lane.push(at, rumour(3)));
        assert_eq!(lane.flush_at(), Some(at.plus_us(COALESCE_US)));
    }

    #[test]
    fn the_valve_bounds_the_packets_of_a_storm() {
        let mut at = Instant::from_us(1_000_000);
        let mut lane = UrgentLane::new(at, 400);
        let mut sent = 0;
        for n in 0..20_000 {
            lane.push(at, rumour(n));
            at = at.plus_us(500);
            if lane.flush_at().is_some_and(|due| due <= at)
                && let Some((rumours, f)) = lane.flush(at, 25, |count| count.div_ceil(25))
            {
                sent += rumours.len().div_ceil(25) * f;
            }
        }
        assert!(sent <= 400 + 10 * 400, "{sent} packets in ten seconds");
        assert!(sent >= 2_000, "the valve throttles, it does not shut: {sent}");
    }
}
