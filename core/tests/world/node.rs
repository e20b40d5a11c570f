//! One node of the world: shards, consensus, a log store and a compiler, joined by lanes instead of threads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use distric_core::node::checkpoint::{Checkpoint, Restored};
use distric_core::node::compile::{check_change, compile};
use distric_core::node::consensus::{Consensus, ConsensusOptions, ConsensusOutputs, Export, LogReport, LogWrite};
use distric_core::node::letters::{CompilerLetter, ConnId, ConsensusLetter, ShardLetter};
use distric_core::node::machine_clock::Now;
use distric_core::node::meta::Init;
use distric_core::node::owner_of;
use distric_core::node::peer::{Member, PeerLetter};
use distric_core::node::rule_sets::RuleSets;
use distric_core::node::shard::{Note, Shard, ShardOptions, ShardOutputs, own_record};
use distric_model::{GroupId, Instant, NodeId};
use distric_raft::{Entry, Install, Load, LogIndex, Membership, Recovered, Snapshot};
use distric_raft_store::{GroupWrite, LogStore, MemoryStateStore, MemoryStore, OwnedRecord, RecordIter, StateStore};
use distric_rules::Catalog;

use super::Setup;

/// Who sends and who receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Actor {
    Shard(usize),
    Raft,
    Log,
    /// The writer of checkpoints.
    State,
    Compiler,
    Peer(usize),
    Conn(u64),
}

/// From, to, and the class: what keeps its order.
pub type Lane = (Actor, Actor, u8);

/// Anything that travels.
#[derive(Debug)]
pub enum Letter {
    Shard(ShardLetter),
    Consensus(ConsensusLetter),
    Write(LogWrite),
    Load(GroupId, Load),
    Flush,
    Report(GroupId, LogReport),
    Loaded(GroupId, Vec<Entry>),
    Compiler(CompilerLetter),
    Peer(PeerLetter),
    Checkpoint(Checkpoint),
    Export(Export),
    /// A snapshot is wanted from another node; the world brings it.
    Fetch(GroupId, Install),
    Checkpointed(GroupId, Snapshot),
    Exported(Export, Option<Snapshot>),
    /// Fetched and durable, with its machine; or not to be had.
    Installed(GroupId, Install, Option<Restored>),
    Open,
    /// Bytes of a connection, in either direction.
    Bytes(Vec<u8>),
    /// The end of a connection, in either direction.
    End,
}

/// The lanes of a node, each in order; the arrival numbers are of the whole world.
#[derive(Default)]
pub struct Lanes {
    queues: BTreeMap<Lane, VecDeque<(u64, Letter)>>,
    pub arrivals: u64,
}

impl Lanes {
    pub fn push(&mut self, from: Actor, to: Actor, class: u8, letter: Letter) {
        self.arrivals += 1;
        self.queues.entry((from, to, class)).or_default().push_back((self.arrivals, letter));
    }

    /// The lanes that hold something, with the arrival of their first letter.
    pub fn fronts(&self) -> impl Iterator<Item = (Lane, u64, &Letter)> {
        self.queues.iter().filter_map(|(lane, queue)| queue.front().map(|(arrival, letter)| (*lane, *arrival, letter)))
    }

    pub fn pop(&mut self, lane: Lane) -> Letter {
        let queue = self.queues.get_mut(&lane).expect("only lanes that hold something are popped");
        let (_, letter) = queue.pop_front().expect("only lanes that hold something are popped");
        if queue.is_empty() {
            self.queues.remove(&lane);
        }
        letter
    }
}

/// What a node takes for the time: from where it last changed its rate, so many thousandths of the world's speed. Never goes back.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    world: Instant,
    own: Instant,
    permille: u64,
}

impl Clock {
    const TRUE: Self = Self { world: Instant::from_us(0), own: Instant::from_us(0), permille: 1_000 };

    pub fn at(&self, world: Instant) -> Instant {
        self.own.plus_us(world.since_us(self.world) * self.permille / 1_000)
    }

    /// When this clock shows `own`, or the next microsecond after.
    pub fn world_at(&self, own: Instant) -> Instant {
        self.world.plus_us((own.since_us(self.own) * 1_000).div_ceil(self.permille))
    }

    pub fn set_rate(&mut self, world: Instant, permille: u64) {
        *self = Self { world, own: self.at(world), permille };
    }
}

/// What lives in memory only.
pub struct Life {
    pub shards: Vec<Shard>,
    consensus: Consensus,
    conns: BTreeMap<u64, Conn>,
    linked: Vec<usize>,
}

struct Conn {
    shard: usize,
    received: Vec<u8>,
    ended: bool,
}

/// A node, running or not.
pub struct Node {
    pub id: NodeId,
    number: usize,
    pub life: Option<Life>,
    pub store: MemoryStore,
    pub states: MemoryStateStore,
    /// Copies of checkpoints for other nodes; gone with the process.
    pub exported: BTreeMap<GroupId, MemoryStateStore>,
    /// What the log store may let go, once nothing waits for a flush.
    purges: BTreeMap<GroupId, LogIndex>,
    pub lanes: Lanes,
    pub notes: Vec<Note>,
    /// Nothing becomes durable while this is set.
    pub hold_flush: bool,
    pub clock: Clock,
    unreported: Vec<(GroupId, LogReport)>,
    boots: u64,
    /// Who founds the cluster.
    voters: Vec<NodeId>,
    /// Everybody who ever takes part, by number.
    everybody: Vec<NodeId>,
    /// One letter of this node travels in so many microseconds; 0: as fast as the others'.
    pub letter_us: u64,
    /// When the next letter of a slow node may travel.
    pub letter_at: Instant,
    out: ShardOutputs,
    raft_out: ConsensusOutputs,
    sets: RuleSets,
}

impl Node {
    /// The first `founders` of `everybody` found the cluster; the others join it.
    pub fn new(number: usize, founders: usize, everybody: Vec<NodeId>) -> Self {
        Self {
            id: everybody[number],
            voters: everybody[..founders].to_vec(),
            everybody,
            letter_us: 0,
            letter_at: Instant::from_us(0),
            number,
            life: None,
            store: MemoryStore::new(),
            states: MemoryStateStore::new(),
            exported: BTreeMap::new(),
            purges: BTreeMap::new(),
            lanes: Lanes::default(),
            notes: Vec::new(),
            hold_flush: false,
            clock: Clock::TRUE,
            unreported: Vec::new(),
            boots: 0,
            out: ShardOutputs::default(),
            raft_out: ConsensusOutputs::default(),
            sets: RuleSets::default(),
        }
    }

    /// Starts the node on whatever its store holds.
    pub fn start(&mut self, now: Now, setup: &Setup) {
        assert!(self.life.is_none(), "a node is started once");
        self.boots += 1;
        self.sets = RuleSets::default();
        let boot = setup.seed.wrapping_mul(31).wrapping_add(self.boots * 1_000 + self.number as u64);
        let mut groups = self.store.recover().expect("memory does not rot");
        if groups.is_empty() && !self.voters.contains(&self.id) {
            // It has found a cluster to join, and waits to be filled.
            groups.push((GroupId::META, Recovered::default()));
        }
        if groups.is_empty() {
            let founding = Recovered::founding(&Membership::new(self.voters.clone(), Vec::new()).expect("distinct voters"));
            let write = GroupWrite {
                group: GroupId::META,
                hard_state: Some(founding.hard_state),
                entries: founding.tail.clone(),
                ..GroupWrite::default()
            };
            self.store.write(&[write]).expect("memory takes every write");
            groups.push((GroupId::META, founding));
        }
        let mut consensus = Consensus::new(ConsensusOptions {
            node: self.id,
            boot,
            shard_count: setup.shards,
            seed: boot ^ 0xc0,
            heartbeat_ms: 50,
            election_timeout_ms_min: 300,
            election_timeout_ms_max: 600,
            lease_ms: setup.lease_ms,
            checkpoints: setup.checkpoints,
        });
        for (group, mut recovered) in groups {
            let opened = match self.states.snapshot(group).cloned() {
                Some(snapshot) => {
                    recovered.checkpoint = Some(snapshot);
                    let state = restored(&self.states, group);
                    consensus.restore_group(now, group, recovered, state, &mut self.raft_out)
                }
                None => consensus.open_group(now, group, recovered, &mut self.raft_out),
            };
            opened.expect("what was stored fits together");
        }
        let shards = (0..setup.shards)
            .map(|index| {
                Shard::new(ShardOptions {
                    index,
                    count: setup.shards,
                    node: self.id,
                    node_name: Arc::from("world"),
                    address: Arc::from("127.0.0.1:0"),
                    boot,
                    // Nodes far apart: with neighbouring seeds, two shards of two nodes would draw the same ids.
                    seed: boot ^ (index as u64 + 1) ^ ((self.number as u64) << 32),
                    server_version: "0",
                    frame_bytes_max: distric_model::limits::FRAME_BYTES_MAX,
                    frames_in_flight_max: setup.frames_in_flight_max,
                    bytes_in_flight_max: setup.bytes_in_flight_max,
                    requests_per_second: setup.requests_per_second,
                    init: Init {
                        cluster: setup.cluster(),
                        work_groups: setup.work_groups,
                        voters: self.voters.clone(),
                        members: vec![self.record()],
                    },
                    member: self.record(),
                    settings: setup.settings.clone(),
                    stopwatch: || 0,
                })
            })
            .collect();
        self.life = Some(Life { shards, consensus, conns: BTreeMap::new(), linked: Vec::new() });
        self.after_raft();
    }

    /// The process dies. Of what was written and not flushed, the first `kept` writes reached the disk all the same.
    pub fn crash(&mut self, kept: usize) -> Vec<u64> {
        let life = self.life.take().expect("only a running node crashes");
        self.store.crash_after(kept);
        self.exported.clear();
        self.purges.clear();
        self.lanes.queues.clear();
        self.unreported.clear();
        self.out = ShardOutputs::default();
        self.raft_out = ConsensusOutputs::default();
        self.hold_flush = false;
        life.conns.into_keys().collect()
    }

    /// What it says of itself.
    pub fn record(&self) -> Member {
        own_record(self.id, "world", "127.0.0.1:1", "127.0.0.1:2")
    }

    /// Another node said who it is, as the one that calls does.
    pub fn on_announced(&mut self, member: Member) {
        let Some(life) = &mut self.life else { return };
        life.consensus.on_announced(member, &mut self.raft_out);
        self.after_raft();
    }

    /// The members in force of a group as the replica here knows them; `None`: it runs none.
    pub fn members(&self, group: GroupId) -> Option<Membership> {
        self.status(group).map(|status| status.membership)
    }

    /// A replica here; `None`: there is none.
    pub fn status(&self, group: GroupId) -> Option<distric_raft::Status> {
        let life = self.life.as_ref()?;
        life.consensus.statuses().find(|(found, _)| *found == group).map(|(_, status)| status)
    }

    pub fn is_ready(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.shards.iter().all(Shard::is_ready))
    }

    /// Whether nothing is in flight on any shard: it could stop.
    pub fn is_idle(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.shards.iter().all(Shard::is_idle))
    }

    /// When a shard wants to be called next.
    pub fn shards_wake(&self) -> Option<Instant> {
        self.life.as_ref().and_then(|life| life.shards.iter().filter_map(Shard::next_wake).min())
    }

    /// When anything on this node wants to be called next.
    pub fn next_wake(&self) -> Option<Instant> {
        let raft = self.life.as_ref().and_then(|life| life.consensus.next_wake());
        self.shards_wake().into_iter().chain(raft).min()
    }

    pub fn stats(&mut self) -> Vec<distric_core::node::shard::ShardStats> {
        let life = self.life.as_mut().expect("the node runs");
        life.shards.iter_mut().map(|shard| shard.stats().clone()).collect()
    }

    /// The groups that this node leads.
    pub fn leads(&self) -> Vec<GroupId> {
        let Some(life) = &self.life else { return Vec::new() };
        life.consensus.statuses().filter(|(_, status)| status.leader == Some(self.id)).map(|(group, _)| group).collect()
    }

    /// The same, with the term of each.
    pub fn led(&self) -> Vec<(GroupId, u64)> {
        let Some(life) = &self.life else { return Vec::new() };
        let own = life.consensus.statuses().filter(|(_, status)| status.leader == Some(self.id));
        own.map(|(group, status)| (group, status.term.0)).collect()
    }

    /// Calls whoever's time has come.
    pub fn on_time(&mut self, now: Now) {
        let Some(life) = &mut self.life else { return };
        if life.consensus.next_wake().is_some_and(|at| at <= now.mono) {
            life.consensus.on_time(now, &mut self.raft_out);
            self.after_raft();
        }
        for index in 0..self.life.as_ref().map_or(0, |life| life.shards.len()) {
            let life = self.life.as_mut().expect("looked at above");
            if !life.shards[index].next_wake().is_some_and(|at| at <= now.mono) {
                continue;
            }
            life.shards[index].on_time(now, &mut self.out);
            self.after_shard(now, index);
            let again = self.life.as_ref().expect("still runs").shards[index].next_wake();
            assert!(
                again.is_none_or(|at| at > now.mono),
                "shard {index} is due at {again:?} again, right after its call at {:?}",
                now.mono
            );
        }
    }

    /// Delivers one letter to an actor of this node. Returns false for letters that leave it.
    pub fn deliver(&mut self, now: Now, lane: Lane, letter: Letter) {
        let life = self.life.as_mut().expect("a node that is down has no letters");
        match (lane.1, letter) {
            (Actor::Shard(index), Letter::Shard(letter)) => {
                life.shards[index].on_letter(now, letter, &mut self.out);
                self.after_shard(now, index);
            }
            (Actor::Shard(index), Letter::Open) => {
                let Actor::Conn(conn) = lane.0 else { panic!("only connections open") };
                life.conns.insert(conn, Conn { shard: index, received: Vec::new(), ended: false });
                life.shards[index].on_open(now, ConnId(conn));
                self.after_shard(now, index);
            }
            (Actor::Shard(index), Letter::Bytes(bytes)) => {
                let Actor::Conn(conn) = lane.0 else { panic!("only connections send bytes") };
                self.on_bytes(now, index, conn, &bytes);
            }
            (Actor::Shard(index), Letter::End) => {
                let Actor::Conn(conn) = lane.0 else { panic!("only connections end") };
                self.on_end(now, index, conn);
            }
            (Actor::Raft, letter) => {
                match letter {
                    Letter::Consensus(letter) => life.consensus.on_letter(now, letter, &mut self.raft_out),
                    Letter::Report(group, report) => life.consensus.on_report(now, group, report, &mut self.raft_out),
                    Letter::Loaded(group, entries) => life.consensus.on_loaded(now, group, entries, &mut self.raft_out),
                    Letter::Checkpointed(group, at) => life.consensus.on_checkpointed(now, group, &at, &mut self.raft_out),
                    Letter::Exported(export, snapshot) => {
                        life.consensus.on_exported(now, export.group, export.to, snapshot, &mut self.raft_out);
                    }
                    Letter::Installed(group, install, Some(state)) => {
                        life.consensus.on_installed(now, group, install.snapshot, state, &mut self.raft_out);
                    }
                    Letter::Installed(group, install, None) => {
                        life.consensus.on_install_failed(now, group, install.from, &mut self.raft_out);
                    }
                    Letter::Peer(..) => panic!("the world hands letters of peers over"),
                    other => panic!("not for the raft core: {other:?}"),
                }
                life.consensus.flush(now, &mut self.raft_out);
                self.after_raft();
            }
            (Actor::Log, Letter::Write(write)) => {
                let LogWrite { group, hard_state, reset_to, truncate_from, entries, report } = write;
                self.store.stage(vec![GroupWrite { group, hard_state, reset_to, truncate_from, entries }]);
                self.unreported.push((group, report));
                if self.unreported.len() == 1 {
                    self.lanes.push(Actor::Log, Actor::Log, 0, Letter::Flush);
                }
            }
            (Actor::Log, Letter::Load(group, load)) => {
                let entries = self.store.read(group, load.from, load.upto, load.bytes_max).expect("memory reads");
                self.lanes.push(Actor::Log, Actor::Raft, 1, Letter::Loaded(group, entries));
            }
            (Actor::Log, Letter::Flush) => {
                self.store.flush();
                self.purge();
                for (group, report) in self.unreported.drain(..) {
                    self.lanes.push(Actor::Log, Actor::Raft, 0, Letter::Report(group, report));
                }
            }
            (Actor::State, Letter::Checkpoint(Checkpoint { group, snapshot, changes })) => {
                self.states.commit(group, &snapshot, &changes).expect("memory takes every write");
                let stored = self.states.snapshot(group).expect("just committed").clone();
                self.lanes.push(Actor::State, Actor::Raft, 1, Letter::Checkpointed(group, stored));
            }
            (Actor::State, Letter::Export(export)) => {
                let kept = self.exported.get(&export.group).and_then(|copy| copy.snapshot(export.group));
                if kept.is_none_or(|kept| kept.position.index < export.at_least) {
                    self.exported.insert(export.group, self.states.clone());
                }
                let snapshot = self.exported[&export.group].snapshot(export.group).cloned();
                self.lanes.push(Actor::State, Actor::Raft, 1, Letter::Exported(export, snapshot));
            }
            (Actor::Compiler, Letter::Compiler(letter)) => {
                let mut settled = None;
                let answer = match letter {
                    CompilerLetter::Check { from, request, base, tries } => {
                        let verdict = Box::new(check_change(&request, &base, &mut self.sets));
                        ShardLetter::Checked { from, request, base, tries, verdict }
                    }
                    CompilerLetter::Compile { source } => {
                        let compiled = compile(&source, &mut self.sets).map(Arc::new);
                        settled = self.sets.layered().map(|(namespace, set)| (namespace, set, source));
                        ShardLetter::Compiled(compiled)
                    }
                };
                let seat = owner_of(GroupId::META, life.shards.len());
                self.lanes.push(Actor::Compiler, Actor::Shard(seat), 1, Letter::Shard(answer));
                if let Some((namespace, set, source)) = settled {
                    self.sets.settle(&namespace, Catalog::compile(0, &set).expect("what is laid over another compiles"));
                    let view = compile(&source, &mut self.sets).expect("it compiled before");
                    self.lanes.push(Actor::Compiler, Actor::Shard(seat), 1, Letter::Shard(ShardLetter::Settled(Arc::new(view))));
                }
            }
            (to, letter) => panic!("{letter:?} is not for {to:?}"),
        }
    }

    /// Lets go of what is compacted. Not while something waits for a flush: this would be one.
    fn purge(&mut self) {
        if self.store.staged_count() == 0 {
            while let Some((group, upto)) = self.purges.pop_first() {
                self.store.truncate_prefix(group, upto).expect("memory takes every write");
            }
        }
    }

    /// The snapshot wanted in [`Letter::Fetch`] arrives with the records of the other node's copy, or it does not.
    pub fn on_fetched(&mut self, group: GroupId, install: Install, from: Option<MemoryStateStore>) {
        let outrun = self.life.as_ref().expect("the node runs").consensus.has_outrun(group, &install);
        let fits = |store: &MemoryStateStore| store.snapshot(group) == Some(&install.snapshot);
        let state = from.filter(|store| !outrun && fits(store)).and_then(|store| {
            let mut records: Vec<OwnedRecord> = Vec::new();
            let mut take = |found: &mut RecordIter<'_>| records.extend(found.map(|(key, value)| (key.to_vec(), value.to_vec())));
            store.read(group, &mut take).expect("memory reads");
            let mut records = records.into_iter().map(Ok);
            let replaced = self.states.replace(group, &install.snapshot, 0, &mut records).expect("memory takes every write");
            replaced.then(|| restored(&self.states, group))
        });
        self.lanes.push(Actor::State, Actor::Raft, 1, Letter::Installed(group, install, state));
    }

    /// A letter of a peer.
    pub fn on_peer(&mut self, now: Now, from: NodeId, letter: PeerLetter) {
        let Some(life) = &mut self.life else { return };
        life.consensus.on_peer(now, from, letter, &mut self.raft_out);
        life.consensus.flush(now, &mut self.raft_out);
        self.after_raft();
    }

    /// Those of these nodes that this one was not connected to.
    pub fn not_linked(&self, linked: &[usize]) -> Vec<usize> {
        let Some(life) = &self.life else { return Vec::new() };
        linked.iter().filter(|other| !life.linked.contains(other)).copied().collect()
    }

    /// The nodes that this one is connected to now.
    pub fn on_links(&mut self, now: Now, linked: Vec<usize>) {
        let Some(life) = self.life.as_mut().filter(|life| life.linked != linked) else { return };
        for (number, node) in self.everybody.iter().enumerate() {
            let (is, was) = (linked.contains(&number), life.linked.contains(&number));
            if is != was {
                life.consensus.on_link(now, *node, is);
            }
        }
        life.linked = linked;
        life.consensus.flush(now, &mut self.raft_out);
        self.after_raft();
    }

    fn on_bytes(&mut self, now: Now, index: usize, conn: u64, bytes: &[u8]) {
        let life = self.life.as_mut().expect("the node runs");
        let Some(state) = life.conns.get_mut(&conn).filter(|state| !state.ended) else { return };
        state.received.extend_from_slice(bytes);
        let received = std::mem::take(&mut state.received);
        let mut at = 0;
        loop {
            let life = self.life.as_mut().expect("the node runs");
            let limits = life.shards[index].frame_limits(ConnId(conn));
            match distric_wire::parse(&received[at..], limits) {
                Ok(Some((frame, consumed))) => {
                    at += consumed;
                    life.shards[index].on_frame(now, ConnId(conn), &frame, &mut self.out);
                    self.after_shard(now, index);
                }
                Ok(None) => break,
                Err(error) => {
                    at = received.len();
                    life.shards[index].on_frame_error(now, ConnId(conn), &error, &mut self.out);
                    self.after_shard(now, index);
                    break;
                }
            }
        }
        if let Some(state) = self.life.as_mut().expect("the node runs").conns.get_mut(&conn) {
            state.received = received[at..].to_vec();
        }
    }

    fn on_end(&mut self, now: Now, index: usize, conn: u64) {
        let life = self.life.as_mut().expect("the node runs");
        if life.conns.remove(&conn).is_some() {
            life.shards[index].on_closed(ConnId(conn), &mut self.out);
            self.after_shard(now, index);
        }
    }

    /// The end of a shard's turn, as the reactor has it.
    fn after_shard(&mut self, now: Now, index: usize) {
        let Self { life, out, lanes, notes, .. } = self;
        let life = life.as_mut().expect("the node runs");
        let me = Actor::Shard(index);
        while !out.to_shards.is_empty() {
            for (to, class, letter) in std::mem::take(&mut out.to_shards) {
                if to == index {
                    life.shards[index].on_letter(now, letter, out);
                } else {
                    lanes.push(me, Actor::Shard(to), class as u8, Letter::Shard(letter));
                }
            }
        }
        for letter in out.to_consensus.drain(..) {
            lanes.push(me, Actor::Raft, 0, Letter::Consensus(letter));
        }
        for checkpoint in out.checkpoints.drain(..) {
            lanes.push(me, Actor::State, 0, Letter::Checkpoint(checkpoint));
        }
        for letter in out.to_compiler.drain(..) {
            lanes.push(me, Actor::Compiler, 0, Letter::Compiler(letter));
        }
        for (conn, bytes) in out.frames() {
            if life.conns.get(&conn.0).is_some_and(|state| !state.ended) {
                lanes.push(me, Actor::Conn(conn.0), 0, Letter::Bytes(bytes.to_vec()));
            }
        }
        out.clear_frames();
        let mut ended = Vec::new();
        for conn in out.closes.drain(..) {
            if let Some(state) = life.conns.get_mut(&conn.0).filter(|state| !state.ended) {
                assert_eq!(state.shard, index, "a shard closes its own connections");
                state.ended = true;
                lanes.push(me, Actor::Conn(conn.0), 0, Letter::End);
                ended.push(conn.0);
            }
        }
        notes.append(&mut out.notes);
        // The reader of a closed connection ends, and says so on the lane of its bytes.
        for conn in ended {
            lanes.push(Actor::Conn(conn), me, 0, Letter::End);
        }
    }

    fn after_raft(&mut self) {
        let Self { raft_out, lanes, everybody, .. } = self;
        for write in raft_out.writes.drain(..) {
            lanes.push(Actor::Raft, Actor::Log, 0, Letter::Write(write));
        }
        for (group, load) in raft_out.loads.drain(..) {
            lanes.push(Actor::Raft, Actor::Log, 0, Letter::Load(group, load));
        }
        self.purges.extend(raft_out.purges.drain(..));
        for export in raft_out.exports.drain(..) {
            lanes.push(Actor::Raft, Actor::State, 0, Letter::Export(export));
        }
        for (group, install) in raft_out.installs.drain(..) {
            lanes.push(Actor::Raft, Actor::State, 0, Letter::Fetch(group, install));
        }
        for (shard, class, letter) in raft_out.letters.drain(..) {
            lanes.push(Actor::Raft, Actor::Shard(shard), class as u8, Letter::Shard(letter));
        }
        for (to, letter) in raft_out.sends.drain(..) {
            let peer = everybody.iter().position(|node| *node == to).expect("replicas talk to those that there are");
            lanes.push(Actor::Raft, Actor::Peer(peer), 0, Letter::Peer(letter));
        }
        self.purge();
    }

    /// Everything durable of a group's log, behind what is compacted.
    pub fn log(&mut self, group: GroupId) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let first = self.store.base(group).map_or(LogIndex(1), |base| base.index.next());
            let from = entries.last().map_or(first, |entry| entry.index.next());
            let more = self.store.read(group, from, LogIndex(u64::MAX - 1), 1 << 20).expect("memory reads");
            if more.is_empty() {
                return entries;
            }
            entries.extend(more);
        }
    }
}

/// The machine of a group as its checkpoint has it.
pub fn restored(states: &MemoryStateStore, group: GroupId) -> Restored {
    let mut made = None;
    states.read(group, &mut |records| made = Some(Restored::of(group, records))).expect("memory reads");
    made.expect("the records were lent").expect("what a machine told makes a machine")
}
