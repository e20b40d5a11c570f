//! Suspicions: how long a member has to speak up. Long when one accuser stands alone, short when others confirm
//! independently (Lifeguard, section IV-B).

use distric_model::{Instant, NodeId};

/// The shortest suspicion, milliseconds: `factor * log10(members)` probe intervals, at least `floor_ms`.
pub fn suspicion_ms_min(factor: f64, members: usize, probe_interval_ms: u64, floor_ms: u64) -> u64 {
    let logarithm = (members.max(10) as f64).log10();
    ((factor * logarithm * probe_interval_ms as f64) as u64).max(floor_ms)
}

/// The suspicion after `confirmations` of `wanted`: from `max_us` down to `min_us`, by the logarithm of their number.
pub fn suspicion_timeout_us(min_us: u64, max_us: u64, confirmations: usize, wanted: usize) -> u64 {
    if wanted == 0 {
        return min_us;
    }
    let share = (confirmations as f64 + 1.0).ln() / (wanted as f64 + 1.0).ln();
    let span = max_us.saturating_sub(min_us) as f64;
    (max_us.saturating_sub((span * share) as u64)).max(min_us)
}

/// One running suspicion.
#[derive(Clone, Debug)]
pub(crate) struct Suspicion {
    started: Instant,
    min_us: u64,
    max_us: u64,
    wanted: usize,
    /// The first accuser and those who confirmed; at most `wanted + 1`.
    accusers: Vec<NodeId>,
    pub(crate) deadline: Instant,
}

impl Suspicion {
    pub(crate) fn new(now: Instant, accuser: NodeId, min_us: u64, spread: u32, wanted: usize) -> Self {
        let max_us = if wanted == 0 { min_us } else { min_us.saturating_mul(u64::from(spread)) };
        let deadline = now.plus_us(suspicion_timeout_us(min_us, max_us, 0, wanted));
        Self { started: now, min_us, max_us, wanted, accusers: vec![accuser], deadline }
    }

    pub(crate) fn wants(&self, accuser: NodeId) -> bool {
        self.accusers.len() <= self.wanted && !self.accusers.contains(&accuser)
    }

    /// Counts an accuser once. True when the deadline moved and the word is worth passing on.
    pub(crate) fn confirm(&mut self, accuser: NodeId) -> bool {
        if !self.wants(accuser) {
            return false;
        }
        self.accusers.push(accuser);
        self.deadline = self.started.plus_us(suspicion_timeout_us(self.min_us, self.max_us, self.accusers.len() - 1, self.wanted));
        true
    }

    /// Nothing more is waited for: the suspicion lasts its shortest.
    pub(crate) fn settle(&mut self) {
        self.wanted = 0;
        self.deadline = self.started.plus_us(self.min_us);
    }

    /// Whether it has lasted long enough that the accused could have spoken up: half of its shortest. A death that others declare is
    /// believed from then on.
    pub(crate) fn is_ripe(&self, now: Instant) -> bool {
        self.started.plus_us(self.min_us / 2) <= now
    }

    /// We slept: the accused gets the time back, and at least one shortest suspicion from now.
    pub(crate) fn excuse(&mut self, now: Instant, slept_us: u64) {
        self.started = self.started.plus_us(slept_us);
        self.deadline = self.deadline.plus_us(slept_us).max(now.plus_us(self.min_us));
    }

    pub(crate) fn accuser(&self) -> NodeId {
        self.accusers[0]
    }
}

#[cfg(test)]
mod tests {
    use distric_model::{Slot, Timestamp};

    use super::*;

    fn node(n: u64) -> NodeId {
        NodeId::new(Timestamp::from_us(0), Slot::truncate(0), n)
    }

    #[test]
    fn the_shortest_suspicion_grows_with_the_logarithm_of_the_cluster() {
        let at = |members| suspicion_ms_min(3.0, members, 250, 1_500);
        assert_eq!([at(2), at(100), at(128), at(1_000), at(10_000)], [1_500, 1_500, 1_580, 2_250, 3_000]);
    }

    #[test]
    fn confirmations_shorten_by_their_logarithm() {
        // Lifeguard section IV-B: max - (max - min) * log(c + 1) / log(k + 1).
        let at = |confirmations| suspicion_timeout_us(2_000, 12_000, confirmations, 3);
        assert_eq!([at(0), at(1), at(2), at(3), at(9)], [12_000, 7_000, 4_076, 2_000, 2_000]);
        assert_eq!(suspicion_timeout_us(2_000, 12_000, 0, 0), 2_000, "nobody else can confirm");
    }

    #[test]
    fn one_accuser_counts_once() {
        let mut suspicion = Suspicion::new(Instant::from_us(0), node(1), 1_000, 6, 3);
        assert!(!suspicion.confirm(node(1)));
        assert!(suspicion.confirm(node(2)) && suspicion.confirm(node(3)) && suspicion.confirm(node(4)));
        assert!(!suspicion.confirm(node(5)), "enough is enough");
        assert_eq!(suspicion.deadline, Instant::from_us(1_000));
    }
}
