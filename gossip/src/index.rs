//! The index: from a node id to its place in the table, four bytes for each slot. An open hash table with linear probing
//! (Knuth, The Art of Computer Programming, section 6.4, algorithms L and R), for the table keeps the ids already.

use distric_model::NodeId;

use crate::random::mix;

/// Where a member stands in the table.
pub(crate) type Place = u32;

/// No place.
const VACANT: Place = Place::MAX;
/// Fewest slots.
const SLOTS_MIN: usize = 16;

/// Ids to places. The ids are the caller's: each call gets a way to look up the id at a place.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    /// A power of two of them, at most three quarters in use.
    slots: Vec<Place>,
    count: usize,
    /// Keeps those who choose ids from choosing where they collide.
    salt: u64,
}

impl Index {
    pub(crate) const fn new(salt: u64) -> Self {
        Self { slots: Vec::new(), count: 0, salt }
    }

    fn home(&self, node: NodeId) -> usize {
        let (high, low) = node.uuid().as_u64_pair();
        mix(mix(high ^ self.salt).wrapping_add(low)) as usize & (self.slots.len() - 1)
    }

    /// The slot that holds the id, or the vacant one where the search for it ends. There must be slots.
    fn slot_of(&self, node: NodeId, id_at: impl Fn(Place) -> NodeId) -> usize {
        let mut at = self.home(node);
        while self.slots[at] != VACANT && id_at(self.slots[at]) != node {
            at = (at + 1) & (self.slots.len() - 1);
        }
        at
    }

    pub(crate) fn find(&self, node: NodeId, id_at: impl Fn(Place) -> NodeId) -> Option<Place> {
        if self.slots.is_empty() {
            return None;
        }
        Some(self.slots[self.slot_of(node, id_at)]).filter(|place| *place != VACANT)
    }

    /// Adds an id that is not there.
    pub(crate) fn insert(&mut self, node: NodeId, place: Place, id_at: impl Fn(Place) -> NodeId) {
        if (self.count + 1) * 4 > self.slots.len() * 3 {
            let wider = vec![VACANT; (self.slots.len() * 2).max(SLOTS_MIN)];
            for old in std::mem::replace(&mut self.slots, wider).into_iter().filter(|place| *place != VACANT) {
                let at = self.slot_of(id_at(old), &id_at);
                self.slots[at] = old;
            }
        }
        let at = self.slot_of(node, id_at);
        assert!(self.slots[at] == VACANT, "the caller looked it up: {node} stands at {}", self.slots[at]);
        self.slots[at] = place;
        self.count += 1;
    }

    /// Takes an id out. `id_at` must still know it.
    pub(crate) fn remove(&mut self, node: NodeId, id_at: impl Fn(Place) -> NodeId) {
        if self.slots.is_empty() {
            return;
        }
        let mut hole = self.slot_of(node, &id_at);
        if self.slots[hole] == VACANT {
            return;
        }
        self.count -= 1;
        let last = self.slots.len() - 1;
        let mut at = hole;
        loop {
            self.slots[hole] = VACANT;
            loop {
                at = (at + 1) & last;
                if self.slots[at] == VACANT {
                    return;
                }
                // What could stand no further back than where it is stays.
                let home = self.home(id_at(self.slots[at]));
                let (from_home, from_hole) = (at.wrapping_sub(home) & last, at.wrapping_sub(hole) & last);
                if from_home >= from_hole {
                    break;
                }
            }
            self.slots[hole] = self.slots[at];
            hole = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use distric_model::{Slot, Timestamp};

    use super::*;
    use crate::random::Random;

    fn node(n: u64) -> NodeId {
        NodeId::new(Timestamp::from_us(0), Slot::truncate(0), n)
    }

    #[test]
    fn it_finds_what_a_map_finds_whatever_comes_and_goes() {
        let (mut index, mut map, mut random) = (Index::new(7), BTreeMap::new(), Random::new(1));
        let id_at = |place: Place| node(u64::from(place));
        for _ in 0..20_000 {
            let n = random.below(300);
            if map.remove(&n).is_some() {
                index.remove(node(n), id_at);
            } else {
                map.insert(n, n as Place);
                index.insert(node(n), n as Place, id_at);
            }
            let asked = random.below(300);
            assert_eq!(index.find(node(asked), id_at), map.get(&asked).copied());
        }
        assert_eq!(index.count, map.len());
        for n in 0..300 {
            assert_eq!(index.find(node(n), id_at), map.get(&n).copied(), "{n}");
        }
        assert!(index.slots.len() <= 512, "{} slots for at most 300 ids", index.slots.len());
    }
}
