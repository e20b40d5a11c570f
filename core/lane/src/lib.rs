//! Lanes: how the cores of one node talk, and the doorbell that wakes one that sleeps.
//!
//! In: values pushed by one thread.  Out: the same values, in order, on one other thread.
//! May touch: atomics, one pair of sockets per doorbell.  Never: locks, other rooms.
//! Invariant: a value is received exactly once, in the order in which it was pushed.
//! Invariant: a receiver that parks after [`Sleeper::prepare`] said `true` is woken by any later [`Bell::ring`].
//! Source: Lamport 1983 for the ring; the sleeping flag is Dekker's store-load handshake with a full fence.
//! Checked by: the loom models in `tests/` (`RUSTFLAGS="--cfg loom" cargo test -p distric-lane`).
//! Start reading at [`lane`].

mod doorbell;
mod ring_unsafe;

pub use doorbell::{Bell, Flag, Sleeper, doorbell};
pub use ring_unsafe::{Receiver, Sender, lane};

/// Atomics of the standard library, or loom's where a model is being checked.
mod atomic {
    #[cfg(loom)]
    pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
    #[cfg(not(loom))]
    pub use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

    #[cfg(loom)]
    pub use loom::{cell::UnsafeCell, sync::Arc};
    #[cfg(not(loom))]
    pub use std::sync::Arc;

    /// `std`'s cell with loom's closures, so that one text serves both.
    #[cfg(not(loom))]
    #[derive(Debug)]
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    #[cfg(not(loom))]
    impl<T> UnsafeCell<T> {
        pub fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }
        pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}
