//! What a shard asks for. Lent by the caller and reused, so that the steady state allocates little.

use std::ops::Range;

use distric_model::Timestamp;
use distric_wire::{Flags, Message};

use crate::node::checkpoint::Checkpoint;
use crate::node::letters::{Class, CompilerLetter, ConnId, ConsensusLetter, ShardIndex, ShardLetter};

/// Buffer of one turn. Kinds are independent; within a kind the order counts.
#[derive(Default)]
pub struct ShardOutputs {
    bytes: Vec<u8>,
    frames: Vec<(ConnId, Range<usize>)>,
    /// Connections to close once their frames are written.
    pub closes: Vec<ConnId>,
    /// For shards of this node; one for the shard itself is delivered to it as well.
    pub to_shards: Vec<(ShardIndex, Class, ShardLetter)>,
    /// For the raft core.
    pub to_consensus: Vec<ConsensusLetter>,
    /// For the state writer.
    pub checkpoints: Vec<Checkpoint>,
    /// For the compiler.
    pub to_compiler: Vec<CompilerLetter>,
    /// What the operator should read in the log.
    pub notes: Vec<Note>,
}

/// One line for the node's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A group became active here: its leader's first entry is applied.
    GroupActive {
        /// The group's name.
        group: String,
        /// The term.
        term: u64,
    },
    /// This node no longer leads the group.
    GroupLost {
        /// The group's name.
        group: String,
    },
    /// A group stopped at an entry that this version cannot apply.
    GroupHalted {
        /// The group's name.
        group: String,
        /// The log index.
        index: u64,
        /// Why.
        reason: String,
    },
    /// A worker opened a session.
    WorkerAttached {
        /// Its id.
        worker: String,
        /// Its name.
        name: String,
        /// Tasks it runs at once.
        slots: u32,
    },
    /// A worker's stream broke.
    WorkerDetached {
        /// Its id.
        worker: String,
    },
    /// A worker did not come back in time; its tasks of this group are placed again.
    WorkerGivenUp {
        /// The group's name.
        group: String,
        /// Its id.
        worker: String,
    },
    /// A command is larger than any entry may be, and was refused.
    CommandTooLarge {
        /// The group's name.
        group: String,
        /// Its bytes.
        bytes: u64,
        /// Most bytes of an entry.
        limit_bytes: u64,
    },
    /// A connection sent bytes that are no frame.
    BadFrame {
        /// Why.
        reason: String,
    },
    /// A catalog is in use on all shards.
    CatalogInstalled {
        /// Its version.
        version: u64,
    },
    /// The replicated catalog cannot be compiled by this version; the one before stays in use.
    CatalogUnusable {
        /// Why.
        reason: String,
    },
}

impl ShardOutputs {
    /// Appends one frame for a connection.
    pub fn frame<'a, M: Message<'a>>(&mut self, conn: ConnId, message: &M, message_id: u64, at: Timestamp, compress: bool) {
        let start = self.bytes.len();
        if compress {
            distric_wire::encode_compressed(message, message_id, at.as_us(), Flags::NONE, &mut self.bytes);
        } else {
            distric_wire::encode(message, message_id, at.as_us(), Flags::NONE, &mut self.bytes);
        }
        self.note_frame(conn, start);
    }

    /// Appends frames that were encoded elsewhere.
    pub fn raw_frames(&mut self, conn: ConnId, frames: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(frames);
        self.note_frame(conn, start);
    }

    fn note_frame(&mut self, conn: ConnId, start: usize) {
        match self.frames.last_mut() {
            Some((last, range)) if *last == conn && range.end == start => range.end = self.bytes.len(),
            _ => self.frames.push((conn, start..self.bytes.len())),
        }
    }

    /// The bytes to write, per connection in order.
    pub fn frames(&self) -> impl Iterator<Item = (ConnId, &[u8])> {
        self.frames.iter().map(|(conn, range)| (*conn, &self.bytes[range.clone()]))
    }

    /// Forgets the frames and keeps the memory.
    pub fn clear_frames(&mut self) {
        self.frames.clear();
        self.bytes.clear();
    }

    /// A letter to another shard or to the shard itself.
    pub fn letter(&mut self, to: ShardIndex, class: Class, letter: ShardLetter) {
        self.to_shards.push((to, class, letter));
    }
}
