//! Garbage: whatever bytes come at whatever time, the machine neither panics nor answers without bound.

mod world;

use distric_gossip::{DATAGRAM_BYTES_MAX, Outputs};
use distric_model::Instant;
use proptest::prelude::*;
use world::*;

/// Packets and streams of a living cluster, to be bent.
fn recorded() -> Vec<(bool, Vec<u8>)> {
    let mut world = World::formed(3, 6, |_, _| ());
    let mut kept = Vec::new();
    world.crash(5);
    for round in 0..40 {
        let now = Instant::from_us(world.now + 250 * MS);
        world.with(round % 5, |gossip, _, out| {
            gossip.handle_timeout(now, out);
            kept.extend(out.datagrams.iter().map(|datagram| (false, datagram.bytes.to_vec())));
            kept.extend(out.streams.iter().map(|stream| (true, stream.bytes.to_vec())));
        });
        world.run_for(250 * MS);
    }
    kept
}

/// Makes the checksum right again, so that the bent inside is looked at.
fn reseal(bytes: &mut Vec<u8>) {
    if bytes.len() >= 4 {
        bytes.truncate(bytes.len() - 4);
        let checksum = crc32fast::hash(bytes);
        bytes.extend_from_slice(&checksum.to_be_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn bent_traffic_is_survived(bends in proptest::collection::vec((any::<u16>(), any::<u16>(), any::<u8>(), 0_u8..8, 0_u64..2_000_000), 1..60)) {
        let recorded = recorded();
        let mut world = World::formed(4, 4, |_, _| ());
        let mut gossip = world.seats[0].gossip.take().unwrap();
        let mut now = world.now;
        let mut out = Outputs::default();
        for (which, at, to, kind, later) in bends {
            let (is_stream, mut bytes) = recorded[usize::from(which) % recorded.len()].clone();
            let at = usize::from(at) % bytes.len();
            match kind {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, to),
                2 => { bytes.remove(at); }
                3 => bytes.extend(std::iter::repeat_n(to, at * 8)),
                _ => bytes[at] = to,
            }
            if kind != 4 {
                reseal(&mut bytes);
            }
            now += later;
            let at = Instant::from_us(now);
            out.clear();
            if is_stream { gossip.handle_stream(at, endpoint(2), &bytes, &mut out) } else { gossip.handle_packet(at, endpoint(2), &bytes, &mut out) }
            gossip.handle_timeout(at, &mut out);
            prop_assert!(out.datagrams.len() <= 64, "{} datagrams for one packet", out.datagrams.len());
            prop_assert!(out.datagrams.iter().all(|datagram| datagram.bytes.len() <= DATAGRAM_BYTES_MAX));
            prop_assert!(out.streams.len() <= 4);
            prop_assert!(gossip.known_count() <= 64);
        }
    }

    #[test]
    fn noise_is_survived(noise in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let mut gossip = distric_gossip::Gossip::new(World::config(0, vec![]), 1, Instant::from_us(0)).unwrap();
        let mut out = Outputs::default();
        gossip.handle_packet(Instant::from_us(1), endpoint(1), &noise, &mut out);
        gossip.handle_stream(Instant::from_us(2), endpoint(1), &noise, &mut out);
        prop_assert!(out.datagrams.is_empty() && out.streams.is_empty() && out.events.is_empty());
    }
}
