//! `handle_packet` of one gossip machine among 1,000, on packets that came to it in the virtual world of `gossip/tests/world`: in an
//! idle minute, and in the ten seconds after ten members died at once.
//!
//! Bar: a packet costs less than 5 µs typically. `cargo xtask gossip-lab PKT --n 1000` plays the same without statistics.
//! Run: `cargo bench -p distric-benches --bench gossip`. Forming the cluster takes some seconds before the first line comes.

#[path = "../../gossip/tests/world/mod.rs"]
mod world;

use criterion::{Criterion, criterion_group, criterion_main};
use world::replay::Replay;
use world::{S, World};

/// Members of the cluster.
const MEMBERS: usize = 1_000;
/// The one that is looked at.
const SEAT: usize = 7;

fn gossip(criterion: &mut Criterion) {
    let mut world = World::formed(1, MEMBERS, |_, _| ());
    world.checks = false;
    world.wants = |_| false;
    world.run_for(10 * S);
    let idle = Replay::record(&mut world, SEAT, 60 * S);
    (0..10).for_each(|n| world.crash(100 * n + 1));
    let storm = Replay::record(&mut world, SEAT, 10 * S);
    drop(world);
    let mut group = criterion.benchmark_group("gossip/1000_members");
    group.bench_function("handle_packet/idle", |bencher| bencher.iter_custom(|count| idle.play(count).0));
    group.bench_function("handle_packet/ten_deaths", |bencher| bencher.iter_custom(|count| storm.play(count).0));
    group.finish();
}

criterion_group!(benches, gossip);
criterion_main!(benches);
