//! Ids: newtypes over UUIDv7 (RFC 9562, section 5.7) that carry their slot, and small numbers.
//!
//! Message, instance and task ids hold their [`Slot`] in `rand_a`, the 12 bits after the version nibble
//! (low nibble of byte 6, and byte 7), so that a look-up by id needs no scatter. The 62 bits of `rand_b` are
//! handed in: random at the rim, derived from the log position inside the replicated machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::slot::Slot;
use crate::time::Timestamp;

/// The text is not a UUID, or not of version 7.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 36 characters of the usual hexadecimal form.
    #[error("{text:?} is not a UUID")]
    NotUuid {
        /// What was given, cut to 64 characters.
        text: String,
    },
    /// A UUID, but not a version 7 one (RFC 9562).
    #[error("{id} is not a UUID of version 7")]
    NotVersion7 {
        /// What was given.
        id: Uuid,
    },
}

/// Builds the 16 bytes of a UUIDv7: `at` in milliseconds, `slot` in `rand_a`, low 62 bits of `rand` in `rand_b`.
fn uuid_v7(at: Timestamp, slot: Slot, rand: u64) -> Uuid {
    let ms = (at.as_us() / 1_000) & 0xffff_ffff_ffff;
    let high = (ms << 16) | 0x7000 | u64::from(slot.number());
    let low = (rand & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    Uuid::from_u64_pair(high, low)
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes an id from a time, a slot and 62 bits that must not repeat for the same time and slot.
            pub fn new(at: Timestamp, slot: Slot, rand: u64) -> Self {
                Self(uuid_v7(at, slot, rand))
            }

            /// Wraps a UUID. Errors: [`IdError::NotVersion7`] when it is not of version 7.
            pub fn from_uuid(id: Uuid) -> Result<Self, IdError> {
                if id.get_version_num() == 7 { Ok(Self(id)) } else { Err(IdError::NotVersion7 { id }) }
            }

            /// Wraps 16 bytes in network order. Errors: as [`Self::from_uuid`].
            pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, IdError> {
                Self::from_uuid(Uuid::from_bytes(bytes))
            }

            /// The id as a UUID.
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// Its 16 bytes in network order.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }

            /// The slot in its `rand_a` field.
            pub const fn slot(self) -> Slot {
                let bytes = self.0.as_bytes();
                Slot::truncate(u16::from_be_bytes([bytes[6], bytes[7]]))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let id = Uuid::try_parse(text).map_err(|_| IdError::NotUuid { text: text.chars().take(64).collect() })?;
                Self::from_uuid(id)
            }
        }

        /// Text where the format is for people (JSON), 16 bytes where it is not (the log).
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::from_uuid(Uuid::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

uuid_id!(
    /// One accepted message.
    MessageId
);
uuid_id!(
    /// One run of a workflow.
    InstanceId
);
uuid_id!(
    /// One task of one instance; stable over attempts, so it is the outward idempotency key.
    TaskId
);
uuid_id!(
    /// One worker process, stable over its reconnects.
    WorkerId
);
uuid_id!(
    /// One coordinator or worker node, stable over restarts on the same data directory.
    NodeId
);
uuid_id!(
    /// One cluster, minted once by whoever initialised it.
    ClusterId
);

/// One Raft group: 0 is `meta`, the others are work partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u32);

impl GroupId {
    /// The group that holds the catalog, the members and the settings.
    pub const META: Self = Self(0);
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::META { f.write_str("meta") } else { write!(f, "work-{}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_slot_survives_printing_and_parsing(us in 0_u64..(1 << 58), slot in 0_u16..4096, rand: u64) {
            let slot = Slot::new(slot).unwrap();
            let id = TaskId::new(Timestamp::from_us(us), slot, rand);
            let back: TaskId = id.to_string().parse().unwrap();
            prop_assert_eq!(back, id);
            prop_assert_eq!(back.slot(), slot);
            prop_assert_eq!(back.uuid().get_version_num(), 7);
            prop_assert_eq!(TaskId::from_bytes(id.to_bytes()).unwrap(), id);
        }
    }

    #[test]
    fn other_versions_are_refused() {
        let v4 = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
        assert!(matches!(v4.parse::<MessageId>(), Err(IdError::NotVersion7 { .. })));
        assert!(matches!("hello".parse::<MessageId>(), Err(IdError::NotUuid { .. })));
    }
}
