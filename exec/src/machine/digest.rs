//! Digest: a hash of the whole replicated state, to compare replicas.
//!
//! The state is encoded as it stands (every map of it is ordered) and the bytes go through FNV-1a, 64 bit. Not for secrets: two
//! replicas that differ by accident differ in it. Costs one walk over the state; leaders log it every so many entries.

use std::io;

use serde::Serialize;

/// FNV-1a, 64 bit (Fowler, Noll, Vo; draft-eastlake-fnv).
#[derive(Debug)]
pub(super) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub fn finish(&self) -> u64 {
        self.0
    }
}

impl io::Write for Fnv {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The hash of a state.
pub(super) fn digest(state: &impl Serialize) -> u64 {
    let mut hash = Fnv::default();
    rmp_serde::encode::write(&mut hash, state).expect("hashing takes every byte and every length in the state is known");
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_gives_its_published_values() {
        let hash = |text: &str| {
            let mut fnv = Fnv::default();
            fnv.update(text.as_bytes());
            fnv.finish()
        };
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash("foobar"), 0x8594_4171_f739_67e8);
    }
}
