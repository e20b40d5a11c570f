//! One storm over three nodes: clients, workers, links, disks, clocks and nodes fail as the seed wants, and in a part of the seeds one
//! node joins and another is removed or lost for ever; then everything heals, or one node stays down, deaf, mute or slow for ever,
//! and nothing acknowledged may be lost, doubled or invisible.

mod calm;
mod met;

use std::collections::{BTreeMap, BTreeSet};

use distric_core::node::consensus::CheckpointPolicy;
use distric_core::node::draw::Draws;
use distric_model::{GroupId, NodeId};
use distric_wire::Code;
use distric_wire::client::{Command, CommandKind, Query, QueryKind, Submit};

pub use self::met::Met;
use crate::diary::Diary;
use crate::linear::{self, Operation};
use crate::world::said::Response;
use crate::world::{ClientId, Ending, Habit, Said, Setup, World, catalog_body, hello, keyed};

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
/// Of a shortest election timeout of 300 ms.
const LEASE_MS: u64 = 225;
/// A calm cluster has a leader of every group, and everything applied everywhere, within this.
const CALM_MS: u64 = 30_000;

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
        storm.nodes_in_the_end().iter().for_each(|line| eprintln!("{line}"));
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
    change: Option<Change>,
}

/// A change of members in the midst of a storm: the spare joins, then a founder goes.
#[derive(Clone, Copy, Debug)]
struct Change {
    /// Who goes.
    leaver: usize,
    has_joined: bool,
    /// An operator has asked for its removal at least once.
    is_asked: bool,
    /// Its machine is gone with its disk, before anybody removed it.
    is_lost: bool,
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
        let changes = draws.draw().is_multiple_of(4);
        let change =
            changes.then(|| Change { leaver: (draws.draw() % NODES as u64) as usize, has_joined: false, is_asked: false, is_lost: false });
        // Within what the rates of the clocks allow for.
        let lease_ms = if seed % 4 == 3 { LEASE_MS } else { 0 };
        let setup = Setup {
            nodes: NODES,
            spares: usize::from(changes),
            work_groups: GROUPS,
            checkpoints,
            lease_ms,
            traces: true,
            ..Setup::of(seed, shards)
        };
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
        for worker in 0..world.nodes.len() as u64 {
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
            change,
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
        let nodes = NODES + usize::from(self.change.is_some_and(|change| change.has_joined));
        let node = self.draw(nodes as u64) as usize;
        let worker = self.draw(self.world.workers.len() as u64) as usize;
        match self.draw(if self.change.is_some() { 106 } else { 100 }) {
            0..=2 => self.crash(node),
            3 if self.draw(4) == 0 => {
                self.note("all nodes crash", "the power fails");
                (0..nodes).for_each(|node| self.crash(node));
            }
            3..=8 => self.restart(node),
            9..=11 => {
                let other = (node + 1) % nodes;
                let links = if self.draw(2) == 0 { vec![(node, other)] } else { vec![(node, other), (node, (node + 2) % nodes)] };
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
            100 | 101 => self.join(),
            102..=104 => self.remove(),
            105 => self.lose(),
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

    /// The spare starts with an empty disk and finds the cluster.
    fn join(&mut self) {
        if let Some(change) = self.change.as_mut().filter(|change| !change.has_joined) {
            change.has_joined = true;
            self.world.start(NODES);
            self.note("node joins", &format!("n{} joins", NODES + 1));
        }
    }

    /// An operator removes a founder, once there is somebody in its place.
    fn remove(&mut self) {
        let Some(change) = self.change.filter(|change| change.has_joined) else { return };
        let Some(client) = self.someone() else { return };
        self.change = Some(Change { is_asked: true, ..change });
        let id = Some(self.world.nodes[change.leaver].id.uuid());
        self.world.send(client, &Command { kind: CommandKind::RemoveNode.number(), id, ..Command::default() });
        self.note("node removed", &format!("n{} is to be removed", change.leaver + 1));
    }

    /// A founder's machine is gone for ever; an operator will replace it.
    fn lose(&mut self) {
        let Some(change) = self.change.filter(|change| change.has_joined && !change.is_lost) else { return };
        self.crash(change.leaver);
        self.change = Some(Change { is_lost: true, ..change });
        self.note("node is lost for ever", &format!("n{} is lost for ever", change.leaver + 1));
    }

    fn restart(&mut self, node: usize) {
        let is_lost = self.change.is_some_and(|change| change.is_lost && change.leaver == node);
        if self.world.nodes[node].life.is_none() && !is_lost {
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
        let target = self.draw(self.world.nodes.len() as u64) as usize;
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
}
