//! Checkers: what must hold after every single step, whatever the network does. Each is shown to bite in `checkers.rs`.

use std::collections::BTreeMap;

use distric_gossip::{Event, Generation, Gossip, Incarnation, MEMBERS_MAX, Standing, State};
use distric_model::NodeId;

/// What one observer held of one member at its last look.
type Seen = BTreeMap<(usize, NodeId), Standing>;

/// What was seen so far.
#[derive(Default)]
pub struct History {
    seen: Seen,
    own: BTreeMap<usize, Standing>,
    members_max: usize,
}

impl History {
    /// Looks at one machine after one call. Only those that an event names are compared one by one; a whole look at the
    /// table after each packet would make the world quadratic.
    pub fn look(&mut self, now: u64, at: usize, gossip: &Gossip, events: &[Event]) {
        let own = gossip.own_standing();
        if let Some(before) = self.own.insert(at, own)
            && let Err(why) = self_is_live_and_rising(before, own)
        {
            panic!("at {now} us, machine {at} about itself: {why}");
        }
        for event in events {
            let (Event::Joined { node, .. }
            | Event::Restarted { node, .. }
            | Event::Suspected { node, .. }
            | Event::Refuted { node, .. }
            | Event::Failed { node, .. }
            | Event::Left { node, .. }) = event
            else {
                continue;
            };
            let Some(standing) = gossip.standing_of(*node) else { continue };
            let before = self.seen.insert((at, *node), standing);
            // A restarted observer starts with an empty memory.
            let is_new_life = gossip.stats().datagrams_received_count < 2;
            if let Some(before) = before.filter(|_| !is_new_life)
                && let Err(why) = no_resurrection(before, standing).and(incarnation_is_monotone(before, standing))
            {
                panic!("at {now} us, machine {at} about {node}: {why}");
            }
        }
        if let Err(why) = memory_is_bounded(gossip.known_count(), gossip.backlog()) {
            panic!("at {now} us, machine {at}: {why}");
        }
        self.members_max = self.members_max.max(gossip.known_count());
    }

    /// An observer that starts anew may hear old words again.
    pub fn forget(&mut self, at: usize) {
        self.seen.retain(|(observer, _), _| *observer != at);
        self.own.remove(&at);
    }
}

/// Who was dead or left lives again only with a greater word of its own.
pub fn no_resurrection(before: Standing, after: Standing) -> Result<(), String> {
    if !before.state.is_live() && after.state.is_live() && after.identity() <= before.identity() {
        return Err(format!("{before:?} became {after:?}"));
    }
    Ok(())
}

/// What is held of a member only grows.
pub fn incarnation_is_monotone(before: Standing, after: Standing) -> Result<(), String> {
    if after < before { Err(format!("{before:?} fell back to {after:?}")) } else { Ok(()) }
}

/// A machine holds itself alive until it leaves, and never takes a word back.
pub fn self_is_live_and_rising(before: Standing, after: Standing) -> Result<(), String> {
    if !matches!(after.state, State::Alive | State::Left) {
        return Err(format!("it holds itself {:?}", after.state));
    }
    let same_life = before.generation == after.generation;
    if same_life && (after.incarnation < before.incarnation || before.state == State::Left && after.state == State::Alive) {
        return Err(format!("{before:?} became {after:?}"));
    }
    Ok(())
}

/// One slot per member in every lane.
pub fn memory_is_bounded(known: usize, backlog: (usize, usize)) -> Result<(), String> {
    if known > MEMBERS_MAX || backlog.0 > known + 2 || backlog.1 > known + 2 {
        return Err(format!("{known} members, {backlog:?} in the lanes"));
    }
    Ok(())
}

/// A standing for the samples.
pub const fn standing(generation: u64, incarnation: u32, state: State) -> Standing {
    Standing::new(Generation(generation), Incarnation(incarnation), state)
}
