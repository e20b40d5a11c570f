//! The raft core: the thread of all Raft groups of this node, and of the connections to the other coordinators.
//!
//! Lives on: one thread with a runtime of its own. Everything in [`CoreRim`] is single-threaded; the `RefCell`s are never borrowed
//! across an await.

mod bulk;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use distric_lane::{Bell, Sender, Sleeper};
use distric_model::limits::FRAME_BYTES_HARD_CAP;
use distric_model::{Instant, NodeId};
use distric_wire::{Frame, FrameError, FrameLimits};
use monoio::io::AsyncReadRent;
use monoio::net::{TcpListener, TcpStream, UnixStream};

use super::clock;
use super::connection::{self, Conn, Rim, Signal};
use super::control::Control;
use super::gossip::{AgentCommand, AgentControl};
use super::gossip_core;
use super::mesh::{Inbox, LogLetter, LogReply, Post, RaftCoreEnds, StateLetter, StateReply};
use super::peers::book::Book;
use super::peers::bulk::Fetch;
use super::peers::hello::{self, Me};
use super::peers::links::Links;
use super::raft_stats::{RaftStats, Refused, RimStats};
use super::shard_thread::yield_now;
use crate::node::consensus::{Consensus, ConsensusOutputs, PROPOSALS_PER_TURN_MAX};
use crate::node::letters::{ConnId, ConsensusLetter};
use crate::node::peer::Member;
use crate::node::peer_wire;

/// How long the core sleeps at most, microseconds: a stop is noticed then, should its bell be lost.
const SLEEP_US_MAX: u64 = 500_000;
/// Between two tries to hand over what a full lane did not take, microseconds.
const OVERFLOW_RETRY_US: u64 = 200;
/// Most connections that other nodes have to this one, those included that have not introduced themselves.
const CALLERS_MAX: usize = 64;
/// Between two looks at a listener that failed, milliseconds.
const ACCEPT_RETRY_MS: u64 = 100;
/// A caller that has not introduced itself after this long is shown out, milliseconds.
const HELLO_MS_MAX: u64 = 2_000;

/// What the thread is started with.
pub struct RaftCoreStart {
    /// The node half, its groups open.
    pub consensus: Consensus,
    /// What opening them asked for.
    pub out: ConsensusOutputs,
    /// Lanes, and a bell of its own for the threads that connect and fetch.
    pub ends: RaftCoreEnds,
    /// Stop.
    pub control: Control,
    /// Where other coordinators call.
    pub listener: StdListener,
    /// How this node introduces itself.
    pub me: Me,
    /// The members as far as known.
    pub members: Vec<Member>,
    /// Where they are remembered.
    pub book: Book,
    /// Where fetched snapshots are put.
    pub transfer_dir: PathBuf,
    /// Who is to hear where the members gossip.
    pub gossip: Option<AgentControl>,
    /// More places where they may be found.
    pub gossip_seeds: Vec<String>,
    /// Whether sockets are to be left blocking, as io_uring wants them.
    pub use_uring: bool,
    /// Set by whoever wants the counters.
    pub stats_wanted: Arc<AtomicBool>,
    /// Where they go then.
    pub stats: Sender<Box<RaftStats>>,
}

/// A connection of the other side, or one of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Party {
    /// Someone called and has not said who it is.
    Stranger(Instant),
    /// A coordinator that called.
    Caller { node: NodeId, boot: u64 },
    /// A coordinator that was called.
    Called(NodeId),
    /// A coordinator that fetches snapshots.
    Bulk,
}

struct CoreRim {
    consensus: RefCell<Consensus>,
    out: RefCell<ConsensusOutputs>,
    post: RefCell<Post>,
    letters: RefCell<Inbox<ConsensusLetter>>,
    reports: RefCell<Inbox<LogReply>>,
    states: RefCell<Inbox<StateReply>>,
    links: RefCell<Links>,
    members: RefCell<Vec<Member>>,
    conns: RefCell<BTreeMap<ConnId, (Rc<Conn>, Party)>>,
    dials: mpsc::Sender<(NodeId, std::io::Result<StdStream>)>,
    dialled: mpsc::Receiver<(NodeId, std::io::Result<StdStream>)>,
    fetches: mpsc::Sender<(Fetch, Result<(), String>)>,
    fetched: mpsc::Receiver<(Fetch, Result<(), String>)>,
    transfer_dir: PathBuf,
    /// What the next connection that is started is to be.
    opening: Cell<Party>,
    next_conn: Cell<u64>,
    wake_at: Cell<Option<Instant>>,
    rearm: Signal,
    overflowing: Cell<bool>,
    bell: Bell,
    control: Control,
    me: Me,
    book: Book,
    gossip: Option<AgentControl>,
    gossip_seeds: Vec<String>,
    use_uring: bool,
    stats: RefCell<RimStats>,
    stats_wanted: Arc<AtomicBool>,
    stats_out: RefCell<Sender<Box<RaftStats>>>,
}

/// Runs until all shards are done.
pub async fn run(start: RaftCoreStart) {
    let RaftCoreStart {
        consensus,
        out,
        ends,
        control,
        listener,
        me,
        members,
        book,
        transfer_dir,
        gossip,
        gossip_seeds,
        use_uring,
        stats_wanted,
        stats,
    } = start;
    let RaftCoreEnds { post, letters, reports, states, sleeper, bell } = ends;
    let (dials, dialled) = mpsc::channel();
    let (fetches, fetched) = mpsc::channel();
    let mut links = Links::default();
    links.update(me.node, &members, clock::now().mono);
    let rim = Rc::new(CoreRim {
        consensus: RefCell::new(consensus),
        out: RefCell::new(out),
        post: RefCell::new(post),
        letters: RefCell::new(letters),
        reports: RefCell::new(reports),
        states: RefCell::new(states),
        links: RefCell::new(links),
        members: RefCell::new(members),
        conns: RefCell::new(BTreeMap::new()),
        dials,
        dialled,
        fetches,
        fetched,
        transfer_dir,
        opening: Cell::new(Party::Stranger(Instant::default())),
        next_conn: Cell::new(0),
        wake_at: Cell::new(None),
        rearm: Signal::default(),
        overflowing: Cell::new(false),
        bell,
        control: control.clone(),
        me,
        book,
        gossip,
        gossip_seeds,
        use_uring,
        stats: RefCell::default(),
        stats_wanted,
        stats_out: RefCell::new(stats),
    });
    match TcpListener::from_std(listener) {
        Ok(listener) => {
            monoio::spawn(accept(rim.clone(), listener));
        }
        Err(error) => control.fail("raft core", format!("the listener cannot be used: {error}")),
    }
    monoio::spawn(keep_time(rim.clone()));
    if let Err(error) = pump(&rim, &sleeper).await {
        control.fail("raft core", format!("the doorbell cannot be used: {error}"));
    }
    control.raft_core_is_done();
}

/// Drains the lanes, then sleeps on the doorbell. Returns when nobody proposes any more.
async fn pump(rim: &Rc<CoreRim>, sleeper: &Sleeper) -> std::io::Result<()> {
    let mut bell = UnixStream::from_std(sleeper.try_clone_socket()?)?;
    let mut bytes: Vec<u8> = Vec::with_capacity(64);
    loop {
        let busy = rim.drain();
        rim.turn();
        if busy {
            // Sockets and timers get their turn before more letters.
            yield_now().await;
        } else if rim.control.shards_are_done() {
            return Ok(());
        } else if sleeper.prepare(|| rim.lanes_are_empty()) {
            bytes.clear();
            let (result, buffer) = bell.read(bytes).await;
            bytes = buffer;
            sleeper.woken();
            result?;
        }
    }
}

async fn accept(rim: Rc<CoreRim>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if rim.conns.borrow().len() < CALLERS_MAX => {
                rim.start(stream, Party::Stranger(clock::now().mono.plus_ms(HELLO_MS_MAX)));
            }
            Ok((stream, peer)) => {
                rim.stats.borrow_mut().refuse(Refused::TooManyCallers);
                tracing::warn!(target: "distric_core::peers", event = "peer_refused", peer = %peer, callers_max = CALLERS_MAX, "a caller is refused: too many are connected");
                drop(stream);
            }
            Err(error) => {
                tracing::warn!(target: "distric_core::peers", error = %error, "accept failed");
                monoio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
            }
        }
    }
}

/// Steps the groups whose time has come, dials, and hands over what full lanes did not take.
async fn keep_time(rim: Rc<CoreRim>) {
    loop {
        let now = clock::now();
        let until_due_us = rim.wake_at.get().map_or(SLEEP_US_MAX, |at| at.since_us(now.mono)).min(SLEEP_US_MAX);
        let wait_us = if rim.overflowing.get() { until_due_us.min(OVERFLOW_RETRY_US) } else { until_due_us };
        if wait_us > 0 {
            monoio::select! {
                () = monoio::time::sleep(Duration::from_micros(wait_us)) => {}
                () = rim.rearm.wait() => continue,
            }
        }
        let now = clock::now();
        rim.consensus.borrow_mut().on_time(now, &mut rim.out.borrow_mut());
        rim.dial_due(now.mono);
        rim.show_strangers_out(now.mono);
        rim.turn();
        if rim.wake_at.get().is_some_and(|at| at <= now.mono) {
            // What is due again at once waits for the timer's next tick, so that nothing can spin here.
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
        if rim.control.shards_are_done() {
            rim.bell.ring();
        }
    }
}

impl CoreRim {
    fn start(self: &Rc<Self>, stream: TcpStream, party: Party) {
        let id = ConnId(self.next_conn.get());
        self.next_conn.set(id.0 + 1);
        self.opening.set(party);
        connection::start(self, id, stream);
    }

    fn lanes_are_empty(&self) -> bool {
        self.letters.borrow_mut().is_empty() && self.reports.borrow_mut().is_empty() && self.states.borrow_mut().is_empty()
    }

    /// Takes what waits in the lanes. Returns whether anything did.
    fn drain(self: &Rc<Self>) -> bool {
        let now = clock::now();
        let mut busy = self.drain_states();
        {
            let (mut consensus, mut out) = (self.consensus.borrow_mut(), self.out.borrow_mut());
            let mut reports = self.reports.borrow_mut();
            while let Some(reply) = reports.pop() {
                busy = true;
                match reply {
                    LogReply::Report(group, report) => consensus.on_report(now, group, report, &mut out),
                    LogReply::Loaded(group, entries) => consensus.on_loaded(now, group, entries, &mut out),
                    LogReply::Flushed { took_us, entries } => self.count_flush(took_us, entries),
                }
            }
            let mut letters = self.letters.borrow_mut();
            for _ in 0..PROPOSALS_PER_TURN_MAX {
                let Some(letter) = letters.pop() else { break };
                busy = true;
                consensus.on_letter(now, letter, &mut out);
            }
        }
        while let Ok((node, result)) = self.dialled.try_recv() {
            busy = true;
            self.on_dialled(now.mono, node, result);
        }
        busy
    }

    /// Connecting blocks, so each try has a thread of its own for as long as it takes; one per link at a time.
    fn dial_due(&self, now: Instant) {
        for (node, address) in self.links.borrow_mut().due(now) {
            let (dials, bell) = (self.dials.clone(), self.bell.try_clone());
            let dial = move || {
                let _ = dials.send((node, super::peers::connect(&address)));
                if let Ok(bell) = bell {
                    bell.ring();
                }
            };
            if std::thread::Builder::new().name("dial".to_owned()).spawn(dial).is_err() {
                let _ = self.dials.send((node, Err(std::io::Error::other("no thread"))));
            }
        }
    }

    fn on_dialled(self: &Rc<Self>, now: Instant, node: NodeId, result: std::io::Result<StdStream>) {
        let stream = result.and_then(|stream| {
            stream.set_nonblocking(!self.use_uring)?;
            TcpStream::from_std(stream)
        });
        match stream {
            Ok(stream) => self.start(stream, Party::Called(node)),
            Err(error) => {
                let pause_ms = self.links.borrow_mut().down(node, now);
                tracing::debug!(target: "distric_core::peers", peer = %node, error = %error, pause_ms, "a coordinator cannot be reached");
                self.rearm.set();
            }
        }
    }

    fn show_strangers_out(&self, now: Instant) {
        for (conn, party) in self.conns.borrow().values() {
            if matches!(party, Party::Stranger(until) if *until <= now) && !conn.is_dead() {
                self.stats.borrow_mut().refuse(Refused::Silent);
                tracing::warn!(target: "distric_core::peers", event = "peer_refused", reason = Refused::Silent.name(), "a caller has not introduced itself in time");
                conn.kill();
            }
        }
    }

    /// The first frame of a caller.
    fn on_hello(&self, id: ConnId, frame: &Frame<'_>) {
        let now = clock::now();
        let mut answer = Vec::new();
        let caller = match hello::receive(&self.me, frame) {
            Ok(caller) => caller,
            Err(unwelcome) => {
                self.stats.borrow_mut().refuse(unwelcome.refused());
                tracing::warn!(target: "distric_core::peers", event = "peer_refused", kind = unwelcome.refused().name(), reason = %unwelcome, "a caller is refused");
                unwelcome.frame(now.wall.as_us(), &mut answer);
                return self.last_words(id, &answer);
            }
        };
        hello::welcome(&self.me, &self.members.borrow(), now.wall.as_us(), &mut answer);
        if caller.asks_only {
            return self.last_words(id, &answer);
        }
        if caller.bulk {
            if let Some((conn, party)) = self.conns.borrow_mut().get_mut(&id) {
                *party = Party::Bulk;
                conn.append(&answer);
            }
            return;
        }
        let mut conns = self.conns.borrow_mut();
        // What an earlier connection of this node still holds is from before; it must not come after what is said now.
        for (earlier, party) in conns.values() {
            if matches!(party, Party::Caller { node, .. } if *node == caller.node) {
                earlier.kill();
            }
        }
        if let Some((conn, party)) = conns.get_mut(&id) {
            *party = Party::Caller { node: caller.node, boot: caller.boot };
            conn.append(&answer);
        }
        drop(conns);
        self.links.borrow_mut().found_at(caller.node, &caller.member.peer_address, now.mono);
        self.rearm.set();
        self.consensus.borrow_mut().on_announced(caller.member, &mut self.out.borrow_mut());
    }

    fn last_words(&self, id: ConnId, answer: &[u8]) {
        if let Some((conn, _)) = self.conns.borrow().get(&id) {
            conn.append(answer);
            conn.close();
        }
    }

    /// The answer of a node that was called.
    fn on_welcome(&self, id: ConnId, node: NodeId, frame: &Frame<'_>) {
        let host = hello::answered(frame).and_then(|host| {
            if host.node != node {
                Err(format!("node {} answers there", host.node))
            } else if host.cluster != self.me.cluster {
                Err(format!("it belongs to cluster {}", host.cluster))
            } else {
                Ok(host)
            }
        });
        match host {
            Ok(_) => {
                self.links.borrow_mut().up(node);
                self.stats.borrow_mut().links_up_count += 1;
                tracing::info!(target: "distric_core::peers", event = "peer_linked", peer = %node, "linked to a coordinator");
                self.consensus.borrow_mut().on_link(clock::now(), node, true);
            }
            Err(reason) => {
                tracing::warn!(target: "distric_core::peers", event = "peer_unwelcome", peer = %node, reason, "a coordinator does not take this node's call");
                if let Some((conn, _)) = self.conns.borrow().get(&id) {
                    conn.kill();
                }
            }
        }
    }

    fn count_flush(&self, took_us: u64, entries: u64) {
        let mut stats = self.stats.borrow_mut();
        stats.flush.observe_us(took_us);
        stats.entries_flushed_count += entries;
    }

    /// Hands over the counters when they are wanted.
    fn tell_stats(&self) {
        if self.stats_wanted.load(Ordering::Acquire) && self.stats_wanted.swap(false, Ordering::AcqRel) {
            let (consensus, groups) = self.consensus.borrow().stats();
            let stats = RaftStats { consensus, rim: self.stats.borrow().clone(), groups };
            // A full lane holds an earlier answer that nobody took.
            let _ = self.stats_out.borrow_mut().push(Box::new(stats));
        }
    }

    fn take_book(&self, now: Instant) {
        let Some(members) = self.out.borrow_mut().book.take() else { return };
        let gone = self.links.borrow_mut().update(self.me.node, &members, now);
        for (node, conn) in gone {
            self.consensus.borrow_mut().on_link(clock::now(), node, false);
            conn.kill();
        }
        if *self.members.borrow() != members
            && let Err(error) = self.book.write(&members)
        {
            tracing::warn!(target: "distric_core::peers", error = %error, "the address book cannot be written");
        }
        if let Some(gossip) = &self.gossip {
            gossip.seeds(0, gossip_core::seeds(self.me.node, &members, &self.gossip_seeds));
        }
        *self.members.borrow_mut() = members;
    }

    /// What gossip found, and what it is to know.
    fn take_hints(&self, now: Instant) {
        let found = std::mem::take(&mut self.out.borrow_mut().found);
        for (node, address) in found {
            tracing::info!(target: "distric_core::peers", event = "peer_found", peer = %node, address = %address, "gossip found a coordinator at another address");
            self.links.borrow_mut().found_at(node, &address, now);
        }
        if let (Some(choice), Some(gossip)) = (self.out.borrow_mut().gossip_keys.take(), &self.gossip) {
            gossip.tell(0, AgentCommand::Choose(choice));
        }
    }
}

impl Rim for CoreRim {
    fn open(&self, conn: Rc<Conn>) {
        let party = self.opening.get();
        if let Party::Called(node) = party {
            let mut bytes = Vec::new();
            hello::hello(&self.me, Some(node), false, clock::now().wall.as_us(), &mut bytes);
            conn.append(&bytes);
            if !self.links.borrow_mut().greet(node, conn.clone()) {
                conn.kill();
            }
        }
        self.conns.borrow_mut().insert(conn.id, (conn, party));
    }

    fn closed(&self, id: ConnId) {
        let Some((_, party)) = self.conns.borrow_mut().remove(&id) else { return };
        if let Party::Called(node) = party
            && self.links.borrow().is_of(node, id)
        {
            let now = clock::now();
            tracing::info!(target: "distric_core::peers", event = "peer_lost", peer = %node, "the link to a coordinator is gone");
            self.links.borrow_mut().down(node, now.mono);
            self.stats.borrow_mut().links_lost_count += 1;
            self.consensus.borrow_mut().on_link(now, node, false);
        }
        self.turn();
    }

    fn frame_limits(&self, id: ConnId) -> FrameLimits {
        match self.conns.borrow().get(&id) {
            // A single entry may be as large as a message and its envelope.
            Some((_, Party::Caller { .. })) => FrameLimits { frame_bytes_max: FRAME_BYTES_HARD_CAP },
            _ => FrameLimits::UNAUTHENTICATED,
        }
    }

    fn on_frame(&self, id: ConnId, frame: &Frame<'_>) {
        let Some((conn, party)) = self.conns.borrow().get(&id).cloned() else { return };
        match party {
            Party::Stranger(_) => self.on_hello(id, frame),
            Party::Called(node) => self.on_welcome(id, node, frame),
            Party::Caller { node, boot } if !conn.is_dead() => {
                let now = clock::now();
                let (mut consensus, mut out) = (self.consensus.borrow_mut(), self.out.borrow_mut());
                let result = peer_wire::unpack(frame.header.message_type, frame.payload, boot, |letter| {
                    consensus.on_peer(now, node, letter, &mut out);
                });
                if let Err(error) = result {
                    self.stats.borrow_mut().refuse(Refused::BadLetter);
                    tracing::warn!(target: "distric_core::peers", event = "peer_bad_frame", reason = Refused::BadLetter.name(), peer = %node, error = %error, "a coordinator sent something that is no letter");
                    conn.kill();
                }
            }
            Party::Bulk => self.on_bulk(id, frame),
            Party::Caller { .. } => {}
        }
    }

    fn on_frame_error(&self, id: ConnId, error: &FrameError) {
        self.stats.borrow_mut().refuse(Refused::BadFrame);
        tracing::warn!(target: "distric_core::peers", event = "peer_bad_frame", reason = Refused::BadFrame.name(), error = %error, "bytes between coordinators that are no frame");
        if let Some((conn, _)) = self.conns.borrow().get(&id) {
            conn.kill();
        }
    }

    fn has_room(&self) -> bool {
        true
    }

    /// The end of a turn: proposes what has gathered, hands over what consensus asked for, and rings the bells once.
    fn turn(&self) {
        let now = clock::now();
        self.consensus.borrow_mut().flush(now, &mut self.out.borrow_mut());
        self.take_book(now.mono);
        self.take_hints(now.mono);
        self.start_fetches();
        let mut out = self.out.borrow_mut();
        let mut post = self.post.borrow_mut();
        let mut links = self.links.borrow_mut();
        for write in out.writes.drain(..) {
            post.log(LogLetter::Write(write));
        }
        for (group, load) in out.loads.drain(..) {
            post.log(LogLetter::Load(group, load));
        }
        for (group, upto) in out.purges.drain(..) {
            post.log(LogLetter::Purge(group, upto));
        }
        for export in out.exports.drain(..) {
            post.state(StateLetter::Export(export));
        }
        for (shard, class, letter) in out.letters.drain(..) {
            post.shard(shard, class, letter);
        }
        let at_us = now.wall.as_us();
        let mut consensus = self.consensus.borrow_mut();
        for (node, letter) in out.sends.drain(..) {
            links.pack(node, &letter, at_us);
            consensus.give_back(letter);
        }
        drop(consensus);
        links.send(at_us);
        self.overflowing.set(!post.ring());
        self.tell_stats();
        let wake_at = self.consensus.borrow().next_wake().into_iter().chain(links.next_wake()).min();
        let is_earlier = match (wake_at, self.wake_at.get()) {
            (Some(new), Some(old)) => new < old,
            (Some(_), None) => true,
            (None, _) => false,
        };
        self.wake_at.set(wake_at);
        if is_earlier || self.overflowing.get() {
            self.rearm.set();
        }
    }
}
