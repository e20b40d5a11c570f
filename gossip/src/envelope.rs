//! Envelopes: what stands around the inside of a packet or stream message. Plain with a checksum, or sealed.
//!
//! ```text
//! plain:  "DG" | version u8 | kind u8 | cluster 16 | sender 16 | generation varint | incarnation, profile_at varint | left u8 | inside | CRC-32
//! sealed: head of `seal` | sealed: incarnation, profile_at varint | left u8 | inside | tag
//! ```
//! A node with keys takes only sealed packets, one without only plain ones: nothing can be talked down.

use std::borrow::Cow;

use bytes::Bytes;
use distric_model::{ClusterId, Instant, NodeId};

use crate::codec::{DecodeError, Reader, put_node, put_varint};
use crate::machine::Gossip;
use crate::packet::{DATAGRAM_BYTES_MAX, Header, KIND_STREAM, VERSION};
use crate::refusal::Refusal;
use crate::seal::{self, Opening};
use crate::standing::{Generation, Incarnation, Standing, State};
use crate::stream::STREAM_BYTES_MAX;

const MAGIC: [u8; 2] = *b"DG";
/// What an envelope takes at most, plain or sealed: the fixed part, three varints, a flag, checksum or tag.
pub(crate) const ENVELOPE_BYTES_MAX: usize = seal::HEAD_BYTES + 10 + 5 + 5 + 1 + seal::TAG_BYTES;

/// An opened envelope.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    pub(crate) header: Header,
    pub(crate) inside: Cow<'a, [u8]>,
    /// Whether it was made for this node alone. Of plain ones nobody can tell.
    pub(crate) is_bound: bool,
    /// Whether the sender is known to have had a later life.
    pub(crate) is_older: bool,
}

fn put_word(out: &mut Vec<u8>, header: &Header) {
    put_varint(out, u64::from(header.standing.incarnation.0));
    put_varint(out, u64::from(header.profile_at.0));
    out.push(u8::from(header.standing.state == State::Left));
}

fn take_word(from: &mut Reader<'_>, sender: NodeId, generation: Generation) -> Result<Header, DecodeError> {
    let incarnation = Incarnation(from.number("incarnation")?);
    let profile_at = Incarnation(from.number("profile_at")?);
    let state = if from.byte()? == 0 { State::Alive } else { State::Left };
    if profile_at > incarnation {
        return Err(DecodeError::Field { name: "profile_at" });
    }
    Ok(Header { sender, standing: Standing::new(generation, incarnation, state), profile_at })
}

fn put_plain(out: &mut Vec<u8>, kind: u8, cluster: ClusterId, header: &Header) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, kind]);
    out.extend_from_slice(&cluster.to_bytes());
    put_node(out, header.sender);
    put_varint(out, header.standing.generation.0);
    put_word(out, header);
}

/// A plain envelope around `inside`.
pub(crate) fn wrap_plain(kind: u8, cluster: ClusterId, header: &Header, inside: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ENVELOPE_BYTES_MAX + inside.len());
    put_plain(&mut out, kind, cluster, header);
    out.extend_from_slice(inside);
    let checksum = crc32fast::hash(&out);
    out.extend_from_slice(&checksum.to_be_bytes());
    out
}

/// Checks a plain envelope and its checksum; what is returned with the header is the inside.
pub(crate) fn open_plain(bytes: &[u8], kind: u8, cluster: ClusterId) -> Result<(Header, &[u8]), DecodeError> {
    let Some((whole, checksum)) = bytes.split_last_chunk::<4>() else { return Err(DecodeError::Truncated) };
    let mut from = Reader::new(whole);
    if from.take(2)? != MAGIC {
        return Err(DecodeError::Magic);
    }
    let version = from.byte()?;
    if version != VERSION {
        return Err(DecodeError::Version { given: version });
    }
    if crc32fast::hash(whole) != u32::from_be_bytes(*checksum) {
        return Err(DecodeError::Checksum);
    }
    if from.byte()? != kind {
        return Err(DecodeError::Field { name: "kind" });
    }
    if from.array()? != cluster.to_bytes() {
        return Err(DecodeError::Cluster);
    }
    let (sender, generation) = (from.node()?, Generation(from.varint()?));
    let header = take_word(&mut from, sender, generation)?;
    Ok((header, from.rest()))
}

impl Gossip {
    /// What the envelope of this machine takes beside the inside, bytes.
    pub(crate) fn envelope_bytes(&self, header: &Header) -> usize {
        let mut bytes = Vec::with_capacity(ENVELOPE_BYTES_MAX);
        match &self.sealer {
            None => {
                put_plain(&mut bytes, 0, self.config.cluster, header);
                bytes.len() + 4
            }
            Some(_) => {
                put_word(&mut bytes, header);
                seal::HEAD_BYTES + bytes.len() + seal::TAG_BYTES
            }
        }
    }

    /// The envelope around `inside`, for `to` alone when packets are sealed and it is known.
    pub(crate) fn wrap(&mut self, kind: u8, to: Option<NodeId>, header: &Header, inside: &[u8]) -> Bytes {
        let bytes = match &mut self.sealer {
            None => wrap_plain(kind, self.config.cluster, header, inside),
            Some(sealer) => {
                let mut text = Vec::with_capacity(16 + inside.len());
                put_word(&mut text, header);
                text.extend_from_slice(inside);
                sealer.seal(kind, header.standing.generation, to, &text)
            }
        };
        let max = if kind == KIND_STREAM { STREAM_BYTES_MAX } else { DATAGRAM_BYTES_MAX };
        assert!(bytes.len() <= max, "a message of {} bytes exceeds {max}", bytes.len());
        bytes.into()
    }

    /// Opens what came. Errors: the reason, counted here and never answered.
    pub(crate) fn open<'a>(&mut self, now: Instant, kind: u8, bytes: &'a [u8]) -> Result<Opened<'a>, Refusal> {
        let opened = self.try_open(now, kind, bytes);
        if let Err(refusal) = &opened {
            self.stats.refusals.count(*refusal);
        }
        opened
    }

    fn try_open<'a>(&mut self, now: Instant, kind: u8, bytes: &'a [u8]) -> Result<Opened<'a>, Refusal> {
        let max = if kind == KIND_STREAM { STREAM_BYTES_MAX } else { DATAGRAM_BYTES_MAX };
        if bytes.len() > max {
            return Err(Refusal::TooLong);
        }
        let generation_max = self.generation_max(now);
        let is_sealed = bytes.starts_with(&seal::MAGIC);
        match &mut self.sealer {
            None if is_sealed => Err(Refusal::Sealed),
            None => {
                let (header, inside) = open_plain(bytes, kind, self.config.cluster)?;
                Ok(Opened { header, inside: Cow::Borrowed(inside), is_bound: true, is_older: false })
            }
            Some(_) if bytes.starts_with(&MAGIC) => Err(Refusal::Unsealed),
            Some(sealer) => {
                let table = &self.table;
                let unsealed = sealer.open(&Opening { now, kind, generation_max }, bytes, |node| table.is_live(node))?;
                let mut from = Reader::new(&unsealed.text);
                let header = take_word(&mut from, unsealed.sender, unsealed.generation)?;
                let inside = from.rest().to_vec();
                Ok(Opened { header, inside: Cow::Owned(inside), is_bound: unsealed.is_bound, is_older: unsealed.is_older })
            }
        }
    }
}
