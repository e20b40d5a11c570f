//! The table of keys: the one place that knows name, kind, bounds, default and meaning of each.

use distric_model::limits;

/// Most shards of one node.
pub const SHARDS_MAX: u16 = 64;
/// Most work groups that can be asked for when a data directory is initialised.
pub const PARTITIONS_MAX: u32 = 256;
/// Smallest legal frame limit, bytes: a Hello and an error reply must fit.
pub const FRAME_BYTES_MIN: u32 = 4 << 10;
/// Most frames in flight that can be configured per connection.
pub const FRAMES_IN_FLIGHT_CAP: u32 = 65_536;
/// Most payload bytes in flight that can be configured per connection.
pub const BYTES_IN_FLIGHT_CAP: u64 = 1 << 30;
/// Most connections that can be configured.
pub const CONNECTIONS_CAP: u32 = 100_000;
/// Most slots of one worker.
pub const WORKER_SLOTS_MAX: u32 = 4_096;
/// Most labels of one worker.
pub const WORKER_LABELS_MAX: usize = 32;
/// Most coordinator addresses of one worker.
pub const WORKER_COORDINATORS_MAX: usize = 32;
/// Longest text value, bytes.
pub const TEXT_BYTES_MAX: usize = 4_096;

const _: () = assert!(PARTITIONS_MAX <= limits::GROUP_COUNT_MAX, "configuration asks for no more groups than a cluster may have");
const _: () = assert!(FRAME_BYTES_MIN <= limits::FRAME_BYTES_MAX_UNAUTHENTICATED, "the smallest frame limit is legal for strangers too");

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Name of `[A-Za-z0-9._-]`, at most so many bytes.
    Name(usize),
    /// A path of the file system.
    Path,
    /// `IP:port`, or `localhost:port`.
    Address,
    /// A list of `host:port`.
    Addresses,
    /// `true` or `false`.
    Bool,
    /// A whole number with its bounds, both included.
    Integer(Bounds),
    /// `auto`, or a whole number.
    AutoOr(Bounds),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A map of name to text.
    Labels,
}

/// Bounds of a whole number, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Least legal value.
    pub min: u64,
    /// Greatest legal value.
    pub max: u64,
    /// What is counted.
    pub unit: Unit,
}

/// What a whole number counts; also decides which suffixes may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things. No suffix.
    Count,
    /// Bytes; `KiB`, `MiB` and `GiB` may follow the number.
    Bytes,
    /// Milliseconds; `ms`, `s`, `m` and `h` may follow the number.
    Milliseconds,
}

/// What holds when nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// This, as if it had been written.
    Value(&'static str),
    /// Nothing; the text says what that means.
    Unset(&'static str),
}

/// One key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct KeyInfo {
    /// Dotted name, as in the file.
    pub name: &'static str,
    /// What a value may be.
    pub kind: Kind,
    /// What holds when nothing was written.
    pub fallback: Fallback,
    /// Meaning in one or two sentences.
    pub doc: &'static str,
}

impl KeyInfo {
    /// The environment variable that sets it: `wire.bind` is `DISTRIC_WIRE__BIND`.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.to_ascii_uppercase().replace('.', "__"))
    }
}

/// How every environment variable of the project begins.
pub const VARIABLE_PREFIX: &str = "DISTRIC_";

/// Variables that are no configuration keys but belong to the command line; any other `DISTRIC_` variable is an error.
pub const COMMAND_VARIABLES: &[(&str, &str)] = &[
    ("DISTRIC_CONFIG", "the configuration file, as `--config`"),
    ("DISTRIC_ADDR", "the coordinator that client verbs talk to, as `--addr`"),
    ("DISTRIC_NAMESPACE", "the namespace of client verbs, as `--namespace`"),
    ("DISTRIC_API_KEY", "the credentials of client verbs and workers"),
];

/// The table, in the order of the reference.
pub const KEYS: &[KeyInfo] = &[
    key("node.name", Kind::Name(64), Fallback::Value("distric"), "Name of the node for people, in logs and listings."),
    key(
        "node.data_dir",
        Kind::Path,
        Fallback::Unset("`dev` uses a temporary directory and removes it; `coordinator` refuses to start"),
        "Directory of log and state. One process at a time may use it.",
    ),
    key("wire.bind", Kind::Address, Fallback::Value("127.0.0.1:7400"), "Listener of the binary protocol. Port 0 takes a free one."),
    key(
        "wire.advertise",
        Kind::Addresses,
        Fallback::Unset("the address listened on"),
        "Where clients and workers reach this node, one `host:port`; told to them by the cluster.",
    ),
    key(
        "peer.bind",
        Kind::Address,
        Fallback::Unset(
            "the port after that of `wire.bind`, on its address if that is one, on loopback otherwise; a free port when that is 0",
        ),
        "Listener for the other coordinators. Port 0 takes a free one; the others learn it.",
    ),
    key(
        "peer.advertise",
        Kind::Addresses,
        Fallback::Unset("the address listened on"),
        "Where the other coordinators reach this node, one `host:port`.",
    ),
    key(
        "cluster.join",
        Kind::Addresses,
        Fallback::Unset("an empty data directory founds a cluster of its own"),
        "Coordinators (their `peer.bind`) of the cluster that a node with an empty data directory becomes a member of: comma-separated in \
         variables and flags, a list in the file. Not looked at once the node belongs to a cluster.",
    ),
    key("gossip.enabled", Kind::Bool, Fallback::Value("true"), "Whether this process takes part in membership and failure detection."),
    key(
        "gossip.bind",
        Kind::Address,
        Fallback::Unset(
            "for a coordinator two ports after `wire.bind` where that is free, on its address if that is one; otherwise a free port, for a \
             worker on the address that faces the coordinators",
        ),
        "Where gossip listens: UDP, and TCP on the same port. Port 0 takes a free one; the others learn it.",
    ),
    key("gossip.advertise", Kind::Addresses, Fallback::Unset("the address listened on"), "Where others reach it, one `host:port`."),
    key(
        "gossip.seeds",
        Kind::Addresses,
        Fallback::Unset("coordinators are known from the cluster, and workers ask theirs"),
        "More places to find others at, as `host:port` of their gossip; a name with several addresses counts as all of them.",
    ),
    key(
        "gossip.keys_file",
        Kind::Path,
        Fallback::Unset("gossip is not sealed: whoever can send packets can forge any member"),
        "File with the keys that gossip is sealed with, the same for all nodes and workers of a cluster, readable by its owner alone: one `ID KEY` \
         a line (`distric-admin gossip keys add FILE` makes them). Changes of the file are taken up while running.",
    ),
    key("gossip.zone", Kind::Name(64), Fallback::Value("default"), "Zone or data centre, by which the loss of members is weighed."),
    key(
        "gossip.interval_ms",
        Kind::Integer(ms(10, 3_600_000)),
        Fallback::Value("1000"),
        "Between two rounds of what is not urgent. Deaths do not wait for it.",
    ),
    key("gossip.fan_out", Kind::Integer(count(1, 64)), Fallback::Value("4"), "How many are told in one such round."),
    key(
        "gossip.probe_interval_ms",
        Kind::Integer(ms(240, 60_000)),
        Fallback::Value("250"),
        "Between two probes, each of one member. Detection takes about ten of them; the same in all processes of a cluster.",
    ),
    key("gossip.indirect_probes", Kind::Integer(count(0, 16)), Fallback::Value("3"), "How many others are asked to probe a silent member."),
    key(
        "gossip.suspicion_factor_percent",
        Kind::Integer(count(10, 10_000)),
        Fallback::Value("300"),
        "Shortest suspicion, in hundredths of a probe interval times the decimal logarithm of the number of members; 250 above 5,000.",
    ),
    key(
        "gossip.suspicion_spread",
        Kind::Integer(count(1, 100)),
        Fallback::Value("6"),
        "Longest suspicion, as a multiple of the shortest: how long one accuser alone is not believed.",
    ),
    key(
        "gossip.suspicion_floor_ms",
        Kind::Integer(ms(1, 600_000)),
        Fallback::Value("1500"),
        "No suspicion is shorter than this; decides in small clusters.",
    ),
    key("http.enabled", Kind::Bool, Fallback::Value("true"), "Whether to serve HTTP."),
    key("http.bind", Kind::Address, Fallback::Value("127.0.0.1:8080"), "Listener of the HTTP edge. Port 0 takes a free one."),
    key(
        "insecure_bind",
        Kind::Bool,
        Fallback::Value("false"),
        "Allows listeners that other machines can reach, although clients are not authenticated yet.",
    ),
    key(
        "shards",
        Kind::AutoOr(count(1, SHARDS_MAX as u64)),
        Fallback::Value("auto"),
        "Threads that own connections and work groups. `auto` fits them to the machine: see `distric tune plan`.",
    ),
    key(
        "partitions",
        Kind::Integer(count(1, PARTITIONS_MAX as u64)),
        Fallback::Value("4"),
        "Work groups that the state is split into. Used when a data directory is initialised, fixed afterwards.",
    ),
    key("cpu.pin", Kind::Bool, Fallback::Value("true"), "Pin each shard to a core of its own where there are enough."),
    key(
        "io.driver",
        Kind::Choice(&["auto", "io_uring", "epoll"]),
        Fallback::Value("auto"),
        "I/O driver of the shards. `auto` takes `io_uring` where the kernel allows it.",
    ),
    key(
        "limits.frame_bytes_max",
        Kind::Integer(bytes(FRAME_BYTES_MIN as u64, limits::FRAME_BYTES_HARD_CAP as u64)),
        Fallback::Value("1MiB"),
        "Largest frame payload after Hello.",
    ),
    key(
        "limits.frames_in_flight_max",
        Kind::Integer(count(1, FRAMES_IN_FLIGHT_CAP as u64)),
        Fallback::Value("1024"),
        "Most unanswered frames per connection.",
    ),
    key(
        "limits.bytes_in_flight_max",
        Kind::Integer(bytes(FRAME_BYTES_MIN as u64, BYTES_IN_FLIGHT_CAP)),
        Fallback::Value("16MiB"),
        "Most unanswered payload bytes per connection; at least one frame.",
    ),
    key(
        "limits.connections_max",
        Kind::Integer(count(1, CONNECTIONS_CAP as u64)),
        Fallback::Value("1024"),
        "Most connections of one node; more are told so and closed.",
    ),
    key(
        "limits.requests_per_second",
        Kind::Integer(count(1, 10_000_000)),
        Fallback::Unset("unlimited"),
        "Most requests per second and connection; more are refused with a time to wait.",
    ),
    key("raft.heartbeat_ms", Kind::Integer(ms(5, 10_000)), Fallback::Value("50"), "Between two heartbeats of a leader."),
    key(
        "raft.election_timeout_ms_min",
        Kind::Integer(ms(20, 60_000)),
        Fallback::Value("300"),
        "Shortest silence before a campaign; at least three heartbeats.",
    ),
    key(
        "raft.election_timeout_ms_max",
        Kind::Integer(ms(20, 120_000)),
        Fallback::Value("600"),
        "Longest silence before a campaign; above the shortest.",
    ),
    key(
        "raft.lease_reads",
        Kind::Bool,
        Fallback::Value("false"),
        "Whether a leader answers questions at once for three quarters of `raft.election_timeout_ms_min` after a majority heard from it, rather than \
         asking a majority for each. Rests on clocks whose rates differ by less than a third.",
    ),
    key(
        "raft.snapshot_entries",
        Kind::Integer(count(100, 10_000_000)),
        Fallback::Value("10000"),
        "After so many entries a group's state is checkpointed and its log compacted.",
    ),
    key("raft.snapshot_bytes", Kind::Integer(bytes(1 << 20, 1 << 36)), Fallback::Value("64MiB"), "Or after so many bytes of entries."),
    key(
        "raft.snapshot_keep_entries",
        Kind::Integer(count(0, 10_000_000)),
        Fallback::Value("5000"),
        "So many entries before a checkpoint stay in the log; a node that lacks more is caught up by a snapshot.",
    ),
    key(
        "storage.log",
        Kind::Choice(&["lmdb", "segment"]),
        Fallback::Unset("the one the data directory was made with; `segment` for a new one"),
        "Store in which log entries become durable. A data directory keeps the one it was made with.",
    ),
    key(
        "storage.map_bytes_initial",
        Kind::Integer(bytes(1 << 20, 1 << 40)),
        Fallback::Value("64MiB"),
        "First size of the log's memory map, for `lmdb`. It grows before it is full.",
    ),
    key(
        "storage.map_bytes_max",
        Kind::Integer(bytes(1 << 20, 1 << 42)),
        Fallback::Value("64GiB"),
        "The memory map, or all segments together, grow up to this; then writes are refused.",
    ),
    key(
        "exec.dedupe_window_ms",
        Kind::Integer(ms(1_000, 7 * 24 * 3_600_000)),
        Fallback::Value("10m"),
        "How long an idempotency key is remembered.",
    ),
    key(
        "exec.dedupe_bytes_max",
        Kind::Integer(bytes(1 << 20, 1 << 36)),
        Fallback::Value("256MiB"),
        "Most memory for remembered keys per work group; beyond it new keys are refused, old ones never forgotten early.",
    ),
    key(
        "exec.state_bytes_max",
        Kind::Integer(bytes(1 << 20, 1 << 38)),
        Fallback::Value("1GiB"),
        "Most memory for the state of one work group; beyond it new messages are refused while running work goes on.",
    ),
    key(
        "exec.history_retention_ms",
        Kind::Integer(ms(1_000, 365 * 24 * 3_600_000)),
        Fallback::Value("24h"),
        "How long finished work stays queryable.",
    ),
    key(
        "exec.placement",
        Kind::Choice(&distric_exec::DefaultStrategy::NAMES),
        Fallback::Value("least_loaded"),
        "How tasks are placed that say nothing of it, nor their workflow. The same on all coordinators: each group has that of its leader.",
    ),
    key(
        "worker.slots",
        Kind::Integer(count(1, WORKER_SLOTS_MAX as u64)),
        Fallback::Value("64"),
        "Tasks that one worker runs at the same time.",
    ),
    key(
        "worker.prefetch",
        Kind::Integer(count(0, WORKER_SLOTS_MAX as u64)),
        Fallback::Value("64"),
        "Tasks that a worker holds ready beyond the running ones.",
    ),
    key(
        "worker.cpu_millis",
        Kind::Integer(count(1, distric_model::resources::CPU_MILLIS_MAX)),
        Fallback::Unset("not limited"),
        "Processors that the worker has for its tasks, thousandths: what the `resources` of all its tasks together may take.",
    ),
    key(
        "worker.memory_bytes",
        Kind::Integer(bytes(1 << 20, distric_model::resources::MEMORY_MIB_MAX << 20)),
        Fallback::Unset("not limited"),
        "Memory that the worker has for its tasks, counted in whole MiB; what tasks really take is not measured.",
    ),
    key("worker.name", Kind::Name(64), Fallback::Value("worker"), "Name of the worker for people."),
    key(
        "worker.labels",
        Kind::Labels,
        Fallback::Value(""),
        "What placement may ask for: `zone=eu,gpu=no` in variables and flags, a map in the file.",
    ),
    key(
        "worker.coordinators",
        Kind::Addresses,
        Fallback::Value("127.0.0.1:7400"),
        "Coordinators to connect to, of which one is enough: the others are learnt from it. Comma-separated in variables and flags, a list in \
         the file.",
    ),
    key(
        "worker.plugins",
        Kind::Path,
        Fallback::Unset("no plugins"),
        "Directory of task plugins: every `NAME.so` in it is started, and its tasks are offered.",
    ),
    key(
        "worker.plugin_isolation",
        Kind::Choice(&["none", "process", "syscalls", "full"]),
        Fallback::Value("process"),
        "Weakest isolation with which a plugin or a program may run; `none` also admits plugins that are configured to run in the worker's own process.",
    ),
    key(
        "worker.programs",
        Kind::Path,
        Fallback::Unset("no programs, and no shell"),
        "File that names the programs for `exec` tasks and says whether `shell` tasks may run, with limits and grants of each \
         (docs/plugins.md). Without it the worker offers neither.",
    ),
    key(
        "worker.sql",
        Kind::Labels,
        Fallback::Value(""),
        "Databases for `sql` tasks: name to the environment variable that holds the address, such as `billing=BILLING_DB` with \
         `postgres://user:password@host/database` in it. Without one the worker does not offer `sql`.",
    ),
    key(
        "log.level",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        Fallback::Value("info"),
        "Least severe level that is written to stderr.",
    ),
    key("log.format", Kind::Choice(&["json", "text"]), Fallback::Value("json"), "One JSON object a line, or plain text for a terminal."),
];

const fn key(name: &'static str, kind: Kind, fallback: Fallback, doc: &'static str) -> KeyInfo {
    KeyInfo { name, kind, fallback, doc }
}

const fn count(min: u64, max: u64) -> Bounds {
    Bounds { min, max, unit: Unit::Count }
}

const fn bytes(min: u64, max: u64) -> Bounds {
    Bounds { min, max, unit: Unit::Bytes }
}

const fn ms(min: u64, max: u64) -> Bounds {
    Bounds { min, max, unit: Unit::Milliseconds }
}

/// The key of this name.
pub fn find(name: &str) -> Option<&'static KeyInfo> {
    KEYS.iter().find(|key| key.name == name)
}

/// The key of this environment variable.
pub fn find_variable(variable: &str) -> Option<&'static KeyInfo> {
    KEYS.iter().find(|key| key.variable() == variable)
}
