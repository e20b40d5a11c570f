//! Majorities: the one place that counts members.

use distric_model::NodeId;

use crate::membership::{MEMBERS_MAX, Membership};

/// How an election stands.
/// In rising order of how much it decides: of two halves the greater result is that of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum VoteResult {
    Won,
    Open,
    Lost,
}

impl Membership {
    /// How many of [`Membership::voters`] make a majority; zero voters have none, so one is asked for.
    pub fn majority(&self) -> usize {
        majority_of(self.voters())
    }

    /// The sets that each need a majority of their own: one, or two while the group is joint.
    pub fn quorum_sets(&self) -> impl Iterator<Item = &[NodeId]> {
        std::iter::once(self.voters()).chain(self.is_joint().then_some(self.outgoing()))
    }

    /// The greatest value that a majority of voters has reached, in each half of a joint configuration, where `of`
    /// tells each voter's value; `None` when there is no voter.
    pub(crate) fn reached_by_majority<T: Ord + Copy>(&self, of: impl Fn(NodeId) -> T) -> Option<T> {
        let reached = |set: &[NodeId]| {
            let mut values = [None; MEMBERS_MAX];
            let values = &mut values[..set.len()];
            values.iter_mut().zip(set).for_each(|(value, voter)| *value = Some(of(*voter)));
            // Sorted on every use: a scan that assumed an order once committed without a quorum elsewhere.
            values.sort_unstable_by(|a, b| b.cmp(a));
            values.get(majority_of(set) - 1).copied().flatten()
        };
        // `None` is less than every value, so an undecided half decides.
        self.quorum_sets().map(reached).min().flatten()
    }

    /// How an election stands, where `of` tells each voter's answer so far. Both halves of a joint configuration must
    /// be won; one lost is enough to lose.
    pub(crate) fn vote_result(&self, of: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        let result = |set: &[NodeId]| {
            let answers = || set.iter().map(|voter| of(*voter));
            let granted = answers().filter(|answer| *answer == Some(true)).count();
            let open = answers().filter(Option::is_none).count();
            if granted >= majority_of(set) {
                VoteResult::Won
            } else if granted + open < majority_of(set) {
                VoteResult::Lost
            } else {
                VoteResult::Open
            }
        };
        self.quorum_sets().map(result).max().unwrap_or(VoteResult::Lost)
    }
}

fn majority_of(set: &[NodeId]) -> usize {
    set.len() / 2 + 1
}

#[cfg(test)]
mod tests {
    use distric_model::{Slot, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn group(count: usize) -> Membership {
        let nodes = (0..count as u64).map(|n| NodeId::new(Timestamp::from_us(0), Slot::truncate(0), n)).collect();
        Membership::new(nodes, vec![]).unwrap()
    }

    proptest! {
        #[test]
        fn a_majority_has_reached_the_value_and_none_has_reached_more(values in prop::collection::vec(0_u64..20, 1..8)) {
            let group = group(values.len());
            let of = |node| values[group.voters().iter().position(|voter| *voter == node).unwrap()];
            let reached = group.reached_by_majority(of).unwrap();
            prop_assert!(values.iter().filter(|value| **value >= reached).count() >= group.majority());
            prop_assert!(values.iter().filter(|value| **value > reached).count() < group.majority());
        }

        #[test]
        fn an_election_is_decided_exactly_when_no_answer_can_change_it(answers in prop::collection::vec(prop::option::of(any::<bool>()), 1..8)) {
            let group = group(answers.len());
            let at = |node| group.voters().iter().position(|voter| *voter == node).unwrap();
            let with = |fill: bool| answers.iter().filter(|answer| answer.unwrap_or(fill)).count() >= group.majority();
            let expected = match (with(false), with(true)) {
                (true, _) => VoteResult::Won,
                (_, false) => VoteResult::Lost,
                _ => VoteResult::Open,
            };
            prop_assert_eq!(group.vote_result(|node| answers[at(node)]), expected);
        }
    }

    #[test]
    fn a_joint_group_needs_a_majority_of_each_half() {
        // Ongaro 2014, section 4.3: "agreement requires separate majorities from both the old and new configurations".
        let node = |n| NodeId::new(Timestamp::from_us(0), Slot::truncate(0), n);
        let old = group(3);
        let wanted = Membership::new(vec![node(0), node(3), node(4), node(5)], vec![]).unwrap();
        let joint = old.first_step(&wanted).unwrap().enter_goal().unwrap();
        // All of the new half, one of the old: not enough.
        let values = |node_with: &[u64]| {
            let with: Vec<NodeId> = node_with.iter().map(|n| node(*n)).collect();
            move |voter: NodeId| u64::from(with.contains(&voter))
        };
        for (with, expected) in [(&[0, 3, 4, 5][..], 0), (&[0, 1, 2], 0), (&[0, 1, 3], 0), (&[0, 1, 3, 4], 1)] {
            assert_eq!(joint.reached_by_majority(values(with)), Some(expected), "{with:?}");
            let votes = values(with);
            let result = joint.vote_result(|voter| (votes(voter) == 1).then_some(true));
            assert_eq!(result == VoteResult::Won, expected == 1, "{with:?}");
        }
        let refused_by_old = |voter| (voter == node(1) || voter == node(2)).then_some(false).or(Some(true));
        assert_eq!(joint.vote_result(refused_by_old), VoteResult::Lost);
    }

    #[test]
    fn no_voters_never_decide_anything_in_favour() {
        let group = group(0);
        assert_eq!(group.vote_result(|_| Some(true)), VoteResult::Lost);
        assert_eq!(group.reached_by_majority(|_| 7), None);
    }
}
