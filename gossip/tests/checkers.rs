//! The checkers bite: each is shown a machine that breaks what it checks, in a world where everything else is sound.

mod world;

use bytes::Bytes;
use distric_gossip::{Datagram, Event, Generation, Gossip, Incarnation, Standing, State};
use distric_model::NodeId;
use world::checkers::{
    History, Observed, datagrams_are_short, incarnation_is_monotone, memory_is_bounded, no_resurrection, packets_are_bounded,
    self_is_live_and_rising,
};
use world::*;

/// What is broken about a double.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Nothing,
    /// Whoever was dead is alive again, by the same word.
    Resurrects,
    /// Incarnations of others fall back.
    FallsBack,
    /// It believes what others say of it.
    HoldsItselfSuspect,
    /// It answers an accusation with an old word.
    TakesItsWordBack,
    /// Its normal lane keeps what was sent.
    NeverForgets,
    /// Its load lane keeps what was sent.
    HoardsLoads,
    /// It answers each packet three times.
    Chatters,
    /// It does not cut its packets.
    SendsJumbo,
}

/// A sound machine, seen through a fault.
struct Double {
    inner: Gossip,
    fault: Fault,
}

impl Observed for Double {
    fn own_standing(&self) -> Standing {
        let own = self.inner.own_standing();
        match self.fault {
            Fault::HoldsItselfSuspect => own.with(State::Suspect),
            Fault::TakesItsWordBack => Standing { incarnation: Incarnation(own.incarnation.0.saturating_sub(1)), ..own },
            _ => own,
        }
    }

    fn standing_of(&self, node: NodeId) -> Option<Standing> {
        let held = self.inner.standing_of(node)?;
        Some(match self.fault {
            Fault::Resurrects if !held.state.is_live() => held.with(State::Alive),
            Fault::FallsBack => Standing { generation: Generation(held.generation.0 - 1), ..held },
            _ => held,
        })
    }

    fn known_count(&self) -> usize {
        self.inner.known_count()
    }

    fn backlog(&self) -> (usize, usize) {
        let (normal, loads) = self.inner.backlog();
        let kept = self.inner.stats().datagrams_received_count as usize;
        match self.fault {
            Fault::NeverForgets => (normal + kept, loads),
            Fault::HoardsLoads => (normal, loads + kept),
            _ => (normal, loads),
        }
    }

    fn packets_received(&self) -> u64 {
        self.inner.stats().datagrams_received_count
    }
}

/// Everything that machine 0 of a world says in a minute in which one dies and one stalls; the checkers see the first half of it
/// through a sound double and the rest through a broken one. What they say, if they panic.
fn seen_through(fault: Fault) -> Result<(), String> {
    let mut world = World::formed(1, 6, |_, _| ());
    let mut history = History::default();
    let mut steps = Vec::new();
    world.crash(5);
    for step in 0..2_400 {
        if step == 800 {
            // It is accused meanwhile, and speaks up afterwards.
            world.pause(0, 1_200 * MS);
        }
        world.run_for(10 * MS);
        world.with(0, |gossip, now, out| {
            gossip.handle_timeout(now, out);
            steps.push((now.as_us(), gossip.clone(), out.clone()));
        });
    }
    let died = [Event::Failed { node: node_id(5), generation: Generation(1_000_000) }];
    let half = steps.len() / 2;
    let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for (n, (now, inner, mut out)) in steps.into_iter().enumerate() {
            let fault = if n < half { Fault::Nothing } else { fault };
            if n % 100 == 99 {
                out.events.extend(died.clone());
            }
            let answer = Datagram { to: endpoint(1), bytes: Bytes::from_static(&[0; 100]) };
            match fault {
                Fault::Chatters => out.datagrams.extend(std::iter::repeat_n(answer, 20)),
                Fault::SendsJumbo => out.datagrams.push(Datagram { to: endpoint(1), bytes: vec![0; 1_401].into() }),
                _ => {}
            }
            history.look(now, 0, &Double { inner, fault }, &out);
        }
    }));
    looked.map_err(|panic| panic.downcast_ref::<String>().expect("a panic has words").clone())
}

#[test]
fn each_checker_bites_its_double_and_no_other() {
    assert_eq!(seen_through(Fault::Nothing), Ok(()), "a sound machine passes");
    for (fault, words) in [
        (Fault::Resurrects, "became"),
        (Fault::FallsBack, "fell back"),
        (Fault::HoldsItselfSuspect, "holds itself"),
        (Fault::TakesItsWordBack, "took its word back"),
        (Fault::NeverForgets, "in the lanes"),
        (Fault::HoardsLoads, "in the lanes"),
        (Fault::Chatters, "packets sent in a second"),
        (Fault::SendsJumbo, "a datagram of 1401 bytes"),
    ] {
        let said = seen_through(fault).expect_err(words);
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn no_resurrection_bites() {
    let dead = standing(1, 4, State::Dead);
    assert!(no_resurrection(dead, standing(1, 4, State::Alive)).is_err());
    assert!(no_resurrection(standing(1, 4, State::Left), standing(1, 3, State::Suspect)).is_err());
    assert!(no_resurrection(dead, standing(1, 5, State::Alive)).is_ok());
    assert!(no_resurrection(dead, standing(2, 0, State::Alive)).is_ok());
}

#[test]
fn incarnation_is_monotone_bites() {
    assert!(incarnation_is_monotone(standing(1, 4, State::Alive), standing(1, 3, State::Dead)).is_err());
    assert!(incarnation_is_monotone(standing(2, 0, State::Alive), standing(1, 9, State::Alive)).is_err());
    assert!(incarnation_is_monotone(standing(1, 4, State::Dead), standing(1, 4, State::Suspect)).is_err());
    assert!(incarnation_is_monotone(standing(1, 4, State::Suspect), standing(1, 4, State::Dead)).is_ok());
}

#[test]
fn self_liveness_bites() {
    let alive = standing(1, 4, State::Alive);
    assert!(self_is_live_and_rising(alive, alive.with(State::Suspect)).is_err());
    assert!(self_is_live_and_rising(alive, standing(1, 3, State::Alive)).is_err());
    assert!(self_is_live_and_rising(alive.with(State::Left), alive).is_err());
    assert!(self_is_live_and_rising(alive, standing(1, 5, State::Left)).is_ok());
}

#[test]
fn bounded_memory_and_bounded_packets_bite() {
    assert!(memory_is_bounded(10, (13, 0)).is_err());
    assert!(memory_is_bounded(10, (0, 13)).is_err());
    assert!(memory_is_bounded(usize::MAX, (0, 0)).is_err());
    assert!(memory_is_bounded(10, (10, 10)).is_ok());
    assert!(packets_are_bounded(100, 1_401).is_err());
    assert!(packets_are_bounded(100, 1_400).is_ok());
    assert!(datagrams_are_short(1_401).is_err());
    assert!(datagrams_are_short(1_400).is_ok());
}

#[test]
#[should_panic(expected = "no agreement")]
fn convergence_bites_when_the_network_stays_cut() {
    let mut world = World::formed(1, 4, |_, _| ());
    world.passes = Box::new(|from, to| (from < 2) == (to < 2));
    world.run_for(20 * S);
    world.converge(60 * S);
}

/// The world itself shows every step to the checkers: a machine that is exchanged for an older copy of itself, as a virtual
/// machine that is restored from an image would be, takes its word back.
#[test]
#[should_panic(expected = "took its word back")]
fn the_world_looks_at_every_machine() {
    let mut world = World::formed(1, 6, |_, _| ());
    world.run_for(5 * S);
    let image = world.gossip(2).clone();
    world.pause(2, 1_200 * MS);
    world.run_for(10 * S);
    assert!(world.gossip(2).own_standing().incarnation > image.own_standing().incarnation, "it was accused and spoke up");
    world.seats[2].gossip = Some(image);
    world.run_for(10 * S);
}
