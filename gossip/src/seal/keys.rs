//! Keys: what a cluster's packets are sealed with, and which of several is in use.
//!
//! Ids grow: a new key gets a greater id than all before it. So two numbers say which keys count: the one to seal with, and
//! the least that is still accepted. They are chosen by the log, and members hear of the choice from coordinators.

use std::collections::BTreeMap;
use std::fmt;

use crate::codec::{DecodeError, Reader, put_varint};

/// Most keys that one ring holds. A rotation needs two; more is for those who rotate faster than they tidy up.
pub const KEYS_MAX: usize = 8;
/// Length of a key, bytes.
pub const KEY_BYTES: usize = 32;

/// The number of a key, 1 to 65,535. Zero names none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u16);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The bytes of one key. They never show in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) [u8; KEY_BYTES]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The keys that a node holds: at least one, at most [`KEYS_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRing {
    keys: BTreeMap<KeyId, Key>,
}

/// Keys that make no ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// None at all.
    #[error("there is no key")]
    Empty,
    /// More than [`KEYS_MAX`].
    #[error("there are more than {KEYS_MAX} keys; remove those that are retired")]
    TooMany,
    /// An id is there twice.
    #[error("key {id} is there twice")]
    Twice {
        /// Which.
        id: KeyId,
    },
    /// The id 0.
    #[error("the id of a key is 1 to 65535")]
    Zero,
}

impl KeyRing {
    /// A ring of these keys.  Errors: [`KeyRingError`], naming the first that does not fit.
    pub fn new(keys: impl IntoIterator<Item = (KeyId, [u8; KEY_BYTES])>) -> Result<Self, KeyRingError> {
        let mut ring = BTreeMap::new();
        for (id, bytes) in keys {
            if id == KeyId(0) {
                return Err(KeyRingError::Zero);
            }
            if ring.insert(id, Key(bytes)).is_some() {
                return Err(KeyRingError::Twice { id });
            }
            if ring.len() > KEYS_MAX {
                return Err(KeyRingError::TooMany);
            }
        }
        if ring.is_empty() { Err(KeyRingError::Empty) } else { Ok(Self { keys: ring }) }
    }

    /// The ids, least first.
    pub fn ids(&self) -> Vec<KeyId> {
        self.keys.keys().copied().collect()
    }

    pub(crate) fn key(&self, id: KeyId) -> Option<&Key> {
        self.keys.get(&id)
    }
}

/// Which keys count. The greater version is the newer one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyChoice {
    /// Counts the choices; 0: nobody has chosen yet, and the least key that is held seals.
    pub version: u64,
    /// Who holds it seals with it.
    pub primary: KeyId,
    /// Lesser ones are retired: nothing that was sealed with them is opened.
    pub floor: KeyId,
}

impl KeyChoice {
    /// Whether packets sealed with this key are opened.
    pub fn accepts(&self, id: KeyId) -> bool {
        id >= self.floor
    }

    /// The key that a holder of these seals with: the primary; whoever lacks it, the greatest accepted one before it, for that
    /// is what others still open; else the least. `held`: least first. `None` when nothing is held.
    pub fn sealing(&self, held: &[KeyId]) -> Option<KeyId> {
        let accepted = || held.iter().copied().filter(|id| self.accepts(*id));
        let best = accepted().filter(|id| *id <= self.primary).max();
        best.or_else(|| accepted().min()).or_else(|| held.last().copied())
    }
}

/// What a member says about its keys, without a byte of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyWord {
    /// The keys that it holds, least first; empty: it does not seal.
    pub held: Vec<KeyId>,
    /// The choice that it follows.
    pub choice: KeyChoice,
}

impl KeyWord {
    /// The key that it seals with. `None`: it does not seal.
    pub fn sealing(&self) -> Option<KeyId> {
        self.choice.sealing(&self.held)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.held.len() as u64);
        self.held.iter().for_each(|id| put_varint(out, u64::from(id.0)));
        if !self.held.is_empty() {
            put_varint(out, self.choice.version);
            put_varint(out, u64::from(self.choice.primary.0));
            put_varint(out, u64::from(self.choice.floor.0));
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count: usize = from.number("keys")?;
        if count > KEYS_MAX {
            return Err(DecodeError::Field { name: "keys" });
        }
        let mut held = Vec::with_capacity(count);
        for _ in 0..count {
            held.push(KeyId(from.number("keys")?));
        }
        if !held.is_sorted() {
            return Err(DecodeError::Field { name: "keys" });
        }
        if held.is_empty() {
            return Ok(Self::default());
        }
        let choice = KeyChoice { version: from.varint()?, primary: KeyId(from.number("primary")?), floor: KeyId(from.number("floor")?) };
        Ok(Self { held, choice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u16]) -> Vec<KeyId> {
        numbers.iter().copied().map(KeyId).collect()
    }

    #[test]
    fn a_ring_holds_one_to_eight_different_keys() {
        let ring = |numbers: &[u16]| KeyRing::new(numbers.iter().map(|n| (KeyId(*n), [*n as u8; KEY_BYTES])));
        assert_eq!(ring(&[2, 1]).unwrap().ids(), ids(&[1, 2]));
        assert_eq!(ring(&[]), Err(KeyRingError::Empty));
        assert_eq!(ring(&[0]), Err(KeyRingError::Zero));
        assert_eq!(ring(&[3, 3]), Err(KeyRingError::Twice { id: KeyId(3) }));
        assert_eq!(ring(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), Err(KeyRingError::TooMany));
        assert!(!format!("{:?}", ring(&[77]).unwrap()).contains("77, 77"), "no byte of a key is printed");
    }

    #[test]
    fn who_lacks_the_primary_seals_with_what_others_still_open() {
        let choice = |version, primary, floor| KeyChoice { version, primary: KeyId(primary), floor: KeyId(floor) };
        let none = KeyChoice::default();
        assert_eq!(none.sealing(&ids(&[3, 7])), Some(KeyId(3)), "the oldest until somebody chooses");
        assert_eq!(choice(1, 7, 0).sealing(&ids(&[3, 7, 9])), Some(KeyId(7)));
        assert_eq!(choice(1, 7, 0).sealing(&ids(&[3, 9])), Some(KeyId(3)));
        assert_eq!(choice(2, 7, 7).sealing(&ids(&[3, 9])), Some(KeyId(9)), "3 is retired");
        assert_eq!(choice(2, 7, 7).sealing(&ids(&[1, 3])), Some(KeyId(3)), "nobody opens it; there is nothing better");
        assert_eq!(none.sealing(&[]), None);
        assert!(choice(2, 7, 7).accepts(KeyId(7)) && !choice(2, 7, 7).accepts(KeyId(6)));
    }

    #[test]
    fn what_is_said_about_keys_comes_back() {
        for word in [
            KeyWord::default(),
            KeyWord { held: ids(&[1, 300]), choice: KeyChoice { version: 1 << 40, primary: KeyId(300), floor: KeyId(1) } },
        ] {
            let mut bytes = Vec::new();
            word.encode(&mut bytes);
            let mut from = Reader::new(&bytes);
            assert_eq!(KeyWord::decode(&mut from), Ok(word));
            assert!(from.is_empty());
        }
        assert!(KeyWord::decode(&mut Reader::new(&[9])).is_err());
        assert!(KeyWord::decode(&mut Reader::new(&[2, 5, 4, 0, 0, 0])).is_err(), "least first");
    }
}
