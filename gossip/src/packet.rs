//! Packets: what travels in one datagram. An envelope, then parts until the end, then a checksum.
//!
//! ```text
//! envelope: see `envelope`
//! part:     tag u8 | bytes varint | body          (an unknown tag is skipped, so that old nodes read new packets)
//! ```
//! One inside leaves identical to all its targets and names none of them; a ping names its target, and a seal its receiver.

use std::sync::Arc;

use distric_model::NodeId;

use crate::codec::{DecodeError, Reader, put_bytes, put_node, put_varint};
use crate::envelope::ENVELOPE_BYTES_MAX;
use crate::profile::{Load, PROFILE_BYTES_MAX, Profile};
use crate::standing::{Generation, Incarnation, Standing, State};

/// Largest datagram sent or taken, bytes, the seal included: fits an Ethernet frame under IPv6 and UDP.
pub const DATAGRAM_BYTES_MAX: usize = 1_400;
/// The version of the encoding.
pub const VERSION: u8 = 2;
/// Most parts looked at in one datagram; the smallest part is 2 bytes.
const PARTS_MAX: usize = 255;
/// What a rumour takes at most: tag, length, state, hops, two ids, three varints, flag, profile.
const RUMOUR_BYTES_MAX: usize = 3 + 2 + 32 + 20 + 2 + PROFILE_BYTES_MAX;
/// What a probe with its load takes at most.
const PROBE_BYTES_MAX: usize = 2 + 8 + 1 + 16 + 8 + 2 + 16 + 22;

const _: () = assert!(
    ENVELOPE_BYTES_MAX + PROBE_BYTES_MAX + RUMOUR_BYTES_MAX <= DATAGRAM_BYTES_MAX,
    "the largest rumour fits into a datagram beside a probe"
);

/// The envelope of a datagram.
pub(crate) const KIND_DATAGRAM: u8 = 1;
/// The envelope of a stream message.
pub(crate) const KIND_STREAM: u8 = 2;

/// Who sends, and what it says about itself: a rumour at first hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) sender: NodeId,
    pub(crate) standing: Standing,
    pub(crate) profile_at: Incarnation,
}

/// A word about a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rumour {
    pub(crate) node: NodeId,
    pub(crate) standing: Standing,
    /// The incarnation at which the profile last changed, as far as the sender knows.
    pub(crate) profile_at: Incarnation,
    /// Who says so first hand: the accuser of a suspect, or who declared it dead.
    pub(crate) accuser: Option<NodeId>,
    /// The profile of (generation, `profile_at`); most rumours travel without.
    pub(crate) profile: Option<Arc<Profile>>,
    /// How many hops in haste it had left, this one included; none in the copies of the ticks.
    pub(crate) hops: u8,
}

/// One part of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Are you there? Without a target: whoever is there.
    Ping { cookie: u64, target: Option<NodeId>, view: u64 },
    /// I am, or the one you asked me about is.
    Ack { cookie: u64, view: u64 },
    /// Please ask `target` for me.
    PingReq { cookie: u64, target: NodeId },
    /// I asked it, and had no answer in time; but I am here.
    Nack { cookie: u64 },
    /// A word about a member.
    Rumour(Rumour),
    /// A sample of a member's load.
    Load { node: NodeId, generation: Generation, load: Load },
}

const TAG_PING: u8 = 1;
const TAG_ACK: u8 = 2;
const TAG_PING_REQ: u8 = 3;
const TAG_NACK: u8 = 4;
const TAG_RUMOUR: u8 = 5;
const TAG_LOAD: u8 = 6;

impl Part {
    /// Appends tag, length and body; `scratch` is lent for the body.
    pub(crate) fn encode(&self, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        scratch.clear();
        let tag = match self {
            Self::Ping { cookie, target, view } => {
                scratch.extend_from_slice(&cookie.to_be_bytes());
                scratch.extend_from_slice(&view.to_be_bytes());
                if let Some(target) = target {
                    put_node(scratch, *target);
                }
                TAG_PING
            }
            Self::Ack { cookie, view } => {
                scratch.extend_from_slice(&cookie.to_be_bytes());
                scratch.extend_from_slice(&view.to_be_bytes());
                TAG_ACK
            }
            Self::PingReq { cookie, target } => {
                scratch.extend_from_slice(&cookie.to_be_bytes());
                put_node(scratch, *target);
                TAG_PING_REQ
            }
            Self::Nack { cookie } => {
                scratch.extend_from_slice(&cookie.to_be_bytes());
                TAG_NACK
            }
            Self::Rumour(rumour) => {
                rumour.encode(scratch);
                TAG_RUMOUR
            }
            Self::Load { node, generation, load } => {
                put_node(scratch, *node);
                put_varint(scratch, generation.0);
                load.encode(scratch);
                TAG_LOAD
            }
        };
        out.push(tag);
        put_bytes(out, scratch);
    }

    /// Whether it may stand in a packet that is made for nobody in particular: a ping for whoever is there, and words.
    pub(crate) const fn is_knock(&self) -> bool {
        matches!(self, Self::Ping { target: None, .. } | Self::Rumour(_) | Self::Load { .. })
    }

    fn decode(tag: u8, body: &[u8]) -> Result<Option<Self>, DecodeError> {
        let mut from = Reader::new(body);
        Ok(Some(match tag {
            TAG_PING => {
                let (cookie, view) = (from.word()?, from.word()?);
                let target = if from.is_empty() { None } else { Some(from.node()?) };
                Self::Ping { cookie, view, target }
            }
            TAG_ACK => Self::Ack { cookie: from.word()?, view: from.word()? },
            TAG_PING_REQ => Self::PingReq { cookie: from.word()?, target: from.node()? },
            TAG_NACK => Self::Nack { cookie: from.word()? },
            TAG_RUMOUR => Self::Rumour(Rumour::decode(&mut from)?),
            TAG_LOAD => Self::Load { node: from.node()?, generation: Generation(from.varint()?), load: Load::decode(&mut from)? },
            _ => return Ok(None),
        }))
    }
}

const HAS_ACCUSER: u8 = 0x10;
const HAS_PROFILE: u8 = 0x20;

impl Rumour {
    /// A word without accuser, profile or haste.
    pub(crate) const fn brief(node: NodeId, standing: Standing, profile_at: Incarnation) -> Self {
        Self { node, standing, profile_at, accuser: None, profile: None, hops: 0 }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut flags = self.standing.state as u8;
        flags |= if self.accuser.is_some() { HAS_ACCUSER } else { 0 };
        flags |= if self.profile.is_some() { HAS_PROFILE } else { 0 };
        out.push(flags);
        out.push(self.hops);
        put_node(out, self.node);
        put_varint(out, self.standing.generation.0);
        put_varint(out, u64::from(self.standing.incarnation.0));
        put_varint(out, u64::from(self.profile_at.0));
        if let Some(accuser) = self.accuser {
            put_node(out, accuser);
        }
        if let Some(profile) = &self.profile {
            profile.encode(out);
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let flags = from.byte()?;
        let hops = from.byte()?;
        let node = from.node()?;
        let state = State::of(flags & 0x0f).ok_or(DecodeError::Field { name: "state" })?;
        let standing = Standing::new(Generation(from.varint()?), Incarnation(from.number("incarnation")?), state);
        let profile_at = Incarnation(from.number("profile_at")?);
        let accuser = if flags & HAS_ACCUSER != 0 { Some(from.node()?) } else { None };
        let profile = if flags & HAS_PROFILE != 0 { Some(Arc::new(Profile::decode(from)?)) } else { None };
        if profile_at > standing.incarnation {
            return Err(DecodeError::Field { name: "profile_at" });
        }
        Ok(Self { node, standing, profile_at, accuser, profile, hops })
    }
}

/// The parts of an opened packet, decoded one by one. Stops at the first that is not understood.
pub(crate) struct Parts<'a> {
    from: Reader<'a>,
    seen: usize,
    broken: bool,
}

impl<'a> Parts<'a> {
    pub(crate) const fn new(inside: &'a [u8]) -> Self {
        Self { from: Reader::new(inside), seen: 0, broken: false }
    }

    fn one(&mut self) -> Result<Option<Part>, DecodeError> {
        let tag = self.from.byte()?;
        let count: usize = self.from.number("part")?;
        Part::decode(tag, self.from.take(count)?)
    }
}

impl Iterator for Parts<'_> {
    type Item = Result<Part, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.broken && !self.from.is_empty() && self.seen < PARTS_MAX {
            self.seen += 1;
            match self.one() {
                Ok(None) => {}
                Ok(Some(part)) => return Some(Ok(part)),
                Err(error) => {
                    self.broken = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// A datagram in the making: its parts, and what the envelope will take. Refuses what would not fit.
pub(crate) struct Packet {
    pub(crate) header: Header,
    envelope_bytes: usize,
    parts: Vec<u8>,
    part: Vec<u8>,
    scratch: Vec<u8>,
}

impl Packet {
    pub(crate) fn new(header: Header, envelope_bytes: usize) -> Self {
        assert!(envelope_bytes <= ENVELOPE_BYTES_MAX, "an envelope of {envelope_bytes} bytes exceeds {ENVELOPE_BYTES_MAX}");
        Self { header, envelope_bytes, parts: Vec::with_capacity(160), part: Vec::new(), scratch: Vec::new() }
    }

    /// Bytes that still fit, the envelope taken off.
    pub(crate) const fn room(&self) -> usize {
        DATAGRAM_BYTES_MAX - self.envelope_bytes - self.parts.len()
    }

    /// Adds a part; false when it does not fit within `bytes_max` and the datagram.
    pub(crate) fn push_within(&mut self, part: &Part, bytes_max: usize) -> bool {
        self.part.clear();
        part.encode(&mut self.scratch, &mut self.part);
        let fits = self.part.len() <= self.room().min(bytes_max);
        if fits {
            self.parts.extend_from_slice(&self.part);
        }
        fits
    }

    pub(crate) fn push(&mut self, part: &Part) -> bool {
        self.push_within(part, DATAGRAM_BYTES_MAX)
    }

    /// Adds a part that was encoded before; false when it does not fit.
    pub(crate) fn push_encoded(&mut self, part: &[u8]) -> bool {
        let fits = part.len() <= self.room();
        if fits {
            self.parts.extend_from_slice(part);
        }
        fits
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(crate) const fn part_bytes(&self) -> usize {
        self.parts.len()
    }

    /// What it will measure, envelope included.
    pub(crate) const fn finished_bytes(&self) -> usize {
        self.envelope_bytes + self.parts.len()
    }

    /// What the envelope goes around.
    pub(crate) fn inside(&self) -> &[u8] {
        &self.parts
    }
}

#[cfg(test)]
mod tests {
    use distric_model::{ClusterId, Slot, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::endpoint::Endpoint;
    use crate::envelope::{open_plain as open, wrap_plain};

    fn node(n: u64) -> NodeId {
        NodeId::new(Timestamp::from_us(0), Slot::truncate(0), n)
    }

    fn cluster(n: u64) -> ClusterId {
        ClusterId::new(Timestamp::from_us(0), Slot::truncate(0), n)
    }

    fn header() -> Header {
        Header { sender: node(1), standing: Standing::new(Generation(7), Incarnation(3), State::Alive), profile_at: Incarnation(2) }
    }

    fn parts() -> Vec<Part> {
        let standing = Standing::new(Generation(1 << 41), Incarnation(300), State::Suspect);
        let mut full = Rumour::brief(node(3), standing.with(State::Alive), Incarnation(9));
        full.profile = Some(Arc::new(Profile::worker(Endpoint::v4([10, 0, 0, 1], 7946))));
        vec![
            Part::Ping { cookie: 5, target: Some(node(2)), view: 6 },
            Part::Ping { cookie: 5, target: None, view: 6 },
            Part::Ack { cookie: 5, view: 1 },
            Part::PingReq { cookie: 5, target: node(2) },
            Part::Nack { cookie: u64::MAX },
            Part::Rumour(Rumour { accuser: Some(node(9)), hops: 2, ..Rumour::brief(node(2), standing, Incarnation(0)) }),
            Part::Rumour(full),
            Part::Load {
                node: node(4),
                generation: Generation(2),
                load: Load { seq: 1, running: 2, queued: 3, cpu_permille: 4, memory_permille: 5 },
            },
        ]
    }

    fn packet() -> Vec<u8> {
        let mut packet = Packet::new(header(), 60);
        for part in parts() {
            assert!(packet.push(&part));
        }
        wrap_plain(KIND_DATAGRAM, cluster(1), &header(), packet.inside())
    }

    #[test]
    fn a_packet_comes_back_as_it_was() {
        let bytes = packet();
        let (opened, inside) = open(&bytes, KIND_DATAGRAM, cluster(1)).unwrap();
        assert_eq!(opened, header());
        assert_eq!(Parts::new(inside).collect::<Result<Vec<_>, _>>().unwrap(), parts());
    }

    #[test]
    fn another_cluster_another_kind_and_every_flipped_bit_are_refused() {
        let bytes = packet();
        assert_eq!(open(&bytes, KIND_DATAGRAM, cluster(2)), Err(DecodeError::Cluster));
        assert_eq!(open(&bytes, KIND_STREAM, cluster(1)), Err(DecodeError::Field { name: "kind" }));
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes.to_vec();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&bent, KIND_DATAGRAM, cluster(1)).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_suspicion_is_small_enough_for_twenty_in_one_datagram() {
        let mut packet = Packet::new(header(), ENVELOPE_BYTES_MAX);
        let suspicion = parts().remove(5);
        let fitted = (0..100).take_while(|_| packet.push(&suspicion)).count();
        assert!(fitted >= 20, "{fitted}");
        assert!(packet.finished_bytes() <= DATAGRAM_BYTES_MAX);
    }

    #[test]
    fn unknown_parts_are_skipped_and_a_cut_part_ends_the_packet() {
        let inside = [77, 2, 1, 1, TAG_NACK, 8, 0, 0, 0, 0, 0, 0, 0, 1, TAG_NACK, 8, 0];
        let read: Vec<_> = Parts::new(&inside).collect();
        assert_eq!(read, [Ok(Part::Nack { cookie: 1 }), Err(DecodeError::Truncated)]);
    }

    #[test]
    fn more_parts_than_the_bound_are_not_looked_at() {
        let inside = [99, 0].repeat(10_000);
        assert_eq!(Parts::new(&inside).count(), 0);
        let inside: Vec<u8> = [TAG_NACK, 8, 0, 0, 0, 0, 0, 0, 0, 1].repeat(300);
        assert_eq!(Parts::new(&inside).count(), PARTS_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
            let _ = open(&bytes, KIND_DATAGRAM, cluster(1));
            prop_assert!(Parts::new(&bytes).count() <= PARTS_MAX);
        }

        #[test]
        fn bent_parts_are_decoded_without_a_panic(at in 0_usize..400, to: u8, cut in 0_usize..400) {
            let mut inside = packet()[50..].to_vec();
            let last = inside.len() - 1;
            inside[at.min(last)] = to;
            inside.truncate(cut.max(1));
            let _ = Parts::new(&inside).collect::<Vec<_>>();
        }
    }
}
