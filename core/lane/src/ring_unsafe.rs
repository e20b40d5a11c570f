//! The ring under a lane: bounded, single producer, single consumer, no locks.
//!
//! `head` is written by the receiver only, `tail` by the sender only; both count up without wrapping to the
//! capacity, so full and empty differ. Each side keeps its last look at the other's counter and
//! reads the shared one only when that look no longer suffices.

use std::mem::MaybeUninit;

use crate::atomic::{Arc, AtomicUsize, Ordering, UnsafeCell};

/// Keeps the two counters on separate cache lines, so that the sides do not slow each other down.
#[repr(align(128))]
struct Apart<T>(T);

struct Ring<T> {
    head: Apart<AtomicUsize>,
    tail: Apart<AtomicUsize>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: a slot is touched by the sender only while `tail - head < capacity` holds for it, and by the receiver only while it
// lies in `head..tail`; the release store and acquire load of the counters order the two. `T: Send` moves between threads.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as above: shared access never reaches one slot from both sides at once.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T> Ring<T> {
    fn slot(&self, count: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[count & (self.slots.len() - 1)]
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let tail = self.tail.0.load(Ordering::Acquire);
        let mut head = self.head.0.load(Ordering::Acquire);
        while head != tail {
            // SAFETY: both sides are gone (`&mut self`), and slots in `head..tail` were written and not yet taken.
            self.slot(head).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            head = head.wrapping_add(1);
        }
    }
}

/// The pushing end. One owner.
pub struct Sender<T> {
    ring: Arc<Ring<T>>,
    tail: usize,
    head_seen: usize,
}

/// The popping end. One owner.
pub struct Receiver<T> {
    ring: Arc<Ring<T>>,
    head: usize,
    tail_seen: usize,
}

/// Makes a lane for `capacity` values, rounded up to a power of two, at least 1.
///
/// Panics: when `capacity` is above 2^31, which no caller of ours asks for.
pub fn lane<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity <= 1 << 31, "a lane of {capacity} values is not a bound");
    let capacity = capacity.max(1).next_power_of_two();
    let slots = (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let ring = Arc::new(Ring { head: Apart(AtomicUsize::new(0)), tail: Apart(AtomicUsize::new(0)), slots });
    (Sender { ring: ring.clone(), tail: 0, head_seen: 0 }, Receiver { ring, head: 0, tail_seen: 0 })
}

impl<T> Sender<T> {
    /// Pushes one value, or gives it back when the lane is full. The receiver sees it after its next wake-up:
    /// ring its bell once per drained batch, not per value.
    pub fn push(&mut self, value: T) -> Result<(), T> {
        let capacity = self.ring.slots.len();
        if self.tail.wrapping_sub(self.head_seen) == capacity {
            self.head_seen = self.ring.head.0.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.head_seen) == capacity {
                return Err(value);
            }
        }
        // SAFETY: `tail - head < capacity`, so the receiver has left this slot (acquire above), and only this sender writes.
        self.ring.slot(self.tail).with_mut(|slot| unsafe {
            (*slot).write(value);
        });
        self.tail = self.tail.wrapping_add(1);
        self.ring.tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// Takes the oldest value, or `None` when there is none.
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: `head < tail`, so the sender has written this slot (acquire in `is_empty`) and will not touch it
        // again before `head` is past it.
        let value = self.ring.slot(self.head).with_mut(|slot| unsafe { (*slot).assume_init_read() });
        self.head = self.head.wrapping_add(1);
        self.ring.head.0.store(self.head, Ordering::Release);
        Some(value)
    }

    /// Whether nothing waits. Looks at the sender's counter when its last look is used up.
    pub fn is_empty(&mut self) -> bool {
        if self.head == self.tail_seen {
            self.tail_seen = self.ring.tail.0.load(Ordering::Acquire);
        }
        self.head == self.tail_seen
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_gives_the_value_back() {
        let (mut sender, mut receiver) = lane(2);
        assert_eq!(sender.push(1), Ok(()));
        assert_eq!(sender.push(2), Ok(()));
        assert_eq!(sender.push(3), Err(3));
        assert_eq!(receiver.pop(), Some(1));
        assert_eq!(sender.push(3), Ok(()));
        assert_eq!((receiver.pop(), receiver.pop(), receiver.pop()), (Some(2), Some(3), None));
    }

    #[test]
    fn values_left_in_the_lane_are_dropped_once() {
        let witness = std::sync::Arc::new(());
        let (mut sender, receiver) = lane(8);
        for _ in 0..5 {
            sender.push(witness.clone()).unwrap();
        }
        drop((sender, receiver));
        assert_eq!(std::sync::Arc::strong_count(&witness), 1);
    }

    #[test]
    fn every_value_crosses_once_and_in_order() {
        const COUNT: u32 = 200_000;
        let (mut sender, mut receiver) = lane(64);
        let pusher = std::thread::spawn(move || {
            for i in 0..COUNT {
                let mut value = i;
                while let Err(back) = sender.push(value) {
                    value = back;
                    std::thread::yield_now();
                }
            }
        });
        let mut next = 0;
        while next < COUNT {
            match receiver.pop() {
                Some(value) => {
                    assert_eq!(value, next);
                    next += 1;
                }
                None => std::thread::yield_now(),
            }
        }
        pusher.join().unwrap();
        assert_eq!(receiver.pop(), None);
    }
}
