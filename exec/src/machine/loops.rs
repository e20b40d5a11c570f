//! Loops: how far the tasks with a body have come, and which instance ran each of their rounds.
//!
//! A round is one item of a `for_each`, one iteration of a `while`, or the one call of a `sub_workflow`; each is an instance of its own, in
//! the group of its parent. What changes with every round is here and not in the parent, so that a checkpoint of ten thousand items
//! writes what changed and not all of them.
//! Invariant: a round that completed is not run again, unless it was undone or an operator asks for it by name.

use std::collections::BTreeMap;
use std::ops::Bound;

use distric_model::{Change, InstanceId};
use serde::{Deserialize, Serialize};

use super::checkpoint::record::{Tag, encode};
use super::checkpoint::tracked::Tracked;
use super::instances::{Failure, TaskAt};
use super::state::State;
use crate::octets::Octets;

/// One round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct RoundKey {
    pub task: TaskAt,
    /// One more each time that the whole task is done anew; [`REPLACED`] for what another instance took the place of.
    pub life: u32,
    pub place: u32,
}

/// The life of rounds that count no more.
pub(super) const REPLACED: u32 = u32::MAX;

/// How far a task with a body has come.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Run {
    pub life: u32,
    /// Items of a `for_each`.
    pub count: u32,
    /// The round that begins next; while a body is undone, the one above those that are left.
    pub next: u32,
    /// Where its item begins in the text of the items, bytes.
    pub cursor: u64,
    pub open: BTreeMap<u32, InstanceId>,
    pub completed_count: u32,
    pub failed_count: u32,
    /// Of the round that failed first.
    pub failure: Option<Failure>,
    /// It ends like this, when its rounds have.
    pub stop: Option<Stop>,
    /// What the last round returned.
    pub state: Octets,
    /// The outputs put together so far, and of how many rounds.
    pub gathered: (Octets, u32),
    /// What its texts are charged to the instance.
    pub charged: u64,
    pub replaced_count: u32,
    /// What the task was before it was undone.
    pub was: Option<State>,
}

/// How a run ends before its time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stop {
    /// `Failed`, `TimedOut` or `Cancelled`.
    pub end: State,
    pub failure: Failure,
    pub is_retryable: bool,
}

/// All runs of a group.
#[derive(Debug, Default, Serialize)]
pub(super) struct Loops {
    runs: Tracked<TaskAt, Run>,
    /// The items that a `for_each` goes through: JSON texts, one behind the other. Written once.
    items: Tracked<TaskAt, Octets>,
    rounds: Tracked<RoundKey, InstanceId>,
}

impl Loops {
    /// The loops of a checkpoint.
    pub fn restored(runs: BTreeMap<TaskAt, Run>, items: BTreeMap<TaskAt, Octets>, rounds: BTreeMap<RoundKey, InstanceId>) -> Self {
        Self { runs: Tracked::restored(runs), items: Tracked::restored(items), rounds: Tracked::restored(rounds) }
    }

    /// Tells what changed since the last call.
    pub fn take_changes(&mut self, out: &mut Vec<Change>) {
        let key = |tag: Tag, task: &TaskAt| tag.key(&[&task.instance.to_bytes(), &task.index.to_be_bytes()]);
        self.runs.take_changes(out, |task| key(Tag::Run, task), |_, run, _| encode(run));
        self.items.take_changes(out, |task| key(Tag::Items, task), |_, items, _| items.to_vec());
        let round = |round: &RoundKey| {
            let task = round.task;
            let (life, place) = (round.life.to_be_bytes(), round.place.to_be_bytes());
            Tag::Round.key(&[&task.instance.to_bytes(), &task.index.to_be_bytes(), &life, &place])
        };
        self.rounds.take_changes(out, round, |_, instance, _| encode(instance));
    }

    pub fn run(&self, task: TaskAt) -> Option<&Run> {
        self.runs.get(&task)
    }

    pub fn run_mut(&mut self, task: TaskAt) -> Option<&mut Run> {
        self.runs.get_mut(&task)
    }

    /// Begins a run; `items` are those of a `for_each`.
    pub fn begin(&mut self, task: TaskAt, run: Run, items: Option<Octets>) {
        self.runs.insert(task, run);
        match items {
            Some(items) => drop(self.items.insert(task, items)),
            None => drop(self.items.remove(&task)),
        }
    }

    /// The text of the items from a place on.
    pub fn items_from(&self, task: TaskAt, cursor: u64) -> Option<&[u8]> {
        self.items.get(&task)?.get(usize::try_from(cursor).ok()?..)
    }

    pub fn drop_items(&mut self, task: TaskAt) {
        self.items.remove(&task);
    }

    /// Forgets a run, with its instance.
    pub fn forget(&mut self, task: TaskAt) {
        self.runs.remove(&task);
        self.items.remove(&task);
    }

    pub fn round(&self, key: RoundKey) -> Option<InstanceId> {
        self.rounds.get(&key).copied()
    }

    pub fn set_round(&mut self, key: RoundKey, instance: InstanceId) {
        self.rounds.insert(key, instance);
    }

    /// Forgets a round with its instance, unless the place is another's by now.
    pub fn forget_round(&mut self, key: RoundKey, instance: InstanceId) {
        if self.rounds.get(&key) == Some(&instance) {
            self.rounds.remove(&key);
        }
    }

    /// The round of a task's life below a place, the greatest first.
    pub fn round_below(&self, task: TaskAt, life: u32, place: u32) -> Option<(u32, InstanceId)> {
        let from = RoundKey { task, life, place: 0 };
        let found = self.rounds.range(from..RoundKey { place, ..from }).next_back();
        found.map(|(key, instance)| (key.place, *instance))
    }

    /// The first round of an instance's tasks behind `after`.
    pub fn round_after(&self, instance: InstanceId, after: Option<RoundKey>) -> Option<(RoundKey, InstanceId)> {
        let first = RoundKey { task: TaskAt { instance, index: 0 }, life: 0, place: 0 };
        let from = after.map_or(Bound::Included(first), Bound::Excluded);
        let (key, round) = self.rounds.range((from, Bound::Unbounded)).next()?;
        (key.task.instance == instance).then_some((*key, *round))
    }

    /// The instances of a task's rounds, at most `count_max`, in order.
    pub fn rounds_of(&self, task: TaskAt, count_max: usize) -> Vec<InstanceId> {
        let from = RoundKey { task, life: 0, place: 0 };
        let rounds = self.rounds.range(from..).take_while(|(key, _)| key.task == task);
        rounds.take(count_max).map(|(_, instance)| *instance).collect()
    }
}
