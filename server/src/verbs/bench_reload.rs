//! `distric bench reload`: how long a change of the catalog takes until every shard of every node decides by it, under load, and whether any
//! decision on the way was wrong.
//!
//! A cluster of child processes on this machine. One connection a shard probes without a pause: each probe carries a number, and exactly one rule, the
//! marker, looks at it, with another value in every version; so the right answer under the version that a decision names is known.
//! Probes have no key and match no action, so an answer is a decision and no commit. Other messages, with keys, go through the log meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use distric_sdk::{Client, ClientOptions, Command, CommandKind, RawConnection, Submission};
use distric_wire::client::{Response, Submit};
use distric_wire::{Flags, Message};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client::block_on;
use crate::cluster::seats::Seat;
use crate::cluster::{Cluster, ClusterPlan};
use crate::exit::{Exit, Failure};
use crate::output::{Output, write_line};

/// Connections that are opened to one node in search of all its shards.
const CONNECTIONS_MAX: usize = 256;
/// A change that is not seen everywhere by then has failed.
const SEEN_WITHIN: Duration = Duration::from_secs(60);
/// Request timeout of the changes, milliseconds.
const CHANGE_TIMEOUT_MS: u64 = 60_000;
/// Event types of the rules beside the marker, and of the load.
const EVENT_TYPES: usize = 100;
/// Answers that wait to be looked at; beyond it the probes wait.
const ANSWERS_MAX: usize = 1 << 16;
/// How long probes are answered without any change, for comparison.
const QUIET: Duration = Duration::from_secs(3);
/// Numbers that probes carry by turn.
const NUMBERS: u64 = 8;

/// `distric bench reload`.
#[derive(Args, Clone, Debug)]
pub struct ReloadArgs {
    /// Nodes: 1, 3 or 5.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub nodes: usize,
    /// Shards of each node.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub shards: usize,
    /// Rules of the catalog.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rules: u32,
    /// Changes of one rule.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub changes: u32,
    /// Changes of every rule.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub whole: u32,
    /// Messages per second that go through the log meanwhile, over all nodes.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 500, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub load: u32,
    /// Pause between two probes of a shard, microseconds.
    #[arg(long, value_name = "US", default_value_t = 500, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub probe_every_us: u64,
}

/// What one shard answered to a probe.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// When the probe left.
    sent: Instant,
    at: Instant,
    shard: usize,
    version: u64,
    number: u64,
    matched: bool,
}

/// Runs it on a cluster in a temporary directory.
pub fn run(args: &ReloadArgs, output: Output) -> Result<Exit, Failure> {
    let dir = tempfile::Builder::new()
        .prefix("distric-reload-")
        .tempdir()
        .map_err(|error| Failure::io("create a directory in", &std::env::temp_dir(), &error))?;
    block_on(measure(args, dir.path(), output))
}

async fn measure(args: &ReloadArgs, dir: &Path, output: Output) -> Result<Exit, Failure> {
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let cluster = Cluster::start(ClusterPlan {
        dir: dir.to_owned(),
        name: "reload".to_owned(),
        seats: vec![Seat { wire: any, peer: any, http: None }; args.nodes],
        arguments: ["--no-worker", "--shards", &args.shards.to_string(), "--set", "cpu.pin=false"].map(str::to_owned).into(),
        arguments_of_first: Vec::new(),
        logs: true,
        surroundings: false,
    })
    .await?;
    let addresses = cluster.addresses();
    let client = connect(&addresses).await?;
    // Nodes that have not heard of the first catalog decide by version 0, in which no probe matches.
    let mut right: BTreeMap<u64, u64> = BTreeMap::from([(0, u64::MAX)]);
    let first = apply(&client, args.rules, 0, 0).await?;
    right.insert(first, 0);

    let stop = Arc::new(AtomicBool::new(false));
    let (tell, mut told) = mpsc::channel(ANSWERS_MAX);
    let mut tasks = JoinSet::new();
    let mut shards = 0;
    for address in &addresses {
        for connection in all_shards(address).await? {
            tasks.spawn(probe(connection, shards, Duration::from_micros(args.probe_every_us), tell.clone(), stop.clone()));
            shards += 1;
        }
    }
    drop(tell);
    let sent = Arc::new(AtomicU64::new(0));
    if args.load > 0 {
        tasks.spawn(load(client.clone(), args.load, sent.clone(), stop.clone()));
    }

    let mut one = Vec::new();
    let mut every = Vec::new();
    let mut checked = Checked::default();
    everywhere(&mut told, shards, first, Instant::now(), &right, &mut checked).await?;
    checked.phase = Some(Phase::Quiet);
    let quiet_until = Instant::now() + QUIET;
    while let Ok(Some(seen)) = tokio::time::timeout_at(quiet_until.into(), told.recv()).await {
        checked.check(&seen, &right);
    }
    let started = Instant::now();
    let total = args.changes + args.whole;
    for change in 1..=total {
        let number = u64::from(change) % NUMBERS;
        let is_whole = change > args.changes;
        checked.phase = Some(if is_whole { Phase::EveryRule } else { Phase::OneRule });
        let begun = Instant::now();
        let version = if is_whole { apply(&client, args.rules, change, number).await? } else { put_marker(&client, number).await? };
        let answered = begun.elapsed();
        right.insert(version, number);
        let seen = everywhere(&mut told, shards, version, begun, &right, &mut checked).await?;
        if is_whole { &mut every } else { &mut one }.push((seen, answered));
    }
    checked.phase = None;
    let elapsed = started.elapsed();
    stop.store(true, Ordering::Release);
    while let Some(seen) = told.recv().await {
        checked.check(&seen, &right);
    }
    while tasks.join_next().await.is_some() {}
    drop(client);
    let not_ended = cluster.stop().await;
    let logged = sent.load(Ordering::Relaxed);
    let report = json!({
        "nodes": args.nodes, "shards": shards, "rules": args.rules, "seconds": elapsed.as_secs_f64(),
        "one_rule_ms": summary(&one), "every_rule_ms": summary(&every),
        "probe_ms": {
            "quiet": checked.probes(Phase::Quiet), "one_rule": checked.probes(Phase::OneRule), "every_rule": checked.probes(Phase::EveryRule),
        },
        "decisions": checked.decisions, "wrong_decisions": checked.wrong, "went_back": checked.went_back, "logged_messages": logged,
        "first_wrong": checked.first_wrong,
    });
    output.json(&report);
    if !output.json {
        print(&report);
    }
    if !not_ended.is_empty() {
        return Err(Failure::new(Exit::NodeFailed, format!("did not end cleanly: {}", not_ended.join(", "))));
    }
    Ok(if checked.wrong + checked.went_back == 0 { Exit::Success } else { Exit::FailedOutcome })
}

async fn connect(addresses: &[String]) -> Result<Client, Failure> {
    let options = ClientOptions::new(addresses.iter().map(String::as_str)).name("distric-reload").request_timeout_ms(CHANGE_TIMEOUT_MS);
    Ok(Client::connect(options).await?)
}

/// One connection to every shard of a node.
async fn all_shards(address: &str) -> Result<Vec<RawConnection>, Failure> {
    let options = ClientOptions::new([address]).name("distric-reload");
    let mut found: BTreeMap<u16, RawConnection> = BTreeMap::new();
    for _ in 0..CONNECTIONS_MAX {
        let connection = RawConnection::connect(address, &options).await?;
        let count = usize::from(connection.welcome().shard_count);
        found.entry(connection.welcome().shard_index).or_insert(connection);
        if found.len() == count {
            return Ok(found.into_values().collect());
        }
    }
    Err(Failure::new(Exit::Unavailable, format!("{address} has shards that no connection of {CONNECTIONS_MAX} came to")))
}

/// Asks one shard for decisions, one after another.
async fn probe(connection: RawConnection, shard: usize, every: Duration, tell: mpsc::Sender<Seen>, stop: Arc<AtomicBool>) {
    let (mut reader, mut writer) = connection.into_split();
    let mut bytes = Vec::new();
    for id in 1.. {
        let number = id % NUMBERS;
        let payload = format!("{{\"n\":{number}}}");
        let submit = Submit { event_type: Some("probe"), payload: payload.as_bytes(), ..Submit::default() };
        bytes.clear();
        let sent = Instant::now();
        distric_wire::encode(&submit, id, 0, Flags::NONE, &mut bytes);
        if stop.load(Ordering::Acquire) || writer.write_all(&bytes).await.is_err() {
            return;
        }
        let mut answer = None;
        while answer.is_none() {
            let read = reader.read_frames(|frame| {
                if frame.header.message_type == Response::TYPE
                    && let Ok(response) = Response::decode(frame.payload)
                {
                    answer = Some((response.catalog_version, response.rules.iter().any(|rule| rule == "marker")));
                }
            });
            if !matches!(read.await, Ok(count) if count > 0) {
                return;
            }
        }
        let Some((version, matched)) = answer else { return };
        if tell.send(Seen { sent, at: Instant::now(), shard, version, number, matched }).await.is_err() {
            return;
        }
        tokio::time::sleep(every).await;
    }
}

/// Messages with keys, which go through the log.
async fn load(client: Client, per_second: u32, sent: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / f64::from(per_second)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut running = JoinSet::new();
    for n in 0_u64.. {
        ticks.tick().await;
        if stop.load(Ordering::Acquire) {
            break;
        }
        let (client, sent) = (client.clone(), sent.clone());
        let event_type = format!("event-{}", n as usize % EVENT_TYPES);
        running.spawn(async move {
            let submission = Submission::json(&json!({ "amount": n % 10_000 })).event_type(event_type);
            // What fails under load is not what is measured here; what succeeds is counted.
            sent.fetch_add(u64::from(client.submit(submission).await.is_ok()), Ordering::Relaxed);
        });
        while running.try_join_next().is_some() {}
    }
    while running.join_next().await.is_some() {}
}

fn marker(number: u64) -> Value {
    json!({ "id": "marker", "event_type": "probe", "conditions": [{ "field": "n", "operator": "equals", "value": number }] })
}

async fn put_marker(client: &Client, number: u64) -> Result<u64, Failure> {
    version_of(client.command(Command::new(CommandKind::PutRule).name("marker").body(marker(number).to_string())).await?.version)
}

/// A whole catalog, every rule of which differs from those of another round.
async fn apply(client: &Client, rules: u32, round: u32, number: u64) -> Result<u64, Failure> {
    let others = (1..rules).map(|n| {
        json!({
            "id": format!("rule-{n}"), "event_type": format!("event-{}", n as usize % EVENT_TYPES),
            "conditions": [
                { "field": "amount", "operator": "greater_than", "value": n + round },
                { "field": "user.country", "operator": "in", "value": ["DE", "FR", "IT"] },
                { "field": "note", "operator": "contains", "value": format!("order {n}") },
            ],
        })
    });
    let rules: Vec<Value> = others.chain([marker(number)]).collect();
    let text = json!({ "rules": rules }).to_string();
    let body = json!({ "rules": { "name": "rules.json", "text": text } }).to_string();
    version_of(client.command(Command::new(CommandKind::ApplyCatalog).body(body)).await?.version)
}

fn version_of(version: Option<u64>) -> Result<u64, Failure> {
    version.ok_or_else(|| Failure::new(Exit::FailedOutcome, "a change was answered without a version"))
}

/// Waits until every shard has decided by this version. Returns how long that took since `begun`.
async fn everywhere(
    told: &mut mpsc::Receiver<Seen>,
    shards: usize,
    version: u64,
    begun: Instant,
    right: &BTreeMap<u64, u64>,
    checked: &mut Checked,
) -> Result<Duration, Failure> {
    let mut first: BTreeMap<usize, Instant> = BTreeMap::new();
    while first.len() < shards {
        let Ok(Some(seen)) = tokio::time::timeout(SEEN_WITHIN, told.recv()).await else {
            let message = format!("version {version} was seen on {} of {shards} shards within {} s", first.len(), SEEN_WITHIN.as_secs());
            return Err(Failure::new(Exit::FailedOutcome, message));
        };
        checked.check(&seen, right);
        if seen.version >= version {
            first.entry(seen.shard).or_insert(seen.at);
        }
    }
    Ok(first.into_values().max().unwrap_or(begun).duration_since(begun))
}

/// The decisions that were looked at.
#[derive(Debug, Default)]
struct Checked {
    decisions: u64,
    wrong: u64,
    /// The first wrong one, in words.
    first_wrong: Option<String>,
    /// A shard that decided by an older version than before.
    went_back: u64,
    last: BTreeMap<usize, u64>,
    /// What goes on, as far as it counts.
    phase: Option<Phase>,
    /// From sending a probe to its answer.
    took: BTreeMap<Phase, Vec<Duration>>,
}

/// What goes on while a probe is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Quiet,
    OneRule,
    EveryRule,
}

impl Checked {
    fn check(&mut self, seen: &Seen, right: &BTreeMap<u64, u64>) {
        self.decisions += 1;
        // A version that nobody made is wrong as well.
        let is_right = right.get(&seen.version).is_some_and(|number| (*number == seen.number) == seen.matched);
        self.wrong += u64::from(!is_right);
        if !is_right && self.first_wrong.is_none() {
            let Seen { shard, version, number, matched, .. } = seen;
            let expected = right.get(version).map_or("no version that was made".to_owned(), |number| format!("a match for {number} only"));
            self.first_wrong = Some(format!("shard {shard}, version {version}, probe {number}: matched is {matched}; expected {expected}"));
        }
        if let Some(phase) = self.phase {
            self.took.entry(phase).or_default().push(seen.at.duration_since(seen.sent));
        }
        let last = self.last.insert(seen.shard, seen.version).unwrap_or(0);
        self.went_back += u64::from(seen.version < last);
    }

    /// Median and 99th percentile of the probes' times in a phase, milliseconds.
    fn probes(&self, phase: Phase) -> Value {
        let took = self.took.get(&phase).map(Vec::as_slice).unwrap_or_default();
        percentiles(took.iter().copied())
    }
}

/// Median, 99th percentile and maximum of both times, milliseconds.
fn summary(times: &[(Duration, Duration)]) -> Value {
    let everywhere = percentiles(times.iter().map(|(seen, _)| *seen));
    json!({ "changes": times.len(), "everywhere": everywhere, "answered": percentiles(times.iter().map(|(_, answered)| *answered)) })
}

fn percentiles(times: impl Iterator<Item = Duration>) -> Value {
    let mut ms: Vec<f64> = times.map(|time| time.as_secs_f64() * 1_000.0).collect();
    ms.sort_by(f64::total_cmp);
    let at = |share: f64| ms.get(((ms.len() as f64 * share).ceil() as usize).saturating_sub(1)).map(|ms| (ms * 10.0).round() / 10.0);
    json!({ "p50": at(0.5), "p99": at(0.99), "max": at(1.0) })
}

fn print(report: &Value) {
    write_line(&format!(
        "{} nodes, {} shards, {} rules; {} messages through the log, {} decisions probed in {:.1} s",
        report["nodes"],
        report["shards"],
        report["rules"],
        report["logged_messages"],
        report["decisions"],
        report["seconds"].as_f64().unwrap_or_default()
    ));
    for (name, of) in [("one rule", "one_rule_ms"), ("every rule", "every_rule_ms")] {
        let of = &report[of];
        write_line(&format!(
            "{name}: in use on every shard after p50 {} ms, p99 {} ms, max {} ms; answered after p50 {} ms ({} changes)",
            of["everywhere"]["p50"], of["everywhere"]["p99"], of["everywhere"]["max"], of["answered"]["p50"], of["changes"]
        ));
    }
    let probes = &report["probe_ms"];
    for (name, of) in [("no change", "quiet"), ("changes of one rule", "one_rule"), ("changes of every rule", "every_rule")] {
        write_line(&format!("a probe during {name}: p50 {} ms, p99 {} ms", probes[of]["p50"], probes[of]["p99"]));
    }
    write_line(&format!("wrong decisions: {}; versions that went back: {}", report["wrong_decisions"], report["went_back"]));
    if let Some(first) = report["first_wrong"].as_str() {
        write_line(&format!("the first wrong one: {first}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_right_by_the_version_that_it_names() {
        let right = BTreeMap::from([(0, u64::MAX), (1, 3), (2, 4)]);
        let now = Instant::now();
        let seen = |version, number, matched| Seen { sent: now, at: now, shard: 0, version, number, matched };
        let wrong = |seen: Seen| {
            let mut checked = Checked::default();
            checked.check(&seen, &right);
            checked.wrong
        };
        assert_eq!((wrong(seen(1, 3, true)), wrong(seen(1, 4, false)), wrong(seen(2, 4, true))), (0, 0, 0));
        assert_eq!((wrong(seen(0, 3, false)), wrong(seen(0, 3, true))), (0, 1));
        assert_eq!((wrong(seen(1, 4, true)), wrong(seen(2, 4, false)), wrong(seen(3, 0, false))), (1, 1, 1));
        let mut checked = Checked::default();
        [seen(2, 0, false), seen(1, 0, false)].iter().for_each(|seen| checked.check(seen, &right));
        assert_eq!((checked.wrong, checked.went_back, &checked.first_wrong), (0, 1, &None));
        checked.check(&seen(2, 4, false), &right);
        assert_eq!(checked.first_wrong.as_deref(), Some("shard 0, version 2, probe 4: matched is false; expected a match for 4 only"));
    }
}
