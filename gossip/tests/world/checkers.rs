//! Checkers: what must hold after every single step, whatever the network does. `checkers.rs` shows each of them a machine
//! that breaks what it checks.

use std::collections::BTreeMap;

use distric_gossip::{DATAGRAM_BYTES_MAX, Event, Gossip, MEMBERS_MAX, Outputs, Standing, State};
use distric_model::NodeId;

/// What the checkers look at: a machine, or a double that is broken on purpose.
pub trait Observed {
    fn own_standing(&self) -> Standing;
    fn standing_of(&self, node: NodeId) -> Option<Standing>;
    fn known_count(&self) -> usize;
    /// Rumours in waiting: normal lane and load lane.
    fn backlog(&self) -> (usize, usize);
    fn packets_received(&self) -> u64;
}

impl Observed for Gossip {
    fn own_standing(&self) -> Standing {
        Self::own_standing(self)
    }

    fn standing_of(&self, node: NodeId) -> Option<Standing> {
        Self::standing_of(self, node)
    }

    fn known_count(&self) -> usize {
        Self::known_count(self)
    }

    fn backlog(&self) -> (usize, usize) {
        Self::backlog(self)
    }

    fn packets_received(&self) -> u64 {
        self.stats().datagrams_received_count
    }
}

/// What one observer held of one member at its last look.
type Seen = BTreeMap<(usize, NodeId), Standing>;

/// What was seen so far.
#[derive(Default)]
pub struct History {
    seen: Seen,
    own: BTreeMap<usize, Standing>,
    rates: BTreeMap<usize, Rate>,
}

/// What one machine sent within the second that began at `since`, and what it had received by then.
#[derive(Clone, Copy, Default)]
struct Rate {
    since: u64,
    received: u64,
    sent: u64,
}

impl History {
    /// Looks at one machine after one call. Only those that an event names are compared one by one; a whole look at the
    /// table after each packet would make the world quadratic.
    pub fn look(&mut self, now: u64, at: usize, machine: &impl Observed, out: &Outputs) {
        let own = machine.own_standing();
        if let Some(before) = self.own.insert(at, own)
            && let Err(why) = self_is_live_and_rising(before, own)
        {
            panic!("at {now} us, machine {at} about itself: {why}");
        }
        for event in &out.events {
            let (Event::Joined { node, .. }
            | Event::Restarted { node, .. }
            | Event::Suspected { node, .. }
            | Event::Refuted { node, .. }
            | Event::Failed { node, .. }
            | Event::Left { node, .. }) = event
            else {
                continue;
            };
            let Some(standing) = machine.standing_of(*node) else { continue };
            let before = self.seen.insert((at, *node), standing);
            // A restarted observer starts with an empty memory.
            let is_new_life = machine.packets_received() < 2;
            if let Some(before) = before.filter(|_| !is_new_life)
                && let Err(why) = no_resurrection(before, standing).and(incarnation_is_monotone(before, standing))
            {
                panic!("at {now} us, machine {at} about {node}: {why}");
            }
        }
        let rate = self.rates.entry(at).or_default();
        if now >= rate.since + 1_000_000 || machine.packets_received() < rate.received {
            *rate = Rate { since: now, received: machine.packets_received(), sent: 0 };
        }
        rate.sent += out.datagrams.len() as u64;
        let received = machine.packets_received() - rate.received;
        let longest = out.datagrams.iter().map(|datagram| datagram.bytes.len()).max().unwrap_or(0);
        if let Err(why) = memory_is_bounded(machine.known_count(), machine.backlog())
            .and(packets_are_bounded(received, rate.sent))
            .and(datagrams_are_short(longest))
        {
            panic!("at {now} us, machine {at}: {why}");
        }
    }

    /// An observer that starts anew may hear old words again.
    pub fn forget(&mut self, at: usize) {
        self.seen.retain(|(observer, _), _| *observer != at);
        self.own.remove(&at);
        self.rates.remove(&at);
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
        return Err(format!("{before:?} took its word back: {after:?}"));
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

/// Packets that one second may add on top of the answers: the urgent lane's valve with its reserve (800), probes with their
/// relays and second pings, and ticks.
const PACKETS_PER_S_MAX: u64 = 1_200;

/// Nobody sends without bound: at most two packets for one that came (an answer and a word to whom it is about), and what
/// a second may add.
pub fn packets_are_bounded(received: u64, sent: u64) -> Result<(), String> {
    if sent > 2 * received + PACKETS_PER_S_MAX {
        return Err(format!("{sent} packets sent in a second in which {received} came"));
    }
    Ok(())
}

/// Every datagram fits.
pub fn datagrams_are_short(bytes: usize) -> Result<(), String> {
    if bytes > DATAGRAM_BYTES_MAX { Err(format!("a datagram of {bytes} bytes")) } else { Ok(()) }
}
