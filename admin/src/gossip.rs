//! `distric-admin gossip keys …`: the keys that gossip is sealed with.
//!
//! A key is made in a file and travels in files, by the operator's own means. Through the cluster go only numbers: which key to seal with, and
//! which count no more. Each step is refused as long as it would make a member unheard.

use std::collections::BTreeMap;
use std::path::Path;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use distric_sdk::{Client, Command, CommandKind};
use distric_server::cli::ClientArgs;
use distric_server::client::connect;
use distric_server::cluster::keys;
use distric_server::exit::{Exit, Failure};
use distric_server::output::Output;
use serde_json::{Value, json};

use crate::members::gossip;
use crate::{GossipVerb, KeysVerb};

/// Members named in one refusal; more are counted.
const NAMED_MAX: usize = 10;

/// Runs one verb.
pub async fn run(verb: GossipVerb, output: Output) -> Result<Exit, Failure> {
    let GossipVerb::Keys(verb) = verb;
    match verb {
        KeysVerb::List { client } => list(&client, output).await,
        KeysVerb::Add { file } => add(&file, output),
        KeysVerb::Use { client, id, force } => choose(&client, id, force, output).await,
        KeysVerb::Retire { client, id, force } => retire(&client, id, force, output).await,
    }
}

/// What a live member says about its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    name: String,
    held: Vec<u16>,
    sealing: Option<u16>,
}

fn holders(gossip: &Value) -> Vec<Holder> {
    let live = gossip["members"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|member| matches!(member["state"].as_str(), Some("active" | "suspected")));
    live.map(|member| {
        let id = |value: &Value| value.as_u64().and_then(|id| u16::try_from(id).ok());
        let held = member["keys"]["held"].as_array().into_iter().flatten().filter_map(id).collect();
        let name = format!("{} ({})", member["name"].as_str().unwrap_or_default(), member["node"].as_str().unwrap_or_default());
        Holder { name, held, sealing: id(&member["keys"]["sealing"]) }
    })
    .collect()
}

/// Those of the members, shortened.
fn named<'a>(members: impl Iterator<Item = &'a Holder>) -> Vec<String> {
    let mut names: Vec<String> = members.map(|member| member.name.clone()).collect();
    let more = names.len().saturating_sub(NAMED_MAX);
    names.truncate(NAMED_MAX);
    names.extend((more > 0).then(|| format!("and {more} more")));
    names
}

async fn list(args: &ClientArgs, output: Output) -> Result<Exit, Failure> {
    let client = connect(args).await?;
    let gossip = gossip(&client).await?;
    if gossip["sealed"] != true {
        output.json(&json!({ "sealed": false, "keys": [] }));
        output.text("gossip is not sealed: whoever can send packets to its ports can forge any member; see docs/gossip.md");
        return Ok(Exit::Success);
    }
    let holders = holders(&gossip);
    let mut keys: BTreeMap<u16, (usize, usize)> = BTreeMap::new();
    for holder in &holders {
        holder.held.iter().for_each(|id| keys.entry(*id).or_default().0 += 1);
        if let Some(id) = holder.sealing {
            keys.entry(id).or_default().1 += 1;
        }
    }
    let number = |name: &str| gossip["keys"][name].as_u64().unwrap_or_default();
    let (primary, floor) = (number("sealing"), number("floor"));
    let state = |id: u16| match u64::from(id) {
        id if id < floor => "retired",
        id if id == primary => "in use",
        _ => "held",
    };
    let rows: Vec<Value> = keys
        .iter()
        .map(|(id, (held, sealing))| {
            let lacking = named(holders.iter().filter(|holder| !holder.held.contains(id)));
            json!({ "id": id, "state": state(*id), "held_by": held, "sealing": sealing, "lacking": lacking })
        })
        .collect();
    output.json(&json!({ "sealed": true, "members": holders.len(), "version": number("version"), "keys": rows }));
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["KEY", "STATE", "HELD BY", "SEALING", "LACKING"]);
    for row in &rows {
        let of = |name: &str| row[name].to_string();
        let lacking: Vec<&str> = row["lacking"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let held = format!("{} of {}", of("held_by"), holders.len());
        table.add_row([of("id"), row["state"].as_str().unwrap_or_default().to_owned(), held, of("sealing"), lacking.join(", ")]);
    }
    output.text(table.to_string());
    Ok(Exit::Success)
}

fn add(file: &Path, output: Output) -> Result<Exit, Failure> {
    let id = keys::add(file, 0).map_err(|error| Failure::new(Exit::BadInput, format!("no key was added: {error}")))?;
    output.json(&json!({ "event": "added", "id": id.0, "file": file.display().to_string() }));
    output.text(format!("key {id} is in {}. Bring the file to every coordinator and worker (gossip.keys_file; mode 600);", file.display()));
    output.text(format!(
        "they take it up by themselves. When distric-admin gossip keys list shows it everywhere: distric-admin gossip keys use {id}"
    ));
    Ok(Exit::Success)
}

async fn choose(args: &ClientArgs, id: u16, force: bool, output: Output) -> Result<Exit, Failure> {
    let client = connect(args).await?;
    let holders = sealed(&client).await?;
    may_use(&holders, id, force)?;
    let chosen = command(&client, CommandKind::UseGossipKey, id).await?;
    output.json(&json!({ "event": "used", "id": id, "version": chosen["version"] }));
    output.text(format!("gossip is sealed with key {id}; distric-admin gossip keys list shows how far that has got round"));
    Ok(Exit::Success)
}

async fn retire(args: &ClientArgs, id: u16, force: bool, output: Output) -> Result<Exit, Failure> {
    let client = connect(args).await?;
    let holders = sealed(&client).await?;
    may_retire(&holders, id, force)?;
    let chosen = command(&client, CommandKind::RetireGossipKeys, id).await?;
    output.json(&json!({ "event": "retired", "upto": id, "version": chosen["version"] }));
    output.text(format!("keys up to {id} are accepted no more; remove their lines from the key files of all coordinators and workers"));
    Ok(Exit::Success)
}

async fn sealed(client: &Client) -> Result<Vec<Holder>, Failure> {
    let gossip = gossip(client).await?;
    if gossip["sealed"] != true {
        return Err(Failure::new(Exit::Conflict, "gossip is not sealed").with_remedy("start every node and worker with gossip.keys_file"));
    }
    Ok(holders(&gossip))
}

async fn command(client: &Client, kind: CommandKind, id: u16) -> Result<Value, Failure> {
    let reply = client.command(Command::new(kind).name(id.to_string())).await?;
    reply.json().map_err(|error| Failure::new(Exit::FailedOutcome, format!("the answer is no JSON: {error}")))
}

fn may_use(holders: &[Holder], id: u16, force: bool) -> Result<(), Failure> {
    let lacking = named(holders.iter().filter(|holder| !holder.held.contains(&id)));
    if lacking.is_empty() || force && holders.iter().any(|holder| holder.held.contains(&id)) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Conflict,
        format!("not every live member holds key {id}: those who lack it would not be able to read the others"),
    )
    .with_findings(lacking)
    .with_remedy("bring the key file to them, or say --force to leave them behind"))
}

fn may_retire(holders: &[Holder], id: u16, force: bool) -> Result<(), Failure> {
    let sealing = named(holders.iter().filter(|holder| holder.sealing.is_none_or(|sealing| sealing <= id)));
    if sealing.is_empty() || force {
        return Ok(());
    }
    Err(Failure::new(Exit::Conflict, format!("live members still seal with key {id} or an earlier one: nobody would hear them any more"))
        .with_findings(sealing)
        .with_remedy("wait until distric-admin gossip keys list shows another key in use everywhere, or say --force to leave them behind"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, state: &str, held: &[u16], sealing: u16) -> Value {
        json!({ "name": name, "node": "n", "state": state, "keys": { "held": held, "sealing": sealing } })
    }

    #[test]
    fn a_step_that_would_make_somebody_unheard_is_refused_by_name() {
        let gossip = json!({ "members": [
            member("a", "active", &[1, 2], 1), member("b", "suspected", &[1], 1), member("c", "failed", &[1], 1), member("d", "left", &[], 1),
        ] });
        let holders = holders(&gossip);
        assert_eq!(holders.len(), 2, "the dead and the left are not waited for");
        let refused = may_use(&holders, 2, false).unwrap_err();
        assert!(
            refused.exit == Exit::Conflict && refused.to_string().contains("b (n)") && !refused.to_string().contains("a (n)"),
            "{refused}"
        );
        assert!(may_use(&holders, 2, true).is_ok() && may_use(&holders, 1, false).is_ok());
        assert!(may_use(&holders, 9, true).is_err(), "a key that nobody holds is not used by force either");
        assert!(may_retire(&holders, 1, false).unwrap_err().to_string().contains("still seal with key 1"));
        assert!(may_retire(&holders, 1, true).is_ok());
        let many: Vec<Holder> = (0..30).map(|n| Holder { name: format!("w{n}"), held: vec![1], sealing: Some(1) }).collect();
        assert_eq!(named(many.iter()).last().unwrap(), "and 20 more");
    }
}
