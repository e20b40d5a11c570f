//! The gossip core of a coordinator: an agent on a thread of its own, whose view goes to all shards and whose events go to the log.
//!
//! In: the configuration, where the members are (from the raft core).  Out: [`ShardLetter::Gossip`] and log events.
//! Nothing that is told here changes state by itself: the shards propose, the log decides.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use distric_gossip::{Event, Generation, Gossip, KeyRing, LABEL_BYTES_MAX, Load, Profile, Role};
use distric_model::{ClusterId, NodeId};

use super::clock;
use super::gossip::keys::{self, KeysError};
use super::gossip::load::{LoadMeter, Shares};
use super::gossip::refusals::RefusalLog;
use super::gossip::{AgentCommand, AgentControl, AgentStart, AgentThread, Sockets};
use super::mesh::Post;
use crate::config::{Config, GossipConfig, gossip_beside};
use crate::node::letters::ShardLetter;
use crate::node::liveness::{GossipView, MemberSeat, NAME_LABEL, PEER_LABEL, VERSION_LABEL, verdict_name};
use crate::node::peer::Member;

/// The file in a data directory that remembers the generation of the last start.
const GENERATION_FILE: &str = "gossip-generation";

/// Between two looks at the load of this computer, milliseconds.
const LOOK_MS: u64 = 1_000;

/// Binds gossip's sockets: where the configuration says, else two ports after the clients' where that is free, else anywhere.
pub fn bind(config: &Config) -> io::Result<Sockets> {
    if let Some(bind) = config.gossip.bind {
        return Sockets::bind(bind);
    }
    let beside = gossip_beside(config.wire.bind);
    Sockets::bind(beside).or_else(|_| Sockets::bind(SocketAddr::new(beside.ip(), 0)))
}

/// The next generation of this data directory: the calendar's milliseconds, or one more than the last where that is greater.
pub fn next_generation(data_dir: &Path) -> io::Result<Generation> {
    let path = data_dir.join(GENERATION_FILE);
    let last: u64 = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| io::Error::other(format!("{} holds no number; remove it", path.display())))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let next = (clock::wall().as_us() / 1_000).max(last.saturating_add(1));
    // Beside it and then in its place: a full disk must not leave it empty.
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    writeln!(file, "{next}")?;
    file.sync_all()?;
    fs::rename(&beside, &path)?;
    fs::File::open(data_dir)?.sync_all()?;
    Ok(Generation(next))
}

/// The machine's settings out of the configuration.
pub fn settings(
    config: &GossipConfig,
    cluster: ClusterId,
    node: NodeId,
    generation: Generation,
    profile: Profile,
) -> distric_gossip::Config {
    let mut settings = distric_gossip::Config::new(cluster, node, generation, profile);
    settings.probe_interval_ms = config.probe_interval_ms;
    settings.gossip_interval_ms = config.interval_ms;
    settings.gossip_fan_out = config.fan_out as usize;
    settings.indirect_probes = config.indirect_probes as usize;
    settings.suspicion_factor = f64::from(config.suspicion_factor_percent) / 100.0;
    settings.suspicion_spread = config.suspicion_spread;
    settings.suspicion_floor_ms = config.suspicion_floor_ms;
    settings
}

/// The keys that are configured.  Errors: the file is not in order.
pub fn keys(config: &GossipConfig) -> Result<Option<KeyRing>, KeysError> {
    config.keys_file.as_deref().map(keys::read).transpose()
}

/// Where the other members gossip, and what was written besides.
pub fn seeds(me: NodeId, members: &[Member], written: &[String]) -> Vec<String> {
    let others = members.iter().filter(|member| member.node != me && !member.gossip_address.is_empty());
    others.map(|member| member.gossip_address.to_string()).chain(written.iter().cloned()).collect()
}

/// What the thread is started with.
pub struct GossipCoreStart<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The data directory.
    pub data_dir: &'a Path,
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// Its sockets.
    pub sockets: Sockets,
    /// Where others reach it.
    pub address: &'a str,
    /// Where the other coordinators call this one.
    pub peer_address: &'a str,
    /// The keys of its file; `None`: not sealed.
    pub keys: Option<KeyRing>,
    /// Lanes to the shards.
    pub post: Post,
    /// How many shards there are.
    pub shard_count: usize,
    /// Of the machine's draws.
    pub seed: u64,
    /// Whether the runtime is io_uring's.
    pub use_uring: bool,
}

/// Starts the thread.  Errors: files, sockets, settings.
pub fn start(start: GossipCoreStart<'_>) -> io::Result<AgentThread> {
    let GossipCoreStart { config, data_dir, cluster, node, sockets, address, peer_address, keys, mut post, shard_count, seed, use_uring } =
        start;
    let endpoint = super::gossip::resolve_one(address)?;
    let mut labels = own_labels(&config.node.name);
    if peer_address.len() <= LABEL_BYTES_MAX {
        labels.push((PEER_LABEL.to_owned(), peer_address.to_owned()));
    }
    let profile = Profile { role: Role::Voter, zone: config.gossip.zone.clone(), labels, ..Profile::worker(endpoint) };
    let mut settings = settings(&config.gossip, cluster, node, next_generation(data_dir)?, profile.clone());
    settings.keys = keys.clone();
    if keys.is_none() {
        tracing::warn!(target: "distric_core::gossip", event = "gossip_unsealed", "gossip is not sealed: whoever can send packets to its port can forge any member; set gossip.keys_file");
    }
    let mut own = MemberSeat {
        standing: distric_gossip::Standing::new(settings.generation, distric_gossip::Incarnation(0), distric_gossip::State::Alive),
        name: config.node.name.clone(),
        role: profile.role,
        endpoint,
        zone: profile.zone,
        capacity: 0,
        load: distric_gossip::Load::default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        peer: Some(peer_address.into()),
        keys: distric_gossip::KeyWord::default(),
    };
    let mut refusals = RefusalLog::default();
    let (mut meter, mut next_look) = (LoadMeter::default(), None);
    let own_control = Arc::new(OnceLock::new());
    let to_self: Arc<OnceLock<AgentControl>> = own_control.clone();
    let listen = Box::new(move |now, gossip: &Gossip, events: &[Event]| {
        events.iter().for_each(tell);
        refusals.tell(now, gossip.stats());
        own.standing = gossip.own_standing();
        own.keys = gossip.keys().clone();
        own.load = gossip.own_load();
        if next_look.is_none_or(|at| at <= now) {
            next_look = Some(now.plus_ms(LOOK_MS));
            tell_load(&mut meter, &to_self);
        }
        let others = gossip.members().map(|view| (view.node, seat(&view)));
        let members = std::iter::once((node, own.clone())).chain(others).collect();
        let (verdict, local_health, stats) = (gossip.verdict(), gossip.local_health(), *gossip.stats());
        let view = Arc::new(GossipView { node, endpoint, members, verdict, local_health, stats });
        for shard in 0..shard_count {
            post.shard_latest(shard, ShardLetter::Gossip(view.clone()));
        }
        // What a full lane does not take is replaced next time, in a second at the latest: a shard that stands still holds up
        // neither gossip nor memory.
        post.ring();
    });
    let mut thread = AgentThread::start("gossip-core", vec![AgentStart { config: settings, seed, sockets, listen }], use_uring)?;
    if let Ok(control) = thread.control().try_clone() {
        let _ = own_control.set(control);
    }
    if let (Some(path), Some(keys)) = (&config.gossip.keys_file, keys) {
        thread.watch_keys(path, keys)?;
    }
    Ok(thread)
}

/// Tells the machine what the kernel says about this computer. A coordinator runs no tasks.
fn tell_load(meter: &mut LoadMeter, to: &OnceLock<AgentControl>) {
    let Some(to) = to.get() else { return };
    match meter.look() {
        Ok(Shares { cpu_permille, memory_permille }) => {
            to.tell(0, AgentCommand::Load(Load { cpu_permille, memory_permille, ..Load::default() }));
        }
        Err(error) => tracing::debug!(target: "distric_core::gossip", error = %error, "the load of this machine is not known"),
    }
}

/// What every member says about itself for people.
pub fn own_labels(name: &str) -> Vec<(String, String)> {
    vec![(NAME_LABEL.to_owned(), name.to_owned()), (VERSION_LABEL.to_owned(), env!("CARGO_PKG_VERSION").to_owned())]
}

fn seat(view: &distric_gossip::MemberView) -> MemberSeat {
    let profile = &view.profile;
    let label = |wanted: &str| profile.labels.iter().find(|(label, _)| label == wanted).map(|(_, text)| text.clone()).unwrap_or_default();
    MemberSeat {
        standing: view.standing,
        name: label(NAME_LABEL),
        version: label(VERSION_LABEL),
        peer: profile.labels.iter().find(|(label, _)| label == PEER_LABEL).map(|(_, address)| address.as_str().into()),
        keys: profile.keys.clone(),
        role: profile.role,
        endpoint: profile.endpoint,
        zone: profile.zone.clone(),
        capacity: profile.capacity,
        load: view.load,
    }
}

/// One event as a line of the log.
pub fn tell(event: &Event) {
    match event {
        Event::Joined { node, generation, profile } => {
            tracing::info!(target: "distric_core::gossip", event = "node_joined", node = %node, generation = generation.0, address = %profile.endpoint, "a member is there");
        }
        Event::Restarted { node, generation, .. } => {
            tracing::info!(target: "distric_core::gossip", event = "node_joined", node = %node, generation = generation.0, "a member started anew before it was missed");
        }
        Event::Suspected { node, generation, accuser } => {
            tracing::warn!(target: "distric_core::gossip", event = "node_suspected", node = %node, generation = generation.0, accuser = %accuser, "a member does not answer");
        }
        Event::Refuted { node, incarnation } => {
            tracing::info!(target: "distric_core::gossip", event = "node_refuted", node = %node, incarnation = incarnation.0, "a suspected member spoke up");
        }
        Event::Failed { node, generation } => {
            tracing::warn!(target: "distric_core::gossip", event = "node_failed", node = %node, generation = generation.0, "a member is held dead");
        }
        Event::Left { node, generation } => {
            tracing::info!(target: "distric_core::gossip", event = "node_left", node = %node, generation = generation.0, "a member said good-bye");
        }
        Event::Partition { from, to } => {
            let name = if *to == distric_gossip::Verdict::None { "partition_healed" } else { "partition_suspected" };
            tracing::warn!(target: "distric_core::gossip", event = name, from = verdict_name(*from), verdict = verdict_name(*to), "the view of the network changed");
        }
        Event::Superseded { generation } => {
            tracing::error!(target: "distric_core::gossip", event = "node_superseded", generation = generation.0, "a later process runs under this node's id: was a data directory copied?");
        }
        Event::Conflict { node, refused } => {
            tracing::error!(target: "distric_core::gossip", event = "node_conflict", node = %node, refused = %refused, "two processes claim one id; the first is kept");
        }
        Event::Changed { .. } | Event::RoleChanged { .. } | Event::GenerationRaised { .. } => {
            tracing::debug!(target: "distric_core::gossip", event = "node_changed", what = ?event, "a member says something new about itself");
        }
        Event::KeyChosen { choice, sealing } => {
            let (primary, floor) = (choice.primary.0, choice.floor.0);
            if *sealing == choice.primary {
                tracing::info!(target: "distric_core::gossip", event = "gossip_key_chosen", primary, floor, version = choice.version, "gossip is sealed with another key");
            } else {
                tracing::warn!(target: "distric_core::gossip", event = "gossip_key_lacking", primary, floor, sealing = sealing.0, "the key that the cluster chose is not in gossip.keys_file");
            }
        }
        Event::Ready { live_count } => {
            tracing::info!(target: "distric_core::gossip", event = "gossip_ready", live_count, "the members are known")
        }
    }
}

/// Where this agent is reached as seen by others, from what was bound and what was written.
pub fn advertised(advertise: Option<&str>, sockets: &Sockets) -> io::Result<String> {
    Ok(match advertise {
        Some(address) => address.to_owned(),
        None => sockets.address()?.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_grow_even_when_the_clock_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let first = next_generation(dir.path()).unwrap();
        assert!(next_generation(dir.path()).unwrap() > first);
        let far = first.0 + 1_000_000_000;
        fs::write(dir.path().join(GENERATION_FILE), format!("{far}\n")).unwrap();
        assert_eq!(next_generation(dir.path()).unwrap(), Generation(far + 1));
        fs::write(dir.path().join(GENERATION_FILE), "hello").unwrap();
        assert!(next_generation(dir.path()).unwrap_err().to_string().contains("gossip-generation"));
    }

    #[test]
    fn a_node_is_no_seed_of_its_own_and_who_takes_no_part_is_none() {
        let node = |n| NodeId::new(distric_model::Timestamp::from_us(0), distric_model::Slot::truncate(0), n);
        let member =
            |n, address: &str| Member { gossip_address: address.into(), ..crate::node::shard::own_record(node(n), "a", "b:1", "c:2") };
        let members = [member(1, "h1:3"), member(2, "h2:3"), member(3, "")];
        assert_eq!(seeds(node(1), &members, &["h9:9".to_owned()]), ["h2:3", "h9:9"]);
    }
}
