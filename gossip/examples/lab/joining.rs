//! E5 and E8: how a cluster comes together.

use std::collections::BTreeSet;

use crate::asked::Asked;
use crate::report;
use crate::world::{MS, S, World, endpoint};

/// E5: one seed; the others ten seconds later, all at once; five seeds.
pub fn bootstrap(asked: &Asked) -> u64 {
    let runs = asked.parallel(asked.trials, |trial| {
        let mut world = World::empty(asked.seed + trial as u64);
        world.checks = false;
        world.weather.loss_permille = asked.loss_permille;
        world.add(World::config(0, vec![]));
        world.run_for(10 * S);
        let since = world.now;
        for n in 1..asked.n {
            world.add(World::config(n, vec![endpoint(0)]));
        }
        let mut sizes = BTreeSet::new();
        while world.counts() != [(asked.n, asked.n)].into() && world.now < since + 300 * S {
            world.run_for(100 * MS);
            sizes.extend(world.counts().into_keys());
        }
        (world.now - since, sizes.len() as u64, world.packets_sent, world.bytes_sent)
    });
    report::times("all see all", runs.iter().map(|run| run.0).collect());
    report::rates("sizes seen on the way", runs.iter().map(|run| run.1).collect());
    report::rates("KB sent per node", runs.iter().map(|run| run.3 / 1_000 / asked.n as u64).collect());
    runs.iter().map(|run| run.2).sum()
}

/// E8: seventeen joins, one after the other, at 10 % loss, within 175 s. SWIM got to twelve.
pub fn lossy_join(asked: &Asked) -> u64 {
    let runs = asked.parallel(asked.trials, |trial| {
        let mut world = World::empty(asked.seed + trial as u64);
        world.weather.loss_permille = 100;
        for n in 0..17 {
            world.add(World::config(n, if n == 0 { vec![] } else { vec![endpoint(0)] }));
            world.run_for(10 * S);
        }
        world.run_for(5 * S);
        (*world.counts().keys().next().expect("somebody runs"), world.failed_since(0).len(), world.packets_sent)
    });
    let smallest = runs.iter().map(|run| run.0).min().expect("there is a trial");
    let reached = runs.iter().filter(|run| run.0 == 17).count();
    let wrong: usize = runs.iter().map(|run| run.1).sum();
    println!("  {} trials: all 17 see 17 in {reached}, smallest view {smallest}; healthy declared dead: {wrong}", runs.len());
    runs.iter().map(|run| run.2).sum()
}
