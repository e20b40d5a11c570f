//! One seed's storm over a small world: what happens, when, and what must hold once it is over.

mod totals;

use std::collections::BTreeMap;

use bytes::Bytes;
use distric_model::{GroupId, Instant};
use distric_raft::*;

use crate::world::{NodeAt, Packet, World};

pub use totals::Totals;

/// What one seed draws once and keeps.
struct Weather {
    lost_percent: u64,
    doubled_percent: u64,
    delay_us_max: u64,
    flush_us_max: u64,
    /// A flush that takes longer than any election timeout should allow for.
    stall_percent: u64,
    fault_every_us: u64,
    /// Clocks run at rates of their own.
    clocks_differ: bool,
    /// Leaders answer reads by lease: then clocks keep to what a lease rests on, and neither jump nor differ by more than it allows for.
    leases: bool,
    /// One node is beyond help when everything else is healed.
    lasting: Option<(NodeAt, Lasting)>,
}

/// What stays wrong with a node for ever. The others must do without it (a uniform storm alone never finds that they cannot).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lasting {
    /// Its disk is lost, or holds what its store refuses to start from.
    Dead,
    /// It says things and hears nothing.
    Deaf,
    /// It hears things and is not heard.
    Mute,
    /// Everything takes it a hundred times as long.
    Slow,
}

pub struct Storm {
    pub world: World,
    random: Random,
    weather: Weather,
    /// What will happen, by time and then by order of planning.
    agenda: BTreeMap<(Instant, u64), Event>,
    planned_count: u64,
    cuts: Vec<(NodeAt, NodeAt)>,
    /// Links that lose nearly everything and are late with the rest.
    clogged: Vec<(NodeAt, NodeAt)>,
    flushing: Vec<bool>,
    /// Of the next command: no two are equal.
    serial: u64,
    asked_count: u64,
    /// What was committed when a read was asked.
    asked: BTreeMap<ReadId, (GroupId, LogIndex)>,
    events_count: u64,
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
    /// A read that was asked arrives.
    Ask(NodeAt, GroupId, ReadId),
    /// A client asks this node again and again, whoever leads by now.
    Insist(NodeAt, GroupId, u64),
    /// A change of members, a transfer or a checkpoint, somewhere.
    Operate,
    /// A leader's driver looks for a snapshot.
    Answer(NodeAt, u64),
    /// A follower's driver has fetched a snapshot, or not.
    Fetch(NodeAt, u64),
    Restart(NodeAt),
    Resume(NodeAt, u64),
    Awake(NodeAt, u64),
    CutFor(Vec<(NodeAt, NodeAt)>, u64),
    /// An operator moves every lead to this node, which is beyond help.
    Mislead(NodeAt),
    Heal,
}

#[derive(Default)]
pub struct Faults {
    crashes: u64,
    lost_writes: u64,
    cuts: u64,
    partitions: u64,
    clogs: u64,
    pauses: u64,
    clock_jumps: u64,
    late_packets: u64,
    doubled_packets: u64,
    stalls: u64,
    lasting: u64,
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

impl Storm {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9).wrapping_add(1));
        let node_count = [1, 3, 3, 3, 5][random.below(5) as usize];
        let group_count = 1 + random.below(3) as u32;
        let mut weather = Weather {
            lost_percent: [0, 1, 5, 20][random.below(4) as usize],
            doubled_percent: [0, 2, 10][random.below(3) as usize],
            delay_us_max: [300, 3_000, 60_000][random.below(3) as usize],
            flush_us_max: [200, 5_000, 80_000][random.below(3) as usize],
            stall_percent: random.below(3),
            fault_every_us: [50_000, 300_000, 1_500_000][random.below(3) as usize],
            clocks_differ: random.percent(30),
            // Drawn apart, so that what else a seed does stays what it was.
            leases: Random(seed ^ 0x6c65_6173_6500).percent(40),
            lasting: None,
        };
        let (eager_commit, aligned_heartbeats) = (random.percent(40), random.percent(40));
        // Where one node is beyond help the members stay as they are, so that the others are a majority.
        let lasts = node_count >= 3 && random.percent(25);
        let lasting = [Lasting::Dead, Lasting::Deaf, Lasting::Mute, Lasting::Slow][random.below(4) as usize];
        let victim = random.below(node_count as u64) as NodeAt;
        weather.lasting = lasts.then_some((victim, lasting));
        let spare_count = if lasts { 0 } else { [0, 1, 2, 3][random.below(4) as usize] };
        let lease_ms = if weather.leases { LEASE_MS } else { 0 };
        let mut world = World::with_spares(node_count, spare_count, group_count, move |config| {
            config.lease_ms = lease_ms;
            (config.eager_commit, config.aligned_heartbeats) = (eager_commit, aligned_heartbeats);
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
        world.oracle.serials_are_unique = true;
        let flushing = vec![false; node_count + spare_count];
        let (agenda, cuts) = (BTreeMap::new(), Vec::new());
        Self {
            world,
            random,
            weather,
            agenda,
            planned_count: 0,
            cuts,
            clogged: Vec::new(),
            flushing,
            serial: 0,
            asked_count: 0,
            asked: BTreeMap::new(),
            events_count: 0,
            faults: Faults::default(),
            past_stats: Vec::new(),
        }
    }

    pub fn run(&mut self) {
        self.plan(1_000, Event::Propose);
        self.plan(self.weather.fault_every_us, Event::Fault);
        self.plan(2_000, Event::Read);
        self.plan(200_000, Event::Operate);
        self.run_until(self.world.now.plus_ms(CHAOS_MS));
        self.heal();
        let healed_at = self.world.now;
        // Ten elections' time to find a leader, and for late packets and stalled disks to come to an end.
        self.run_until(healed_at.plus_ms(10 * 600));
        let committed =
            |storm: &Self| -> Vec<usize> { storm.world.groups.iter().map(|group| storm.world.oracle.committed(*group).len()).collect() };
        let (before, answered_before) = (committed(self), self.faults.reads_answered);
        self.plan(0, Event::Propose);
        self.run_until(healed_at.plus_ms(12 * 600));
        for (before, after) in before.into_iter().zip(committed(self)) {
            assert!(after >= before + SERVED_MIN, "{after} entries are committed some time after healing, {before} were right after it");
        }
        assert!(self.faults.reads_answered >= answered_before + SERVED_MIN as u64, "nobody answers reads after healing");
        self.agenda.retain(|_, event| !matches!(event, Event::Propose));
        // A slow node may lead as long as it is heard in time, and brings the others up at its own pace.
        let has_slow = self.weather.lasting.is_some_and(|(_, what)| what == Lasting::Slow);
        self.run_until(healed_at.plus_ms(if has_slow { 60 * 600 } else { 14 * 600 }));
        self.assert_agreement();
    }

    fn run_until(&mut self, end: Instant) {
        loop {
            self.events_count += 1;
            assert!(self.events_count < EVENTS_MAX, "the groups do not come to rest");
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
            let is_clogged = self.clogged.contains(&(packet.from, packet.to));
            let is_slow = self.weather.lasting.is_some_and(|(at, what)| what == Lasting::Slow && (at == packet.from || at == packet.to));
            let copies = if self.random.percent(self.weather.doubled_percent) { 2 } else { 1 };
            self.faults.doubled_packets += copies - 1;
            for _ in 0..copies {
                let mut delay = self.random.below(self.weather.delay_us_max);
                if is_slow && self.weather.fault_every_us == 0 {
                    delay *= 100;
                } else if is_clogged || self.weather.fault_every_us > 0 && self.random.percent(1) {
                    // From another time: its sender may not lead any more, nor be the process that it was.
                    self.faults.late_packets += 1;
                    delay += self.random.below(1_000_000);
                }
                self.plan(delay, Event::Deliver(packet.clone()));
            }
        }
        for at in 0..self.world.nodes.len() {
            let starts = self.world.nodes[at].starts_count;
            if !self.flushing[at] && !self.world.nodes[at].writing.is_empty() {
                self.flushing[at] = true;
                let stalls = self.random.percent(self.weather.stall_percent);
                self.faults.stalls += u64::from(stalls);
                let stall = if stalls { [400_000, 3_000_000][self.random.below(2) as usize] } else { 0 };
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

    /// Whose turn an event is; the world's otherwise.
    const fn place(event: &Event) -> Option<NodeAt> {
        match event {
            Event::Deliver(packet) => Some(packet.to),
            Event::Flush(at, _) | Event::Load(at, _) | Event::Ask(at, ..) | Event::Answer(at, _) | Event::Fetch(at, _) => Some(*at),
            _ => None,
        }
    }

    fn happen(&mut self, event: Event) {
        if let Some(at) = Self::place(&event).filter(|at| self.world.nodes[*at].is_paused) {
            // Letters wait in its sockets; in which order those are read nobody knows.
            let resumes = |planned: &Event| matches!(planned, Event::Resume(found, _) if *found == at);
            let until = self.agenda.iter().find(|(_, planned)| resumes(planned)).map(|((when, _), _)| *when);
            let delay = until.expect("whoever is paused goes on").since_us(self.world.now);
            let unread = self.random.below(UNREAD_US);
            return self.plan(delay + unread, event);
        }
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
            Event::Resume(at, starts) => {
                if self.world.nodes[at].starts_count == starts && self.world.is_up(at) {
                    self.world.nodes[at].is_paused = false;
                    // Its timers are called before the letters that wait, or after some of them.
                    let late = if self.random.percent(30) { 0 } else { self.random.below(2 * UNREAD_US) };
                    self.plan(late, Event::Awake(at, starts));
                }
            }
            Event::Awake(at, starts) => self.world.nodes[at].is_dozing &= self.world.nodes[at].starts_count != starts,
            Event::CutFor(cuts, pause) => {
                self.cuts.extend(cuts);
                self.plan(pause, Event::Heal);
            }
            Event::Ask(at, group, id) => self.world.step(at, group, Input::Read { id }),
            Event::Insist(at, group, times) => {
                self.ask(at, group);
                if times > 0 {
                    let pause = 500 + self.random.below(8_000);
                    self.plan(pause, Event::Insist(at, group, times - 1));
                }
            }
            Event::Mislead(target) => {
                let target = self.world.nodes[target].id;
                for group in self.world.groups.clone() {
                    if let Some(leader) = self.world.leader_of(group) {
                        self.world.step(leader, group, Input::Transfer { target });
                    }
                }
            }
            Event::Heal => {
                self.cuts.clear();
                self.clogged.clear();
            }
        }
    }

    fn propose(&mut self) {
        for group in self.world.groups.clone() {
            // Mostly the leader, sometimes whoever.
            let anyone = self.random.below(self.world.nodes.len() as u64) as NodeAt;
            let at = self.world.leader_of(group).filter(|_| !self.random.percent(10)).unwrap_or(anyone);
            let count = 1 + self.random.below(4);
            let command = |n| Bytes::from(format!("{group}:{n}:{}", "x".repeat((n % 90) as usize)));
            let commands = (0..count).map(|n| command(self.serial + n)).collect();
            self.serial += count;
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
                self.ask(at, group);
            }
        }
        let pause = 2_000 + self.random.below(80_000);
        self.plan(pause, Event::Read);
    }

    /// A client asks now; its question is on the way for a while.
    fn ask(&mut self, at: NodeAt, group: GroupId) {
        if !self.world.is_up(at) {
            return;
        }
        self.asked_count += 1;
        let id = ReadId(self.asked_count);
        self.asked.insert(id, (group, LogIndex(self.world.oracle.committed(group).len() as u64)));
        let delay = self.random.below(300);
        self.plan(delay, Event::Ask(at, group, id));
    }

    fn operate(&mut self) {
        let group = self.world.groups[self.random.below(self.world.groups.len() as u64) as usize];
        let count = self.world.nodes.len() as u64;
        let anyone = self.random.below(count) as NodeAt;
        let leader = self.world.leader_of(group).unwrap_or(anyone);
        match self.random.below(4) {
            0 if self.weather.lasting.is_none() => {
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
                // Whoever hands over may be the last to hear that it worked, and is still asked.
                if self.random.percent(50) {
                    self.plan(0, Event::Insist(leader, group, 20));
                    let hears = |at: &NodeAt| *at != leader;
                    let cuts: Vec<_> = (0..self.world.nodes.len()).filter(hears).map(|other| (other, leader)).collect();
                    let cut_in = self.random.below(30_000);
                    self.plan(cut_in, Event::CutFor(cuts, 200_000));
                }
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
        let Some((_, install)) = self.world.nodes[at].installs.front() else { return };
        let source = self.world.nodes.iter().position(|node| node.id == install.from).expect("leaders are nodes");
        let is_cut = self.cuts.contains(&(source, at)) || self.cuts.contains(&(at, source));
        let reaches = !is_cut && !self.random.percent(self.weather.lost_percent);
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
        match self.random.below(8) {
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
                self.plan(pause, Event::Insist(at, group, 10));
                self.plan(pause, Event::Heal);
            }
            3 => {
                // Any links at all: halves, or two that hear a third and not each other.
                self.faults.partitions += 1;
                for (from, to) in (0..count as NodeAt).flat_map(|from| (0..count as NodeAt).map(move |to| (from, to))) {
                    self.cuts.extend((from != to && self.random.percent(35)).then_some((from, to)));
                }
                let pause = self.random.below(1_500_000);
                self.plan(pause, Event::Heal);
            }
            4 => {
                self.faults.clogs += 1;
                let other = self.random.below(count) as NodeAt;
                self.clogged.push((at, other));
                let pause = self.random.below(3_000_000);
                self.plan(pause, Event::Heal);
            }
            5 if self.world.is_up(at) && !self.world.nodes[at].is_paused => {
                // As by SIGSTOP: for less or more than a leader may be silent.
                self.faults.pauses += 1;
                (self.world.nodes[at].is_paused, self.world.nodes[at].is_dozing) = (true, true);
                let pause = self.random.below(900_000);
                self.plan(pause, Event::Resume(at, self.world.nodes[at].starts_count));
                let ask_from = self.random.below(pause + 1);
                self.plan(ask_from, Event::Insist(at, group, 20));
            }
            6 => {
                self.faults.clock_jumps += 1;
                let mut ahead_us = [0, 100_000, 2_000_000][self.random.below(3) as usize];
                let mut rate = if self.weather.clocks_differ { 70 + self.random.below(70) } else { 100 };
                if self.weather.leases {
                    (ahead_us, rate) = (0, 88 + rate % 25);
                }
                let now = self.world.now;
                self.world.nodes[at].clock.set(now, ahead_us, rate);
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
        self.clogged.clear();
        let lasting = self.weather.lasting;
        self.weather = Weather {
            lost_percent: 0,
            doubled_percent: 0,
            delay_us_max: 500,
            flush_us_max: 500,
            stall_percent: 0,
            fault_every_us: 0,
            clocks_differ: false,
            leases: false,
            lasting,
        };
        self.agenda
            .retain(|_, event| !matches!(event, Event::Fault | Event::Operate | Event::Heal | Event::CutFor(..) | Event::Insist(..)));
        let now = self.world.now;
        for at in 0..self.world.nodes.len() {
            self.world.nodes[at].clock.set(now, 0, 100);
            self.happen(Event::Restart(at));
        }
        let Some((at, what)) = lasting else { return };
        self.faults.lasting += 1;
        if what != Lasting::Slow {
            // A transfer that cannot end is given up, and its leader serves again.
            self.plan(MISLEAD_AFTER_US, Event::Mislead(at));
        }
        if self.world.traces {
            self.world.trace.push(format!("n{} is {what:?} for ever", at + 1));
        }
        match what {
            Lasting::Dead => {
                self.world.crash(at, 0);
                self.agenda.retain(|_, event| !matches!(event, Event::Restart(found) if *found == at));
            }
            Lasting::Deaf => self.cuts.extend((0..self.world.nodes.len()).filter(|other| *other != at).map(|other| (other, at))),
            Lasting::Mute => self.cuts.extend((0..self.world.nodes.len()).filter(|other| *other != at).map(|other| (at, other))),
            Lasting::Slow => {}
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
            let counts = |at: &NodeAt| self.weather.lasting.is_none_or(|(victim, _)| victim != *at);
            for at in
                (0..self.world.nodes.len()).filter(counts).filter(|at| members.is_member(self.world.nodes[*at].id)).collect::<Vec<_>>()
            {
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

/// The leads are moved to a node beyond help so long after healing: there are leaders by then, and their successors have time.
const MISLEAD_AFTER_US: u64 = 4_500_000;
/// Of the shortest election timeout of 300 ms: clocks between 88 and 112 % of the world's differ by less than the quotient.
const LEASE_MS: u64 = 225;
/// So long a process that goes on reads what waits.
const UNREAD_US: u64 = 3_000;
/// So many commands and reads at least are served in two elections' time once everything is well.
const SERVED_MIN: usize = 10;
const CHAOS_MS: u64 = 6_000;
/// More than any seed needs by far: something goes round in circles.
const EVENTS_MAX: u64 = 2_000_000;
