//! `distric-admin cluster …`: the verbs.

use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use distric_sdk::{Client, Command, CommandKind};
use distric_server::cli::ClientArgs;
use distric_server::client::connect;
use distric_server::exit::{Exit, Failure};
use distric_server::output::{Output, Paint};
use serde_json::json;
use uuid::Uuid;

use crate::picture::{Picture, take};
use crate::{ClusterVerb, Patience, moves};

/// Between two looks at whether a change is complete.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A lead that has not moved by then is asked to move again: its group may have been between two leaders.
const ASK_AGAIN_EVERY: Duration = Duration::from_secs(2);

/// Runs one verb.
pub async fn run(verb: ClusterVerb, output: Output) -> Result<Exit, Failure> {
    match verb {
        ClusterVerb::Status { client } => status(&client, output).await,
        ClusterVerb::Join { client, wait, patience } => join(&client, wait, patience, output).await,
        ClusterVerb::Remove { client, node, force, patience } => remove(&client, &node, force, patience, output).await,
        ClusterVerb::TransferLeader { client, group, node, patience } => transfer(&client, group, &node, patience, output).await,
        ClusterVerb::Rebalance { client, patience } => rebalance(&client, patience, output).await,
    }
}

async fn status(args: &ClientArgs, output: Output) -> Result<Exit, Failure> {
    let client = connect(args).await?;
    let picture = take(&client).await?;
    output.json(&picture.to_json());
    show(&picture, output);
    Ok(if picture.leaderless().is_empty() { Exit::Success } else { Exit::FailedOutcome })
}

fn show(picture: &Picture, output: Output) {
    output.text(format!("{} {}", output.paint(Paint::Strong, "cluster"), picture.cluster.as_deref().unwrap_or("not founded yet")));
    let mut nodes = table(["NODE", "ID", "STATE", "LEADS", "WIRE", "PEER", "VERSION", "PARTITION"]);
    for node in &picture.nodes {
        let state = if node.reachable { output.paint(Paint::Good, "active") } else { output.paint(Paint::Bad, "unreachable") };
        let version = node.version.clone().unwrap_or_default();
        let leads = picture.leads(node.id).to_string();
        let verdict = match node.verdict.as_deref() {
            None | Some("none") => node.verdict.clone().unwrap_or_default(),
            Some(verdict) => output.paint(Paint::Bad, verdict),
        };
        nodes.add_row([node.name.clone(), node.id.to_string(), state, leads, node.wire.clone(), node.peer.clone(), version, verdict]);
    }
    output.text(nodes.to_string());
    if picture.sealed == Some(false) {
        output.text(format!("{}: set gossip.keys_file, see docs/gossip.md", output.paint(Paint::Bad, "gossip is not sealed")));
    }
    let mut groups = table(["GROUP", "LEADER", "TERM", "COMMITTED", "VOTERS", "LAG (ENTRIES)"]);
    for group in &picture.groups {
        let leader = group.leader.map_or_else(|| output.paint(Paint::Bad, "none"), |leader| picture.name_of(leader));
        let mut voters: Vec<String> = group.voters.iter().map(|voter| picture.name_of(*voter)).collect();
        voters.extend(group.learners.iter().map(|learner| format!("{} (learns)", picture.name_of(*learner))));
        let changing = if group.joint { ", changing" } else { "" };
        let lag: Vec<String> = group.lag_entries.iter().map(|(node, lag)| format!("{} {lag}", picture.name_of(*node))).collect();
        groups.add_row([
            group.number.to_string(),
            leader,
            group.term.to_string(),
            group.commit_index.to_string(),
            format!("{}{changing}", voters.join(", ")),
            lag.join(", "),
        ]);
    }
    output.text(groups.to_string());
}

fn table<const N: usize>(heads: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(heads);
    table
}

async fn join(args: &ClientArgs, wait: Option<usize>, patience: Patience, output: Output) -> Result<Exit, Failure> {
    let client = connect(args).await?;
    let picture = take(&client).await?;
    let seeds: Vec<&str> = picture.nodes.iter().filter(|node| node.reachable).map(|node| node.peer.as_str()).collect();
    let line = format!("distric coordinator --data-dir DIR --join {}", seeds.join(","));
    match wait {
        None => {
            output.text(format!(
                "On the new machine, with an empty directory and a name of its own:\n  {line} --name NAME --wire-bind IP:PORT"
            ));
            output.text("Then: distric-admin cluster join --wait N, with the number of coordinators that there shall be.");
            output.json(&json!({ "event": "invitation", "join": seeds, "command": line }));
        }
        Some(count) => {
            let whole = |picture: &Picture| picture.nodes.len() == count && picture.is_settled(&ids(picture));
            until(&client, patience, &format!("{count} coordinators vote in every group"), whole).await?;
            output.text(format!("{count} coordinators vote in every group."));
            output.json(&json!({ "event": "joined", "nodes": count }));
        }
    }
    Ok(Exit::Success)
}

fn ids(picture: &Picture) -> Vec<Uuid> {
    picture.nodes.iter().map(|node| node.id).collect()
}

async fn remove(args: &ClientArgs, wanted: &str, force: bool, patience: Patience, output: Output) -> Result<Exit, Failure> {
    let client = connect(args).await?;
    let picture = take(&client).await?;
    let node = picture.node(wanted)?.clone();
    let remaining: Vec<_> = picture.nodes.iter().filter(|other| other.id != node.id).collect();
    let there = remaining.iter().filter(|other| other.reachable).count();
    if there <= remaining.len() / 2 && !remaining.is_empty() && !force {
        let message = format!(
            "without {} only {there} of {} coordinators would be reachable: no majority, nothing could be committed",
            node.name,
            remaining.len()
        );
        return Err(Failure::new(Exit::Conflict, message).with_remedy("bring the others back first, or say --force"));
    }
    // Whoever leaves learns nothing more: the question goes to those who stay.
    let stay: Vec<&str> = remaining.iter().filter(|other| other.reachable).map(|other| other.wire.as_str()).collect();
    let client = if stay.is_empty() { client } else { connect(&ClientArgs { addr: stay.join(","), ..args.clone() }).await? };
    client.command(Command::new(CommandKind::RemoveNode).id(node.id)).await?;
    let voters: Vec<Uuid> = remaining.iter().map(|other| other.id).collect();
    let what = format!("{} votes nowhere any more", node.name);
    until(&client, patience, &what, |picture| picture.nodes.iter().all(|other| other.id != node.id) && picture.is_settled(&voters)).await?;
    output.text(format!("{} ({}) is removed. Its data directory is of no use to the cluster any more.", node.name, node.id));
    output.json(&json!({ "event": "removed", "node": node.id, "name": node.name }));
    Ok(Exit::Success)
}

async fn transfer(args: &ClientArgs, group: u32, wanted: &str, patience: Patience, output: Output) -> Result<Exit, Failure> {
    let client = connect(args).await?;
    let picture = take(&client).await?;
    let node = picture.node(wanted)?.clone();
    let Some(known) = picture.groups.iter().find(|known| known.number == group) else {
        let last = picture.groups.last().map_or(0, |group| group.number);
        return Err(Failure::new(Exit::NotFound, format!("there is no group {group}: the groups are 0 to {last}")));
    };
    if !node.reachable {
        return Err(Failure::new(Exit::Unavailable, format!("{} is not reachable at {}", node.name, node.wire)));
    }
    if !known.voters.contains(&node.id) {
        return Err(Failure::new(Exit::Conflict, format!("{} does not vote in group {group} yet", node.name))
            .with_remedy("wait for it: distric-admin cluster join --wait N"));
    }
    move_leads(&client, &[(group, node.id)], patience).await?;
    output.text(format!("{} leads group {group}.", node.name));
    output.json(&json!({ "event": "transferred", "group": group, "node": node.id, "name": node.name }));
    Ok(Exit::Success)
}

async fn rebalance(args: &ClientArgs, patience: Patience, output: Output) -> Result<Exit, Failure> {
    let client = connect(args).await?;
    let picture = take(&client).await?;
    let moves = moves::even(&picture);
    move_leads(&client, &moves, patience).await?;
    for (group, node) in &moves {
        output.text(format!("group {group}: now led by {}", picture.name_of(*node)));
    }
    output.text(if moves.is_empty() { "The leads are spread evenly.".to_owned() } else { format!("{} leads moved.", moves.len()) });
    let moved: Vec<_> = moves.iter().map(|(group, node)| json!({ "group": group, "node": node })).collect();
    output.json(&json!({ "event": "rebalanced", "moved": moved }));
    Ok(Exit::Success)
}

/// Asks for the moves, again now and then, until all of them have happened.
async fn move_leads(client: &Client, moves: &[(u32, Uuid)], patience: Patience) -> Result<(), Failure> {
    let mut asked_at: Option<Instant> = None;
    let deadline = Instant::now() + Duration::from_secs(patience.within_s);
    loop {
        let picture = take(client).await?;
        let leader = |number: u32| picture.groups.iter().find(|group| group.number == number).and_then(|group| group.leader);
        let open: Vec<_> = moves.iter().filter(|(group, node)| leader(*group) != Some(*node)).collect();
        if open.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let open = open.iter().map(|(group, node)| format!("group {group} to {}", picture.name_of(*node)));
            return Err(Failure::new(Exit::FailedOutcome, format!("not every lead has moved within {} s", patience.within_s))
                .with_findings(open)
                .with_remedy("distric-admin cluster status shows whether the target keeps up"));
        }
        if asked_at.is_none_or(|at| at.elapsed() >= ASK_AGAIN_EVERY) {
            asked_at = Some(Instant::now());
            for (group, node) in open {
                client.command(Command::new(CommandKind::TransferLeader).name(group.to_string()).id(*node)).await?;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Looks until something holds. Errors: it does not within the patience.
async fn until(client: &Client, patience: Patience, what: &str, holds: impl Fn(&Picture) -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(patience.within_s);
    loop {
        let picture = take(client).await?;
        if holds(&picture) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(Exit::FailedOutcome, format!("not within {} s: {what}", patience.within_s))
                .with_remedy("it goes on by itself; distric-admin cluster status shows how far it is"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
