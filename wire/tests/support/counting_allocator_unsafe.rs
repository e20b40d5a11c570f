//! An allocator that counts, per thread, what it hands out and what comes back.
#![allow(dead_code, reason = "each test asks for its part of it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static LARGEST_BYTES: Cell<usize> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator with a counter in front.
pub struct Counting;

fn note(bytes: usize) {
    LIVE_BYTES.with(|live| live.set(live.get().wrapping_add(bytes as i64)));
    COUNT.with(|count| count.set(count.get() + 1));
    LARGEST_BYTES.with(|largest| largest.set(largest.get().max(bytes)));
}

// SAFETY: every call goes to `System` with the arguments as they came; the counters are plain thread-local cells
// without destructors, so that touching them neither allocates nor runs after they are gone.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.with(|live| live.set(live.get().wrapping_sub(layout.size() as i64)));
        // SAFETY: `pointer` came from `System` with this `layout`, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        LIVE_BYTES.with(|live| live.set(live.get().wrapping_sub(layout.size() as i64)));
        note(bytes);
        // SAFETY: `pointer` came from `System` with this `layout`, as the caller promises.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

/// Runs `work` and returns how often this thread allocated in it, and the largest request in bytes.
pub fn allocations(work: impl FnOnce()) -> (u64, usize) {
    COUNT.with(|count| count.set(0));
    LARGEST_BYTES.with(|largest| largest.set(0));
    work();
    (COUNT.with(Cell::get), LARGEST_BYTES.with(Cell::get))
}

/// Bytes that this thread took and has not given back, as asked for; the allocator's rounding is not in them. Only differences say something.
pub fn live_bytes() -> i64 {
    LIVE_BYTES.with(Cell::get)
}
