//! One storm over three nodes: clients, workers, links, disks, clocks and nodes fail as the seed wants; then everything heals, or one
//! node stays down for ever, and nothing acknowledged may be lost, doubled or invisible.

use std::collections::{BTreeMap, BTreeSet};

use distric_core::node::consensus::CheckpointPolicy;
use distric_core::node::draw::Draws;
use distric_model::{GroupId, NodeId};
use distric_raft_store::{GroupWrite, LogStore};
use distric_wire::Code;
use distric_wire::client::{Command, CommandKind, Query, QueryKind, Submit};

use crate::diary::Diary;
use crate::linear::{self, Operation, is_linearizable};
use crate::world::said::Response;
use crate::world::{ClientId, Ending, Habit, Said, Setup, World, catalog_body, diligent, hello, keyed};

const RULES: &str = "
rules:
  - { id: orders, event_type: order, actions: [{ workflow: ship }] }
";

const WORKFLOWS: &str = "
workflows:
  - id: ship
    tasks:
      - { id: pack, type: job, retry: { max_attempts: 30, initial_backoff: 50ms, max_backoff: 400ms } }
      - { id: send, type: job, depends_on: [pack], retry: { max_attempts: 30, initial_backoff: 50ms, max_backoff: 400ms } }
";

const NODES: usize = 3;
const GROUPS: u32 = 2;
/// Things that happen in one storm.
const ACTS: usize = 250;
/// How fast a node's clock may run, in thousandths of the world's.
const CLOCK_RATES_PERMILLE: [u64; 5] = [1_000, 900, 990, 1_010, 1_100];
/// A calm cluster has a leader of every group, and everything applied everywhere, within this.
const CALM_MS: u64 = 30_000;

/// How often each kind of fault and of outcome was met; a batch in which one never was is red.
#[derive(Clone, Debug, Default)]
pub struct Met(BTreeMap<&'static str, u64>);

/// Everything that a batch has to meet.
const KINDS: [&str; 24] = [
    "acknowledged",
    "all nodes crash",
    "calendar jumps",
    "checkpoint",
    "clock drifts",
    "lead moves",
    "client leaves",
    "connection lost",
    "crash",
    "disk rots",
    "histories checked",
    "cut",
    "disk stands still",
    "loss",
    "node down for ever",
    "outcome unknown",
    "read",
    "refused for now",
    "restart",
    "worker crashes",
    "worker falls silent",
    "worker dials again",
    "write torn",
    "write kept over a crash",
];

impl Met {
    fn note(&mut self, kind: &'static str) {
        debug_assert!(KINDS.contains(&kind), "{kind} is not listed");
        *self.0.entry(kind).or_default() += 1;
    }

    /// Adds what another storm met.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    /// Each kind with its count, those never met too.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        KINDS.iter().map(|kind| (*kind, self.0.get(kind).copied().unwrap_or_default()))
    }
}

/// What a storm came to.
pub struct Outcome {
    /// Equal for two runs of a seed.
    pub hash: u64,
    /// Virtual time from start to end, milliseconds.
    pub simulated_ms: u64,
    /// What was met.
    pub met: Met,
}

/// Runs the storm of a seed. Panics, with the last lines of its diary on standard error, where a promise is broken.
pub fn run(seed: u64) -> Outcome {
    let mut storm = Storm::new(seed);
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        storm.blow();
        storm.calm();
    }));
    if let Err(panic) = ran {
        eprintln!("{}\nreplay with: cargo xtask sim --seed {seed}", storm.diary.tail(DIARY_LINES));
        std::panic::resume_unwind(panic);
    }
    Outcome { hash: storm.diary.hash, simulated_ms: storm.world.mono.as_us() / 1_000, met: storm.met }
}

/// Lines of the diary that are printed of a failed storm.
const DIARY_LINES: usize = 60;

/// A question that was asked when something was acknowledged already.
enum Asked {
    Submit { key: u64 },
    Message { key: u64 },
}

struct Storm {
    world: World,
    diary: Diary,
    draws: Draws,
    clients: Vec<ClientId>,
    /// Sent and not answered.
    open: Vec<(ClientId, u64, Asked, u64)>,
    /// What was asked about each key, and what was told.
    histories: BTreeMap<u64, Vec<Operation>>,
    sent: BTreeSet<u64>,
    acknowledged: BTreeMap<u64, Response>,
    /// Who led a group in a term.
    leaders: BTreeMap<(GroupId, u64), NodeId>,
    met: Met,
}

/// Mostly done, sometimes late, failed or given back.
fn moody(seed: u64) -> Habit {
    let mut draws = Draws::new(seed);
    Box::new(move |assigned| match draws.draw() % 20 {
        0 => Ending::Return,
        1 | 2 => Ending::Fail(draws.draw() % 50, true),
        3 => Ending::Done(500 + draws.draw() % 1_500, format!(r#"{{"by":"{}"}}"#, assigned.task)),
        _ => Ending::Done(draws.draw() % 20, "{}".to_owned()),
    })
}

impl Storm {
    fn new(seed: u64) -> Self {
        let mut draws = Draws::new(seed ^ 0x5707);
        let shards = [1, 1, 2, 3][(draws.draw() % 4) as usize];
        let often = CheckpointPolicy { entries: 30 + draws.draw() % 50, bytes: 1 << 20, keep_entries: draws.draw() % 10 };
        let checkpoints = if draws.draw().is_multiple_of(2) { often } else { CheckpointPolicy::default() };
        let setup = Setup { nodes: NODES, work_groups: GROUPS, checkpoints, traces: true, ..Setup::of(seed, shards) };
        let mut world = World::new(setup);
        let body = catalog_body(Some(RULES), Some(WORKFLOWS));
        let client = world.client_of(0, 0);
        let apply = Command { kind: CommandKind::ApplyCatalog.number(), body: Some(body.as_bytes()), ..Command::default() };
        match world.ask(client, &apply) {
            Said::Reply(reply) => assert_eq!(reply.version, Some(1)),
            other => panic!("the catalog is not taken: {other:?}"),
        }
        // Until every node has it, a message may find the catalog before this one.
        world.run_ms(1_000);
        for worker in 0..NODES as u64 {
            let number = world.worker(0, &["job"], moody(seed ^ (worker + 1)));
            world.workers[number].node = (draws.draw() % NODES as u64) as usize;
        }
        Self {
            world,
            diary: Diary::default(),
            draws,
            clients: vec![client],
            open: Vec::new(),
            histories: BTreeMap::new(),
            sent: BTreeSet::new(),
            acknowledged: BTreeMap::new(),
            leaders: BTreeMap::new(),
            met: Met::default(),
        }
    }

    fn draw(&mut self, bound: u64) -> u64 {
        self.draws.draw() % bound.max(1)
    }

    fn note(&mut self, kind: &'static str, what: &str) {
        self.met.note(kind);
        self.diary.note(&self.world, self.sent.len(), self.acknowledged.len(), what);
    }

    /// The storm proper: safety is looked at after every act.
    fn blow(&mut self) {
        for _ in 0..ACTS {
            self.act();
            self.collect();
            self.check_leaders();
        }
    }

    fn act(&mut self) {
        let node = self.draw(NODES as u64) as usize;
        let worker = self.draw(self.world.workers.len() as u64) as usize;
        match self.draw(100) {
            0..=2 => self.crash(node),
            3 if self.draw(4) == 0 => {
                self.note("all nodes crash", "the power fails");
                (0..NODES).for_each(|node| self.crash(node));
            }
            3..=8 => self.restart(node),
            9..=11 => {
                let other = (node + 1) % NODES;
                let links = if self.draw(2) == 0 { vec![(node, other)] } else { vec![(node, other), (node, (node + 2) % NODES)] };
                self.world.cut = links;
                self.note("cut", &format!("n{} is cut off from some", node + 1));
            }
            12..=14 => self.world.cut.clear(),
            15 => self.move_lead(),
            16 | 17 => {
                self.world.loss_percent = [0, 1, 5, 20][self.draw(4) as usize];
                self.note("loss", &format!("{} of 100 letters between nodes are lost", self.world.loss_percent));
            }
            18 => {
                let permille = CLOCK_RATES_PERMILLE[self.draw(CLOCK_RATES_PERMILLE.len() as u64) as usize];
                self.world.set_clock_rate(node, permille);
                self.note("clock drifts", &format!("the clock of n{} runs at {permille} thousandths", node + 1));
            }
            19 => {
                let holds = !self.world.nodes[node].hold_flush;
                self.world.nodes[node].hold_flush = holds && self.world.nodes[node].life.is_some();
                self.note("disk stands still", &format!("the disk of n{} {}", node + 1, if holds { "stands still" } else { "goes on" }));
            }
            20 => {
                // As an operator or a time service sets it, in both directions.
                let (ahead, by_us) = (self.draw(2) == 0, self.draw(5_000_000));
                let offset = self.world.wall_offset_us;
                self.world.wall_offset_us = if ahead { offset + by_us } else { offset - by_us };
                self.note("calendar jumps", "the calendar jumps");
            }
            21 => {
                self.world.workers[worker].restart();
                self.world.workers[worker].node = node;
                self.world.break_worker(worker);
                self.note("worker crashes", "a worker crashes");
            }
            22 => {
                self.world.workers[worker].silent = !self.world.workers[worker].silent;
                self.note("worker falls silent", "a worker falls silent, or speaks again");
            }
            23 | 24 => {
                self.world.workers[worker].node = node;
                let now = self.world.mono;
                self.world.workers[worker].dial_again(now);
                self.note("worker dials again", &format!("a worker dials n{}", node + 1));
            }
            25..=34 => self.arrive(node),
            35..=59 => self.submit(),
            60..=69 => self.ask(),
            70..=89 => {
                let steps = self.draw(80);
                self.world.steps(steps);
            }
            _ => {
                let pause = self.draw(400);
                self.world.run_ms(pause);
            }
        }
    }

    fn crash(&mut self, node: usize) {
        if self.world.nodes[node].life.is_none() {
            return;
        }
        let staged = self.world.nodes[node].store.staged_count() as u64;
        let kept = self.draw(staged + 1) as usize;
        if kept > 0 {
            self.met.note("write kept over a crash");
        }
        // The first that is not kept was cut in the middle: a store finds that by its checksum, and it counts as not there.
        if (kept as u64) < staged {
            self.met.note("write torn");
        }
        self.world.crash_keeping(node, kept);
        self.note("crash", &format!("n{} crashes; {kept} of {staged} writes are kept", node + 1));
    }

    fn restart(&mut self, node: usize) {
        if self.world.nodes[node].life.is_none() {
            self.world.start(node);
            self.note("restart", &format!("n{} starts", node + 1));
        }
    }

    /// A client connects; the oldest leaves when there are many.
    fn arrive(&mut self, node: usize) {
        if self.world.nodes[node].life.is_none() {
            return;
        }
        let shard = self.draw(self.world.setup.shards as u64) as usize;
        let client = self.world.stranger(node, shard);
        self.world.send(client, &hello());
        self.clients.push(client);
        if self.clients.len() > 5 {
            let gone = self.clients.remove(0);
            self.world.close(gone);
            self.met.note("client leaves");
        }
    }

    fn someone(&mut self) -> Option<ClientId> {
        let at = self.draw(self.clients.len() as u64) as usize;
        self.clients.get(at).copied().filter(|client| self.world.clients[*client].is_open)
    }

    /// A new message, or one whose answer did not come, over any connection.
    fn submit(&mut self) {
        let Some(client) = self.someone() else { return };
        let recent = self.sent.len() as u64 * 3 / 4;
        let key = recent + self.draw(self.sent.len() as u64 / 4 + 6);
        self.send(client, key);
    }

    fn send(&mut self, client: ClientId, key: u64) {
        let resend = !self.sent.insert(key);
        let (name, payload) = (format!("key-{key}"), format!(r#"{{"n":{key}}}"#));
        let id = self.world.send(client, &Submit { resend, ..keyed("order", &payload, &name) });
        self.open.push((client, id, Asked::Submit { key }, self.world.mono.as_us()));
    }

    /// Asks any node for a message that was acknowledged before: it is there, or there is no answer for now.
    fn ask(&mut self) {
        let at = self.draw(self.acknowledged.len() as u64) as usize;
        let Some((key, known)) = self.acknowledged.iter().nth(at).map(|(key, known)| (*key, known.message_id)) else { return };
        let Some(client) = self.someone() else { return };
        let id = self.world.send(client, &Query { kind: QueryKind::Message.number(), id: Some(known), ..Query::default() });
        self.open.push((client, id, Asked::Message { key }, self.world.mono.as_us()));
    }

    fn collect(&mut self) {
        let mut still = Vec::new();
        for (client, id, asked, asked_at_us) in std::mem::take(&mut self.open) {
            let now_us = self.world.mono.as_us();
            let operation =
                |asked, told, is_answered: bool| Operation { asked, asked_at_us, answered_at_us: is_answered.then_some(now_us), told };
            match (self.world.took(client, id), asked) {
                (Some(Said::Response(response)), Asked::Submit { key }) => {
                    self.record(key, operation(linear::Asked::Put, Some(response.message_id), true));
                    self.on_acknowledged(key, response);
                }
                (Some(Said::Reply(reply)), Asked::Message { key }) => {
                    assert_eq!(reply.body["payload"]["n"], key, "another message was found");
                    let told = reply.body["message_id"].as_str().and_then(|id| id.parse().ok());
                    assert!(told.is_some(), "a message has an id: {}", reply.body);
                    self.record(key, operation(linear::Asked::Get, told, true));
                    self.met.note("read");
                }
                (Some(Said::Rejection(refused)), asked) => match refused.code {
                    Code::OutcomeUnknown => {
                        if let Asked::Submit { key } = asked {
                            self.record(key, operation(linear::Asked::Put, None, false));
                        }
                        self.met.note("outcome unknown");
                    }
                    Code::WrongLeader | Code::Unavailable | Code::Overloaded | Code::TooManyInFlight => self.met.note("refused for now"),
                    code => {
                        let key = match asked {
                            Asked::Submit { key } | Asked::Message { key } => key,
                        };
                        panic!("key {key}: {code}: {}", refused.reason);
                    }
                },
                (Some(other), _) => panic!("{other:?}"),
                (None, asked) if self.world.clients[client].is_open => still.push((client, id, asked, asked_at_us)),
                (None, asked) => {
                    if let Asked::Submit { key } = asked {
                        self.record(key, operation(linear::Asked::Put, None, false));
                    }
                    self.met.note("connection lost");
                }
            }
        }
        self.open = still;
    }

    fn record(&mut self, key: u64, operation: Operation) {
        self.histories.entry(key).or_default().push(operation);
    }

    /// Hands a lead to another node, as an operator would.
    fn move_lead(&mut self) {
        let group = 1 + self.draw(u64::from(GROUPS)) as u32;
        let target = self.draw(NODES as u64) as usize;
        let Some(client) = self.someone() else { return };
        let (name, id) = (group.to_string(), self.world.nodes[target].id.uuid());
        self.world
            .send(client, &Command { kind: CommandKind::TransferLeader.number(), name: Some(&name), id: Some(id), ..Command::default() });
        self.note("lead moves", &format!("group {group} is to be led by n{}", target + 1));
    }

    /// One key has one fate, whoever says it and how often.
    fn on_acknowledged(&mut self, key: u64, response: Response) {
        assert_eq!(response.instances.len(), 1, "key {key} starts one instance");
        let is_news = !self.acknowledged.contains_key(&key);
        let known = self.acknowledged.entry(key).or_insert_with(|| response.clone());
        assert_eq!((known.message_id, &known.instances), (response.message_id, &response.instances), "key {key} has two fates");
        if is_news {
            self.note("acknowledged", &format!("key {key} is acknowledged"));
        }
    }

    /// Election safety: one leader of a group in a term.
    fn check_leaders(&mut self) {
        for node in &self.world.nodes {
            for (group, term) in node.led() {
                let leader = *self.leaders.entry((group, term)).or_insert(node.id);
                assert_eq!(leader, node.id, "two leaders of {group} in term {term}");
            }
        }
    }

    /// The storm is over; in a part of the seeds one node stays down for ever.
    fn calm(&mut self) {
        self.world.cut.clear();
        self.world.loss_percent = 0;
        let lost = (self.draw(3) == 0).then(|| self.draw(NODES as u64) as usize);
        let checkpoints = (0..NODES).flat_map(|node| (1..=GROUPS).map(move |group| (node, group)));
        let stored = |(node, group): &(usize, u32)| {
            distric_raft_store::StateStore::snapshot(&self.world.nodes[*node].states, GroupId(*group)).is_some()
        };
        for _ in 0..checkpoints.filter(stored).count() {
            self.met.note("checkpoint");
        }
        let living: Vec<usize> = (0..NODES).filter(|node| Some(*node) != lost).collect();
        for node in 0..NODES {
            self.world.nodes[node].hold_flush = false;
            self.world.set_clock_rate(node, 1_000);
            if Some(node) == lost {
                self.crash(node);
                self.rot(node);
                self.note("node down for ever", &format!("n{} stays down", node + 1));
            } else {
                self.restart(node);
            }
        }
        let now = self.world.mono;
        // A worker is served by the leaders on the node that it is connected to.
        for (number, worker) in self.world.workers.iter_mut().enumerate() {
            worker.silent = false;
            worker.habit = diligent(1);
            worker.node = living[number % living.len()];
            worker.dial_again(now);
        }
        let awake = living.clone();
        self.world.until(CALM_MS, "the nodes are ready", move |world| awake.iter().all(|node| world.nodes[*node].is_ready()));
        self.world.run_ms(CALM_MS);
        self.collect();
        self.check_leaders();
        // Whatever became of a message, said again it is in, once.
        let client = self.world.client_of(living[1], 0);
        for key in self.sent.clone() {
            for turn in 0.. {
                assert!(turn < 50, "key {key} is not taken by a calm cluster");
                self.send(client, key);
                self.world.run_ms(20);
                self.collect();
                if self.acknowledged.contains_key(&key) && self.open.is_empty() {
                    break;
                }
                self.world.run_ms(200);
            }
        }
        self.world.run_ms(CALM_MS);
        self.collect();
        self.check_agreement(&living);
        self.diary.note(&self.world, self.sent.len(), self.acknowledged.len(), "calm");
    }

    /// The disk of a node that is down loses what it had promised to keep: the node must not start with that. Whole clusters of it do not lie.
    fn rot(&mut self, node: usize) {
        let group = GroupId(self.draw(u64::from(GROUPS) + 1) as u32);
        let store = &mut self.world.nodes[node].store;
        let Some((hard_state, last)) = store.durable(group) else { return };
        let base = store.base(group).unwrap_or_default().index;
        if !(hard_state.commit > base && hard_state.commit <= last.index) {
            return;
        }
        let cut = GroupWrite { group, truncate_from: Some(hard_state.commit), ..GroupWrite::default() };
        store.write(&[cut]).expect("memory takes every write");
        let refused = store.recover().expect_err("a log without a committed entry is no log to start with");
        self.note("disk rots", &format!("n{} would not start: {refused}", node + 1));
    }

    /// Nothing is lost, doubled or left over, and the replicas are equal.
    fn check_agreement(&mut self, living: &[usize]) {
        assert_eq!(self.acknowledged.len(), self.sent.len(), "everything that was sent is in");
        let mut instances: BTreeSet<uuid::Uuid> = BTreeSet::new();
        for (key, response) in &self.acknowledged {
            assert!(instances.insert(response.instances[0]), "key {key} shares its instance with another");
        }
        let client = self.world.client_of(living[0], 0);
        let rows = self.world.instances_of(client, "ship");
        assert_eq!(rows.len(), instances.len(), "an instance for every key, and none besides");
        let unfinished: Vec<&serde_json::Value> = rows.iter().filter(|row| row["ended_at_us"].is_null()).collect();
        if let Some(one) = unfinished.first() {
            let id = one["id"].as_str().and_then(|id| id.parse().ok());
            let view = self.world.look(client, QueryKind::Instance, id);
            let workers = self.world.look(client, QueryKind::Workers, None);
            panic!("{} of {} instances have not ended, as this one: {view:#}\nworkers: {workers:#}", unfinished.len(), rows.len());
        }
        for group in 1..=GROUPS {
            let digests: Vec<(u64, u64)> = living
                .iter()
                .map(|node| {
                    let machine = self.world.machine(*node, group);
                    (machine.applied_index(), machine.digest())
                })
                .collect();
            assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "the replicas of group {group} differ: {digests:?}");
            let leaders = living.iter().filter(|node| self.world.nodes[**node].leads().contains(&GroupId(group))).count();
            assert_eq!(leaders, 1, "group {group} has {leaders} leaders");
        }
        for (key, history) in &self.histories {
            assert!(is_linearizable(history), "no order explains what was told about key {key}: {history:#?}");
        }
        self.met.note("histories checked");
        let mut effects: BTreeMap<uuid::Uuid, u64> = BTreeMap::new();
        for (task, token) in self.world.workers.iter().flat_map(|worker| &worker.confirmed) {
            assert_eq!(*effects.entry(*task).or_insert(*token), *token, "two results of one task are accepted");
        }
    }
}
