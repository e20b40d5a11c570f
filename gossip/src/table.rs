//! The table: every member that is known, live, dead or left, and the graves of those that were forgotten.
//!
//! Invariant: `live` holds exactly the members whose state is live.   Invariant: `deadlines` holds exactly one entry per
//! running suspicion.   Invariant: `tombstones` holds exactly the members whose state is not live, by the time of their end.
//! Invariant: `view` is the XOR of the fingerprints of the live members.
//! O(log n) to look up, O(n) to lose a live member, which is rare.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use distric_model::{Instant, NodeId};

use crate::profile::{Load, Profile};
use crate::random::{Random, mix};
use crate::returning::Returns;
use crate::standing::{Generation, Incarnation, Standing};
use crate::suspicion::Suspicion;

/// Most graves; the oldest are forgotten. A grave is 48 bytes.
const GRAVES_MAX: usize = 8_192;

/// What is known of one member.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) standing: Standing,
    pub(crate) profile: Arc<Profile>,
    /// The word of which the profile is: it may lag behind the standing until the views are compared.
    pub(crate) profile_at: (Generation, Incarnation),
    pub(crate) load: Load,
    /// When the standing last changed here.
    pub(crate) since: Instant,
    pub(crate) suspicion: Option<Suspicion>,
    pub(crate) returns: Returns,
    /// Smoothed round trip and its deviation, microseconds (RFC 6298); zero when unknown.
    pub(crate) rtt_us: u32,
    pub(crate) rtt_deviation_us: u32,
    /// When it was last told what is said about it.
    pub(crate) told_at: Option<Instant>,
}

impl Member {
    pub(crate) fn new(now: Instant, standing: Standing, profile: Arc<Profile>, profile_at: Incarnation) -> Self {
        Self {
            standing,
            profile,
            profile_at: (standing.generation, profile_at),
            load: Load::default(),
            since: now,
            suspicion: None,
            returns: Returns::new(now),
            rtt_us: 0,
            rtt_deviation_us: 0,
            told_at: None,
        }
    }

    /// Takes in one round trip, with the weights of RFC 6298.
    pub(crate) fn measure(&mut self, rtt_us: u64) {
        let rtt = u32::try_from(rtt_us).unwrap_or(u32::MAX).max(1);
        if self.rtt_us == 0 {
            (self.rtt_us, self.rtt_deviation_us) = (rtt, rtt / 2);
            return;
        }
        let (old, deviation) = (u64::from(self.rtt_us), u64::from(self.rtt_deviation_us));
        self.rtt_deviation_us = ((3 * deviation + old.abs_diff(u64::from(rtt))) / 4) as u32;
        self.rtt_us = ((7 * old + u64::from(rtt)) / 8) as u32;
    }
}

/// All members but this node itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    members: BTreeMap<NodeId, Member>,
    live: Vec<NodeId>,
    deadlines: BTreeSet<(Instant, NodeId)>,
    tombstones: BTreeSet<(Instant, NodeId)>,
    /// Grows with every change but those of [`Self::note`].
    version: u64,
    graves: BTreeMap<NodeId, Standing>,
    graves_by_age: VecDeque<NodeId>,
    view: u64,
}

/// The fingerprint of a live member: two nodes with equal views agree on who lives, in which word, with which profile.
pub(crate) fn fingerprint(node: NodeId, standing: Standing, profile_at: (Generation, Incarnation)) -> u64 {
    let (high, low) = node.uuid().as_u64_pair();
    let words = [high, low, standing.generation.0, u64::from(standing.incarnation.0), profile_at.0.0, u64::from(profile_at.1.0)];
    words.into_iter().fold(0, |hash, word| mix(hash ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15))
}

impl Table {
    pub(crate) fn of(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &Member)> + Clone {
        self.members.iter().map(|(node, member)| (*node, member))
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn live(&self) -> &[NodeId] {
        &self.live
    }

    pub(crate) const fn view(&self) -> u64 {
        self.view
    }

    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn is_live(&self, node: NodeId) -> bool {
        self.of(node).is_some_and(|member| member.standing.state.is_live())
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    pub(crate) fn due(&self, now: Instant) -> Option<NodeId> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, node)| *node)
    }

    /// Changes what the view does not depend on: load, round trip, when it was told.
    pub(crate) fn note(&mut self, node: NodeId, change: impl FnOnce(&mut Member)) {
        if let Some(member) = self.members.get_mut(&node) {
            let before = (member.standing, member.profile_at, member.since);
            change(member);
            assert!(before == (member.standing, member.profile_at, member.since), "the view changes through `change` only");
        }
    }

    /// Changes anything about a member and keeps the indexes true. The member must be known.
    pub(crate) fn change(&mut self, node: NodeId, change: impl FnOnce(&mut Member)) {
        self.version += 1;
        let member = self.members.get_mut(&node).expect("the caller looked it up");
        let was_live = member.standing.state.is_live();
        let was_since = member.since;
        let old_deadline = member.suspicion.as_ref().map(|suspicion| suspicion.deadline);
        if was_live {
            self.view ^= fingerprint(node, member.standing, member.profile_at);
        }
        change(member);
        let is_live = member.standing.state.is_live();
        let since = member.since;
        if is_live {
            self.view ^= fingerprint(node, member.standing, member.profile_at);
        }
        let deadline = member.suspicion.as_ref().map(|suspicion| suspicion.deadline);
        if old_deadline != deadline {
            if let Some(old) = old_deadline {
                self.deadlines.remove(&(old, node));
            }
            if let Some(new) = deadline {
                self.deadlines.insert((new, node));
            }
        }
        if !was_live {
            self.tombstones.remove(&(was_since, node));
        }
        if !is_live {
            self.tombstones.insert((since, node));
        }
        match (was_live, is_live) {
            (false, true) => self.live.push(node),
            (true, false) => self.live.retain(|other| *other != node),
            _ => {}
        }
    }

    /// Adds a member that is not known.
    pub(crate) fn insert(&mut self, node: NodeId, member: Member) {
        self.version += 1;
        if member.standing.state.is_live() {
            self.live.push(node);
            self.view ^= fingerprint(node, member.standing, member.profile_at);
        } else {
            self.tombstones.insert((member.since, node));
        }
        assert!(member.suspicion.is_none(), "a suspicion starts on a known member");
        let before = self.members.insert(node, member);
        assert!(before.is_none(), "the caller looked it up");
    }

    /// Forgets a dead or left member but for its grave.
    pub(crate) fn bury(&mut self, node: NodeId) {
        let Some(member) = self.members.remove(&node) else { return };
        assert!(!member.standing.state.is_live(), "the living are not buried");
        self.version += 1;
        self.tombstones.remove(&(member.since, node));
        if self.graves.insert(node, member.standing).is_none() {
            self.graves_by_age.push_back(node);
        }
        while self.graves.len() > GRAVES_MAX {
            match self.graves_by_age.pop_front() {
                Some(oldest) => self.graves.remove(&oldest),
                None => break,
            };
        }
    }

    pub(crate) fn grave(&self, node: NodeId) -> Option<Standing> {
        self.graves.get(&node).copied()
    }

    /// The dead or left member that changed longest ago.
    pub(crate) fn oldest_tombstone(&self) -> Option<(NodeId, Instant)> {
        self.tombstones.first().map(|(since, node)| (*node, *since))
    }

    /// `count` different live members, or as many as there are. The choice is exact: with few members none is missed by
    /// bad luck.
    pub(crate) fn pick(&mut self, random: &mut Random, count: usize) -> &[NodeId] {
        let count = count.min(self.live.len());
        for at in 0..count {
            let other = at + random.below((self.live.len() - at) as u64) as usize;
            self.live.swap(at, other);
        }
        &self.live[..count]
    }
}

#[cfg(test)]
mod tests {
    use distric_model::{Slot, Timestamp};

    use super::*;
    use crate::endpoint::Endpoint;
    use crate::standing::State;

    fn node(n: u64) -> NodeId {
        NodeId::new(Timestamp::from_us(0), Slot::truncate(0), n)
    }

    fn member(state: State) -> Member {
        let standing = Standing::new(Generation(1), Incarnation(0), state);
        Member::new(Instant::from_us(0), standing, Arc::new(Profile::worker(Endpoint::v4([0; 4], 1))), Incarnation(0))
    }

    #[test]
    fn the_view_depends_on_who_lives_and_not_on_the_order_of_coming() {
        let (mut a, mut b) = (Table::default(), Table::default());
        a.insert(node(1), member(State::Alive));
        a.insert(node(2), member(State::Alive));
        a.insert(node(3), member(State::Dead));
        b.insert(node(2), member(State::Alive));
        assert_ne!(a.view(), b.view());
        b.insert(node(1), member(State::Alive));
        assert_eq!(a.view(), b.view());
        a.change(node(1), |member| member.standing.state = State::Dead);
        assert_ne!(a.view(), b.view());
        assert_eq!(a.live(), [node(2)]);
    }

    #[test]
    fn the_oldest_tombstone_is_the_one_that_ended_first() {
        let mut table = Table::default();
        (1..=3).for_each(|n| table.insert(node(n), member(State::Alive)));
        assert_eq!(table.oldest_tombstone(), None);
        for (n, at) in [(2, 20), (3, 10)] {
            table.change(node(n), |member| (member.standing.state, member.since) = (State::Dead, Instant::from_us(at)));
        }
        assert_eq!(table.oldest_tombstone(), Some((node(3), Instant::from_us(10))));
        // One that left after it was held dead counts from then on.
        table.change(node(3), |member| (member.standing.state, member.since) = (State::Left, Instant::from_us(30)));
        assert_eq!(table.oldest_tombstone(), Some((node(2), Instant::from_us(20))));
        table.bury(node(2));
        assert_eq!(table.oldest_tombstone(), Some((node(3), Instant::from_us(30))));
        table.change(node(3), |member| member.standing = Standing::new(Generation(2), Incarnation(0), State::Alive));
        assert_eq!(table.oldest_tombstone(), None);
    }

    #[test]
    fn picking_from_few_misses_nobody() {
        let mut table = Table::default();
        (1..=3).for_each(|n| table.insert(node(n), member(State::Alive)));
        for seed in 0..100 {
            let mut picked = table.pick(&mut Random::new(seed), 3).to_vec();
            picked.sort_unstable();
            assert_eq!(picked, [node(1), node(2), node(3)]);
        }
    }

    #[test]
    fn graves_are_bounded() {
        let mut table = Table::default();
        for n in 0..GRAVES_MAX as u64 + 10 {
            table.insert(node(n), member(State::Dead));
            table.bury(node(n));
        }
        assert_eq!(table.graves.len(), GRAVES_MAX);
        assert_eq!(table.graves_by_age.len(), GRAVES_MAX);
        assert!(table.grave(node(0)).is_none() && table.grave(node(GRAVES_MAX as u64)).is_some());
    }
}
