//! `distric rules shadow …` and `distric rules canary …`: a candidate beside the catalog of a running cluster.

use std::path::PathBuf;

use clap::Subcommand;
use comfy_table::Table;
use distric_sdk::{Client, ClientOptions, Command, CommandKind, Query, QueryKind};
use serde_json::{Map, Value, json};

use super::rules_live::{ChangeArgs, explained, print_plan};
use crate::cli::ClientArgs;
use crate::client::{block_on, connect};
use crate::exit::{Exit, Failure};
use crate::live_catalog::json_of;
use crate::output::{Output, Paint, write_line};
use crate::rule_files::Sources;

/// Rules of a status that are printed.
const ROWS_SHOWN: usize = 40;
/// Coordinators that are asked for their counts, at most.
const NODES_MAX: usize = 16;

/// `distric rules shadow …`: a candidate judges what the catalog decides, and nothing follows from it.
#[derive(Clone, Debug, Subcommand)]
pub enum ShadowVerb {
    /// Put a candidate beside the catalog.
    Start {
        /// The candidate: a rule file, or a directory of them.
        #[arg(value_name = "FILE")]
        rules: PathBuf,
        /// Judge this share of the messages, by a hash of their keys.
        #[arg(long, value_name = "N", default_value = "100", value_parser = share)]
        percent: u32,
        /// How.
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Show what was counted: on all coordinators that can be reached.
    Status {
        /// Where.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show messages about which catalog and candidate differ. Exit 1 when there are some.
    Diff {
        /// Where.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Make the candidate the catalog.
    Promote {
        /// How.
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Take the candidate away.
    Stop {
        /// How.
        #[command(flatten)]
        change: ChangeArgs,
    },
}

/// `distric rules canary …`: a candidate decides for a share of the messages.
#[derive(Clone, Debug, Subcommand)]
pub enum CanaryVerb {
    /// Put a candidate beside the catalog.
    Start {
        /// The candidate: a rule file, or a directory of them.
        #[arg(value_name = "FILE")]
        rules: PathBuf,
        /// Let it decide for this share of the messages, by a hash of their keys.
        #[arg(long, value_name = "N", value_parser = share)]
        percent: u32,
        /// How.
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Give the candidate another share; a larger one keeps the keys of the smaller one.
    Set {
        /// The share.
        #[arg(long, value_name = "N", value_parser = share)]
        percent: u32,
        /// How.
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Show what was counted for both: on all coordinators that can be reached.
    Status {
        /// Where.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Make the candidate the catalog.
    Promote {
        /// How.
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Take the candidate away: the catalog decides about the next message.
    Abort {
        /// How.
        #[command(flatten)]
        change: ChangeArgs,
    },
}

/// A share in percent, to a hundredth, as the hundredths that the nodes count in.
fn share(text: &str) -> Result<u32, String> {
    let percent: f64 = text.parse().map_err(|_| format!("{text} is no number"))?;
    let hundredths = (percent * 100.0).round();
    if !(1.0..=10_000.0).contains(&hundredths) {
        return Err(format!("{text} is not between 0.01 and 100"));
    }
    Ok(hundredths as u32)
}

/// Runs a verb of a shadow.
pub fn shadow(verb: &ShadowVerb, output: Output) -> Result<Exit, Failure> {
    match verb {
        ShadowVerb::Start { rules, percent, change } => start(CommandKind::StartShadow, rules, *percent, change, output),
        ShadowVerb::Status { client } => status(client, "shadow", output),
        ShadowVerb::Diff { client } => diff(client, output),
        ShadowVerb::Promote { change } => act(CommandKind::PromoteTrial, "shadow", change, output),
        ShadowVerb::Stop { change } => act(CommandKind::EndTrial, "shadow", change, output),
    }
}

/// Runs a verb of a canary.
pub fn canary(verb: &CanaryVerb, output: Output) -> Result<Exit, Failure> {
    match verb {
        CanaryVerb::Start { rules, percent, change } => start(CommandKind::StartCanary, rules, *percent, change, output),
        CanaryVerb::Set { percent, change } => block_on(async {
            let client = connect(&change.client).await?;
            let version = running(&client, "canary").await?;
            let body = json!({ "share": percent }).to_string();
            let reply = client.command(change.command(CommandKind::SetTrial).version(version).body(body)).await?;
            done(&json_of(&reply)?, "canary", change, output)
        }),
        CanaryVerb::Status { client } => status(client, "canary", output),
        CanaryVerb::Promote { change } => act(CommandKind::PromoteTrial, "canary", change, output),
        CanaryVerb::Abort { change } => act(CommandKind::EndTrial, "canary", change, output),
    }
}

fn start(kind: CommandKind, rules: &std::path::Path, share: u32, change: &ChangeArgs, output: Output) -> Result<Exit, Failure> {
    let sources = Sources::read(rules)?;
    if sources.workflows.is_some() {
        return Err(Failure::new(Exit::BadInput, format!("{} has workflows, and a candidate has rules only", rules.display()))
            .with_remedy("apply the workflows that it starts first, and keep them in another directory"));
    }
    let Some((name, text)) = sources.rules else {
        return Err(Failure::new(Exit::BadInput, format!("no file in {} has a member `rules`", rules.display())));
    };
    let body = json!({ "rules": { "name": name, "text": text }, "share": share }).to_string();
    let mode = if kind == CommandKind::StartShadow { "shadow" } else { "canary" };
    block_on(async {
        let client = connect(&change.client).await?;
        let reply = client.command(change.command(kind).body(body)).await.map_err(|error| explained(error.into()))?;
        done(&json_of(&reply)?, mode, change, output)
    })
}

/// Promotes or ends the trial of this mode that runs.
fn act(kind: CommandKind, mode: &str, change: &ChangeArgs, output: Output) -> Result<Exit, Failure> {
    block_on(async {
        let client = connect(&change.client).await?;
        let version = running(&client, mode).await?;
        let command: Command = change.command(kind).version(version);
        let reply = client.command(command).await?;
        done(&json_of(&reply)?, mode, change, output)
    })
}

/// The candidate on trial. Errors: none, or one of the other mode.
async fn running(client: &Client, mode: &str) -> Result<u64, Failure> {
    let status = json_of(&client.query(Query::new(QueryKind::Trial)).await?)?;
    let trial = &status["trial"];
    match (trial["version"].as_u64(), trial["mode"].as_str()) {
        (Some(version), Some(found)) if found == mode => Ok(version),
        (Some(version), Some(found)) => {
            Err(Failure::new(Exit::Conflict, format!("candidate version {version} is on trial as a {found}, not as a {mode}"))
                .with_remedy(format!("distric rules {found} …")))
        }
        _ => Err(Failure::new(Exit::NotFound, format!("no {mode} runs"))),
    }
}

fn done(reply: &Value, mode: &str, change: &ChangeArgs, output: Output) -> Result<Exit, Failure> {
    output.json(reply);
    if change.dry_run {
        print_plan(reply, output);
        return Ok(Exit::Success);
    }
    let text = match (reply["trial_version"].as_u64(), reply["share"].as_u64()) {
        (Some(version), Some(0)) => format!("candidate version {version} is gone; catalog version {} decides", reply["catalog_version"]),
        (Some(version), Some(share)) => format!("{mode}: candidate version {version} for {} % of the messages", percent(share)),
        _ => format!("promoted: catalog version {}", reply["catalog_version"]),
    };
    output.text(output.paint(Paint::Good, &text));
    Ok(Exit::Success)
}

fn percent(share: u64) -> f64 {
    share as f64 / 100.0
}

/// What every coordinator counted, summed up.
fn status(client: &ClientArgs, mode: &str, output: Output) -> Result<Exit, Failure> {
    let (sum, missing) = block_on(async {
        let first = connect(client).await?;
        running(&first, mode).await?;
        gather(&first, client).await
    })?;
    let mut document = sum;
    document["not_reached"] = json!(missing);
    output.json(&document);
    if output.json {
        return Ok(Exit::Success);
    }
    print_status(&document);
    Ok(Exit::Success)
}

/// The trial's counts over all coordinators, and the names of those that could not be asked.
async fn gather(first: &Client, args: &ClientArgs) -> Result<(Value, Vec<String>), Failure> {
    let nodes = json_of(&first.query(Query::new(QueryKind::Nodes)).await?)?;
    let mut sum = Value::Null;
    let mut missing = Vec::new();
    for node in nodes["items"].as_array().into_iter().flatten().take(NODES_MAX) {
        let address = node["address"].as_str().unwrap_or_default();
        match ask(address, args).await {
            Ok(part) if part["trial"].is_object() => sum = if sum.is_null() { part } else { added(sum, &part) },
            _ => missing.push(node["name"].as_str().unwrap_or(address).to_owned()),
        }
    }
    if sum.is_null() {
        sum = json_of(&first.query(Query::new(QueryKind::Trial)).await?)?;
    }
    Ok((sum, missing))
}

async fn ask(address: &str, args: &ClientArgs) -> Result<Value, Failure> {
    let mut options = ClientOptions::new([address]).name("distric-cli").request_timeout_ms(args.timeout_ms);
    options.connect_timeout_ms = args.timeout_ms.min(options.connect_timeout_ms);
    if let Ok(api_key) = std::env::var("DISTRIC_API_KEY") {
        options = options.api_key(api_key);
    }
    json_of(&Client::connect(options).await?.query(Query::new(QueryKind::Trial)).await?)
}

/// Two nodes' counts as one.
fn added(mut sum: Value, part: &Value) -> Value {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    for side in ["active", "candidate"] {
        let (a, b) = (number(&sum[side]["decisions"]), number(&part[side]["decisions"]));
        let ns = number(&sum[side]["mean_ns"]) * a + number(&part[side]["mean_ns"]) * b;
        sum[side] = json!({ "decisions": a + b, "mean_ns": ns.checked_div(a + b) });
    }
    for member in ["judged", "skipped", "differing", "waiting"] {
        sum["shadow"][member] = json!(number(&sum["shadow"][member]) + number(&part["shadow"][member]));
    }
    let mut rows: Map<String, Value> = Map::new();
    for row in [&sum, part].into_iter().flat_map(|of| of["items"].as_array().into_iter().flatten()) {
        let id = row["rule"].as_str().unwrap_or_default().to_owned();
        match rows.get_mut(&id) {
            None => drop(rows.insert(id, row.clone())),
            Some(known) => {
                for side in ["active", "candidate"] {
                    for member in ["matched", "errors"] {
                        known[side][member] = json!(number(&known[side][member]) + number(&row[side][member]));
                    }
                }
                for member in ["gained", "lost", "changed"] {
                    known[member] = json!(number(&known[member]) + number(&row[member]));
                }
            }
        }
    }
    let (active, candidate) = (sum["active"]["decisions"].clone(), sum["candidate"]["decisions"].clone());
    let mut items: Vec<Value> = rows.into_iter().map(|(_, row)| row).collect();
    for row in &mut items {
        row["active"]["evaluated"] = active.clone();
        row["candidate"]["evaluated"] = candidate.clone();
    }
    let weight = |row: &Value| {
        let differs: u64 = ["gained", "lost", "changed"].iter().map(|member| number(&row[*member])).sum();
        (differs, number(&row["active"]["matched"]) + number(&row["candidate"]["matched"]))
    };
    items.sort_by_key(|row| std::cmp::Reverse(weight(row)));
    sum["rules_count"] = json!(items.len());
    sum["items"] = Value::Array(items);
    sum
}

fn print_status(status: &Value) {
    let trial = &status["trial"];
    let outdated = if trial["is_outdated"] == true { "; the rules have changed since: it cannot be promoted" } else { "" };
    write_line(&format!(
        "{}: candidate version {} ({} rules) beside catalog version {}, {} % of the messages{outdated}",
        trial["mode"].as_str().unwrap_or_default(),
        trial["version"],
        trial["rules_count"],
        status["catalog_version"],
        percent(trial["share"].as_u64().unwrap_or(0)),
    ));
    let is_shadow = trial["mode"] == "shadow";
    if is_shadow {
        let shadow = &status["shadow"];
        write_line(&format!(
            "judged {}, different {}, not judged for want of time {}",
            shadow["judged"], shadow["differing"], shadow["skipped"]
        ));
    }
    let side = |name: &str| {
        let us = status[name]["mean_ns"].as_u64().map_or("-".to_owned(), |ns| format!("{:.1} µs", ns as f64 / 1_000.0));
        format!("{} decisions, {us} each", status[name]["decisions"])
    };
    write_line(&format!("catalog: {}; candidate: {}", side("active"), side("candidate")));
    let mut table = Table::new();
    let heads = ["RULE", "MATCHED", "ERRORS", "CANDIDATE MATCHED", "ERRORS", "GAINED", "LOST", "CHANGED"];
    table.load_style(comfy_table::presets::NOTHING).set_header(&heads[..if is_shadow { 8 } else { 5 }]);
    for row in status["items"].as_array().into_iter().flatten().take(ROWS_SHOWN) {
        let mut cells = vec![row["rule"].as_str().unwrap_or_default().to_owned()];
        cells.extend(["active", "candidate"].iter().flat_map(|side| ["matched", "errors"].map(|member| row[*side][member].to_string())));
        if is_shadow {
            cells.extend(["gained", "lost", "changed"].map(|member| row[member].to_string()));
        }
        table.add_row(cells);
    }
    write_line(&table.to_string());
    for name in status["not_reached"].as_array().into_iter().flatten() {
        write_line(&format!("not counted: {} could not be asked", name.as_str().unwrap_or_default()));
    }
}

/// Messages about which the node's catalog and the shadow differ.
fn diff(client: &ClientArgs, output: Output) -> Result<Exit, Failure> {
    let samples = block_on(async {
        let client = connect(client).await?;
        running(&client, "shadow").await?;
        json_of(&client.query(Query::new(QueryKind::TrialSamples)).await?)
    })?;
    output.json(&samples);
    let items = samples["items"].as_array().map_or(&[][..], Vec::as_slice);
    for item in items {
        let list = |sign: char, member: &str| {
            let rules = item[member].as_array().into_iter().flatten().filter_map(Value::as_str);
            rules.map(|rule| format!(" {sign}{rule}")).collect::<String>()
        };
        let derives = if item["derives_other"] == true { " (derives another payload)" } else { "" };
        let order = if item["order_differs"] == true { " (another order)" } else { "" };
        let id = item["message_id"].as_str().unwrap_or_default();
        output.text(format!("{id}:{}{}{}{derives}{order}", list('+', "gained"), list('-', "lost"), list('~', "changed")));
        if !item["payload"].is_null() {
            output.text(format!("  {}", item["payload"]));
        }
    }
    if items.is_empty() {
        output.text("no difference so far");
    }
    Ok(if items.is_empty() { Exit::Success } else { Exit::FailedOutcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_in_percent_to_a_hundredth() {
        assert_eq!((share("5"), share("0.01"), share("100"), share("12.345")), (Ok(500), Ok(1), Ok(10_000), Ok(1_235)));
        for wrong in ["0", "100.1", "-1", "x", "nan", ""] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_counts_of_nodes_add_up() {
        let part = |decisions: u64, mean_ns: u64, matched: u64| {
            json!({
                "active": { "decisions": decisions, "mean_ns": mean_ns }, "candidate": { "decisions": 1, "mean_ns": null },
                "shadow": { "judged": decisions, "skipped": 0, "differing": 1, "waiting": 0 },
                "items": [{ "rule": "a", "active": { "evaluated": decisions, "matched": matched, "errors": 0 },
                            "candidate": { "evaluated": 1, "matched": 1, "errors": 0 }, "gained": 1, "lost": 0, "changed": 0 }],
            })
        };
        let sum = added(part(10, 100, 4), &part(30, 500, 6));
        assert_eq!(sum["active"], json!({ "decisions": 40, "mean_ns": 400 }));
        assert_eq!((&sum["shadow"]["judged"], &sum["shadow"]["differing"]), (&json!(40), &json!(2)));
        assert_eq!(
            (&sum["items"][0]["active"], &sum["items"][0]["gained"]),
            (&json!({ "evaluated": 40, "matched": 10, "errors": 0 }), &json!(2))
        );
    }
}
