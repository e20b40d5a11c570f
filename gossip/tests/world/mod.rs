//! A small virtual network: seeded loss, delay, duplication, one-way cuts, pauses, crashes and restarts. Time jumps to the
//! next event. After every event that touches a node the checkers look at it.

#![allow(dead_code, reason = "each test uses its part of the world")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::Bytes;
use distric_gossip::{
    Config, DATAGRAM_BYTES_MAX, Endpoint, Event, Generation, Gossip, Incarnation, Leg, Outputs, Profile, Standing, State,
};
use distric_model::{ClusterId, Instant, NodeId, Slot, Timestamp};

pub mod checkers;

use checkers::History;

/// Milliseconds in microseconds.
pub const MS: u64 = 1_000;
/// Seconds in microseconds.
pub const S: u64 = 1_000_000;

/// SplitMix64, as everywhere.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(1))
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, upto: u64) -> u64 {
        self.draw() % upto
    }

    /// `count` different numbers of `from..upto`.
    pub fn choose(&mut self, count: usize, from: usize, upto: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (from..upto).collect();
        for at in 0..count {
            let other = at + self.below((all.len() - at) as u64) as usize;
            all.swap(at, other);
        }
        all.truncate(count);
        all
    }
}

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
    Packet { from: Endpoint, bytes: Bytes },
    Stream { from: Endpoint, bytes: Bytes },
    Wake { version: u64 },
}

struct Pending {
    to: usize,
    what: What,
}

/// One machine and what it sees of time.
pub struct Seat {
    pub gossip: Option<Gossip>,
    wake_version: u64,
    wake_at: Option<u64>,
    paused_until: u64,
    held: Vec<Pending>,
    pub config: Config,
}

/// All of it.
pub struct World {
    pub now: u64,
    pub random: Random,
    pub weather: Weather,
    pub seats: Vec<Seat>,
    /// Whether a packet from one seat reaches another.
    pub passes: Box<dyn Fn(usize, usize) -> bool>,
    pub streams_pass: bool,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    pending: BTreeMap<usize, Pending>,
    seq: u64,
    next_key: usize,
    out: Outputs,
    /// Everything that was said: when, by whom, what.
    pub events: Vec<(u64, usize, Event)>,
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
            streams_pass: true,
            queue: BinaryHeap::new(),
            pending: BTreeMap::new(),
            seq: 0,
            next_key: 0,
            out: Outputs::default(),
            events: Vec::new(),
            history: History::default(),
            checks: true,
            bytes_sent: 0,
            packets_sent: 0,
        }
    }

    /// `count` machines; all but the first join by it; run until all see all.
    pub fn formed(seed: u64, count: usize, tune: impl Fn(usize, &mut Config)) -> Self {
        let mut world = Self::empty(seed);
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

    pub fn config(n: usize, seeds: Vec<Endpoint>) -> Config {
        let mut config = Config::new(cluster_id(1), node_id(n), Generation(1_000_000), Profile::worker(endpoint(n)));
        config.seeds = seeds;
        config
    }

    pub fn add(&mut self, config: Config) -> usize {
        let at = self.seats.len();
        let (now, seed) = (Instant::from_us(self.now), self.random.draw());
        let gossip = Gossip::new(config.clone(), seed, now).expect("a sound configuration");
        self.seats.push(Seat { gossip: Some(gossip), wake_version: 0, wake_at: None, paused_until: 0, held: Vec::new(), config });
        let later = self.now + self.random.below(50 * MS);
        self.wake(at, later);
        at
    }

    pub fn crash(&mut self, at: usize) {
        self.seats[at].gossip = None;
        self.seats[at].held.clear();
    }

    /// A new life on the same data directory.
    pub fn restart(&mut self, at: usize, tune: impl FnOnce(&mut Config)) {
        let seat = &mut self.seats[at];
        seat.config.generation = Generation(seat.config.generation.0 + 1);
        tune(&mut seat.config);
        let (config, seed) = (seat.config.clone(), self.random.draw());
        let gossip = Gossip::new(config, seed, Instant::from_us(self.now)).expect("a sound configuration");
        self.seats[at].gossip = Some(gossip);
        let now = self.now;
        self.wake(at, now);
    }

    /// The machine neither reads nor wakes for so long; what arrives waits for it.
    pub fn pause(&mut self, at: usize, for_us: u64) {
        self.seats[at].paused_until = self.now + for_us;
        let until = self.now + for_us;
        self.wake(at, until);
    }

    pub fn leave(&mut self, at: usize) {
        self.with(at, |gossip, now, out| gossip.leave(now, out));
    }

    /// Calls one machine and takes care of its outputs.
    pub fn with<T>(&mut self, at: usize, call: impl FnOnce(&mut Gossip, Instant, &mut Outputs) -> T) -> Option<T> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let gossip = self.seats[at].gossip.as_mut()?;
        let answer = call(gossip, Instant::from_us(self.now), &mut out);
        self.deliver(at, &mut out);
        self.out = out;
        Some(answer)
    }

    pub fn gossip(&self, at: usize) -> &Gossip {
        self.seats[at].gossip.as_ref().expect("it runs")
    }

    fn deliver(&mut self, at: usize, out: &mut Outputs) {
        let from = endpoint(at);
        for datagram in out.datagrams.drain(..) {
            assert!(datagram.bytes.len() <= DATAGRAM_BYTES_MAX);
            self.bytes_sent += datagram.bytes.len() as u64;
            self.packets_sent += 1;
            let to = usize::from(datagram.to.port);
            if to >= self.seats.len() || !(self.passes)(at, to) {
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
            // An answer goes back on its connection, which needs both directions as the opening did.
            assert!(matches!(stream.leg, Leg::Open | Leg::Answer));
            if to < self.seats.len() && self.streams_pass && (self.passes)(at, to) && (self.passes)(to, at) {
                let way = self.way() + self.weather.delay_us.1;
                self.post(self.now + way, to, What::Stream { from, bytes: stream.bytes });
            }
        }
        if self.checks {
            let gossip = self.seats[at].gossip.as_ref().expect("it was called");
            self.history.look(self.now, at, gossip, &out.events);
        }
        for event in out.events.drain(..) {
            self.events.push((self.now, at, event));
        }
        if let Some(wake_at) = out.wake_at {
            self.wake(at, wake_at.as_us());
        }
    }

    fn way(&mut self) -> u64 {
        let (least, most) = self.weather.delay_us;
        least + self.random.below(most - least + 1)
    }

    fn post(&mut self, at: u64, to: usize, what: What) {
        self.seq += 1;
        self.next_key += 1;
        self.queue.push(Reverse((at, self.seq, self.next_key)));
        self.pending.insert(self.next_key, Pending { to, what });
    }

    fn wake(&mut self, to: usize, at: u64) {
        let at = at.max(self.seats[to].paused_until).max(self.now);
        if self.seats[to].wake_at == Some(at) {
            return;
        }
        self.seats[to].wake_version += 1;
        self.seats[to].wake_at = Some(at);
        let version = self.seats[to].wake_version;
        self.post(at, to, What::Wake { version });
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
        while let Some(Reverse((at, _, key))) = self.queue.peek().copied() {
            if at > until {
                break;
            }
            self.queue.pop();
            self.now = self.now.max(at);
            let pending = self.pending.remove(&key).expect("the queue names what is pending");
            self.step(pending);
            if done(self) {
                return true;
            }
        }
        self.now = until;
        done(self)
    }

    fn step(&mut self, pending: Pending) {
        let to = pending.to;
        if self.seats[to].gossip.is_none() {
            return;
        }
        if self.now < self.seats[to].paused_until {
            if !matches!(pending.what, What::Wake { .. }) {
                self.seats[to].held.push(pending);
            }
            return;
        }
        // The contract: what has arrived is read before timers fire.
        for held in std::mem::take(&mut self.seats[to].held) {
            self.hand_over(held);
        }
        self.hand_over(pending);
    }

    fn hand_over(&mut self, pending: Pending) {
        let to = pending.to;
        match pending.what {
            What::Packet { from, bytes } => {
                self.with(to, |gossip, now, out| gossip.handle_packet(now, from, &bytes, out));
            }
            What::Stream { from, bytes } => {
                self.with(to, |gossip, now, out| gossip.handle_stream(now, from, &bytes, out));
            }
            What::Wake { version } if version == self.seats[to].wake_version => {
                self.seats[to].wake_at = None;
                self.with(to, |gossip, now, out| gossip.handle_timeout(now, out));
            }
            What::Wake { .. } => {}
        }
    }

    /// The machines that run and have not left.
    pub fn running(&self) -> impl Iterator<Item = (usize, &Gossip)> {
        let running = self.seats.iter().enumerate().filter_map(|(at, seat)| Some((at, seat.gossip.as_ref()?)));
        running.filter(|(_, gossip)| gossip.own_standing().state == State::Alive)
    }

    pub fn counts(&self) -> BTreeMap<usize, usize> {
        let mut counts = BTreeMap::new();
        self.running().for_each(|(_, gossip)| *counts.entry(gossip.live_count()).or_default() += 1);
        counts
    }

    /// Whether all that run see exactly each other, in the same words.
    pub fn agrees(&self) -> bool {
        let running = self.running().count();
        let mut views = self.running().map(|(_, gossip)| (gossip.live_count(), gossip.view()));
        let first = views.next();
        first.is_some_and(|first| first.0 == running && views.all(|view| view == first))
    }

    /// Runs until all agree, or so long.
    pub fn settle(&mut self, within_us: u64) {
        let limit = self.now + within_us;
        while self.now < limit && !self.agrees() {
            self.run_for(500 * MS);
        }
    }

    /// Runs until all agree; fails after `within_us`.
    pub fn converge(&mut self, within_us: u64) -> u64 {
        let (start, limit) = (self.now, self.now + within_us);
        while !self.agrees() {
            assert!(self.now < limit, "no agreement after {} ms: {:?}", within_us / MS, self.counts());
            self.run_for(100 * MS);
        }
        self.now - start
    }

    /// The first time at which somebody said that `node` failed, at or after `since`.
    pub fn first_failed(&self, node: usize, since: u64) -> Option<u64> {
        let said = |event: &Event| matches!(event, Event::Failed { node: who, .. } if *who == node_id(node));
        self.events.iter().find(|(at, _, event)| *at >= since && said(event)).map(|(at, ..)| *at)
    }

    /// How many said since then that it failed.
    pub fn failed_count(&self, node: usize, since: u64) -> usize {
        let said = |event: &Event| matches!(event, Event::Failed { node: who, .. } if *who == node_id(node));
        self.events.iter().filter(|(at, _, event)| *at >= since && said(event)).count()
    }

    /// Everyone of whom somebody said since then that it failed.
    pub fn failed_since(&self, since: u64) -> Vec<(u64, usize, NodeId)> {
        let of = |(at, by, event): &(u64, usize, Event)| match event {
            Event::Failed { node, .. } if *at >= since => Some((*at, *by, *node)),
            _ => None,
        };
        self.events.iter().filter_map(of).collect()
    }

    pub fn count(&self, since: u64, of: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|(at, _, event)| *at >= since && of(event)).count()
    }
}

pub fn standing(generation: u64, incarnation: u32, state: State) -> Standing {
    Standing::new(Generation(generation), Incarnation(incarnation), state)
}
