//! The picture: one view of a cluster, put together from what each of its nodes says about itself.
//!
//! A follower does not know how far the others are, so every member is asked, and each group is described by its leader.

use std::collections::BTreeMap;
use std::time::Duration;

use distric_sdk::{Client, ClientOptions, Query, QueryKind};
use distric_server::exit::{Exit, Failure};
use serde_json::{Value, json};
use uuid::Uuid;

/// A member that has not answered by then is shown as unreachable, milliseconds.
const MEMBER_MS_MAX: u64 = 2_000;

/// One coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub wire: String,
    /// Where the other coordinators reach it.
    pub peer: String,
    /// Whether it answers.
    pub reachable: bool,
    /// Its program's version, if it answers.
    pub version: Option<String>,
    /// Whether it holds a partition possible, by gossip; `None`: it does not answer, or takes no part.
    pub verdict: Option<String>,
}

/// One group, by its leader if that answers, else by whoever does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number; 0 is the cluster's own.
    pub number: u32,
    /// Its term.
    pub term: u64,
    /// Its leader.
    pub leader: Option<Uuid>,
    /// Up to where it is committed.
    pub commit_index: u64,
    /// Who votes.
    pub voters: Vec<Uuid>,
    /// Who only learns yet.
    pub learners: Vec<Uuid>,
    /// Whether its members are being changed.
    pub joint: bool,
    /// How many entries each of the others lacks; only a leader knows.
    pub lag_entries: BTreeMap<Uuid, u64>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// The cluster's id.
    pub cluster: Option<String>,
    /// The coordinators, in order of id.
    pub nodes: Vec<Node>,
    /// The groups, by number.
    pub groups: Vec<Group>,
    /// Whether gossip is sealed, by the node that was asked; `None`: it takes no part.
    pub sealed: Option<bool>,
}

/// Asks the node that `client` is connected to, and then every member that it names.
pub async fn take(client: &Client) -> Result<Picture, Failure> {
    let own = ask(client).await?;
    let mut views = vec![own.clone()];
    let mut nodes = Vec::new();
    for member in own["members"].as_array().into_iter().flatten() {
        let wire = text(&member["wire_address"]);
        let view = if member["self"] == true { Some(own.clone()) } else { ask_member(&wire).await };
        let Some(id) = id(&member["node"]) else { continue };
        // At an address that another node has taken meanwhile, somebody else answers.
        let view = view.filter(|view| view["node"] == member["node"]);
        let version = view.as_ref().and_then(|view| view["version"].as_str()).map(str::to_owned);
        let verdict = view.as_ref().and_then(|view| view["gossip"]["verdict"].as_str()).map(str::to_owned);
        let (name, peer, reachable) = (text(&member["name"]), text(&member["peer_address"]), view.is_some());
        nodes.push(Node { id, name, wire, peer, reachable, version, verdict });
        if member["self"] != true {
            views.extend(view);
        }
    }
    nodes.sort_by_key(|node| node.id);
    let sealed = own["gossip"]["sealed"].as_bool();
    Ok(Picture { cluster: own["cluster"].as_str().map(str::to_owned), nodes, groups: groups(&views), sealed })
}

async fn ask(client: &Client) -> Result<Value, Failure> {
    let reply = client.query(Query::new(QueryKind::ClusterStatus)).await?;
    reply.json().map_err(|error| Failure::new(Exit::FailedOutcome, format!("the status is no JSON: {error}")))
}

async fn ask_member(wire: &str) -> Option<Value> {
    let mut options = ClientOptions::new([wire]).name("distric-admin").request_timeout_ms(MEMBER_MS_MAX);
    options.connect_timeout_ms = MEMBER_MS_MAX;
    options.retry.attempts_max = 1;
    let asked = async { ask(&Client::connect(options).await.ok()?).await.ok() };
    tokio::time::timeout(Duration::from_millis(MEMBER_MS_MAX), asked).await.ok().flatten()
}

/// Each group by the best of the views: the highest term, and in it the leader's own.
fn groups(views: &[Value]) -> Vec<Group> {
    let mut best: BTreeMap<u32, (u64, bool, Group)> = BTreeMap::new();
    for view in views {
        for row in view["groups"].as_array().into_iter().flatten() {
            let Some(number) = row["number"].as_u64().and_then(|number| u32::try_from(number).ok()) else { continue };
            let group = Group {
                number,
                term: row["term"].as_u64().unwrap_or_default(),
                leader: id(&row["leader"]),
                commit_index: row["commit_index"].as_u64().unwrap_or_default(),
                voters: ids(&row["voters"]),
                learners: ids(&row["learners"]),
                joint: row["joint"] == true,
                lag_entries: row["peers"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|peer| Some((id(&peer["node"])?, peer["lag_entries"].as_u64()?)))
                    .collect(),
            };
            let by_leader = row["leader"] == view["node"];
            let rank = (group.term, by_leader);
            if best.get(&number).is_none_or(|(term, led, _)| (*term, *led) < rank) {
                best.insert(number, (group.term, by_leader, group));
            }
        }
    }
    best.into_values().map(|(_, _, group)| group).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn id(value: &Value) -> Option<Uuid> {
    value.as_str()?.parse().ok()
}

fn ids(value: &Value) -> Vec<Uuid> {
    value.as_array().into_iter().flatten().filter_map(id).collect()
}

impl Picture {
    /// The node with this name or id.
    ///
    /// Errors: none has it, or several have the name.
    pub fn node(&self, wanted: &str) -> Result<&Node, Failure> {
        let found: Vec<&Node> = self.nodes.iter().filter(|node| node.name == wanted || node.id.to_string() == wanted).collect();
        let known = self.nodes.iter().map(|node| format!("{}  {}", node.id, node.name));
        match found.as_slice() {
            [node] => Ok(node),
            [] => Err(Failure::new(Exit::NotFound, format!("no coordinator is called `{wanted}` or has this id")).with_findings(known)),
            _ => Err(Failure::new(Exit::Conflict, format!("several coordinators are called `{wanted}`"))
                .with_findings(known)
                .with_remedy("name it by its id")),
        }
    }

    /// A node's name, or its id when it has no record.
    pub fn name_of(&self, id: Uuid) -> String {
        self.nodes.iter().find(|node| node.id == id).map_or_else(|| id.to_string(), |node| node.name.clone())
    }

    /// How many groups a node leads.
    pub fn leads(&self, id: Uuid) -> usize {
        self.groups.iter().filter(|group| group.leader == Some(id)).count()
    }

    /// The groups without a leader.
    pub fn leaderless(&self) -> Vec<u32> {
        self.groups.iter().filter(|group| group.leader.is_none()).map(|group| group.number).collect()
    }

    /// Whether exactly these vote in every group, and no change is under way.
    pub fn is_settled(&self, voters: &[Uuid]) -> bool {
        !self.groups.is_empty()
            && self.groups.iter().all(|group| {
                let mut of_group = group.voters.clone();
                of_group.sort_unstable();
                of_group == voters && group.learners.is_empty() && !group.joint && group.leader.is_some()
            })
    }

    /// As a document for scripts.
    pub fn to_json(&self) -> Value {
        let nodes: Vec<Value> = self
            .nodes
            .iter()
            .map(|node| {
                json!({
                    "id": node.id, "name": node.name, "wire": node.wire, "peer": node.peer, "reachable": node.reachable,
                    "version": node.version, "leads": self.leads(node.id), "verdict": node.verdict,
                })
            })
            .collect();
        let groups: Vec<Value> = self
            .groups
            .iter()
            .map(|group| {
                json!({
                    "group": group.number, "term": group.term, "leader": group.leader, "commit_index": group.commit_index,
                    "voters": group.voters, "learners": group.learners, "joint": group.joint, "lag_entries": group.lag_entries,
                })
            })
            .collect();
        json!({ "cluster": self.cluster, "nodes": nodes, "groups": groups, "gossip_sealed": self.sealed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(node: u128, leader: u128, term: u64, lag: Option<u64>) -> Value {
        let uuid = Uuid::from_u128;
        let peers: Vec<Value> = lag.iter().map(|lag| json!({"node": uuid(9), "lag_entries": lag})).collect();
        let group = json!({"number": 1, "term": term, "leader": uuid(leader), "voters": [uuid(1), uuid(2)], "peers": peers});
        json!({ "node": uuid(node), "groups": [group] })
    }

    #[test]
    fn a_group_is_described_by_the_leader_of_its_latest_term() {
        let found = groups(&[view(2, 1, 5, None), view(1, 1, 5, Some(7)), view(3, 3, 4, Some(1))]);
        assert_eq!((found.len(), found[0].leader, found[0].lag_entries[&Uuid::from_u128(9)]), (1, Some(Uuid::from_u128(1)), 7));
        let found = groups(&[view(1, 1, 5, Some(7)), view(2, 3, 6, None)]);
        assert_eq!(found[0].leader, Some(Uuid::from_u128(3)), "the old leader does not know yet");
    }

    #[test]
    fn nodes_are_found_by_name_or_id_and_ambiguity_is_said() {
        let node = |id: u128, name: &str| Node {
            id: Uuid::from_u128(id),
            name: name.to_owned(),
            wire: String::new(),
            peer: String::new(),
            reachable: true,
            version: None,
            verdict: None,
        };
        let picture = Picture { nodes: vec![node(1, "a"), node(2, "b"), node(3, "b")], ..Picture::default() };
        assert_eq!(picture.node("a").unwrap().id, Uuid::from_u128(1));
        assert_eq!(picture.node(&Uuid::from_u128(3).to_string()).unwrap().id, Uuid::from_u128(3));
        assert_eq!(picture.node("b").unwrap_err().exit, Exit::Conflict);
        assert_eq!(picture.node("c").unwrap_err().exit, Exit::NotFound);
    }
}
