//! The cipher: AES-256-GCM-SIV (RFC 8452) under a key per sender and life, derived by HKDF-SHA-256 (RFC 5869).
//!
//! Functions of their arguments: key bytes, counters and texts come in, bytes go out. GCM-SIV and not GCM: a nonce that
//! repeats, by a data directory copied or a virtual machine restored, then tells that two packets are equal and no more.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use distric_model::{ClusterId, NodeId};

use super::keys::{KEY_BYTES, Key};
use crate::standing::Generation;

/// What a sealed text is longer than its plain one, bytes.
pub(crate) const TAG_BYTES: usize = MAX_TAG_LEN;
/// Sets these keys apart from all others that may be derived from the same secret.
const PURPOSE: &[u8] = b"distric gossip 1";

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

/// The key of one life of one sender: no two of them ever share a nonce, whatever they count.
pub(crate) fn subkey(key: &Key, cluster: ClusterId, sender: NodeId, generation: Generation) -> Key {
    let secret = Salt::new(HKDF_SHA256, PURPOSE).extract(&key.0);
    // Each of a fixed length, so that no two lists of them read alike.
    let info: [&[u8]; 3] = [&cluster.to_bytes(), &sender.to_bytes(), &generation.0.to_be_bytes()];
    let mut bytes = [0; KEY_BYTES];
    secret.expand(&info, Length).and_then(|okm| okm.fill(&mut bytes)).expect("32 bytes are within what HKDF gives");
    Key(bytes)
}

/// Datagrams and streams count apart, so the kind is part of the nonce.
fn nonce(kind: u8, counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[0] = kind;
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn cipher(subkey: &Key) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &subkey.0).expect("the key has the cipher's length"))
}

/// Seals `text` in place and appends the tag. `bound`: what must be the same where it is opened.
pub(crate) fn seal(subkey: &Key, kind: u8, counter: u64, bound: &[u8], text: &mut Vec<u8>) {
    let sealed = cipher(subkey).seal_in_place_append_tag(nonce(kind, counter), Aad::from(bound), text);
    sealed.expect("the text is shorter than what the cipher takes");
}

/// Opens `text` in place and cuts the tag off; false when key, counter, bound bytes or text are not those of the seal.
pub(crate) fn open(subkey: &Key, kind: u8, counter: u64, bound: &[u8], text: &mut Vec<u8>) -> bool {
    let opened = cipher(subkey).open_in_place(nonce(kind, counter), Aad::from(bound), text).map(|plain| plain.len());
    opened.map(|count| text.truncate(count)).is_ok()
}

#[cfg(test)]
mod tests {
    use distric_model::{Slot, Timestamp};

    use super::*;

    fn node(n: u64) -> NodeId {
        NodeId::new(Timestamp::from_us(0), Slot::truncate(0), n)
    }

    fn cluster(n: u64) -> ClusterId {
        ClusterId::new(Timestamp::from_us(0), Slot::truncate(0), n)
    }

    // RFC 8452, appendix C.2: the second vector of AES-256-GCM-SIV.
    #[test]
    fn the_cipher_is_that_of_the_standard() {
        let mut key = [0; KEY_BYTES];
        key[0] = 1;
        let mut text = vec![1, 0, 0, 0, 0, 0, 0, 0];
        let mut bytes = [0; 12];
        bytes[0] = 3;
        cipher(&Key(key)).seal_in_place_append_tag(Nonce::assume_unique_for_key(bytes), Aad::empty(), &mut text).unwrap();
        let expected = [
            0xc2, 0xef, 0x32, 0x8e, 0x5c, 0x71, 0xc8, 0x3b, 0x84, 0x31, 0x22, 0x13, 0x0f, 0x73, 0x64, 0xb7, 0x61, 0xe0, 0xb9, 0x74, 0x27,
            0xe3, 0xdf, 0x28,
        ];
        assert_eq!(text, expected);
    }

    #[test]
    fn every_life_of_every_sender_in_every_cluster_has_a_key_of_its_own() {
        let key = Key([7; KEY_BYTES]);
        let subkeys = [
            subkey(&key, cluster(1), node(1), Generation(1)),
            subkey(&key, cluster(2), node(1), Generation(1)),
            subkey(&key, cluster(1), node(2), Generation(1)),
            subkey(&key, cluster(1), node(1), Generation(2)),
            subkey(&Key([8; KEY_BYTES]), cluster(1), node(1), Generation(1)),
        ];
        for (n, one) in subkeys.iter().enumerate() {
            assert!(subkeys[n + 1..].iter().all(|other| other != one), "{n}");
        }
        assert!(subkey(&key, cluster(1), node(1), Generation(1)) == subkeys[0]);
    }

    #[test]
    fn what_was_sealed_is_opened_with_the_same_and_with_nothing_else() {
        let (key, other) = (Key([7; KEY_BYTES]), Key([8; KEY_BYTES]));
        let mut sealed = b"a word".to_vec();
        seal(&key, 1, 5, b"head", &mut sealed);
        assert_eq!(sealed.len(), 6 + TAG_BYTES);
        let opens = |key: &Key, kind, counter, bound: &[u8]| open(key, kind, counter, bound, &mut sealed.clone());
        assert!(opens(&key, 1, 5, b"head"));
        assert!(!opens(&other, 1, 5, b"head") && !opens(&key, 2, 5, b"head") && !opens(&key, 1, 6, b"head") && !opens(&key, 1, 5, b"hand"));
        let mut text = sealed.clone();
        assert!(open(&key, 1, 5, b"head", &mut text));
        assert_eq!(text, b"a word");
        assert!(!open(&key, 1, 5, b"head", &mut vec![0; 3]), "shorter than a tag");
    }
}
