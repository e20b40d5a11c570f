//! Partitions: many at once are rarely dead; more likely the network is cut. This says so, it decides nothing: authority
//! is the log's.
//!
//! The signal is the share of the last stable view that was lost, each member weighed half by its number and half by its
//! zone; where there are voters their majority decides the verdict, as it decides in the log.

use std::collections::BTreeMap;

use distric_model::{Instant, NodeId};

use crate::profile::Role;

/// What is held of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing unusual.
    #[default]
    None,
    /// A large share was lost, and the view is still moving.
    Suspected,
    /// This side holds more than half.
    Majority,
    /// This side holds less than half.
    Minority,
    /// Both sides hold the same.
    Even,
}

/// One member as the detector sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) node: NodeId,
    pub(crate) zone: &'a str,
    pub(crate) role: Role,
    pub(crate) fate: Fate,
}

/// What became of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Here,
    /// Dead, or suspected: unreachable from here.
    Lost,
    /// Left on its own account: no sign of a cut.
    Gone,
}

/// Fewer lost members than this are no partition, however small the cluster.
const LOST_MIN: usize = 2;

/// Compares the view with the last stable one.
#[derive(Clone, Debug)]
pub(crate) struct Detector {
    /// Sorted.
    stable: Vec<NodeId>,
    permille: u64,
    settle_us: u64,
    lost: Vec<NodeId>,
    moved_at: Instant,
    verdict: Verdict,
    /// Version of the members at the last look, and whether the view was settled then.
    looked: (u64, bool),
}

#[derive(Default)]
struct Weights<'a> {
    count: u64,
    lost_count: u64,
    voters: u64,
    lost_voters: u64,
    zones: BTreeMap<&'a str, (u64, u64)>,
}

impl Weights<'_> {
    /// The lost share, in millionths.
    fn lost_ppm(&self) -> u64 {
        let by_number = self.lost_count * 1_000_000 / self.count.max(1);
        let zones = self.zones.len().max(1) as u64;
        let by_zone: u64 = self.zones.values().map(|(count, lost)| lost * 1_000_000 / count / zones).sum();
        u64::midpoint(by_number, by_zone)
    }

    fn verdict(&self) -> Verdict {
        let (lost, of) = if self.voters >= 2 { (self.lost_voters, self.voters) } else { (self.lost_ppm(), 1_000_000) };
        // Shares are rounded: a thousandth of a difference is none. Voters are counted exactly.
        if (2 * lost).abs_diff(of) <= of / 1_000 {
            Verdict::Even
        } else if 2 * lost < of {
            Verdict::Majority
        } else {
            Verdict::Minority
        }
    }
}

impl Detector {
    pub(crate) const fn new(now: Instant, permille: u32, settle_ms: u64) -> Self {
        Self {
            stable: Vec::new(),
            permille: permille as u64,
            settle_us: settle_ms * 1_000,
            lost: Vec::new(),
            moved_at: now,
            verdict: Verdict::None,
            looked: (u64::MAX, false),
        }
    }

    pub(crate) const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether a look can show anything: the members changed since the last one, or what it saw has had time to settle.
    pub(crate) const fn is_due(&self, now: Instant, version: u64) -> bool {
        version != self.looked.0 || !self.looked.1 && now.since_us(self.moved_at) >= self.settle_us
    }

    /// Looks at all members, this node included; `version` tells when they change. Returns the verdict before when it changed.
    pub(crate) fn observe<'a>(&mut self, now: Instant, version: u64, members: impl Iterator<Item = Seen<'a>> + Clone) -> Option<Verdict> {
        let mut weights = Weights::default();
        let mut lost = Vec::new();
        let mut fresh = false;
        for seen in members.clone() {
            if self.stable.binary_search(&seen.node).is_err() {
                fresh |= seen.fate == Fate::Here;
                continue;
            }
            if seen.fate == Fate::Gone {
                continue;
            }
            let zone = weights.zones.entry(seen.zone).or_default();
            let is_voter = u64::from(seen.role == Role::Voter);
            weights.count += 1;
            weights.voters += is_voter;
            zone.0 += 1;
            if seen.fate == Fate::Lost {
                weights.lost_count += 1;
                weights.lost_voters += is_voter;
                zone.1 += 1;
                lost.push(seen.node);
            }
        }
        if lost != self.lost {
            self.lost = lost;
            self.moved_at = now;
        }
        let settled = now.since_us(self.moved_at) >= self.settle_us;
        self.looked = (version, settled);
        let share = weights.lost_ppm();
        let threshold = self.permille * 1_000;
        // Half of the threshold clears what the whole of it raised, so that one member does not make it flicker.
        let cut = self.lost.len() >= LOST_MIN && share > if self.verdict == Verdict::None { threshold } else { threshold / 2 };
        let before = self.verdict;
        self.verdict = match (cut, settled) {
            (false, _) => Verdict::None,
            (true, false) if before == Verdict::None => Verdict::Suspected,
            (true, false) => before,
            (true, true) => weights.verdict(),
        };
        if self.verdict == Verdict::None && (settled && (fresh || !self.lost.is_empty()) || self.stable.is_empty()) {
            self.stable = members.filter(|seen| seen.fate == Fate::Here).map(|seen| seen.node).collect();
            self.stable.sort_unstable();
            self.lost.clear();
        }
        (before != self.verdict).then_some(before)
    }
}

#[cfg(test)]
mod tests {
    use distric_model::{Slot, Timestamp};

    use super::*;

    fn node(n: u64) -> NodeId {
        NodeId::new(Timestamp::from_us(0), Slot::truncate(0), n)
    }

    /// `count` members of which those of `lost` are lost; the first `voters` vote; zones by turn of three.
    fn view(count: u64, voters: u64, lost: impl Fn(u64) -> bool) -> Vec<Seen<'static>> {
        let fate = |n| if lost(n) { Fate::Lost } else { Fate::Here };
        let role = |n| if n < voters { Role::Voter } else { Role::Worker };
        (0..count).map(|n| Seen { node: node(n), zone: ["a", "b", "c"][n as usize % 3], role: role(n), fate: fate(n) }).collect()
    }

    fn settled(count: u64, voters: u64, lost: impl Fn(u64) -> bool) -> Verdict {
        let mut detector = Detector::new(Instant::from_us(0), 200, 5_000);
        detector.observe(Instant::from_us(0), 0, view(count, voters, |_| false).into_iter());
        detector.observe(Instant::from_us(6_000_000), 1, view(count, voters, &lost).into_iter());
        if detector.verdict() != Verdict::None {
            assert_eq!(detector.verdict(), Verdict::Suspected, "nothing is said before the view rests");
        }
        detector.observe(Instant::from_us(12_000_000), 1, view(count, voters, &lost).into_iter());
        detector.verdict()
    }

    #[test]
    fn few_losses_are_deaths_and_many_are_a_cut() {
        assert_eq!(settled(100, 0, |n| n < 10), Verdict::None);
        assert_eq!(settled(100, 0, |n| n < 30), Verdict::Majority);
        assert_eq!(settled(102, 0, |n| n < 51), Verdict::Even);
        assert_eq!(settled(100, 0, |n| n < 90), Verdict::Minority);
        assert_eq!(settled(3, 0, |n| n == 2), Verdict::None, "one of three is a death");
    }

    #[test]
    fn voters_decide_where_there_are_some() {
        assert_eq!(settled(100, 3, |n| n == 0 || n >= 10), Verdict::Majority, "two of three voters are here");
        assert_eq!(settled(100, 3, |n| !(2..70).contains(&n)), Verdict::Minority);
        assert_eq!(settled(100, 4, |n| !(2..70).contains(&n)), Verdict::Even);
    }

    #[test]
    fn a_cut_that_heals_is_forgotten_and_a_small_loss_becomes_the_new_view() {
        let mut detector = Detector::new(Instant::from_us(0), 200, 1_000);
        let at = |s: u64| Instant::from_us(s * 1_000_000);
        detector.observe(at(0), 0, view(10, 0, |_| false).into_iter());
        assert_eq!(detector.observe(at(1), 0, view(10, 0, |n| n < 5).into_iter()), Some(Verdict::None));
        assert_eq!(detector.observe(at(3), 0, view(10, 0, |n| n < 5).into_iter()), Some(Verdict::Suspected));
        assert_eq!(detector.observe(at(9), 0, view(10, 0, |_| false).into_iter()), Some(Verdict::Even));
        assert_eq!(detector.verdict(), Verdict::None);
        for step in 0..5 {
            // One after the other, slowly: a dwindling cluster is no partition.
            assert_eq!(detector.observe(at(20 + 10 * step), 0, view(10, 0, |n| n <= step).into_iter()), None);
            assert_eq!(detector.observe(at(25 + 10 * step), 0, view(10, 0, |n| n <= step).into_iter()), None);
        }
    }
}
