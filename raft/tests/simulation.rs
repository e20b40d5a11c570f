//! Seeded chaos: lost, doubled and late packets, cuts, crashes with lost writes, stalling disks; and in the midst of it changes
//! of members, transfers of leadership, compaction, snapshots that are fetched or not, reads. Then everything heals, and the
//! groups must agree and serve, with every change at its end.
//!
//! `RAFT_SIM_SEED=17 cargo test -p distric-raft --test simulation` runs one seed and prints its trace if it fails;
//! `RAFT_SIM_SEEDS=5000` runs more than the usual number.

mod world;

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use distric_model::{GroupId, Instant};
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
        simulation.world.traces = true;
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
    asked_count: u64,
    /// What was committed when a read was asked.
    asked: BTreeMap<ReadId, (GroupId, LogIndex)>,
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
    Read,
    /// A change of members, a transfer or a checkpoint, somewhere.
    Operate,
    /// A leader's driver looks for a snapshot.
    Answer(NodeAt, u64),
    /// A follower's driver has fetched a snapshot, or not.
    Fetch(NodeAt, u64),
    Restart(NodeAt),
    Heal,
}

#[derive(Default)]
struct Faults {
    crashes: u64,
    lost_writes: u64,
    cuts: u64,
    lost_packets: u64,
    changes: u64,
    changes_refused: u64,
    joint_entries: u64,
    transfers: u64,
    checkpoints: u64,
    purges: u64,
    fetches_failed: u64,
    crashes_in_install: u64,
    logs_reset_at_start: u64,
    reads_answered: u64,
    reads_refused: u64,
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
        let spare_count = [0, 1, 2, 3][random.below(4) as usize];
        let mut world = World::with_spares(node_count, spare_count, group_count, |config| {
            // Small bounds, so that all of them are met.
            config.append_bytes_max = 300;
            config.in_flight_messages_max = 3;
            config.in_flight_bytes_max = 900;
            config.uncommitted_bytes_max = 3_000;
            config.cache_bytes_max = 500;
            config.load_bytes_max = 400;
            config.promotion_lag_entries_max = 8;
            config.promotion_rounds = 2;
            config.reads_max = 4;
            config.snapshot_kept_entries_max = 30;
        });
        world.traces = false;
        let flushing = vec![false; node_count + spare_count];
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
            asked_count: 0,
            asked: BTreeMap::new(),
            faults: Faults::default(),
            past_stats: Vec::new(),
        }
    }

    fn run(&mut self) {
        self.plan(1_000, Event::Propose);
        self.plan(self.weather.fault_every_us, Event::Fault);
        self.plan(2_000, Event::Read);
        self.plan(200_000, Event::Operate);
        self.run_until(self.world.now.plus_ms(CHAOS_MS));
        self.heal();
        let healed_at = self.world.now;
        // Ten elections' time to find a leader, and for late packets and stalled disks to come to an end.
        self.run_until(healed_at.plus_ms(10 * 600));
        let (before, answered_before) = (self.proposed_count, self.faults.reads_answered);
        self.plan(0, Event::Propose);
        self.run_until(healed_at.plus_ms(12 * 600));
        assert!(self.proposed_count > before, "nobody takes proposals after healing");
        assert!(self.faults.reads_answered > answered_before, "nobody answers reads after healing");
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
            let is_planned = |agenda: &BTreeMap<_, Event>, wanted: fn(&Event) -> Option<(NodeAt, u64)>| {
                agenda.values().any(|event| wanted(event) == Some((at, starts)))
            };
            let answers = |event: &Event| if let Event::Answer(at, starts) = event { Some((*at, *starts)) } else { None };
            let fetches = |event: &Event| if let Event::Fetch(at, starts) = event { Some((*at, *starts)) } else { None };
            if !self.world.nodes[at].asks.is_empty() && !is_planned(&self.agenda, answers) {
                let delay = self.random.below(50_000);
                self.plan(delay, Event::Answer(at, starts));
            }
            if !self.world.nodes[at].installs.is_empty() && !is_planned(&self.agenda, fetches) {
                // Long enough for the leader to compact, crash, or be another in the meantime.
                let delay = self.random.below(if self.weather.fault_every_us == 0 { 1_000 } else { 400_000 });
                self.plan(delay, Event::Fetch(at, starts));
            }
            self.check_reads(at);
        }
    }

    /// A read sees all that was committed when it was asked, and so all that was acknowledged to anybody.
    fn check_reads(&mut self, at: NodeAt) {
        for (group, read) in std::mem::take(&mut self.world.nodes[at].reads) {
            let (asked_in, committed) = self.asked.remove(&read.id).expect("a read is answered once");
            assert_eq!(asked_in, group);
            assert!(read.index >= committed, "n{} {group}: a read from {}, {committed} was committed when asked", at + 1, read.index);
            self.faults.reads_answered += 1;
        }
        for (_, read) in std::mem::take(&mut self.world.nodes[at].reads_refused) {
            assert!(self.asked.remove(&read.id).is_some(), "a read is answered once");
            self.faults.reads_refused += 1;
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
            Event::Read => self.read(),
            Event::Operate => {
                self.operate();
                self.plan(self.weather.fault_every_us.min(400_000), Event::Operate);
            }
            Event::Answer(at, starts) => {
                if self.world.nodes[at].starts_count == starts {
                    self.world.answer_snapshot(at);
                }
            }
            Event::Fetch(at, starts) => {
                if self.world.nodes[at].starts_count == starts && self.world.is_up(at) {
                    self.fetch(at);
                }
            }
            Event::Propose => self.propose(),
            Event::Fault => self.fault(),
            Event::Restart(at) => {
                if !self.world.is_up(at) {
                    self.flushing[at] = false;
                    self.world.start(at);
                    let anew = |raft: &Raft| raft.status().stats.snapshots_installed_count;
                    self.faults.logs_reset_at_start += self.world.nodes[at].rafts.iter().flatten().map(|(_, raft)| anew(raft)).sum::<u64>();
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

    fn read(&mut self) {
        for group in self.world.groups.clone() {
            let anyone = self.random.below(self.world.nodes.len() as u64) as NodeAt;
            // Also whoever still takes itself for the leader.
            let leads = |at: &NodeAt| self.world.raft(*at, group).is_some_and(Raft::is_leader);
            let leaders: Vec<NodeAt> = (0..self.world.nodes.len()).filter(leads).chain([anyone]).collect();
            let at = leaders[self.random.below(leaders.len() as u64) as usize];
            for _ in 0..1 + self.random.below(3) {
                if self.world.is_up(at) {
                    self.asked_count += 1;
                    let id = ReadId(self.asked_count);
                    self.asked.insert(id, (group, LogIndex(self.world.oracle.committed(group).len() as u64)));
                    self.world.step(at, group, Input::Read { id });
                }
            }
        }
        let pause = 2_000 + self.random.below(80_000);
        self.plan(pause, Event::Read);
    }

    fn operate(&mut self) {
        let group = self.world.groups[self.random.below(self.world.groups.len() as u64) as usize];
        let count = self.world.nodes.len() as u64;
        let anyone = self.random.below(count) as NodeAt;
        let leader = self.world.leader_of(group).unwrap_or(anyone);
        match self.random.below(4) {
            0 => {
                // Any set: a node is a voter, a learner, or out.
                let mut lists = [Vec::new(), Vec::new(), Vec::new()];
                for node in &self.world.nodes {
                    lists[[0, 0, 0, 1, 2][self.random.below(5) as usize]].push(node.id);
                }
                let [voters, learners, _] = lists;
                let wanted = Membership::new(voters, learners).unwrap();
                let entries = |world: &World| world.raft(leader, group).map_or(0, |raft| raft.status().stats.membership_entries_count);
                let before = entries(&self.world);
                self.world.step(leader, group, Input::ChangeMembership { wanted });
                let begun = entries(&self.world) > before;
                *(if begun { &mut self.faults.changes } else { &mut self.faults.changes_refused }) += 1;
            }
            1 => {
                self.faults.transfers += 1;
                let target = self.world.nodes[anyone].id;
                self.world.step(leader, group, Input::Transfer { target });
            }
            _ => {
                let at = if self.random.percent(50) { leader } else { anyone };
                let behind = [0, 0, 5, 20][self.random.below(4) as usize];
                self.faults.checkpoints += 1;
                self.world.compact(at, group, behind);
                self.faults.purges += u64::from(!self.world.nodes[at].purges.is_empty());
            }
        }
    }

    fn fetch(&mut self, at: NodeAt) {
        let reaches = !self.random.percent(self.weather.lost_percent) && !self.cuts.iter().any(|(_, to)| *to == at);
        let Some((group, input)) = self.world.fetch_snapshot(at, reaches) else { return };
        let is_installed = matches!(input, Input::SnapshotInstalled { .. });
        self.faults.fetches_failed += u64::from(!is_installed);
        // The state is durable; the log has not heard of it.
        if is_installed && self.weather.fault_every_us > 0 && self.random.percent(25) {
            self.faults.crashes_in_install += 1;
            self.crash(at);
        } else {
            self.world.step(at, group, input);
        }
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
        self.check_reads(at);
        self.faults.lost_writes += staged - kept;
        self.world.crash(at, kept as usize);
        let pause = self.random.below(800_000);
        self.plan(pause, Event::Restart(at));
    }

    fn heal(&mut self) {
        self.cuts.clear();
        self.weather =
            Weather { lost_percent: 0, doubled_percent: 0, delay_us_max: 500, flush_us_max: 500, stall_percent: 0, fault_every_us: 0 };
        self.agenda.retain(|_, event| !matches!(event, Event::Fault | Event::Operate));
        for at in 0..self.world.nodes.len() {
            self.happen(Event::Restart(at));
        }
    }

    fn assert_agreement(&mut self) {
        let living = (0..self.world.nodes.len()).flat_map(|at| self.world.stats(at));
        let impossible: u64 = living.chain(self.past_stats.iter().copied()).map(|stats| stats.impossible_messages_count).sum();
        assert_eq!(impossible, 0, "correct replicas said something impossible");
        for group in self.world.groups.clone() {
            self.world.oracle.check_log_matching(group, &mut self.world.nodes);
            let truth = self.world.oracle.committed(group).to_vec();
            let leader = self.world.leader_of(group).unwrap_or_else(|| panic!("{group} has no leader after healing"));
            let members = self.world.raft(leader, group).unwrap().membership().clone();
            assert!(!members.is_joint() && members.goal().is_none(), "{group}: a change has not come to its end: {members:?}");
            let joint = |entry: &&Entry| {
                entry.kind == EntryKind::Membership && Membership::decode(&entry.data).is_ok_and(|members| members.is_joint())
            };
            self.faults.joint_entries += truth.iter().filter(joint).count() as u64;
            for at in (0..self.world.nodes.len()).filter(|at| members.is_member(self.world.nodes[*at].id)) {
                let status = self.world.raft(at, group).unwrap().status();
                assert_eq!(status.membership, members, "n{} {group} knows other members", at + 1);
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
        self.faults.changes += faults.changes;
        self.faults.changes_refused += faults.changes_refused;
        self.faults.joint_entries += faults.joint_entries;
        self.faults.transfers += faults.transfers;
        self.faults.checkpoints += faults.checkpoints;
        self.faults.purges += faults.purges;
        self.faults.fetches_failed += faults.fetches_failed;
        self.faults.crashes_in_install += faults.crashes_in_install;
        self.faults.logs_reset_at_start += faults.logs_reset_at_start;
        self.faults.reads_answered += faults.reads_answered;
        self.faults.reads_refused += faults.reads_refused;
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
            self.stats.snapshots_needed_count += stats.snapshots_needed_count;
            self.stats.snapshots_offered_count += stats.snapshots_offered_count;
            self.stats.snapshots_installed_count += stats.snapshots_installed_count;
            self.stats.useless_snapshots_count += stats.useless_snapshots_count;
            self.stats.promotions_count += stats.promotions_count;
            self.stats.removals_count += stats.removals_count;
            self.stats.transfers_count += stats.transfers_count;
            self.stats.transfers_aborted_count += stats.transfers_aborted_count;
            self.stats.campaigns_by_leave_count += stats.campaigns_by_leave_count;
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
            ("changes of members begun", self.faults.changes),
            ("changes of members refused", self.faults.changes_refused),
            ("joint configurations committed", self.faults.joint_entries),
            ("promotions of learners", self.stats.promotions_count),
            ("leaders removed", self.stats.removals_count),
            ("transfers begun", self.stats.transfers_count),
            ("transfers aborted", self.stats.transfers_aborted_count),
            ("campaigns by leave", self.stats.campaigns_by_leave_count),
            ("checkpoints", self.faults.checkpoints),
            ("purges", self.faults.purges),
            ("snapshots needed", self.stats.snapshots_needed_count),
            ("snapshots offered", self.stats.snapshots_offered_count),
            ("snapshots installed", self.stats.snapshots_installed_count),
            ("snapshots of no use", self.stats.useless_snapshots_count),
            ("fetches of snapshots failed", self.faults.fetches_failed),
            ("crashes between a durable snapshot and its log", self.faults.crashes_in_install),
            ("logs begun anew at the start", self.faults.logs_reset_at_start),
            ("reads answered", self.faults.reads_answered),
            ("reads refused", self.faults.reads_refused),
        ];
        for (what, count) in counts {
            println!("{count:>9} {what}");
            assert!(count > 20, "{what} happened {count} times only");
        }
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

const SEEDS_COUNT: u64 = 500;
const CHAOS_MS: u64 = 6_000;
