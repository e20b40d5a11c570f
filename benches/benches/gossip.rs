//! `handle_packet` and `handle_timeout` of one gossip machine among 1,000, on packets that came to it in the virtual world of
//! `gossip/tests/world`: in an idle minute, and in the ten seconds after ten members died at once.
//!
//! Bar: a packet costs less than 5 µs typically.
//! Run: `cargo bench -p distric-benches --bench gossip`. Forming the cluster takes some seconds before the first line comes.

#[path = "../../gossip/tests/world/mod.rs"]
mod world;

use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use distric_gossip::{Endpoint, Gossip, Outputs};
use distric_model::Instant;
use world::{S, World};

/// Members of the cluster.
const MEMBERS: usize = 1_000;
/// The one that is looked at.
const SEAT: usize = 7;

/// A machine and what came to it from then on.
struct Recorded {
    machine: Gossip,
    packets: Vec<(u64, Endpoint, Bytes)>,
}

fn record(world: &mut World, for_us: u64) -> Recorded {
    let machine = world.gossip(SEAT).clone();
    world.tap = Some((SEAT, Vec::new()));
    world.run_for(for_us);
    let (_, packets) = world.tap.take().expect("it was laid above");
    assert!(packets.len() > 100, "{} packets", packets.len());
    Recorded { machine, packets }
}

impl Recorded {
    /// Replays the packets, with the timeouts that are due before each, until `count` packets are through; the time that the packets
    /// took, and that the timeouts took.
    fn replay(&self, count: u64) -> (Duration, Duration) {
        let (mut in_packets, mut in_timeouts) = (Duration::ZERO, Duration::ZERO);
        let mut out = Outputs::default();
        let mut left = count;
        while left > 0 {
            let mut machine = self.machine.clone();
            let mut wake_at = self.packets[0].0;
            for (at, from, bytes) in self.packets.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                while wake_at < *at {
                    let started = Clock::now();
                    out.clear();
                    machine.handle_timeout(Instant::from_us(wake_at), &mut out);
                    in_timeouts += started.elapsed();
                    wake_at = out.wake_at.map_or(*at, |at| at.as_us().max(wake_at + 1));
                }
                let started = Clock::now();
                out.clear();
                machine.handle_packet(Instant::from_us(*at), *from, black_box(bytes), &mut out);
                in_packets += started.elapsed();
                wake_at = out.wake_at.map_or(wake_at, |at| at.as_us());
                left -= 1;
            }
        }
        (in_packets, in_timeouts)
    }
}

fn gossip(criterion: &mut Criterion) {
    let mut world = World::formed(1, MEMBERS, |_, _| ());
    world.checks = false;
    world.wants = |_| false;
    world.run_for(10 * S);
    let idle = record(&mut world, 60 * S);
    (0..10).for_each(|n| world.crash(100 * n + 1));
    let storm = record(&mut world, 10 * S);
    drop(world);
    let mut group = criterion.benchmark_group("gossip/1000_members");
    group.bench_function("handle_packet/idle", |bencher| bencher.iter_custom(|count| idle.replay(count).0));
    group.bench_function("handle_packet/ten_deaths", |bencher| bencher.iter_custom(|count| storm.replay(count).0));
    group.finish();
    // What one idle node computes: packets and timeouts of a minute, without the system calls.
    let (in_packets, in_timeouts) = idle.replay(idle.packets.len() as u64);
    let share = |time: Duration| time.as_secs_f64() / 60.0 * 100.0;
    println!(
        "an idle node among {MEMBERS}: {} packets a minute take {:.4} % of a core, its timeouts {:.4} %",
        idle.packets.len(),
        share(in_packets),
        share(in_timeouts)
    );
}

criterion_group!(benches, gossip);
criterion_main!(benches);
