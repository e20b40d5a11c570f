//! What came to one machine of a world, to be played to copies of it again: for the bench and for the lab.

use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use distric_gossip::{Endpoint, Gossip, Outputs};
use distric_model::Instant;

use super::World;

/// A machine as it was, and the packets that came to it from then on, with their times.
pub struct Replay {
    machine: Gossip,
    pub packets: Vec<(u64, Endpoint, Bytes)>,
}

impl Replay {
    /// Records what comes to a seat for so long.
    pub fn record(world: &mut World, seat: usize, for_us: u64) -> Self {
        let machine = world.gossip(seat).clone();
        world.tap = Some((seat, Vec::new()));
        world.run_for(for_us);
        let (_, packets) = world.tap.take().expect("it was laid above");
        assert!(!packets.is_empty(), "nothing came");
        Self { machine, packets }
    }

    /// Plays `count` packets, from the beginning again as often as needed, with the timeouts that are due before each. The time that
    /// the packets took, and that the timeouts took.
    pub fn play(&self, count: u64) -> (Duration, Duration) {
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
