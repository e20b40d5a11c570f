//! Local health: how far this node distrusts its own judgement (Lifeguard, section IV-A).

/// Zero is healthy. The multiplier stretches probe intervals and timeouts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalHealth {
    score: u32,
    score_max: u32,
}

impl LocalHealth {
    pub(crate) const fn new(score_max: u32) -> Self {
        Self { score: 0, score_max }
    }

    pub(crate) const fn score(self) -> u32 {
        self.score
    }

    /// By how much waits are stretched: 1 to one more than the greatest score.
    pub(crate) const fn multiplier(self) -> u64 {
        self.score as u64 + 1
    }

    /// Something suggests that the fault is here: a probe failed of which the relays said nothing either, we had to
    /// refute, or we woke late.
    pub(crate) fn worsen(&mut self, by: u32) {
        self.score = (self.score + by).min(self.score_max);
    }

    /// A probe was answered.
    pub(crate) const fn improve(&mut self) {
        self.score = self.score.saturating_sub(1);
    }
}
