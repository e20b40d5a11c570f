//! History: the transitions of one instance, bounded, and packed: a dozen bytes each, because every open instance has several.
//!
//! A transition is packed as its kinds of content (one byte), the step of time since the one before, the two states, and what there is of task,
//! attempt, worker and reason. Numbers are LEB128 (the DWARF standard, section 7.6).
//! Invariant: `packed[head..]` is `count` whole transitions.

use std::sync::Arc;

use distric_model::{Timestamp, WorkerId};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::state::State;

/// Most transitions kept per instance; beyond it the oldest goes and is counted.
pub const HISTORY_ENTRIES_MAX: usize = 4_096;
/// Longest reason kept, bytes.
pub(super) const REASON_BYTES_MAX: usize = 1_024;

/// One transition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Transition {
    pub at: Timestamp,
    /// The task's place in the definition; `None` for the instance itself.
    pub task: Option<u16>,
    pub from: State,
    pub to: State,
    pub attempt: u32,
    pub worker: Option<WorkerId>,
    pub reason: Option<Arc<str>>,
}

/// The transitions of one instance, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    packed: Vec<u8>,
    /// Where the oldest begins: the bounds on entries and reasons keep it far within 32 bits.
    head: u32,
    count: u32,
    /// What the oldest one's step of time counts from, and when the newest was.
    oldest_from: Timestamp,
    newest_at: Timestamp,
    dropped_count: u64,
}

impl History {
    /// A history from its record.
    pub fn restored(entries: Vec<Transition>, dropped_count: u64) -> Self {
        let mut history = Self { dropped_count, ..Self::default() };
        history.refill(&entries);
        history
    }

    /// Adds one. Returns the bytes that the history grew by; dropping an old one counts as nothing, to stay on the safe side.
    pub fn push(&mut self, transition: &Transition) -> u64 {
        if self.count as usize >= HISTORY_ENTRIES_MAX {
            self.drop_oldest();
            self.dropped_count += 1;
        }
        self.pack(transition);
        transition.reason.as_ref().map_or(0, |reason| reason.len() as u64) + TRANSITION_BYTES
    }

    /// Gives the tasks other places, those of another version of the definition. What is said of a task without one is dropped.
    pub fn renumber(&mut self, place: impl Fn(u16) -> Option<u16>) {
        let placed = |mut entry: Transition| match entry.task {
            None => Some(entry),
            Some(index) => {
                entry.task = place(index);
                entry.task.is_some().then_some(entry)
            }
        };
        let before = self.count;
        let kept: Vec<Transition> = self.iter().filter_map(placed).collect();
        self.refill(&kept);
        self.dropped_count += u64::from(before - self.count);
    }

    pub fn iter(&self) -> impl Iterator<Item = Transition> + '_ {
        let (mut packed, mut before) = (Packed(&self.packed[self.head as usize..]), self.oldest_from);
        (0..self.count).map(move |_| {
            let transition = packed.transition(before);
            before = transition.at;
            transition
        })
    }

    pub fn dropped_count(&self) -> u64 {
        self.dropped_count
    }

    fn refill(&mut self, entries: &[Transition]) {
        let first = entries.first().map_or_else(Timestamp::default, |entry| entry.at);
        *self = Self { dropped_count: self.dropped_count, oldest_from: first, newest_at: first, ..Self::default() };
        entries.iter().for_each(|entry| self.pack(entry));
    }

    fn pack(&mut self, entry: &Transition) {
        let mut room = Room { bytes: [0; FIXED_BYTES_MAX], used: 0 };
        if self.count == 0 {
            (self.oldest_from, self.newest_at) = (entry.at, entry.at);
        }
        let kind = |has: bool, kind: u8| if has { kind } else { 0 };
        let kinds = kind(entry.task.is_some(), HAS_TASK) | kind(entry.attempt > 0, HAS_ATTEMPT);
        let kinds = kinds | kind(entry.worker.is_some(), HAS_WORKER) | kind(entry.reason.is_some(), HAS_REASON);
        room.put(&[kinds, entry.from as u8, entry.to as u8]);
        // Wrapping, so that even a step back would come out as it went in.
        room.number(entry.at.as_us().wrapping_sub(self.newest_at.as_us()));
        if let Some(task) = entry.task {
            room.number(u64::from(task));
        }
        if entry.attempt > 0 {
            room.number(u64::from(entry.attempt));
        }
        if let Some(worker) = entry.worker {
            room.put(&worker.to_bytes());
        }
        let reason = entry.reason.as_deref().unwrap_or_default().as_bytes();
        if entry.reason.is_some() {
            room.number(reason.len() as u64);
        }
        let wanted = room.used + reason.len();
        if self.packed.capacity() - self.packed.len() < wanted {
            self.packed.drain(..self.head as usize);
            self.head = 0;
            // Less than doubling: most histories are short, and there are as many as instances.
            self.packed.reserve_exact(wanted + self.packed.len() / 4);
        }
        self.packed.extend_from_slice(&room.bytes[..room.used]);
        self.packed.extend_from_slice(reason);
        self.newest_at = entry.at;
        self.count += 1;
    }

    fn drop_oldest(&mut self) {
        let mut packed = Packed(&self.packed[self.head as usize..]);
        self.oldest_from = packed.transition(self.oldest_from).at;
        self.head = (self.packed.len() - packed.0.len()) as u32;
        self.count -= 1;
    }
}

/// As when it was a list: digests and checkpoints do not know that it is packed.
impl Serialize for History {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Entries<'a>(&'a History);
        impl Serialize for Entries<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0.iter())
            }
        }
        let mut fields = serializer.serialize_struct("History", 2)?;
        fields.serialize_field("entries", &Entries(self))?;
        fields.serialize_field("dropped_count", &self.dropped_count)?;
        fields.end()
    }
}

const HAS_TASK: u8 = 1;
const HAS_ATTEMPT: u8 = 2;
const HAS_WORKER: u8 = 4;
const HAS_REASON: u8 = 8;

/// Kinds and states; time, task, attempt and length of the reason as numbers; the worker.
const FIXED_BYTES_MAX: usize = 3 + 4 * NUMBER_BYTES_MAX + 16;
/// A 64-bit number in groups of seven bits.
const NUMBER_BYTES_MAX: usize = 10;

/// Where a transition is packed.
struct Room {
    bytes: [u8; FIXED_BYTES_MAX],
    used: usize,
}

impl Room {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.put(&[number as u8 | 0x80]);
            number >>= 7;
        }
        self.put(&[number as u8]);
    }
}

/// Packed transitions, read from the front. Panics on bytes that [`History::pack`] did not write; no others come here.
struct Packed<'a>(&'a [u8]);

impl<'a> Packed<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.take(1)[0];
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return number;
            }
        }
    }

    /// The next transition, of which the one before was at `before`.
    fn transition(&mut self, before: Timestamp) -> Transition {
        let head = self.take(3);
        let has = |kind| head[0] & kind > 0;
        Transition {
            at: Timestamp::from_us(before.as_us().wrapping_add(self.number())),
            from: State::ALL[usize::from(head[1])],
            to: State::ALL[usize::from(head[2])],
            task: has(HAS_TASK).then(|| self.number() as u16),
            attempt: if has(HAS_ATTEMPT) { self.number() as u32 } else { 0 },
            worker: has(HAS_WORKER).then(|| {
                let id = self.take(16).try_into().expect("sixteen bytes");
                WorkerId::from_bytes(id).expect("it was one when it was packed")
            }),
            reason: has(HAS_REASON).then(|| {
                let length = self.number() as usize;
                Arc::from(std::str::from_utf8(self.take(length)).expect("it was text when it was packed"))
            }),
        }
    }
}

/// What one transition is charged. A constant of the format, not what it takes: replicas of different builds must agree.
const TRANSITION_BYTES: u64 = 64;

/// A reason cut to [`REASON_BYTES_MAX`] at a character boundary.
pub(super) fn reason(text: &str) -> Arc<str> {
    Arc::from(&text[..text.floor_char_boundary(REASON_BYTES_MAX)])
}

#[cfg(test)]
mod tests {
    use distric_model::Slot;
    use proptest::prelude::*;

    use super::*;

    fn transition() -> impl Strategy<Value = Transition> {
        let worker = any::<u64>().prop_map(|number| WorkerId::new(Timestamp::from_us(7), Slot::truncate(3), number));
        let reason = prop::option::of("[a-zäß€]{0,300}").prop_map(|text| text.map(Arc::from));
        let states = (0..State::ALL.len(), 0..State::ALL.len()).prop_map(|(from, to)| (State::ALL[from], State::ALL[to]));
        let fields = (any::<u64>(), prop::option::of(any::<u16>()), states, any::<u32>(), prop::option::of(worker), reason);
        fields.prop_map(|(at, task, (from, to), attempt, worker, reason)| Transition {
            at: Timestamp::from_us(at),
            task,
            from,
            to,
            attempt,
            worker,
            reason,
        })
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out_in_order(all in prop::collection::vec(transition(), 0..40)) {
            let mut history = History::default();
            all.iter().for_each(|entry| { history.push(entry); });
            prop_assert_eq!(history.iter().collect::<Vec<_>>(), all.clone());
            prop_assert_eq!(History::restored(all.clone(), 3).iter().collect::<Vec<_>>(), all.clone());
            history.renumber(|task| (task % 2 == 0).then_some(task / 2));
            let mut rest = all;
            rest.retain(|entry| entry.task.is_none_or(|task| task % 2 == 0));
            rest.iter_mut().for_each(|entry| entry.task = entry.task.map(|task| task / 2));
            prop_assert_eq!(history.iter().collect::<Vec<_>>(), rest);
        }
    }

    #[test]
    fn the_oldest_go_when_it_is_full_and_are_counted() {
        let entry = |number: u64| Transition {
            at: Timestamp::from_us(1_000_000 + number * 300),
            task: Some(number as u16),
            from: State::Ready,
            to: State::Assigned,
            attempt: 1,
            worker: None,
            reason: number.is_multiple_of(7).then(|| Arc::from("because")),
        };
        let mut history = History::default();
        let count = 3 * HISTORY_ENTRIES_MAX as u64 + 5;
        (0..count).for_each(|number| {
            history.push(&entry(number));
        });
        let kept: Vec<_> = (count - HISTORY_ENTRIES_MAX as u64..count).map(entry).collect();
        assert_eq!(history.iter().collect::<Vec<_>>(), kept);
        assert_eq!(history.dropped_count(), count - HISTORY_ENTRIES_MAX as u64);
        assert!(history.packed.capacity() < HISTORY_ENTRIES_MAX * 24, "{}", history.packed.capacity());
    }

    #[test]
    fn a_record_is_the_same_as_that_of_a_list() {
        #[derive(Serialize)]
        struct Listed {
            entries: Vec<Transition>,
            dropped_count: u64,
        }
        let mut history = History::default();
        let entry = Transition {
            at: Timestamp::from_us(5),
            task: None,
            from: State::Scheduled,
            to: State::Running,
            attempt: 0,
            worker: None,
            reason: None,
        };
        history.push(&entry);
        let listed = Listed { entries: vec![entry], dropped_count: 0 };
        assert_eq!(rmp_serde::to_vec(&history).unwrap(), rmp_serde::to_vec(&listed).unwrap());
    }
}
