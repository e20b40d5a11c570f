//! The smallest pieces of the encoding: varints, ids, texts, and why a decoding stopped.
//!
//! Total: whatever the bytes, a [`Reader`] ends in a value or a [`DecodeError`], never in a panic, and allocates no more
//! than the bound that the caller names.

use distric_model::NodeId;

/// Why bytes from outside were not understood. They are dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("truncated")]
    Truncated,
    /// More bytes than any sender of ours would send.
    #[error("{given} bytes, at most {max}")]
    TooLong {
        /// What came.
        given: usize,
        /// The bound.
        max: usize,
    },
    /// Not ours.
    #[error("not a gossip packet")]
    Magic,
    /// A version that we do not speak.
    #[error("version {given} is not spoken here")]
    Version {
        /// Theirs.
        given: u8,
    },
    /// Damaged on the way.
    #[error("checksum differs")]
    Checksum,
    /// Another cluster's.
    #[error("belongs to another cluster")]
    Cluster,
    /// A field holds what it cannot.
    #[error("field {name} is out of its range")]
    Field {
        /// Which.
        name: &'static str,
    },
}

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.try_into().map_err(|_| DecodeError::Truncated)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn word(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && low > 1 {
                break;
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Field { name: "varint" })
    }

    pub(crate) fn number<T: TryFrom<u64>>(&mut self, name: &'static str) -> Result<T, DecodeError> {
        T::try_from(self.varint()?).map_err(|_| DecodeError::Field { name })
    }

    pub(crate) fn node(&mut self) -> Result<NodeId, DecodeError> {
        NodeId::from_bytes(self.array()?).map_err(|_| DecodeError::Field { name: "node" })
    }

    pub(crate) fn text(&mut self, name: &'static str, bytes_max: usize) -> Result<String, DecodeError> {
        let count: usize = self.number(name)?;
        if count > bytes_max {
            return Err(DecodeError::Field { name });
        }
        std::str::from_utf8(self.take(count)?).map(str::to_owned).map_err(|_| DecodeError::Field { name })
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_node(out: &mut Vec<u8>, node: NodeId) {
    out.extend_from_slice(&node.to_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_come_back(value: u64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert!(reader.is_empty());
        }
    }

    #[test]
    fn an_endless_varint_ends() {
        assert_eq!(Reader::new(&[0xff; 32]).varint(), Err(DecodeError::Field { name: "varint" }));
        assert_eq!(Reader::new(&[0x80]).varint(), Err(DecodeError::Truncated));
    }
}
