//! The demo: the example shop under load, killed in the middle, and held to its promises.
//!
//! It starts a node as a child process in a temporary directory, submits the committed stream, kills the node with SIGKILL,
//! starts it again on the same data, submits what was not acknowledged, waits for every workflow to end, and then compares:
//! the client's own fsynced journal with the node's messages, and the webhook receiver's books with what the rules say must
//! happen ([`expected`], computed without the node). Start reading at [`run`].

pub mod check;
pub mod child;
pub mod events;
pub mod expected;
pub mod journal;
pub mod progress;
pub mod receiver;
pub mod report;
pub mod submit;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use distric_rules::{Catalog, CheckContext};
use distric_sdk::{Client, ClientOptions};
use serde_json::json;

use crate::cli::DemoArgs;
use crate::exit::{Exit, Failure};
use crate::output::Output;

use child::NodeProcess;
use expected::Expected;
use journal::Journal;
use progress::Progress;
use receiver::Receiver;
use report::Report;
use submit::{Tally, Until};

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
/// Fewest events that make sense: some must come before the kill and some after it.
const EVENTS_MIN: usize = 10;

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

    // The first half, then the kill, with submissions in flight and workflows running.
    let mut node = files.start().await?;
    let client = connect(&node).await?;
    output.text(format!("Node {} on {}; receiver on {}.", node.pid, node.wire, receiver.address));
    let all: Vec<usize> = (0..events.len()).collect();
    let until = Until::Journaled { flushed: journal.flushed(), count: events.len() as u64 / 2 };
    let mut bar = Progress::new(output, "submitting", events.len() as u64);
    submit::submit(&client, &events, &all, &journal.sender(), until, &mut tally, |done| bar.at(done)).await?;
    let deliveries_before = receiver.deliveries();
    node.kill()?;
    bar.finish();
    drop(client);
    journal.close().map_err(|error| Failure::io("flush", &files.journal, &error))?;
    let before = journal::read(&files.journal).map_err(|error| Failure::io("read", &files.journal, &error))?;
    output.text(format!(
        "Killed it (SIGKILL) with {} acknowledgements in the journal and {deliveries_before} webhooks delivered.",
        before.len()
    ));

    // The same data again; first of all: is everything there that was acknowledged?
    let restarted = Instant::now();
    let node = files.start().await?;
    let restart = restarted.elapsed();
    let client = connect(&node).await?;
    let missing_after_restart = check::missing_messages(&client, &before).await?;
    output.text(format!(
        "Restarted in {:.0} ms as {} on the same data: {} of {} acknowledged messages are there.",
        restart.as_secs_f64() * 1_000.0,
        node.pid,
        distinct(&before) - missing_after_restart.len(),
        distinct(&before)
    ));

    let done: BTreeSet<usize> = before.iter().map(|line| line.event).collect();
    let rest: Vec<usize> = all.into_iter().filter(|position| !done.contains(position)).collect();
    let journal = Journal::open(&files.journal).map_err(|error| Failure::io("write", &files.journal, &error))?;
    let mut bar = Progress::new(output, "submitting the rest", events.len() as u64);
    submit::submit(&client, &events, &rest, &journal.sender(), Until::Done, &mut tally, |done| bar.at(done)).await?;
    bar.finish();
    journal.close().map_err(|error| Failure::io("flush", &files.journal, &error))?;
    let acknowledged = journal::read(&files.journal).map_err(|error| Failure::io("read", &files.journal, &error))?;

    let mut bar = Progress::new(output, "waiting for the end", expected.instance_count());
    let running = check::wait_for_end(&client, expected.instance_count(), Instant::now() + END_WITHIN, |done| bar.at(done)).await?;
    bar.finish();

    // The judgement.
    let sent_us: BTreeMap<_, _> =
        acknowledged.iter().rev().map(|line| (line.message_id, tally.first_sent_us[line.event])).filter(|(_, sent)| *sent > 0).collect();
    let observed = check::observe(&client, &sent_us).await?;
    let missing_at_end = check::missing_messages(&client, &acknowledged).await?;
    drop(client);
    let stopped = node.stop().await;
    let ledger = receiver.ledger();
    let mut verdict = check::judge(&expected, &observed, &ledger, &acknowledged);
    verdict.none_of("acknowledged messages missing after the restart", &missing_after_restart);
    verdict.none_of("acknowledged messages missing at the end", &missing_at_end);
    if running > 0 {
        verdict.disagreements.push(format!("instances still running {} s after the last acknowledgement: {running}", END_WITHIN.as_secs()));
    }
    if !stopped {
        verdict.disagreements.push("the node did not end with success when asked to".to_owned());
    }
    let report = Report {
        events: events.len(),
        accepted: distinct(&acknowledged),
        acknowledged_before_kill: before.len(),
        present_after_restart: present(&before, &missing_after_restart),
        repeats: acknowledged.iter().filter(|line| line.repeat).count(),
        restart,
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

/// Acknowledgements whose message is there.
fn present(lines: &[journal::Acknowledged], missing: &[uuid::Uuid]) -> usize {
    lines.iter().filter(|line| !missing.contains(&line.message_id)).count()
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

async fn connect(node: &NodeProcess) -> Result<Client, Failure> {
    let options = ClientOptions::new([node.wire.to_string()]).name("distric-demo");
    Ok(Client::connect(options).await?)
}

/// The demo's files within its temporary directory.
struct Files {
    data: std::path::PathBuf,
    rules: std::path::PathBuf,
    workflows: std::path::PathBuf,
    log: std::path::PathBuf,
    journal: std::path::PathBuf,
}

impl Files {
    fn write(dir: &Path, receiver: &Receiver) -> Result<Self, Failure> {
        let files = Self {
            data: dir.join("data"),
            rules: dir.join("rules.yaml"),
            workflows: dir.join("workflows.yaml"),
            log: dir.join("node.log"),
            journal: dir.join("acknowledged.jsonl"),
        };
        let workflows = WORKFLOWS_TEXT.replace(RECEIVER_PLACEHOLDER, &receiver.address.to_string());
        for (path, text) in [(&files.rules, RULES_TEXT), (&files.workflows, workflows.as_str())] {
            std::fs::write(path, text).map_err(|error| Failure::io("write", path, &error))?;
        }
        Ok(files)
    }

    async fn start(&self) -> Result<NodeProcess, Failure> {
        NodeProcess::start(&self.data, &self.rules, &self.workflows, &self.log).await
    }
}

/// Tells a script that the temporary directory stays.
pub fn say_kept(dir: &Path, output: Output) {
    output.text(format!("Kept {}: the node's data, its log, and the journal.", dir.display()));
    output.json(&json!({"event": "kept", "dir": dir.display().to_string()}));
}
