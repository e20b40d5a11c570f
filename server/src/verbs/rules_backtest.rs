//! `distric rules backtest`: recorded messages against a candidate, printed as a diff of decisions.
//!
//! Messages come from a file, one JSON a line, or from a running node: those that started a workflow and are still in its history.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::Args;
use distric_rules::{Catalog, Decision, Envelope};
use distric_sdk::{Client, Query, QueryKind};
use serde_json::{Value, json};
use uuid::Uuid;

use super::rules_explain::compiled;
use super::rules_match::read_line;
use super::rules_why::{envelope_of, headers_of};
use crate::cli::ClientArgs;
use crate::client::{block_on, connect};
use crate::exit::{Exit, Failure};
use crate::live_catalog::{Exported, json_of};
use crate::output::{Output, Paint, write_line};

/// Messages that a node is asked for, at most.
pub const RECORDED_MAX: u32 = 1_000_000;
/// Instances on one page of a node's history.
const PAGE_ROWS: u32 = 1_000;

/// `distric rules backtest`.
#[derive(Args, Clone, Debug)]
pub struct BacktestArgs {
    /// Where the live catalog and recorded messages are, when they are not in files.
    #[command(flatten)]
    pub client: ClientArgs,
    /// The candidate: a rule file or a directory of them.
    #[arg(long, value_name = "FILE")]
    pub rules: PathBuf,
    /// What it is compared with; without it, the node's catalog.
    #[arg(long, value_name = "FILE", conflicts_with = "version")]
    pub against: Option<PathBuf>,
    /// Compare with this version of the node's catalog.
    #[arg(long, value_name = "VERSION")]
    pub version: Option<u64>,
    /// Messages, one JSON a line; without it, the newest ones that the node has in its history.
    #[arg(long, value_name = "FILE")]
    pub messages: Option<PathBuf>,
    /// So many messages from the node's history.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=RECORDED_MAX as i64))]
    pub recorded: u32,
    /// Print so many messages whose decision differs.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub show: usize,
}

/// What the two catalogs said about all messages.
#[derive(Default)]
struct Tally {
    messages: u64,
    differing: u64,
    errors: u64,
    /// By rule: matches of the candidate alone, of the other alone.
    rules: BTreeMap<String, (u64, u64)>,
    /// By workflow: starts under the candidate, under the other.
    workflows: BTreeMap<String, (u64, u64)>,
    shown: Vec<Value>,
}

/// Exit 0 when nothing differs, 1 when something does.
pub fn run(args: &BacktestArgs, output: Output) -> Result<Exit, Failure> {
    let candidate = compiled(&args.rules)?;
    let mut tally = Tally::default();
    if let (Some(against), Some(messages)) = (&args.against, &args.messages) {
        let against = compiled(against)?;
        replay_file(messages, &candidate, &against, args.show, &mut tally)?;
        return Ok(tally.report(output));
    }
    block_on(async {
        let client = connect(&args.client).await?;
        let against = match &args.against {
            Some(file) => compiled(file)?,
            None => Exported::fetch(&client, args.version).await?.compiled()?,
        };
        match &args.messages {
            Some(file) => replay_file(file, &candidate, &against, args.show, &mut tally)?,
            None => replay_recorded(&client, args, &candidate, &against, &mut tally).await?,
        }
        Ok(tally.report(output))
    })
}

fn replay_file(messages: &Path, candidate: &Catalog, against: &Catalog, show: usize, tally: &mut Tally) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::io("read", messages, &error);
    let mut reader = BufReader::with_capacity(1 << 20, File::open(messages).map_err(failed)?);
    let envelope = Envelope { namespace: "default", ..Envelope::default() };
    let mut line = Vec::new();
    loop {
        line.clear();
        if read_line(&mut reader, &mut line).map_err(failed)? == 0 {
            return Ok(());
        }
        let payload = line.trim_ascii();
        if !payload.is_empty() {
            let name = format!("{}", tally.messages);
            tally.compare(&name, candidate.decide(&envelope, payload).ok(), against.decide(&envelope, payload).ok(), show);
        }
    }
}

/// Messages by way of the instances that they started, which is what a node can list.
async fn replay_recorded(
    client: &Client,
    args: &BacktestArgs,
    candidate: &Catalog,
    against: &Catalog,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let mut seen: BTreeSet<Uuid> = BTreeSet::new();
    let mut cursor = None;
    loop {
        let mut query = Query::new(QueryKind::Instances).limit(PAGE_ROWS);
        query.cursor = cursor;
        let reply = client.query(query).await?;
        let page = json_of(&reply)?;
        let rows = page.as_array().or_else(|| page["items"].as_array());
        for id in rows.into_iter().flatten().filter_map(|row| Uuid::try_parse(row["message_id"].as_str()?).ok()) {
            if tally.messages >= u64::from(args.recorded) {
                return Ok(());
            }
            if !seen.insert(id) {
                continue;
            }
            // It may have left the history since the page was made.
            let Ok(reply) = client.query(Query::new(QueryKind::Message).id(id)).await else { continue };
            let message = json_of(&reply)?;
            let headers = headers_of(&message);
            let envelope = envelope_of(&message, &headers);
            let payload = &message["payload"];
            let (new, old) = (candidate.decide_value(&envelope, payload), against.decide_value(&envelope, payload));
            tally.compare(&id.to_string(), Some(new), Some(old), args.show);
        }
        match reply.next_cursor {
            Some(next) => cursor = Some(next),
            None => return Ok(()),
        }
    }
}

impl Tally {
    fn compare(&mut self, name: &str, new: Option<Decision>, old: Option<Decision>, show: usize) {
        self.messages += 1;
        let (Some(new), Some(old)) = (new, old) else {
            self.errors += 1;
            return;
        };
        let lost: Vec<&str> = old.rules.iter().filter(|rule| !new.rules.contains(rule)).map(|rule| &**rule).collect();
        let gained: Vec<&str> = new.rules.iter().filter(|rule| !old.rules.contains(rule)).map(|rule| &**rule).collect();
        gained.iter().for_each(|rule| self.rules.entry((*rule).to_owned()).or_default().0 += 1);
        lost.iter().for_each(|rule| self.rules.entry((*rule).to_owned()).or_default().1 += 1);
        new.actions.iter().for_each(|action| self.workflows.entry(action.workflow.to_string()).or_default().0 += 1);
        old.actions.iter().for_each(|action| self.workflows.entry(action.workflow.to_string()).or_default().1 += 1);
        let is_same = new.rules == old.rules && new.actions == old.actions && new.derived == old.derived;
        self.differing += u64::from(!is_same);
        if !is_same && self.shown.len() < show {
            let starts =
                |decision: &Decision| -> Vec<String> { decision.actions.iter().map(|action| action.workflow.to_string()).collect() };
            self.shown.push(json!({
                "message": name, "rules_gained": gained, "rules_lost": lost, "starts": starts(&new), "started": starts(&old),
                "derived_differs": new.derived != old.derived,
            }));
        }
    }

    fn report(&self, output: Output) -> Exit {
        let rules: Vec<Value> = self.rules.iter().map(|(id, (gained, lost))| json!({"rule": id, "gained": gained, "lost": lost})).collect();
        let changed = self.workflows.iter().filter(|(_, (new, old))| new != old);
        let workflows: Vec<Value> = changed.map(|(id, (new, old))| json!({"workflow": id, "would_start": new, "started": old})).collect();
        if output.json {
            output.json(&json!({
                "messages": self.messages, "differing": self.differing, "errors": self.errors, "rules": rules, "workflows": workflows,
                "examples": self.shown,
            }));
        } else {
            for (id, (gained, lost)) in &self.rules {
                write_line(&format!("  rule {id}: +{gained}, -{lost}"));
            }
            for (id, (new, old)) in self.workflows.iter().filter(|(_, (new, old))| new != old) {
                write_line(&format!("  workflow {id}: would start {new}, started {old} ({:+})", *new as i64 - *old as i64));
            }
            for example in &self.shown {
                write_line(&output.paint(
                    Paint::Dim,
                    &format!("  message {}: gained {}, lost {}", example["message"], example["rules_gained"], example["rules_lost"]),
                ));
            }
            let verdict =
                if self.differing == 0 { output.paint(Paint::Good, "no difference") } else { format!("{} differ", self.differing) };
            write_line(&format!("{} messages, {verdict}, {} not readable", self.messages, self.errors));
        }
        if self.differing == 0 { Exit::Success } else { Exit::FailedOutcome }
    }
}
