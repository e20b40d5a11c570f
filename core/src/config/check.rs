//! From what was written to what it means: kinds are known, relations between values are checked here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use distric_exec::DefaultStrategy;

use super::problem::ConfigProblem;
use super::raw::RawConfig;
use super::value::Value;
use super::{
    ClusterConfig, Config, CpuConfig, ExecConfig, GossipConfig, HttpConfig, IoConfig, IoDriver, LimitsConfig, LogConfig, LogFormat,
    LogLevel, LogStoreKind, NodeConfig, PeerConfig, RaftConfig, Shards, StorageConfig, WireConfig, WorkerConfig,
};

/// An election must not start while heartbeats are merely late: at least so many heartbeats fit in the shortest timeout.
pub const HEARTBEATS_PER_ELECTION_MIN: u32 = 3;

/// The layers above the defaults, as text.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Name and text of the configuration file.
    pub file: Option<(String, String)>,
    /// The process environment; other prefixes are skipped.
    pub environment: Vec<(String, String)>,
    /// Key, flag as typed, value.
    pub flags: Vec<(String, String, String)>,
}

/// A checked configuration, and what was written for it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it means.
    pub config: Config,
    /// What was written, with origins.
    pub raw: RawConfig,
}

/// Lays all layers over each other and checks the result.
///
/// Errors: every problem that was found, in the order of the layers; never empty.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<ConfigProblem>> {
    let mut problems = Vec::new();
    let mut raw = RawConfig::defaults();
    if let Some((name, text)) = &sources.file {
        raw.read_file(name, text, &mut problems);
    }
    raw.read_environment(sources.environment.iter().map(|(name, text)| (name.as_str(), text.as_str())), &mut problems);
    for (name, flag, text) in &sources.flags {
        raw.set_flag(name, flag, text, &mut problems);
    }
    let config = meaning(&raw);
    check_relations(&config, &raw, &mut problems);
    if problems.is_empty() { Ok(Loaded { config, raw }) } else { Err(problems) }
}

impl Default for Config {
    /// The configuration of an empty file.
    fn default() -> Self {
        meaning(&RawConfig::defaults())
    }
}

fn meaning(raw: &RawConfig) -> Config {
    Config {
        node: NodeConfig { name: text(raw, "node.name"), data_dir: path(raw, "node.data_dir") },
        wire: WireConfig { bind: address(raw, "wire.bind"), advertise: addresses(raw, "wire.advertise").into_iter().next() },
        peer: PeerConfig { bind: peer_bind(raw), advertise: addresses(raw, "peer.advertise").into_iter().next() },
        cluster: ClusterConfig { join: addresses(raw, "cluster.join") },
        gossip: GossipConfig {
            enabled: truth(raw, "gossip.enabled"),
            bind: match value(raw, "gossip.bind") {
                Some(Value::Address(bind)) => Some(*bind),
                _ => None,
            },
            advertise: addresses(raw, "gossip.advertise").into_iter().next(),
            seeds: addresses(raw, "gossip.seeds"),
            keys_file: path(raw, "gossip.keys_file"),
            zone: text(raw, "gossip.zone"),
            interval_ms: integer(raw, "gossip.interval_ms"),
            fan_out: fits(integer(raw, "gossip.fan_out")),
            probe_interval_ms: integer(raw, "gossip.probe_interval_ms"),
            indirect_probes: fits(integer(raw, "gossip.indirect_probes")),
            suspicion_factor_percent: fits(integer(raw, "gossip.suspicion_factor_percent")),
            suspicion_spread: fits(integer(raw, "gossip.suspicion_spread")),
            suspicion_floor_ms: integer(raw, "gossip.suspicion_floor_ms"),
        },
        http: HttpConfig { enabled: truth(raw, "http.enabled"), bind: address(raw, "http.bind") },
        insecure_bind: truth(raw, "insecure_bind"),
        shards: match integer_if_any(raw, "shards") {
            None => Shards::Auto,
            Some(count) => Shards::Exactly(fits(count)),
        },
        partitions: fits(integer(raw, "partitions")),
        cpu: CpuConfig { pin: truth(raw, "cpu.pin") },
        io: IoConfig {
            driver: match text(raw, "io.driver").as_str() {
                "io_uring" => IoDriver::IoUring,
                "epoll" => IoDriver::Epoll,
                _ => IoDriver::Auto,
            },
        },
        limits: LimitsConfig {
            frame_bytes_max: fits(integer(raw, "limits.frame_bytes_max")),
            frames_in_flight_max: fits(integer(raw, "limits.frames_in_flight_max")),
            bytes_in_flight_max: integer(raw, "limits.bytes_in_flight_max"),
            connections_max: fits(integer(raw, "limits.connections_max")),
            requests_per_second: integer_if_any(raw, "limits.requests_per_second").map(fits),
        },
        raft: RaftConfig {
            heartbeat_ms: fits(integer(raw, "raft.heartbeat_ms")),
            election_timeout_ms_min: fits(integer(raw, "raft.election_timeout_ms_min")),
            election_timeout_ms_max: fits(integer(raw, "raft.election_timeout_ms_max")),
            lease_reads: truth(raw, "raft.lease_reads"),
            snapshot_entries: integer(raw, "raft.snapshot_entries"),
            snapshot_bytes: integer(raw, "raft.snapshot_bytes"),
            snapshot_keep_entries: integer(raw, "raft.snapshot_keep_entries"),
        },
        storage: StorageConfig {
            log: match value(raw, "storage.log") {
                Some(Value::Text(word)) if word == "lmdb" => Some(LogStoreKind::Lmdb),
                Some(_) => Some(LogStoreKind::Segment),
                None => None,
            },
            map_bytes_initial: integer(raw, "storage.map_bytes_initial"),
            map_bytes_max: integer(raw, "storage.map_bytes_max"),
        },
        exec: ExecConfig {
            dedupe_window_ms: integer(raw, "exec.dedupe_window_ms"),
            dedupe_bytes_max: integer(raw, "exec.dedupe_bytes_max"),
            state_bytes_max: integer(raw, "exec.state_bytes_max"),
            history_retention_ms: integer(raw, "exec.history_retention_ms"),
            placement: DefaultStrategy::of_word(&text(raw, "exec.placement")).unwrap_or_default(),
        },
        worker: WorkerConfig {
            slots: fits(integer(raw, "worker.slots")),
            prefetch: fits(integer(raw, "worker.prefetch")),
            cpu_millis: integer_if_any(raw, "worker.cpu_millis"),
            memory_mib: integer_if_any(raw, "worker.memory_bytes").map(|bytes| bytes >> 20),
            name: text(raw, "worker.name"),
            labels: labels(raw, "worker.labels"),
            coordinators: addresses(raw, "worker.coordinators"),
            plugins: path(raw, "worker.plugins"),
            programs: path(raw, "worker.programs"),
            plugin_isolation: text(raw, "worker.plugin_isolation"),
            sql: labels(raw, "worker.sql"),
        },
        log: LogConfig {
            level: match text(raw, "log.level").as_str() {
                "error" => LogLevel::Error,
                "warn" => LogLevel::Warn,
                "debug" => LogLevel::Debug,
                "trace" => LogLevel::Trace,
                _ => LogLevel::Info,
            },
            format: if text(raw, "log.format") == "text" { LogFormat::Text } else { LogFormat::Json },
        },
    }
}

fn check_relations(config: &Config, raw: &RawConfig, problems: &mut Vec<ConfigProblem>) {
    let mut require = |holds: bool, key: &str, message: String, hint: &str| {
        if !holds {
            problems.push(ConfigProblem::new(raw.origin(key), key, message).with_hint(hint));
        }
    };
    let gossip = &config.gossip;
    let mut listeners = vec![
        ("wire.bind", config.wire.bind, true),
        ("peer.bind", config.peer.bind, true),
        ("http.bind", config.http.bind, config.http.enabled),
    ];
    listeners.extend(gossip.bind.map(|bind| ("gossip.bind", bind, gossip.enabled)));
    for &(key, bind, enabled) in &listeners {
        require(
            !enabled || bind.ip().is_loopback() || config.insecure_bind,
            key,
            format!("{bind} can be reached from other machines, and callers are not authenticated"),
            "listen on 127.0.0.1, or accept it in so many words with --insecure-bind",
        );
    }
    for (position, (key, bind, enabled)) in listeners.iter().enumerate() {
        let double = listeners[..position].iter().find(|(_, other, is_used)| *is_used && *enabled && bind.port() != 0 && other == bind);
        if let Some((other, ..)) = double {
            require(false, key, format!("{bind} is also {other}"), "give each listener a port of its own");
        }
    }
    for (key, bind, advertise) in [
        ("wire.advertise", config.wire.bind, &config.wire.advertise),
        ("peer.advertise", config.peer.bind, &config.peer.advertise),
        ("gossip.advertise", gossip.bind.unwrap_or(config.peer.bind), &gossip.advertise),
    ] {
        // Clients of one node know where they found it; coordinators have to be told.
        require(
            key == "wire.advertise" || !bind.ip().is_unspecified() || advertise.is_some(),
            key,
            format!("the node listens on every address ({bind}), and nobody can tell which of them the others reach"),
            "say where others reach it, as host:port",
        );
        require(
            addresses(raw, key).len() <= 1,
            key,
            "more than one address".to_owned(),
            "a node has one; give a name that resolves to several instead",
        );
    }
    let raft = &config.raft;
    require(
        raft.election_timeout_ms_min >= HEARTBEATS_PER_ELECTION_MIN * raft.heartbeat_ms,
        "raft.election_timeout_ms_min",
        format!("{} ms is less than {HEARTBEATS_PER_ELECTION_MIN} heartbeats of {} ms", raft.election_timeout_ms_min, raft.heartbeat_ms),
        "raise it, or lower raft.heartbeat_ms",
    );
    require(
        raft.election_timeout_ms_max > raft.election_timeout_ms_min,
        "raft.election_timeout_ms_max",
        format!("{} ms is not above raft.election_timeout_ms_min, {} ms", raft.election_timeout_ms_max, raft.election_timeout_ms_min),
        "twice the minimum is a good choice",
    );
    require(
        config.limits.bytes_in_flight_max >= u64::from(config.limits.frame_bytes_max),
        "limits.bytes_in_flight_max",
        format!(
            "{} bytes is less than one frame of limits.frame_bytes_max, {}",
            config.limits.bytes_in_flight_max, config.limits.frame_bytes_max
        ),
        "one legal frame must be sendable",
    );
    require(
        config.storage.map_bytes_max >= config.storage.map_bytes_initial,
        "storage.map_bytes_max",
        format!("{} bytes is less than storage.map_bytes_initial, {}", config.storage.map_bytes_max, config.storage.map_bytes_initial),
        "raise it, or lower the first size",
    );
}

fn value<'a>(raw: &'a RawConfig, key: &str) -> Option<&'a Value> {
    raw.written(key).map(|written| &written.value)
}

fn text(raw: &RawConfig, key: &str) -> String {
    match value(raw, key) {
        Some(Value::Text(text)) => text.clone(),
        other => unreachable!("{key} is text with a default in the table, found {other:?}"),
    }
}

/// Where the other coordinators call, unless it was written: beside the port of the clients.
fn peer_bind(raw: &RawConfig) -> SocketAddr {
    if let Some(Value::Address(bind)) = value(raw, "peer.bind") {
        return *bind;
    }
    beside(address(raw, "wire.bind"), PEER_PORTS_AFTER)
}

/// So many ports after the clients' the other coordinators call, where nothing else is written.
const PEER_PORTS_AFTER: u16 = 1;
/// And so many after it gossip listens.
const GOSSIP_PORTS_AFTER: u16 = 2;

/// Where gossip of a node listens that speaks the binary protocol here, where nothing else is written; port 0: anywhere.
pub fn gossip_beside(wire: SocketAddr) -> SocketAddr {
    beside(wire, GOSSIP_PORTS_AFTER)
}

/// So many ports after that of the clients, on its address if that is one, on loopback otherwise.
fn beside(wire: SocketAddr, ports_after: u16) -> SocketAddr {
    let ip = if wire.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { wire.ip() };
    let port = wire.port().checked_add(ports_after).filter(|_| wire.port() != 0).unwrap_or(0);
    SocketAddr::new(ip, port)
}

fn addresses(raw: &RawConfig, key: &str) -> Vec<String> {
    match value(raw, key) {
        Some(Value::Addresses(all)) => all.clone(),
        _ => Vec::new(),
    }
}

fn labels(raw: &RawConfig, key: &str) -> BTreeMap<String, String> {
    match value(raw, key) {
        Some(Value::Labels(labels)) => labels.clone(),
        _ => BTreeMap::new(),
    }
}

fn truth(raw: &RawConfig, key: &str) -> bool {
    match value(raw, key) {
        Some(Value::Bool(value)) => *value,
        other => unreachable!("{key} is a truth value with a default in the table, found {other:?}"),
    }
}

fn address(raw: &RawConfig, key: &str) -> SocketAddr {
    match value(raw, key) {
        Some(Value::Address(address)) => *address,
        other => unreachable!("{key} is an address with a default in the table, found {other:?}"),
    }
}

fn path(raw: &RawConfig, key: &str) -> Option<PathBuf> {
    match value(raw, key) {
        Some(Value::Path(path)) => Some(path.clone()),
        _ => None,
    }
}

fn integer(raw: &RawConfig, key: &str) -> u64 {
    match value(raw, key) {
        Some(Value::Integer(number)) => *number,
        other => unreachable!("{key} is a number with a default in the table, found {other:?}"),
    }
}

fn integer_if_any(raw: &RawConfig, key: &str) -> Option<u64> {
    match value(raw, key) {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    }
}

fn fits<T: TryFrom<u64>>(number: u64) -> T {
    T::try_from(number).unwrap_or_else(|_| unreachable!("{number} passed bounds that fit its type"))
}
