//! A small world: nodes with a disk each, between them packets that lie about until somebody delivers them.
//!
//! Nothing happens by itself: the world steps a replica when told to, and keeps what comes out. Scripts move every packet
//! by hand, the simulation moves them by a seeded clock. After every step the oracle looks at what was said and at
//! what the disks really hold.
#![allow(dead_code, reason = "each test binary uses its part of the world")]

mod oracle;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use distric_model::{GroupId, Instant, NodeId, Slot, Timestamp};
use distric_raft::*;
use distric_raft_store::{GroupWrite, LogStore, MemoryStore};

use oracle::Oracle;

/// Nodes are known by their place, 0-based; people see `n1`, `n2`, ...
pub type NodeAt = usize;

pub struct World {
    pub now: Instant,
    pub nodes: Vec<Node>,
    pub groups: Vec<GroupId>,
    /// Sent, not delivered, in order of sending.
    pub packets: Vec<Packet>,
    /// What happened, one line each.
    pub trace: Vec<String>,
    /// Whether to keep `trace`.
    pub traces: bool,
    pub oracle: Oracle,
    /// Steps of all replicas so far.
    pub steps_count: u64,
    /// Where a node is to crash.
    pub crash_point: Option<CrashPoint>,
    tune: Box<dyn Fn(&mut Config)>,
}

/// The power of whoever takes a step fails right after it: what it wanted written is lost, half there or all there, and what it said
/// is lost with it or was on its way already.
#[derive(Clone, Copy, Debug)]
pub struct CrashPoint {
    /// After so many steps.
    pub step: u64,
    pub kept: Kept,
    pub said: bool,
}

/// What the disk holds of the writes that were not reported yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Nothing,
    /// The older half; a record that was torn in the middle is found by its checksum and counts as not there.
    Half,
    All,
}

pub struct Node {
    pub id: NodeId,
    pub store: MemoryStore,
    /// `None` while the node is down.
    pub rafts: Option<BTreeMap<GroupId, Raft>>,
    /// The tickets of staged writes, in order.
    pub writing: VecDeque<(GroupId, Ticket)>,
    pub loads: VecDeque<(GroupId, Load)>,
    /// The state of each state machine: all it ever applied.
    pub applied: BTreeMap<GroupId, Vec<Entry>>,
    /// Durable states, with what the log needs to know of them.
    pub checkpoints: BTreeMap<GroupId, (Snapshot, Vec<Entry>)>,
    /// What the log store may drop, and does at its next flush.
    pub purges: BTreeMap<GroupId, LogIndex>,
    /// Followers that wait for a snapshot from here.
    pub asks: VecDeque<(GroupId, NodeId)>,
    pub installs: VecDeque<(GroupId, Install)>,
    /// Reads that were answered.
    pub reads: Vec<(GroupId, ReadReady)>,
    pub reads_refused: Vec<(GroupId, ReadRefused)>,
    pub starts_count: u64,
    pub clock: Clock,
    /// The process stands still: it is not called, and letters wait for it.
    pub is_paused: bool,
    /// Its timers are not looked at.
    pub is_dozing: bool,
}

/// What a node takes for the time: runs at a rate of its own, and jumps ahead now and then. Never goes back.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Both clocks at the last change of this one.
    world: Instant,
    own: Instant,
    pub rate_percent: u64,
}

impl Clock {
    pub fn at(&self, world: Instant) -> Instant {
        self.own.plus_us(world.since_us(self.world) * self.rate_percent / 100)
    }

    /// When this clock shows `own`; the next microsecond after if it never shows exactly that.
    fn world_at(&self, own: Instant) -> Instant {
        self.world.plus_us((own.since_us(self.own) * 100).div_ceil(self.rate_percent))
    }

    /// Shows `ahead_us` more from now on, and goes on at another rate.
    pub fn set(&mut self, world: Instant, ahead_us: u64, rate_percent: u64) {
        let own = self.at(world).plus_us(ahead_us);
        *self = Self { world, own, rate_percent };
    }
}

#[derive(Clone, Debug)]
pub struct Packet {
    pub from: NodeAt,
    pub to: NodeAt,
    pub group: GroupId,
    pub message: Message,
}

impl World {
    /// Delivers and flushes until nothing moves. Packets to or from others than `among` are left alone; nobody is, when it is empty.
    pub fn settle(&mut self, among: &[NodeAt]) {
        let is_in = |at: NodeAt| among.is_empty() || among.contains(&at);
        for _ in 0..1_000 {
            let (moving, resting): (Vec<Packet>, Vec<Packet>) =
                std::mem::take(&mut self.packets).into_iter().partition(|packet| is_in(packet.from) && is_in(packet.to));
            self.packets = resting;
            let is_busy = |node: &Node| {
                let waits = !(node.writing.is_empty() && node.loads.is_empty() && node.asks.is_empty());
                waits || !(node.installs.is_empty() && node.purges.is_empty())
            };
            let busy: Vec<NodeAt> = (0..self.nodes.len()).filter(|at| is_in(*at) && is_busy(&self.nodes[*at])).collect();
            if moving.is_empty() && busy.is_empty() {
                return;
            }
            moving.into_iter().for_each(|packet| self.deliver(packet));
            for at in busy {
                self.flush(at);
                self.load(at);
                self.answer_snapshot(at);
                if let Some((group, input)) = self.fetch_snapshot(at, true) {
                    self.step(at, group, input);
                }
            }
        }
        panic!("the world does not settle");
    }

    pub fn new(node_count: usize, group_count: u32, tune: impl Fn(&mut Config) + 'static) -> Self {
        Self::with_spares(node_count, 0, group_count, tune)
    }

    /// Beside the founding members there are nodes that belong to no group yet.
    pub fn with_spares(node_count: usize, spare_count: usize, group_count: u32, tune: impl Fn(&mut Config) + 'static) -> Self {
        let ids: Vec<NodeId> = (0..node_count + spare_count).map(node_id).collect();
        let membership = Membership::new(ids[..node_count].to_vec(), vec![]).unwrap();
        let groups: Vec<GroupId> = (0..group_count).map(GroupId).collect();
        let founding = Recovered::founding(&membership);
        let founded = |group: &GroupId| GroupWrite {
            group: *group,
            hard_state: Some(founding.hard_state),
            entries: founding.tail.clone(),
            ..GroupWrite::default()
        };
        let writes: Vec<GroupWrite> = groups.iter().map(founded).collect();
        let node = |(at, id): (usize, NodeId)| {
            let mut store = MemoryStore::new();
            if at < node_count {
                store.write(&writes).unwrap();
            }
            Node {
                id,
                store,
                rafts: None,
                writing: VecDeque::new(),
                loads: VecDeque::new(),
                applied: BTreeMap::new(),
                checkpoints: BTreeMap::new(),
                purges: BTreeMap::new(),
                asks: VecDeque::new(),
                installs: VecDeque::new(),
                reads: Vec::new(),
                reads_refused: Vec::new(),
                starts_count: 0,
                clock: Clock { world: START, own: START, rate_percent: 100 },
                is_paused: false,
                is_dozing: false,
            }
        };
        let nodes: Vec<Node> = ids.into_iter().enumerate().map(node).collect();
        let now = START;
        let oracle = Oracle::new(&groups, &membership.founding_entry());
        let count = nodes.len();
        let mut world = Self {
            now,
            nodes,
            groups,
            packets: Vec::new(),
            trace: Vec::new(),
            traces: true,
            oracle,
            steps_count: 0,
            crash_point: None,
            tune: Box::new(tune),
        };
        (0..count).for_each(|at| world.start(at));
        world
    }

    /// Starts a node from its disk.
    pub fn start(&mut self, at: NodeAt) {
        let node = &mut self.nodes[at];
        assert!(node.rafts.is_none(), "n{} runs already", at + 1);
        node.starts_count += 1;
        node.applied.clear();
        let mut rafts = BTreeMap::new();
        let mut found: BTreeMap<GroupId, Recovered> = node.store.recover().unwrap().into_iter().collect();
        for group in self.groups.clone() {
            let mut recovered = found.remove(&group).unwrap_or_default();
            let checkpoint = node.checkpoints.get(&group);
            recovered.checkpoint = checkpoint.map(|(snapshot, _)| snapshot.clone());
            let state = checkpoint.map(|(_, state)| state.clone()).unwrap_or_default();
            let applied = LogIndex(state.len() as u64);
            node.applied.insert(group, state);
            let mut config = Config::new(node.id, group);
            (self.tune)(&mut config);
            let seed = at as u64 * 1_000 + u64::from(group.0) * 100 + node.starts_count;
            rafts.insert(group, Raft::new(config, recovered, applied, seed, node.clock.at(self.now)).unwrap());
        }
        node.rafts = Some(rafts);
        self.oracle.on_start(at, &self.nodes[at]);
        // A log that must begin anew says so at its first step.
        for group in self.groups.clone() {
            if self.raft(at, group).is_some_and(|raft| Some(raft.status().base) != self.nodes[at].store.base(group)) {
                self.step(at, group, Input::Tick);
            }
        }
    }

    /// Stops a node like a power cut, at which the disk has written the first `kept` of the staged writes.
    pub fn crash(&mut self, at: NodeAt, kept: usize) {
        let node = &mut self.nodes[at];
        node.store.crash_after(kept);
        node.rafts = None;
        (node.is_paused, node.is_dozing) = (false, false);
        node.writing.clear();
        node.loads.clear();
        node.asks.clear();
        node.installs.clear();
        node.purges.clear();
        node.reads.clear();
        node.reads_refused.clear();
        // Its network buffers die with it.
        self.packets.retain(|packet| packet.from != at);
    }

    pub fn is_up(&self, at: NodeAt) -> bool {
        self.nodes[at].rafts.is_some()
    }

    pub fn raft(&self, at: NodeAt, group: GroupId) -> Option<&Raft> {
        self.nodes[at].rafts.as_ref()?.get(&group)
    }

    /// The counters of all replicas of a node; none while it is down.
    pub fn stats(&self, at: NodeAt) -> Vec<Stats> {
        self.nodes[at].rafts.iter().flat_map(BTreeMap::values).map(|raft| raft.status().stats).collect()
    }

    pub fn leader_of(&self, group: GroupId) -> Option<NodeAt> {
        let leads = |at: &NodeAt| self.raft(*at, group).is_some_and(Raft::is_leader);
        (0..self.nodes.len()).filter(leads).max_by_key(|at| self.raft(*at, group).unwrap().term())
    }

    /// The next time at which some replica wants a tick.
    pub fn next_wake(&self) -> Option<(Instant, NodeAt, GroupId)> {
        let running = self.nodes.iter().enumerate().filter(|(_, node)| !node.is_dozing);
        let wakes = running.flat_map(|(at, node)| {
            let wake = move |(group, raft): (&GroupId, &Raft)| Some((node.clock.world_at(raft.wake_at()?), at, *group));
            node.rafts.iter().flatten().filter_map(wake)
        });
        wakes.min()
    }

    /// Moves the clock to when a replica wants a tick, and ticks it.
    pub fn tick(&mut self, at: NodeAt, group: GroupId) {
        if let Some(due) = self.raft(at, group).and_then(Raft::wake_at) {
            self.now = self.now.max(self.nodes[at].clock.world_at(due));
            self.step(at, group, Input::Tick);
        }
    }

    pub fn propose(&mut self, at: NodeAt, group: GroupId, commands: Vec<Bytes>) {
        self.step(at, group, Input::Propose { commands });
    }

    pub fn deliver(&mut self, packet: Packet) {
        let from = self.nodes[packet.from].id;
        self.step(packet.to, packet.group, Input::Message { from, message: packet.message });
    }

    /// Makes everything staged durable with one flush, and reports it to each group.
    pub fn flush(&mut self, at: NodeAt) {
        let node = &mut self.nodes[at];
        node.store.flush();
        for (group, upto) in std::mem::take(&mut node.purges) {
            node.store.truncate_prefix(group, upto).unwrap();
        }
        // One report per group: a ticket speaks for those before it.
        let reports: BTreeMap<GroupId, Ticket> = node.writing.drain(..).collect();
        for (group, ticket) in reports {
            self.step(at, group, Input::Persisted { ticket });
        }
    }

    /// Makes the oldest staged write durable, and reports it.
    pub fn flush_one(&mut self, at: NodeAt) {
        let node = &mut self.nodes[at];
        node.store.flush_first(1);
        if let Some((group, ticket)) = node.writing.pop_front() {
            self.step(at, group, Input::Persisted { ticket });
        }
    }

    /// Answers the oldest request for old entries.
    pub fn load(&mut self, at: NodeAt) {
        let node = &mut self.nodes[at];
        if let Some((group, load)) = node.loads.pop_front() {
            let entries = node.store.read(group, load.from, load.upto, load.bytes_max).unwrap();
            self.step(at, group, Input::Loaded { entries });
        }
    }

    /// Makes a durable checkpoint of one state machine and lets the log be compacted up to `behind` entries before it.
    pub fn compact(&mut self, at: NodeAt, group: GroupId, behind: u64) {
        let Some(raft) = self.raft(at, group) else { return };
        let node = &self.nodes[at];
        let applied = LogIndex(node.applied[&group].len() as u64);
        let Some(snapshot) = raft.snapshot_at(applied) else { return };
        let state = node.applied[&group].clone();
        self.nodes[at].checkpoints.insert(group, (snapshot, state));
        self.step(at, group, Input::Compacted { upto: LogIndex(applied.0.saturating_sub(behind)) });
    }

    /// Answers the oldest wish for a snapshot with the newest checkpoint.
    pub fn answer_snapshot(&mut self, at: NodeAt) {
        let Some((group, to)) = self.nodes[at].asks.pop_front() else { return };
        let input = match self.nodes[at].checkpoints.get(&group) {
            Some((snapshot, _)) => Input::SnapshotReady { to, snapshot: snapshot.clone() },
            None => Input::SnapshotFailed { peer: to },
        };
        self.step(at, group, input);
    }

    /// Fetches the snapshot that was asked for first and makes it the durable state, unless the log has brought the state as far
    /// meanwhile. Returns the input that says so.
    pub fn fetch_snapshot(&mut self, at: NodeAt, reaches: bool) -> Option<(GroupId, Input)> {
        let (group, Install { from, snapshot }) = self.nodes[at].installs.pop_front()?;
        let source = self.nodes.iter().find(|node| node.id == from && node.rafts.is_some());
        let found = source.and_then(|source| source.checkpoints.get(&group)).filter(|(held, _)| reaches && *held == snapshot).cloned();
        let Some((held, state)) = found else { return Some((group, Input::SnapshotFailed { peer: from })) };
        // As when the log caught up while the file was made durable: the driver says that it has it, and the replica wants it no more.
        if self.nodes[at].applied[&group].len() as u64 >= snapshot.position.index.0 {
            return Some((group, Input::SnapshotInstalled { snapshot }));
        }
        self.oracle.on_installed(group, &held, &state);
        let node = &mut self.nodes[at];
        node.applied.insert(group, state.clone());
        node.checkpoints.insert(group, (held, state));
        Some((group, Input::SnapshotInstalled { snapshot }))
    }

    /// Steps one replica and keeps what comes out. Nothing happens on a node that is down.
    pub fn step(&mut self, at: NodeAt, group: GroupId, input: Input) {
        let node = &mut self.nodes[at];
        let Some(raft) = node.rafts.as_mut().and_then(|rafts| rafts.get_mut(&group)) else { return };
        let mut out = Outputs::default();
        let led_in = raft.is_leader().then(|| raft.term());
        raft.step(node.clock.at(self.now), input, &mut out);
        if self.traces {
            self.trace_outputs(at, group, &out);
        }
        for (to, message) in &out.sends {
            let to = self.nodes.iter().position(|node| node.id == *to).expect("messages go to nodes");
            self.packets.push(Packet { from: at, to, group, message: message.clone() });
        }
        let node = &mut self.nodes[at];
        node.applied.entry(group).or_default().extend(out.committed.iter().cloned());
        self.oracle.check(at, group, led_in, &out, &mut self.nodes);
        let node = &mut self.nodes[at];
        if let Some(persist) = out.persist {
            node.writing.push_back((group, persist.ticket));
            node.store.stage(vec![GroupWrite::of(group, persist)]);
        }
        if let Some(upto) = out.purge {
            let checkpoint = &node.checkpoints[&group].0;
            assert!(upto <= checkpoint.position.index, "n{}: {upto} may be purged, which no checkpoint has", at + 1);
            node.purges.insert(group, upto);
        }
        node.asks.extend(out.snapshot_wanted.iter().map(|to| (group, *to)));
        node.installs.extend(out.install.map(|install| (group, install)));
        node.reads.extend(out.reads.iter().map(|read| (group, *read)));
        node.reads_refused.extend(out.reads_refused.iter().map(|read| (group, *read)));
        if let Some(load) = out.load {
            node.loads.push_back((group, load));
        }
        self.steps_count += 1;
        if let Some(CrashPoint { kept, said, .. }) = self.crash_point.take_if(|point| point.step == self.steps_count) {
            let staged = self.nodes[at].store.staged_count();
            let kept = match kept {
                Kept::Nothing => 0,
                Kept::Half => staged / 2,
                Kept::All => staged,
            };
            let said = if said { self.packets.iter().filter(|packet| packet.from == at).cloned().collect() } else { Vec::new() };
            self.crash(at, kept);
            self.packets.extend(said);
        }
    }

    fn trace_outputs(&mut self, at: NodeAt, group: GroupId, out: &Outputs) {
        let name = self.name(at, group);
        let mut lines = Vec::new();
        if let Some(change) = out.role {
            let leader = change.leader.map_or("nobody".to_owned(), |leader| self.node_name(leader));
            lines.push(format!("{name} is {} in term {}, led by {leader}", change.role.name(), change.term));
        }
        for accepted in &out.accepted {
            let upto = accepted.first.plus(accepted.count - 1);
            lines.push(format!("{name} accepts {}..={upto} in term {}", accepted.first, accepted.term));
        }
        for refused in &out.refused {
            let text = String::from_utf8_lossy(&refused.command).into_owned();
            let reason = match refused.reason {
                Refusal::NotLeader { leader: Some(leader) } => format!("ask {}", self.node_name(leader)),
                reason => reason.to_string(),
            };
            lines.push(format!("{name} refuses {text}: {reason}"));
        }
        lines.extend(out.change.iter().map(|answer| match answer {
            ChangeAnswer::Begun { at } => format!("{name} begins a change of members at {at}"),
            ChangeAnswer::Refused(refusal) => format!("{name} changes no members: {refusal}"),
        }));
        lines.extend(out.transfer.iter().map(|answer| {
            let outcome = format!("{:?}", answer.outcome).to_lowercase();
            format!("{name} transfer to {}: {outcome}", self.node_name(answer.target))
        }));
        lines.extend(out.reads.iter().map(|read| format!("{name} answers read {} from {}", read.id.0, read.index)));
        lines.extend(out.reads_refused.iter().map(|read| format!("{name} refuses read {}: {}", read.id.0, read.reason)));
        lines.extend(out.purge.iter().map(|upto| format!("{name} lets go of entries up to {upto}")));
        lines.extend(out.snapshot_wanted.iter().map(|to| format!("{name} wants a snapshot for {}", self.node_name(*to))));
        lines.extend(out.install.iter().map(|install| {
            let (from, position) = (self.node_name(install.from), install.snapshot.position);
            format!("{name} asks for the snapshot at {position} from {from}")
        }));
        lines.extend(out.committed.iter().map(|entry| format!("{name} hands out {}", self.entry_text(entry))));
        lines.extend(out.persist.iter().map(|persist| format!("{name} writes {}", self.persist_text(persist))));
        lines.extend(out.load.iter().map(|load| format!("{name} asks for entries {}..={}", load.from, load.upto)));
        lines.extend(out.sends.iter().map(|(to, message)| format!("{name} -> {} {}", self.node_name(*to), self.message_text(message))));
        self.trace.extend(lines);
    }

    fn name(&self, at: NodeAt, group: GroupId) -> String {
        if self.groups.len() == 1 { format!("n{}", at + 1) } else { format!("n{}/{group}", at + 1) }
    }

    fn node_name(&self, id: NodeId) -> String {
        let at = self.nodes.iter().position(|node| node.id == id);
        at.map_or("a stranger".to_owned(), |at| format!("n{}", at + 1))
    }

    fn persist_text(&self, persist: &Persist) -> String {
        let mut text = format!("#{}", persist.ticket);
        if let Some(hard) = persist.hard_state {
            let vote = hard.vote.map_or("-".to_owned(), |vote| self.node_name(vote));
            text += &format!(" term={} vote={vote} commit={}", hard.term, hard.commit);
        }
        if let Some(base) = persist.reset_to {
            text += &format!(" anew behind {base}");
        }
        if let Some(cut) = persist.truncate_from {
            text += &format!(" cut from {cut}");
        }
        text + &self.entries_text(&persist.entries)
    }

    /// As in `n1 n2 (n1 n2 n3) +n4 => n1 n2 n4`: voters, outgoing voters, learners, goal.
    pub fn members_text(&self, membership: &Membership) -> String {
        let names = |nodes: &[NodeId]| nodes.iter().map(|node| self.node_name(*node)).collect::<Vec<_>>().join(" ");
        let mut text = names(membership.voters());
        if membership.is_joint() {
            text += &format!(" ({})", names(membership.outgoing()));
        }
        if !membership.learners().is_empty() {
            text += &format!(" +{}", names(membership.learners()));
        }
        if let Some(goal) = membership.goal() {
            text += &format!(" => {}", names(goal.voters()));
        }
        text
    }

    fn entry_text(&self, entry: &Entry) -> String {
        match entry.kind {
            EntryKind::Noop => format!("{} noop", entry.position()),
            EntryKind::Membership => {
                let members = Membership::decode(&entry.data).map_or("unreadable".to_owned(), |members| self.members_text(&members));
                format!("{} members {members}", entry.position())
            }
            EntryKind::Command if entry.data.len() > 20 => format!("{} ({} bytes)", entry.position(), entry.data.len()),
            EntryKind::Command => format!("{} {}", entry.position(), String::from_utf8_lossy(&entry.data)),
        }
    }

    fn entries_text(&self, entries: &[Entry]) -> String {
        if entries.is_empty() {
            return String::new();
        }
        let texts: Vec<String> = entries.iter().map(|entry| self.entry_text(entry)).collect();
        format!(" [{}]", texts.join(", "))
    }

    fn message_text(&self, message: &Message) -> String {
        let rest = match &message.body {
            Body::PreVote { last } | Body::Vote { last } | Body::VoteByLeave { last } => format!("last={last}"),
            Body::PreVoteReply { granted } | Body::VoteReply { granted } => if *granted { "granted" } else { "refused" }.to_owned(),
            Body::Append { prev, entries, commit } => format!("prev={prev} commit={commit}{}", self.entries_text(entries)),
            Body::AppendReply(AppendOutcome::Matched { matched }) => format!("matched={matched}"),
            Body::AppendReply(AppendOutcome::Refused { prev, hint }) => format!("refused prev={prev} hint={hint}"),
            Body::AppendReply(AppendOutcome::Stale) => "stale".to_owned(),
            Body::Heartbeat(Heartbeat { commit, round }) => format!("round={round} commit={commit}"),
            Body::HeartbeatReply(HeartbeatReply { round, matched, received }) => {
                format!("round={round} matched={matched} received={received}")
            }
            Body::TimeoutNow => return format!("timeout_now term={}", message.term),
            Body::Snapshot(snapshot) => format!("at={} members {}", snapshot.position, self.members_text(&snapshot.membership)),
        };
        format!("{} term={} {rest}", message.body.name(), message.term)
    }
}

/// When every world begins.
const START: Instant = Instant::from_us(1_000_000);

/// The id of the node at a place.
pub fn node_id(at: NodeAt) -> NodeId {
    let n = at as u64 + 1;
    NodeId::new(Timestamp::from_us(n * 1_000), Slot::truncate(0), n)
}
