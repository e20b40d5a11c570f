//! Local health: how far this node distrusts its own judgement (Lifeguard, section IV-A).

/// The greatest score: probes are then slowed down nine times.
pub(crate) const SCORE_MAX: u32 = 8;

/// Zero is healthy. The multiplier stretches probe intervals and timeouts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LocalHealth {
    score: u32,
}

impl LocalHealth {
    pub(crate) const fn score(self) -> u32 {
        self.score
    }

    /// By how much waits are stretched: 1 to 9.
    pub(crate) const fn multiplier(self) -> u64 {
        self.score as u64 + 1
    }

    /// Something suggests that the fault is here: a probe failed of which the relays said nothing either, we had to
    /// refute, or we woke late.
    pub(crate) fn worsen(&mut self, by: u32) {
        self.score = (self.score + by).min(SCORE_MAX);
    }

    /// A probe was answered.
    pub(crate) const fn improve(&mut self) {
        self.score = self.score.saturating_sub(1);
    }
}
