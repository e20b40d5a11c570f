//! Guards: one per sender, who knows its key and which of its packets have come. Only what was authentic makes one.
//!
//! Invariant: at most `max` guards.   Invariant: a guard's generation never falls.

use std::collections::BTreeMap;

use distric_model::{Instant, NodeId};

use super::keys::{Key, KeyId};
use super::window::Window;
use crate::packet::KIND_STREAM;
use crate::standing::Generation;

/// Datagrams of one sender may overtake each other by so many, in words of 64: 2,048 packets are some minutes of an idle node and five seconds
/// of one whose urgent lane is at its bound. Streams come one at a time.
const DATAGRAM_WORDS: usize = 32;
const STREAM_WORDS: usize = 1;

/// What is remembered of one sender. 400 bytes.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    pub(super) generation: Generation,
    datagrams: Window<DATAGRAM_WORDS>,
    streams: Window<STREAM_WORDS>,
    /// The key last used, so that it is not derived for every packet.
    pub(super) subkey: (KeyId, Key),
    heard_at: Instant,
}

impl Guard {
    pub(super) fn is_new(&self, kind: u8, counter: u64) -> bool {
        if kind == KIND_STREAM { self.streams.is_new(counter) } else { self.datagrams.is_new(counter) }
    }
}

/// What an authentic packet is remembered by.
pub(super) struct Heard {
    pub(super) now: Instant,
    pub(super) kind: u8,
    pub(super) sender: NodeId,
    pub(super) generation: Generation,
    pub(super) counter: u64,
    pub(super) subkey: (KeyId, Key),
}

#[derive(Clone, Debug)]
pub(super) struct Guards {
    guards: BTreeMap<NodeId, Guard>,
    max: usize,
}

impl Guards {
    pub(super) const fn new(max: usize) -> Self {
        Self { guards: BTreeMap::new(), max }
    }

    pub(super) fn of(&self, sender: NodeId) -> Option<&Guard> {
        self.guards.get(&sender)
    }

    pub(super) fn len(&self) -> usize {
        self.guards.len()
    }

    pub(super) fn forget(&mut self, sender: NodeId) {
        self.guards.remove(&sender);
    }

    /// Remembers an authentic packet; a later life of the sender begins with an empty window. False when there is no room: all senders that are
    /// remembered are `needed`.
    pub(super) fn remember(&mut self, heard: Heard, needed: impl Fn(NodeId) -> bool) -> bool {
        let Heard { now, kind, sender, generation, counter, subkey } = heard;
        if !self.guards.contains_key(&sender) && self.guards.len() >= self.max {
            let idle = self.guards.iter().filter(|(node, _)| !needed(**node)).min_by_key(|(node, guard)| (guard.heard_at, **node));
            let Some(idle) = idle.map(|(node, _)| *node) else { return false };
            self.guards.remove(&idle);
        }
        let fresh = || Guard { generation, datagrams: Window::new(), streams: Window::new(), subkey: subkey.clone(), heard_at: now };
        let guard = self.guards.entry(sender).or_insert_with(fresh);
        if guard.generation < generation {
            *guard = fresh();
        }
        assert!(guard.generation == generation, "an older life is not remembered over a later one");
        guard.subkey = subkey;
        guard.heard_at = now;
        if kind == KIND_STREAM {
            guard.streams.mark(counter)
        } else {
            guard.datagrams.mark(counter)
        }
        true
    }

    /// The keys changed: what was derived from them is derived again.
    pub(super) fn drop_subkeys(&mut self) {
        // No key has the id 0.
        self.guards.values_mut().for_each(|guard| guard.subkey.0 = KeyId(0));
    }
}

#[cfg(test)]
mod tests {
    use distric_model::{Slot, Timestamp};

    use super::*;
    use crate::packet::KIND_DATAGRAM;
    use crate::seal::keys::KEY_BYTES;

    fn node(n: u64) -> NodeId {
        NodeId::new(Timestamp::from_us(0), Slot::truncate(0), n)
    }

    fn heard(n: u64, at: u64, generation: u64, counter: u64) -> Heard {
        Heard {
            now: Instant::from_us(at),
            kind: KIND_DATAGRAM,
            sender: node(n),
            generation: Generation(generation),
            counter,
            subkey: (KeyId(1), Key([0; KEY_BYTES])),
        }
    }

    #[test]
    fn senders_are_bounded_and_the_longest_silent_that_is_not_needed_goes_first() {
        let mut guards = Guards::new(3);
        (1..=3).for_each(|n| assert!(guards.remember(heard(n, 10 - n, 1, 1), |_| false)));
        assert!(guards.remember(heard(4, 20, 1, 1), |sender| sender == node(3)));
        assert!(guards.of(node(2)).is_none() && guards.of(node(3)).is_some(), "3 was silent for longer, but is a live member");
        assert!(!guards.remember(heard(5, 20, 1, 1), |_| true));
        assert_eq!(guards.len(), 3);
    }

    #[test]
    fn a_later_life_begins_with_an_empty_window_and_streams_count_apart() {
        let mut guards = Guards::new(3);
        assert!(guards.remember(heard(1, 0, 1, 9), |_| true));
        assert!(!guards.of(node(1)).unwrap().is_new(KIND_DATAGRAM, 9) && guards.of(node(1)).unwrap().is_new(KIND_STREAM, 9));
        assert!(guards.remember(heard(1, 0, 2, 1), |_| true));
        assert!(guards.of(node(1)).unwrap().is_new(KIND_DATAGRAM, 9));
    }
}
