//! A small virtual network: seeded loss, delay, duplication, one-way cuts, pauses, crashes and restarts. Time jumps to the
//! next event. After every event that touches a node the checkers look at it.

#![allow(dead_code, reason = "each test uses its part of the world")]

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use bytes::Bytes;
use distric_gossip::{
    Config, DATAGRAM_BYTES_MAX, Endpoint, Event, Generation, Gossip, Incarnation, Leg, Outputs, Profile, Standing, State,
};
use distric_model::{ClusterId, Instant, NodeId, Slot, Timestamp};

pub mod checkers;
mod looks;
mod random;
pub mod replay;

use checkers::History;
pub use random::Random;

/// Milliseconds in microseconds.
pub const MS: u64 = 1_000;
/// Seconds in microseconds.
pub const S: u64 = 1_000_000;

pub fn node_id(n: usize) -> NodeId {
    NodeId::new(Timestamp::from_us(0), Slot::truncate(0), n as u64 + 1)
}

pub fn cluster_id(n: u64) -> ClusterId {
    ClusterId::new(Timestamp::from_us(0), Slot::truncate(0), n)
}

/// The endpoint of the n-th machine; its number is its port.
pub fn endpoint(n: usize) -> Endpoint {
    Endpoint::v4([10, 0, 0, 1], n as u16)
}

/// What the network does to packets.
#[derive(Clone)]
pub struct Weather {
    /// Lost datagrams, thousandths.
    pub loss_permille: u64,
    /// Shortest and longest way, microseconds.
    pub delay_us: (u64, u64),
    /// Datagrams that come twice, thousandths.
    pub twice_permille: u64,
}

impl Default for Weather {
    fn default() -> Self {
        Self { loss_permille: 0, delay_us: (200, 800), twice_permille: 0 }
    }
}

enum What {
    Packet {
        from: Endpoint,
        bytes: Bytes,
    },
    Stream {
        from: Endpoint,
        bytes: Bytes,
    },
    Wake,
    /// The network of a seat that was held is there again.
    Release,
}

/// Something on its way to a seat. The earliest is the greatest, as the heap wants it.
struct Pending {
    at: u64,
    seq: u64,
    to: usize,
    what: What,
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}

impl Eq for Pending {}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pending {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.seq).cmp(&(self.at, self.seq))
    }
}

/// One machine and what it sees of time.
pub struct Seat {
    pub gossip: Option<Gossip>,
    /// When it wants to be woken, and the earliest wake-up that is on its way.
    wake_at: Option<u64>,
    wake_posted: Option<u64>,
    paused_until: u64,
    /// Its network stands still until then; its clock does not.
    held_until: u64,
    /// What waits for the end of a pause or hold, in the order of its coming.
    held: Vec<Pending>,
    outbox: Outputs,
    /// By how much its clock is behind: what it does not know it slept.
    lag_us: u64,
    pub bytes_sent: u64,
    pub packets_sent: u64,
    pub config: Config,
}

/// A packet that came: when, from whom, and its bytes.
pub type Tapped = (u64, Endpoint, Bytes);

/// All of it.
pub struct World {
    pub now: u64,
    pub random: Random,
    pub weather: Weather,
    pub seats: Vec<Seat>,
    /// Whether a packet from one seat reaches another.
    pub passes: Box<dyn Fn(usize, usize) -> bool>,
    /// Thousandths of the packets from one seat to another that are lost besides.
    pub loses: Box<dyn Fn(usize, usize) -> u64>,
    pub streams_pass: bool,
    queue: BinaryHeap<Pending>,
    seq: u64,
    out: Outputs,
    /// Everything that was said, as far as it is wanted: when, by whom, what.
    pub wants: fn(&Event) -> bool,
    pub events: Vec<(u64, usize, Event)>,
    /// Packets as they come to one seat, when somebody wants to read along.
    pub tap: Option<(usize, Vec<Tapped>)>,
    pub history: History,
    pub checks: bool,
    pub bytes_sent: u64,
    pub packets_sent: u64,
}

impl World {
    pub fn empty(seed: u64) -> Self {
        Self {
            now: S,
            random: Random::new(seed),
            weather: Weather::default(),
            seats: Vec::new(),
            passes: Box::new(|_, _| true),
            loses: Box::new(|_, _| 0),
            streams_pass: true,
            queue: BinaryHeap::new(),
            seq: 0,
            out: Outputs::default(),
            wants: |_| true,
            events: Vec::new(),
            tap: None,
            history: History::default(),
            checks: true,
            bytes_sent: 0,
            packets_sent: 0,
        }
    }

    /// `count` machines; all but the first join by it; run until all see all.
    pub fn formed(seed: u64, count: usize, tune: impl Fn(usize, &mut Config)) -> Self {
        let mut world = Self::empty(seed);
        world.checks = count <= 200;
        for n in 0..count {
            let seeds = if n == 0 { vec![] } else { vec![endpoint(0)] };
            let mut config = Self::config(n, seeds);
            tune(n, &mut config);
            world.add(config);
        }
        let limit = world.now + 120 * S;
        while !world.agrees() {
            assert!(world.now < limit, "seed {seed}: {count} machines do not find together: {:?}", world.counts());
            world.run_for(S);
        }
        world
    }

    /// As [`Self::formed`], without the joining: each takes over the view of the first. For more machines than can join in good time.
    pub fn copied(seed: u64, count: usize, tune: impl Fn(usize, &mut Config)) -> Self {
        let mut world = Self::empty(seed);
        world.checks = false;
        for n in 0..count {
            let mut config = Self::config(n, vec![]);
            tune(n, &mut config);
            world.add(config);
        }
        let now = Instant::from_us(world.now);
        let (first, others) = world.seats.split_at_mut(1);
        let first = first[0].gossip.as_mut().expect("it was added");
        for seat in &*others {
            first.copy_view(now, seat.gossip.as_ref().expect("it was added"));
        }
        for seat in others {
            seat.gossip.as_mut().expect("it was added").copy_view(now, first);
        }
        assert!(world.agrees(), "seed {seed}: copies differ: {:?}", world.counts());
        world
    }

    pub fn config(n: usize, seeds: Vec<Endpoint>) -> Config {
        let mut config = Config::new(cluster_id(1), node_id(n), Generation(1_000_000), Profile::worker(endpoint(n)));
        config.seeds = seeds;
        config
    }

    pub fn add(&mut self, config: Config) -> usize {
        let at = self.seats.len();
        let (now, seed) = (Instant::from_us(self.now), self.random.draw());
        let gossip = Gossip::new(config.clone(), seed, now).expect("a sound configuration");
        self.seats.push(Seat {
            gossip: Some(gossip),
            wake_at: None,
            wake_posted: None,
            paused_until: 0,
            held_until: 0,
            held: Vec::new(),
            outbox: Outputs::default(),
            lag_us: 0,
            bytes_sent: 0,
            packets_sent: 0,
            config,
        });
        let later = self.now + self.random.below(50 * MS);
        self.wake(at, later);
        at
    }

    pub fn crash(&mut self, at: usize) {
        self.seats[at].gossip = None;
        self.seats[at].held.clear();
        self.seats[at].outbox.clear();
    }

    /// A new life on the same data directory.
    pub fn restart(&mut self, at: usize, tune: impl FnOnce(&mut Config)) {
        let seat = &mut self.seats[at];
        seat.config.generation = Generation(seat.config.generation.0 + 1);
        tune(&mut seat.config);
        let (config, seed) = (seat.config.clone(), self.random.draw());
        let seat = &mut self.seats[at];
        let gossip = Gossip::new(config, seed, Instant::from_us(self.now - seat.lag_us)).expect("a sound configuration");
        self.seats[at].gossip = Some(gossip);
        let now = self.now;
        self.wake(at, now);
    }

    /// The machine neither reads nor wakes for so long; what arrives waits for it. Its clock goes on, as under SIGSTOP.
    pub fn pause(&mut self, at: usize, for_us: u64) {
        self.seats[at].paused_until = self.now + for_us;
        let until = self.now + for_us;
        self.wake(at, until);
    }

    /// As [`Self::pause`], but the machine's clock stands still too, as in a virtual machine that is halted.
    pub fn freeze(&mut self, at: usize, for_us: u64) {
        self.pause(at, for_us);
        self.seats[at].lag_us += for_us;
    }

    /// Nothing leaves or reaches the machine for so long, while it runs on; nothing is lost either (Lifeguard, section V-D).
    pub fn hold(&mut self, at: usize, for_us: u64) {
        let until = self.now + for_us;
        self.seats[at].held_until = until;
        self.post(until, at, What::Release);
    }

    pub fn leave(&mut self, at: usize) {
        self.with(at, |gossip, now, out| gossip.leave(now, out));
    }

    /// Calls one machine and takes care of its outputs.
    pub fn with<T>(&mut self, at: usize, call: impl FnOnce(&mut Gossip, Instant, &mut Outputs) -> T) -> Option<T> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let seat = &mut self.seats[at];
        let gossip = seat.gossip.as_mut()?;
        let answer = call(gossip, Instant::from_us(self.now - seat.lag_us), &mut out);
        self.deliver(at, &mut out);
        self.out = out;
        Some(answer)
    }

    pub fn gossip(&self, at: usize) -> &Gossip {
        self.seats[at].gossip.as_ref().expect("it runs")
    }

    fn deliver(&mut self, at: usize, out: &mut Outputs) {
        if self.checks {
            let gossip = self.seats[at].gossip.as_ref().expect("it was called");
            self.history.look(self.now, at, gossip, out);
        }
        if self.now < self.seats[at].held_until {
            self.seats[at].outbox.datagrams.append(&mut out.datagrams);
            self.seats[at].outbox.streams.append(&mut out.streams);
        } else {
            self.carry(at, out);
        }
        for event in out.events.drain(..).filter(self.wants) {
            self.events.push((self.now, at, event));
        }
        if let Some(wake_at) = out.wake_at {
            self.wake(at, wake_at.as_us() + self.seats[at].lag_us);
        }
    }

    /// Puts on the wire what leaves a seat.
    fn carry(&mut self, at: usize, out: &mut Outputs) {
        let from = endpoint(at);
        for datagram in out.datagrams.drain(..) {
            assert!(datagram.bytes.len() <= DATAGRAM_BYTES_MAX);
            self.bytes_sent += datagram.bytes.len() as u64;
            self.packets_sent += 1;
            self.seats[at].bytes_sent += datagram.bytes.len() as u64;
            self.seats[at].packets_sent += 1;
            let to = usize::from(datagram.to.port);
            if to >= self.seats.len() || !(self.passes)(at, to) {
                continue;
            }
            let besides = (self.loses)(at, to);
            if besides > 0 && self.random.below(1_000) < besides {
                continue;
            }
            let copies = 1 + usize::from(self.random.below(1_000) < self.weather.twice_permille);
            for _ in 0..copies {
                if self.random.below(1_000) >= self.weather.loss_permille {
                    let way = self.way();
                    self.post(self.now + way, to, What::Packet { from, bytes: datagram.bytes.clone() });
                }
            }
        }
        for stream in out.streams.drain(..) {
            let to = usize::from(stream.to.port);
            self.bytes_sent += stream.bytes.len() as u64;
            self.seats[at].bytes_sent += stream.bytes.len() as u64;
            // An answer goes back on its connection, which needs both directions as the opening did.
            assert!(matches!(stream.leg, Leg::Open | Leg::Answer));
            if to < self.seats.len() && self.streams_pass && (self.passes)(at, to) && (self.passes)(to, at) {
                let way = self.way() + self.weather.delay_us.1;
                self.post(self.now + way, to, What::Stream { from, bytes: stream.bytes });
            }
        }
    }

    fn way(&mut self) -> u64 {
        let (least, most) = self.weather.delay_us;
        least + self.random.below(most - least + 1)
    }

    fn post(&mut self, at: u64, to: usize, what: What) {
        self.seq += 1;
        self.queue.push(Pending { at, seq: self.seq, to, what });
    }

    /// Wants the seat woken at that time. A wake-up that is on its way and comes earlier finds that out by itself.
    fn wake(&mut self, to: usize, at: u64) {
        let at = at.max(self.seats[to].paused_until).max(self.now);
        let seat = &mut self.seats[to];
        seat.wake_at = Some(at);
        if seat.wake_posted.is_none_or(|posted| at < posted) {
            seat.wake_posted = Some(at);
            self.post(at, to, What::Wake);
        }
    }

    /// Hands a packet to a machine as if it came from `from`.
    pub fn inject(&mut self, to: usize, from: Endpoint, bytes: &[u8]) {
        self.with(to, |gossip, now, out| gossip.handle_packet(now, from, bytes, out));
    }

    /// Posts a packet for later: what was on its way for long.
    pub fn inject_later(&mut self, after_us: u64, to: usize, from: Endpoint, bytes: Bytes) {
        self.post(self.now + after_us, to, What::Packet { from, bytes });
    }

    pub fn run_for(&mut self, us: u64) {
        self.run_until(self.now + us, |_| false);
    }

    /// Runs until `done` or the time; true when done.
    pub fn run_until(&mut self, until: u64, done: impl Fn(&Self) -> bool) -> bool {
        while self.queue.peek().is_some_and(|pending| pending.at <= until) {
            let pending = self.queue.pop().expect("it was peeked at");
            self.now = self.now.max(pending.at);
            self.step(pending);
            if done(self) {
                return true;
            }
        }
        self.now = until;
        done(self)
    }

    fn step(&mut self, pending: Pending) {
        let seat = &mut self.seats[pending.to];
        match pending.what {
            What::Wake => {
                if seat.wake_posted != Some(pending.at) {
                    return;
                }
                seat.wake_posted = None;
                match seat.wake_at {
                    Some(at) if at.max(seat.paused_until) > self.now => return self.wake(pending.to, at),
                    None => return,
                    Some(_) => {}
                }
            }
            What::Release if seat.held_until > self.now => return,
            _ => {}
        }
        if seat.gossip.is_none() {
            return;
        }
        let is_from_outside = matches!(pending.what, What::Packet { .. } | What::Stream { .. });
        if is_from_outside && self.now < seat.paused_until.max(seat.held_until) {
            seat.held.push(pending);
            return;
        }
        // The contract: what has arrived is read before timers fire.
        let to = pending.to;
        if self.now >= seat.held_until {
            for held in std::mem::take(&mut seat.held) {
                self.hand_over(held);
            }
        }
        self.hand_over(pending);
        if self.now >= self.seats[to].held_until && !self.seats[to].outbox.datagrams.is_empty() {
            let mut outbox = std::mem::take(&mut self.seats[to].outbox);
            self.carry(to, &mut outbox);
        }
    }

    fn hand_over(&mut self, pending: Pending) {
        let to = pending.to;
        match pending.what {
            What::Packet { from, bytes } => {
                if let Some((seat, read)) = &mut self.tap
                    && *seat == to
                {
                    read.push((self.now, from, bytes.clone()));
                }
                self.with(to, |gossip, now, out| gossip.handle_packet(now, from, &bytes, out));
            }
            What::Stream { from, bytes } => {
                self.with(to, |gossip, now, out| gossip.handle_stream(now, from, &bytes, out));
            }
            What::Wake => {
                self.seats[to].wake_at = None;
                self.with(to, |gossip, now, out| gossip.handle_timeout(now, out));
            }
            What::Release => {}
        }
    }
}

pub fn standing(generation: u64, incarnation: u32, state: State) -> Standing {
    Standing::new(Generation(generation), Incarnation(incarnation), state)
}
