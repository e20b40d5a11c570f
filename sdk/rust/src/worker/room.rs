//! Room: processors and memory of this worker, over all groups together.
//!
//! Each group places by what it knows: its own tasks here, and what this worker told it of the others. So two groups may send at once what
//! fits only once; the worker then gives the later task back, says what is taken besides, and says so again when that becomes less.
//! In: tasks that come and go.  Out: whether one fits, and [`Elsewhere`] for groups.
//! Invariant: what is in hand never exceeds the capacity.
//! Invariant: a group that was told of others hears of it when they take less; until then it sends nothing that would not fit.

use std::collections::BTreeMap;

use distric_model::{Capacity, Elsewhere, Needs};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Room {
    capacity: Capacity,
    /// By all tasks in hand.
    taken: Needs,
    /// By those that their group counts here for sure: they came in its present session.
    counted: BTreeMap<u32, Needs>,
    /// What each group was told last: an entry for each that ever sent a task for which there was no room.
    told: BTreeMap<u32, Needs>,
    number: u64,
}

impl Room {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// Takes room for a task of this group. Errors: what is missing, in words; then nothing is taken.
    pub(super) fn take(&mut self, group: u32, needs: Needs) -> Result<(), String> {
        let lacks = |needed: u64, taken: u64, of: Option<u64>, unit: &str| {
            let free = of?.saturating_sub(taken);
            (needed > free).then(|| format!("it needs {needed} {unit}, {free} of {} is free", of.unwrap_or(0)))
        };
        let cpu = lacks(needs.cpu_millis, self.taken.cpu_millis, self.capacity.cpu_millis, "millicores");
        let memory = lacks(needs.memory_mib, self.taken.memory_mib, self.capacity.memory_mib, "MiB memory");
        if let Some(missing) = cpu.or(memory) {
            return Err(missing);
        }
        self.taken = self.taken.plus(needs);
        let counted = self.counted.entry(group).or_default();
        *counted = counted.plus(needs);
        Ok(())
    }

    /// A task is not in hand any more; `counted` as [`Self::lapse`] left it.
    pub(super) fn leave(&mut self, group: u32, needs: Needs, is_counted: bool) {
        self.taken = self.taken.minus(needs);
        if is_counted {
            self.lapse(group, needs);
        }
    }

    /// The session on which a task came has ended: whether its group still counts it is not known.
    pub(super) fn lapse(&mut self, group: u32, needs: Needs) {
        if let Some(counted) = self.counted.get_mut(&group) {
            *counted = counted.minus(needs);
        }
    }

    /// What a group that sent too much is to be told.
    pub(super) fn tell(&mut self, group: u32) -> Elsewhere {
        let taken = self.elsewhere(group);
        self.told.insert(group, taken);
        self.number += 1;
        Elsewhere { number: self.number, taken }
    }

    /// The groups that were told of more than is taken now.
    pub(super) fn outdated(&self) -> Vec<u32> {
        let is_less = |(group, told): &(&u32, &Needs)| self.elsewhere(**group).is_less_somewhere(**told);
        self.told.iter().filter(is_less).map(|(group, _)| *group).collect()
    }

    /// Whether a group was ever told of others: what it was told last may not have reached it.
    pub(super) fn has_told(&self, group: u32) -> bool {
        self.told.contains_key(&group)
    }

    fn elsewhere(&self, group: u32) -> Needs {
        self.taken.minus(self.counted.get(&group).copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(memory_mib: u64) -> Needs {
        Needs { cpu_millis: 0, memory_mib }
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words_and_takes_nothing() {
        let mut room = Room::new(Capacity { cpu_millis: Some(2_000), memory_mib: Some(4_096) });
        assert_eq!(room.take(1, memory(4_000)), Ok(()));
        assert_eq!(room.take(2, memory(100)), Err("it needs 100 MiB memory, 96 of 4096 is free".to_owned()));
        let cpu = Needs { cpu_millis: 2_001, memory_mib: 0 };
        assert_eq!(room.take(2, cpu), Err("it needs 2001 millicores, 2000 of 2000 is free".to_owned()));
        assert_eq!(room.take(2, memory(96)), Ok(()));
        assert_eq!(Room::new(Capacity::default()).take(1, memory(u64::MAX)), Ok(()), "what is not stated is not limited");
    }

    #[test]
    fn a_group_that_sent_too_much_hears_when_others_take_less() {
        let mut room = Room::new(Capacity { cpu_millis: None, memory_mib: Some(10) });
        room.take(1, memory(6)).unwrap();
        room.take(2, memory(3)).unwrap();
        assert!(room.take(2, memory(4)).is_err());
        assert_eq!(room.tell(2), Elsewhere { number: 1, taken: memory(6) });
        assert_eq!(room.outdated(), Vec::<u32>::new());
        room.leave(2, memory(3), true);
        assert_eq!(room.outdated(), Vec::<u32>::new(), "its own are its own business");
        room.leave(1, memory(6), true);
        assert_eq!(room.outdated(), [2]);
        assert_eq!(room.tell(2), Elsewhere { number: 2, taken: memory(0) });
        assert!(room.outdated().is_empty() && room.has_told(2) && !room.has_told(1));
    }

    #[test]
    fn a_task_of_an_earlier_session_counts_as_others_do_for_its_own_group() {
        let mut room = Room::new(Capacity { cpu_millis: None, memory_mib: Some(10) });
        room.take(1, memory(6)).unwrap();
        room.lapse(1, memory(6));
        assert!(room.take(1, memory(6)).is_err());
        // Whatever the group still counts of it, ten less six leaves no room for six.
        assert_eq!(room.tell(1).taken, memory(6));
        room.leave(1, memory(6), false);
        assert_eq!(room.outdated(), [1]);
    }
}
