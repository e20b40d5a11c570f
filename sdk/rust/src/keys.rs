//! Idempotency keys for requests that came without one.

use std::sync::atomic::{AtomicU64, Ordering};

/// A random prefix and a counter: unique over clients by the 96 random bits, within one client by the counter, and without
/// a call to the system for every request.
#[derive(Debug)]
pub(crate) struct KeySource {
    prefix: [u8; PREFIX_BYTES],
    next: AtomicU64,
}

/// 16 characters of 6 bits.
const PREFIX_BYTES: usize = 16;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const HEX: &[u8; 16] = b"0123456789abcdef";

impl KeySource {
    /// Draws a prefix.
    ///
    /// Panics: when the system has no random generator, which no supported system lacks after start-up.
    pub(crate) fn new() -> Self {
        let mut prefix = [0; PREFIX_BYTES];
        getrandom::fill(&mut prefix).expect("the system's random generator works after start-up");
        Self { prefix: prefix.map(|byte| ALPHABET[usize::from(byte & 63)]), next: AtomicU64::new(0) }
    }

    /// A key that no other call and no other client makes.
    pub(crate) fn next_key(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut key = String::with_capacity(PREFIX_BYTES + 17);
        key.extend(self.prefix.iter().map(|byte| char::from(*byte)));
        key.push('.');
        let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
        key.extend((0..digits).rev().map(|digit| char::from(HEX[(number >> (4 * digit) & 15) as usize])));
        key
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_differ_within_a_client_and_between_clients() {
        let (one, other) = (KeySource::new(), KeySource::new());
        let keys: BTreeSet<String> = (0..300).flat_map(|_| [one.next_key(), other.next_key()]).collect();
        assert_eq!(keys.len(), 600);
        assert!(keys.iter().all(|key| key.len() <= distric_model::limits::KEY_BYTES_MAX));
        assert!(one.next_key().ends_with(".12c"), "the counter is in hexadecimal");
    }
}
