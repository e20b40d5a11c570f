//! Three coordinators on loopback with real flushes: what a commit costs, with both log stores by turns in one run (A B A B).
//!
//! `cargo bench -p distric-server --bench three_processes -- [--seconds S] [--rounds R] [--dir DIRECTORY]`. Beside the cells it measures, in the
//! same run and on the same disk, one flush, the second of three flushes at once, and one round trip over loopback: what a commit cannot be
//! faster than. Three nodes on one disk flush an entry at the same moment, the disk does one after the other, and a majority has it when the
//! second is done. Every message is one log entry of one group: nothing matches it, and the catalog keeps what nothing matches.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use distric_harness::http::http;
use distric_harness::{Node, Program, free_address, wait_until};
use distric_loadgen::{MessageOptions, Options, Pace, run_blocking};
use distric_sdk::{Client, ClientOptions, Command, CommandKind, Query, QueryKind, Submission};
use serde_json::Value;
use uuid::Uuid;

const NODES: usize = 3;
const STORES: [&str; 2] = ["lmdb", "segment"];
const IN_FLIGHT: [u32; 3] = [1, 64, 1_000];
/// What one connection may have unanswered, so that the widest cell spreads over several.
const IN_FLIGHT_PER_CONNECTION_MAX: u32 = 250;
const PAYLOAD_BYTES: usize = 300;
const RULES: &str = "keep_unmatched: true\nrules: []\n";
/// Leads are spread some seconds after the last node came; nothing is measured before.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);
const FLUSHES: usize = 300;
const ROUND_TRIPS: usize = 3_000;
const TRANSFERS: usize = 20;
const HEARTBEAT_MS: f64 = 50.0;
/// The unit of CPU times in `/proc`: the kernel's promise to user space, whatever its own tick.
const TICKS_PER_SECOND: u64 = 100;

struct Arguments {
    seconds: u64,
    rounds: usize,
    dir: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = arguments()?;
    let dir = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }
    .context("a directory for the data")?;
    println!("{} s a cell, {} rounds, data in {}; load average {}", arguments.seconds, arguments.rounds, dir.path().display(), load()?);
    println!(
        "| store | in flight | entries/s | p50 ms | p99 ms | commit, mean µs | entries a flush | CPU µs an entry, all nodes | flush p50 µs | second of three p50 µs | round trip p50 µs |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let mut transfers: Vec<(&str, Vec<f64>)> = Vec::new();
    for round in 0..arguments.rounds {
        for store in STORES {
            let cluster = Cluster::start(store, &dir.path().join(format!("{store}-{round}")))?;
            for in_flight in IN_FLIGHT {
                cell(&cluster, store, in_flight, arguments.seconds, dir.path())?;
            }
            let gaps = transfer_gaps(&cluster)?;
            match transfers.iter_mut().find(|(known, _)| *known == store) {
                Some((_, all)) => all.extend(gaps),
                None => transfers.push((store, gaps)),
            }
        }
    }
    println!("\n| store | planned transfers | longest time without an acknowledgement around one: p50 ms | worst ms |");
    println!("|---|---|---|---|");
    for (store, mut gaps) in transfers {
        gaps.sort_by(f64::total_cmp);
        println!("| {store} | {} | {:.1} | {:.1} |", gaps.len(), gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
        if gaps[gaps.len() / 2] >= HEARTBEAT_MS {
            println!("half of them took longer than a heartbeat of {HEARTBEAT_MS} ms");
        }
    }
    println!("load average {}", load()?);
    Ok(())
}

fn arguments() -> Result<Arguments> {
    let mut found = Arguments { seconds: 5, rounds: 2, dir: None };
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--seconds" => found.seconds = value.parse().with_context(|| format!("--seconds {value}: expected a number"))?,
            "--rounds" => found.rounds = value.parse().with_context(|| format!("--rounds {value}: expected a number"))?,
            "--dir" => found.dir = Some(value.into()),
            _ => bail!("no option {word}; there are --seconds, --rounds and --dir"),
        }
    }
    Ok(found)
}

fn load() -> Result<String> {
    Ok(std::fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

struct Cluster {
    nodes: Vec<Node>,
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")
}

fn status(address: &str) -> Option<Value> {
    let options = ClientOptions::new([address]).name("bench").request_timeout_ms(5_000);
    let asked = async { Client::connect(options).await.ok()?.query(Query::new(QueryKind::ClusterStatus)).await.ok()?.json().ok() };
    runtime().ok()?.block_on(asked)
}

impl Cluster {
    fn start(store: &str, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).context("a directory for the nodes")?;
        let rules = dir.join("rules.yaml");
        std::fs::write(&rules, RULES).context("the rules")?;
        let program = Program::new(env!("CARGO_BIN_EXE_distric"));
        let mut cluster = Self { nodes: Vec::new() };
        let peers: Vec<String> = (0..NODES).map(|_| free_address().to_string()).collect();
        for (number, peer) in peers.iter().enumerate() {
            let name = format!("n{number}");
            let mut more: Vec<String> =
                ["--name", &name, "--shards", "1", "--partitions", "1", "--no-worker", "--set"].map(str::to_owned).to_vec();
            more.extend([format!("storage.log={store}"), "--set".to_owned(), "cpu.pin=false".to_owned()]);
            more.extend(["--peer-bind".to_owned(), peer.clone()]);
            more.extend(match number {
                0 => ["--rules".to_owned(), rules.display().to_string()],
                _ => ["--join".to_owned(), peers[0].clone()],
            });
            cluster.nodes.push(Node::start(&program, "dev", &dir.join(&name), more));
        }
        wait_until("three voters in every group, and the leads at rest", SETTLES_WITHIN, || {
            let before = cluster.leads()?;
            std::thread::sleep(Duration::from_secs(5));
            (cluster.leads()? == before).then_some(())
        });
        Ok(cluster)
    }

    /// The leader of each group, once every group has three voters.
    fn leads(&self) -> Option<Vec<String>> {
        let status = status(&self.nodes[0].addr())?;
        let groups = status["groups"].as_array()?;
        let whole =
            groups.iter().all(|group| group["voters"].as_array().is_some_and(|voters| voters.len() == NODES) && group["joint"] == false);
        groups.iter().map(|group| group["leader"].as_str().map(str::to_owned)).collect::<Option<Vec<_>>>().filter(|_| whole)
    }

    /// The node that leads the work group.
    fn leader(&self) -> usize {
        wait_until("somebody leads", SETTLES_WITHIN, || {
            let leads = self.leads()?;
            self.nodes.iter().position(|node| node.ready["node_id"] == leads[1].as_str())
        })
    }

    /// User and system time of all nodes, microseconds.
    fn cpu_us(&self) -> Result<u64> {
        let mut ticks = 0;
        for node in &self.nodes {
            let path = format!("/proc/{}/stat", node.process.pid());
            let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
            let fields: Vec<&str> = stat.rsplit(')').next().context("a stat line")?.split_whitespace().collect();
            ticks += fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        }
        Ok(ticks * 1_000_000 / TICKS_PER_SECOND)
    }

    /// How many proposals the leader has seen committed and applied, and how long that took in all, seconds.
    fn commits(&self, node: usize) -> Result<(f64, f64)> {
        const COMMIT: &str = "distric_raft_commit_duration_seconds";
        Ok((self.counter(node, &format!("{COMMIT}_count"))?, self.counter(node, &format!("{COMMIT}_sum"))?))
    }

    /// One counter of a node.
    fn counter(&self, node: usize, name: &str) -> Result<f64> {
        let text = http(&self.nodes[node].http, "GET", "/metrics", &[], "").body;
        let line = text.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name} in the metrics"))?;
        line.rsplit(' ').next().context("a value")?.parse().with_context(|| line.to_owned())
    }
}

fn cell(cluster: &Cluster, store: &str, in_flight: u32, seconds: u64, dir: &Path) -> Result<()> {
    let leader = cluster.leader();
    let connections = in_flight.div_ceil(IN_FLIGHT_PER_CONNECTION_MAX);
    let options = Options {
        address: cluster.nodes[leader].addr(),
        connections,
        pace: Pace::InFlight(NonZeroU32::new(in_flight / connections).context("something in flight")?),
        message: MessageOptions { payload_bytes: PAYLOAD_BYTES, ..MessageOptions::default() },
        warm_up_ms: 0,
        duration_ms: 1_000,
        ..Options::default()
    };
    run_blocking(&options)?;
    let (alone_us, second_us, round_trip_us) = (flush_us(dir, 1)?, flush_us(dir, NODES)?, round_trip_us()?);
    const FLUSHED: &str = "distric_raft_log_flushes_total";
    let (cpu, flushes, commits) = (cluster.cpu_us()?, cluster.counter(leader, FLUSHED)?, cluster.commits(leader)?);
    let report = run_blocking(&Options { duration_ms: seconds * 1_000, ..options })?;
    let (cpu, flushes) = (cluster.cpu_us()? - cpu, cluster.counter(leader, FLUSHED)? - flushes);
    let ended = cluster.commits(leader)?;
    ensure!(report.rejected.is_empty() && report.connections_lost == 0, "refused: {:?}", report.rejected);
    println!(
        "| {store} | {in_flight} | {:.0} | {:.2} | {:.2} | {:.0} | {:.1} | {:.1} | {alone_us:.0} | {second_us:.0} | {round_trip_us:.0} |",
        report.messages_per_second,
        report.latency_us.p50 as f64 / 1e3,
        report.latency_us.p99 as f64 / 1e3,
        (ended.1 - commits.1) * 1e6 / (ended.0 - commits.0).max(1.0),
        report.acked as f64 / flushes.max(1.0),
        cpu as f64 / report.acked.max(1) as f64,
    );
    Ok(())
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// A file that is filled with zeros ahead, for [`FLUSHES`] blocks and more.
fn filled_ahead(path: &Path) -> Result<File> {
    std::fs::write(path, vec![0; 4 << 20]).context("a file filled ahead")?;
    let file = File::options().write(true).open(path)?;
    file.sync_all()?;
    Ok(file)
}

fn flush_block(file: &File, number: usize) -> std::io::Result<()> {
    file.write_all_at(&[1; 512], number as u64 * 512)?;
    file.sync_data()
}

/// So many files flushed at the same moment, a written block each: from the first start until a majority is done. Of one file it is the least
/// that any store waits for.
fn flush_us(dir: &Path, count: usize) -> Result<f64> {
    let gate = Barrier::new(count);
    let files = (0..count).map(|number| filled_ahead(&dir.join(format!("flushed-{number}")))).collect::<Result<Vec<_>>>()?;
    let flush = |file: &File| -> std::io::Result<Vec<(Instant, Instant)>> {
        let flushed = (0..FLUSHES).map(|number| {
            gate.wait();
            let began = Instant::now();
            flush_block(file, number).map(|()| (began, Instant::now()))
        });
        // All of them, whatever fails: the others wait at the gate.
        flushed.collect::<Vec<_>>().into_iter().collect()
    };
    let times: Vec<Vec<(Instant, Instant)>> = std::thread::scope(|scope| {
        let threads: Vec<_> = files.iter().map(|file| scope.spawn(|| flush(file))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a flushing thread does not panic")).collect::<std::io::Result<_>>()
    })?;
    let majority = |number: usize| {
        let began = times.iter().map(|of_one| of_one[number].0).min().expect("there is a file");
        let mut ended: Vec<Instant> = times.iter().map(|of_one| of_one[number].1).collect();
        ended.sort();
        (ended[count / 2] - began).as_secs_f64() * 1e6
    };
    Ok(median((0..FLUSHES).map(majority).collect()))
}

/// A message of an entry's size over loopback, there and back.
fn round_trip_us() -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut bytes = [0; PAYLOAD_BYTES];
        for _ in 0..ROUND_TRIPS {
            stream.read_exact(&mut bytes)?;
            stream.write_all(&bytes)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut bytes = [0; PAYLOAD_BYTES];
    let mut samples = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let began = Instant::now();
        stream.write_all(&bytes)?;
        stream.read_exact(&mut bytes)?;
        samples.push(began.elapsed().as_secs_f64() * 1e6);
    }
    echo.join().expect("the other side does not panic")?;
    Ok(median(samples))
}

/// Hands the lead over again and again while somebody submits one message after the other: the longest answer around each.
fn transfer_gaps(cluster: &Cluster) -> Result<Vec<f64>> {
    let mut gaps = Vec::new();
    for number in 0..TRANSFERS {
        let from = cluster.leader();
        let to = (from + 1 + number % 2) % NODES;
        let target: Uuid = cluster.nodes[to].ready["node_id"].as_str().context("a node has an id")?.parse()?;
        // Asked at the node that stays out of it, so that the question does not die with a lead.
        let asked = (0..NODES).find(|node| *node != from && *node != to).context("three nodes")?;
        let address = cluster.nodes[asked].addr();
        let gap = runtime()?.block_on(async {
            let client = Client::connect(ClientOptions::new([address]).name("bench")).await?;
            let began = Instant::now();
            let (mut told, mut last, mut longest) = (false, Instant::now(), Duration::ZERO);
            while began.elapsed() < Duration::from_millis(800) {
                client.submit(Submission::json(&serde_json::json!({ "n": number })).event_type("order.created")).await?;
                longest = longest.max(last.elapsed());
                last = Instant::now();
                if !told && began.elapsed() > Duration::from_millis(200) {
                    told = true;
                    longest = Duration::ZERO;
                    client.command(Command::new(CommandKind::TransferLeader).id(target).name("1")).await?;
                    last = Instant::now();
                }
            }
            Ok::<f64, distric_sdk::Error>(longest.as_secs_f64() * 1e3)
        })?;
        gaps.push(gap);
    }
    Ok(gaps)
}
