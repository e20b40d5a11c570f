//! `distric dev --nodes N`: a cluster on this machine, one child process a node, looked after by this one.
//!
//! A node that is killed is started again where it was; one that ends by itself ends everything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use distric_core::config::{Config, Shards};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cli::DevArgs;
use crate::cluster::{Cluster, ClusterPlan, SIZES, seats, seats_in};
use crate::exit::{Exit, Failure};
use crate::host::stdin_closes;
use crate::output::{Output, Paint};
use crate::{client, logging, settings, signals, verbs};

/// A killed node is started again after this pause, milliseconds.
const START_AGAIN_MS: u64 = 500;

/// Runs the cluster until it is told to end.
pub fn run(args: &DevArgs, output: Output) -> Result<Exit, Failure> {
    let loaded = settings::of_node(&args.node)?;
    let config = loaded.config;
    check(args, &config)?;
    let _log = logging::install(&config.log, &config.node.name);
    let signals = match args.rules.is_some() || args.workflows.is_some() {
        true => signals::listen_and_reload().map(|(stopped, reloaded)| (stopped, Some(reloaded))),
        false => signals::listen().map(|stopped| (stopped, None)),
    };
    let signals = signals.map_err(|error| Failure::new(Exit::Environment, format!("cannot listen to signals: {error}")))?;
    let (temporary, dir) = settings::data_dir_or_temporary(&config)?;
    let first = seats::Seat { wire: config.wire.bind, peer: config.peer.bind, http: config.http.enabled.then_some(config.http.bind) };
    let mut plan = ClusterPlan {
        seats: seats_in(&dir, &first, args.nodes)?,
        dir: dir.clone(),
        name: config.node.name.clone(),
        arguments: arguments(args, &config),
        arguments_of_first: catalog_arguments(args),
        logs: false,
        surroundings: true,
    };
    let keys = match (&config.gossip.keys_file, config.gossip.enabled) {
        (None, true) => Some(plan.seal()?),
        (file, _) => file.clone(),
    };
    client::block_on(look_after(plan, keys, args, temporary.is_some(), &dir, signals, output))
}

fn check(args: &DevArgs, config: &Config) -> Result<(), Failure> {
    if !SIZES.contains(&args.nodes) {
        return Err(Failure::new(Exit::Usage, format!("--nodes {}: expected 1, 3 or 5", args.nodes))
            .with_remedy("3 nodes survive the loss of one, 5 the loss of two; an even number survives no more than one less"));
    }
    let one_for_all = [
        ("wire.advertise", config.wire.advertise.is_some()),
        ("peer.advertise", config.peer.advertise.is_some()),
        ("cluster.join", !config.cluster.join.is_empty()),
    ];
    match one_for_all.iter().find(|(_, is_set)| *is_set) {
        Some((key, _)) => Err(Failure::new(Exit::BadInput, format!("{key} is set, and would be the same for all {} nodes", args.nodes))
            .with_remedy("leave it out, or start the nodes one by one with `distric coordinator`")),
        None => Ok(()),
    }
}

/// What the nodes are told beside their addresses.
fn arguments(args: &DevArgs, config: &Config) -> Vec<String> {
    let mut arguments = Vec::new();
    let node = &args.node;
    let mut option = |flag: &str, value: Option<String>| arguments.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
    let text = |path: &PathBuf| path.display().to_string();
    option("--config", node.config.config.as_ref().map(text));
    option("--log-level", node.config.log_level.clone());
    option("--log-format", node.config.log_format.clone());
    option("--partitions", node.partitions.clone());
    option("--plugins", args.plugins.as_ref().map(text));
    option("--programs", args.programs.as_ref().map(text));
    // The nodes share one machine: none of them may think that its cores are its own.
    let shards = if config.shards == Shards::Auto { "1".to_owned() } else { node.shards.clone().unwrap_or_default() };
    option("--shards", Some(shards).filter(|shards| !shards.is_empty()));
    option("--set", Some("cpu.pin=false".to_owned()));
    for pair in &node.config.set {
        option("--set", Some(pair.clone()));
    }
    for (flag, is_set) in [("--insecure-bind", node.insecure_bind), ("--no-worker", args.no_worker)] {
        arguments.extend(is_set.then(|| flag.to_owned()));
    }
    arguments
}

fn catalog_arguments(args: &DevArgs) -> Vec<String> {
    let files = [("--rules", &args.rules), ("--workflows", &args.workflows)];
    files.into_iter().filter_map(|(flag, path)| Some([flag.to_owned(), path.as_ref()?.display().to_string()])).flatten().collect()
}

async fn look_after(
    plan: ClusterPlan,
    keys: Option<PathBuf>,
    args: &DevArgs,
    temporary: bool,
    dir: &Path,
    (mut stopped, mut reloaded): (watch::Receiver<bool>, Option<watch::Receiver<u64>>),
    output: Output,
) -> Result<Exit, Failure> {
    let mut cluster = tokio::select! {
        cluster = Cluster::start(plan) => cluster?,
        // The children end with the pipes to them.
        () = signals::first(&mut stopped) => return Ok(Exit::Success),
    };
    announce(&cluster, keys.as_deref(), temporary, dir, output);
    loop {
        tokio::select! {
            () = signals::first(&mut stopped) => break,
            () = stdin_closes(args.until_stdin_closes) => break,
            // The first node was given the files.
            () = hang_up(&mut reloaded) => cluster.nodes()[0].hang_up(),
            position = cluster.until_one_ends() => {
                let name = cluster.plan().name_of(position);
                let status = cluster.nodes()[position].has_ended();
                if let Some(status) = status.filter(|status| status.code().is_some()) {
                    cluster.stop().await;
                    return Err(Failure::new(Exit::NodeFailed, format!("{name} stopped by itself: {status}"))
                        .with_remedy("its log lines above say more"));
                }
                tracing::warn!(node = name, "killed; starting it again where it was");
                output.text(format!("{name} was killed; the others go on, it is started again."));
                tokio::time::sleep(Duration::from_millis(START_AGAIN_MS)).await;
                cluster.start_again(position).await?;
                output.text(format!("{name} is back, process {}.", cluster.nodes()[position].pid()));
                output.json(&json!({"event": "node_back", "node": name, "pid": cluster.nodes()[position].pid()}));
            }
        }
    }
    let failed = cluster.stop().await;
    if failed.is_empty() {
        return Ok(Exit::Success);
    }
    Err(Failure::new(Exit::FailedOutcome, format!("did not end cleanly: {}", failed.join(", "))))
}

async fn hang_up(reloaded: &mut Option<watch::Receiver<u64>>) {
    match reloaded {
        Some(reloaded) => signals::hang_up(reloaded).await,
        None => std::future::pending().await,
    }
}

fn announce(cluster: &Cluster, keys: Option<&Path>, temporary: bool, dir: &Path, output: Output) {
    let plan = cluster.plan();
    let nodes: Vec<Value> = cluster
        .nodes()
        .iter()
        .enumerate()
        .map(|(position, node)| {
            json!({
                "name": plan.name_of(position), "pid": node.pid(), "node_id": node.ready["node_id"], "wire": node.ready["wire"],
                "peer": node.ready["peer"], "http": node.ready["http"], "data_dir": node.ready["data_dir"],
            })
        })
        .collect();
    let first = &cluster.nodes()[0].ready;
    let addr = cluster.addresses().join(",");
    output.json(&json!({
        "event": "ready", "verb": "dev", "version": verbs::version::VERSION, "pid": std::process::id(), "cluster_id": first["cluster_id"],
        "wire": first["wire"], "http": first["http"], "addr": addr, "data_dir": dir.display().to_string(), "temporary": temporary,
        "catalog_version": first["catalog_version"], "nodes": nodes, "gossip_keys": keys.map(|path| path.display().to_string()),
    }));
    let line = |name: &str, value: &str| output.text(format!("  {:<8} {value}", output.paint(Paint::Dim, name)));
    let heading = format!("distric dev --nodes {}", nodes.len());
    output.text(format!("{} {}", output.paint(Paint::Strong, &heading), verbs::version::VERSION));
    for node in &nodes {
        let text = |member: &str| node[member].as_str().unwrap_or("off").to_owned();
        line(&text("name"), &format!("process {}, wire {}, peers {}, http {}", node["pid"], text("wire"), text("peer"), text("http")));
    }
    line("data", &format!("{}{}", dir.display(), if temporary { " (temporary, removed at the end)" } else { "" }));
    if let Some(keys) = keys {
        line("gossip", &format!("sealed; workers elsewhere: --set gossip.keys_file={}", keys.display()));
    }
    line("try", &format!("DISTRIC_ADDR={addr} distric send hello '{{\"n\":1}}'"));
    line("", &format!("kill -9 {}   (it is started again; nothing acknowledged is lost)", nodes[0]["pid"]));
}
