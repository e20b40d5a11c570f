//! The worker's place in gossip: an agent beside the session, so that its death is seen by others and not only by its stream.
//!
//! Nothing has to be configured: the coordinators say which cluster it is and where they gossip.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use distric_core::config::Config;
use distric_core::node::liveness::{gossip_generation, node_of_worker};
use distric_core::reactor::gossip::load::{LoadMeter, Shares};
use distric_core::reactor::gossip::refusals::RefusalLog;
use distric_core::reactor::gossip::{AgentCommand, AgentControl, AgentStart, AgentThread, Sockets, resolve_one};
use distric_core::reactor::gossip_core;
use distric_gossip::{Event, Generation, Gossip, KeyChoice, KeyId, KeyRing, Load, Profile};
use distric_model::{ClusterId, WorkerId};
use distric_sdk::worker::WorkerGauge;
use distric_sdk::{Client, ClientOptions, Query, QueryKind};
use serde_json::Value;

/// Between two tries while worker and cluster do not agree on whether gossip is sealed.
const DIFFER_PAUSE: Duration = Duration::from_secs(10);
/// Between two samples of the load. Gossip itself decides which of them are worth telling.
const LOAD_EVERY: Duration = Duration::from_secs(1);
/// Between two tries to learn where the cluster gossips.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Longest wait for a coordinator's answer, milliseconds.
const ANSWER_MS_MAX: u64 = 5_000;

/// What a coordinator says about gossip.
#[derive(Debug, PartialEq, Eq)]
struct Ground {
    cluster: ClusterId,
    /// Where its own gossip and that of the other coordinators is reached; never empty.
    addresses: Vec<String>,
    /// Which keys count there; `None`: gossip is not sealed.
    keys: Option<KeyChoice>,
}

/// What a worker brings with it.
pub struct Part {
    /// Its id.
    pub worker: WorkerId,
    /// Which run this is, microseconds.
    pub generation: u64,
    /// The keys of its file; `None`: not sealed.
    pub keys: Option<KeyRing>,
    /// What it has in hand.
    pub gauge: WorkerGauge,
}

/// Tells the others how much this worker and its computer have to do, for as long as the process runs.
async fn tell_load(control: AgentControl, gauge: WorkerGauge) {
    let mut meter = LoadMeter::default();
    loop {
        // Where the kernel does not say, the tasks are told without it.
        let Shares { cpu_permille, memory_permille } = meter.look().unwrap_or_default();
        let load = Load { running: gauge.running(), queued: gauge.queued(), cpu_permille, memory_permille, ..Load::default() };
        control.tell(0, AgentCommand::Load(load));
        tokio::time::sleep(LOAD_EVERY).await;
    }
}

/// Learns where the cluster gossips and joins there; tries until it can. `None`: this worker takes no part, for a reason in the log.
pub async fn join(config: &Config, part: Part) -> Option<AgentThread> {
    let Part { worker, generation, keys, gauge } = part;
    if !config.gossip.enabled {
        return None;
    }
    let mut has_told = false;
    loop {
        match ask(config).await {
            Ok(Some(ground)) if ground.keys.is_some() != keys.is_some() => {
                // Whoever turns the seal on restarts one after the other: perhaps the coordinators are only not there yet.
                if !std::mem::replace(&mut has_told, true) {
                    let (here, there) =
                        if keys.is_some() { ("has keys", "is not sealed") } else { ("has no gossip.keys_file", "is sealed") };
                    tracing::warn!(target: "distric_server::gossip", event = "gossip_keys_differ", "the cluster's gossip {there} and this worker {here}: it takes no part, and its stream alone says that it lives");
                }
                tokio::time::sleep(DIFFER_PAUSE).await;
            }
            Ok(Some(ground)) => match start(config, worker, generation, &ground, keys.clone()) {
                Ok(thread) => {
                    if let Ok(control) = thread.control().try_clone() {
                        tokio::spawn(tell_load(control, gauge));
                    }
                    return Some(thread);
                }
                Err(error) => tracing::warn!(target: "distric_server::gossip", error = %error, "the worker cannot take part in gossip yet"),
            },
            Ok(None) => {
                tracing::info!(target: "distric_server::gossip", "the coordinators do not gossip; the worker's stream alone says that it lives");
                return None;
            }
            Err(error) => tracing::debug!(target: "distric_server::gossip", error, "no coordinator says where the cluster gossips"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn ask(config: &Config) -> Result<Option<Ground>, String> {
    let mut options = ClientOptions::new(config.worker.coordinators.clone()).name("distric-worker").request_timeout_ms(ANSWER_MS_MAX);
    options.api_key = std::env::var("DISTRIC_API_KEY").ok();
    let client = Client::connect(options).await.map_err(|error| error.to_string())?;
    let reply = client.query(Query::new(QueryKind::ClusterStatus)).await.map_err(|error| error.to_string())?;
    let status: Value = serde_json::from_slice(&reply.body).map_err(|error| error.to_string())?;
    ground(&status)
}

/// Reads a status document. Errors: the coordinator does not know its cluster yet.
fn ground(status: &Value) -> Result<Option<Ground>, String> {
    let Some(own) = status["gossip"]["address"].as_str() else { return Ok(None) };
    let cluster = status["cluster"].as_str().and_then(|text| text.parse().ok()).ok_or("the coordinator has no cluster yet")?;
    let others = status["gossip"]["members"].as_array().into_iter().flatten();
    let others = others
        .filter(|member| member["role"] == "coordinator" && member["state"] != "left")
        .filter_map(|member| member["address"].as_str());
    let mut addresses: Vec<String> = std::iter::once(own).chain(others).map(str::to_owned).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(Some(Ground { cluster, addresses, keys: choice(&status["gossip"]["keys"]) }))
}

/// The choice of keys in a status document.
fn choice(keys: &Value) -> Option<KeyChoice> {
    let id = |name: &str| keys[name].as_u64().and_then(|id| u16::try_from(id).ok()).map(KeyId);
    Some(KeyChoice { version: keys["version"].as_u64()?, primary: id("primary")?, floor: id("floor")? })
}

fn start(config: &Config, worker: WorkerId, generation: u64, ground: &Ground, keys: Option<KeyRing>) -> io::Result<AgentThread> {
    let node = node_of_worker(worker).ok_or_else(|| io::Error::other("the worker's id is no node's"))?;
    let mut seeds = Vec::new();
    for name in ground.addresses.iter().chain(&config.gossip.seeds) {
        seeds.extend(resolve_one(name));
    }
    let sockets = match config.gossip.bind {
        Some(bind) => Sockets::bind(bind)?,
        None => facing(&ground.addresses, config.insecure_bind)?,
    };
    let address = gossip_core::advertised(config.gossip.advertise.as_deref(), &sockets)?;
    let mut labels = gossip_core::own_labels(&config.worker.name);
    labels.extend(config.worker.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
    labels.truncate(distric_gossip::LABELS_MAX);
    let mut profile =
        Profile { zone: config.gossip.zone.clone(), labels, capacity: config.worker.slots, ..Profile::worker(resolve_one(&address)?) };
    if profile.check().is_err() {
        // Placement goes by what the session says; here labels are for people, and name and version are enough.
        profile.labels.truncate(2);
    }
    let mut settings = gossip_core::settings(&config.gossip, ground.cluster, node, Generation(gossip_generation(generation)), profile);
    settings.seeds = seeds;
    settings.keys = keys.clone();
    settings.key_choice = ground.keys.unwrap_or_default();
    let mut refusals = RefusalLog::default();
    let seed = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    let listen = Box::new(move |now, gossip: &Gossip, events: &[Event]| {
        refusals.tell(now, gossip.stats());
        for event in events {
            match event {
                // The coordinators tell of the others; a worker tells of itself.
                Event::Superseded { .. } | Event::Conflict { .. } | Event::Ready { .. } | Event::KeyChosen { .. } => {
                    gossip_core::tell(event)
                }
                _ => tracing::debug!(target: "distric_server::gossip", what = ?event, "heard"),
            }
        }
    });
    let mut thread = AgentThread::start("gossip", vec![AgentStart { config: settings, seed, sockets, listen }], false)?;
    if let (Some(path), Some(keys)) = (&config.gossip.keys_file, keys) {
        thread.watch_keys(path, keys)?;
    }
    Ok(thread)
}

/// Sockets on the address of this machine that faces the first coordinator that can be reached.
fn facing(addresses: &[String], insecure_bind: bool) -> io::Result<Sockets> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address of a coordinator's gossip");
    for address in addresses {
        let found = || -> io::Result<SocketAddr> {
            let any: SocketAddr = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }.parse().map_err(io::Error::other)?;
            let socket = UdpSocket::bind(any)?;
            // Sends nothing: the system only chooses the way.
            socket.connect(address.as_str())?;
            socket.local_addr()
        };
        match found() {
            Ok(local) if local.ip().is_loopback() || insecure_bind => return Sockets::bind(SocketAddr::new(local.ip(), 0)),
            Ok(local) => {
                let reason = format!("{} can be reached from other machines; accept it with --set insecure_bind=true", local.ip());
                last = io::Error::new(io::ErrorKind::PermissionDenied, reason);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_coordinators_of_a_status_are_the_ground_and_workers_are_not() {
        let cluster = ClusterId::new(distric_model::Timestamp::from_us(1), distric_model::Slot::truncate(0), 4);
        let member = |role, state, address| json!({ "role": role, "state": state, "address": address });
        let members = [
            member("coordinator", "active", "127.0.0.1:2"),
            member("coordinator", "left", "127.0.0.1:3"),
            member("worker", "active", "127.0.0.1:4"),
        ];
        let keys = json!({ "held": [1, 2], "sealing": 2, "version": 3, "primary": 2, "floor": 1 });
        let status = json!({ "cluster": cluster, "gossip": { "address": "127.0.0.1:1", "members": members, "keys": keys } });
        let addresses = vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
        let keys = Some(KeyChoice { version: 3, primary: KeyId(2), floor: KeyId(1) });
        let sealed = Ground { cluster, addresses: addresses.clone(), keys };
        assert_eq!(ground(&status), Ok(Some(sealed)));
        let status = json!({ "cluster": cluster, "gossip": { "address": "127.0.0.1:1", "members": members, "keys": null } });
        assert_eq!(ground(&status), Ok(Some(Ground { cluster, addresses, keys: None })));
        assert_eq!(ground(&json!({ "cluster": cluster, "gossip": null })), Ok(None));
        assert!(ground(&json!({ "cluster": null, "gossip": { "address": "127.0.0.1:1" } })).is_err());
    }

    #[test]
    fn a_worker_on_the_coordinators_machine_listens_on_loopback() {
        let sockets = facing(&["127.0.0.1:9".to_owned()], false).unwrap();
        assert!(sockets.address().unwrap().ip().is_loopback());
    }
}
