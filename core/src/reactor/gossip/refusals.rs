//! Refused packets in the log: a line at most every [`PAUSE_MS`], with the reasons and how often each applied since the line before.

use distric_gossip::{Refusals, Stats};
use distric_model::Instant;

/// Between two lines, milliseconds: whoever floods the port does not flood the log.
pub const PAUSE_MS: u64 = 10_000;

/// What was told so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct RefusalLog {
    told: Refusals,
    next_at: Option<Instant>,
}

impl RefusalLog {
    /// Tells what was refused since the last line, when one is due.
    pub fn tell(&mut self, now: Instant, stats: &Stats) {
        if let Some(reasons) = self.due(now, &stats.refusals) {
            tracing::warn!(target: "distric_core::gossip", event = "gossip_refused", reasons, "gossip packets were refused");
        }
    }

    fn due(&mut self, now: Instant, refusals: &Refusals) -> Option<String> {
        if self.told == *refusals || self.next_at.is_some_and(|at| now < at) {
            return None;
        }
        let news = refusals.iter().map(|(refusal, count)| (refusal, count - self.told.of(refusal)));
        let reasons: Vec<String> =
            news.filter(|(_, count)| *count > 0).map(|(refusal, count)| format!("{} {count}", refusal.name())).collect();
        self.told = *refusals;
        self.next_at = Some(now.plus_ms(PAUSE_MS));
        Some(reasons.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use distric_gossip::{Config, Endpoint, Generation, Gossip, Outputs, Profile};
    use distric_model::{ClusterId, NodeId, Slot, Timestamp};

    use super::*;

    #[test]
    fn a_flood_is_one_line_in_ten_seconds() {
        let (cluster, node) =
            (ClusterId::new(Timestamp::from_us(0), Slot::truncate(0), 1), NodeId::new(Timestamp::from_us(0), Slot::truncate(0), 1));
        let endpoint = Endpoint::v4([127, 0, 0, 1], 1);
        let start = Instant::from_us(1_000_000);
        let mut gossip = Gossip::new(Config::new(cluster, node, Generation(1), Profile::worker(endpoint)), 1, start).unwrap();
        let (mut log, mut out, mut lines) = (RefusalLog::default(), Outputs::default(), Vec::new());
        for n in 0..25_000 {
            let now = start.plus_ms(n);
            gossip.handle_packet(now, endpoint, b"noise", &mut out);
            lines.extend(log.due(now, &gossip.stats().refusals));
        }
        assert_eq!(lines, ["malformed 1", "malformed 10000", "malformed 10000"]);
    }
}
