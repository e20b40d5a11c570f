//! The 34 bytes before every payload.
//!
//! In: bytes or a [`Header`].  Out: the other. The layout is one `repr(C)` struct of big-endian, unaligned
//! integers, so that reading it is a bounds check and nothing is copied by hand.
//! Invariant: the CRC is the last field, so a frame with the field zeroed is the header's first 30 bytes,
//! four zeros, then the payload.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first four bytes of every frame, "DIST".
pub const MAGIC: u32 = 0x4449_5354;
/// Bytes of a header; the fields of the table in `docs/protocol.md`, packed.
pub const HEADER_BYTES: usize = 34;
/// The only protocol version there is so far.
pub const VERSION_1: u16 = 1;

/// The bits of the header's flags field.
///
/// Bits that this version does not know are carried and ignored, except [`Flags::ENCRYPTED`]: a frame with it cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u16);

impl Flags {
    /// No bit set.
    pub const NONE: Self = Self(0);
    /// The payload as sent is one LZ4 frame.
    pub const COMPRESSED: Self = Self(0x0001);
    /// Reserved. Transport security is TLS; a frame with this bit is refused.
    pub const ENCRYPTED: Self = Self(0x0002);
    /// To be served before others of its lane.
    pub const URGENT: Self = Self(0x0004);

    /// Flags from the header's number.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The header's number.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These bits without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// A frame's header in the machine's own integers. The magic is implied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Protocol version, [`VERSION_1`].
    pub version: u16,
    /// Which message the payload is, as [`crate::Message::TYPE`].
    pub message_type: u16,
    /// See [`Flags`].
    pub flags: Flags,
    /// Bytes after the header, as sent.
    pub payload_bytes: u32,
    /// Chosen by the requester, unique on the connection while in flight; a reply repeats it.
    pub message_id: u64,
    /// The sender's clock, microseconds since the Unix epoch.
    pub timestamp_us: u64,
    /// CRC-32 (IEEE 802.3) over the header with this field zero, then the payload as sent.
    pub crc32: u32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: U32,
    version: U16,
    message_type: U16,
    flags: U16,
    payload_bytes: U32,
    message_id: U64,
    timestamp_us: U64,
    crc32: U32,
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_BYTES, "the header is packed");
const _: () = assert!(std::mem::offset_of!(RawHeader, crc32) == CRC_AT, "the CRC is the last field");

/// Where the CRC stands in a header.
const CRC_AT: usize = HEADER_BYTES - 4;

impl Header {
    /// The header at the start of `buffer` and the magic found there, or `None` when fewer than [`HEADER_BYTES`] are present.
    pub(crate) fn read(buffer: &[u8]) -> Option<(Self, u32)> {
        let (raw, _) = RawHeader::ref_from_prefix(buffer).ok()?;
        let header = Self {
            version: raw.version.get(),
            message_type: raw.message_type.get(),
            flags: Flags::from_bits(raw.flags.get()),
            payload_bytes: raw.payload_bytes.get(),
            message_id: raw.message_id.get(),
            timestamp_us: raw.timestamp_us.get(),
            crc32: raw.crc32.get(),
        };
        Some((header, raw.magic.get()))
    }

    /// The header's bytes.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let raw = RawHeader {
            magic: MAGIC.into(),
            version: self.version.into(),
            message_type: self.message_type.into(),
            flags: self.flags.bits().into(),
            payload_bytes: self.payload_bytes.into(),
            message_id: self.message_id.into(),
            timestamp_us: self.timestamp_us.into(),
            crc32: self.crc32.into(),
        };
        zerocopy::transmute!(raw)
    }

    /// The CRC that a frame of this header and `payload` must carry.
    pub fn crc32_of(&self, payload: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&Self { crc32: 0, ..*self }.to_bytes());
        hasher.update(payload);
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_fields_stand_where_the_table_says() {
        let header = Header {
            version: 0x0102,
            message_type: 0x0304,
            flags: Flags::from_bits(0x0506),
            payload_bytes: 0x0708_090a,
            message_id: 0x0b0c_0d0e_0f10_1112,
            timestamp_us: 0x1314_1516_1718_191a,
            crc32: 0x1b1c_1d1e,
        };
        let mut expected = b"DIST".to_vec();
        expected.extend(1..=0x1e_u8);
        assert_eq!(header.to_bytes().as_slice(), expected);
    }

    proptest! {
        #[test]
        fn a_header_survives_writing_and_reading(version: u16, message_type: u16, flags: u16, payload_bytes: u32, message_id: u64, timestamp_us: u64, crc32: u32) {
            let header = Header { version, message_type, flags: Flags::from_bits(flags), payload_bytes, message_id, timestamp_us, crc32 };
            prop_assert_eq!(Header::read(&header.to_bytes()), Some((header, MAGIC)));
            prop_assert_eq!(Header::read(&header.to_bytes()[..HEADER_BYTES - 1]), None);
        }
    }
}
