//! What a machine is told at its start. The defaults meet the bars of `docs/gossip.md`.

use distric_model::{ClusterId, NodeId};

use crate::endpoint::Endpoint;
use crate::profile::{Profile, ProfileError};
use crate::seal::{KeyChoice, KeyId, KeyRing};
use crate::standing::Generation;

/// Most members that a table can be configured to hold.
pub const MEMBERS_MAX: usize = 16_384;
/// Most seeds.
pub(crate) const SEEDS_MAX: usize = 64;
/// Most members asked to ping for us.
const INDIRECT_MAX: usize = 16;
/// Most confirmations waited for.
const CONFIRMATIONS_MAX: usize = 8;
/// Most witnesses of a fresh suspicion.
const WITNESSES_MAX: usize = 64;
/// Greatest local health score: probes are then slowed down 33 times.
const LOCAL_HEALTH_MAX: u32 = 32;

/// Most further probe intervals for a member that is slow.
const PATIENCE_MAX: u32 = 16;

/// Settings of one machine. All nodes of a cluster should have equal times.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster; packets of others are refused.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// This life: milliseconds of the calendar, or the stored value plus one where that is greater. The rim stores it.
    pub generation: Generation,
    /// What this node says about itself.
    pub profile: Profile,
    /// Nodes to join by. Empty: this node is the first.
    pub seeds: Vec<Endpoint>,
    /// How often one member is probed, milliseconds.
    pub probe_interval_ms: u64,
    /// Shortest wait for a direct answer, milliseconds.
    pub direct_timeout_ms_min: u64,
    /// Longest wait for a direct answer, and the wait for members whose distance is unknown, milliseconds.
    pub direct_timeout_ms_max: u64,
    /// Members asked to ping a silent one.
    pub indirect_probes: usize,
    /// Shortest suspicion in units of log10(members) probe intervals (alpha of Lifeguard).
    pub suspicion_factor: f64,
    /// Longest suspicion in units of the shortest (beta of Lifeguard).
    pub suspicion_spread: u32,
    /// No suspicion is shorter, milliseconds; decides for small clusters.
    pub suspicion_floor_ms: u64,
    /// Independent confirmations that bring a suspicion down to its shortest.
    pub confirmations: usize,
    /// Members that check a fresh suspicion at once, on average; 0: confirmations come from the rounds alone.
    pub witnesses: usize,
    /// Greatest distrust of ourselves (S of Lifeguard): waits are stretched up to one more than this; 0: never.
    pub local_health_max: u32,
    /// Whether each relay that says nothing counts against ourselves, as in the paper. Otherwise one counts when most are silent: one
    /// silent relay may itself be dead.
    pub counts_each_silent_relay: bool,
    /// Most probe intervals that a member gets on top which was suspected and spoke up again and again; 0: none.
    pub patience_max: u32,
    /// Dissemination tick of the normal and the load lane, milliseconds.
    pub gossip_interval_ms: u64,
    /// Targets of a dissemination tick.
    pub gossip_fan_out: usize,
    /// Bytes of load samples in one tick's packet.
    pub load_bytes_max: usize,
    /// Most packets of the urgent lane, per second; 0: there is none, and words wait for ticks and pings.
    pub urgent_packets_per_s: u32,
    /// How often two views are compared without a reason, milliseconds; grows with the logarithm of the cluster.
    pub sync_interval_ms: u64,
    /// How often a comparison may start for a reason (views differ), milliseconds.
    pub sync_pause_ms: u64,
    /// How often a dead member or an unknown seed may be knocked at, milliseconds. About three in the whole cluster do.
    pub knock_interval_ms: u64,
    /// How long the dead and the left are remembered with their addresses, milliseconds.
    pub tombstone_ms: u64,
    /// Share of the last stable view whose loss raises the suspicion of a partition, thousandths.
    pub partition_permille: u32,
    /// How long the view must rest before it is stable, or a verdict is passed, milliseconds.
    pub partition_settle_ms: u64,
    /// How long a leaver goes on answering, milliseconds.
    pub leave_linger_ms: u64,
    /// Most members remembered, tombstones included.
    pub members_max: usize,
    /// The keys that packets are sealed with. `None`: they are plain, and whoever can send one can forge any member.
    pub keys: Option<KeyRing>,
    /// Which of the keys count, as far as is known at the start.
    pub key_choice: KeyChoice,
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value is outside its range.
    #[error("{name} must be within {min} and {max}")]
    Range {
        /// The setting.
        name: &'static str,
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// The indirect probes would have no time left.
    #[error("the longest direct timeout must be at most a third of the probe interval")]
    DirectTimeout,
    /// The profile would not travel.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

impl Config {
    /// Defaults: probes every 250 ms, three confirmations, suspicion of 3 log10(n) intervals, ticks of 1 s.
    pub const fn new(cluster: ClusterId, node: NodeId, generation: Generation, profile: Profile) -> Self {
        Self {
            cluster,
            node,
            generation,
            profile,
            seeds: Vec::new(),
            probe_interval_ms: 250,
            direct_timeout_ms_min: 10,
            direct_timeout_ms_max: 80,
            indirect_probes: 3,
            suspicion_factor: 3.0,
            suspicion_spread: 6,
            suspicion_floor_ms: 1_500,
            confirmations: 3,
            witnesses: 6,
            local_health_max: 8,
            counts_each_silent_relay: false,
            patience_max: 3,
            gossip_interval_ms: 1_000,
            gossip_fan_out: 4,
            load_bytes_max: 512,
            urgent_packets_per_s: 400,
            sync_interval_ms: 30_000,
            sync_pause_ms: 5_000,
            knock_interval_ms: 2_000,
            tombstone_ms: 24 * 60 * 60 * 1_000,
            partition_permille: 200,
            partition_settle_ms: 5_000,
            leave_linger_ms: 3_000,
            members_max: MEMBERS_MAX,
            keys: None,
            key_choice: KeyChoice { version: 0, primary: KeyId(0), floor: KeyId(0) },
        }
    }

    /// Whether the settings can work. Errors: [`ConfigError`], naming the first that cannot.
    pub fn check(&self) -> Result<(), ConfigError> {
        const HOUR_MS: u64 = 60 * 60 * 1_000;
        let ranges = [
            ("probe_interval_ms", self.probe_interval_ms, 10, HOUR_MS),
            ("direct_timeout_ms_max", self.direct_timeout_ms_max, self.direct_timeout_ms_min, HOUR_MS),
            ("indirect_probes", self.indirect_probes as u64, 0, INDIRECT_MAX as u64),
            ("suspicion_spread", u64::from(self.suspicion_spread), 1, 100),
            ("suspicion_floor_ms", self.suspicion_floor_ms, 1, HOUR_MS),
            ("confirmations", self.confirmations as u64, 0, CONFIRMATIONS_MAX as u64),
            ("witnesses", self.witnesses as u64, 0, WITNESSES_MAX as u64),
            ("local_health_max", u64::from(self.local_health_max), 0, u64::from(LOCAL_HEALTH_MAX)),
            ("patience_max", u64::from(self.patience_max), 0, u64::from(PATIENCE_MAX)),
            ("gossip_interval_ms", self.gossip_interval_ms, 10, HOUR_MS),
            ("gossip_fan_out", self.gossip_fan_out as u64, 1, 64),
            ("urgent_packets_per_s", u64::from(self.urgent_packets_per_s), 0, 1_000_000),
            ("sync_interval_ms", self.sync_interval_ms, 100, HOUR_MS),
            ("sync_pause_ms", self.sync_pause_ms, 100, HOUR_MS),
            ("knock_interval_ms", self.knock_interval_ms, 100, HOUR_MS),
            ("partition_permille", u64::from(self.partition_permille), 1, 1_000),
            ("partition_settle_ms", self.partition_settle_ms, 1, HOUR_MS),
            ("members_max", self.members_max as u64, 2, MEMBERS_MAX as u64),
            ("seeds", self.seeds.len() as u64, 0, SEEDS_MAX as u64),
        ];
        for (name, value, min, max) in ranges {
            if !(min <= value && value <= max) {
                return Err(ConfigError::Range { name, min, max });
            }
        }
        if !(0.1..=100.0).contains(&self.suspicion_factor) {
            return Err(ConfigError::Range { name: "suspicion_factor", min: 1, max: 100 });
        }
        if !(self.direct_timeout_ms_max * 3 <= self.probe_interval_ms) {
            return Err(ConfigError::DirectTimeout);
        }
        Ok(self.profile.check()?)
    }
}
