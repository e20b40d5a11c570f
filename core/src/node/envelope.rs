//! The envelope: what every command of the log carries besides itself.
//!
//! In: a command's bytes, stamped by the leader.  Out: one log entry's data, and back.
//! Invariant: the layout of a released version never changes; a reader refuses versions that it does not know.
//!
//! Layout, big-endian: version u8 (1), stamp u64 (µs since the epoch), draw u64, proposer's node id 16 bytes,
//! proposer's boot u64, proposal number u64, then the command. Fixed, so that it is read without a parser.

use bytes::Bytes;
use distric_model::{NodeId, Timestamp};

/// Bytes before the command.
pub const ENVELOPE_BYTES: usize = 1 + 8 + 8 + 16 + 8 + 8;
const VERSION: u8 = 1;

/// Who asked for an entry, so that the answer finds its way back. Plays no part in apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The node whose client, worker or timer it was.
    pub node: NodeId,
    /// That node's start, drawn at each start: answers to an earlier life are dropped.
    pub boot: u64,
    /// The proposal on that node; its top 16 bits name the shard. [`NO_REPLY`] wants no answer.
    pub number: ProposalNumber,
}

/// A proposal of one node: shard in the top 16 bits, a counter below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalNumber(pub u64);

/// The number of proposals that nobody waits for.
pub const NO_REPLY: ProposalNumber = ProposalNumber(u64::MAX);

impl ProposalNumber {
    /// The `count`-th proposal of a shard.
    pub fn new(shard: usize, count: u64) -> Self {
        Self(((shard as u64) << 48) | (count & 0x0000_ffff_ffff_ffff))
    }

    /// The shard that proposed it.
    pub fn shard(self) -> usize {
        (self.0 >> 48) as usize
    }
}

/// One entry's data, taken apart; borrows the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The leader's machine time when it proposed the entry.
    pub stamp: Timestamp,
    /// The leader's random draw, for whatever apply must draw (jitter).
    pub draw: u64,
    /// Who asked.
    pub origin: Origin,
    /// The command, as the group's machine reads it.
    pub command: &'a [u8],
}

/// The entry's data is not an envelope that this version can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Shorter than the fixed part.
    #[error("log entry of {bytes} bytes is shorter than its envelope of {ENVELOPE_BYTES} bytes")]
    Short {
        /// Its length.
        bytes: usize,
    },
    /// Written by a newer version.
    #[error("log entry has envelope version {found}, this version reads {VERSION}")]
    Version {
        /// The version found.
        found: u8,
    },
    /// The proposer's id is not a node id.
    #[error("log entry names no valid proposer")]
    Proposer,
}

impl<'a> Envelope<'a> {
    /// Writes the entry's data.
    pub fn seal(stamp: Timestamp, draw: u64, origin: Origin, command: &[u8]) -> Bytes {
        let mut data = Vec::with_capacity(ENVELOPE_BYTES + command.len());
        data.push(VERSION);
        data.extend_from_slice(&stamp.as_us().to_be_bytes());
        data.extend_from_slice(&draw.to_be_bytes());
        data.extend_from_slice(&origin.node.to_bytes());
        data.extend_from_slice(&origin.boot.to_be_bytes());
        data.extend_from_slice(&origin.number.0.to_be_bytes());
        data.extend_from_slice(command);
        Bytes::from(data)
    }

    /// Takes the entry's data apart. Errors: see [`EnvelopeError`].
    pub fn open(data: &'a [u8]) -> Result<Self, EnvelopeError> {
        let short = EnvelopeError::Short { bytes: data.len() };
        let (fixed, command) = data.split_first_chunk::<ENVELOPE_BYTES>().ok_or(short)?;
        if fixed[0] != VERSION {
            return Err(EnvelopeError::Version { found: fixed[0] });
        }
        let word = |at: usize| u64::from_be_bytes(fixed[at..at + 8].try_into().expect("eight bytes of the fixed part"));
        let node: [u8; 16] = fixed[17..33].try_into().expect("sixteen bytes of the fixed part");
        Ok(Self {
            stamp: Timestamp::from_us(word(1)),
            draw: word(9),
            origin: Origin {
                node: NodeId::from_bytes(node).map_err(|_| EnvelopeError::Proposer)?,
                boot: word(33),
                number: ProposalNumber(word(41)),
            },
            command,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use distric_model::Slot;

    fn origin() -> Origin {
        let node = NodeId::new(Timestamp::from_us(1_700_000_000_000_000), Slot::truncate(0), 9);
        Origin { node, boot: 77, number: ProposalNumber::new(3, 41) }
    }

    #[test]
    fn an_envelope_survives_the_log() {
        let data = Envelope::seal(Timestamp::from_us(5), 6, origin(), b"command");
        let envelope = Envelope::open(&data).unwrap();
        assert_eq!(envelope, Envelope { stamp: Timestamp::from_us(5), draw: 6, origin: origin(), command: b"command" });
        assert_eq!(envelope.origin.number.shard(), 3);
        assert_eq!(NO_REPLY.shard(), 0xffff);
    }

    #[test]
    fn damaged_data_is_refused_by_name() {
        let data = Envelope::seal(Timestamp::from_us(5), 6, origin(), b"");
        assert_eq!(Envelope::open(&data[..48]), Err(EnvelopeError::Short { bytes: 48 }));
        let mut newer = data.to_vec();
        newer[0] = 2;
        assert_eq!(Envelope::open(&newer), Err(EnvelopeError::Version { found: 2 }));
        let mut foreign = data.to_vec();
        foreign[17..33].fill(0);
        assert_eq!(Envelope::open(&foreign), Err(EnvelopeError::Proposer));
    }
}
