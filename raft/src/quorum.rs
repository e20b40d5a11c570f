//! Majorities: the one place that counts members.

use distric_model::NodeId;

use crate::membership::Membership;

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VoteResult {
    Won,
    Lost,
    Open,
}

impl Membership {
    /// How many voters make a majority; zero voters have none, so one is asked for.
    pub fn majority(&self) -> usize {
        self.voters().len() / 2 + 1
    }

    /// The greatest value that a majority of voters has reached, where `of` tells each voter's value; `None` when
    /// there is no voter.
    pub(crate) fn reached_by_majority<T: Ord + Copy>(&self, of: impl Fn(NodeId) -> T) -> Option<T> {
        let mut values: Vec<T> = self.voters().iter().map(|voter| of(*voter)).collect();
        // Sorted on every use: a scan that assumed an order once committed without a quorum elsewhere.
        values.sort_unstable_by(|a, b| b.cmp(a));
        values.get(self.majority() - 1).copied()
    }

    /// How an election stands, where `of` tells each voter's answer so far.
    pub(crate) fn vote_result(&self, of: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        let answers = || self.voters().iter().map(|voter| of(*voter));
        let granted = answers().filter(|answer| *answer == Some(true)).count();
        let open = answers().filter(Option::is_none).count();
        if granted >= self.majority() {
            VoteResult::Won
        } else if granted + open < self.majority() {
            VoteResult::Lost
        } else {
            VoteResult::Open
        }
    }
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
    fn no_voters_never_decide_anything_in_favour() {
        let group = group(0);
        assert_eq!(group.vote_result(|_| Some(true)), VoteResult::Lost);
        assert_eq!(group.reached_by_majority(|_| 7), None);
    }
}
