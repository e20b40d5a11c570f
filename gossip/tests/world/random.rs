//! The draws of the world: SplitMix64, as everywhere.

/// Seeded once; equal seeds give equal worlds.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(1))
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, upto: u64) -> u64 {
        self.draw() % upto
    }

    /// `count` different numbers of `from..upto`.
    pub fn choose(&mut self, count: usize, from: usize, upto: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (from..upto).collect();
        for at in 0..count {
            let other = at + self.below((all.len() - at) as u64) as usize;
            all.swap(at, other);
        }
        all.truncate(count);
        all
    }
}
