//! The queue of one class: by priority, among equals by turns of their keys, among those of one key by arrival.
//!
//! Keys take turns by weight: self-clocked fair queueing (Golestani 1994), in whole numbers. A task gets a turn that lies one share after the
//! last one of its key, or after the turn that was served last; the least turn is served. Where no task has a key all have the turn 0.
//! No priority starves: when its oldest task was passed over [`PASSED_OVER_MAX`] times by greater priorities, that task's priority is served.
//! Invariant: every task of the queue is in exactly one level, one flow and one place of arrival.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use distric_model::Namespace;
use serde::{Deserialize, Serialize, Serializer};

use super::instances::TaskAt;

/// How many tasks of a greater priority pass the oldest task of a class before its priority has a turn.
pub const PASSED_OVER_MAX: u32 = 15;
/// One turn of a key with the weight 1.
const TURN: u64 = 1_000_000;

/// A task's place: greater priority first, then its turn, then its arrival.
pub(super) type QueueKey = (Reverse<i32>, u64, u64);

/// The key that an instance's tasks take turns under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Flow {
    pub key: Arc<str>,
    pub weight: u32,
}

/// A flow by name; tasks without a key are one. Behind a pointer, for every ready task has it and most have none.
pub(super) type FlowName = Option<Arc<(Namespace, Arc<str>)>>;

/// What a queue remembers that its tasks do not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Turns {
    /// How often the oldest task was passed over.
    pub passed_over: u32,
    /// The turn that was served last, by priority; where there is one.
    pub served: Vec<(i32, u64)>,
}

impl Turns {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The tasks of one priority.
#[derive(Debug, Default)]
struct Level {
    tasks: BTreeMap<(u64, u64), (TaskAt, FlowName)>,
    flows: BTreeMap<FlowName, BTreeSet<(u64, u64)>>,
    served: u64,
}

impl Level {
    fn has_named_flows(&self) -> bool {
        self.flows.len() > usize::from(self.flows.contains_key(&None))
    }
}

/// The ready tasks of one class.
#[derive(Debug, Default)]
pub(super) struct ReadyQueue {
    levels: BTreeMap<Reverse<i32>, Level>,
    by_arrival: BTreeMap<u64, (Reverse<i32>, u64)>,
    passed_over: u32,
}

impl ReadyQueue {
    pub fn is_empty(&self) -> bool {
        self.by_arrival.is_empty()
    }

    /// The turn of a task that comes now; `returns`: it stood in the queue before and goes to the front of its flow.
    pub fn turn_of(&self, priority: i32, flow: &FlowName, weight: u32, returns: bool) -> u64 {
        let Some(level) = self.levels.get(&Reverse(priority)) else {
            return if flow.is_some() && !returns { TURN / u64::from(weight.max(1)) } else { 0 };
        };
        if returns {
            return level.served;
        }
        let last = level.flows.get(flow).and_then(|turns| turns.last()).map_or(0, |(turn, _)| *turn).max(level.served);
        if flow.is_none() && !level.has_named_flows() {
            return last;
        }
        last + TURN / u64::from(weight.max(1))
    }

    /// Adds a task. False when its place is taken.
    pub fn insert(&mut self, key: QueueKey, task: TaskAt, flow: FlowName) -> bool {
        let (priority, turn, arrival) = key;
        if self.by_arrival.contains_key(&arrival) {
            return false;
        }
        self.by_arrival.insert(arrival, (priority, turn));
        let level = self.levels.entry(priority).or_default();
        level.flows.entry(flow.clone()).or_default().insert((turn, arrival));
        level.tasks.insert((turn, arrival), (task, flow));
        true
    }

    /// Takes a task out. `None` when it is not there. Says whether something is forgotten that was remembered.
    pub fn remove(&mut self, key: QueueKey) -> Option<bool> {
        let (priority, turn, arrival) = key;
        let level = self.levels.get_mut(&priority)?;
        let (_, flow) = level.tasks.remove(&(turn, arrival))?;
        if let Some(turns) = level.flows.get_mut(&flow) {
            turns.remove(&(turn, arrival));
            if turns.is_empty() {
                level.flows.remove(&flow);
            }
        }
        let was_oldest = self.by_arrival.first_key_value().is_some_and(|(oldest, _)| *oldest == arrival);
        self.by_arrival.remove(&arrival);
        let mut forgets = was_oldest && std::mem::take(&mut self.passed_over) > 0;
        if level.tasks.is_empty() {
            forgets |= level.served > 0;
            self.levels.remove(&priority);
        }
        Some(forgets)
    }

    /// The place that is served next: of the greatest priority, or of that of the oldest task when it was passed over too often.
    pub fn next(&self) -> Option<QueueKey> {
        let priority = if self.is_overdue() { self.by_arrival.first_key_value()?.1.0 } else { *self.levels.first_key_value()?.0 };
        let (turn, arrival) = *self.levels.get(&priority)?.tasks.first_key_value()?.0;
        Some((priority, turn, arrival))
    }

    /// Whether the oldest task was passed over often enough.
    pub fn is_overdue(&self) -> bool {
        self.passed_over >= PASSED_OVER_MAX
    }

    /// The priority and arrival of the oldest task.
    pub fn oldest(&self) -> Option<(Reverse<i32>, u64)> {
        self.by_arrival.first_key_value().map(|(arrival, (priority, _))| (*priority, *arrival))
    }

    /// Takes the task at a place because its turn has come.
    pub fn serve(&mut self, key: QueueKey) -> Option<TaskAt> {
        let level = self.levels.get_mut(&key.0)?;
        let task = level.tasks.get(&(key.1, key.2))?.0;
        if level.has_named_flows() {
            level.served = level.served.max(key.1);
        }
        if self.is_overdue() {
            self.passed_over = 0;
        }
        self.remove(key);
        Some(task)
    }

    /// A task of this priority, here or in another class, was served before the oldest one. Says whether that counts.
    pub fn passed(&mut self, priority: Reverse<i32>) -> bool {
        // A greater priority comes first in this order.
        let counts = self.oldest().is_some_and(|(oldest, _)| priority < oldest) && self.passed_over < PASSED_OVER_MAX;
        self.passed_over += u32::from(counts);
        counts
    }

    /// How many are before a place. O(n): for people who ask why.
    pub fn ahead_count(&self, key: QueueKey) -> usize {
        let before: usize = self.levels.range(..key.0).map(|(_, level)| level.tasks.len()).sum();
        before + self.levels.get(&key.0).map_or(0, |level| level.tasks.range(..(key.1, key.2)).count())
    }

    /// What is not said by the tasks.
    pub fn turns(&self) -> Turns {
        let served = self.levels.iter().filter(|(_, level)| level.served > 0).map(|(priority, level)| (priority.0, level.served));
        Turns { passed_over: self.passed_over, served: served.collect() }
    }

    /// Takes over what a checkpoint says; the tasks follow.
    pub fn restore(&mut self, turns: &Turns) {
        self.passed_over = turns.passed_over;
        for (priority, served) in &turns.served {
            self.levels.entry(Reverse(*priority)).or_default().served = *served;
        }
    }
}

impl Serialize for ReadyQueue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tasks: Vec<_> = self.levels.iter().flat_map(|(priority, level)| level.tasks.iter().map(move |task| (priority, task))).collect();
        (tasks, self.turns()).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use distric_model::{InstanceId, Slot, Timestamp};

    use super::*;

    fn task(number: u64) -> TaskAt {
        TaskAt { instance: InstanceId::new(Timestamp::from_us(1), Slot::truncate(0), number), index: 0 }
    }

    fn flow(name: &str) -> FlowName {
        (!name.is_empty()).then(|| Arc::new((Namespace::default(), Arc::from(name))))
    }

    struct Line {
        queue: ReadyQueue,
        arrivals: u64,
        of: BTreeMap<TaskAt, (String, i32, u64)>,
    }

    impl Line {
        fn new() -> Self {
            Self { queue: ReadyQueue::default(), arrivals: 0, of: BTreeMap::new() }
        }

        fn come(&mut self, name: &str, weight: u32, priority: i32) {
            self.arrivals += 1;
            let turn = self.queue.turn_of(priority, &flow(name), weight, false);
            self.of.insert(task(self.arrivals), (name.to_owned(), priority, self.arrivals));
            assert!(self.queue.insert((Reverse(priority), turn, self.arrivals), task(self.arrivals), flow(name)));
        }

        fn serve(&mut self) -> (String, i32, u64) {
            let key = self.queue.next().expect("somebody waits");
            let task = self.queue.serve(key).expect("who is next is there");
            self.queue.passed(key.0);
            self.of[&task].clone()
        }
    }

    #[test]
    fn keys_take_turns_by_weight_whoever_came_first_and_however_many_they_are() {
        let mut line = Line::new();
        (0..300).for_each(|_| line.come("heavy", 1, 0));
        (0..300).for_each(|_| line.come("paid", 3, 0));
        let served: Vec<String> = (0..200).map(|_| line.serve().0).collect();
        let paid = served.iter().filter(|name| *name == "paid").count();
        assert!((149..=151).contains(&paid), "{paid} of 200");
        // One who always comes back alone has no more than its share.
        let mut alone = 0;
        for _ in 0..100 {
            line.come("alone", 1, 0);
            while line.serve().0 != "alone" {
                alone += 1;
            }
        }
        assert!(alone >= 100, "others were served {alone} times meanwhile");
    }

    #[test]
    fn without_keys_the_order_is_that_of_arrival() {
        let mut line = Line::new();
        (0..50).for_each(|n| line.come("", 1, n % 3));
        let served: Vec<(i32, u64)> = (0..50).map(|_| line.serve()).map(|(_, priority, arrival)| (priority, arrival)).collect();
        for level in 0..3 {
            let arrivals: Vec<u64> = served.iter().filter(|(priority, _)| *priority == level).map(|(_, arrival)| *arrival).collect();
            assert!(arrivals.is_sorted(), "{arrivals:?}");
        }
        assert!(served[..15].iter().all(|(priority, _)| *priority == 2), "{served:?}");
    }

    #[test]
    fn no_priority_starves() {
        let mut line = Line::new();
        line.come("", 1, 0);
        line.come("", 1, 5);
        let mut waits = 0;
        loop {
            line.come("", 1, 10);
            match line.serve().1 {
                10 => waits += 1,
                0 => break,
                _ => {}
            }
            assert!(waits < 100, "the least priority starves");
        }
        assert_eq!(waits, PASSED_OVER_MAX as usize, "it is served as soon as it was passed over often enough");
    }

    #[test]
    fn a_task_that_returns_stands_in_front_and_one_that_leaves_leaves_nothing() {
        let mut line = Line::new();
        (0..3).for_each(|_| line.come("a", 1, 0));
        let key = line.queue.next().unwrap();
        line.queue.serve(key);
        let turn = line.queue.turn_of(0, &flow("a"), 1, true);
        line.queue.insert((Reverse(0), turn, key.2), task(key.2), flow("a"));
        assert_eq!(line.queue.next().unwrap().2, key.2);
        while let Some(key) = line.queue.next() {
            assert!(line.queue.remove(key).is_some());
        }
        assert!(line.queue.is_empty() && line.queue.turns().is_none() && line.queue.remove(key).is_none());
    }
}
