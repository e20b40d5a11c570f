//! A gossip machine among members: whatever comes, whenever, it neither panics nor sends without bound.

use std::sync::LazyLock;

use distric_gossip::{Config, DATAGRAM_BYTES_MAX, Datagram, Endpoint, Generation, Gossip, Leg, Outputs, Profile, STREAM_BYTES_MAX, Stream};
use distric_model::{ClusterId, Instant, NodeId, Slot, Timestamp};

/// Members of the small cluster in which the machine lives.
const MEMBERS: usize = 4;
/// Most packets for one input: the urgent lane at most, and answers.
const DATAGRAMS_MAX: usize = 64;
/// Most members that the machine may take in.
const KNOWN_MAX: usize = 32;
/// When a new machine starts, microseconds.
const START_US: u64 = 1_000_000;
/// Until they know each other, milliseconds.
const FORMED_MS: u64 = 3_000;

fn cluster() -> ClusterId {
    ClusterId::new(Timestamp::from_us(0), Slot::truncate(0), 1)
}

fn endpoint(n: usize) -> Endpoint {
    Endpoint::v4([10, 0, 0, 1], n as u16)
}

fn machine(n: usize) -> Gossip {
    let node = NodeId::new(Timestamp::from_us(0), Slot::truncate(0), n as u64 + 1);
    let mut config = Config::new(cluster(), node, Generation(1_000), Profile::worker(endpoint(n)));
    config.members_max = KNOWN_MAX;
    if n > 0 {
        config.seeds = vec![endpoint(0)];
    }
    Gossip::new(config, n as u64, Instant::from_us(START_US)).expect("sound settings")
}

/// Members that know each other, and packets and streams of theirs from the first `ms` milliseconds of their lives. Messages take a
/// millisecond.
fn cluster_after(ms: u64) -> (Vec<Gossip>, Vec<Vec<u8>>) {
    let mut machines: Vec<Gossip> = (0..MEMBERS).map(machine).collect();
    let mut said = Vec::new();
    let mut on_the_way: Vec<(usize, usize, bool, Vec<u8>)> = Vec::new();
    let mut out = Outputs::default();
    for step in 0..ms {
        let now = Instant::from_us(START_US + step * 1_000);
        let arrived = std::mem::take(&mut on_the_way);
        for (n, machine) in machines.iter_mut().enumerate() {
            out.clear();
            for (from, _, is_stream, bytes) in arrived.iter().filter(|(_, to, ..)| *to == n) {
                hand_over(machine, now, *from, *is_stream, bytes, &mut out);
            }
            machine.handle_timeout(now, &mut out);
            on_the_way.extend(out.datagrams.drain(..).map(|Datagram { to, bytes }| (n, usize::from(to.port), false, bytes.to_vec())));
            on_the_way.extend(out.streams.drain(..).map(|Stream { to, bytes, .. }| (n, usize::from(to.port), true, bytes.to_vec())));
        }
        said.extend(on_the_way.iter().map(|(.., bytes)| bytes.clone()));
    }
    (machines, said)
}

fn hand_over(machine: &mut Gossip, now: Instant, from: usize, is_stream: bool, bytes: &[u8], out: &mut Outputs) {
    if is_stream { machine.handle_stream(now, endpoint(from), bytes, out) } else { machine.handle_packet(now, endpoint(from), bytes, out) }
}

/// Real traffic, for seeds: each input is one message behind its head (see [`gossip`]).
pub fn gossip_traffic() -> Vec<Vec<u8>> {
    let (machines, said) = cluster_after(FORMED_MS);
    assert!(machines.iter().all(|machine| machine.live_count() == MEMBERS), "they found together");
    let framed = |(n, bytes): (usize, &Vec<u8>)| {
        let head = [u8::from(bytes.get(3) == Some(&2)) | ((n % MEMBERS) as u8 * 2), 10];
        [&head[..], &u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes(), bytes].concat()
    };
    said.iter().enumerate().map(framed).collect()
}

/// A machine that knows the others, as every story finds it.
static FORMED: LazyLock<Gossip> = LazyLock::new(|| cluster_after(FORMED_MS).0.swap_remove(0));

/// A story told to one machine of a formed cluster. Each message is: from whom and whether by stream (1 byte), how much later (1 byte, in
/// units of 4 ms), its length (2 bytes), itself. A wrong checksum is put right first, since no fuzzer guesses one.
pub fn gossip(data: &[u8]) {
    let mut machine = FORMED.clone();
    let (mut rest, mut now_us) = (data, START_US + FORMED_MS * 1_000);
    let mut out = Outputs::default();
    while let [head, later, high, low, tail @ ..] = rest {
        let (bytes, after) = tail.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(tail.len()));
        rest = after;
        now_us += u64::from(*later) * 4_000;
        let mut bytes = bytes.to_vec();
        if let Some(at) = bytes.len().checked_sub(4) {
            let checksum = crc32fast::hash(&bytes[..at]);
            bytes[at..].copy_from_slice(&checksum.to_be_bytes());
        }
        let now = Instant::from_us(now_us);
        out.clear();
        hand_over(&mut machine, now, usize::from(*head / 2) % MEMBERS, head % 2 == 1, &bytes, &mut out);
        assert!(out.datagrams.len() <= DATAGRAMS_MAX, "{} packets for one message", out.datagrams.len());
        assert!(out.streams.iter().filter(|stream| stream.leg == Leg::Answer).count() <= 1, "one answer on a connection");
        machine.handle_timeout(now, &mut out);
        assert!(out.datagrams.len() <= 2 * DATAGRAMS_MAX, "{} packets after one message", out.datagrams.len());
        assert!(out.datagrams.iter().all(|datagram| datagram.bytes.len() <= DATAGRAM_BYTES_MAX), "a datagram too long");
        assert!(out.streams.iter().all(|stream| stream.bytes.len() <= STREAM_BYTES_MAX), "a stream message too long");
        assert!(machine.known_count() <= KNOWN_MAX, "{} members", machine.known_count());
        let (normal, loads) = machine.backlog();
        assert!(normal <= KNOWN_MAX + 1 && loads <= KNOWN_MAX + 1, "{normal} and {loads} in the lanes");
    }
}
