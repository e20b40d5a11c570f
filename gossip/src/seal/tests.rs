//! Claims about sealed packets: what opens where, once, and that nothing else does.

use distric_model::{Slot, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::packet::KIND_DATAGRAM;

const LIFE: Generation = Generation(1_000);

fn node(n: u64) -> NodeId {
    NodeId::new(Timestamp::from_us(0), Slot::truncate(0), n)
}

fn cluster(n: u64) -> ClusterId {
    ClusterId::new(Timestamp::from_us(0), Slot::truncate(0), n)
}

fn ring(ids: &[u16]) -> KeyRing {
    KeyRing::new(ids.iter().map(|id| (KeyId(*id), [*id as u8; KEY_BYTES]))).unwrap()
}

fn sealer(n: u64, ids: &[u16]) -> Sealer {
    Sealer::new(cluster(1), node(n), ring(ids), KeyChoice::default(), 64)
}

fn choice(version: u64, primary: u16, floor: u16) -> KeyChoice {
    KeyChoice { version, primary: KeyId(primary), floor: KeyId(floor) }
}

fn open(at: &mut Sealer, kind: u8, bytes: &[u8]) -> Result<Unsealed, Refusal> {
    at.open(&Opening { now: Instant::from_us(1), kind, generation_max: Generation(2_000) }, bytes, |_| false)
}

/// The text that opens, or why it does not.
fn text(at: &mut Sealer, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    open(at, KIND_DATAGRAM, bytes).map(|unsealed| unsealed.text)
}

#[test]
fn a_packet_comes_back_as_it_was_at_the_one_it_is_for_and_once() {
    let (mut a, mut b, mut c) = (sealer(1, &[1]), sealer(2, &[1]), sealer(3, &[1]));
    let bytes = a.seal(KIND_DATAGRAM, LIFE, Some(node(2)), b"hello");
    assert_eq!(bytes.len(), HEAD_BYTES + 5 + TAG_BYTES);
    assert_eq!(text(&mut c, &bytes), Err(Refusal::Seal), "it is for another");
    let opened = open(&mut b, KIND_DATAGRAM, &bytes).unwrap();
    assert_eq!((opened.sender, opened.generation, opened.text.as_slice()), (node(1), LIFE, &b"hello"[..]));
    assert!(opened.is_bound && !opened.is_older);
    assert_eq!(text(&mut b, &bytes), Err(Refusal::Replay));
    let other = Sealer::new(cluster(2), node(2), ring(&[1]), KeyChoice::default(), 64);
    assert_eq!(text(&mut { other }, &bytes), Err(Refusal::Seal), "another cluster with the same key");
}

#[test]
fn a_knock_opens_anywhere_and_says_that_it_is_one() {
    let (mut a, mut b, mut c) = (sealer(1, &[1]), sealer(2, &[1]), sealer(3, &[1]));
    let bytes = a.seal(KIND_DATAGRAM, LIFE, None, b"knock");
    assert!([&mut b, &mut c].into_iter().all(|at| !open(at, KIND_DATAGRAM, &bytes).unwrap().is_bound));
}

#[test]
fn no_bit_may_change() {
    let (mut a, mut b) = (sealer(1, &[1, 2]), sealer(2, &[1, 2]));
    let bytes = a.seal(KIND_DATAGRAM, LIFE, Some(node(2)), b"hello");
    for bit in 0..bytes.len() * 8 {
        let mut bent = bytes.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&mut b, KIND_DATAGRAM, &bent).is_err(), "bit {bit}");
    }
    assert_eq!(b.senders_count(), 0, "nothing is remembered of what does not open");
    for cut in 0..bytes.len() {
        assert!(open(&mut b, KIND_DATAGRAM, &bytes[..cut]).is_err(), "cut at {cut}");
    }
    assert!(open(&mut b, KIND_STREAM, &bytes).is_err());
    assert!(text(&mut b, &bytes).is_ok());
}

#[test]
fn packets_may_overtake_each_other_within_the_window_and_not_beyond() {
    let (mut a, mut b) = (sealer(1, &[1]), sealer(2, &[1]));
    let mut sealed: Vec<Vec<u8>> = (0..3_000).map(|_| a.seal(KIND_DATAGRAM, LIFE, Some(node(2)), b"x")).collect();
    assert!(text(&mut b, &sealed[2_047]).is_ok());
    assert!(text(&mut b, &sealed[0]).is_ok(), "the oldest that fits");
    assert!(text(&mut b, &sealed[2_999]).is_ok());
    assert_eq!(text(&mut b, &sealed[900]), Err(Refusal::Replay), "the window has slid over it");
    assert!(sealed.drain(1_000..1_010).rev().all(|bytes| text(&mut b, &bytes).is_ok()));
}

#[test]
fn streams_and_datagrams_count_apart() {
    let (mut a, mut b) = (sealer(1, &[1]), sealer(2, &[1]));
    let stream = a.seal(KIND_STREAM, LIFE, Some(node(2)), b"view");
    for _ in 0..5_000 {
        let bytes = a.seal(KIND_DATAGRAM, LIFE, Some(node(2)), b"x");
        assert!(text(&mut b, &bytes).is_ok());
    }
    assert_eq!(open(&mut b, KIND_STREAM, &stream).unwrap().text, b"view", "a slow stream is not old");
    assert_eq!(open(&mut b, KIND_STREAM, &stream).unwrap_err(), Refusal::Replay);
}

#[test]
fn a_restart_counts_anew_and_the_earlier_life_is_known_as_such() {
    let (mut a, mut b) = (sealer(1, &[1]), sealer(2, &[1]));
    let old: Vec<Vec<u8>> = (0..2).map(|_| a.seal(KIND_DATAGRAM, LIFE, Some(node(2)), b"old")).collect();
    assert!(text(&mut b, &old[0]).is_ok());
    let mut again = sealer(1, &[1]);
    let bytes = again.seal(KIND_DATAGRAM, Generation(LIFE.0 + 1), Some(node(2)), b"new");
    assert_eq!(text(&mut b, &bytes).unwrap(), b"new");
    assert!(open(&mut b, KIND_DATAGRAM, &old[1]).unwrap().is_older);
    assert_eq!(text(&mut b, &bytes), Err(Refusal::Replay), "the earlier life did not reset the later one's window");
    let ahead = again.seal(KIND_DATAGRAM, Generation(2_001), Some(node(2)), b"far");
    assert_eq!(text(&mut b, &ahead), Err(Refusal::Generation));
}

#[test]
fn a_rotation_has_no_moment_in_which_somebody_is_not_heard() {
    let (mut a, mut b) = (sealer(1, &[1]), sealer(2, &[1]));
    let both_hear = |a: &mut Sealer, b: &mut Sealer| {
        let (to_b, to_a) = (a.seal(KIND_DATAGRAM, LIFE, Some(node(2)), b"x"), b.seal(KIND_DATAGRAM, LIFE, Some(node(1)), b"y"));
        assert!(text(b, &to_b).is_ok() && text(a, &to_a).is_ok());
        u16::from_be_bytes([to_b[4], to_b[5]])
    };
    assert_eq!(both_hear(&mut a, &mut b), 1);
    a.set_ring(ring(&[1, 2]));
    assert_eq!(both_hear(&mut a, &mut b), 1, "added, not used");
    b.set_ring(ring(&[1, 2]));
    a.set_choice(choice(1, 2, 0));
    assert_eq!(both_hear(&mut a, &mut b), 2, "one uses it before the other");
    b.set_choice(choice(1, 2, 0));
    let late = b.seal(KIND_DATAGRAM, LIFE, Some(node(1)), b"late");
    a.set_choice(choice(2, 2, 2));
    assert_eq!(both_hear(&mut a, &mut b), 2, "one has retired the old one");
    assert!(text(&mut a, &late).is_ok());
    let mut stale = sealer(3, &[1]);
    let bytes = stale.seal(KIND_DATAGRAM, LIFE, Some(node(1)), b"z");
    assert_eq!(text(&mut a, &bytes), Err(Refusal::UnknownKey), "retired, though it is still held");
    b.set_ring(ring(&[2]));
    assert!(text(&mut b, &bytes).is_err());
}

#[test]
fn a_key_that_was_exchanged_under_its_id_opens_nothing() {
    let (mut a, mut b) = (sealer(1, &[1]), sealer(2, &[1]));
    let bytes: Vec<Vec<u8>> = (0..2).map(|_| a.seal(KIND_DATAGRAM, LIFE, Some(node(2)), b"x")).collect();
    assert!(text(&mut b, &bytes[0]).is_ok());
    b.set_ring(KeyRing::new([(KeyId(1), [99; KEY_BYTES])]).unwrap());
    assert_eq!(text(&mut b, &bytes[1]), Err(Refusal::Seal), "the derived key is not kept");
}

#[test]
fn no_counter_is_used_twice_whatever_the_keys_do() {
    let mut a = sealer(1, &[1, 2]);
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..100 {
        match n % 7 {
            3 => a.set_choice(choice(n, 2, 0)),
            5 => a.set_choice(choice(n, 1, 0)),
            6 => a.set_ring(ring(&[1, 2])),
            _ => {}
        }
        let bytes = a.seal(KIND_DATAGRAM, LIFE, None, b"x");
        assert!(seen.insert(bytes[4..HEAD_BYTES].to_vec()), "{n}");
    }
}

#[test]
fn more_senders_than_are_remembered_are_refused_while_all_are_needed() {
    let mut b = Sealer::new(cluster(1), node(2), ring(&[1]), KeyChoice::default(), 2);
    let asked = Opening { now: Instant::from_us(1), kind: KIND_DATAGRAM, generation_max: Generation(2_000) };
    let from = |n: u64| sealer(n, &[1]).seal(KIND_DATAGRAM, LIFE, Some(node(2)), b"x");
    assert!(b.open(&asked, &from(5), |_| true).is_ok() && b.open(&asked, &from(6), |_| true).is_ok());
    assert_eq!(b.open(&asked, &from(7), |_| true).unwrap_err(), Refusal::Senders);
    assert!(b.open(&asked, &from(7), |_| false).is_ok());
    assert_eq!(b.senders_count(), 2);
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..200), sealed: bool) {
        let mut bytes = if sealed { [MAGIC.as_slice(), &[VERSION, KIND_DATAGRAM, 0, 1, 1]].concat() } else { Vec::new() };
        bytes.extend(noise);
        prop_assert!(open(&mut sealer(2, &[1]), KIND_DATAGRAM, &bytes).is_err());
    }
}
