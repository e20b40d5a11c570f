//! Profiles: what a member says about itself, and its load, which changes too often to be part of that.

use crate::codec::{DecodeError, Reader, put_bytes, put_varint};
use crate::endpoint::Endpoint;
use crate::seal::{KEYS_MAX, KeyWord};

/// Longest zone name, bytes.
pub const ZONE_BYTES_MAX: usize = 64;
/// Most labels of one member.
pub const LABELS_MAX: usize = 16;
/// Longest key or value of a label, bytes.
pub const LABEL_BYTES_MAX: usize = 128;
/// Largest encoded profile, bytes. A record with it must fit into every datagram with room for a probe beside it.
pub const PROFILE_BYTES_MAX: usize = 768;

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// Executes tasks.
    Worker = 0,
    /// A coordinator without a vote, or not yet with one.
    Coordinator = 1,
    /// A coordinator with a vote; partition verdicts count these first.
    Voter = 2,
}

/// What a member says about itself. Changes seldom; each change raises its incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Where others reach it; need not be where it binds.
    pub endpoint: Endpoint,
    /// What it does.
    pub role: Role,
    /// Oldest protocol version it speaks.
    pub protocol_min: u16,
    /// Newest protocol version it speaks.
    pub protocol_max: u16,
    /// Zone or data centre, at most [`ZONE_BYTES_MAX`] bytes; may be empty.
    pub zone: String,
    /// Labels in the order given; at most [`LABELS_MAX`].
    pub labels: Vec<(String, String)>,
    /// Tasks it can run at once.
    pub capacity: u32,
    /// The keys that it holds and follows; the machine sets this of its own profile.
    pub keys: KeyWord,
}

/// A profile that would not travel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// A text or a list is longer than its bound.
    #[error("{name} is {given}, at most {max}")]
    TooLong {
        /// Which.
        name: &'static str,
        /// What was given, in bytes or entries.
        given: usize,
        /// The bound.
        max: usize,
    },
    /// The versions are the wrong way round.
    #[error("protocol versions {min} to {max} are empty")]
    Versions {
        /// Oldest.
        min: u16,
        /// Newest.
        max: u16,
    },
}

impl Profile {
    /// A worker at `endpoint` with nothing else said.
    pub fn worker(endpoint: Endpoint) -> Self {
        let (zone, labels, keys) = (String::new(), Vec::new(), KeyWord::default());
        Self { endpoint, role: Role::Worker, protocol_min: 1, protocol_max: 1, zone, labels, capacity: 0, keys }
    }

    /// Whether it fits the bounds. Errors: [`ProfileError`], naming the first part that does not.
    pub fn check(&self) -> Result<(), ProfileError> {
        let within = |name, given, max| if given <= max { Ok(()) } else { Err(ProfileError::TooLong { name, given, max }) };
        within("zone bytes", self.zone.len(), ZONE_BYTES_MAX)?;
        within("labels", self.labels.len(), LABELS_MAX)?;
        within("keys", self.keys.held.len(), KEYS_MAX)?;
        for (key, value) in &self.labels {
            within("label bytes", key.len().max(value.len()), LABEL_BYTES_MAX)?;
        }
        if !(self.protocol_min <= self.protocol_max) {
            return Err(ProfileError::Versions { min: self.protocol_min, max: self.protocol_max });
        }
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        within("profile bytes", bytes.len(), PROFILE_BYTES_MAX)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self.endpoint.as_v4() {
            Some(ip) => {
                out.push(4);
                out.extend_from_slice(&ip);
            }
            None => {
                out.push(6);
                out.extend_from_slice(&self.endpoint.ip);
            }
        }
        out.extend_from_slice(&self.endpoint.port.to_be_bytes());
        out.push(self.role as u8);
        put_varint(out, u64::from(self.protocol_min));
        put_varint(out, u64::from(self.protocol_max));
        put_varint(out, u64::from(self.capacity));
        put_bytes(out, self.zone.as_bytes());
        put_varint(out, self.labels.len() as u64);
        for (key, value) in &self.labels {
            put_bytes(out, key.as_bytes());
            put_bytes(out, value.as_bytes());
        }
        self.keys.encode(out);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bytes_before = from.rest().len();
        let endpoint = match from.byte()? {
            4 => {
                let ip = from.array::<4>()?;
                Endpoint::v4(ip, u16::from_be_bytes(from.array()?))
            }
            6 => {
                let ip = from.array::<16>()?;
                Endpoint::v6(ip, u16::from_be_bytes(from.array()?))
            }
            _ => return Err(DecodeError::Field { name: "endpoint" }),
        };
        let role = match from.byte()? {
            0 => Role::Worker,
            1 => Role::Coordinator,
            2 => Role::Voter,
            _ => return Err(DecodeError::Field { name: "role" }),
        };
        let protocol_min = from.number("protocol_min")?;
        let protocol_max = from.number("protocol_max")?;
        let capacity = from.number("capacity")?;
        let zone = from.text("zone", ZONE_BYTES_MAX)?;
        let count: usize = from.number("labels")?;
        if count > LABELS_MAX {
            return Err(DecodeError::Field { name: "labels" });
        }
        let mut labels = Vec::with_capacity(count);
        for _ in 0..count {
            labels.push((from.text("label", LABEL_BYTES_MAX)?, from.text("label", LABEL_BYTES_MAX)?));
        }
        let keys = KeyWord::decode(from)?;
        // What we would not send we do not take: it could not be passed on.
        if !(protocol_min <= protocol_max && bytes_before - from.rest().len() <= PROFILE_BYTES_MAX) {
            return Err(DecodeError::Field { name: "profile" });
        }
        Ok(Self { endpoint, role, protocol_min, protocol_max, zone, labels, capacity, keys })
    }
}

/// A sample of a member's load. Newest wins, by `seq`; it never touches the incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Counts the samples of one generation; set by the machine.
    pub seq: u32,
    /// Tasks running.
    pub running: u32,
    /// Tasks waiting.
    pub queued: u32,
    /// Busy share of the processors, thousandths.
    pub cpu_permille: u16,
    /// Used share of the memory, thousandths.
    pub memory_permille: u16,
}

/// Steps of the shares that are worth a new sample, thousandths.
const LOAD_STEP_PERMILLE: u16 = 50;

impl Load {
    /// Whether this differs enough from `told` to be told at once: another power of two of tasks, or 5 % of a share.
    pub(crate) const fn is_news_after(&self, told: &Self) -> bool {
        magnitude(self.running) != magnitude(told.running)
            || magnitude(self.queued) != magnitude(told.queued)
            || self.cpu_permille.abs_diff(told.cpu_permille) >= LOAD_STEP_PERMILLE
            || self.memory_permille.abs_diff(told.memory_permille) >= LOAD_STEP_PERMILLE
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for value in [self.seq, self.running, self.queued, u32::from(self.cpu_permille), u32::from(self.memory_permille)] {
            put_varint(out, u64::from(value));
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            seq: from.number("load")?,
            running: from.number("load")?,
            queued: from.number("load")?,
            cpu_permille: from.number("load")?,
            memory_permille: from.number("load")?,
        })
    }
}

const fn magnitude(tasks: u32) -> u32 {
    u32::BITS - tasks.leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_would_not_travel_is_refused_before_it_is_sent() {
        let mut profile = Profile::worker(Endpoint::v4([127, 0, 0, 1], 1));
        assert_eq!(profile.check(), Ok(()));
        profile.labels = (0..LABELS_MAX).map(|n| (format!("{n:0>40}"), "v".repeat(40))).collect();
        assert!(matches!(profile.check(), Err(ProfileError::TooLong { name: "profile bytes", .. })));
        profile.labels = vec![("k".repeat(LABEL_BYTES_MAX + 1), String::new())];
        assert!(matches!(profile.check(), Err(ProfileError::TooLong { name: "label bytes", .. })));
    }

    #[test]
    fn small_changes_of_load_are_no_news() {
        let told = Load { running: 4, cpu_permille: 500, ..Load::default() };
        assert!(!Load { running: 7, cpu_permille: 540, ..told }.is_news_after(&told));
        assert!(Load { running: 8, ..told }.is_news_after(&told));
        assert!(Load { cpu_permille: 550, ..told }.is_news_after(&told));
    }
}
