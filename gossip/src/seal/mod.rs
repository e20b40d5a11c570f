//! Seal: packets that only members can make and read, for one receiver, once.
//!
//! ```text
//! "DS" | version u8 | kind u8 | key u16 | bound u8 | sender 16 | generation u64 | counter u64 | text | tag 16
//! text:  what a plain envelope says after the generation, and the inside
//! bound to it, not sent: the head above, the cluster, the receiver's node id (bound = 1) or zeros (bound = 0)
//! ```
//! Not bound to a receiver is only a knock at a seed, whose id nobody knows yet. The id and not the address is bound: an address may be
//! translated on the way, and a receiver may not know all of its own.
//!
//! In: keys, a choice among them, texts, time.  Out: sealed bytes, opened texts, refusals.  Never: random numbers; nonces are counted.
//! Invariant: no counter is used twice in one life.   Invariant: no packet is opened twice, but after a restart of the receiver or once its sender
//! was forgotten; what it says is then old news, and what it answers matches no question.
//! Source: RFC 8452, RFC 5869, RFC 6479. Why: `docs/adr/0022-sealed-gossip.md`. Start reading at [`Sealer::open`].

mod cipher;
mod guards;
mod keys;
mod window;

use distric_model::{ClusterId, Instant, NodeId};

pub(crate) use self::cipher::TAG_BYTES;
use self::guards::{Guards, Heard};
use self::keys::Key;
pub use self::keys::{KEY_BYTES, KEYS_MAX, KeyChoice, KeyId, KeyRing, KeyRingError, KeyWord};
use crate::codec::{DecodeError, Reader, put_node};
use crate::packet::KIND_STREAM;
use crate::refusal::Refusal;
use crate::standing::Generation;

/// How sealed packets begin.
pub(crate) const MAGIC: [u8; 2] = *b"DS";
/// The version of this form.
const VERSION: u8 = 1;
/// Bytes before the text.
pub(crate) const HEAD_BYTES: usize = 2 + 1 + 1 + 2 + 1 + 16 + 8 + 8;

/// The head of a sealed packet.
#[derive(Clone, Copy, Debug)]
struct Head {
    kind: u8,
    key: KeyId,
    is_bound: bool,
    sender: NodeId,
    generation: Generation,
    counter: u64,
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, self.kind]);
        out.extend_from_slice(&self.key.0.to_be_bytes());
        out.push(u8::from(self.is_bound));
        put_node(&mut out, self.sender);
        out.extend_from_slice(&self.generation.0.to_be_bytes());
        out.extend_from_slice(&self.counter.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        if from.take(2)? != MAGIC {
            return Err(DecodeError::Magic);
        }
        let version = from.byte()?;
        if version != VERSION {
            return Err(DecodeError::Version { given: version });
        }
        let kind = from.byte()?;
        let key = KeyId(u16::from_be_bytes(from.array()?));
        let is_bound = match from.byte()? {
            0 => false,
            1 => true,
            _ => return Err(DecodeError::Field { name: "bound" }),
        };
        Ok(Self { kind, key, is_bound, sender: from.node()?, generation: Generation(from.word()?), counter: from.word()? })
    }
}

/// What was inside a sealed packet.
#[derive(Debug)]
pub(crate) struct Unsealed {
    pub(crate) sender: NodeId,
    pub(crate) generation: Generation,
    pub(crate) text: Vec<u8>,
    /// Made for us alone. What is not may only knock.
    pub(crate) is_bound: bool,
    /// Of an earlier life than the latest that was heard: it may be a repetition.
    pub(crate) is_older: bool,
}

/// What is asked about a packet that is to be opened.
pub(crate) struct Opening {
    pub(crate) now: Instant,
    pub(crate) kind: u8,
    /// A generation above this is no honest one.
    pub(crate) generation_max: Generation,
}

/// Seals and opens the packets of one machine.
#[derive(Clone, Debug)]
pub(crate) struct Sealer {
    cluster: ClusterId,
    node: NodeId,
    ring: KeyRing,
    choice: KeyChoice,
    own: Option<(KeyId, Generation, Key)>,
    datagrams_sealed: u64,
    streams_sealed: u64,
    guards: Guards,
}

impl Sealer {
    pub(crate) fn new(cluster: ClusterId, node: NodeId, ring: KeyRing, choice: KeyChoice, senders_max: usize) -> Self {
        Self { cluster, node, ring, choice, own: None, datagrams_sealed: 0, streams_sealed: 0, guards: Guards::new(senders_max) }
    }

    pub(crate) fn word(&self) -> KeyWord {
        KeyWord { held: self.ring.ids(), choice: self.choice }
    }

    /// Replaces the keys. Counters go on: a key that comes back must not meet its old nonces.
    pub(crate) fn set_ring(&mut self, ring: KeyRing) {
        self.ring = ring;
        self.own = None;
        self.guards.drop_subkeys();
    }

    pub(crate) fn set_choice(&mut self, choice: KeyChoice) {
        self.choice = choice;
    }

    pub(crate) fn forget(&mut self, sender: NodeId) {
        self.guards.forget(sender);
    }

    pub(crate) fn senders_count(&self) -> usize {
        self.guards.len()
    }

    fn bound_bytes(&self, head: &[u8], to: Option<NodeId>) -> Vec<u8> {
        let mut bound = Vec::with_capacity(HEAD_BYTES + 32);
        bound.extend_from_slice(head);
        bound.extend_from_slice(&self.cluster.to_bytes());
        bound.extend_from_slice(&to.map_or([0; 16], |to| to.to_bytes()));
        bound
    }

    /// Seals `text` for `to`; for whoever is there when that is not known.
    pub(crate) fn seal(&mut self, kind: u8, generation: Generation, to: Option<NodeId>, text: &[u8]) -> Vec<u8> {
        let key = self.choice.sealing(&self.ring.ids()).expect("a ring holds a key");
        let counter = if kind == KIND_STREAM { &mut self.streams_sealed } else { &mut self.datagrams_sealed };
        *counter += 1;
        let counter = *counter;
        let is_cached = self.own.as_ref().is_some_and(|(id, of, _)| *id == key && *of == generation);
        if !is_cached {
            let secret = self.ring.key(key).expect("the choice is among those that are held");
            self.own = Some((key, generation, cipher::subkey(secret, self.cluster, self.node, generation)));
        }
        let subkey = &self.own.as_ref().expect("it was just derived").2;
        let head = Head { kind, key, is_bound: to.is_some(), sender: self.node, generation, counter }.encode();
        let bound = self.bound_bytes(&head, to);
        let mut sealed = Vec::with_capacity(text.len() + TAG_BYTES);
        sealed.extend_from_slice(text);
        cipher::seal(subkey, kind, counter, &bound, &mut sealed);
        [head, sealed].concat()
    }

    /// Opens what was sealed. Cheap reasons to refuse come first; nothing is remembered of what does not open.
    ///
    /// `needed`: senders that must not be forgotten for a new one.  Errors: the reason, to be counted and not answered.
    pub(crate) fn open(&mut self, asked: &Opening, bytes: &[u8], needed: impl Fn(NodeId) -> bool) -> Result<Unsealed, Refusal> {
        let (head_bytes, text) = bytes.split_at_checked(HEAD_BYTES).ok_or(Refusal::Malformed)?;
        let head = Head::decode(head_bytes)?;
        if head.kind != asked.kind {
            return Err(Refusal::Malformed);
        }
        if head.generation > asked.generation_max {
            return Err(Refusal::Generation);
        }
        let secret = self.ring.key(head.key).filter(|_| self.choice.accepts(head.key)).ok_or(Refusal::UnknownKey)?;
        let guard = self.guards.of(head.sender);
        let is_older = guard.is_some_and(|guard| head.generation < guard.generation);
        let same_life = guard.filter(|guard| guard.generation == head.generation);
        if same_life.is_some_and(|guard| !guard.is_new(head.kind, head.counter)) {
            return Err(Refusal::Replay);
        }
        let cached = same_life.filter(|guard| guard.subkey.0 == head.key).map(|guard| guard.subkey.1.clone());
        let subkey = cached.unwrap_or_else(|| cipher::subkey(secret, self.cluster, head.sender, head.generation));
        let bound = self.bound_bytes(head_bytes, head.is_bound.then_some(self.node));
        let mut text = text.to_vec();
        if !cipher::open(&subkey, head.kind, head.counter, &bound, &mut text) {
            return Err(Refusal::Seal);
        }
        if !is_older {
            let Head { kind, sender, generation, counter, .. } = head;
            let heard = Heard { now: asked.now, kind, sender, generation, counter, subkey: (head.key, subkey) };
            if !self.guards.remember(heard, needed) {
                return Err(Refusal::Senders);
            }
        }
        Ok(Unsealed { sender: head.sender, generation: head.generation, text, is_bound: head.is_bound, is_older })
    }
}

#[cfg(test)]
mod tests;
