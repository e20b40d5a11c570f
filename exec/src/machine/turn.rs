//! A turn: one apply. Its place in the log, its randomness, the ids it mints, the transitions it may still make, its effects.
//!
//! Invariant: an id is minted once; ids of one entry are consecutive, those of a later entry are greater in their low bits.

use distric_model::Timestamp;

use super::Context;
use super::effects::{Effect, Reply};

/// Most transitions that one entry makes before it leaves the rest to a `Continue`. One unit of work that has begun is
/// finished, so an entry may exceed it by the tasks of one workflow. About a millisecond.
pub const TRANSITIONS_PER_ENTRY_MAX: usize = 1_024;

/// Bits of an id's low part that number the ids of one entry.
const MINTED_BITS: u32 = 22;

/// One apply.
pub(super) struct Turn<'a> {
    /// The entry's log index.
    pub index: u64,
    /// Machine time.
    pub now: Timestamp,
    /// Transitions made.
    pub transitions: usize,
    /// The effects so far.
    pub out: &'a mut Vec<Effect>,
    draw: u64,
    draws_count: u64,
    minted_count: u64,
}

impl<'a> Turn<'a> {
    pub fn new(at: Context, now: Timestamp, out: &'a mut Vec<Effect>) -> Self {
        Self { index: at.index, now, transitions: 0, out, draw: at.draw, draws_count: 0, minted_count: 0 }
    }

    /// The low part of the first of `count` consecutive ids.
    pub fn mint(&mut self, count: u64) -> u64 {
        let first = self.minted_count;
        self.minted_count += count;
        assert!(self.minted_count < 1 << MINTED_BITS, "entry {} minted {} ids", self.index, self.minted_count);
        (self.index << MINTED_BITS) | first
    }

    /// The next number of the entry's sequence of random ones (`SplitMix64` over the leader's draw; Steele et al. 2014).
    pub fn draw(&mut self) -> u64 {
        self.draws_count += 1;
        let mut z = self.draw.wrapping_add(self.draws_count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Whether the entry has made all the transitions it may.
    pub fn is_spent(&self) -> bool {
        self.transitions >= TRANSITIONS_PER_ENTRY_MAX
    }

    pub fn reply(&mut self, reply: Reply) {
        self.out.push(Effect::Reply(reply));
    }
}
