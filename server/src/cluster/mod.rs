//! A cluster on one machine: each node a child process with a data directory of its own.
//!
//! In: how many, where, with which arguments.  Out: running nodes that know each other.
//! Used by `distric dev --nodes N` and by the demo. Start reading at [`Cluster::start`].

pub mod child;
pub mod seats;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use distric_core::reactor::gossip::keys;
use distric_sdk::{Client, ClientOptions, Query, QueryKind};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::exit::{Exit, Failure};

use child::{Child, ChildPlan};
use seats::Seat;

/// The sizes that make sense on one machine: a majority of three survives one, of five two.
pub const SIZES: [usize; 3] = [1, 3, 5];
/// Every node votes in every group this long after all are ready.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);
/// The key of a cluster's gossip, in its directory.
const KEYS_FILE: &str = "gossip-keys";
/// Between two looks at whether that is so.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// The directory in which each node has one of its own.
    pub dir: PathBuf,
    /// The nodes are called by this name, `-`, and a number from 1.
    pub name: String,
    /// Where they listen.
    pub seats: Vec<Seat>,
    /// Arguments of every node.
    pub arguments: Vec<String>,
    /// Arguments of the first node beside those: the catalog.
    pub arguments_of_first: Vec<String>,
    /// Whether each node logs to `NAME.log` in the directory instead of stderr.
    pub logs: bool,
    /// Whether the `DISTRIC_` variables of the surroundings configure the nodes.
    pub surroundings: bool,
}

/// Running nodes, in the order of their seats.
#[derive(Debug)]
pub struct Cluster {
    plan: ClusterPlan,
    nodes: Vec<Child>,
}

impl ClusterPlan {
    /// The name of a node, from 0.
    pub fn name_of(&self, position: usize) -> String {
        format!("{}-{}", self.name, position + 1)
    }

    /// The data directory of a node.
    pub fn data_of(&self, position: usize) -> PathBuf {
        self.dir.join(self.name_of(position))
    }

    /// Makes a key for this cluster, once, and has all nodes seal their gossip with it. Returns its file.
    pub fn seal(&mut self) -> Result<PathBuf, Failure> {
        std::fs::create_dir_all(&self.dir).map_err(|error| Failure::io("create", &self.dir, &error))?;
        // The nodes may run elsewhere than this process does.
        let dir = std::path::absolute(&self.dir).map_err(|error| Failure::io("find", &self.dir, &error))?;
        let file = dir.join(KEYS_FILE);
        if !file.exists() {
            keys::add(&file, 0).map_err(|error| Failure::new(Exit::Environment, format!("cannot make a key for gossip: {error}")))?;
        }
        self.arguments.extend(["--set".to_owned(), format!("gossip.keys_file={}", file.display())]);
        Ok(file)
    }

    fn child(&self, position: usize, join: &str) -> ChildPlan {
        let seat = &self.seats[position];
        let name = self.name_of(position);
        let mut arguments: Vec<String> = ["--json", "dev", "--name", &name, "--wire-bind"].map(str::to_owned).into();
        arguments.extend([seat.wire.to_string(), "--peer-bind".to_owned(), seat.peer.to_string(), "--data-dir".to_owned()]);
        arguments.push(self.data_of(position).display().to_string());
        match seat.http {
            Some(http) => arguments.extend(["--http-bind".to_owned(), http.to_string()]),
            None => arguments.push("--no-http".to_owned()),
        }
        if let Some(gossip) = seats::gossip_apart(&self.seats, position) {
            arguments.extend(["--set".to_owned(), format!("gossip.bind={gossip}")]);
        }
        if !join.is_empty() {
            arguments.extend(["--join".to_owned(), join.to_owned()]);
        }
        arguments.extend(self.arguments.iter().cloned());
        if position == 0 {
            arguments.extend(self.arguments_of_first.iter().cloned());
        }
        let log = self.logs.then(|| self.dir.join(format!("{name}.log")));
        ChildPlan { name, arguments, log, surroundings: self.surroundings }
    }
}

impl Cluster {
    /// Starts all nodes and waits until each of them votes in every group.
    ///
    /// On empty directories the first one founds the cluster and the others join it. On the data of an earlier start they are all started
    /// at once: no one of them could do anything alone.
    pub async fn start(mut plan: ClusterPlan) -> Result<Self, Failure> {
        let is_founded = plan.data_of(0).exists() && plan.seats[0].peer.port() != 0;
        std::fs::create_dir_all(&plan.dir).map_err(|error| Failure::io("create", &plan.dir, &error))?;
        let mut nodes = Vec::new();
        if !is_founded {
            let first = Child::start(&plan.child(0, "")).await?;
            plan.note_seat(0, &first)?;
            seats::write(&plan.dir, &plan.seats)?;
            nodes.push(first);
        }
        let join = plan.seats[0].peer.to_string();
        let starts: Vec<ChildPlan> =
            (nodes.len()..plan.seats.len()).map(|position| plan.child(position, if position == 0 { "" } else { &join })).collect();
        let mut started: Vec<Option<Child>> = starts.iter().map(|_| None).collect();
        let mut starting = JoinSet::new();
        for (position, start) in starts.into_iter().enumerate() {
            starting.spawn(async move { (position, Child::start(&start).await) });
        }
        while let Some(joined) = starting.join_next().await {
            let (position, child) =
                joined.map_err(|error| Failure::new(Exit::NodeFailed, format!("a start ended with a panic: {error}")))?;
            started[position] = Some(child?);
        }
        for child in started.into_iter().flatten() {
            plan.note_seat(nodes.len(), &child)?;
            nodes.push(child);
        }
        seats::write(&plan.dir, &plan.seats)?;
        let cluster = Self { plan, nodes };
        cluster.until_whole().await?;
        Ok(cluster)
    }

    /// Starts a node again on its data, where it was.
    pub async fn start_again(&mut self, position: usize) -> Result<(), Failure> {
        let join = self.plan.seats[usize::from(position == 0)].peer.to_string();
        // Its directory says which cluster it belongs to, unless it died before it did.
        let join = if position == 0 { "" } else { &join };
        self.nodes[position] = Child::start(&self.plan.child(position, join)).await?;
        Ok(())
    }

    /// The plan, with the addresses that the nodes really have.
    pub fn plan(&self) -> &ClusterPlan {
        &self.plan
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Child] {
        &self.nodes
    }

    /// Where clients reach the nodes.
    pub fn addresses(&self) -> Vec<String> {
        self.plan.seats.iter().map(|seat| seat.wire.to_string()).collect()
    }

    /// Waits until the first of the nodes ends by itself. Returns which.
    pub async fn until_one_ends(&self) -> usize {
        let mut ends = JoinSet::new();
        for (position, node) in self.nodes.iter().enumerate() {
            let end = node.until_end();
            ends.spawn(async move {
                end.await;
                position
            });
        }
        match ends.join_next().await {
            Some(Ok(position)) => position,
            // A cluster has a node, and waiting does not panic.
            _ => std::future::pending().await,
        }
    }

    /// Asks all nodes to end, at once, and waits. Returns the names of those that did not end with success.
    pub async fn stop(self) -> Vec<String> {
        let mut ends = JoinSet::new();
        for (position, node) in self.nodes.into_iter().enumerate() {
            let name = self.plan.name_of(position);
            ends.spawn(async move { if node.stop().await { None } else { Some(name) } });
        }
        let mut failed = Vec::new();
        while let Some(end) = ends.join_next().await {
            failed.extend(end.ok().flatten());
        }
        failed.sort();
        failed
    }

    /// Waits until every node votes in every group and each group has a leader.
    pub async fn until_whole(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + WHOLE_WITHIN;
        for address in self.addresses() {
            loop {
                let what = match status(&address).await {
                    Ok(status) => match missing(&status, self.nodes.len()) {
                        None => break,
                        Some(what) => what,
                    },
                    Err(error) => error.message,
                };
                if Instant::now() >= deadline {
                    let message = format!("the cluster is not whole after {} s, as {address} sees it: {what}", WHOLE_WITHIN.as_secs());
                    return Err(Failure::new(Exit::NodeFailed, message).with_remedy("the log lines of the nodes say more"));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }
}

impl ClusterPlan {
    /// Takes the addresses that a node has instead of those that were asked for.
    fn note_seat(&mut self, position: usize, child: &Child) -> Result<(), Failure> {
        let address = |of: &str| child.address(of).and_then(|address| address.trim_start_matches("http://").parse().ok());
        let missing = || Failure::new(Exit::NodeFailed, format!("{} did not say where it listens", self.name_of(position)));
        let (wire, peer) = (address("wire").ok_or_else(missing)?, address("peer").ok_or_else(missing)?);
        self.seats[position] = Seat { wire, peer, http: address("http") };
        Ok(())
    }
}

/// The cluster as the node at this address sees it.
pub async fn status(address: &str) -> Result<Value, Failure> {
    let client = Client::connect(ClientOptions::new([address]).name("distric-cluster")).await?;
    let reply = client.query(Query::new(QueryKind::ClusterStatus)).await?;
    reply.json().map_err(|error| Failure::new(Exit::NodeFailed, format!("{address}: the status is no JSON: {error}")))
}

/// What a node's view of its cluster lacks: leaders, or one of `nodes` voters somewhere.
fn missing(status: &Value, nodes: usize) -> Option<String> {
    let groups = status["groups"].as_array().filter(|groups| !groups.is_empty());
    let Some(groups) = groups else { return Some("no groups yet".to_owned()) };
    groups.iter().find_map(|group| {
        let number = &group["number"];
        let voters = group["voters"].as_array().map_or(0, Vec::len);
        if group["leader"].is_null() {
            Some(format!("group {number} has no leader"))
        } else if voters != nodes || group["joint"] == true {
            Some(format!("group {number} has {voters} of {nodes} voters"))
        } else {
            None
        }
    })
}

/// The seats of a cluster in `dir`: those of an earlier start, else new ones in a row.
///
/// Errors: the earlier cluster had another size.
pub fn seats_in(dir: &Path, first: &Seat, count: usize) -> Result<Vec<Seat>, Failure> {
    match seats::read(dir)? {
        None => seats::in_a_row(first, count),
        Some(seats) if seats.len() == count => Ok(seats),
        Some(seats) => {
            Err(Failure::new(Exit::BadInput, format!("{} holds a cluster of {} nodes, not {count}", dir.display(), seats.len()))
                .with_remedy(format!("--nodes {}, or another --data-dir", seats.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_cluster_lacks_is_named() {
        let group = |leader: Value, voters: usize| json!({"number": 1, "leader": leader, "voters": vec![0; voters], "joint": false});
        let of = |group: Value| missing(&json!({ "groups": [group] }), 3);
        assert_eq!(of(group(json!("a"), 3)), None);
        assert_eq!(of(group(json!("a"), 2)).unwrap(), "group 1 has 2 of 3 voters");
        assert_eq!(of(group(Value::Null, 3)).unwrap(), "group 1 has no leader");
        assert!(missing(&json!({ "groups": [] }), 3).is_some());
    }
}
