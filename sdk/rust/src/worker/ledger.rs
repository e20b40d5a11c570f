//! The ledger: credits leased to groups, out of one budget of slots and prefetch.
//!
//! In: what groups report, and how much is in hand.  Out: amounts to grant (positive) and to ask back (negative).
//! A credit is with a group's leader (`granted`), or in hand (a task, or a result whose credit was not renewed), or free.
//! Invariant: granted and in hand together never exceed the budget, unless a leader used credit that it did not have; then
//! nothing is renewed until they do not.
//! A leader keeps no free credit over sessions: whatever was granted lapses with the session, and is granted anew.
//! Several coordinators may name one group: one that was cut off or stood still names it until it hears of its successor. The later
//! term holds; whoever is behind takes nothing, and what it gives up later was not its own.

use std::collections::BTreeMap;

/// Names a session of this worker.
pub(super) type SessionId = usize;

/// One group's part of the budget.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Share {
    session: SessionId,
    /// The term of the leader that answers there; 0 when it was not said.
    term: u64,
    /// Credits with the leader.
    granted: u32,
    /// Of those: asked back, no answer yet.
    asked: u32,
    /// Tasks in hand.
    in_hand: u32,
    /// Tasks that the leader reported to wait without a worker.
    ready: u32,
    /// It gave credit back unasked, and has reported no work since.
    declined: bool,
}

impl Share {
    fn size(&self) -> u32 {
        self.granted + self.in_hand
    }

    /// It has more work than credit.
    fn is_hungry(&self) -> bool {
        self.ready > self.granted
    }

    /// It has work and no credit at all.
    fn is_starving(&self) -> bool {
        self.ready > 0 && self.granted == 0
    }

    /// Credits that may be asked back.
    fn askable(&self) -> u32 {
        self.granted - self.asked
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    budget: u32,
    groups: BTreeMap<u32, Share>,
    /// The latest term heard of, by group: one entry for each group of the cluster.
    terms: BTreeMap<u32, u64>,
    /// Tasks in hand of groups that have no session now.
    stranded: BTreeMap<u32, u32>,
    /// Credits neither with a leader nor free: tasks in hand, and results whose credit was not renewed.
    in_hand: u32,
    /// Who was last favoured by turn.
    turn: u32,
    draining: bool,
}

impl Ledger {
    pub(super) fn new(budget: u32) -> Self {
        Self { budget, groups: BTreeMap::new(), terms: BTreeMap::new(), stranded: BTreeMap::new(), in_hand: 0, turn: 0, draining: false }
    }

    /// The session that answers for a group, when there is one.
    pub(super) fn session_of(&self, group: u32) -> Option<SessionId> {
        self.groups.get(&group).map(|share| share.session)
    }

    /// The leaders of exactly these groups, each with its term, answer on this session, as it says. Returns the groups that came to it,
    /// and those that left it: the credit of both has lapsed.
    pub(super) fn attach(&mut self, session: SessionId, groups: &[(u32, u64)]) -> (Vec<u32>, Vec<u32>) {
        let is_named = |group: u32| groups.iter().any(|(named, _)| *named == group);
        let left: Vec<u32> =
            self.groups.iter().filter(|(group, share)| share.session == session && !is_named(**group)).map(|(group, _)| *group).collect();
        left.iter().for_each(|group| self.strand(*group));
        let mut came = Vec::new();
        for (group, term) in groups.iter().copied() {
            let latest = self.terms.entry(group).or_default();
            let is_present = self.groups.get(&group).is_some_and(|share| share.session == session && share.term == term);
            if is_present || (term != 0 && term < *latest) {
                continue;
            }
            *latest = term.max(*latest);
            self.strand(group);
            let in_hand = self.stranded.remove(&group).unwrap_or(0);
            self.groups.insert(group, Share { session, term, granted: 0, asked: 0, in_hand, ready: 0, declined: false });
            came.push(group);
        }
        (came, left)
    }

    /// The session is gone. Returns the groups that it answered for.
    pub(super) fn detach(&mut self, session: SessionId) -> Vec<u32> {
        self.attach(session, &[]).1
    }

    fn strand(&mut self, group: u32) {
        if let Some(share) = self.groups.remove(&group)
            && share.in_hand > 0
        {
            *self.stranded.entry(group).or_default() += share.in_hand;
        }
    }

    /// A task came: its credit is in hand now.
    pub(super) fn task_came(&mut self, group: u32) {
        self.in_hand += 1;
        match self.groups.get_mut(&group) {
            Some(share) => {
                share.granted = share.granted.saturating_sub(1);
                share.asked = share.asked.min(share.granted);
                share.ready = share.ready.saturating_sub(1);
                share.in_hand += 1;
                share.declined = false;
            }
            None => *self.stranded.entry(group).or_default() += 1,
        }
    }

    /// A task is done: it is not a task any more, but its credit stays in hand until [`Self::renewed`] or [`Self::settled`].
    pub(super) fn task_left(&mut self, group: u32) {
        if let Some(share) = self.groups.get_mut(&group) {
            share.in_hand = share.in_hand.saturating_sub(1);
        } else if let Some(count) = self.stranded.get_mut(&group) {
            *count -= 1;
            if *count == 0 {
                self.stranded.remove(&group);
            }
        }
    }

    /// Whether a result of this group, before its task left, should leave its credit with the leader: not when the worker drains, holds more than its
    /// budget, or has another group that starves on a smaller share.
    pub(super) fn renews(&self, group: u32) -> bool {
        let Some(own) = self.groups.get(&group) else { return false };
        let held = self.granted() + self.in_hand;
        !self.draining && held <= self.budget && !self.groups.values().any(|other| other.is_starving() && other.size() < own.size())
    }

    /// The credit of a result went back to the leader with it.
    pub(super) fn renewed(&mut self, group: u32) {
        if let Some(share) = self.groups.get_mut(&group) {
            self.in_hand -= 1;
            share.granted += 1;
        }
    }

    /// The session ended before the leader confirmed a renewal: the credit is in hand again.
    pub(super) fn unrenewed(&mut self) {
        self.in_hand += 1;
    }

    /// A result whose credit was in hand is confirmed, or a task went without a result: the credit is free.
    pub(super) fn settled(&mut self) {
        self.in_hand -= 1;
    }

    /// A leader gave credit back.
    pub(super) fn returned(&mut self, group: u32, amount: u32) {
        if let Some(share) = self.groups.get_mut(&group) {
            share.declined |= share.asked == 0;
            share.granted = share.granted.saturating_sub(amount);
            // What it did not give back, it had already used; one answer ends the question.
            share.asked = 0;
        }
    }

    /// A leader reported how much work waits there.
    pub(super) fn backlog(&mut self, group: u32, ready: u32) {
        if let Some(share) = self.groups.get_mut(&group) {
            share.ready = ready;
            share.declined &= ready == 0;
        }
    }

    /// Questions that were not answered by now are forgotten: a leader that has nothing free may be silent.
    pub(super) fn forget_questions(&mut self) {
        self.groups.values_mut().for_each(|share| share.asked = 0);
    }

    /// Begins or ends draining.
    pub(super) fn drain(&mut self, drain: bool) {
        self.draining = drain;
    }

    /// What to say to which group now: grants (positive) and questions (negative). Call it after every change.
    pub(super) fn settle(&mut self) -> Vec<(u32, i64)> {
        let mut amounts: BTreeMap<u32, i64> = BTreeMap::new();
        if self.draining {
            for (group, share) in &mut self.groups {
                if share.askable() > 0 {
                    amounts.insert(*group, -i64::from(share.askable()));
                    share.asked = share.granted;
                }
            }
            return amounts.into_iter().collect();
        }
        while self.granted() + self.in_hand < self.budget {
            let Some(group) = self.next_to_grant() else { break };
            self.turn = group;
            self.groups.get_mut(&group).expect("it was just found").granted += 1;
            *amounts.entry(group).or_default() += 1;
        }
        while let Some(donor) = self.next_to_ask() {
            self.groups.get_mut(&donor).expect("it was just found").asked += 1;
            *amounts.entry(donor).or_default() -= 1;
        }
        amounts.into_iter().collect()
    }

    fn granted(&self) -> u32 {
        self.groups.values().map(|share| share.granted).sum()
    }

    /// The group to grant one credit to: the smallest share among the hungry; else the smallest below an even part.
    fn next_to_grant(&self) -> Option<u32> {
        let by_share = |(group, share): &(&u32, &Share)| (share.size(), self.turns_away(**group));
        let hungry = self.groups.iter().filter(|(_, share)| share.is_hungry()).min_by_key(by_share);
        let even_part = self.budget.div_ceil(u32::try_from(self.groups.len()).ok()?.max(1));
        let even = || self.groups.iter().filter(|(_, share)| !share.declined && share.size() < even_part).min_by_key(by_share);
        hungry.or_else(even).map(|(group, _)| *group)
    }

    /// The group to ask one credit back from, for a starving one: an idle group, the largest first; else one with a share that is larger by two.
    fn next_to_ask(&self) -> Option<u32> {
        let starving = self.groups.values().filter(|share| share.is_starving());
        let needed: u32 = starving.clone().map(|share| share.ready.min(self.budget)).sum();
        let smallest = starving.map(Share::size).min()?;
        let asked: u32 = self.groups.values().map(|share| share.asked).sum();
        if asked >= needed {
            return None;
        }
        let donors = self.groups.iter().filter(|(_, share)| share.askable() > 0);
        let idle = donors.clone().filter(|(_, share)| share.ready == 0).max_by_key(|(_, share)| share.askable());
        let rich = || donors.filter(|(_, share)| share.size() - share.asked > smallest + 1).max_by_key(|(_, share)| share.askable());
        idle.or_else(rich).map(|(group, _)| *group)
    }

    /// How many turns until this group is favoured.
    fn turns_away(&self, group: u32) -> u32 {
        group.wrapping_sub(self.turn).wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks and takes in one step, as if the leader answered at once.
    fn granted(ledger: &Ledger) -> Vec<u32> {
        ledger.groups.values().map(|share| share.granted).collect()
    }

    #[test]
    fn the_budget_is_split_evenly_and_the_remainder_goes_by_turn() {
        let mut ledger = Ledger::new(8);
        ledger.attach(0, &[(1, 1), (2, 1), (3, 1)]);
        assert_eq!(ledger.settle(), [(1, 3), (2, 3), (3, 2)]);
        assert_eq!(ledger.settle(), [], "nothing is granted twice");
    }

    #[test]
    fn a_starving_group_gets_what_idle_groups_give_back() {
        let mut ledger = Ledger::new(4);
        ledger.attach(0, &[(1, 1)]);
        ledger.attach(1, &[(2, 1)]);
        assert_eq!(ledger.settle(), [(1, 2), (2, 2)]);
        ledger.task_came(1);
        ledger.task_came(1);
        assert_eq!(ledger.settle(), []);
        ledger.backlog(1, 5);
        assert_eq!(ledger.settle(), [(2, -2)], "group 1 has no credit left and group 2 is idle");
        assert_eq!(ledger.settle(), [], "one question at a time");
        ledger.returned(2, 2);
        assert_eq!(ledger.settle(), [(1, 2)]);
        assert_eq!(granted(&ledger), [2, 0]);
    }

    #[test]
    fn a_group_that_starves_on_less_ends_the_renewal_of_a_larger_one() {
        let mut ledger = Ledger::new(2);
        ledger.attach(0, &[(1, 1)]);
        ledger.settle();
        ledger.task_came(1);
        ledger.task_came(1);
        ledger.attach(1, &[(2, 1)]);
        assert!(ledger.renews(1));
        ledger.backlog(2, 1);
        assert_eq!(ledger.settle(), [], "all credit is in hand");
        assert!(!ledger.renews(1));
        ledger.task_left(1);
        ledger.settled();
        assert_eq!(ledger.settle(), [(2, 1)]);
        assert!(ledger.renews(1), "group 2 has credit now");
    }

    #[test]
    fn credit_lapses_with_its_session_and_tasks_in_hand_keep_theirs() {
        let mut ledger = Ledger::new(3);
        ledger.attach(0, &[(1, 1)]);
        ledger.settle();
        ledger.task_came(1);
        assert_eq!(ledger.detach(0), [1]);
        assert_eq!(ledger.settle(), []);
        ledger.attach(0, &[(1, 1)]);
        assert_eq!(ledger.settle(), [(1, 2)], "one of three is in hand");
    }

    #[test]
    fn a_leader_that_takes_too_much_is_not_renewed() {
        let mut ledger = Ledger::new(1);
        ledger.attach(0, &[(1, 1)]);
        ledger.settle();
        ledger.task_came(1);
        ledger.task_came(1);
        assert!(!ledger.renews(1));
        ledger.task_left(1);
        ledger.settled();
        assert_eq!(ledger.settle(), []);
        assert!(ledger.renews(1));
    }

    #[test]
    fn draining_asks_everything_back_and_grants_again_when_it_ends() {
        let mut ledger = Ledger::new(4);
        ledger.attach(0, &[(1, 1), (2, 1)]);
        ledger.settle();
        ledger.drain(true);
        assert_eq!(ledger.settle(), [(1, -2), (2, -2)]);
        ledger.returned(1, 2);
        ledger.returned(2, 2);
        assert_eq!(ledger.settle(), []);
        ledger.drain(false);
        assert_eq!(ledger.settle(), [(1, 2), (2, 2)]);
    }

    #[test]
    fn credit_given_back_unasked_stays_free_until_there_is_work() {
        let mut ledger = Ledger::new(2);
        ledger.attach(0, &[(1, 1)]);
        ledger.settle();
        ledger.returned(1, 2);
        assert_eq!(ledger.settle(), []);
        ledger.backlog(1, 1);
        assert_eq!(ledger.settle(), [(1, 2)]);
    }

    #[test]
    fn a_former_leader_takes_no_group_from_its_successor_and_strands_none() {
        let mut ledger = Ledger::new(4);
        ledger.attach(0, &[(1, 5), (2, 5)]);
        assert_eq!(ledger.attach(1, &[(1, 6), (2, 6)]), (vec![1, 2], vec![]));
        ledger.settle();
        // The first one wakes up. It hears of its successors one after the other, and says each time what it still believes to lead.
        assert_eq!(ledger.attach(0, &[(2, 5)]), (vec![], vec![]));
        assert_eq!(ledger.attach(0, &[]), (vec![], vec![]));
        assert_eq!((ledger.session_of(1), ledger.session_of(2)), (Some(1), Some(1)));
        assert_eq!(granted(&ledger), [2, 2], "nor does their credit lapse");
        // Nor does it when it comes back while the successor's session is broken.
        assert_eq!(ledger.detach(1), [1, 2]);
        assert_eq!(ledger.attach(0, &[(1, 5)]), (vec![], vec![]));
        assert_eq!(ledger.attach(1, &[(1, 6), (2, 6)]), (vec![1, 2], vec![]));
    }

    #[test]
    fn a_later_lead_of_the_same_coordinator_has_no_credit_yet() {
        let mut ledger = Ledger::new(2);
        ledger.attach(0, &[(1, 5)]);
        assert_eq!(ledger.settle(), [(1, 2)]);
        assert_eq!(ledger.attach(0, &[(1, 5)]), (vec![], vec![]), "said again, nothing is new");
        assert_eq!(ledger.attach(0, &[(1, 7)]), (vec![1], vec![]));
        assert_eq!(ledger.settle(), [(1, 2)]);
    }

    #[test]
    fn where_terms_are_not_said_the_last_word_holds() {
        let mut ledger = Ledger::new(2);
        ledger.attach(0, &[(1, 0)]);
        assert_eq!(ledger.attach(1, &[(1, 0)]), (vec![1], vec![]));
        assert_eq!(ledger.session_of(1), Some(1));
    }
}
