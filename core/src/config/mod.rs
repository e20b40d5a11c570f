//! Configuration: what was written ([`RawConfig`]) and what it means ([`Config`]).
//!
//! In: the text of a file, environment variables, flags.  Out: a checked [`Config`], or every problem at once.
//! May touch: `model`, `rules` (positioned documents).  Never: files, the process environment (both are handed in).
//! Precedence: defaults < file < `DISTRIC_*` environment < flags. Each value keeps its [`Origin`].
//! Invariant: a [`Config`] that exists has passed every bound and every relation between values.
//! Start reading at [`table::KEYS`], the one list that parsing, printing and `docs/config.md` share.

pub mod check;
pub mod problem;
pub mod raw;
pub mod reference;
pub mod table;
pub mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use distric_exec::DefaultStrategy;
use serde::Serialize;

pub use check::{Loaded, Sources, gossip_beside, load};
pub use problem::{ConfigProblem, Origin};
pub use raw::{RawConfig, Written};
pub use reference::{describe, reference_markdown};
pub use table::{KEYS, KeyInfo};

/// Everything a node, a worker or the edge needs to know, checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// Who this node is and where it keeps its data.
    pub node: NodeConfig,
    /// The binary protocol's listener.
    pub wire: WireConfig,
    /// The listener for the other coordinators.
    pub peer: PeerConfig,
    /// How the node comes into a cluster.
    pub cluster: ClusterConfig,
    /// Membership and failure detection.
    pub gossip: GossipConfig,
    /// The HTTP edge.
    pub http: HttpConfig,
    /// Whether a listener may be reachable from other machines although nothing authenticates clients.
    pub insecure_bind: bool,
    /// How many shards to run.
    pub shards: Shards,
    /// Work groups; used when a data directory is initialised and fixed afterwards.
    pub partitions: u32,
    /// Placement of threads on cores.
    pub cpu: CpuConfig,
    /// The I/O driver of the shards.
    pub io: IoConfig,
    /// What one client may use.
    pub limits: LimitsConfig,
    /// Consensus timing.
    pub raft: RaftConfig,
    /// The durable log.
    pub storage: StorageConfig,
    /// Bounds of the replicated machine.
    pub exec: ExecConfig,
    /// The worker of this process, if it runs one.
    pub worker: WorkerConfig,
    /// Log output.
    pub log: LogConfig,
}

/// Who this node is and where it keeps its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeConfig {
    /// Name for people, in logs and listings.
    pub name: String,
    /// Directory of log and state; `None` lets `dev` and `demo` use a temporary one.
    pub data_dir: Option<PathBuf>,
}

/// The binary protocol's listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WireConfig {
    /// Address to listen on; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Where clients reach it, `host:port`; `None`: where it listens.
    pub advertise: Option<String>,
}

/// The listener for the other coordinators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerConfig {
    /// Address to listen on; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Where the others reach it, `host:port`; `None`: where it listens.
    pub advertise: Option<String>,
}

/// How the node comes into a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterConfig {
    /// Coordinators of the cluster to join; empty: found one.
    pub join: Vec<String>,
}

/// Membership and failure detection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GossipConfig {
    /// Whether this process takes part.
    pub enabled: bool,
    /// Where UDP and TCP are listened on; `None`: beside the other listeners where that is free, else on a free port.
    pub bind: Option<SocketAddr>,
    /// Where others reach it, `host:port`; `None`: where it listens.
    pub advertise: Option<String>,
    /// Nodes to find others by, besides those that the cluster itself knows.
    pub seeds: Vec<String>,
    /// The file with the keys that packets are sealed with; `None`: they are not sealed.
    pub keys_file: Option<PathBuf>,
    /// Zone or data centre of this process; may be empty.
    pub zone: String,
    /// Dissemination tick of what is not urgent, milliseconds.
    pub interval_ms: u64,
    /// Targets of a dissemination tick.
    pub fan_out: u32,
    /// How often one member is probed, milliseconds.
    pub probe_interval_ms: u64,
    /// Members asked to ping a silent one.
    pub indirect_probes: u32,
    /// Shortest suspicion in hundredths of log10(members) probe intervals.
    pub suspicion_factor_percent: u32,
    /// Longest suspicion in units of the shortest.
    pub suspicion_spread: u32,
    /// No suspicion is shorter, milliseconds.
    pub suspicion_floor_ms: u64,
}

/// The HTTP edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpConfig {
    /// Whether to serve HTTP at all.
    pub enabled: bool,
    /// Address to listen on; port 0 takes a free one.
    pub bind: SocketAddr,
}

/// How many shards to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// What the core plan of the machine says.
    Auto,
    /// Exactly so many, `1..=`[`table::SHARDS_MAX`].
    Exactly(u16),
}

impl Serialize for Shards {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Exactly(count) => serializer.serialize_u16(*count),
        }
    }
}

/// Placement of threads on cores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpuConfig {
    /// Pin each shard to one core.
    pub pin: bool,
}

/// The I/O driver of the shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IoConfig {
    /// Which driver to run on.
    pub driver: IoDriver,
}

/// An I/O driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IoDriver {
    /// `io_uring` where the kernel allows it, otherwise `epoll` with one warning line.
    Auto,
    /// `io_uring`, or refuse to start.
    IoUring,
    /// `epoll`.
    Epoll,
}

/// What one client may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitsConfig {
    /// Largest frame payload after Hello, bytes.
    pub frame_bytes_max: u32,
    /// Most unanswered frames per connection.
    pub frames_in_flight_max: u32,
    /// Most unanswered payload bytes per connection.
    pub bytes_in_flight_max: u64,
    /// Most connections of one node.
    pub connections_max: u32,
    /// Most requests per second and connection; `None` is unlimited.
    pub requests_per_second: Option<u32>,
}

/// Consensus timing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RaftConfig {
    /// Between two heartbeats of a leader, milliseconds.
    pub heartbeat_ms: u32,
    /// Shortest wait before a campaign, milliseconds.
    pub election_timeout_ms_min: u32,
    /// Longest wait before a campaign, milliseconds.
    pub election_timeout_ms_max: u32,
    /// Whether leaders answer questions by their lease.
    pub lease_reads: bool,
    /// A group's state is checkpointed after so many entries.
    pub snapshot_entries: u64,
    /// Or after so many bytes of entries.
    pub snapshot_bytes: u64,
    /// So many entries before a checkpoint stay in the log.
    pub snapshot_keep_entries: u64,
}

impl RaftConfig {
    /// How long a leader answers by its lease, milliseconds: three quarters of the shortest election timeout, so that clocks whose rates differ by
    /// up to a third do no harm. Zero without leases.
    pub fn lease_ms(&self) -> u64 {
        if self.lease_reads { u64::from(self.election_timeout_ms_min) * 3 / 4 } else { 0 }
    }
}

/// The durable log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StorageConfig {
    /// Which log store entries become durable in; unset: the one the data directory was made with, segment files for a new one.
    pub log: Option<LogStoreKind>,
    /// First size of the memory map, bytes.
    pub map_bytes_initial: u64,
    /// The memory map, or all segments together, grow up to this, bytes.
    pub map_bytes_max: u64,
}

/// A log store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStoreKind {
    /// LMDB.
    Lmdb,
    /// Segment files.
    Segment,
}

/// Bounds of the replicated machine, per work group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExecConfig {
    /// How long an idempotency key is remembered, milliseconds.
    pub dedupe_window_ms: u64,
    /// Most memory for remembered keys per group, bytes.
    pub dedupe_bytes_max: u64,
    /// Most memory for the state of one group, bytes; beyond it new messages are refused.
    pub state_bytes_max: u64,
    /// How long finished work stays queryable, milliseconds.
    pub history_retention_ms: u64,
    /// How tasks are placed that say nothing of it.
    pub placement: DefaultStrategy,
}

/// The worker of this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerConfig {
    /// Tasks that run at the same time.
    pub slots: u32,
    /// Tasks held ready beyond the running ones.
    pub prefetch: u32,
    /// Processors for its tasks, thousandths; absent: not limited.
    pub cpu_millis: Option<u64>,
    /// Memory for its tasks, MiB; absent: not limited.
    pub memory_mib: Option<u64>,
    /// Name for people.
    pub name: String,
    /// What placement rules may ask for.
    pub labels: BTreeMap<String, String>,
    /// Coordinators to connect to, `host:port`.
    pub coordinators: Vec<String>,
    /// Directory of task plugins.
    pub plugins: Option<PathBuf>,
    /// File that names the programs for `exec` and `shell` tasks.
    pub programs: Option<PathBuf>,
    /// Weakest isolation with which a plugin or a program may run.
    pub plugin_isolation: String,
    /// Databases for `sql` tasks: name to the environment variable with the address.
    pub sql: BTreeMap<String, String>,
}

/// Log output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogConfig {
    /// Least severe level that is written.
    pub level: LogLevel,
    /// Shape of a line.
    pub format: LogFormat,
}

/// How severe a log line must be to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Something failed and somebody should look.
    Error,
    /// Something is not as it should be and the node carries on.
    Warn,
    /// The doors: starts, stops, elections, connections of workers.
    Info,
    /// More detail, for one node at a time.
    Debug,
    /// Everything.
    Trace,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Plain text, for a terminal.
    Text,
}
