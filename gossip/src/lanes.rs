//! The normal and the load lane: what waits for the next packet that has room.
//!
//! One slot per member in each: newer news replace older ones, so both are bounded by the number of members and nothing
//! can be starved for ever. The load lane has bytes of its own and rides last, so it never delays anything.

use std::collections::{BTreeMap, BTreeSet};

use distric_model::NodeId;

use crate::index::{Index, Place};
use crate::packet::{Packet, Part, Rumour};
use crate::standing::{Standing, State};

/// Most rumours tried against one packet: a packet holds some thirty.
const TRIES_MAX: usize = 64;

/// After so many that did not fit the packet counts as full.
const MISFITS_MAX: usize = 4;

/// Who goes first: what came in haste, for it is known everywhere but at the few that the haste missed; then what was sent least, bad
/// news before good, and the newest, which tells any two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_calm: bool,
    sends: u32,
    is_good: bool,
    age: u64,
    place: Place,
}

#[derive(Clone, Debug)]
struct Slot {
    standing: Standing,
    /// The rumour as a part of a packet: it is sent a dozen times and written once.
    part: Box<[u8]>,
    rank: Rank,
    node: NodeId,
    sends_left: u32,
}

/// Rumours in waiting.
#[derive(Clone, Debug)]
pub(crate) struct NormalLane {
    /// A slot that is free keeps its last word and no part.
    slots: Vec<Slot>,
    free: Vec<Place>,
    index: Index,
    order: BTreeSet<Rank>,
    seq: u64,
    /// Lent for the writing of a part.
    part: Vec<u8>,
    scratch: Vec<u8>,
}

impl NormalLane {
    /// An empty one. `salt` spreads the ids.
    pub(crate) const fn new(salt: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: Index::new(salt),
            order: BTreeSet::new(),
            seq: 0,
            part: Vec::new(),
            scratch: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Queues a rumour to be sent `sends` times; takes the place of what was waiting about the same member.
    pub(crate) fn push(&mut self, mut rumour: Rumour, sends: u32) {
        self.remove(rumour.node);
        self.seq += 1;
        let is_calm = std::mem::take(&mut rumour.hops) == 0;
        let is_good = rumour.standing.state == State::Alive;
        let (node, standing) = (rumour.node, rumour.standing);
        self.part.clear();
        Part::Rumour(rumour).encode(&mut self.scratch, &mut self.part);
        let place = self.free.pop().unwrap_or(self.slots.len() as Place);
        let rank = Rank { is_calm, sends: 0, is_good, age: u64::MAX - self.seq, place };
        let slot = Slot { standing, part: self.part.as_slice().into(), rank, node, sends_left: sends };
        self.index.insert(node, place, |place| self.slots[place as usize].node);
        match self.slots.get_mut(place as usize) {
            Some(vacant) => *vacant = slot,
            None => self.slots.push(slot),
        }
        self.order.insert(rank);
    }

    fn place_of(&self, node: NodeId) -> Option<Place> {
        self.index.find(node, |place| self.slots[place as usize].node)
    }

    pub(crate) fn remove(&mut self, node: NodeId) {
        if let Some(place) = self.place_of(node) {
            self.order.remove(&self.slots[place as usize].rank);
            self.vacate(place);
        }
    }

    /// Frees a slot whose rank stands in the order no more.
    fn vacate(&mut self, place: Place) {
        self.index.remove(self.slots[place as usize].node, |place| self.slots[place as usize].node);
        self.slots[place as usize].part = Box::default();
        self.free.push(place);
    }

    /// Someone told us what waits here: others spread it too, so that much less is left for us (rumour mongering with
    /// feedback and counter; Demers et al. 1987, section 1.4).
    pub(crate) fn heard(&mut self, node: NodeId, standing: Standing) {
        let Some(place) = self.place_of(node) else { return };
        let slot = &mut self.slots[place as usize];
        if slot.standing != standing {
            return;
        }
        slot.sends_left -= 1;
        if slot.sends_left == 0 {
            self.order.remove(&slot.rank);
            self.vacate(place);
        }
    }

    /// Fills a packet that goes to `copies` targets. What does not fit waits and goes first into a later one.
    pub(crate) fn fill(&mut self, packet: &mut Packet, copies: u32) {
        if self.order.is_empty() {
            return;
        }
        let mut sent = [None; TRIES_MAX];
        let mut misfits = 0;
        for (tried, rank) in sent.iter_mut().zip(&self.order) {
            if packet.push_encoded(&self.slots[rank.place as usize].part) {
                *tried = Some(*rank);
            } else {
                misfits += 1;
            }
            if misfits == MISFITS_MAX {
                break;
            }
        }
        for rank in sent.into_iter().flatten() {
            self.order.remove(&rank);
            let slot = &mut self.slots[rank.place as usize];
            slot.sends_left = slot.sends_left.saturating_sub(copies);
            if slot.sends_left == 0 {
                self.vacate(rank.place);
            } else {
                slot.rank.sends += copies;
                self.order.insert(slot.rank);
            }
        }
    }
}

/// Members whose load is worth passing on, newest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoadLane {
    waiting: BTreeMap<NodeId, (u64, u32)>,
    order: BTreeSet<(u64, NodeId)>,
    seq: u64,
}

impl LoadLane {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn push(&mut self, node: NodeId, sends: u32) {
        self.remove(node);
        self.seq += 1;
        let rank = u64::MAX - self.seq;
        self.waiting.insert(node, (rank, sends));
        self.order.insert((rank, node));
    }

    fn remove(&mut self, node: NodeId) {
        if let Some((rank, _)) = self.waiting.remove(&node) {
            self.order.remove(&(rank, node));
        }
    }

    /// Fills at most `bytes_max` of a packet; `sample` gives the newest sample of a member.
    pub(crate) fn fill(&mut self, packet: &mut Packet, bytes_max: usize, copies: u32, sample: impl Fn(NodeId) -> Option<Part>) {
        let start = packet.part_bytes();
        let mut done = Vec::new();
        for (_, node) in self.order.iter().take(TRIES_MAX) {
            let fits = sample(*node).is_none_or(|part| packet.push_within(&part, (start + bytes_max).saturating_sub(packet.part_bytes())));
            if !fits {
                break;
            }
            done.push(*node);
        }
        for node in done {
            let left = self.waiting[&node].1.saturating_sub(copies);
            if left == 0 {
                self.remove(node);
            } else {
                self.waiting.get_mut(&node).expect("it waits").1 = left;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use distric_model::{Slot as KeySlot, Timestamp};

    use super::*;
    use crate::endpoint::Endpoint;
    use crate::packet::{Header, Parts};
    use crate::profile::{Load, Profile};
    use crate::standing::{Generation, Incarnation};

    fn node(n: u64) -> NodeId {
        NodeId::new(Timestamp::from_us(0), KeySlot::truncate(0), n)
    }

    fn packet() -> Packet {
        let standing = Standing::new(Generation(1), Incarnation(0), State::Alive);
        Packet::new(Header { sender: node(0), standing, profile_at: Incarnation(0) }, 60)
    }

    fn rumour(n: u64, state: State) -> Rumour {
        Rumour::brief(node(n), Standing::new(Generation(1), Incarnation(0), state), Incarnation(0))
    }

    fn named(packet: Packet) -> Vec<NodeId> {
        let node_of = |part| match part {
            Ok(Part::Rumour(rumour)) => rumour.node,
            Ok(Part::Load { node, .. }) => node,
            other => panic!("{other:?}"),
        };
        Parts::new(packet.inside()).map(node_of).collect()
    }

    #[test]
    fn a_flood_of_good_news_does_not_delay_bad_news() {
        let mut lane = NormalLane::new(7);
        (1..=1_000).for_each(|n| lane.push(rumour(n, State::Alive), 16));
        lane.push(rumour(2_000, State::Dead), 16);
        (1_001..=1_900).for_each(|n| lane.push(rumour(n, State::Alive), 16));
        let mut first = packet();
        lane.fill(&mut first, 1);
        assert_eq!(named(first)[0], node(2_000));
    }

    #[test]
    fn what_came_in_haste_is_repeated_before_a_flood_goes_on() {
        let mut lane = NormalLane::new(7);
        lane.push(Rumour { hops: 1, ..rumour(2_000, State::Alive) }, 3);
        for n in 1..=3 {
            (1..=1_000).for_each(|other| lane.push(rumour(1_000 * n + other + 2_000, State::Alive), 16));
            let mut next = packet();
            lane.fill(&mut next, 1);
            assert_eq!(named(next)[0], node(2_000));
        }
        let mut next = packet();
        lane.fill(&mut next, 1);
        assert!(!named(next).contains(&node(2_000)), "three times, as asked");
    }

    #[test]
    fn a_rumour_is_sent_as_often_as_asked_and_then_forgotten() {
        let mut lane = NormalLane::new(7);
        lane.push(rumour(1, State::Dead), 3);
        for left in [1, 1, 0] {
            let mut next = packet();
            lane.fill(&mut next, 1);
            assert_eq!(named(next), [node(1)]);
            assert_eq!(lane.len(), left);
        }
    }

    #[test]
    fn the_largest_record_neither_starves_nor_blocks() {
        let mut lane = NormalLane::new(7);
        let mut large = rumour(1, State::Alive);
        let labels = (0..8).map(|n| (n.to_string(), "v".repeat(80))).collect();
        large.profile = Some(Arc::new(Profile { labels, ..Profile::worker(Endpoint::v4([0; 4], 1)) }));
        lane.push(large, 2);
        (10..60).for_each(|n| lane.push(rumour(n, State::Alive), 2));
        let (mut first, mut second) = (packet(), packet());
        lane.fill(&mut first, 1);
        let first = named(first);
        assert!(first.len() > 20 && !first.contains(&node(1)), "{}", first.len());
        lane.fill(&mut second, 1);
        assert!(named(second).contains(&node(1)));
    }

    #[test]
    fn the_load_lane_keeps_to_its_bytes_and_sends_the_newest_first() {
        let mut lane = LoadLane::default();
        (1..=1_000).for_each(|n| lane.push(node(n), 1));
        let sample = |node| Some(Part::Load { node, generation: Generation(1), load: Load::default() });
        let mut next = packet();
        lane.fill(&mut next, 256, 1, sample);
        assert!(next.part_bytes() <= 256);
        let sent = named(next);
        assert_eq!(sent[0], node(1_000));
        assert_eq!(lane.len(), 1_000 - sent.len());
    }
}
