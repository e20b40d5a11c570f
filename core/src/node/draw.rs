//! Draws: a seeded generator for ids, draws written into entries and campaign seeds.
//!
//! SplitMix64 (Steele, Lea, Flood 2014): one word of state, full period, good enough for ids within one node's
//! 62 bits. Not for secrets. The seed is handed in by the rim.

/// A seeded sequence of 64-bit draws.
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    /// A sequence that follows from the seed alone.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next draw.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
