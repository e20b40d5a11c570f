//! Tracked collections: what changed in them since the last checkpoint is known without looking at the rest.
//!
//! Invariant: whoever could have changed a value has left its key in `dirty`: there is no way to a `&mut` value that does not.
//! Invariant: before the first checkpoint nothing is tracked, so that a machine that is never asked for one pays nothing.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeBounds;

use distric_model::Change;
use serde::{Serialize, Serializer};

/// Dirty keys beyond those of the map that are tolerated before stale ones are cleared away.
const DIRTY_SLACK: usize = 1_024;

#[derive(Debug)]
struct Record<V> {
    value: V,
    /// Its key is in `dirty`.
    is_dirty: bool,
    /// A checkpoint has it.
    is_stored: bool,
}

/// Boxed: nodes of a map that is filled in order are little more than half full, and the empty rest is paid for.
type Slot<V> = Box<Record<V>>;

/// An ordered map that knows which of its records changed.
#[derive(Debug)]
pub(in crate::machine) struct Tracked<K, V> {
    map: BTreeMap<K, Slot<V>>,
    is_tracking: bool,
    /// Keys of changed records; some may be gone meanwhile.
    dirty: Vec<K>,
    /// Keys of stored records that are gone: at most as many as the last checkpoint held.
    removed: Vec<K>,
}

impl<K, V> Default for Tracked<K, V> {
    fn default() -> Self {
        Self { map: BTreeMap::new(), is_tracking: false, dirty: Vec::new(), removed: Vec::new() }
    }
}

impl<K: Ord + Clone, V> Tracked<K, V> {
    /// A map of restored records: all of them are stored.
    pub fn restored(records: BTreeMap<K, V>) -> Self {
        let slot = |(key, value)| (key, Box::new(Record { value, is_dirty: false, is_stored: true }));
        Self { map: records.into_iter().map(slot).collect(), is_tracking: true, dirty: Vec::new(), removed: Vec::new() }
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key).map(|slot| &slot.value)
    }

    pub fn contains_key(&self, key: &K) -> bool {
        self.map.contains_key(key)
    }

    /// The value, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let slot = self.map.get_mut(key)?;
        if self.is_tracking && !slot.is_dirty {
            slot.is_dirty = true;
            self.dirty.push(key.clone());
        }
        Some(&mut slot.value)
    }

    /// The value, to change in it only what a restore derives from other records.
    pub fn get_mut_derived(&mut self, key: &K) -> Option<&mut V> {
        self.map.get_mut(key).map(|slot| &mut slot.value)
    }

    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.is_tracking {
            self.dirty.push(key.clone());
        }
        let is_dirty = self.is_tracking;
        let old = self.map.insert(key.clone(), Box::new(Record { value, is_dirty, is_stored: false }));
        if let Some(old) = &old
            && old.is_stored
            && let Some(slot) = self.map.get_mut(&key)
        {
            slot.is_stored = true;
        }
        self.clear_stale();
        old.map(|slot| slot.value)
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let slot = self.map.remove(key)?;
        if slot.is_stored {
            self.removed.push(key.clone());
        }
        Some(slot.value)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.map.iter().map(|(key, slot)| (key, &slot.value))
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.map.values().map(|slot| &slot.value)
    }

    pub fn range<R: RangeBounds<K>>(&self, range: R) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.map.range(range).map(|(key, slot)| (key, &slot.value))
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// A checkpoint has all that is here.
    pub fn mark_stored(&mut self) {
        self.is_tracking = true;
        self.map.values_mut().for_each(|slot| (slot.is_dirty, slot.is_stored) = (false, true));
        self.dirty.clear();
        self.removed.clear();
    }

    /// Tells what changed since the last call: everything, the first time. `key_of` and `value_of` make the record; `value_of` may tell
    /// more of it to `out`.
    pub fn take_changes(
        &mut self,
        out: &mut Vec<Change>,
        key_of: impl Fn(&K) -> Vec<u8>,
        mut value_of: impl FnMut(&K, &mut V, &mut Vec<Change>) -> Vec<u8>,
    ) {
        // What is gone comes first: a key may be there again.
        out.extend(self.removed.drain(..).map(|key| Change::removed(key_of(&key))));
        let mut write = |key: &K, slot: &mut Slot<V>, out: &mut Vec<Change>| {
            (slot.is_dirty, slot.is_stored) = (false, true);
            let value = value_of(key, &mut slot.value, out);
            out.push(Change::put(key_of(key), value));
        };
        if self.is_tracking {
            for key in std::mem::take(&mut self.dirty) {
                // A key that is in the list twice is clean the second time.
                if let Some(slot) = self.map.get_mut(&key).filter(|slot| slot.is_dirty) {
                    write(&key, slot, out);
                }
            }
        } else {
            self.is_tracking = true;
            self.map.iter_mut().for_each(|(key, slot)| write(key, slot, out));
        }
    }

    /// Keeps the list of dirty keys within the map's own size, whoever inserts and removes how often.
    fn clear_stale(&mut self) {
        if self.dirty.len() > 2 * self.map.len() + DIRTY_SLACK {
            let map = &self.map;
            self.dirty.sort_unstable();
            self.dirty.dedup();
            self.dirty.retain(|key| map.get(key).is_some_and(|slot| slot.is_dirty));
        }
    }
}

impl<K: Serialize, V: Serialize> Serialize for Tracked<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.map.iter().map(|(key, slot)| (key, &slot.value)))
    }
}

/// A queue whose items are numbered as they come. Records are never changed, only added behind and removed in front.
#[derive(Debug)]
pub(in crate::machine) struct TrackedQueue<T> {
    items: VecDeque<T>,
    /// The number of the first item.
    first: u64,
    /// The numbers that a checkpoint has: from, and up to but without.
    stored: (u64, u64),
}

impl<T> Default for TrackedQueue<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), first: 0, stored: (0, 0) }
    }
}

impl<T> TrackedQueue<T> {
    /// A queue of restored items, `first` being the number of the first of them, or of the next to come.
    pub fn restored(first: u64, items: VecDeque<T>) -> Self {
        let next = first + items.len() as u64;
        Self { items, first, stored: (first, next) }
    }

    /// The number of the next item to come.
    pub fn next(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    pub fn push_back(&mut self, item: T) {
        self.items.push_back(item);
    }

    pub fn extend(&mut self, items: impl Iterator<Item = T>) {
        self.items.extend(items);
    }

    pub fn pop_front(&mut self) -> Option<T> {
        let item = self.items.pop_front()?;
        self.first += 1;
        Some(item)
    }

    pub fn front(&self) -> Option<&T> {
        self.items.front()
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// A checkpoint has all that is here.
    pub fn mark_stored(&mut self) {
        self.stored = (self.first, self.next());
    }

    /// Tells what came and went since the last call.
    pub fn take_changes(&mut self, out: &mut Vec<Change>, key_of: impl Fn(u64) -> Vec<u8>, value_of: impl Fn(&T) -> Vec<u8>) {
        let (stored_first, stored_next) = self.stored;
        out.extend((stored_first..stored_next.min(self.first)).map(|number| Change::removed(key_of(number))));
        let new_first = stored_next.max(self.first);
        for (number, item) in (new_first..).zip(self.items.range((new_first - self.first) as usize..)) {
            out.push(Change::put(key_of(number), value_of(item)));
        }
        self.stored = (self.first, self.next());
    }
}

impl<T: Serialize> Serialize for TrackedQueue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.first, &self.items).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(map: &mut Tracked<u8, u32>) -> Vec<(u8, Option<u8>)> {
        let mut out = Vec::new();
        map.take_changes(&mut out, |key| vec![*key], |_, value, _| vec![*value as u8]);
        out.into_iter().map(|change| (change.key[0], change.value.map(|value| value[0]))).collect()
    }

    #[test]
    fn a_map_tells_each_change_once_and_nothing_that_did_not_change() {
        let mut map = Tracked::default();
        map.insert(1, 10);
        map.insert(2, 20);
        assert_eq!(changes(&mut map), [(1, Some(10)), (2, Some(20))], "the first time, everything");
        assert_eq!(changes(&mut map), []);
        *map.get_mut(&2).unwrap() = 21;
        *map.get_mut(&2).unwrap() = 22;
        map.remove(&1);
        map.insert(3, 30);
        map.remove(&3);
        assert_eq!(changes(&mut map), [(1, None), (2, Some(22))], "what came and went is not told");
        map.remove(&2);
        map.insert(2, 23);
        assert_eq!(changes(&mut map), [(2, None), (2, Some(23))], "the later one counts");
        map.insert(2, 24);
        map.remove(&2);
        assert_eq!(changes(&mut map), [(2, None)], "it was stored, whoever replaced it");
    }

    #[test]
    fn what_comes_and_goes_between_two_checkpoints_leaves_no_trace() {
        let mut map = Tracked::default();
        changes(&mut map);
        for number in 0..100_000_u32 {
            map.insert((number % 7) as u8, number);
            map.remove(&((number % 7) as u8));
        }
        assert!(map.dirty.len() <= 2 * DIRTY_SLACK && map.removed.is_empty());
        assert_eq!(changes(&mut map), []);
    }

    #[test]
    fn a_queue_tells_what_came_and_what_went() {
        let mut queue = TrackedQueue::default();
        let changes = |queue: &mut TrackedQueue<u8>| {
            let mut out = Vec::new();
            queue.take_changes(&mut out, |number| vec![number as u8 + 1], |item| vec![*item]);
            out.into_iter().map(|change| (change.key[0], change.value.map(|value| value[0]))).collect::<Vec<_>>()
        };
        queue.extend([10, 11, 12].into_iter());
        queue.pop_front();
        assert_eq!(changes(&mut queue), [(2, Some(11)), (3, Some(12))]);
        queue.pop_front();
        queue.push_back(13);
        assert_eq!(changes(&mut queue), [(2, None), (4, Some(13))]);
        queue.pop_front();
        queue.pop_front();
        queue.push_back(14);
        queue.pop_front();
        assert_eq!(changes(&mut queue), [(3, None), (4, None)]);
        assert_eq!((queue.next(), queue.len()), (5, 0));
        assert_eq!(changes(&mut queue), []);
    }
}
