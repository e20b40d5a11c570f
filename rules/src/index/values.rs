//! Dictionaries: the values that rules compare one field with, numbered, so that a leaf is looked up once and compared as a number.

use std::sync::Arc;

use crate::predicate::Leaf;

/// A leaf that no rule compares the field with.
pub(crate) const UNKNOWN: u32 = u32::MAX;

/// The numbered values of one field.
#[derive(Debug)]
pub(crate) struct Values {
    keys: Vec<Key>,
    table: Table,
    null: u32,
    no: u32,
    yes: u32,
}

#[derive(Debug)]
enum Key {
    Word,
    /// The bits of the double, zero without a sign.
    Number(u64),
    Text(Arc<str>),
}

impl Default for Values {
    fn default() -> Self {
        Self { keys: Vec::new(), table: Table::default(), null: UNKNOWN, no: UNKNOWN, yes: UNKNOWN }
    }
}

impl Values {
    /// How many values have numbers.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The number of a value; a new one when it has none yet.
    pub fn intern(&mut self, leaf: Leaf<'_>) -> u32 {
        let found = self.find(leaf);
        if found != UNKNOWN {
            return found;
        }
        let next = self.keys.len() as u32;
        match leaf {
            Leaf::Null => self.null = next,
            Leaf::Bool(false) => self.no = next,
            Leaf::Bool(true) => self.yes = next,
            Leaf::Number(number) => self.table.insert(hash_number(number), next),
            Leaf::Text(text) => self.table.insert(hash(text.as_bytes()), next),
        }
        self.keys.push(match leaf {
            Leaf::Number(number) => Key::Number(bits(number)),
            Leaf::Text(text) => Key::Text(text.into()),
            _ => Key::Word,
        });
        next
    }

    /// The number of a value, or [`UNKNOWN`].
    pub fn find(&self, leaf: Leaf<'_>) -> u32 {
        match leaf {
            Leaf::Null => self.null,
            Leaf::Bool(false) => self.no,
            Leaf::Bool(true) => self.yes,
            Leaf::Number(number) => {
                let bits = bits(number);
                self.table.find(hash_number(number), |id| matches!(self.keys[id as usize], Key::Number(b) if b == bits))
            }
            Leaf::Text(text) => {
                self.table.find(hash(text.as_bytes()), |id| matches!(&self.keys[id as usize], Key::Text(key) if **key == *text))
            }
        }
    }

    /// All values, by number.
    pub fn leaves(&self) -> impl Iterator<Item = Leaf<'_>> {
        self.keys.iter().zip(0..).map(|(key, number)| match key {
            Key::Number(bits) => Leaf::Number(f64::from_bits(*bits)),
            Key::Text(text) => Leaf::Text(text),
            Key::Word if number == self.null => Leaf::Null,
            Key::Word => Leaf::Bool(number == self.yes),
        })
    }

    /// The text with this number, shared.
    pub fn text(&self, id: u32) -> Option<&Arc<str>> {
        match self.keys.get(id as usize) {
            Some(Key::Text(text)) => Some(text),
            _ => None,
        }
    }
}

/// 0.0 and -0.0 are one number.
fn bits(number: f64) -> u64 {
    if number == 0.0 { 0 } else { number.to_bits() }
}

fn hash_number(number: f64) -> u64 {
    mix(bits(number), 0x9e37_79b9)
}

/// Open addressing by linear probing, at most half full. Deterministic: no seed, and nobody iterates over it.
///
/// Keys come from rules, which are written by people who may change the catalog: no defence against chosen collisions is needed.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Hash and number; [`UNKNOWN`] is an empty place. The length is a power of two.
    places: Vec<(u64, u32)>,
    len: usize,
}

impl Table {
    /// The number stored under the hash for which `is_it` holds, or [`UNKNOWN`].
    pub fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> u32 {
        if self.places.is_empty() {
            return UNKNOWN;
        }
        let mask = self.places.len() - 1;
        let mut at = place_of(hash) & mask;
        loop {
            let (found, id) = self.places[at];
            if id == UNKNOWN || (found == hash && is_it(id)) {
                return id;
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds a number that is not there yet.
    pub fn insert(&mut self, hash: u64, id: u32) {
        if self.places.len() < 2 * (self.len + 1) {
            let grown = vec![(0, UNKNOWN); (self.places.len() * 2).max(8)];
            for (hash, id) in std::mem::replace(&mut self.places, grown) {
                if id != UNKNOWN {
                    self.put(hash, id);
                }
            }
        }
        self.put(hash, id);
        self.len += 1;
    }

    fn put(&mut self, hash: u64, id: u32) {
        let mask = self.places.len() - 1;
        let mut at = place_of(hash) & mask;
        while self.places[at].1 != UNKNOWN {
            at = (at + 1) & mask;
        }
        self.places[at] = (hash, id);
    }
}

fn place_of(hash: u64) -> usize {
    (hash >> 32) as usize
}

/// A fast hash of short texts.
#[inline]
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut state = bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = mix(u64::from_le_bytes(*word), state);
    }
    let rest = match rest {
        [] => return mix(0, state),
        [a] => u64::from(*a),
        [a, b] => u64::from(*a) | u64::from(*b) << 8,
        [a, b, c] => u64::from(*a) | u64::from(*b) << 8 | u64::from(*c) << 16,
        rest => {
            let (head, tail) = (&rest[..4], &rest[rest.len() - 4..]);
            let word = |bytes: &[u8]| u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
            word(head) | word(tail) << 32
        }
    };
    mix(rest, state)
}

/// Mixes a word into a state of 64 bits.
#[inline]
pub(crate) fn mix(word: u64, state: u64) -> u64 {
    let product = u128::from(word ^ 0x2d35_8dcc_aa6c_78a5) * u128::from(state ^ 0x8bb8_4b93_962e_acc9);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbered_by_what_they_equal() {
        let mut values = Values::default();
        let five = values.intern(Leaf::Number(5.0));
        assert_eq!(values.intern(Leaf::Number(5.0)), five);
        assert_eq!(values.intern(Leaf::Number(0.0)), values.intern(Leaf::Number(-0.0)));
        assert_ne!(values.intern(Leaf::Text("5")), five);
        assert_ne!(values.intern(Leaf::Null), values.intern(Leaf::Bool(false)));
        assert_eq!(values.find(Leaf::Bool(true)), UNKNOWN);
        let numbers: Vec<u32> = (0..1_000).map(|i| values.intern(Leaf::Text(&format!("value-{i}")))).collect();
        for (i, number) in numbers.iter().enumerate() {
            assert_eq!(values.find(Leaf::Text(&format!("value-{i}"))), *number);
        }
        let mut again = Values::default();
        assert!(values.leaves().zip(0..).all(|(leaf, number)| again.intern(leaf) == number));
        assert!(values.leaves().zip(0..).all(|(leaf, number)| values.find(leaf) == number));
        assert_eq!(values.len(), 5 + 1_000);
        assert_eq!(values.text(numbers[7]).map(|text| &**text), Some("value-7"));
    }
}
