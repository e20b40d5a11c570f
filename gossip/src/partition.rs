//! Partitions: many at once are rarely dead; more likely the network is cut. This says so, it decides nothing: authority
//! is the log's.
//!
//! The signal is the share of the last stable view that was lost, each member weighed half by its number and half by its
//! zone; where there are voters their majority decides the verdict, as it decides in the log.

use std::collections::BTreeMap;

use distric_model::{Instant, NodeId};

use crate::profile::Role;
use crate::random::mix;

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
    /// Whether it belongs to the last stable view.
    pub(crate) is_stable: bool,
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
const LOST_MIN: u64 = 2;

/// Compares the view with the last stable one.
#[derive(Clone, Debug)]
pub(crate) struct Detector {
    has_stable: bool,
    permille: u64,
    settle_us: u64,
    /// Which members were lost at the last look, as a fingerprint.
    lost: u64,
    moved_at: Instant,
    verdict: Verdict,
    /// Version of the members at the last look, and whether the view was settled then.
    looked: (u64, bool),
}

/// What came of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// The verdict before, when it changed.
    pub(crate) before: Option<Verdict>,
    /// Whether who is here now is to be the stable view.
    pub(crate) is_new_stable: bool,
}

/// What is to be weighed: sums over members, kept up with every change of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Members of the stable view that did not leave, those of them that are lost, and the same of voters.
    count: u64,
    lost_count: u64,
    voters: u64,
    lost_voters: u64,
    /// By zone: such members, and the lost of them.
    zones: BTreeMap<String, (u64, u64)>,
    /// The XOR of what the lost ids hash to.
    lost: u64,
    /// Members that are here and not of the stable view.
    fresh_count: u64,
}

impl Tally {
    /// Takes a member in.
    pub(crate) fn add(&mut self, seen: Seen<'_>) {
        self.weigh(seen, u64::wrapping_add);
    }

    /// Takes it out again, as it was taken in.
    pub(crate) fn remove(&mut self, seen: Seen<'_>) {
        self.weigh(seen, u64::wrapping_sub);
    }

    fn weigh(&mut self, seen: Seen<'_>, change: fn(u64, u64) -> u64) {
        if !seen.is_stable {
            self.fresh_count = change(self.fresh_count, u64::from(seen.fate == Fate::Here));
            return;
        }
        if seen.fate == Fate::Gone {
            return;
        }
        let (is_lost, is_voter) = (u64::from(seen.fate == Fate::Lost), u64::from(seen.role == Role::Voter));
        self.count = change(self.count, 1);
        self.lost_count = change(self.lost_count, is_lost);
        self.voters = change(self.voters, is_voter);
        self.lost_voters = change(self.lost_voters, is_voter * is_lost);
        if !self.zones.contains_key(seen.zone) {
            self.zones.insert(seen.zone.to_owned(), (0, 0));
        }
        let zone = self.zones.get_mut(seen.zone).expect("it is there now");
        *zone = (change(zone.0, 1), change(zone.1, is_lost));
        if zone.0 == 0 {
            self.zones.remove(seen.zone);
        }
        let (high, low) = seen.node.uuid().as_u64_pair();
        self.lost ^= mix(mix(high).wrapping_add(low)) * is_lost;
    }

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
            has_stable: false,
            permille: permille as u64,
            settle_us: settle_ms * 1_000,
            lost: 0,
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

    /// Looks at what was weighed, this node included; `version` tells when it changes.
    pub(crate) fn observe(&mut self, now: Instant, version: u64, tally: &Tally) -> Look {
        if tally.lost != self.lost {
            self.lost = tally.lost;
            self.moved_at = now;
        }
        let settled = now.since_us(self.moved_at) >= self.settle_us;
        self.looked = (version, settled);
        let share = tally.lost_ppm();
        let threshold = self.permille * 1_000;
        // Half of the threshold clears what the whole of it raised, so that one member does not make it flicker.
        let cut = tally.lost_count >= LOST_MIN && share > if self.verdict == Verdict::None { threshold } else { threshold / 2 };
        let before = self.verdict;
        self.verdict = match (cut, settled) {
            (false, _) => Verdict::None,
            (true, false) if before == Verdict::None => Verdict::Suspected,
            (true, false) => before,
            (true, true) => tally.verdict(),
        };
        let is_changed = settled && (tally.fresh_count > 0 || tally.lost_count > 0) || !self.has_stable;
        let is_new_stable = self.verdict == Verdict::None && is_changed;
        if is_new_stable {
            (self.has_stable, self.lost) = (true, 0);
        }
        Look { before: (before != self.verdict).then_some(before), is_new_stable }
    }
}

#[cfg(test)]
mod tests {
    use distric_model::{Slot, Timestamp};

    use super::*;

    fn node(n: u64) -> NodeId {
        NodeId::new(Timestamp::from_us(0), Slot::truncate(0), n)
    }

    /// `count` members of which those of `lost` are lost; the first `voters` vote; zones by turn of three. All but who came after the
    /// `stable` first are of the stable view.
    fn view(count: u64, voters: u64, stable: u64, lost: impl Fn(u64) -> bool) -> Tally {
        let fate = |n| if lost(n) { Fate::Lost } else { Fate::Here };
        let role = |n| if n < voters { Role::Voter } else { Role::Worker };
        let mut tally = Tally::default();
        for n in 0..count {
            tally.add(Seen { node: node(n), zone: ["a", "b", "c"][n as usize % 3], role: role(n), fate: fate(n), is_stable: n < stable });
        }
        tally
    }

    fn settled(count: u64, voters: u64, lost: impl Fn(u64) -> bool) -> Verdict {
        let mut detector = Detector::new(Instant::from_us(0), 200, 5_000);
        assert!(detector.observe(Instant::from_us(0), 0, &view(count, voters, 0, |_| false)).is_new_stable);
        let cut = view(count, voters, count, &lost);
        detector.observe(Instant::from_us(6_000_000), 1, &cut);
        if detector.verdict() != Verdict::None {
            assert_eq!(detector.verdict(), Verdict::Suspected, "nothing is said before the view rests");
        }
        detector.observe(Instant::from_us(12_000_000), 1, &cut);
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
        detector.observe(at(0), 0, &view(10, 0, 0, |_| false));
        assert_eq!(detector.observe(at(1), 0, &view(10, 0, 10, |n| n < 5)).before, Some(Verdict::None));
        assert_eq!(detector.observe(at(3), 0, &view(10, 0, 10, |n| n < 5)).before, Some(Verdict::Suspected));
        assert_eq!(detector.observe(at(9), 0, &view(10, 0, 10, |_| false)).before, Some(Verdict::Even));
        assert_eq!(detector.verdict(), Verdict::None);
        for step in 0..5 {
            // One after the other, slowly: a dwindling cluster is no partition. Those lost before are no part of the view any more.
            let view = || {
                let mut tally = view(10, 0, 10, |n| n == step);
                (0..step).for_each(|n| {
                    let zone = ["a", "b", "c"][n as usize % 3];
                    tally.remove(Seen { node: node(n), zone, role: Role::Worker, fate: Fate::Here, is_stable: true });
                });
                tally
            };
            let first = detector.observe(at(20 + 10 * step), 0, &view());
            assert_eq!(first, Look { before: None, is_new_stable: false });
            let second = detector.observe(at(25 + 10 * step), 0, &view());
            assert_eq!(second, Look { before: None, is_new_stable: true });
        }
    }

    #[test]
    fn a_newcomer_is_of_the_stable_view_once_it_rests() {
        let mut detector = Detector::new(Instant::from_us(0), 200, 1_000);
        let at = |s: u64| Instant::from_us(s * 1_000_000);
        assert!(detector.observe(at(0), 0, &view(10, 0, 0, |_| false)).is_new_stable);
        assert!(detector.observe(at(5), 1, &view(11, 0, 10, |_| false)).is_new_stable);
        assert!(!detector.observe(at(9), 2, &view(11, 0, 11, |_| false)).is_new_stable, "nothing is new");
    }
}
