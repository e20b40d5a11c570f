//! The table: every member that is known, live, dead or left, and the graves of those that were forgotten.
//!
//! Members stand at places, which are numbers: whoever keeps an order of members keeps places. A place that became free is taken by
//! the next newcomer.
//!
//! Invariant: `live` holds exactly the members whose state is live.   Invariant: `deadlines` holds exactly one entry per
//! running suspicion.   Invariant: `tombstones` holds exactly the members whose state is not live, by the time of their end.
//! Invariant: `view` is the XOR of the fingerprints of the live members.   Invariant: `tally` is the sum over all members.
//! O(1) to look up, O(n) to lose a live member, which is rare. 64 bytes a member and some 12 for its place in the orders.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use distric_model::{Instant, NodeId};

use crate::index::{Index, Place};
use crate::member::Member;
use crate::partition::{Fate, Seen, Tally};
use crate::random::{Random, mix};
use crate::standing::{Generation, Incarnation, Standing, State};

/// Most graves; the oldest are forgotten. A grave is 48 bytes.
const GRAVES_MAX: usize = 8_192;

/// All members but this node itself.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    places: Vec<Option<Member>>,
    free: Vec<Place>,
    index: Index,
    live: Vec<Place>,
    deadlines: BTreeSet<(Instant, NodeId)>,
    tombstones: BTreeSet<(Instant, NodeId)>,
    /// Grows with every change but those of [`Self::note`].
    version: u64,
    graves: BTreeMap<NodeId, Standing>,
    graves_by_age: VecDeque<NodeId>,
    view: u64,
    /// Which places belong to the last stable view, one bit each.
    stable: Vec<u64>,
    tally: Tally,
}

/// The fingerprint of a live member: two nodes with equal views agree on who lives, in which word, with which profile.
pub(crate) fn fingerprint(node: NodeId, standing: Standing, profile_at: (Generation, Incarnation)) -> u64 {
    let (high, low) = node.uuid().as_u64_pair();
    let words = [high, low, standing.generation.0, u64::from(standing.incarnation.0), profile_at.0.0, u64::from(profile_at.1.0)];
    words.into_iter().fold(0, |hash, word| mix(hash ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15))
}

fn print_of(member: &Member) -> u64 {
    fingerprint(member.node(), member.standing, member.profile_at())
}

/// The id at a place that is taken.
fn id_at(places: &[Option<Member>]) -> impl Fn(Place) -> NodeId + '_ {
    |place| places[place as usize].as_ref().expect("the index names places that are taken").node()
}

impl Table {
    /// An empty one. `salt` spreads the ids.
    pub(crate) fn new(salt: u64) -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            index: Index::new(salt),
            live: Vec::new(),
            deadlines: BTreeSet::new(),
            tombstones: BTreeSet::new(),
            version: 0,
            graves: BTreeMap::new(),
            graves_by_age: VecDeque::new(),
            view: 0,
            stable: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Room for so many members, no more.
    pub(crate) fn reserve(&mut self, members: usize) {
        self.places.reserve_exact(members);
        self.live.reserve_exact(members);
    }

    pub(crate) fn place_of(&self, node: NodeId) -> Option<Place> {
        self.index.find(node, id_at(&self.places))
    }

    pub(crate) fn of(&self, node: NodeId) -> Option<&Member> {
        self.at(self.place_of(node)?)
    }

    pub(crate) fn at(&self, place: Place) -> Option<&Member> {
        self.places.get(place as usize)?.as_ref()
    }

    fn of_mut(&mut self, node: NodeId) -> Option<&mut Member> {
        let place = self.place_of(node)?;
        self.places[place as usize].as_mut()
    }

    /// All members, in the order of their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &Member)> + Clone {
        self.places.iter().flatten().map(|member| (member.node(), member))
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// The places of the live members, in no particular order.
    pub(crate) fn live(&self) -> &[Place] {
        &self.live
    }

    pub(crate) const fn view(&self) -> u64 {
        self.view
    }

    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    pub(crate) const fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(crate) fn is_live(&self, node: NodeId) -> bool {
        self.of(node).is_some_and(|member| member.standing.state.is_live())
    }

    pub(crate) fn is_live_at(&self, place: Place) -> bool {
        self.at(place).is_some_and(|member| member.standing.state.is_live())
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    pub(crate) fn due(&self, now: Instant) -> Option<NodeId> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, node)| *node)
    }

    /// All members under suspicion.
    pub(crate) fn suspects(&self) -> Vec<NodeId> {
        self.deadlines.iter().map(|(_, node)| *node).collect()
    }

    /// Changes what the view does not depend on: load, round trip, when it was told.
    pub(crate) fn note(&mut self, node: NodeId, change: impl FnOnce(&mut Member)) {
        if let Some(member) = self.of_mut(node) {
            let before = (member.standing, member.profile_at(), member.since);
            change(member);
            assert!(before == (member.standing, member.profile_at(), member.since), "the view changes through `change` only");
        }
    }

    /// Changes anything about a member and keeps the indexes true. The member must be known.
    pub(crate) fn change(&mut self, node: NodeId, change: impl FnOnce(&mut Member)) {
        self.version += 1;
        let place = self.place_of(node).expect("the caller looked it up");
        let is_stable = self.is_stable(place);
        let member = self.places[place as usize].as_mut().expect("it stands there");
        let was_live = member.standing.state.is_live();
        let was_since = member.since;
        let old_deadline = member.suspicion().map(|suspicion| suspicion.deadline);
        self.tally.remove(seen(member, is_stable));
        if was_live {
            self.view ^= print_of(member);
        }
        change(member);
        let is_live = member.standing.state.is_live();
        let since = member.since;
        if is_live {
            self.view ^= print_of(member);
        }
        self.tally.add(seen(member, is_stable));
        let deadline = member.suspicion().map(|suspicion| suspicion.deadline);
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
            (false, true) => self.live.push(place),
            (true, false) => self.live.retain(|other| *other != place),
            _ => {}
        }
    }

    /// Adds a member that is not known.
    pub(crate) fn insert(&mut self, member: Member) {
        self.version += 1;
        let node = member.node();
        assert!(member.suspicion().is_none(), "a suspicion starts on a known member");
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            Place::try_from(self.places.len() - 1).expect("a table is bounded")
        });
        if member.standing.state.is_live() {
            self.live.push(place);
            self.view ^= print_of(&member);
        } else {
            self.tombstones.insert((member.since, node));
        }
        self.tally.add(seen(&member, false));
        self.index.insert(node, place, id_at(&self.places));
        self.places[place as usize] = Some(member);
    }

    /// Forgets a dead or left member but for its grave.
    pub(crate) fn bury(&mut self, node: NodeId) {
        let Some(place) = self.place_of(node) else { return };
        self.index.remove(node, id_at(&self.places));
        let member = self.places[place as usize].take().expect("it stood there");
        assert!(!member.standing.state.is_live(), "the living are not buried");
        self.version += 1;
        self.tally.remove(seen(&member, self.is_stable(place)));
        self.set_stable(place, false);
        self.free.push(place);
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

    /// Moves `count` different live members, or as many as there are, to the front of [`Self::live`]; how many. The choice is exact:
    /// with few members none is missed by bad luck.
    pub(crate) fn pick(&mut self, random: &mut Random, count: usize) -> usize {
        let count = count.min(self.live.len());
        for at in 0..count {
            let other = at + random.below((self.live.len() - at) as u64) as usize;
            self.live.swap(at, other);
        }
        count
    }

    /// The `at`-th of those that were picked.
    pub(crate) fn picked(&self, at: usize) -> &Member {
        self.at(self.live[at]).expect("the live stand in the table")
    }

    /// Who is here now is the stable view.
    pub(crate) fn take_as_stable(&mut self) {
        self.stable.clear();
        self.tally = Tally::default();
        for place in 0..self.places.len() as Place {
            let Some(member) = self.at(place) else { continue };
            let is_here = member.standing.state == State::Alive;
            if is_here {
                self.set_stable(place, true);
            }
            let member = self.places[place as usize].as_ref().expect("it was there");
            self.tally.add(seen(member, is_here));
        }
    }

    fn is_stable(&self, place: Place) -> bool {
        self.stable.get(place as usize / 64).is_some_and(|bits| bits >> (place % 64) & 1 == 1)
    }

    fn set_stable(&mut self, place: Place, is_stable: bool) {
        let word = place as usize / 64;
        if is_stable && word >= self.stable.len() {
            self.stable.resize(word + 1, 0);
        }
        if let Some(bits) = self.stable.get_mut(word) {
            *bits = *bits & !(1 << (place % 64)) | u64::from(is_stable) << (place % 64);
        }
    }
}

fn seen(member: &Member, is_stable: bool) -> Seen<'_> {
    let fate = match member.standing.state {
        State::Alive => Fate::Here,
        State::Suspect | State::Dead => Fate::Lost,
        State::Left => Fate::Gone,
    };
    let profile = member.profile();
    Seen { node: member.node(), zone: &profile.zone, role: profile.role, fate, is_stable }
}

#[cfg(test)]
mod tests {
    use distric_model::{Slot, Timestamp};

    use std::sync::Arc;

    use super::*;
    use crate::endpoint::Endpoint;
    use crate::profile::Profile;

    fn node(n: u64) -> NodeId {
        NodeId::new(Timestamp::from_us(0), Slot::truncate(0), n)
    }

    fn member(n: u64, state: State) -> Member {
        let standing = Standing::new(Generation(1), Incarnation(0), state);
        Member::new(Instant::from_us(0), node(n), standing, Arc::new(Profile::worker(Endpoint::v4([0; 4], 1))), Incarnation(0))
    }

    fn live(table: &Table) -> Vec<NodeId> {
        table.live().iter().map(|place| table.at(*place).unwrap().node()).collect()
    }

    #[test]
    fn the_view_depends_on_who_lives_and_not_on_the_order_of_coming() {
        let (mut a, mut b) = (Table::new(1), Table::new(2));
        a.insert(member(1, State::Alive));
        a.insert(member(2, State::Alive));
        a.insert(member(3, State::Dead));
        b.insert(member(2, State::Alive));
        assert_ne!(a.view(), b.view());
        b.insert(member(1, State::Alive));
        assert_eq!(a.view(), b.view());
        a.change(node(1), |member| member.standing.state = State::Dead);
        assert_ne!(a.view(), b.view());
        assert_eq!(live(&a), [node(2)]);
    }

    #[test]
    fn the_oldest_tombstone_is_the_one_that_ended_first() {
        let mut table = Table::new(1);
        (1..=3).for_each(|n| table.insert(member(n, State::Alive)));
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
        let mut table = Table::new(1);
        (1..=3).for_each(|n| table.insert(member(n, State::Alive)));
        for seed in 0..100 {
            let count = table.pick(&mut Random::new(seed), 3);
            let mut picked: Vec<_> = (0..count).map(|at| table.picked(at).node()).collect();
            picked.sort_unstable();
            assert_eq!(picked, [node(1), node(2), node(3)]);
        }
    }

    #[test]
    fn graves_are_bounded() {
        let mut table = Table::new(1);
        for n in 0..GRAVES_MAX as u64 + 10 {
            table.insert(member(n, State::Dead));
            table.bury(node(n));
        }
        assert_eq!(table.graves.len(), GRAVES_MAX);
        assert_eq!(table.graves_by_age.len(), GRAVES_MAX);
        assert!(table.grave(node(0)).is_none() && table.grave(node(GRAVES_MAX as u64)).is_some());
    }

    #[test]
    fn whatever_comes_and_goes_the_orders_are_true() {
        let (mut table, mut random) = (Table::new(3), Random::new(5));
        for step in 1..=5_000 {
            let (n, now) = (random.below(60), Instant::from_us(step));
            match table.of(node(n)).map(|member| member.standing.state) {
                None => table.insert(member(n, State::Alive)),
                Some(State::Dead) if random.below(2) == 0 => table.bury(node(n)),
                Some(_) => {
                    let state = [State::Alive, State::Suspect, State::Dead, State::Left][random.below(4) as usize];
                    table.change(node(n), |member| (member.standing.state, member.since) = (state, now));
                }
            }
            if random.below(100) == 0 {
                table.take_as_stable();
            }
            let mut fresh = Tally::default();
            let stands = |place: &Place| table.at(*place);
            for place in 0..table.places.len() as Place {
                table.at(place).into_iter().for_each(|member| fresh.add(seen(member, table.is_stable(place))));
            }
            assert_eq!(table.tally, fresh);
            assert_eq!(table.len(), table.iter().count());
            let mut live: Vec<_> = table.live().iter().filter_map(stands).map(Member::node).collect();
            live.sort_unstable();
            let mut expected: Vec<_> = table.iter().filter(|(_, member)| member.standing.state.is_live()).map(|(node, _)| node).collect();
            expected.sort_unstable();
            assert_eq!(live, expected);
            assert!(table.iter().all(|(node, member)| table.of(node).is_some_and(|found| std::ptr::eq(found, member))));
            assert_eq!(table.view(), table.iter().filter(|(_, m)| m.standing.state.is_live()).fold(0, |view, (_, m)| view ^ print_of(m)));
        }
        assert!(table.places.len() <= 60, "places are taken again: {}", table.places.len());
    }
}
