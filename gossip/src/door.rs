//! The door: what the machine hands to its caller.

use std::sync::Arc;

use bytes::Bytes;
use distric_model::{Instant, NodeId};

use crate::endpoint::Endpoint;
use crate::partition::Verdict;
use crate::profile::{Profile, Role};
use crate::seal::{KeyChoice, KeyId};
use crate::standing::{Generation, Incarnation};

/// All effects of one call, in a buffer of the caller. Kinds are independent; within a kind the order holds.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// To send over UDP. A failed send needs no report: it is a lost packet, and a lost packet is a failed probe.
    pub datagrams: Vec<Datagram>,
    /// To send over TCP; what comes back goes to [`crate::Gossip::handle_stream`].
    pub streams: Vec<Stream>,
    /// What has become true.
    pub events: Vec<Event>,
    /// When [`crate::Gossip::handle_timeout`] is wanted next; replaces what was said before. `None` when the node has left.
    pub wake_at: Option<Instant>,
}

impl Outputs {
    /// Empties the buffers and keeps their memory.
    pub fn clear(&mut self) {
        self.datagrams.clear();
        self.streams.clear();
        self.events.clear();
        self.wake_at = None;
    }
}

/// One packet to one endpoint.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Where to.
    pub to: Endpoint,
    /// What; shared when several targets get the same.
    pub bytes: Bytes,
}

/// One message over TCP.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The endpoint to connect to, or for an answer the `from` that was handed in.
    pub to: Endpoint,
    /// Whether to open a connection or to use the one it answers.
    pub leg: Leg,
    /// The message; the caller frames it.
    pub bytes: Bytes,
}

/// Which connection a stream message takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// A new one.
    Open,
    /// The one on which the message came that this answers.
    Answer,
}

/// What has become true. Nobody need listen: events are hints, [`crate::Gossip::members`] is the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node joined, or returned after it was dead or had left.
    Joined {
        /// Who.
        node: NodeId,
        /// Which life.
        generation: Generation,
        /// What it says about itself.
        profile: Arc<Profile>,
    },
    /// A live node restarted before it was missed: whatever the old life held is gone.
    Restarted {
        /// Who.
        node: NodeId,
        /// The new life.
        generation: Generation,
        /// What it says about itself.
        profile: Arc<Profile>,
    },
    /// A node failed a probe.
    Suspected {
        /// Who.
        node: NodeId,
        /// Which life.
        generation: Generation,
        /// Who said so.
        accuser: NodeId,
    },
    /// A suspected node spoke up.
    Refuted {
        /// Who.
        node: NodeId,
        /// Which word.
        incarnation: Incarnation,
    },
    /// A suspected node did not speak up in time.
    Failed {
        /// Who.
        node: NodeId,
        /// Which life.
        generation: Generation,
    },
    /// A node said good-bye.
    Left {
        /// Who.
        node: NodeId,
        /// Which life.
        generation: Generation,
    },
    /// A node says something new about itself.
    Changed {
        /// Who.
        node: NodeId,
        /// What it says.
        profile: Arc<Profile>,
    },
    /// A node does something else now.
    RoleChanged {
        /// Who.
        node: NodeId,
        /// What.
        role: Role,
    },
    /// The verdict about a partition changed.
    Partition {
        /// From.
        from: Verdict,
        /// To.
        to: Verdict,
    },
    /// Another process lives under this node's id in a later generation: this one should stop.
    Superseded {
        /// The later generation.
        generation: Generation,
    },
    /// Two endpoints claim one node in one generation; the one known first is kept.
    Conflict {
        /// Who.
        node: NodeId,
        /// Whose claim was refused.
        refused: Endpoint,
    },
    /// This node follows another choice of keys.
    KeyChosen {
        /// The choice.
        choice: KeyChoice,
        /// What it seals with now; not the primary when it lacks that.
        sealing: KeyId,
    },
    /// The incarnations of this generation are used up; this node goes on in the next one, which should be stored.
    GenerationRaised {
        /// The one to store.
        generation: Generation,
    },
    /// A seed answered and its view was taken over.
    Ready {
        /// Live members, this node included.
        live_count: usize,
    },
}
