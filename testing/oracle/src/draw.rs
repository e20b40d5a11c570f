//! Draws that a seed fixes.

/// A sequence of draws (splitmix64, Steele and others 2014).
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// The sequence of this name and seed: different names give unrelated sequences.
    pub fn new(name: &str, seed: u64) -> Self {
        let start = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut draw = Self(start ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        draw.bits();
        draw
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number below `bound`, which is above zero.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// A number of the range, its end excluded.
    pub fn range(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to - from)
    }

    /// Whether something of this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of a list, all equally likely.
    pub fn pick<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        &list[self.below(list.len())]
    }

    /// One of a list, the first ones more likely (Zipf, exponent 0.8).
    pub fn zipf<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        let weight = |i: usize| 1.0 / (i as f64 + 1.0).powf(0.8);
        let total: f64 = (0..list.len()).map(weight).sum();
        let mut left = self.unit() * total;
        for (i, item) in list.iter().enumerate() {
            left -= weight(i);
            if left <= 0.0 {
                return item;
            }
        }
        &list[list.len() - 1]
    }

    /// One of a list as traffic has it half the time, else all equally likely.
    pub fn half<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        if self.chance(0.5) { self.zipf(list) } else { self.pick(list) }
    }

    /// Different items of a list, which has at least so many.
    pub fn sample<'l, T: PartialEq>(&mut self, list: &'l [T], count: usize) -> Vec<&'l T> {
        let mut found = Vec::new();
        while found.len() < count.min(list.len()) {
            let item = self.half(list);
            if !found.contains(&item) {
                found.push(item);
            }
        }
        found
    }

    /// Puts a list into another order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        (1..list.len()).rev().for_each(|i| list.swap(i, self.below(i + 1)));
    }

    /// An amount from 1 to about 50,000, small ones more likely, of two decimals.
    pub fn amount(&mut self) -> f64 {
        rounded(10_f64.powf(self.unit() * 4.7), 100.0)
    }
}

/// Rounded to a part of one.
pub fn rounded(number: f64, parts: f64) -> f64 {
    (number * parts).round() / parts
}
