//! Changes: the words in which a state machine says what a checkpoint of it must write.

use crate::limits::CHANGE_KEY_BYTES_MAX;

/// One record of a checkpoint that is new, different, or gone. Of two changes of one key, the later counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The record's key: 1 to [`CHANGE_KEY_BYTES_MAX`] bytes. Records are restored in the order of their keys.
    pub key: Vec<u8>,
    /// What it says now; `None` when it is gone.
    pub value: Option<Vec<u8>>,
}

impl Change {
    /// A record that is there. Panics when the key is not of a legal length: keys are made by machines, not by users.
    pub fn put(key: Vec<u8>, value: Vec<u8>) -> Self {
        assert_key(&key);
        Self { key, value: Some(value) }
    }

    /// A record that is gone. Panics as [`Self::put`].
    pub fn removed(key: Vec<u8>) -> Self {
        assert_key(&key);
        Self { key, value: None }
    }
}

fn assert_key(key: &[u8]) {
    assert!((1..=CHANGE_KEY_BYTES_MAX).contains(&key.len()), "a key of {} bytes", key.len());
}
