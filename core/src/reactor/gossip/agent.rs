//! An agent: one gossip machine, its UDP socket and TCP listener, and its clock.
//!
//! Lives on: one thread; the `RefCell`s are never borrowed across an await.
//! The machine's contract is kept here: before any timer fires, everything that has arrived is handed over.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket as StdSocket};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use distric_gossip::{Config, ConfigError, Endpoint, Event, Gossip, Leg, Outputs};
use distric_model::Instant;
use monoio::net::TcpListener;
use monoio::net::udp::UdpSocket;

use super::datagrams::{self, RECEIVE_BYTES};
use super::streams;
use super::thread::AgentCommand;
use crate::reactor::clock;
use crate::reactor::connection::Signal;
use crate::reactor::shard_thread::yield_now;

/// How long an agent sleeps that has nothing to do, milliseconds: it has left.
const IDLE_MS: u64 = 500;
/// How often a listener hears from a machine in which nothing happened, milliseconds: loads and counters move without events.
const REPORT_MS: u64 = 1_000;
/// Pause after a socket error, milliseconds.
const ERROR_PAUSE_MS: u64 = 10;
/// Tries to find a port that is free for UDP and TCP alike.
const PORT_TRIES_MAX: usize = 32;

/// Hears what a machine says: the machine, what has become true, and what it answers commands with. Runs on the agents' thread, so it
/// hands over and never waits; whoever may be slow gets the newest view and not all of them.
pub type Listen = Box<dyn FnMut(Instant, &Gossip, &[Event]) + Send>;

/// A UDP socket and a TCP listener on one port.
pub struct Sockets {
    udp: StdSocket,
    tcp: StdListener,
}

impl Sockets {
    /// Binds both; port 0 takes one that is free for both. Errors: from the system; that of TCP when UDP had a port.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let mut tries = 0;
        loop {
            let udp = StdSocket::bind(address)?;
            tries += 1;
            match StdListener::bind(udp.local_addr()?) {
                Ok(tcp) => return Ok(Self { udp, tcp }),
                Err(error) if address.port() != 0 || tries == PORT_TRIES_MAX => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Where both listen.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}

/// What an agent is started with.
pub struct AgentStart {
    /// The machine's settings; its profile names the endpoint that others reach.
    pub config: Config,
    /// Of the machine's draws.
    pub seed: u64,
    /// Its sockets.
    pub sockets: Sockets,
    /// Who hears of it.
    pub listen: Listen,
}

/// A running agent.
pub(super) struct Agent {
    gossip: RefCell<Gossip>,
    out: RefCell<Outputs>,
    listen: RefCell<Listen>,
    buffer: RefCell<Vec<u8>>,
    socket: StdSocket,
    on_v6: bool,
    use_uring: bool,
    wake_at: Cell<Option<Instant>>,
    report_at: Cell<Instant>,
    rearm: Signal,
    gone: Cell<bool>,
    pub(super) streams_open: Cell<usize>,
    pub(super) streams_taken: Cell<usize>,
}

/// Why an agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A setting that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A socket that cannot be used.
    #[error("the gossip socket cannot be used: {0}")]
    Socket(#[from] io::Error),
}

impl Agent {
    /// Starts the agent's tasks on the runtime of this thread. `use_uring`: sockets are left blocking, as io_uring wants them.
    pub fn start(start: AgentStart, use_uring: bool) -> Result<Rc<Self>, AgentError> {
        let AgentStart { config, seed, sockets, listen } = start;
        let now = clock::now().mono;
        let gossip = Gossip::new(config, seed, now)?;
        sockets.udp.set_nonblocking(!use_uring)?;
        sockets.tcp.set_nonblocking(!use_uring)?;
        let socket = sockets.udp.try_clone()?;
        let on_v6 = socket.local_addr()?.is_ipv6();
        let udp = UdpSocket::from_std(sockets.udp)?;
        let tcp = TcpListener::from_std(sockets.tcp)?;
        let agent = Rc::new(Self {
            gossip: RefCell::new(gossip),
            out: RefCell::new(Outputs::default()),
            listen: RefCell::new(listen),
            buffer: RefCell::new(vec![0; RECEIVE_BYTES]),
            socket,
            on_v6,
            use_uring,
            wake_at: Cell::new(Some(now)),
            report_at: Cell::new(now),
            rearm: Signal::default(),
            gone: Cell::new(false),
            streams_open: Cell::new(0),
            streams_taken: Cell::new(0),
        });
        monoio::spawn(receive(agent.clone(), udp));
        monoio::spawn(streams::accept(agent.clone(), tcp));
        monoio::spawn(keep_time(agent.clone()));
        Ok(agent)
    }

    /// Does what the control asks.
    pub fn command(self: &Rc<Self>, command: AgentCommand) {
        let now = clock::now().mono;
        self.drain();
        {
            let (mut gossip, mut out) = (self.gossip.borrow_mut(), self.out.borrow_mut());
            match command {
                AgentCommand::Seeds(seeds) => gossip.set_seeds(now, seeds, &mut out),
                AgentCommand::Load(load) => gossip.set_load(now, load),
                AgentCommand::Profile(profile) => {
                    if let Err(error) = gossip.set_profile(now, *profile, &mut out) {
                        tracing::warn!(target: "distric_core::gossip", error = %error, "the node's own profile cannot be told");
                    }
                }
                AgentCommand::Keys(ring) => {
                    if !gossip.set_keys(now, *ring, &mut out) {
                        tracing::warn!(target: "distric_core::gossip", "keys were added to a process that was started without; start it again");
                    }
                }
                AgentCommand::Choose(choice) => gossip.choose_key(now, choice, &mut out),
                AgentCommand::Leave => gossip.leave(now, &mut out),
            }
        }
        self.flush(now);
    }

    /// Whether anyone else is there to hear a good-bye.
    pub fn has_company(&self) -> bool {
        self.gossip.borrow().live_count() > 1
    }

    /// Ends the agent's tasks when they next wake; nothing more is sent.
    pub fn end(&self) {
        self.gone.set(true);
        self.rearm.set();
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    pub(super) fn use_uring(&self) -> bool {
        self.use_uring
    }

    pub(super) fn on_v6(&self) -> bool {
        self.on_v6
    }

    /// Hands a stream message over. Returns what is to be answered on its connection.
    pub(super) fn take_stream(self: &Rc<Self>, from: Endpoint, bytes: &[u8]) -> Vec<Bytes> {
        let now = clock::now().mono;
        self.drain();
        let mut answers = Vec::new();
        {
            let (mut gossip, mut out) = (self.gossip.borrow_mut(), self.out.borrow_mut());
            // What the datagrams before asked to be opened is not an answer to this message.
            let before = out.streams.len();
            gossip.handle_stream(now, from, bytes, &mut out);
            let mut at = before;
            while at < out.streams.len() {
                if out.streams[at].leg == Leg::Answer { answers.push(out.streams.remove(at).bytes) } else { at += 1 }
            }
        }
        self.flush(now);
        answers
    }

    /// Hands over what waits in the socket.
    fn drain(&self) -> usize {
        let now = clock::now().mono;
        let (mut gossip, mut out, mut buffer) = (self.gossip.borrow_mut(), self.out.borrow_mut(), self.buffer.borrow_mut());
        datagrams::drain(&self.socket, &mut buffer, |from, bytes| gossip.handle_packet(now, from, bytes, &mut out))
    }

    /// The end of a turn: sends, tells, and sets the clock.
    fn flush(self: &Rc<Self>, now: Instant) {
        let mut out = self.out.borrow_mut();
        if !self.gone.get() {
            datagrams::send(&self.socket, self.on_v6, &out.datagrams);
        }
        for stream in out.streams.drain(..) {
            streams::open(self, stream.to, stream.bytes);
        }
        let is_due = self.report_at.get() <= now;
        if is_due || !out.events.is_empty() {
            self.report_at.set(now.plus_ms(REPORT_MS));
            (self.listen.borrow_mut())(now, &self.gossip.borrow(), &out.events);
        }
        let wake_at = out.wake_at;
        out.clear();
        let is_earlier = match (wake_at, self.wake_at.get()) {
            (Some(new), Some(old)) => new < old,
            (Some(_), None) => true,
            (None, _) => false,
        };
        self.wake_at.set(wake_at);
        if is_earlier {
            self.rearm.set();
        }
    }
}

async fn receive(agent: Rc<Agent>, udp: UdpSocket) {
    let mut buffer: Vec<u8> = Vec::with_capacity(RECEIVE_BYTES);
    while !agent.is_gone() {
        let (result, filled) = udp.recv_from(buffer).await;
        buffer = filled;
        let now = clock::now().mono;
        match result {
            Ok((count, from)) => {
                let from = super::endpoint_of(from);
                agent.gossip.borrow_mut().handle_packet(now, from, &buffer[..count], &mut agent.out.borrow_mut());
                let is_full = agent.drain() == datagrams::DRAIN_MAX;
                agent.flush(now);
                if is_full {
                    yield_now().await;
                }
            }
            Err(error) => {
                tracing::debug!(target: "distric_core::gossip", error = %error, "a datagram cannot be received");
                monoio::time::sleep(Duration::from_millis(ERROR_PAUSE_MS)).await;
            }
        }
    }
}

async fn keep_time(agent: Rc<Agent>) {
    while !agent.is_gone() {
        let now = clock::now().mono;
        let wait_us = agent.wake_at.get().map_or(IDLE_MS * 1_000, |at| at.since_us(now));
        if wait_us > 0 {
            monoio::select! {
                () = monoio::time::sleep(Duration::from_micros(wait_us)) => {}
                () = agent.rearm.wait() => continue,
            }
        }
        while agent.drain() == datagrams::DRAIN_MAX {
            agent.flush(clock::now().mono);
            yield_now().await;
        }
        let now = clock::now().mono;
        agent.gossip.borrow_mut().handle_timeout(now, &mut agent.out.borrow_mut());
        agent.flush(now);
        if agent.wake_at.get().is_some_and(|at| at <= now) {
            // What is due again at once waits for the timer's next tick, so that nothing can spin here.
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
