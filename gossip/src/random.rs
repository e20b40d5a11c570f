//! A small deterministic random source for targets, orders and cookies: SplitMix64 (Steele, Lea & Flood 2014).

/// Seeded once by the caller; equal seeds give equal draws for ever. Not for secrets: the rim seeds it from the system,
/// and the sealed envelope, not the cookie, is what keeps forgers out.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) const fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number of `0..upto`; zero when there is nothing to choose from.
    pub(crate) const fn below(&mut self, upto: u64) -> u64 {
        if upto == 0 { 0 } else { self.draw() % upto }
    }
}

/// The finaliser of SplitMix64: a good mixing of 64 bits.
pub(crate) const fn mix(value: u64) -> u64 {
    let mut mixed = value;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_the_published_generator() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.draw(), 6_457_827_717_110_365_317);
        assert_eq!(random.draw(), 3_203_168_211_198_807_973);
        assert_eq!(random.below(0), 0);
    }
}
