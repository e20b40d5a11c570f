//! The window: which counters of one sender have been seen. What is older than the window counts as seen.
//!
//! Source: RFC 6479, without its blocks: a step forward clears the bits that it skips, at most all of them.

/// Counters of one sender, `64 * WORDS` wide. Counters begin at 1.
#[derive(Clone, Debug)]
pub(crate) struct Window<const WORDS: usize> {
    highest: u64,
    seen: [u64; WORDS],
}

impl<const WORDS: usize> Window<WORDS> {
    const BITS: u64 = WORDS as u64 * 64;

    pub(crate) const fn new() -> Self {
        Self { highest: 0, seen: [0; WORDS] }
    }

    const fn place(counter: u64) -> (usize, u64) {
        let bit = counter % Self::BITS;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    /// Whether this counter has not been seen and is not too old to tell.
    pub(crate) const fn is_new(&self, counter: u64) -> bool {
        if counter > self.highest {
            return true;
        }
        let (word, bit) = Self::place(counter);
        counter > 0 && self.highest - counter < Self::BITS && self.seen[word] & bit == 0
    }

    /// Marks it as seen. Only what [`Self::is_new`] and was authentic may be marked.
    pub(crate) fn mark(&mut self, counter: u64) {
        if counter > self.highest {
            if counter - self.highest >= Self::BITS {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.highest + 1..counter {
                    let (word, bit) = Self::place(skipped);
                    self.seen[word] &= !bit;
                }
            }
            self.highest = counter;
        }
        let (word, bit) = Self::place(counter);
        self.seen[word] |= bit;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn take(window: &mut Window<2>, counter: u64) -> bool {
        let is_new = window.is_new(counter);
        if is_new {
            window.mark(counter);
        }
        is_new
    }

    #[test]
    fn a_counter_is_taken_once_in_any_order_within_the_window() {
        let mut window = Window::<2>::new();
        assert!(!take(&mut window, 0), "counters begin at 1");
        for counter in [5, 3, 1, 4, 2] {
            assert!(take(&mut window, counter) && !take(&mut window, counter), "{counter}");
        }
    }

    #[test]
    fn the_window_slides_and_what_it_left_behind_is_old() {
        let mut window = Window::<2>::new();
        assert!(take(&mut window, 1) && take(&mut window, 128));
        assert!(!take(&mut window, 1) && take(&mut window, 2), "2 is the oldest that fits");
        assert!(take(&mut window, 130) && !take(&mut window, 2) && take(&mut window, 3));
        assert!(take(&mut window, 10_000) && !take(&mut window, 130) && take(&mut window, 9_999));
        assert!(take(&mut window, u64::MAX) && !take(&mut window, u64::MAX) && take(&mut window, u64::MAX - 127));
    }

    proptest! {
        #[test]
        fn nothing_is_taken_twice_and_nothing_young_is_refused(counters in proptest::collection::vec(1_u64..600, 0..400)) {
            let (mut window, mut model, mut highest) = (Window::<2>::new(), BTreeSet::new(), 0);
            for counter in counters {
                let expected = counter + 128 > highest && model.insert(counter);
                prop_assert_eq!(take(&mut window, counter), expected);
                highest = highest.max(counter);
            }
        }
    }
}
