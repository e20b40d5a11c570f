//! Which keys of gossip count. Numbers only: the keys themselves are in files that the log never sees.
//!
//! Ids grow, so two numbers are the whole choice: the key to seal with, and the least that is still accepted.
//! Invariant: the key to seal with is accepted.   Invariant: a retired key never counts again.

use distric_gossip::{KeyChoice, KeyId};
use serde::{Deserialize, Serialize};

use super::{Meta, MetaReply};

/// The choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GossipKeys {
    /// Counts the changes; 0: nobody has chosen.
    pub version: u64,
    /// The key to seal with.
    pub primary: u16,
    /// Lesser ones are retired.
    pub floor: u16,
}

impl From<GossipKeys> for KeyChoice {
    fn from(keys: GossipKeys) -> Self {
        Self { version: keys.version, primary: KeyId(keys.primary), floor: KeyId(keys.floor) }
    }
}

/// Why the choice was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// A key that was retired does not come back under its id.
    #[error("key {id} is retired: the least that counts is {floor}; add a new one")]
    Retired {
        /// Which was asked for.
        id: u16,
        /// The least that counts.
        floor: u16,
    },
    /// What packets are sealed with cannot be retired.
    #[error("key {id} cannot be retired: packets are sealed with {primary}; use a greater one first")]
    InUse {
        /// Which was asked for.
        id: u16,
        /// What packets are sealed with.
        primary: u16,
    },
    /// Nobody has chosen a key yet, so that the least one that a node holds seals.
    #[error("no key has been chosen yet; use a new one first")]
    NoneChosen,
    /// No key has this id.
    #[error("the id of a key is 1 to 65535")]
    Zero,
}

impl Meta {
    /// The choice as it stands.
    pub fn gossip_keys(&self) -> GossipKeys {
        self.gossip_keys
    }

    pub(super) fn use_gossip_key(&mut self, id: u16) -> MetaReply {
        let keys = &mut self.gossip_keys;
        if id == 0 {
            return MetaReply::GossipKeysRefused(KeyRefusal::Zero);
        }
        if id < keys.floor {
            return MetaReply::GossipKeysRefused(KeyRefusal::Retired { id, floor: keys.floor });
        }
        if keys.primary != id {
            *keys = GossipKeys { version: keys.version + 1, primary: id, floor: keys.floor };
        }
        MetaReply::GossipKeys(*keys)
    }

    pub(super) fn retire_gossip_keys(&mut self, upto: u16) -> MetaReply {
        let keys = &mut self.gossip_keys;
        if keys.version == 0 {
            return MetaReply::GossipKeysRefused(KeyRefusal::NoneChosen);
        }
        if upto == 0 {
            return MetaReply::GossipKeysRefused(KeyRefusal::Zero);
        }
        if upto >= keys.primary {
            return MetaReply::GossipKeysRefused(KeyRefusal::InUse { id: upto, primary: keys.primary });
        }
        if upto >= keys.floor {
            *keys = GossipKeys { version: keys.version + 1, primary: keys.primary, floor: upto + 1 };
        }
        MetaReply::GossipKeys(*keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::meta::MetaCommand;
    use distric_model::Timestamp;

    fn apply(meta: &mut Meta, command: MetaCommand) -> Result<(u64, u16, u16), KeyRefusal> {
        // As it comes out of the log.
        let command = MetaCommand::decode(&command.encode()).unwrap();
        match meta.apply(Timestamp::from_us(1), command) {
            MetaReply::GossipKeys(keys) => Ok((keys.version, keys.primary, keys.floor)),
            MetaReply::GossipKeysRefused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_rotation_is_two_choices_and_what_is_retired_stays_so() {
        use MetaCommand::{RetireGossipKeys, UseGossipKey};
        let mut meta = Meta::default();
        assert_eq!(apply(&mut meta, RetireGossipKeys(1)), Err(KeyRefusal::NoneChosen));
        assert_eq!(apply(&mut meta, UseGossipKey(0)), Err(KeyRefusal::Zero));
        assert_eq!(apply(&mut meta, UseGossipKey(2)), Ok((1, 2, 0)));
        assert_eq!(apply(&mut meta, UseGossipKey(2)), Ok((1, 2, 0)), "the same again is no change");
        assert_eq!(apply(&mut meta, UseGossipKey(1)), Ok((2, 1, 0)), "back, as long as it is not retired");
        assert_eq!(apply(&mut meta, UseGossipKey(2)), Ok((3, 2, 0)));
        assert_eq!(apply(&mut meta, RetireGossipKeys(2)), Err(KeyRefusal::InUse { id: 2, primary: 2 }));
        assert_eq!(apply(&mut meta, RetireGossipKeys(1)), Ok((4, 2, 2)));
        assert_eq!(apply(&mut meta, RetireGossipKeys(1)), Ok((4, 2, 2)));
        assert_eq!(apply(&mut meta, UseGossipKey(1)), Err(KeyRefusal::Retired { id: 1, floor: 2 }));
        let mut changes = Vec::new();
        meta.take_changes(&mut changes);
        let records = changes.into_iter().map(|change| (change.key, change.value.unwrap()));
        assert_eq!(Meta::restore(records).unwrap().gossip_keys(), meta.gossip_keys(), "a checkpoint keeps it");
    }
}
