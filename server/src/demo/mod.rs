//! The demo: the example shop under load, a leader killed in mid-stream, and three nodes held to their promises.
//!
//! It starts three nodes as child processes in a temporary directory, submits the committed stream, kills the node that leads most groups
//! with SIGKILL while the stream goes on, starts it again, waits for every workflow to end, and then compares: the client's own fsynced
//! journal with the messages on every node, and the webhook receiver's books with what the rules say must happen ([`expected`],
//! computed without the nodes). Start reading at [`run`].

pub mod check;
pub mod events;
pub mod expected;
pub mod journal;
pub mod progress;
pub mod receiver;
pub mod report;
pub mod strike;
pub mod submit;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use distric_rules::{Catalog, CheckContext};
use distric_sdk::{Client, ClientOptions};
use serde_json::json;

use crate::cli::DemoArgs;
use crate::cluster::seats::Seat;
use crate::cluster::{Cluster, ClusterPlan};
use crate::exit::{Exit, Failure};
use crate::output::Output;

use expected::Expected;
use journal::Journal;
use progress::Progress;
use receiver::Receiver;
use report::Report;
use submit::Tally;

/// The example's rules.
pub const RULES_TEXT: &str = include_str!("../../../examples/payments/rules.yaml");
/// The example's workflows.
pub const WORKFLOWS_TEXT: &str = include_str!("../../../examples/payments/workflows.yaml");
/// The example's stream.
pub const EVENTS_TEXT: &str = include_str!("../../../examples/payments/events.jsonl");

/// Where the example's webhooks go; the demo puts its own receiver in its place.
const RECEIVER_PLACEHOLDER: &str = "127.0.0.1:9700";
/// Everything must have ended so long after the last acknowledgement.
const END_WITHIN: Duration = Duration::from_secs(40);
/// Fewest events that make sense: some must come before the kill, and more than may be in flight after it.
const EVENTS_MIN: usize = 400;
/// Nodes of the demo's cluster.
const NODES: usize = 3;

/// Runs the demo in `dir`. Exit 1 when one promise was not kept.
pub async fn run(args: &DemoArgs, dir: &Path, output: Output) -> Result<Exit, Failure> {
    let started = Instant::now();
    let events = Arc::new(stream(args.events)?);
    let expected = Expected::of(&events, &catalog()?);
    let receiver =
        Receiver::start().await.map_err(|error| Failure::new(Exit::Environment, format!("cannot listen on loopback: {error}")))?;
    let files = Files::write(dir, &receiver)?;
    output.text(format!(
        "{} events, {} distinct; {} workflow instances and {} effects must come out of them.",
        events.len(),
        expected.messages,
        expected.instance_count(),
        expected.accepted.len()
    ));

    let journal = Journal::open(&files.journal).map_err(|error| Failure::io("write", &files.journal, &error))?;
    let mut tally = Tally::new(events.len());

    let mut cluster = {
        let mut plan = files.plan();
        plan.seal()?;
        Cluster::start(plan).await?
    };
    let addresses = cluster.addresses();
    let client = connect(&addresses).await?;
    output.text(format!("Three nodes on {}; receiver on {}.", addresses.join(", "), receiver.address));
    let count = events.len() as u64;
    let mut bar = Progress::new(output, "submitting", count);
    let sender = journal.sender();
    // The stream and the strike run at the same time: nobody tells the client.
    let (_, strike) = tokio::try_join!(
        submit::submit(&client, &events, sender, &mut tally, |done| bar.at(done)),
        strike::strike(&mut cluster, journal.flushed(), count / 2, count * 4 / 5),
    )?;
    bar.finish();
    journal.close().map_err(|error| Failure::io("flush", &files.journal, &error))?;
    let acknowledged = journal::read(&files.journal).map_err(|error| Failure::io("read", &files.journal, &error))?;
    output.text(format!(
        "Killed {} (process {}, SIGKILL) after {} acknowledgements; started it again, and it has caught up.",
        strike.name, strike.pid, strike.acknowledged_before
    ));

    let mut bar = Progress::new(output, "waiting for the end", expected.instance_count());
    let running = check::wait_for_end(&client, expected.instance_count(), Instant::now() + END_WITHIN, |done| bar.at(done)).await?;
    bar.finish();

    // The judgement.
    let sent_us: BTreeMap<_, _> =
        acknowledged.iter().rev().map(|line| (line.message_id, tally.first_sent_us[line.event])).filter(|(_, sent)| *sent > 0).collect();
    let observed = check::observe(&client, &sent_us).await?;
    drop(client);
    // Every node answers for itself: each has everything.
    let mut missing = Vec::new();
    for (position, address) in addresses.iter().enumerate() {
        let alone = connect(std::slice::from_ref(address)).await?;
        missing.push((cluster.plan().name_of(position), check::missing_messages(&alone, &acknowledged).await?));
    }
    let not_ended = cluster.stop().await;
    let ledger = receiver.ledger();
    let mut verdict = check::judge(&expected, &observed, &ledger, &acknowledged);
    for (name, missing) in &missing {
        verdict.none_of(&format!("acknowledged messages missing on {name}"), missing);
    }
    verdict.none_of("nodes that did not end with success when asked to", &not_ended);
    if running > 0 {
        verdict.disagreements.push(format!("instances still running {} s after the last acknowledgement: {running}", END_WITHIN.as_secs()));
    }
    let fail_over = strike.fail_over(&tally.acks);
    if fail_over.is_none() {
        verdict.disagreements.push(format!("no message was acknowledged by a successor of {}", strike.name));
    }
    let report = Report {
        events: events.len(),
        accepted: distinct(&acknowledged),
        strike: &strike,
        fail_over: fail_over.unwrap_or_default(),
        longest_pause: strike::longest_pause(&tally.acks),
        present_everywhere: missing.iter().map(|(_, missing)| distinct(&acknowledged) - missing.len()).min().unwrap_or_default(),
        repeats: acknowledged.iter().filter(|line| line.repeat).count(),
        busy: tally.busy,
        ack_us: &tally.ack_us,
        observed: &observed,
        ledger: &ledger,
        verdict: &verdict,
        elapsed: started.elapsed(),
    };
    report.print(output);
    Ok(if verdict.disagreements.is_empty() { Exit::Success } else { Exit::FailedOutcome })
}

/// Messages named in a journal, each counted once.
fn distinct(lines: &[journal::Acknowledged]) -> usize {
    lines.iter().map(|line| line.message_id).collect::<BTreeSet<_>>().len()
}

/// The first `count` events of the committed stream.
fn stream(count: usize) -> Result<Vec<events::Event>, Failure> {
    if !(EVENTS_MIN..=events::STREAM_EVENTS).contains(&count) {
        return Err(Failure::new(Exit::Usage, format!("--events {count}: expected {EVENTS_MIN} to {}", events::STREAM_EVENTS)));
    }
    Ok(EVENTS_TEXT
        .lines()
        .take(count)
        .map(|line| serde_json::from_str(line).expect("a test holds the committed stream readable"))
        .collect())
}

fn catalog() -> Result<Catalog, Failure> {
    let refused = |problems: Vec<distric_rules::Problem>| {
        Failure::new(Exit::FailedOutcome, "the example's rules are not valid").with_findings(problems)
    };
    let checked = distric_rules::check("rules.yaml", RULES_TEXT, &CheckContext::default());
    match checked.catalog {
        Some(rules) => Catalog::compile(1, &rules).map_err(refused),
        None => Err(refused(checked.problems)),
    }
}

async fn connect(addresses: &[String]) -> Result<Client, Failure> {
    let options = ClientOptions::new(addresses.iter().cloned()).name("distric-demo");
    Ok(Client::connect(options).await?)
}

/// The demo's files within its temporary directory.
struct Files {
    cluster: std::path::PathBuf,
    rules: std::path::PathBuf,
    workflows: std::path::PathBuf,
    journal: std::path::PathBuf,
}

impl Files {
    fn write(dir: &Path, receiver: &Receiver) -> Result<Self, Failure> {
        let files = Self {
            cluster: dir.join("cluster"),
            rules: dir.join("rules.yaml"),
            workflows: dir.join("workflows.yaml"),
            journal: dir.join("acknowledged.jsonl"),
        };
        let workflows = WORKFLOWS_TEXT.replace(RECEIVER_PLACEHOLDER, &receiver.address.to_string());
        for (path, text) in [(&files.rules, RULES_TEXT), (&files.workflows, workflows.as_str())] {
            std::fs::write(path, text).map_err(|error| Failure::io("write", path, &error))?;
        }
        Ok(files)
    }

    /// Three nodes on free ports of loopback, the same on every machine: nothing of the surroundings configures them.
    fn plan(&self) -> ClusterPlan {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let text = |path: &Path| path.display().to_string();
        ClusterPlan {
            dir: self.cluster.clone(),
            name: "demo".to_owned(),
            seats: vec![Seat { wire: free, peer: free, http: Some(free) }; NODES],
            arguments: ["--shards", "1", "--set", "cpu.pin=false"].map(str::to_owned).into(),
            arguments_of_first: vec!["--rules".to_owned(), text(&self.rules), "--workflows".to_owned(), text(&self.workflows)],
            logs: true,
            surroundings: false,
        }
    }
}

/// Tells a script that the temporary directory stays.
pub fn say_kept(dir: &Path, output: Output) {
    output.text(format!("Kept {}: the nodes' data, their logs, and the journal.", dir.display()));
    output.json(&json!({"event": "kept", "dir": dir.display().to_string()}));
}
