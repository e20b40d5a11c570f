//! Stream messages: the comparison of two whole views, which the caller carries over TCP.
//!
//! Three legs: a digest of what the opener knows; an answer with what the opener lacks and what is wanted of it; and the
//! push of what was wanted. Each is one message, and nobody remembers a half-done comparison.

use distric_model::NodeId;

use crate::codec::{DecodeError, Reader, put_node, put_varint};
use crate::packet::Rumour;

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
    /// The inside, around which the envelope goes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
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
        out
    }

    pub(crate) fn decode(inside: &[u8]) -> Result<Self, DecodeError> {
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
        Ok(match leg {
            1 => Self::Digest(rumours),
            2 => Self::Answer { news: rumours, wanted },
            3 => Self::Push(rumours),
            _ => return Err(DecodeError::Field { name: "leg" }),
        })
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

    #[test]
    fn messages_come_back_as_they_were() {
        let rumour = Rumour::brief(node(2), Standing::new(Generation(1), Incarnation(0), State::Dead), Incarnation(0));
        for message in [
            Message::Digest(vec![rumour.clone(); 3]),
            Message::Answer { news: vec![rumour.clone()], wanted: vec![node(5), node(6)] },
            Message::Push(vec![]),
        ] {
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn a_giant_count_is_refused_before_anything_is_allocated() {
        let mut out = vec![1];
        put_varint(&mut out, u64::MAX);
        assert_eq!(Message::decode(&out), Err(DecodeError::Field { name: "count" }));
    }

    proptest! {
        #[test]
        fn any_inside_is_decoded_without_a_panic(inside in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Message::decode(&inside);
        }
    }
}
