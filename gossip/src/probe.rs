//! Probes: who is asked next, who has been asked, and for whom we ask.

use distric_model::{Instant, NodeId};

use crate::endpoint::Target;
use crate::index::Place;
use crate::packet::Rumour;
use crate::random::Random;
use crate::standing::Standing;

/// Most probes under way at once, the round-robin one included.
pub(crate) const PROBES_MAX: usize = 32;
/// Most extra probes that wait for their turn.
pub(crate) const QUESTIONS_MAX: usize = 4_096;
/// Most pings under way for others.
pub(crate) const RELAYS_MAX: usize = 256;

/// The round: every live member once, in an order that is shuffled anew each time; who joins is put in at random. So a
/// member is probed by a given observer at least every `2n - 1` intervals (SWIM, section 4.3).
#[derive(Clone, Debug, Default)]
pub(crate) struct Ring {
    order: Vec<Place>,
    next: usize,
}

impl Ring {
    pub(crate) fn insert(&mut self, random: &mut Random, place: Place) {
        if !self.order.contains(&place) {
            let at = random.below(self.order.len() as u64 + 1) as usize;
            self.order.insert(at, place);
            if at < self.next {
                self.next += 1;
            }
        }
    }

    /// The next live member; `live` refills the round when it is through.
    pub(crate) fn next(&mut self, random: &mut Random, live: &[Place], is_live: impl Fn(Place) -> bool) -> Option<Place> {
        for _ in 0..2 {
            while let Some(place) = self.order.get(self.next) {
                self.next += 1;
                if is_live(*place) {
                    return Some(*place);
                }
            }
            self.order.clear();
            self.order.extend_from_slice(live);
            for at in (1..self.order.len()).rev() {
                self.order.swap(at, random.below(at as u64 + 1) as usize);
            }
            self.next = 0;
        }
        None
    }
}

/// One probe under way.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) target: NodeId,
    /// What was held of the target at the start: when that has changed, the probe says nothing any more.
    pub(crate) standing: Standing,
    pub(crate) cookie: u64,
    pub(crate) sent_at: Instant,
    /// When to ask again and through others; `None` once done.
    pub(crate) again_at: Option<Instant>,
    pub(crate) deadline: Instant,
    pub(crate) relays: Vec<NodeId>,
    /// Relays that said they had no answer either.
    pub(crate) nacks: Vec<NodeId>,
}

impl Probe {
    pub(crate) fn wake_at(&self) -> Instant {
        self.again_at.unwrap_or(self.deadline).min(self.deadline)
    }
}

/// A probe out of turn: to confirm or clear a suspicion, or to ask a member about what others say of it.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) target: NodeId,
    pub(crate) rumour: Option<Rumour>,
}

/// A ping under way for another member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relay {
    pub(crate) cookie: u64,
    pub(crate) target: NodeId,
    pub(crate) origin: Target,
    pub(crate) origin_cookie: u64,
    /// When the origin is told that there was no answer.
    pub(crate) nack_at: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_is_asked_once_in_a_round_in_another_order_each_time() {
        let (mut ring, mut random, live) = (Ring::default(), Random::new(1), (0..20).collect::<Vec<Place>>());
        let mut rounds = Vec::new();
        for _ in 0..3 {
            let mut round: Vec<_> = (0..20).filter_map(|_| ring.next(&mut random, &live, |_| true)).collect();
            rounds.push(round.clone());
            round.sort_unstable();
            assert_eq!(round, live);
        }
        assert_ne!(rounds[0], rounds[1]);
        assert_ne!(rounds[1], rounds[2]);
    }

    #[test]
    fn the_dead_are_passed_over_and_an_empty_cluster_is_no_loop() {
        let (mut ring, mut random, live) = (Ring::default(), Random::new(1), [0, 1, 2]);
        assert_eq!(ring.next(&mut random, &[], |_| true), None);
        assert_eq!(ring.next(&mut random, &live, |_| false), None);
        assert_eq!(ring.next(&mut random, &live[..1], |place| place == live[0]), Some(live[0]));
    }
}
