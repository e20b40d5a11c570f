//! What a replica is told at its start.

use distric_model::limits::{FRAME_BYTES_HARD_CAP, MESSAGE_BYTES_MAX};
use distric_model::{GroupId, NodeId};

/// Settings of one replica. All replicas of a group should have equal times.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// The group, for logs only.
    pub group: GroupId,
    /// The shortest time without a leader after which a follower asks for an election. Also how long a replica
    /// that heard from a leader refuses to vote another in.
    pub election_timeout_ms_min: u64,
    /// The longest such time, drawn anew for every attempt. Also how long a leader leads without hearing from a
    /// majority.
    pub election_timeout_ms_max: u64,
    /// How often a leader says that it leads.
    pub heartbeat_ms: u64,
    /// Most bytes of entries that may wait for commitment before proposals are refused.
    pub uncommitted_bytes_max: u64,
    /// Largest command.
    pub command_bytes_max: u64,
    /// Most bytes of entries in one message; a single larger entry goes alone.
    pub append_bytes_max: u64,
    /// Most unanswered appends to one follower.
    pub in_flight_messages_max: usize,
    /// Most unanswered bytes of entries to one follower.
    pub in_flight_bytes_max: u64,
    /// Bytes of committed and durable entries kept in memory for followers that are a little behind; others are
    /// read from the log store.
    pub cache_bytes_max: u64,
    /// Most bytes asked for in one [`crate::Load`].
    pub load_bytes_max: u64,
    /// Added to every election timeout of this replica: the greater, the later it offers itself, so the smaller its
    /// priority. Zero for the preferred. Offsets of replicas that are to be told apart differ by more than a timeout.
    pub election_offset_ms: u64,
    /// A joining learner is caught up when it lacks at most so many committed entries ...
    pub promotion_lag_entries_max: u64,
    /// ... in so many answered heartbeats in a row.
    pub promotion_rounds: u32,
    /// Most reads that wait for their proof.
    pub reads_max: usize,
    /// Most entries that are kept from compaction for followers that are being brought up by an older snapshot. One that
    /// takes longer needs another.
    pub snapshot_kept_entries_max: u64,
    /// Whether a leader tells followers that it has nothing else to tell at once what is committed, rather than with the next
    /// heartbeat: for state machines whose followers answer clients. One small message per follower and commit at low load, none
    /// while appends are under way, which carry the index anyway.
    pub eager_commit: bool,
    /// So long after the beginning of a round of heartbeats that a majority answered a leader answers reads at once; zero: never, each read
    /// waits for a round of its own. Less than [`Self::election_timeout_ms_min`], and safe only as long as no node's clock runs faster than
    /// another's by more than the quotient of the two. Replicas of a group may differ in it: what a lease rests on all of them do always.
    pub lease_ms: u64,
    /// Whether heartbeats go out at multiples of [`Self::heartbeat_ms`], so that those of all groups of a node meet in one carrier message.
    pub aligned_heartbeats: bool,
}

/// A setting that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Elections could not be told apart by their timeouts.
    #[error("election timeout of {min_ms} to {max_ms} ms: the longest must exceed the shortest")]
    ElectionTimeout {
        /// Shortest.
        min_ms: u64,
        /// Longest.
        max_ms: u64,
    },
    /// A healthy leader would be deposed.
    #[error("heartbeat of {heartbeat_ms} ms must be above zero and at most half of the shortest election timeout of {min_ms} ms")]
    Heartbeat {
        /// The heartbeat.
        heartbeat_ms: u64,
        /// The shortest election timeout.
        min_ms: u64,
    },
    /// Another leader could be elected before it ends.
    #[error("lease of {lease_ms} ms: must be below the shortest election timeout of {min_ms} ms")]
    Lease {
        /// The lease.
        lease_ms: u64,
        /// The shortest election timeout.
        min_ms: u64,
    },
    /// Without a leader the group would wait for this replica too long.
    #[error("election offset of {offset_ms} ms: at most {ELECTION_OFFSET_MS_MAX} ms")]
    Offset {
        /// The offset.
        offset_ms: u64,
    },
    /// Nothing could be sent, kept or loaded.
    #[error("{name} must be above zero")]
    Zero {
        /// The setting.
        name: &'static str,
    },
}

impl Config {
    /// Defaults for a local network: heartbeat 50 ms, election after 300 to 600 ms.
    pub const fn new(id: NodeId, group: GroupId) -> Self {
        Self {
            id,
            group,
            election_timeout_ms_min: 300,
            election_timeout_ms_max: 600,
            heartbeat_ms: 50,
            uncommitted_bytes_max: 64 << 20,
            command_bytes_max: COMMAND_BYTES_MAX,
            append_bytes_max: 512 << 10,
            in_flight_messages_max: 64,
            in_flight_bytes_max: 8 << 20,
            cache_bytes_max: 8 << 20,
            load_bytes_max: 1 << 20,
            election_offset_ms: 0,
            promotion_lag_entries_max: 256,
            promotion_rounds: 3,
            reads_max: 4_096,
            snapshot_kept_entries_max: 1 << 20,
            eager_commit: false,
            lease_ms: 0,
            aligned_heartbeats: false,
        }
    }

    /// Errors: the first setting that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let (min_ms, max_ms) = (self.election_timeout_ms_min, self.election_timeout_ms_max);
        if !(min_ms > 0 && max_ms > min_ms) {
            return Err(ConfigError::ElectionTimeout { min_ms, max_ms });
        }
        if !(self.heartbeat_ms > 0 && self.heartbeat_ms <= min_ms / 2) {
            return Err(ConfigError::Heartbeat { heartbeat_ms: self.heartbeat_ms, min_ms });
        }
        if self.lease_ms >= min_ms {
            return Err(ConfigError::Lease { lease_ms: self.lease_ms, min_ms });
        }
        if self.election_offset_ms > ELECTION_OFFSET_MS_MAX {
            return Err(ConfigError::Offset { offset_ms: self.election_offset_ms });
        }
        let sizes = [
            ("uncommitted_bytes_max", self.uncommitted_bytes_max),
            ("command_bytes_max", self.command_bytes_max),
            ("append_bytes_max", self.append_bytes_max),
            ("in_flight_messages_max", self.in_flight_messages_max as u64),
            ("in_flight_bytes_max", self.in_flight_bytes_max),
            ("load_bytes_max", self.load_bytes_max),
            ("promotion_rounds", u64::from(self.promotion_rounds)),
            ("reads_max", self.reads_max as u64),
        ];
        match sizes.into_iter().find(|(_, size)| *size == 0) {
            Some((name, _)) => Err(ConfigError::Zero { name }),
            None => Ok(()),
        }
    }
}

/// Largest command by default, bytes: a whole message with its decision, and far below any frame.
const COMMAND_BYTES_MAX: u64 = 4 << 20;

/// Longest offset on an election timeout: when only the least preferred replicas are left, this is the price.
const ELECTION_OFFSET_MS_MAX: u64 = 60_000;

const _: () = assert!(COMMAND_BYTES_MAX as usize >= 2 * MESSAGE_BYTES_MAX, "a message and what rules derived from it fit in a command");
const _: () = assert!(COMMAND_BYTES_MAX <= FRAME_BYTES_HARD_CAP as u64 / 2, "a command fits in a frame between nodes");

#[cfg(test)]
mod tests {
    use distric_model::{Slot, Timestamp};

    use super::*;

    #[test]
    fn defaults_are_valid_and_contradictions_are_named() {
        let id = NodeId::new(Timestamp::from_us(0), Slot::truncate(0), 1);
        let mut config = Config::new(id, GroupId::META);
        assert_eq!(config.check(), Ok(()));
        config.heartbeat_ms = 200;
        assert!(matches!(config.check(), Err(ConfigError::Heartbeat { .. })));
        config.heartbeat_ms = 50;
        config.lease_ms = 300;
        assert!(matches!(config.check(), Err(ConfigError::Lease { .. })));
        config.election_timeout_ms_max = 300;
        assert!(matches!(config.check(), Err(ConfigError::ElectionTimeout { .. })));
    }
}
