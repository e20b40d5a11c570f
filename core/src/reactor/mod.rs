//! The reactor: every system call of a node, and the threads it runs on.
//!
//! Threads: the shards (pinned, one runtime each), the raft core, the log writer, the state writer, the compiler. They share nothing but lanes and doorbells;
//! a compiled catalog is shared read-only. The runtime is touched in `shard_thread` and `connection` only.
//! Start reading at [`start`].

mod borrow_fd_unsafe;
pub mod clock;
mod compiler;
mod connection;
mod control;
pub mod gossip;
pub mod gossip_core;
mod hands;
mod log_writer;
pub mod mesh;
mod metrics;
mod notes;
mod peers;
mod priority_unsafe;
mod raft_core;
mod raft_stats;
mod settler;
mod shard_thread;
mod state_writer;
mod stores;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use distric_exec::RestoreError;
use distric_lane::{Bell, Receiver, lane};
use distric_model::{ClusterId, GroupId, NodeId};
use distric_raft_store::{DeviceError, Identity};

pub use self::control::Failure;
use self::control::{Control, Failures};
use self::gossip::AgentThread;
use self::gossip_core::GossipCoreStart;
use self::mesh::ShardEnds;
use self::peers::book::Book;
use self::peers::hello::Me;
use self::raft_core::RaftCoreStart;
use self::raft_stats::RaftStats;
use self::settler::Settler;
use self::shard_thread::ShardStart;
use self::state_writer::StateWriter;
use self::stores::{OpenGroup, Opened, open_store};
use crate::config::{Config, IoDriver};
use crate::node::consensus::{CheckpointPolicy, Consensus, ConsensusOptions, ConsensusOutputs};
use crate::node::draw::Draws;
use crate::node::meta::Init;
use crate::node::peer::Member;
use crate::node::shard::{ShardOptions, ShardStats, own_record};
use crate::plan::Plan;

/// Longest time from the start of the threads to the first message that can be served. A long log takes its time to replay.
const READY_MS_MAX: u64 = 120_000;
/// Longest wait for the counters of a shard, milliseconds.
const STATS_MS_MAX: u64 = 200;
/// The least locked memory that io_uring needs on kernels that count it, bytes.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The checked configuration; `node.data_dir` must be set.
    pub config: Config,
}

impl NodeOptions {
    /// A node with this configuration.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

/// Why a node did not start. Nothing was changed, unless the data directory was empty: then it may have been founded.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No data directory was given.
    #[error("node.data_dir is not set")]
    NoDataDir,
    /// The address of the binary protocol cannot be listened on.
    #[error("cannot listen on {address} (wire.bind): {source}{}", remedy(source))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The address for the other coordinators cannot be listened on.
    #[error("cannot listen on {address} (peer.bind): {source}{}", remedy(source))]
    BindPeer {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The addresses for gossip cannot be listened on.
    #[error("cannot listen for gossip (gossip.bind): {source}{}", remedy(source))]
    BindGossip {
        /// Why not.
        source: io::Error,
    },
    /// The keys of gossip cannot be used.
    #[error("the keys of gossip cannot be used (gossip.keys_file): {0}")]
    GossipKeys(#[from] gossip::keys::KeysError),
    /// None of the coordinators to join answered as it should.
    #[error("cannot join a cluster (cluster.join): {reason}")]
    Join {
        /// What each of them said.
        reason: String,
    },
    /// The log store.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The data directory was made with another log store than the one that is set.
    #[error("{} holds a log made with storage.log: {made_with}, and storage.log is {set}; set it back, or give the node a new node.data_dir", data_dir.display())]
    OtherLog {
        /// The data directory.
        data_dir: PathBuf,
        /// What is configured.
        set: &'static str,
        /// What is there.
        made_with: &'static str,
    },
    /// A group's stored state contradicts itself.
    #[error("{group}: {source}; the node does not start with it, because it could not keep what it promised")]
    Group {
        /// The group.
        group: GroupId,
        /// What is wrong.
        source: distric_raft::StartError,
    },
    /// Checkpoints without the log that belongs to them: votes and promises are gone with it.
    #[error("{} holds a checkpoint of {group} but not its log; put the log back, or remove this node from the cluster and give it a new node.data_dir", data_dir.display())]
    LogGone {
        /// The data directory.
        data_dir: PathBuf,
        /// The group.
        group: GroupId,
    },
    /// A group's checkpoint makes no machine.
    #[error("{group}: {source}; the node does not start with it")]
    Checkpoint {
        /// The group.
        group: GroupId,
        /// What is wrong.
        source: RestoreError,
    },
    /// Random numbers, threads, descriptors.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// `io.driver: io_uring`, and the kernel refuses it.
    #[error("io_uring is refused here; set io.driver to auto or epoll, or allow it (LimitMEMLOCK, container profile)")]
    NoIoUring,
    /// A thread stopped during the start.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The groups did not become ready in time.
    #[error("the node was not ready within {} s", READY_MS_MAX / 1_000)]
    NotReady,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; end the other process, or choose another port: --set wire.bind=127.0.0.1:0 takes a free one",
        io::ErrorKind::PermissionDenied => "; choose a port above 1023",
        io::ErrorKind::AddrNotAvailable => "; choose an address of this machine",
        _ => "",
    }
}

/// A running node.
pub struct NodeHandle {
    wire_address: SocketAddr,
    peer_address: SocketAddr,
    identity: Identity,
    plan: Plan,
    control: Control,
    failures: Failures,
    bells: Vec<Bell>,
    threads: Vec<JoinHandle<()>>,
    gossip: Option<AgentThread>,
    metrics: Metrics,
}

/// Reads a node's counters. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    node: Arc<str>,
    probes: Arc<Mutex<Probes>>,
}

struct Probes {
    shards: Vec<Probe<ShardStats>>,
    raft_core: Probe<RaftStats>,
}

struct Probe<T> {
    wanted: Arc<AtomicBool>,
    bell: Bell,
    stats: Receiver<Box<T>>,
}

impl<T> Probe<T> {
    fn ask(&mut self) {
        while self.stats.pop().is_some() {}
        self.wanted.store(true, Ordering::Release);
        self.bell.ring();
    }

    fn answer(&mut self, deadline_ns: u64) -> Option<T> {
        loop {
            if let Some(stats) = self.stats.pop() {
                return Some(*stats);
            }
            if clock::mono_ns() >= deadline_ns {
                return None;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

impl Metrics {
    /// The text of one scrape. Blocks up to some milliseconds for all shards and the raft core; one that does not answer is left out.
    pub fn text(&self) -> String {
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        let Probes { shards, raft_core } = &mut *probes;
        shards.iter_mut().for_each(Probe::ask);
        raft_core.ask();
        let deadline_ns = clock::mono_ns() + STATS_MS_MAX * 1_000_000;
        let shards: Vec<ShardStats> = shards.iter_mut().filter_map(|probe| probe.answer(deadline_ns)).collect();
        metrics::text(&self.node, &shards, raft_core.answer(deadline_ns).as_ref())
    }
}

impl NodeHandle {
    /// Where the binary protocol is served.
    pub fn wire_address(&self) -> SocketAddr {
        self.wire_address
    }

    /// Where the other coordinators are served.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// This node.
    pub fn node_id(&self) -> NodeId {
        self.identity.node
    }

    /// Its cluster.
    pub fn cluster_id(&self) -> ClusterId {
        self.identity.cluster
    }

    /// Which role runs where.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The counters.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Resolves when the node has stopped by itself, with the reason. One waiter at a time.
    pub async fn failed(&self) -> String {
        self.failures.wait().await.to_string()
    }

    /// Stops accepting, finishes what is in flight, flushes, ends all threads.
    /// Errors: when the node had stopped by itself before, or a thread panicked.
    pub fn shutdown(mut self) -> Result<(), Failure> {
        if let Some(gossip) = self.gossip.take() {
            gossip.leave();
        }
        self.control.stop();
        self.ring();
        for thread in std::mem::take(&mut self.threads) {
            // A bell rung while its thread was awake is not heard; once more costs nothing.
            while !thread.is_finished() {
                self.ring();
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.join().is_err() {
                return Err(Failure { thread: "node", reason: "a thread panicked".to_owned() });
            }
        }
        self.failures.first().map_or(Ok(()), Err)
    }

    fn ring(&self) {
        self.bells.iter().for_each(Bell::ring);
    }
}

/// Starts a node: opens its log, recovers, elects, and returns when it can serve.
///
/// Errors: see [`StartError`]; on any of them no thread is left behind that could acknowledge anything.
pub fn start(options: NodeOptions) -> Result<NodeHandle, StartError> {
    let config = options.config;
    let data_dir = config.node.data_dir.clone().ok_or(StartError::NoDataDir)?;
    let plan = Plan::for_this_machine(&config);
    let use_uring = choose_driver(&config)?;
    let bind = |source| StartError::Bind { address: config.wire.bind, source };
    let listener = TcpListener::bind(config.wire.bind).map_err(bind)?;
    // The epoll driver polls and then accepts: on a blocking socket it would wait for a connection that another shard took.
    // io_uring waits in the kernel, where a socket that does not block answers at once that nobody is there.
    listener.set_nonblocking(!use_uring).map_err(bind)?;
    let system = |what| move |source: io::Error| StartError::System { what, source };
    let wire_address = listener.local_addr().map_err(system("read the listening address"))?;
    let bind = |source| StartError::BindPeer { address: config.peer.bind, source };
    let peer_listener = TcpListener::bind(config.peer.bind).map_err(bind)?;
    peer_listener.set_nonblocking(!use_uring).map_err(bind)?;
    let peer_address = peer_listener.local_addr().map_err(system("read the listening address"))?;
    let mut draws = Draws::new(random_seed()?);
    let boot = draws.draw();
    let advertised = |advertise: &Option<String>, bound: SocketAddr| advertise.clone().unwrap_or_else(|| bound.to_string());
    // Before anything is founded.
    let gossip_keys = if config.gossip.enabled { gossip_core::keys(&config.gossip)? } else { None };
    let gossip_sockets = if config.gossip.enabled {
        let sockets = gossip_core::bind(&config).map_err(|source| StartError::BindGossip { source })?;
        let address = gossip_core::advertised(config.gossip.advertise.as_deref(), &sockets).map_err(system("read the gossip address"))?;
        Some((sockets, address))
    } else {
        None
    };
    let record = |node| {
        let (peer, wire) = (advertised(&config.peer.advertise, peer_address), advertised(&config.wire.advertise, wire_address));
        let gossip_address = gossip_sockets.as_ref().map_or("", |(_, address)| address.as_str()).into();
        Member { gossip_address, ..own_record(node, &config.node.name, &peer, &wire) }
    };
    let Opened { log, state, transfer_dir, identity, groups, members, is_founder } =
        open_store(&config, &data_dir, boot, record, &mut draws)?;
    let me = Me { cluster: identity.cluster, node: identity.node, boot, member: record(identity.node) };

    let shard_count = plan.shards.len();
    let mesh = mesh::lay(shard_count).map_err(system("make lanes"))?;
    let (ready, shards_ready) = mpsc::channel();
    let failures = Failures::default();
    let control = Control::new(shard_count, ready, failures.clone());
    let mut bells = Vec::new();
    let mut threads = Vec::new();
    let mut spawn = |name: String, run: Box<dyn FnOnce() + Send>| -> Result<(), StartError> {
        threads.push(std::thread::Builder::new().name(name).spawn(run).map_err(system("start a thread"))?);
        Ok(())
    };

    let (post, inbox, sleeper, bell) = mesh.log_writer;
    bells.push(bell);
    let its_control = control.clone();
    spawn("log-writer".to_owned(), Box::new(move || log_writer::run(log, post, inbox, &sleeper, &its_control)))?;

    let (post, inbox, sleeper, bell) = mesh.state_writer;
    bells.push(bell);
    let its_control = control.clone();
    let writer = StateWriter { store: state, transfer_dir: transfer_dir.clone(), exported: BTreeMap::new() };
    spawn("state-writer".to_owned(), Box::new(move || state_writer::run(writer, post, inbox, &sleeper, &its_control)))?;

    let mut consensus = Consensus::new(ConsensusOptions {
        node: identity.node,
        boot,
        shard_count,
        seed: draws.draw(),
        heartbeat_ms: u64::from(config.raft.heartbeat_ms),
        election_timeout_ms_min: u64::from(config.raft.election_timeout_ms_min),
        election_timeout_ms_max: u64::from(config.raft.election_timeout_ms_max),
        lease_ms: config.raft.lease_ms(),
        checkpoints: CheckpointPolicy {
            entries: config.raft.snapshot_entries,
            bytes: config.raft.snapshot_bytes,
            keep_entries: config.raft.snapshot_keep_entries,
        },
    });
    let mut out = ConsensusOutputs::default();
    for OpenGroup { group, recovered, state } in groups {
        let now = clock::now();
        let opened = match state {
            Some(state) => consensus.restore_group(now, group, recovered, state, &mut out),
            None => consensus.open_group(now, group, recovered, &mut out),
        };
        if let Err(source) = opened {
            control.stop();
            control.raft_core_is_done();
            return Err(StartError::Group { group, source });
        }
    }
    let gossip = match gossip_sockets {
        Some((sockets, address)) => {
            let started = gossip_core::start(GossipCoreStart {
                config: &config,
                data_dir: &data_dir,
                cluster: identity.cluster,
                node: identity.node,
                sockets,
                address: &address,
                peer_address: &me.member.peer_address,
                keys: gossip_keys,
                post: mesh.gossip_core,
                shard_count,
                seed: draws.draw(),
                use_uring,
            });
            let thread = match started {
                Ok(thread) => thread,
                Err(source) => {
                    control.stop();
                    control.raft_core_is_done();
                    return Err(StartError::System { what: "start gossip", source });
                }
            };
            thread.control().seeds(0, gossip_core::seeds(identity.node, &members, &config.gossip.seeds));
            Some(thread)
        }
        None => None,
    };
    bells.push(mesh.raft_core.bell.try_clone().map_err(system("copy a doorbell"))?);
    let (raft_stats, from_raft_stats) = lane(1);
    let raft_stats_wanted = Arc::new(AtomicBool::new(false));
    let raft_probe = Probe {
        wanted: raft_stats_wanted.clone(),
        bell: mesh.raft_core.bell.try_clone().map_err(system("copy a doorbell"))?,
        stats: from_raft_stats,
    };
    let core = RaftCoreStart {
        consensus,
        out,
        ends: mesh.raft_core,
        control: control.clone(),
        listener: peer_listener,
        me: me.clone(),
        members,
        book: Book::of(&data_dir),
        transfer_dir,
        gossip: gossip.as_ref().and_then(|thread| thread.control().try_clone().ok()),
        gossip_seeds: config.gossip.seeds.clone(),
        use_uring,
        stats_wanted: raft_stats_wanted,
        stats: raft_stats,
    };
    let its_control = control.clone();
    let no_runtime = move |error: io::Error| {
        its_control.fail("raft core", format!("its runtime cannot start: {error}"));
        its_control.raft_core_is_done();
    };
    spawn("raft-core".to_owned(), Box::new(move || on_runtime(use_uring, raft_core::run(core), no_runtime)))?;

    let (post, inbox, sleeper, bell) = mesh.compiler;
    let settler = Settler::new(bell.try_clone().map_err(system("copy a doorbell"))?);
    bells.push(bell);
    let its_control = control.clone();
    spawn("compiler".to_owned(), Box::new(move || compiler::run(shard_count, post, inbox, &sleeper, settler, &its_control)))?;

    let mut probes = Vec::new();
    for (index, ends) in mesh.shards.into_iter().enumerate() {
        bells.push(ends.bell.try_clone().map_err(system("copy a doorbell"))?);
        let (stats, from_stats) = lane(1);
        let stats_wanted = Arc::new(AtomicBool::new(false));
        probes.push(Probe {
            wanted: stats_wanted.clone(),
            bell: ends.bell.try_clone().map_err(system("copy a doorbell"))?,
            stats: from_stats,
        });
        let ShardEnds { post, inbox, sleeper, bell } = ends;
        let shard = ShardStart {
            options: shard_options(&config, index, shard_count, &me, is_founder, draws.draw()),
            ends: ShardEnds { post, inbox, sleeper, bell },
            listener: listener.try_clone().map_err(system("share the listener"))?,
            connections_max: (config.limits.connections_max as usize).div_ceil(shard_count),
            control: control.clone(),
            stats_wanted,
            stats,
        };
        let core = plan.pinned.then(|| plan.shards[index]);
        spawn(format!("shard-{index}"), Box::new(move || run_shard(shard, core, use_uring)))?;
    }
    drop(listener);
    let handle = NodeHandle {
        wire_address,
        peer_address,
        identity,
        plan,
        control,
        failures,
        bells,
        threads,
        gossip,
        metrics: Metrics {
            node: Arc::from(config.node.name.as_str()),
            probes: Arc::new(Mutex::new(Probes { shards: probes, raft_core: raft_probe })),
        },
    };
    wait_until_ready(handle, &shards_ready, shard_count)
}

fn wait_until_ready(handle: NodeHandle, shards_ready: &mpsc::Receiver<usize>, shard_count: usize) -> Result<NodeHandle, StartError> {
    let deadline_ns = clock::mono_ns() + READY_MS_MAX * 1_000_000;
    let mut missing = shard_count;
    while missing > 0 {
        match shards_ready.recv_timeout(Duration::from_millis(10)) {
            Ok(_) => missing -= 1,
            Err(_) => {
                let failed = handle.failures.first();
                if failed.is_some() || clock::mono_ns() > deadline_ns {
                    let _ = handle.shutdown();
                    return Err(failed.map_or(StartError::NotReady, StartError::Failed));
                }
            }
        }
    }
    Ok(handle)
}

fn shard_options(config: &Config, index: usize, count: usize, me: &Me, is_founder: bool, seed: u64) -> ShardOptions {
    let init = Init {
        cluster: me.cluster,
        work_groups: config.partitions,
        voters: vec![me.node],
        members: if is_founder { vec![me.member.clone()] } else { Vec::new() },
    };
    ShardOptions {
        index,
        count,
        node: me.node,
        node_name: Arc::from(config.node.name.as_str()),
        address: me.member.wire_address.clone(),
        boot: me.boot,
        seed,
        server_version: env!("CARGO_PKG_VERSION"),
        frame_bytes_max: config.limits.frame_bytes_max,
        frames_in_flight_max: config.limits.frames_in_flight_max,
        bytes_in_flight_max: config.limits.bytes_in_flight_max,
        requests_per_second: config.limits.requests_per_second,
        init,
        member: me.member.clone(),
        settings: distric_exec::Settings {
            dedupe_window_ms: config.exec.dedupe_window_ms,
            dedupe_bytes_max: config.exec.dedupe_bytes_max,
            state_bytes_max: config.exec.state_bytes_max,
            history_retention_ms: config.exec.history_retention_ms,
            placement: config.exec.placement,
            ..distric_exec::Settings::default()
        },
        stopwatch: clock::mono_ns,
    }
}

/// Whether the shards run on io_uring; one warning line when they were meant to and cannot.
fn choose_driver(config: &Config) -> Result<bool, StartError> {
    let available = monoio::utils::detect_uring() && memlock_suffices();
    match config.io.driver {
        IoDriver::Epoll => Ok(false),
        IoDriver::IoUring if !available => Err(StartError::NoIoUring),
        IoDriver::IoUring => Ok(true),
        IoDriver::Auto => {
            if !available {
                tracing::warn!(target: "distric_core::node", "io_uring is refused here, running on epoll (see LimitMEMLOCK, container profile)");
            }
            Ok(available)
        }
    }
}

fn memlock_suffices() -> bool {
    // Root is not bound by the limit; for the others less than this makes the runtime's start fail.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    rustix::process::geteuid().is_root() || limit.is_none_or(|bytes| bytes >= MEMLOCK_BYTES_MIN)
}

fn run_shard(shard: ShardStart, core: Option<usize>, use_uring: bool) {
    if let Some(id) = core
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        tracing::warn!(target: "distric_core::shard", core = id, "cannot be pinned");
    }
    let control = shard.control.clone();
    let failed = move |error: io::Error| {
        control.fail("shard", format!("its runtime cannot start: {error}"));
        control.shard_is_done();
    };
    on_runtime(use_uring, shard_thread::run(shard), failed);
}

/// Runs a thread's task on the runtime of its driver.
fn on_runtime(use_uring: bool, task: impl Future<Output = ()>, failed: impl FnOnce(io::Error)) {
    if use_uring {
        match monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().enable_timer().build() {
            Ok(mut runtime) => runtime.block_on(task),
            Err(error) => failed(error),
        }
    } else {
        match monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().enable_timer().build() {
            Ok(mut runtime) => runtime.block_on(task),
            Err(error) => failed(error),
        }
    }
}

fn random_seed() -> Result<u64, StartError> {
    getrandom::u64().map_err(|error| StartError::System { what: "draw random numbers", source: io::Error::other(error.to_string()) })
}
