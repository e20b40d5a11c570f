//! E11: members that come back all the time.

use crate::asked::Asked;
use crate::world::{S, World, endpoint};

/// What the cluster does meanwhile: how often a restarting member was held dead, when all agreed, what was sent.
fn print(world: &mut World, name: &str, since: u64, before: (u64, u64)) {
    let failed = world.failed_since(since).len();
    let per = world.seats.len() as f64 * (world.now - since) as f64 / 1e6;
    let (packets, bytes) = ((world.packets_sent - before.0) as f64 / per, (world.bytes_sent - before.1) as f64 / per);
    let took = world.converge(120 * S) as f64 / 1e6;
    println!(
        "  {name:<40} somebody held somebody dead: {failed} times; agreement {took:.1} s later; {packets:.1} packets/s, {bytes:.0} B/s per node"
    );
}

/// E11: ten per cent of the members restart every minute for ten minutes; then all, five per cent at a time; then 30 % at once.
pub fn churn(asked: &Asked) -> u64 {
    let mut world = asked.formed(asked.seed);
    let restart = |world: &mut World, at: usize| {
        world.crash(at);
        world.history.forget(at);
        world.restart(at, |config| config.seeds = (1..4).map(|n| endpoint((at + n) % asked.n)).collect());
    };
    let (since, before) = (world.now, (world.packets_sent, world.bytes_sent));
    world.events.clear();
    let each = 60 * S / (asked.n as u64 / 10).max(1);
    while world.now < since + 600 * S {
        let at = world.random.below(asked.n as u64) as usize;
        restart(&mut world, at);
        world.run_for(each);
    }
    print(&mut world, "10 % restart a minute, ten minutes", since, before);
    let (since, before) = (world.now, (world.packets_sent, world.bytes_sent));
    for part in 0..20 {
        (0..asked.n).filter(|at| at % 20 == part).collect::<Vec<_>>().into_iter().for_each(|at| restart(&mut world, at));
        world.run_for(5 * S);
    }
    print(&mut world, "all restart, 5 % every 5 s", since, before);
    let (since, before) = (world.now, (world.packets_sent, world.bytes_sent));
    let victims = world.random.choose(asked.n * 3 / 10, 0, asked.n);
    victims.into_iter().for_each(|at| restart(&mut world, at));
    world.run_for(S);
    print(&mut world, "30 % restart at once", since, before);
    world.packets_sent
}
