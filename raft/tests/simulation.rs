//! Seeded chaos: lost, doubled and late packets, cuts, crashes with lost writes, stalling disks. Then everything heals,
//! and the groups must agree and serve.
//!
//! `RAFT_SIM_SEED=17 cargo test -p distric-raft --test simulation` runs one seed and prints its trace if it fails;
//! `RAFT_SIM_SEEDS=5000` runs more than the usual number.

mod world;

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use distric_model::Instant;
use distric_raft::*;

use world::{NodeAt, Packet, World};

#[test]
fn nothing_committed_is_lost_and_the_groups_agree_after_healing() {
    let only: Option<u64> = std::env::var("RAFT_SIM_SEED").ok().map(|seed| seed.parse().unwrap());
    let count = std::env::var("RAFT_SIM_SEEDS").map_or(SEEDS_COUNT, |count| count.parse().unwrap());
    let mut total = Totals::default();
    for seed in only.map_or(0..count, |seed| seed..seed + 1) {
        let mut simulation = Simulation::new(seed);
        simulation.world.traces = only.is_some();
        let result = catch_unwind(AssertUnwindSafe(|| simulation.run()));
        if result.is_err() {
            simulation.world.trace.iter().for_each(|line| eprintln!("{line}"));
            panic!("replay with RAFT_SIM_SEED={seed}");
        }
        total.add(&simulation);
    }
    if only.is_none() {
        total.assert_everything_happened();
    }
}

#[test]
fn one_seed_gives_one_history() {
    let history = |seed| {
        let mut simulation = Simulation::new(seed);
        simulation.run();
        let mut hasher = DefaultHasher::new();
        simulation.world.trace.hash(&mut hasher);
        (simulation.world.trace.len(), hasher.finish())
    };
    for seed in [3, 100, 277] {
        assert_eq!(history(seed), history(seed), "seed {seed}");
    }
    assert_ne!(history(1), history(2));
}

/// What one seed draws once and keeps.
struct Weather {
    lost_percent: u64,
    doubled_percent: u64,
    delay_us_max: u64,
    flush_us_max: u64,
    /// A flush that takes longer than any election timeout should allow for.
    stall_percent: u64,
    fault_every_us: u64,
}

struct Simulation {
    world: World,
    random: Random,
    weather: Weather,
    /// What will happen, by time and then by order of planning.
    agenda: BTreeMap<(Instant, u64), Event>,
    planned_count: u64,
    cuts: Vec<(NodeAt, NodeAt)>,
    flushing: Vec<bool>,
    proposed_count: u64,
    faults: Faults,
    /// Of replicas that are gone.
    past_stats: Vec<Stats>,
}

enum Event {
    Deliver(Packet),
    Flush(NodeAt, u64),
    Load(NodeAt, u64),
    Fault,
    Propose,
    Restart(NodeAt),
    Heal,
}

#[derive(Default)]
struct Faults {
    crashes: u64,
    lost_writes: u64,
    cuts: u64,
    lost_packets: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9).wrapping_add(1));
        let node_count = [1, 3, 3, 3, 5][random.below(5) as usize];
        let group_count = 1 + random.below(3) as u32;
        let weather = Weather {
            lost_percent: [0, 1, 5, 20][random.below(4) as usize],
            doubled_percent: [0, 2, 10][random.below(3) as usize],
            delay_us_max: [300, 3_000, 60_000][random.below(3) as usize],
            flush_us_max: [200, 5_000, 80_000][random.below(3) as usize],
            stall_percent: random.below(3),
            fault_every_us: [50_000, 300_000, 1_500_000][random.below(3) as usize],
        };
        let world = World::new(node_count, group_count, |config| {
            // Small bounds, so that all of them are met.
            config.append_bytes_max = 300;
            config.in_flight_messages_max = 3;
            config.in_flight_bytes_max = 900;
            config.uncommitted_bytes_max = 3_000;
            config.cache_bytes_max = 500;
            config.load_bytes_max = 400;
        });
        let flushing = vec![false; node_count];
        let (agenda, cuts) = (BTreeMap::new(), Vec::new());
        Self {
            world,
            random,
            weather,
            agenda,
            planned_count: 0,
            cuts,
            flushing,
            proposed_count: 0,
            faults: Faults::default(),
            past_stats: Vec::new(),
        }
    }

    fn run(&mut self) {
        self.plan(1_000, Event::Propose);
        self.plan(self.weather.fault_every_us, Event::Fault);
        self.run_until(self.world.now.plus_ms(CHAOS_MS));
        self.heal();
        let healed_at = self.world.now;
        // Ten elections' time to find a leader, and for late packets and stalled disks to come to an end.
        self.run_until(healed_at.plus_ms(10 * 600));
        let before = self.proposed_count;
        self.plan(0, Event::Propose);
        self.run_until(healed_at.plus_ms(12 * 600));
        assert!(self.proposed_count > before, "nobody takes proposals after healing");
        self.agenda.retain(|_, event| !matches!(event, Event::Propose));
        self.run_until(healed_at.plus_ms(14 * 600));
        self.assert_agreement();
    }

    fn run_until(&mut self, end: Instant) {
        loop {
            self.take_up_outputs();
            let planned = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let wake = self.world.next_wake();
            match (planned, wake) {
                (Some(at), _) if at <= end && wake.is_none_or(|(due, ..)| at <= due) => {
                    self.world.now = self.world.now.max(at);
                    let (_, event) = self.agenda.pop_first().unwrap();
                    self.happen(event);
                }
                (_, Some((due, at, group))) if due <= end => {
                    self.world.now = self.world.now.max(due);
                    self.world.tick(at, group);
                }
                _ => break,
            }
        }
        self.world.now = end;
    }

    /// Gives a time to everything that replicas asked for.
    fn take_up_outputs(&mut self) {
        for packet in std::mem::take(&mut self.world.packets) {
            let is_cut = self.cuts.contains(&(packet.from, packet.to));
            if is_cut || self.random.percent(self.weather.lost_percent) {
                self.faults.lost_packets += 1;
                continue;
            }
            let copies = if self.random.percent(self.weather.doubled_percent) { 2 } else { 1 };
            for _ in 0..copies {
                let delay = self.random.below(self.weather.delay_us_max);
                self.plan(delay, Event::Deliver(packet.clone()));
            }
        }
        for at in 0..self.world.nodes.len() {
            let starts = self.world.nodes[at].starts_count;
            if !self.flushing[at] && !self.world.nodes[at].writing.is_empty() {
                self.flushing[at] = true;
                let stall = if self.random.percent(self.weather.stall_percent) { 400_000 } else { 0 };
                let delay = self.random.below(self.weather.flush_us_max) + stall;
                self.plan(delay, Event::Flush(at, starts));
            }
            if self.world.nodes[at].loads.len() as u64 > self.planned_loads(at) {
                let delay = self.random.below(self.weather.flush_us_max);
                self.plan(delay, Event::Load(at, starts));
            }
        }
    }

    fn planned_loads(&self, node: NodeAt) -> u64 {
        let starts = self.world.nodes[node].starts_count;
        self.agenda.values().filter(|event| matches!(event, Event::Load(at, begun) if *at == node && *begun == starts)).count() as u64
    }

    fn plan(&mut self, delay_us: u64, event: Event) {
        self.planned_count += 1;
        self.agenda.insert((self.world.now.plus_us(delay_us), self.planned_count), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            // Packets outlive a restart of their receiver now and then, as in a reconnecting transport.
            Event::Deliver(packet) => self.world.deliver(packet),
            Event::Flush(at, starts) => {
                if self.world.nodes[at].starts_count == starts && self.world.is_up(at) {
                    self.flushing[at] = false;
                    self.world.flush(at);
                }
            }
            Event::Load(at, starts) => {
                if self.world.nodes[at].starts_count == starts {
                    self.world.load(at);
                }
            }
            Event::Propose => self.propose(),
            Event::Fault => self.fault(),
            Event::Restart(at) => {
                if !self.world.is_up(at) {
                    self.flushing[at] = false;
                    self.world.start(at);
                }
            }
            Event::Heal => self.cuts.clear(),
        }
    }

    fn propose(&mut self) {
        for group in self.world.groups.clone() {
            // Mostly the leader, sometimes whoever.
            let anyone = self.random.below(self.world.nodes.len() as u64) as NodeAt;
            let at = self.world.leader_of(group).filter(|_| !self.random.percent(10)).unwrap_or(anyone);
            let count = 1 + self.random.below(4);
            let command = |n| Bytes::from(format!("{group}:{n}:{}", "x".repeat((n % 90) as usize)));
            let commands = (0..count).map(|n| command(self.proposed_count + n)).collect();
            if self.world.raft(at, group).is_some_and(Raft::is_leader) {
                self.proposed_count += count;
            }
            self.world.propose(at, group, commands);
        }
        let pause = 5_000 + self.random.below(60_000);
        self.plan(pause, Event::Propose);
    }

    fn fault(&mut self) {
        let count = self.world.nodes.len() as u64;
        // Leaders are hit more often than others: they have more to lose.
        let group = self.world.groups[self.random.below(self.world.groups.len() as u64) as usize];
        let anyone = self.random.below(count) as NodeAt;
        let at = self.world.leader_of(group).filter(|_| self.random.percent(60)).unwrap_or(anyone);
        match self.random.below(4) {
            0 | 1 if self.world.is_up(at) => self.crash(at),
            2 => {
                // Isolated, in both directions or in one.
                self.faults.cuts += 1;
                let (out, into) = [(true, true), (true, false), (false, true)][self.random.below(3) as usize];
                for other in (0..count as NodeAt).filter(|other| *other != at) {
                    self.cuts.extend(out.then_some((at, other)));
                    self.cuts.extend(into.then_some((other, at)));
                }
                let pause = self.random.below(1_500_000);
                self.plan(pause, Event::Heal);
            }
            _ => {
                // All at once, as when the power of a rack fails.
                if self.random.percent(20) {
                    (0..count as NodeAt).filter(|at| self.world.is_up(*at)).collect::<Vec<_>>().into_iter().for_each(|at| self.crash(at));
                }
            }
        }
        self.plan(self.weather.fault_every_us, Event::Fault);
    }

    fn crash(&mut self, at: NodeAt) {
        let staged = self.world.nodes[at].store.staged_count() as u64;
        let kept = self.random.below(staged + 1);
        self.faults.crashes += 1;
        self.past_stats.extend(self.world.stats(at));
        self.faults.lost_writes += staged - kept;
        self.world.crash(at, kept as usize);
        let pause = self.random.below(800_000);
        self.plan(pause, Event::Restart(at));
    }

    fn heal(&mut self) {
        self.cuts.clear();
        self.weather =
            Weather { lost_percent: 0, doubled_percent: 0, delay_us_max: 500, flush_us_max: 500, stall_percent: 0, fault_every_us: 0 };
        self.agenda.retain(|_, event| !matches!(event, Event::Fault));
        for at in 0..self.world.nodes.len() {
            self.happen(Event::Restart(at));
        }
    }

    fn assert_agreement(&mut self) {
        for group in self.world.groups.clone() {
            self.world.oracle.check_log_matching(group, &mut self.world.nodes);
            let truth = self.world.oracle.committed(group).to_vec();
            let leader = self.world.leader_of(group).unwrap_or_else(|| panic!("{group} has no leader after healing"));
            for at in 0..self.world.nodes.len() {
                let status = self.world.raft(at, group).unwrap().status();
                assert_eq!(status.leader, Some(self.world.nodes[leader].id), "n{} {group} follows nobody", at + 1);
                let applied = &self.world.nodes[at].applied[&group];
                assert_eq!(applied.len(), truth.len(), "n{} {group} has not applied everything", at + 1);
                assert!(*applied == truth, "n{} {group} has applied something else", at + 1);
                assert_eq!(status.last.index.0, truth.len() as u64, "n{} {group} keeps uncommitted entries", at + 1);
                assert_eq!(status.uncommitted_bytes, 0, "the count of uncommitted bytes leaks");
                assert!(status.cache_bytes <= 500 + 300, "the cache holds {} bytes", status.cache_bytes);
            }
        }
    }
}

/// Sums over all seeds: a run in which some fault never happened proves nothing.
#[derive(Default)]
struct Totals {
    faults: Faults,
    stats: Stats,
    committed_count: u64,
    checks_count: u64,
}

impl Totals {
    fn add(&mut self, simulation: &Simulation) {
        let faults = &simulation.faults;
        self.faults.crashes += faults.crashes;
        self.faults.lost_writes += faults.lost_writes;
        self.faults.cuts += faults.cuts;
        self.faults.lost_packets += faults.lost_packets;
        self.checks_count += simulation.world.oracle.checks_count;
        for group in &simulation.world.groups {
            self.committed_count += simulation.world.oracle.committed(*group).len() as u64;
        }
        let living = (0..simulation.world.nodes.len()).flat_map(|at| simulation.world.stats(at));
        for stats in living.chain(simulation.past_stats.iter().copied()) {
            self.stats.quorum_lost_count += stats.quorum_lost_count;
            self.stats.elections_count += stats.elections_count;
            self.stats.sticky_votes_count += stats.sticky_votes_count;
            self.stats.append_refusals_count += stats.append_refusals_count;
            self.stats.appends_lost_count += stats.appends_lost_count;
            self.stats.truncated_entries_count += stats.truncated_entries_count;
            self.stats.loads_count += stats.loads_count;
            self.stats.refused_count += stats.refused_count;
            self.stats.impossible_messages_count += stats.impossible_messages_count;
        }
    }

    fn assert_everything_happened(&self) {
        let counts = [
            ("crashes", self.faults.crashes),
            ("writes lost in crashes", self.faults.lost_writes),
            ("cuts", self.faults.cuts),
            ("lost packets", self.faults.lost_packets),
            ("committed entries", self.committed_count),
            ("checks", self.checks_count),
            ("leaders that lost their quorum", self.stats.quorum_lost_count),
            ("elections", self.stats.elections_count),
            ("votes not looked at", self.stats.sticky_votes_count),
            ("refused appends", self.stats.append_refusals_count),
            ("lost appends found", self.stats.appends_lost_count),
            ("truncated entries", self.stats.truncated_entries_count),
            ("loads", self.stats.loads_count),
            ("refused proposals", self.stats.refused_count),
        ];
        for (what, count) in counts {
            println!("{count:>9} {what}");
            assert!(count > 20, "{what} happened {count} times only");
        }
        assert_eq!(self.stats.impossible_messages_count, 0, "correct replicas said something impossible");
    }
}

/// SplitMix64, as in the machine itself.
struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

const SEEDS_COUNT: u64 = 300;
const CHAOS_MS: u64 = 6_000;
