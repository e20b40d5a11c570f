//! The roster: which coordinators there are, and which session is with whom.
//!
//! In: the addresses that the worker was given, what coordinators say about each other, sessions that reach a node or lose it.
//! Out: [`Change`]s: sessions to open and to end.
//! Never: sockets, clocks.  Lives on: the shift. One owner, no sharing.
//! Invariant: at most one session is with a node, whatever addresses lead there: to the node a second one would end the first.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::ledger::SessionId;

/// Most sessions of one worker; a cluster has far fewer coordinators.
pub(super) const SESSIONS_MAX: usize = 64;

/// What is to be done about sessions.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Open(SessionId, String),
    End(SessionId),
}

#[derive(Debug)]
struct Seat {
    address: String,
    /// One of the addresses that the worker was given: it is tried for as long as the worker runs.
    given: bool,
    /// The node that it is with now.
    node: Option<Uuid>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Roster {
    seats: BTreeMap<SessionId, Seat>,
    /// The coordinators by what was said last: node and address.
    known: Vec<(Uuid, String)>,
    next: SessionId,
    changes: Vec<Change>,
}

impl Roster {
    /// A roster of these addresses; each gets a session.
    pub(super) fn new(addresses: impl IntoIterator<Item = String>) -> Self {
        let mut roster = Self::default();
        for address in addresses {
            roster.open(address, true);
        }
        roster
    }

    /// What is to be done since this was last asked.
    pub(super) fn changes(&mut self) -> impl Iterator<Item = Change> {
        self.changes.drain(..)
    }

    /// A session has reached a node. Whether it may introduce the worker there: no other session is with it.
    pub(super) fn on_reached(&mut self, session: SessionId, node: Uuid) -> bool {
        let is_taken = self.seats.iter().any(|(other, seat)| *other != session && seat.node == Some(node));
        if let Some(seat) = self.seats.get_mut(&session).filter(|_| !is_taken) {
            seat.node = Some(node);
            return true;
        }
        false
    }

    /// A session lost its connection.
    pub(super) fn on_down(&mut self, session: SessionId) {
        if let Some(seat) = self.seats.get_mut(&session) {
            seat.node = None;
        }
        self.settle();
    }

    /// A coordinator named all of them.
    pub(super) fn on_coordinators(&mut self, coordinators: Vec<(Uuid, String)>) {
        // One that knows nobody yet has nothing to say about others.
        if !coordinators.is_empty() && coordinators != self.known {
            self.known = coordinators;
            self.settle();
        }
    }

    /// Ends sessions that lead nowhere any more, opens those that are missing.
    fn settle(&mut self) {
        let is_known = |address: &str| self.known.iter().any(|(_, known)| known == address);
        let idle = self.seats.iter().filter(|(_, seat)| !seat.given && seat.node.is_none() && !is_known(&seat.address));
        let ended: Vec<SessionId> = idle.map(|(session, _)| *session).collect();
        for session in ended {
            self.seats.remove(&session);
            self.changes.push(Change::End(session));
        }
        let is_covered = |node: Uuid, address: &str| self.seats.values().any(|seat| seat.node == Some(node) || seat.address == address);
        let missing: Vec<String> =
            self.known.iter().filter(|(node, address)| !is_covered(*node, address)).map(|(_, address)| address.clone()).collect();
        for address in missing {
            self.open(address, false);
        }
    }

    fn open(&mut self, address: String, given: bool) {
        if self.seats.len() < SESSIONS_MAX {
            let session = self.next;
            self.next += 1;
            self.seats.insert(session, Seat { address: address.clone(), given, node: None });
            self.changes.push(Change::Open(session, address));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    fn roster(given: &[&str]) -> Roster {
        let mut roster = Roster::new(given.iter().map(|address| (*address).to_owned()));
        assert_eq!(roster.changes().count(), given.len());
        roster
    }

    fn say(roster: &mut Roster, coordinators: &[(Uuid, &str)]) -> Vec<Change> {
        roster.on_coordinators(coordinators.iter().map(|(node, address)| (*node, (*address).to_owned())).collect());
        roster.changes().collect()
    }

    #[test]
    fn a_coordinator_that_is_named_gets_a_session_once() {
        let mut roster = roster(&["a:1"]);
        assert!(roster.on_reached(0, A));
        assert_eq!(say(&mut roster, &[(A, "a:1"), (B, "b:1")]), [Change::Open(1, "b:1".to_owned())]);
        assert_eq!(say(&mut roster, &[(B, "b:1"), (A, "a:1")]), []);
        assert_eq!(say(&mut roster, &[]), [], "one that knows nobody changes nothing");
    }

    #[test]
    fn two_addresses_of_one_node_are_one_session() {
        let mut roster = roster(&["localhost:1", "a:1"]);
        assert!(roster.on_reached(0, A) && !roster.on_reached(1, A));
        assert_eq!(say(&mut roster, &[(A, "a.example:1")]), [], "it is reached already, under another name");
        roster.on_down(0);
        assert!(roster.on_reached(1, A), "the second address serves when the first is gone");
        assert!(!roster.on_reached(0, A));
    }

    #[test]
    fn one_that_left_or_moved_is_let_go_when_its_connection_ends() {
        let mut roster = roster(&["a:1"]);
        roster.on_reached(0, A);
        say(&mut roster, &[(A, "a:1"), (B, "b:1")]);
        assert!(roster.on_reached(1, B));
        assert_eq!(say(&mut roster, &[(A, "a:1"), (B, "b:2")]), [], "it is still reached at its old address");
        roster.on_down(1);
        assert_eq!(roster.changes().collect::<Vec<_>>(), [Change::End(1), Change::Open(2, "b:2".to_owned())]);
        assert_eq!(say(&mut roster, &[(A, "a:1")]), [Change::End(2)]);
        roster.on_down(0);
        assert_eq!(roster.changes().count(), 0, "a given address is tried for ever");
    }

    #[test]
    fn sessions_are_bounded() {
        let mut roster = roster(&["a:1"]);
        let many: Vec<(Uuid, String)> = (0..1_000).map(|n| (Uuid::from_u128(n), format!("x:{n}"))).collect();
        roster.on_coordinators(many);
        assert_eq!(roster.changes().count(), SESSIONS_MAX - 1);
    }
}
