//! Stream messages: the comparison of two whole views, which the caller carries over TCP.
//!
//! Three legs: a digest of what the opener knows; an answer with what the opener lacks and what is wanted of it; and the
//! push of what was wanted. Each is one message, and nobody remembers a half-done comparison.

use bytes::Bytes;
use distric_model::{ClusterId, NodeId};

use crate::codec::{DecodeError, Reader, put_node, put_varint};
use crate::packet::{Header, KIND_STREAM, Rumour, open, put_checksum, put_envelope};

/// Largest stream message sent or taken, bytes.
pub const STREAM_BYTES_MAX: usize = 16 << 20;
/// Most rumours in one message. More waits for the next comparison.
pub(crate) const STREAM_RUMOURS_MAX: usize = 16_384;
/// The smallest rumour on the wire, bytes: what a count is checked against before anything is allocated.
const RUMOUR_BYTES_MIN: usize = 2 + 16 + 3;

/// One stream message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// All that I know, briefly.
    Digest(Vec<Rumour>),
    /// What you lack, and what I lack.
    Answer { news: Vec<Rumour>, wanted: Vec<NodeId> },
    /// What you wanted.
    Push(Vec<Rumour>),
}

impl Message {
    pub(crate) fn encode(&self, cluster: ClusterId, header: &Header) -> Bytes {
        let mut out = Vec::new();
        put_envelope(&mut out, KIND_STREAM, cluster, header);
        let (leg, rumours, wanted): (u8, &[Rumour], &[NodeId]) = match self {
            Self::Digest(rumours) => (1, rumours, &[]),
            Self::Answer { news, wanted } => (2, news, wanted),
            Self::Push(rumours) => (3, rumours, &[]),
        };
        out.push(leg);
        put_varint(&mut out, rumours.len() as u64);
        rumours.iter().for_each(|rumour| rumour.encode(&mut out));
        put_varint(&mut out, wanted.len() as u64);
        wanted.iter().for_each(|node| put_node(&mut out, *node));
        put_checksum(&mut out);
        out.into()
    }

    pub(crate) fn decode(bytes: &[u8], cluster: ClusterId) -> Result<(Header, Self), DecodeError> {
        if bytes.len() > STREAM_BYTES_MAX {
            return Err(DecodeError::TooLong { given: bytes.len(), max: STREAM_BYTES_MAX });
        }
        let (header, inside) = open(bytes, KIND_STREAM, cluster)?;
        let mut from = Reader::new(inside);
        let leg = from.byte()?;
        let count = counted(&mut from, RUMOUR_BYTES_MIN)?;
        let mut rumours = Vec::with_capacity(count);
        for _ in 0..count {
            rumours.push(Rumour::decode(&mut from)?);
        }
        let count = counted(&mut from, 16)?;
        let mut wanted = Vec::with_capacity(count);
        for _ in 0..count {
            wanted.push(from.node()?);
        }
        let message = match leg {
            1 => Self::Digest(rumours),
            2 => Self::Answer { news: rumours, wanted },
            3 => Self::Push(rumours),
            _ => return Err(DecodeError::Field { name: "leg" }),
        };
        Ok((header, message))
    }
}

/// A count that the bytes at hand can hold.
fn counted(from: &mut Reader<'_>, each_bytes_min: usize) -> Result<usize, DecodeError> {
    let count: usize = from.number("count")?;
    if count <= STREAM_RUMOURS_MAX && count <= from.rest().len() / each_bytes_min {
        Ok(count)
    } else {
        Err(DecodeError::Field { name: "count" })
    }
}

#[cfg(test)]
mod tests {
    use distric_model::{Slot, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::standing::{Generation, Incarnation, Standing, State};

    fn node(n: u64) -> NodeId {
        NodeId::new(Timestamp::from_us(0), Slot::truncate(0), n)
    }

    fn cluster() -> ClusterId {
        ClusterId::new(Timestamp::from_us(0), Slot::truncate(0), 1)
    }

    fn header() -> Header {
        Header { sender: node(1), standing: Standing::new(Generation(7), Incarnation(3), State::Alive), profile_at: Incarnation(0) }
    }

    #[test]
    fn messages_come_back_as_they_were() {
        let rumour = Rumour::brief(node(2), Standing::new(Generation(1), Incarnation(0), State::Dead), Incarnation(0));
        for message in [
            Message::Digest(vec![rumour.clone(); 3]),
            Message::Answer { news: vec![rumour.clone()], wanted: vec![node(5), node(6)] },
            Message::Push(vec![]),
        ] {
            let bytes = message.encode(cluster(), &header());
            assert_eq!(Message::decode(&bytes, cluster()), Ok((header(), message)));
        }
    }

    #[test]
    fn a_giant_count_is_refused_before_anything_is_allocated() {
        let mut out = Vec::new();
        put_envelope(&mut out, KIND_STREAM, cluster(), &header());
        out.push(1);
        put_varint(&mut out, u64::MAX);
        put_checksum(&mut out);
        assert_eq!(Message::decode(&out, cluster()), Err(DecodeError::Field { name: "count" }));
    }

    proptest! {
        #[test]
        fn any_inside_is_decoded_without_a_panic(inside in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut out = Vec::new();
            put_envelope(&mut out, KIND_STREAM, cluster(), &header());
            out.extend_from_slice(&inside);
            put_checksum(&mut out);
            let _ = Message::decode(&out, cluster());
        }
    }
}
