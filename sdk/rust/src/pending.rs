//! What was sent and not yet answered: a table whose message ids lead straight to their slot.
//!
//! Invariant: a message id is never used twice on one table, so a late answer cannot meet another request.

use tokio::time::Instant;

/// Low bits of a message id that are its slot.
const SLOT_BITS: u32 = 16;
/// Most entries, whatever the server grants.
pub(crate) const PENDING_MAX: usize = 1 << SLOT_BITS;

/// One unanswered request.
#[derive(Debug)]
pub(crate) struct Entry<J> {
    id: u64,
    /// Size of its frame.
    pub(crate) bytes: usize,
    pub(crate) sent_at: Instant,
    pub(crate) job: J,
}

/// Unanswered requests by message id. O(1) for everything but [`Pending::drain`].
#[derive(Debug)]
pub(crate) struct Pending<J> {
    slots: Vec<Option<Entry<J>>>,
    free: Vec<u32>,
    sequence: u64,
    bytes: usize,
}

impl<J> Pending<J> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), sequence: 0, bytes: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all frames in it.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The id that the next [`Pending::insert`] uses, or `None` when the table is full.
    pub(crate) fn next_id(&self) -> Option<u64> {
        let slot = match self.free.last() {
            Some(slot) => u64::from(*slot),
            None if self.slots.len() < PENDING_MAX => self.slots.len() as u64,
            None => return None,
        };
        Some((self.sequence + 1) << SLOT_BITS | slot)
    }

    /// Adds a request under the id that [`Pending::next_id`] gave.
    ///
    /// Panics: when the table is full.
    pub(crate) fn insert(&mut self, bytes: usize, sent_at: Instant, job: J) -> u64 {
        let id = self.next_id().expect("the caller asked for an id before it encoded the frame");
        self.sequence += 1;
        self.bytes += bytes;
        let entry = Some(Entry { id, bytes, sent_at, job });
        match self.free.pop() {
            Some(slot) => self.slots[slot as usize] = entry,
            None => self.slots.push(entry),
        }
        id
    }

    /// The request with this id.
    pub(crate) fn find(&mut self, id: u64) -> Option<&mut Entry<J>> {
        self.slots.get_mut(slot_of(id))?.as_mut().filter(|entry| entry.id == id)
    }

    /// Takes the request with this id out.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Entry<J>> {
        self.find(id)?;
        let entry = self.slots[slot_of(id)].take()?;
        self.free.push(slot_of(id) as u32);
        self.bytes -= entry.bytes;
        Some(entry)
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry<J>> {
        self.slots.iter().flatten()
    }

    /// Takes all of them out, in the order in which they were sent. Ids go on from where they were.
    pub(crate) fn drain(&mut self) -> Vec<Entry<J>> {
        let mut entries: Vec<Entry<J>> = self.slots.drain(..).flatten().collect();
        entries.sort_unstable_by_key(|entry| entry.id);
        self.free.clear();
        self.bytes = 0;
        entries
    }
}

fn slot_of(id: u64) -> usize {
    (id & (PENDING_MAX as u64 - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_to_its_request_once_and_is_not_used_again() {
        let mut pending = Pending::new();
        let now = Instant::now();
        let first = pending.insert(10, now, "a");
        let second = pending.insert(20, now, "b");
        assert_eq!((pending.len(), pending.bytes()), (2, 30));
        assert_eq!(pending.remove(first).map(|e| e.job), Some("a"));
        assert!(pending.remove(first).is_none(), "an answer comes once");
        let third = pending.insert(1, now, "c");
        assert_ne!(third, first, "the slot is used again, the id is not");
        assert!(pending.find(first).is_none());
        assert_eq!(pending.find(second).map(|e| e.job), Some("b"));
        assert_eq!(pending.drain().into_iter().map(|e| e.job).collect::<Vec<_>>(), ["b", "c"], "in the order sent");
        assert_eq!((pending.len(), pending.bytes()), (0, 0));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut pending = Pending::new();
        for _ in 0..PENDING_MAX {
            pending.insert(1, Instant::now(), ());
        }
        assert_eq!(pending.next_id(), None);
    }
}
