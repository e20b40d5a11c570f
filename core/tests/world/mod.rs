//! A deterministic world around the very code of production: nodes, clients and workers on one virtual clock.
//!
//! Letters wait in lanes as between threads: what one actor sends to another in one class keeps its order, nothing else does.
//! Which lane goes next follows from a seed (or from arrival); time stands still while anything travels, and jumps to the
//! next wake-up when nothing does. The same seed tells the same story.

#![allow(dead_code, reason = "each test file uses its part of it")]

pub mod node;
pub mod said;
pub mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;

use distric_core::node::checkpoint::Restored;
use distric_core::node::consensus::CheckpointPolicy;
use distric_core::node::draw::Draws;
use distric_core::node::envelope::Envelope;
use distric_core::node::group_of;
use distric_core::node::letters::ShardLetter;
use distric_core::node::liveness::{GossipView, MemberSeat, gossip_generation, node_of_worker};
use distric_core::node::machine_clock::Now;
use distric_core::node::peer::PeerLetter;
use distric_exec::{Command as ExecCommand, Context, Machine, Settings};
use distric_gossip::{Endpoint, Generation, Incarnation, Load, Role, Standing, State, Verdict};
use distric_model::{ClusterId, GroupId, Instant, NodeId, Slot, Timestamp};
use distric_raft_store::StateStore;
use distric_wire::client::{Command, CommandKind, Hello, Query, QueryKind, Submit};
use distric_wire::{FrameLimits, Message};
use serde_json::{Value, json};

use node::{Actor, Lane, Letter, Node};
pub use said::Said;
pub use worker::{Ending, Habit, Key, Worker, put};

/// The calendar at the start.
pub const START_US: u64 = 1_700_000_000_000_000;
/// Steps of one run without an end: something goes round in circles.
const STEPS_MAX: u64 = 20_000_000;
/// Wake-ups of the shards within one virtual second: more is a storm.
const JUMPS_PER_SECOND_MAX: u64 = 20_000;

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    pub seed: u64,
    pub nodes: usize,
    /// Nodes besides, which are not started with the others and may join.
    pub spares: usize,
    pub shards: usize,
    pub work_groups: u32,
    /// Letters go in order of arrival instead of at random.
    pub is_fifo: bool,
    /// Sum up everything that happens in [`World::trace`].
    pub traces: bool,
    pub settings: Settings,
    pub frames_in_flight_max: u32,
    pub bytes_in_flight_max: u64,
    pub requests_per_second: Option<u32>,
    pub checkpoints: CheckpointPolicy,
    /// How long leaders answer by their lease.
    pub lease_ms: u64,
}

impl Setup {
    /// One node with four work groups.
    pub fn of(seed: u64, shards: usize) -> Self {
        Self {
            seed,
            nodes: 1,
            spares: 0,
            shards,
            work_groups: 4,
            is_fifo: false,
            traces: false,
            settings: Settings::default(),
            frames_in_flight_max: 256,
            bytes_in_flight_max: 1 << 24,
            requests_per_second: None,
            checkpoints: CheckpointPolicy::default(),
            lease_ms: 0,
        }
    }

    pub fn cluster(&self) -> ClusterId {
        ClusterId::new(Timestamp::from_us(START_US), Slot::truncate(0), 77)
    }
}

/// A client's connection.
pub struct Client {
    pub node: usize,
    pub conn: u64,
    pub shard: usize,
    pub is_open: bool,
    /// Answers that nobody took yet, by message id and in order.
    pub got: Vec<(u64, Said)>,
    received: Vec<u8>,
    next_id: u64,
}

pub type ClientId = usize;

/// What happens to a letter between two actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Arrives,
    IsLost,
    /// It arrives and stays in its lane as well. For letters between groups.
    ArrivesTwice,
}

/// Decides a letter's fate.
pub type Meddle = Box<dyn FnMut(&Letter) -> Fate>;

/// Loses so many of the records between groups and of the answers to them, and then doubles every record.
pub fn losing_and_doubling(mut lost: u32) -> Meddle {
    // The second of a pair is not doubled again, or it would never end.
    let mut is_first = false;
    Box::new(move |letter| match letter {
        Letter::Shard(ShardLetter::OutAcked { .. } | ShardLetter::Deliver { .. }) if lost > 0 => {
            lost -= 1;
            Fate::IsLost
        }
        Letter::Shard(ShardLetter::Deliver { .. }) => {
            is_first = !is_first;
            if is_first { Fate::ArrivesTwice } else { Fate::Arrives }
        }
        _ => Fate::Arrives,
    })
}

/// A key whose home is this one of four groups.
pub fn key_of(group: u32) -> String {
    let home = |key: &String| group_of(Slot::of("default", key.as_bytes()), 4).0 == group;
    (0..).map(|n| format!("key-{n}")).find(home).expect("keys spread over all groups")
}

pub struct World {
    pub setup: Setup,
    pub nodes: Vec<Node>,
    pub clients: Vec<Client>,
    pub workers: Vec<Worker>,
    pub mono: Instant,
    /// The calendar's distance from the monotonic clock, microseconds.
    pub wall_offset_us: u64,
    pub trace: u64,
    pub steps: u64,
    /// What happens to letters on their way, when a test meddles.
    pub meddle: Option<Meddle>,
    /// Of a hundred messages between nodes, so many are lost.
    pub loss_percent: u64,
    /// Links between nodes that lose everything.
    pub cut: Vec<(usize, usize)>,
    /// From, to: what goes this way is lost, and neither end notices.
    pub swallowed: Vec<(usize, usize)>,
    draws: Draws,
    conns: BTreeMap<u64, Link>,
    next_conn: u64,
    jumps: (u64, u64),
}

/// A connection: whose it is, and where it leads.
#[derive(Clone, Copy)]
struct Link {
    owner: Owner,
    node: usize,
    shard: usize,
}

#[derive(Clone, Copy)]
enum Owner {
    Client(ClientId),
    Worker(usize),
}

impl World {
    /// Nodes that run, elected and ready.
    pub fn new(setup: Setup) -> Self {
        let mut world = Self::still(setup);
        let founders = world.setup.nodes;
        for node in 0..founders {
            world.start(node);
        }
        world.until(10_000, "all nodes are ready", |world| world.nodes[..founders].iter().all(Node::is_ready));
        world
    }

    /// Nodes that do not run yet.
    pub fn still(setup: Setup) -> Self {
        let everybody: Vec<NodeId> = (0..setup.nodes + setup.spares)
            .map(|number| NodeId::new(Timestamp::from_us(START_US), Slot::truncate(0), number as u64 + 1))
            .collect();
        Self {
            nodes: (0..everybody.len()).map(|number| Node::new(number, setup.nodes, everybody.clone())).collect(),
            clients: Vec::new(),
            workers: Vec::new(),
            mono: Instant::from_us(1_000_000),
            wall_offset_us: START_US,
            trace: 0xcbf2_9ce4_8422_2325,
            steps: 0,
            meddle: None,
            loss_percent: 0,
            cut: Vec::new(),
            swallowed: Vec::new(),
            draws: Draws::new(setup.seed),
            conns: BTreeMap::new(),
            next_conn: 1,
            jumps: (0, 0),
            setup,
        }
    }

    pub fn now(&self) -> Now {
        Now { mono: self.mono, wall: Timestamp::from_us(self.mono.as_us() + self.wall_offset_us) }
    }

    /// The time as a node has it.
    fn now_of(&self, node: usize) -> Now {
        let mono = self.nodes[node].clock.at(self.mono);
        Now { mono, wall: Timestamp::from_us(mono.as_us() + self.wall_offset_us) }
    }

    /// From now on a node's clock runs at so many thousandths of the world's speed.
    pub fn set_clock_rate(&mut self, node: usize, permille: u64) {
        self.nodes[node].clock.set_rate(self.mono, permille);
    }

    /// A number below `bound`, from the seed.
    pub fn draw(&mut self, bound: u64) -> u64 {
        self.draws.draw() % bound.max(1)
    }

    pub fn start(&mut self, node: usize) {
        let now = self.now_of(node);
        self.nodes[node].start(now, &self.setup);
    }

    /// The process of a node dies; the disk keeps what was flushed, and the first `kept` writes of what was not.
    pub fn crash_keeping(&mut self, node: usize, kept: usize) {
        let conns = self.nodes[node].crash(kept);
        for conn in conns {
            self.on_end(conn);
        }
        // Connections that the node had not heard of yet.
        let strangers: Vec<u64> = self.conns.iter().filter(|(_, link)| link.node == node).map(|(conn, _)| *conn).collect();
        for conn in strangers {
            self.on_end(conn);
        }
    }

    pub fn crash(&mut self, node: usize) {
        self.crash_keeping(node, 0);
    }

    /// Crash and restart, and wait until the node is ready.
    pub fn restart(&mut self, node: usize) {
        self.crash(node);
        self.start(node);
        self.until(10_000, "the node is ready again", |world| world.nodes[node].is_ready());
    }

    // ---- time ----

    /// Delivers one letter. False when none travels.
    pub fn step(&mut self) -> bool {
        self.on_due();
        let mut fronts: Vec<(usize, Lane, u64)> = Vec::new();
        let now = self.mono;
        for (number, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.life.is_some() && node.letter_at <= now) {
            let may_flush = !node.hold_flush;
            let ready = node.lanes.fronts().filter(|(_, _, letter)| may_flush || !matches!(letter, Letter::Flush));
            fronts.extend(ready.map(|(lane, arrival, _)| (number, lane, arrival)));
        }
        if fronts.is_empty() {
            return false;
        }
        let chosen = if self.setup.is_fifo {
            *fronts.iter().min_by_key(|(node, _, arrival)| (*arrival, *node)).expect("not empty")
        } else {
            fronts[self.draw(fronts.len() as u64) as usize]
        };
        let passed_us = if self.setup.is_fifo { 1 } else { 1 + self.draw(8) };
        self.mono = self.mono.plus_us(passed_us);
        self.steps += 1;
        assert!(self.steps < STEPS_MAX, "the world does not come to rest");
        let slow = &mut self.nodes[chosen.0];
        slow.letter_at = if slow.letter_us > 0 { self.mono.plus_us(slow.letter_us) } else { Instant::from_us(0) };
        self.deliver(chosen.0, chosen.1);
        true
    }

    /// Delivers what travels until nothing does. Time goes on by microseconds only.
    pub fn settle(&mut self) {
        while self.step() {}
    }

    /// Delivers at most so many letters; at most a second passes.
    pub fn steps(&mut self, count: u64) {
        let end = self.mono.plus_ms(1_000);
        for _ in 0..count {
            if !self.step() && self.mono < end {
                self.jump(end);
            }
        }
    }

    /// Lets milliseconds pass.
    pub fn run_ms(&mut self, ms: u64) {
        let end = self.mono.plus_ms(ms);
        while self.mono < end {
            if !self.step() {
                self.jump(end);
            }
        }
    }

    /// Runs until something is true; panics when it is not within some milliseconds.
    #[track_caller]
    pub fn until(&mut self, ms: u64, what: &str, mut is_true: impl FnMut(&Self) -> bool) {
        let end = self.mono.plus_ms(ms);
        while !is_true(self) {
            assert!(self.mono < end, "not within {ms} ms (seed {}): {what}", self.setup.seed);
            if !self.step() {
                self.jump(end);
            }
        }
    }

    /// Goes to the next moment at which anybody wants to be called.
    fn jump(&mut self, end: Instant) {
        let nodes = self.nodes.iter().filter_map(|node| Some(node.clock.world_at(node.next_wake()?)));
        let slow = self.nodes.iter().filter(|node| node.letter_at > self.mono).map(|node| node.letter_at);
        let next = nodes.chain(slow).chain(self.workers.iter().filter_map(Worker::next_wake)).min().unwrap_or(end).min(end);
        self.mono = self.mono.plus_us(1).max(next);
        let second = self.mono.as_us() / 1_000_000;
        self.jumps = if self.jumps.0 == second { (second, self.jumps.1 + 1) } else { (second, 1) };
        if self.jumps.1 >= JUMPS_PER_SECOND_MAX {
            let nodes: Vec<_> = self.nodes.iter().map(|node| (node.shards_wake(), node.next_wake())).collect();
            let workers: Vec<_> = self.workers.iter().map(Worker::next_wake).collect();
            let (at, seed) = (self.mono, self.setup.seed);
            panic!("a storm of wake-ups at {at:?} (seed {seed}): shards and nodes are due at {nodes:?}, workers at {workers:?}");
        }
        self.on_due();
    }

    fn on_due(&mut self) {
        self.tell_links();
        for node in 0..self.nodes.len() {
            let now = self.now_of(node);
            self.nodes[node].on_time(now);
        }
        for worker in 0..self.workers.len() {
            if self.workers[worker].next_wake().is_some_and(|at| at <= self.mono) {
                let wishes = self.workers[worker].on_time(self.mono);
                self.grant(worker, wishes);
            }
        }
    }

    /// Whether two nodes are connected.
    fn is_linked(&self, one: usize, other: usize) -> bool {
        let is_cut = self.cut.contains(&(one, other)) || self.cut.contains(&(other, one));
        !is_cut && one != other && self.nodes[one].life.is_some() && self.nodes[other].life.is_some()
    }

    /// Every node hears which of the others it is connected to.
    fn tell_links(&mut self) {
        for node in 0..self.nodes.len() {
            let now = self.now_of(node);
            let linked: Vec<usize> = (0..self.nodes.len()).filter(|other| self.is_linked(node, *other)).collect();
            // Whoever calls says who it is; with spares, each pair does so in both directions.
            let news = if self.setup.spares > 0 { self.nodes[node].not_linked(&linked) } else { Vec::new() };
            self.nodes[node].on_links(now, linked);
            for other in news {
                let member = self.nodes[other].record();
                self.nodes[node].on_announced(member);
            }
        }
    }

    fn deliver(&mut self, node: usize, lane: Lane) {
        let letter = self.nodes[node].lanes.pop(lane);
        match self.meddle.as_mut().map_or(Fate::Arrives, |meddle| meddle(&letter)) {
            Fate::Arrives => {}
            Fate::IsLost => return,
            Fate::ArrivesTwice => {
                if let Letter::Shard(ShardLetter::Deliver { group, from_group, record }) = &letter {
                    let again = ShardLetter::Deliver { group: *group, from_group: *from_group, record: record.clone() };
                    self.nodes[node].lanes.push(lane.0, lane.1, lane.2, Letter::Shard(again));
                }
            }
        }
        if self.setup.traces {
            let line = format!("{} {node} {lane:?} {letter:?}", self.mono.as_us());
            self.trace = line.bytes().fold(self.trace, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        }
        let now = self.now_of(node);
        match (lane.1, letter) {
            (Actor::Conn(conn), Letter::Bytes(bytes)) => self.on_bytes(conn, &bytes),
            (Actor::Conn(conn), _) => self.on_end(conn),
            (Actor::Peer(peer), Letter::Peer(letter)) => {
                let from = self.nodes[node].id;
                // What is said besides raft is lost with a connection only.
                let may_be_lost = self.loss_percent > 0 && matches!(letter, PeerLetter::Raft(..));
                let is_lost = may_be_lost && self.draw(100) < self.loss_percent;
                if !is_lost && self.is_linked(node, peer) && !self.swallowed.contains(&(node, peer)) {
                    let its_now = self.now_of(peer);
                    self.nodes[peer].on_peer(its_now, from, letter);
                }
            }
            (Actor::State, Letter::Fetch(group, install)) => {
                let from = (0..self.nodes.len()).find(|other| {
                    self.nodes[*other].id == install.from && self.is_linked(node, *other) && !self.swallowed.contains(&(*other, node))
                });
                let is_lost = self.loss_percent > 0 && self.draw(100) < self.loss_percent;
                let copy = from.filter(|_| !is_lost).and_then(|from| self.nodes[from].exported.get(&group).cloned());
                self.nodes[node].on_fetched(group, install, copy);
            }
            (_, letter) => self.nodes[node].deliver(now, lane, letter),
        }
    }

    // ---- connections ----

    fn open(&mut self, node: usize, shard: usize, owner: Owner) -> u64 {
        let conn = self.next_conn;
        self.next_conn += 1;
        self.conns.insert(conn, Link { owner, node, shard });
        self.nodes[node].lanes.push(Actor::Conn(conn), Actor::Shard(shard), 0, Letter::Open);
        conn
    }

    fn send_bytes(&mut self, conn: u64, bytes: Vec<u8>) {
        let Some(Link { node, shard, .. }) = self.conns.get(&conn).copied() else { return };
        if self.nodes[node].life.is_some() {
            self.nodes[node].lanes.push(Actor::Conn(conn), Actor::Shard(shard), 0, Letter::Bytes(bytes));
        }
    }

    fn on_bytes(&mut self, conn: u64, bytes: &[u8]) {
        match self.conns.get(&conn).map(|link| link.owner) {
            None => {}
            Some(Owner::Client(client)) => {
                let client = &mut self.clients[client];
                client.received.extend_from_slice(bytes);
                let received = std::mem::take(&mut client.received);
                let mut at = 0;
                while let Some((frame, consumed)) =
                    distric_wire::parse(&received[at..], FrameLimits::AUTHENTICATED).expect("a node frames well")
                {
                    at += consumed;
                    client.got.push((frame.header.message_id, Said::read(&frame)));
                }
                client.received = received[at..].to_vec();
            }
            // A worker that has dialled again does not listen to its old connection any more.
            Some(Owner::Worker(worker)) if self.workers[worker].conn == Some(conn) => {
                let wishes = self.workers[worker].on_bytes(self.mono, bytes);
                self.grant(worker, wishes);
            }
            Some(Owner::Worker(_)) => {}
        }
    }

    fn on_end(&mut self, conn: u64) {
        match self.conns.remove(&conn).map(|link| link.owner) {
            None => {}
            Some(Owner::Client(client)) => self.clients[client].is_open = false,
            Some(Owner::Worker(worker)) if self.workers[worker].conn == Some(conn) => self.workers[worker].on_end(self.mono),
            Some(Owner::Worker(_)) => {}
        }
    }

    fn grant(&mut self, worker: usize, wishes: Vec<worker::Wish>) {
        for wish in wishes {
            match wish {
                worker::Wish::Send(bytes) => {
                    if let Some(conn) = self.workers[worker].conn {
                        self.send_bytes(conn, bytes);
                    }
                }
                worker::Wish::Dial => {
                    let (node, shard) = (self.workers[worker].node, self.workers[worker].shard);
                    if self.nodes[node].life.is_none() {
                        self.workers[worker].on_end(self.mono);
                        continue;
                    }
                    let conn = self.open(node, shard, Owner::Worker(worker));
                    let bytes = self.workers[worker].on_connected(self.mono, conn);
                    self.send_bytes(conn, bytes);
                }
            }
        }
    }

    /// A worker that connects by itself.
    pub fn worker(&mut self, shard: usize, types: &[&str], habit: Habit) -> usize {
        self.worker_of(0, shard, types, habit)
    }

    /// The same, with a session to this node.
    pub fn worker_of(&mut self, node: usize, shard: usize, types: &[&str], habit: Habit) -> usize {
        let number = self.workers.len() as u64 + 1;
        self.workers.push(Worker::new(number, node, shard, types, habit));
        self.workers.len() - 1
    }

    /// The worker's connection breaks.
    pub fn break_worker(&mut self, worker: usize) {
        if let Some(conn) = self.workers[worker].conn {
            self.hang_up(conn);
        }
    }

    /// Gossip says this about the present run of each of these workers.
    pub fn gossip(&mut self, words: &[(usize, State)]) {
        let words: Vec<_> = words.iter().map(|(at, state)| (*at, *state, Load::default())).collect();
        self.gossip_with_loads(&words);
    }

    /// As [`Self::gossip`], with samples of load.
    pub fn gossip_with_loads(&mut self, words: &[(usize, State, Load)]) {
        let seat = |worker: &Worker, state, load| MemberSeat {
            standing: Standing::new(Generation(gossip_generation(worker.generation)), Incarnation(0), state),
            name: String::new(),
            role: Role::Worker,
            endpoint: Endpoint::v4([127, 0, 0, 1], 1),
            zone: String::new(),
            capacity: 1,
            load,
            version: String::new(),
            peer: None,
            keys: distric_gossip::KeyWord::default(),
        };
        let members =
            words.iter().map(|(at, state, load)| (node_of_worker(self.workers[*at].id).unwrap(), seat(&self.workers[*at], *state, *load)));
        let view = Arc::new(GossipView {
            node: self.nodes[0].id,
            endpoint: Endpoint::v4([127, 0, 0, 1], 2),
            members: members.collect(),
            verdict: Verdict::None,
            local_health: 0,
            stats: distric_gossip::Stats::default(),
        });
        for node in &mut self.nodes {
            for shard in 0..self.setup.shards {
                node.lanes.push(Actor::Raft, Actor::Shard(shard), 0, Letter::Shard(ShardLetter::Gossip(view.clone())));
            }
        }
    }

    /// Ends an attempt that a worker holds.
    pub fn finish(&mut self, worker: usize, key: worker::Key, ending: Ending) {
        let mut bytes = Vec::new();
        self.workers[worker].finish(self.mono, key, ending, &mut bytes);
        self.grant(worker, vec![worker::Wish::Send(bytes)]);
    }

    fn hang_up(&mut self, conn: u64) {
        let Some(Link { node, shard, .. }) = self.conns.get(&conn).copied() else { return };
        if self.nodes[node].life.is_some() {
            self.nodes[node].lanes.push(Actor::Conn(conn), Actor::Shard(shard), 0, Letter::End);
        }
        self.on_end(conn);
    }

    // ---- clients ----

    /// A connection that has said nothing yet.
    pub fn stranger(&mut self, node: usize, shard: usize) -> ClientId {
        let id = self.clients.len();
        let conn = self.open(node, shard, Owner::Client(id));
        self.clients.push(Client { node, conn, shard, is_open: true, got: Vec::new(), received: Vec::new(), next_id: 1 });
        id
    }

    /// A connection that was welcomed.
    #[track_caller]
    pub fn client(&mut self, shard: usize) -> ClientId {
        self.client_of(0, shard)
    }

    #[track_caller]
    pub fn client_of(&mut self, node: usize, shard: usize) -> ClientId {
        let client = self.stranger(node, shard);
        match self.ask(client, &hello()) {
            Said::Welcome { shard: at, .. } => assert_eq!(usize::from(at), shard),
            other => panic!("expected a Welcome, got {other:?}"),
        }
        client
    }

    pub fn close(&mut self, client: ClientId) {
        let conn = self.clients[client].conn;
        self.hang_up(conn);
    }

    /// Sends a frame; returns its message id.
    pub fn send<'a, M: Message<'a>>(&mut self, client: ClientId, message: &M) -> u64 {
        let id = self.clients[client].next_id;
        self.clients[client].next_id += 1;
        let mut bytes = Vec::new();
        put(message, id, &mut bytes);
        self.send_raw(client, bytes);
        id
    }

    pub fn send_raw(&mut self, client: ClientId, bytes: Vec<u8>) {
        let conn = self.clients[client].conn;
        self.send_bytes(conn, bytes);
    }

    /// The answer to a message id, if it came; taken out.
    pub fn took(&mut self, client: ClientId, id: u64) -> Option<Said> {
        let got = &mut self.clients[client].got;
        let at = got.iter().position(|(found, _)| *found == id)?;
        Some(got.remove(at).1)
    }

    /// Everything that came for a message id; taken out.
    pub fn took_all(&mut self, client: ClientId, id: u64) -> Vec<Said> {
        std::iter::from_fn(|| self.took(client, id)).collect()
    }

    /// Waits for the answer to a message id.
    #[track_caller]
    pub fn answer(&mut self, client: ClientId, id: u64) -> Said {
        self.until(60_000, "an answer", |world| {
            !world.clients[client].is_open || world.clients[client].got.iter().any(|(found, _)| *found == id)
        });
        self.took(client, id).unwrap_or(Said::Gone)
    }

    #[track_caller]
    pub fn ask<'a, M: Message<'a>>(&mut self, client: ClientId, message: &M) -> Said {
        let id = self.send(client, message);
        self.answer(client, id)
    }

    #[track_caller]
    pub fn query(&mut self, client: ClientId, kind: QueryKind, id: Option<uuid::Uuid>) -> Said {
        self.ask(client, &Query { kind: kind.number(), id, ..Query::default() })
    }

    /// The body of a query's answer.
    #[track_caller]
    pub fn look(&mut self, client: ClientId, kind: QueryKind, id: Option<uuid::Uuid>) -> Value {
        self.query(client, kind, id).reply().body
    }

    #[track_caller]
    pub fn command(&mut self, client: ClientId, kind: CommandKind, name: Option<&str>, body: &str) -> Said {
        let body = (!body.is_empty()).then_some(body.as_bytes());
        self.ask(client, &Command { kind: kind.number(), name, body, ..Command::default() })
    }

    /// Applies rules and workflows, and returns the catalog's new version.
    #[track_caller]
    pub fn apply(&mut self, client: ClientId, rules: Option<&str>, workflows: Option<&str>) -> u64 {
        let body = catalog_body(rules, workflows);
        self.command(client, CommandKind::ApplyCatalog, None, &body).reply().version.expect("a change has a version")
    }

    /// Waits until an instance has ended; returns its view.
    #[track_caller]
    pub fn ended(&mut self, client: ClientId, instance: uuid::Uuid, ms: u64) -> Value {
        let end = self.mono.plus_ms(ms);
        loop {
            let view = self.look(client, QueryKind::Instance, Some(instance));
            if !view["ended_at_us"].is_null() {
                return view;
            }
            assert!(self.mono < end, "the instance has not ended (seed {}): {view:#}", self.setup.seed);
            self.run_ms(20);
        }
    }

    // ---- what is durable ----

    /// The commands of a work group's durable log.
    pub fn log(&mut self, node: usize, group: u32) -> Vec<(Context, ExecCommand)> {
        let entries = self.nodes[node].log(GroupId(group));
        let opened = entries.iter().filter(|entry| entry.kind == distric_raft::EntryKind::Command).map(|entry| {
            let envelope = Envelope::open(&entry.data).expect("commands lie in envelopes");
            let at = Context { index: entry.index.0, stamp: envelope.stamp, draw: envelope.draw };
            (at, ExecCommand::decode(envelope.command).expect("commands decode"))
        });
        opened.collect()
    }

    /// How many commands of a kind all work groups' logs hold.
    pub fn logged(&mut self, kind: &str) -> usize {
        (1..=self.setup.work_groups).map(|group| self.log(0, group).iter().filter(|(_, command)| command.kind() == kind).count()).sum()
    }

    /// The ids of all instances of a workflow, by pages.
    #[track_caller]
    pub fn instances_of(&mut self, client: ClientId, workflow: &str) -> Vec<Value> {
        let mut found = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let query = Query { kind: QueryKind::Instances.number(), name: Some(workflow), cursor: cursor.as_deref(), ..Query::default() };
            let reply = self.ask(client, &query).reply();
            found.extend(reply.body["items"].as_array().expect("a list").iter().cloned());
            cursor = reply.next_cursor;
            if cursor.is_none() {
                return found;
            }
        }
    }

    /// How many commands all work groups' logs hold.
    pub fn logged_all(&mut self) -> usize {
        (1..=self.setup.work_groups).map(|group| self.log(0, group).len()).sum()
    }

    /// A machine that has applied a group's durable log.
    pub fn machine(&mut self, node: usize, group: u32) -> Machine {
        let mut machine = match self.nodes[node].states.snapshot(GroupId(group)) {
            Some(_) => match node::restored(&self.nodes[node].states, GroupId(group)) {
                Restored::Work(machine) => *machine,
                Restored::Meta(_) => panic!("of group 0"),
            },
            None => Machine::new(GroupId(group), Settings::default()),
        };
        for (at, command) in self.log(node, group) {
            machine.apply(at, command, &mut Vec::new());
        }
        machine
    }

    /// The sum of one counter over all groups' machines.
    pub fn count(&mut self, read: impl Fn(&distric_exec::Stats) -> u64) -> u64 {
        let stats = self.nodes[0].stats();
        stats.iter().flat_map(|shard| &shard.machines).map(|(_, machine)| read(machine)).sum()
    }
}

pub fn hello() -> Hello<'static> {
    Hello { version_min: 1, version_max: 1, client_name: "test", client_version: "0", api_key: None, features: None }
}

pub fn catalog_body(rules: Option<&str>, workflows: Option<&str>) -> String {
    let part = |name: &str, text: Option<&str>| text.map_or(Value::Null, |text| json!({ "name": name, "text": text }));
    json!({ "rules": part("rules.yaml", rules), "workflows": part("workflows.yaml", workflows) }).to_string()
}

/// A message of a type with a payload.
pub fn message<'a>(event_type: &'a str, payload: &'a str) -> Submit<'a> {
    Submit { event_type: Some(event_type), payload: payload.as_bytes(), ..Submit::default() }
}

/// The same under an idempotency key.
pub fn keyed<'a>(event_type: &'a str, payload: &'a str, key: &'a str) -> Submit<'a> {
    Submit { idempotency_key: Some(key), ..message(event_type, payload) }
}

/// A worker that completes everything after some milliseconds.
pub fn diligent(ms: u64) -> Habit {
    Box::new(move |assigned| Ending::Done(ms, json!({ "did": assigned.task }).to_string()))
}

/// A worker that begins and never ends.
pub fn holding() -> Habit {
    Box::new(|_| Ending::Hold)
}

/// One rule and one workflow of one task: what most tests need.
pub const RULES: &str = "
rules:
  - id: orders
    event_type: order
    actions: [{ workflow: ship }]
";

pub const WORKFLOWS: &str = "
workflow:
  id: ship
  tasks:
    - { id: pack, type: job }
";
