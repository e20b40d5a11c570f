//! Links: whom this node is connected to, and when it dials again. Bookkeeping only; the raft core does what it says.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use distric_model::{Instant, NodeId};

use crate::node::peer::{Member, PeerLetter};
use crate::node::peer_wire::Packer;
use crate::reactor::connection::Conn;

/// The first pause after a failed try, milliseconds; it doubles up to [`RETRY_MS_MAX`].
const RETRY_MS_MIN: u64 = 50;
/// The longest pause, milliseconds.
pub const RETRY_MS_MAX: u64 = 1_000;

/// One link to another coordinator.
struct Link {
    address: Arc<str>,
    state: State,
    retry_ms: u64,
    packer: Packer,
    output: Vec<u8>,
}

enum State {
    /// Dial at this time.
    Down(Instant),
    /// A thread connects.
    Dialing,
    /// Connected; the hello is not answered yet.
    Greeting(Rc<Conn>),
    /// Letters go out.
    Up(Rc<Conn>),
}

/// All links of a node.
#[derive(Default)]
pub struct Links(BTreeMap<NodeId, Link>);

impl Links {
    /// Takes the members that there are: new ones are dialled, those that are gone are let go. Returns the connections to close.
    pub fn update(&mut self, me: NodeId, members: &[Member], now: Instant) -> Vec<(NodeId, Rc<Conn>)> {
        for member in members.iter().filter(|member| member.node != me) {
            self.found_at(member.node, &member.peer_address, now);
        }
        let is_gone = |node: &NodeId| members.iter().all(|member| member.node != *node);
        let gone: Vec<NodeId> = self.0.keys().filter(|node| is_gone(node)).copied().collect();
        gone.into_iter().filter_map(|node| Some((node, self.0.remove(&node)?.conn()?))).collect()
    }

    /// A node is at this address: by the book, or because it said so just now.
    pub fn found_at(&mut self, node: NodeId, address: &Arc<str>, now: Instant) {
        let link = self.0.entry(node).or_insert_with(|| Link {
            address: address.clone(),
            state: State::Down(now),
            retry_ms: RETRY_MS_MIN,
            packer: Packer::default(),
            output: Vec::new(),
        });
        if link.address != *address {
            link.address = address.clone();
        }
        // Whoever calls is there: no need to wait for the end of a pause.
        if let State::Down(at) = &mut link.state {
            *at = (*at).min(now);
            link.retry_ms = RETRY_MS_MIN;
        }
    }

    /// Whom to dial now.
    pub fn due(&mut self, now: Instant) -> Vec<(NodeId, Arc<str>)> {
        let due = self.0.iter_mut().filter(|(_, link)| matches!(link.state, State::Down(at) if at <= now));
        due.map(|(node, link)| {
            link.state = State::Dialing;
            (*node, link.address.clone())
        })
        .collect()
    }

    /// When [`Self::due`] has something next.
    pub fn next_wake(&self) -> Option<Instant> {
        let at = |link: &Link| if let State::Down(at) = link.state { Some(at) } else { None };
        self.0.values().filter_map(at).min()
    }

    /// Connected. False: nobody wants this connection any more.
    pub fn greet(&mut self, node: NodeId, conn: Rc<Conn>) -> bool {
        match self.0.get_mut(&node) {
            Some(link) if matches!(link.state, State::Dialing) => {
                link.state = State::Greeting(conn);
                true
            }
            _ => false,
        }
    }

    /// The hello was answered as it should be.
    pub fn up(&mut self, node: NodeId) {
        if let Some(link) = self.0.get_mut(&node)
            && let State::Greeting(conn) = &link.state
        {
            link.state = State::Up(conn.clone());
            link.retry_ms = RETRY_MS_MIN;
        }
    }

    /// The try failed, or the connection is gone. Returns how long until the next try, milliseconds.
    pub fn down(&mut self, node: NodeId, now: Instant) -> u64 {
        let Some(link) = self.0.get_mut(&node) else { return 0 };
        let pause_ms = link.retry_ms;
        link.state = State::Down(now.plus_ms(pause_ms));
        link.retry_ms = (pause_ms * 2).min(RETRY_MS_MAX);
        link.output.clear();
        link.packer = Packer::default();
        pause_ms
    }

    /// Whether `conn` is the link's connection.
    pub fn is_of(&self, node: NodeId, conn: crate::node::letters::ConnId) -> bool {
        self.0.get(&node).and_then(Link::conn).is_some_and(|link| link.id == conn)
    }

    /// Puts a letter to the others of this turn; to a node that cannot be told now it is lost.
    pub fn pack(&mut self, node: NodeId, letter: &PeerLetter, at_us: u64) {
        if let Some(link) = self.0.get_mut(&node)
            && matches!(link.state, State::Up(_))
        {
            link.packer.push(letter, at_us, &mut link.output);
        }
    }

    /// Sends what this turn has gathered.
    pub fn send(&mut self, at_us: u64) {
        for link in self.0.values_mut() {
            link.packer.finish(at_us, &mut link.output);
            if !link.output.is_empty() {
                if let State::Up(conn) = &link.state {
                    conn.append(&link.output);
                }
                link.output.clear();
            }
        }
    }
}

impl Link {
    fn conn(&self) -> Option<Rc<Conn>> {
        match &self.state {
            State::Greeting(conn) | State::Up(conn) => Some(conn.clone()),
            State::Down(_) | State::Dialing => None,
        }
    }
}
