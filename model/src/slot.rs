//! Slots: the fixed key space that is mapped onto work groups.
//!
//! A key's slot never changes; the versioned map slot -> group (in the meta partition) may.

use crate::limits::SLOT_COUNT;

/// One of the [`SLOT_COUNT`] (4,096) fixed parts of the key space. Always in range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number, or `None` beyond the last one.
    pub const fn new(number: u16) -> Option<Self> {
        if number < SLOT_COUNT { Some(Self(number)) } else { None }
    }

    /// The slot with the low 12 bits of `bits` as its number.
    pub const fn truncate(bits: u16) -> Self {
        Self(bits & (SLOT_COUNT - 1))
    }

    /// The home slot of a key: FNV-1a (64 bit) over namespace, one zero byte and key, finished by the
    /// 64-bit mixer of MurmurHash3, low 12 bits. Part of the protocol: clients may compute it.
    pub fn of(namespace: &str, key: &[u8]) -> Self {
        let mut hash = FNV_OFFSET;
        for byte in namespace.bytes().chain([0]).chain(key.iter().copied()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^= hash >> 33;
        Self((hash & u64::from(SLOT_COUNT - 1)) as u16)
    }

    /// Its number, `0..SLOT_COUNT`.
    pub const fn number(self) -> u16 {
        self.0
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_of_a_key_is_part_of_the_protocol() {
        // Golden values: clients compute the same.
        assert_eq!(Slot::of("default", b"").number(), golden("default", b""));
        assert_eq!(Slot::of("default", b"user-42").number(), golden("default", b"user-42"));
        assert_ne!(Slot::of("default", b"user-42"), Slot::of("other", b"user-42"));
    }

    /// The same function in another shape, after the published description of FNV-1a.
    fn golden(namespace: &str, key: &[u8]) -> u16 {
        let mut bytes = namespace.as_bytes().to_vec();
        bytes.push(0);
        bytes.extend_from_slice(key);
        let mut h = bytes.iter().fold(14_695_981_039_346_656_037_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(1_099_511_628_211));
        for multiplier in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53, 1] {
            h = (h ^ (h >> 33)).wrapping_mul(multiplier);
        }
        (h % 4096) as u16
    }

    #[test]
    fn keys_spread_over_the_slots() {
        let mut counts = vec![0_u32; usize::from(SLOT_COUNT)];
        for i in 0..409_600_u32 {
            counts[usize::from(Slot::of("default", format!("key-{i}").as_bytes()).number())] += 1;
        }
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*least > 50 && *most < 160, "100 expected per slot, got {least}..{most}");
    }
}
