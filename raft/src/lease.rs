//! Reads without asking anybody: for a while after a majority heard from a leader nobody else can have been elected (Ongaro 2014,
//! section 6.4.1).
//!
//! ```text
//! leader    begins round 7 at t0 ──┬───────────── lease ─────────────┤ t0 + lease_ms
//! follower             hears it at t1 ──┬──── votes for nobody else ────────────┤ t1 + election_timeout_ms_min
//! ```
//!
//! A voter that heard from a leader looks at no vote for the shortest election timeout, and neither does one that has just started, for it may have
//! heard from one before it stopped. So as long as fewer than that have passed since the *beginning* of a round that a majority
//! answered, this leader is the only one, and what it knows to be committed is all that anybody was told of. Both times are measured by
//! different clocks: the lease is shorter than the timeout by what their rates may differ. A leader that has asked another one to campaign
//! has no lease any more in its term: that one is voted for whatever was heard.

use std::collections::VecDeque;

use distric_model::Instant;

/// What a leader knows about the time for which it is the only one.
pub(crate) struct Lease {
    lease_ms: u64,
    /// When the rounds of heartbeats began that no majority has answered yet, oldest first.
    began: VecDeque<(u64, Instant)>,
    until: Option<Instant>,
    /// Somebody was asked to campaign.
    is_over: bool,
}

impl Lease {
    /// Zero milliseconds: there is none.
    pub(crate) fn new(lease_ms: u64) -> Self {
        let kept = if lease_ms > 0 { ROUNDS_KEPT } else { 0 };
        Self { lease_ms, began: VecDeque::with_capacity(kept), until: None, is_over: false }
    }

    pub(crate) fn on_round(&mut self, round: u64, now: Instant) {
        if self.lease_ms == 0 || self.is_over {
            return;
        }
        if self.began.len() == ROUNDS_KEPT {
            // Answered so late, it would give no lease.
            self.began.pop_front();
        }
        self.began.push_back((round, now));
    }

    /// A majority has answered a round that began with this one or later.
    pub(crate) fn on_confirmed(&mut self, confirmed: u64) {
        while let Some((_, began)) = self.began.pop_front_if(|(round, _)| *round <= confirmed) {
            self.until = Some(began.plus_ms(self.lease_ms));
        }
    }

    /// From now on another may be elected at any time.
    pub(crate) fn end(&mut self) {
        self.is_over = true;
        self.until = None;
        self.began.clear();
    }

    /// Whether the answer to some round would bring something.
    pub(crate) fn waits(&self) -> bool {
        !self.began.is_empty()
    }

    pub(crate) fn holds(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// Rounds whose beginning is kept, most.
const ROUNDS_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_us(1_000_000);

    #[test]
    fn a_lease_runs_from_the_beginning_of_the_last_confirmed_round() {
        // Ongaro 2014, section 6.4.1: from the start of the heartbeats, not from their answers.
        let mut lease = Lease::new(200);
        lease.on_round(1, START);
        lease.on_round(2, START.plus_ms(50));
        lease.on_round(3, START.plus_ms(100));
        assert!(!lease.holds(START.plus_ms(100)));
        lease.on_confirmed(2);
        assert!(lease.holds(START.plus_ms(249)) && !lease.holds(START.plus_ms(250)));
        lease.on_confirmed(1);
        assert!(lease.holds(START.plus_ms(249)), "a late answer takes nothing away");
        lease.end();
        lease.on_round(4, START.plus_ms(150));
        lease.on_confirmed(4);
        assert!(!lease.holds(START.plus_ms(150)));
    }

    #[test]
    fn without_a_length_there_is_none_and_what_is_kept_is_bounded() {
        let mut none = Lease::new(0);
        none.on_round(1, START);
        assert!(!none.waits());
        none.on_confirmed(1);
        assert!(!none.holds(START));
        let mut lease = Lease::new(200);
        (1..=1_000).for_each(|round| lease.on_round(round, START));
        assert!(lease.began.len() <= ROUNDS_KEPT);
    }
}
