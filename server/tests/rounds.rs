//! Rounds: three real coordinators under load, one fault after the other; in the end nothing acknowledged is missing on any node, and nothing
//! happened twice.
//!
//! `ROUNDS=200` runs more of them, `ROUNDS_SEED=7` draws others, `ROUNDS_FAULT=kill_leader` repeats one kind. `cargo xtask rounds` sets these.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use distric_core::node::group_of;
use distric_harness::proxy::{Fate, Fates, Proxy};
use distric_harness::{Node, SmallDisk, free_address, wait_until};
use distric_model::MessageId;
use distric_sdk::{Client, ClientOptions, Command, CommandKind, Error, Query, QueryKind, Submission};
use serde_json::Value;
use support::{Draw, RULES, WORKFLOWS, dir_with, program, runtime};
use tokio::sync::watch;
use uuid::Uuid;

const NODES: usize = 3;
const ROUNDS_DEFAULT: u64 = 20;
/// Messages that are offered at the same time.
const WRITERS: usize = 4;
/// Between two messages of one writer: load enough to have something in flight always, and not more.
const WRITE_EVERY: Duration = Duration::from_millis(10);
/// After a fault is over the cluster is whole again within this.
const WHOLE_WITHIN: Duration = Duration::from_secs(90);
/// An answer comes within this, whatever happens.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillLeader,
    KillAny,
    FreezeLeader,
    FreezeAny,
    Partition,
    PartitionSilently,
    Mute,
    Deafen,
    Delay,
    Replace,
}

const FAULTS: [(Fault, &str); 10] = [
    (Fault::KillLeader, "kill_leader"),
    (Fault::Partition, "partition"),
    (Fault::FreezeLeader, "freeze_leader"),
    (Fault::Mute, "mute"),
    (Fault::KillAny, "kill_any"),
    (Fault::Replace, "replace"),
    (Fault::PartitionSilently, "partition_silently"),
    (Fault::Delay, "delay"),
    (Fault::FreezeAny, "freeze_any"),
    (Fault::Deafen, "deafen"),
];

struct Seat {
    proxy: Proxy,
    wire: SocketAddr,
    /// Chosen before its first start: the others must reach it before it is ready.
    peer: SocketAddr,
    /// Where its data directories lie, if not with the others.
    disk: Option<PathBuf>,
    life: u32,
    node: Option<Node>,
}

struct Cluster {
    home: tempfile::TempDir,
    fates: Fates,
    seats: Vec<Seat>,
}

/// Does something with a client of these addresses.
fn with_client<T>(addresses: &[String], what: impl AsyncFn(&Client) -> Result<T, Error>) -> Result<T, Error> {
    let options = ClientOptions::new(addresses.iter().cloned()).name("rounds").request_timeout_ms(10_000);
    runtime().block_on(async { what(&Client::connect(options).await?).await })
}

fn status(address: &str) -> Option<Value> {
    with_client(&[address.to_owned()], async |client| client.query(Query::new(QueryKind::ClusterStatus)).await)
        .ok()
        .and_then(|reply| reply.json().ok())
}

impl Cluster {
    /// Three nodes, the last with its data on this disk.
    fn start(disk: Option<PathBuf>) -> Self {
        let home = dir_with(&[("rules.yaml", RULES), ("workflows.yaml", WORKFLOWS)]);
        let fates = Fates::default();
        let seat = |number: usize| {
            let disk = disk.clone().filter(|_| number == NODES - 1);
            let seat = Seat { proxy: Proxy::start(number, &fates), wire: free_address(), peer: free_address(), disk, life: 0, node: None };
            seat.proxy.lead_to(seat.peer);
            seat
        };
        let seats = (0..NODES).map(seat).collect();
        let mut cluster = Self { home, fates, seats };
        for position in 0..NODES {
            cluster.begin(position);
        }
        cluster.until_whole();
        cluster
    }

    fn begin(&mut self, position: usize) {
        let path = |name: &str| self.home.path().join(name).display().to_string();
        let seat = &self.seats[position];
        let name = format!("n{position}-{}", seat.life);
        let mut more = ["--name", &name, "--shards", "1", "--partitions", "2", "--set", "cpu.pin=false"].map(str::to_owned).to_vec();
        more.extend([
            "--set".to_owned(),
            format!("peer.advertise={}", seat.proxy.address),
            "--peer-bind".to_owned(),
            seat.peer.to_string(),
        ]);
        let founds = position == 0 && seat.life == 0;
        if founds {
            more.extend(["--rules".to_owned(), path("rules.yaml"), "--workflows".to_owned(), path("workflows.yaml")]);
        } else {
            let others = self.seats.iter().enumerate().filter(|(other, _)| *other != position);
            let join: Vec<String> = others.map(|(_, other)| other.proxy.address.to_string()).collect();
            more.extend(["--join".to_owned(), join.join(",")]);
        }
        let dir: PathBuf = seat.disk.as_deref().unwrap_or(self.home.path()).join(&name);
        let node = Node::start_at(&program(), "dev", seat.wire, &dir, more);
        self.seats[position].node = Some(node);
    }

    fn node(&self, position: usize) -> &Node {
        self.seats[position].node.as_ref().expect("between faults every node runs")
    }

    fn id(&self, position: usize) -> Uuid {
        self.node(position).ready["node_id"].as_str().and_then(|id| id.parse().ok()).expect("a node has an id")
    }

    fn addresses(&self) -> Vec<String> {
        self.seats.iter().map(|seat| seat.wire.to_string()).collect()
    }

    /// The node that leads the first work group.
    fn leader(&self) -> usize {
        wait_until("somebody leads", WHOLE_WITHIN, || {
            let status = self.addresses().iter().find_map(|address| status(address))?;
            let leader = status["groups"].as_array()?.iter().find(|group| group["number"] == 1)?["leader"].clone();
            (0..NODES).find(|position| leader == self.id(*position).to_string())
        })
    }

    /// Every node sees every group with a leader and all three as voters, and has applied what the others had committed.
    fn until_whole(&self) {
        let ids: BTreeSet<String> = (0..NODES).map(|position| self.id(position).to_string()).collect();
        for address in self.addresses() {
            wait_until("the cluster is whole", WHOLE_WITHIN, || {
                let status = status(&address)?;
                let groups = status["groups"].as_array()?;
                let whole = |group: &Value| {
                    let voters: BTreeSet<String> =
                        group["voters"].as_array().into_iter().flatten().filter_map(|id| id.as_str().map(str::to_owned)).collect();
                    !group["leader"].is_null() && voters == ids && group["joint"] == false
                };
                (groups.len() == 3 && groups.iter().all(whole)).then_some(())
            });
        }
    }

    /// One fault, from its beginning to its end. Returns when it was, if it was the death of a leader.
    fn play(&mut self, fault: Fault, draw: &mut Draw) -> Option<Instant> {
        let any = draw.below(NODES as u64) as usize;
        let lasts = Duration::from_millis(400 + draw.below(1_200));
        let others = |position: usize| (0..NODES).filter(move |other| *other != position);
        let mut died_at = None;
        match fault {
            Fault::KillLeader | Fault::KillAny => {
                let position = if fault == Fault::KillLeader { self.leader() } else { any };
                died_at = (fault == Fault::KillLeader).then(Instant::now);
                self.seats[position].node.take().expect("it runs").kill();
                sleep(lasts);
                self.begin(position);
            }
            Fault::FreezeLeader | Fault::FreezeAny => {
                let position = if fault == Fault::FreezeLeader { self.leader() } else { any };
                self.node(position).process.freeze();
                sleep(lasts);
                self.node(position).process.thaw();
            }
            Fault::Partition | Fault::PartitionSilently => {
                let kind = if fault == Fault::Partition { Fate::Cut } else { Fate::Lost };
                for other in others(any) {
                    self.fates.set(self.id(any), other, kind);
                    self.fates.set(self.id(other), any, kind);
                }
                sleep(lasts);
            }
            Fault::Mute => {
                others(any).for_each(|other| self.fates.set(self.id(any), other, Fate::Lost));
                sleep(lasts);
            }
            Fault::Deafen => {
                others(any).for_each(|other| self.fates.set(self.id(other), any, Fate::Lost));
                sleep(lasts);
            }
            Fault::Delay => {
                self.fates.set_all(Fate::Late(Duration::from_millis(5 + draw.below(30))));
                sleep(lasts);
            }
            Fault::Replace => {
                let gone = self.id(any);
                self.seats[any].node.take().expect("it runs").kill();
                let addresses: Vec<String> = others(any).map(|other| self.seats[other].wire.to_string()).collect();
                wait_until("the dead one is removed", WHOLE_WITHIN, || {
                    with_client(&addresses, async |client| client.command(Command::new(CommandKind::RemoveNode).id(gone)).await).ok()
                });
                self.seats[any].life += 1;
                self.begin(any);
            }
        }
        self.fates.heal();
        died_at
    }
}

#[derive(Clone, Debug)]
struct Ack {
    sent_at: Instant,
    at: Instant,
    key: String,
    message: Uuid,
    instances: Vec<Uuid>,
}

/// Offers messages until it is told to stop; every one until it is acknowledged. Errors of the kind that passes are not errors here.
async fn write(client: Client, writer: usize, filler_bytes: usize, acks: Arc<Mutex<Vec<Ack>>>, stop: watch::Receiver<bool>) {
    let filler = "x".repeat(filler_bytes);
    for n in 0.. {
        if *stop.borrow() {
            return;
        }
        let key = format!("w{writer}-{n}");
        let began = Instant::now();
        loop {
            let sent_at = Instant::now();
            let message =
                Submission::json(&serde_json::json!({ "name": key, "filler": filler })).event_type("greeting").idempotency_key(&key);
            match client.submit(message).await {
                Ok(receipt) => {
                    let ack = Ack { sent_at, at: Instant::now(), key, message: receipt.message_id, instances: receipt.instances };
                    acks.lock().unwrap_or_else(PoisonError::into_inner).push(ack);
                    break;
                }
                Err(error) => assert!(began.elapsed() < ANSWER_WITHIN, "{key} is not taken: {error}"),
            }
            tokio::time::sleep(WRITE_EVERY).await;
        }
        tokio::time::sleep(WRITE_EVERY).await;
    }
}

/// Why an instance is where it is, and the workers, as a node tells it.
fn view(address: &str, instance: Uuid) -> String {
    let ask = |query: Query| {
        let told = with_client(&[address.to_owned()], async |client| client.query(query.clone()).await);
        told.map_or_else(|error| error.to_string(), |reply| String::from_utf8_lossy(&reply.body).into_owned())
    };
    let [why, workers] = [Query::new(QueryKind::WhyInstance).id(instance), Query::new(QueryKind::Workers)].map(ask);
    format!("{why}\nworkers: {workers}")
}

fn instances(address: &str) -> Vec<(Uuid, String)> {
    let all = with_client(&[address.to_owned()], async |client| {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let mut query = Query::new(QueryKind::Instances).limit(500);
            query.cursor = cursor;
            let reply = client.query(query).await?;
            let page = reply.json().unwrap_or_default();
            for row in page["items"].as_array().into_iter().flatten() {
                let id = row["id"].as_str().and_then(|id| id.parse().ok()).expect("an instance has an id");
                all.push((id, row["status"].as_str().unwrap_or_default().to_owned()));
            }
            cursor = reply.next_cursor;
            if cursor.is_none() {
                return Ok(all);
            }
        }
    });
    all.unwrap_or_else(|error| panic!("{address}: {error}"))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// Writers that offer messages all the time.
struct Load {
    acks: Arc<Mutex<Vec<Ack>>>,
    stop: watch::Sender<bool>,
    thread: thread::JoinHandle<()>,
}

impl Load {
    /// Begins; each message has so many bytes besides.
    fn begin(addresses: &[String], filler_bytes: usize) -> Self {
        let acks: Arc<Mutex<Vec<Ack>>> = Arc::default();
        let (stop, stopping) = watch::channel(false);
        let (into, at) = (Arc::clone(&acks), addresses.to_vec());
        let thread = thread::spawn(move || {
            runtime().block_on(async {
                let mut writers = tokio::task::JoinSet::new();
                for writer in 0..WRITERS {
                    // Each begins at another node.
                    let order: Vec<String> = (0..NODES).map(|n| at[(writer + n) % NODES].clone()).collect();
                    let client =
                        Client::connect(ClientOptions::new(order).name("rounds").request_timeout_ms(10_000)).await.expect("a node answers");
                    writers.spawn(write(client, writer, filler_bytes, Arc::clone(&into), stopping.clone()));
                }
                while let Some(end) = writers.join_next().await {
                    end.expect("no writer gives up");
                }
            });
        });
        Self { acks, stop, thread }
    }

    fn count(&self) -> usize {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Ends. Returns all that was acknowledged.
    fn end(self) -> Vec<Ack> {
        self.stop.send(true).expect("the writers listen");
        self.thread.join().expect("no writer gives up");
        std::mem::take(&mut self.acks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Every node, asked alone, has every message; every key made one instance, and all of them come to their end.
#[track_caller]
fn check(acks: &[Ack], addresses: &[String]) {
    let promised: BTreeSet<Uuid> = acks.iter().flat_map(|ack| ack.instances.iter().copied()).collect();
    assert_eq!(promised.len(), acks.len(), "each key made one instance");
    for address in addresses {
        let missing: Vec<&str> = with_client(std::slice::from_ref(address), async |client| {
            let mut missing = Vec::new();
            for ack in acks {
                match client.query(Query::new(QueryKind::Message).id(ack.message)).await {
                    Ok(_) => {}
                    Err(Error::Rejected(rejection)) if rejection.code == distric_sdk::Code::NotFound => missing.push(ack.key.as_str()),
                    Err(error) => return Err(error),
                }
            }
            Ok(missing)
        })
        .unwrap_or_else(|error| panic!("{address}: {error}"));
        assert!(missing.is_empty(), "{} of {} acknowledged messages are missing on {address}: {missing:?}", missing.len(), acks.len());
        let began = Instant::now();
        let found = loop {
            let found = instances(address);
            let open: Vec<&(Uuid, String)> = found.iter().filter(|(_, status)| status != "completed").collect();
            if open.is_empty() {
                break found;
            }
            assert!(
                began.elapsed() < WHOLE_WITHIN,
                "{} of {} instances do not end, as this one: {}",
                open.len(),
                found.len(),
                view(address, open[0].0)
            );
            std::thread::sleep(Duration::from_millis(100));
        };
        let found: BTreeSet<Uuid> = found.into_iter().map(|(id, _)| id).collect();
        let unasked: Vec<&Uuid> = found.difference(&promised).collect();
        assert!(
            unasked.is_empty() && found == promised,
            "on {address} {} instances, promised {}; unasked: {unasked:?}",
            found.len(),
            promised.len()
        );
    }
}

#[test]
fn nothing_acknowledged_is_lost_whatever_happens() {
    let rounds = number("ROUNDS").unwrap_or(ROUNDS_DEFAULT);
    let mut draw = Draw(number("ROUNDS_SEED").unwrap_or(1));
    let only = std::env::var("ROUNDS_FAULT").ok();
    let faults: Vec<_> = FAULTS.iter().filter(|(_, name)| only.as_deref().is_none_or(|only| only == *name)).collect();
    assert!(!faults.is_empty(), "ROUNDS_FAULT={only:?}: expected one of {:?}", FAULTS.map(|(_, name)| name));

    let mut cluster = Cluster::start(None);
    let addresses = cluster.addresses();
    let load = Load::begin(&addresses, 0);
    let (acks, count) = (Arc::clone(&load.acks), || load.count());
    let mut fail_overs = Vec::new();
    let mut played: BTreeMap<&str, u32> = BTreeMap::new();
    for round in 0..rounds {
        let (fault, name) = *faults[round as usize % faults.len()];
        let (began, before) = (Instant::now(), count());
        let died_at = cluster.play(fault, &mut draw);
        cluster.until_whole();
        let healed = count();
        wait_until("acknowledgements come again", WHOLE_WITHIN, || (count() > healed).then_some(()));
        *played.entry(name).or_default() += 1;
        if let Some(died_at) = died_at {
            let acks = acks.lock().unwrap_or_else(PoisonError::into_inner);
            // Messages of the other group have another leader.
            let of_its_group = |ack: &&Ack| MessageId::from_uuid(ack.message).is_ok_and(|id| group_of(id.slot(), 2).0 == 1);
            fail_overs.extend(acks.iter().filter(|ack| ack.sent_at > died_at).filter(of_its_group).map(|ack| ack.at - died_at).min());
        }
        println!("round {round:>4}  {name:<20} {:>6} ms  {:>5} acknowledged", began.elapsed().as_millis(), count() - before);
    }
    let acks = load.end();
    cluster.until_whole();
    check(&acks, &addresses);
    fail_overs.sort_unstable();
    let quantile = |q: f64| fail_overs.get(((fail_overs.len() as f64 * q) as usize).min(fail_overs.len().saturating_sub(1)));
    println!("{rounds} rounds, {} acknowledged, none missing on any of {NODES} nodes, none doubled; {played:?}", acks.len());
    println!("leader killed to next acknowledgement, {} times: p50 {:?}, p99 {:?}", fail_overs.len(), quantile(0.5), quantile(0.99));
}

/// What a node needs at its start, and a little for its log, mebibytes.
const SMALL_DISK_MIB: u64 = 80;
/// Room for all that the others have, mebibytes.
const LARGE_DISK_MIB: u64 = 600;

#[test]
fn a_full_disk_stops_its_node_with_a_word_and_loses_nothing() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let disk = match SmallDisk::mount(&home.path().join("small"), SMALL_DISK_MIB) {
        Ok(disk) => disk,
        Err(reason) => return eprintln!("!!! SKIPPED: full disk: no small file system can be had here: {reason}"),
    };
    let mut cluster = Cluster::start(Some(disk.path().to_owned()));
    cluster.until_whole();
    let addresses = cluster.addresses();
    let load = Load::begin(&addresses, 200_000);
    let full = NODES - 1;
    let ended = cluster.seats[full].node.take().expect("it runs").process.wait().expect(9);
    assert!(ended.stderr.contains("the node cannot go on"), "{}", ended.stderr);
    assert!(ended.stderr.contains("No space left on device"), "{}", ended.stderr);
    let before = load.count();
    wait_until("the others go on", WHOLE_WITHIN, || (load.count() > before + 10).then_some(()));
    let acks = load.end();
    check(&acks, &addresses[..full]);
    // With room again it starts from what it has and catches up.
    disk.resize(LARGE_DISK_MIB);
    cluster.begin(full);
    cluster.until_whole();
    check(&acks, &addresses);
    println!("{} acknowledged, none missing after a full disk", acks.len());
}
