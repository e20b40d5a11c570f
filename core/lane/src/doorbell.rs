//! The doorbell: a sleeping flag and a byte on a socket pair.
//!
//! The receiver announces that it is about to sleep, looks at its lanes once more, and only then waits for the byte. A sender
//! pushes first and looks at the flag after; the full fences on both sides make it impossible that both miss
//! each other. A socket pair rather than an eventfd, because the shards' runtime has a type for it and none for the other.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use crate::atomic::{Arc, AtomicBool, Ordering, fence};

/// The handshake alone, without the socket; this is what loom checks.
#[derive(Clone, Debug)]
pub struct Flag {
    sleeping: Arc<AtomicBool>,
}

impl Default for Flag {
    fn default() -> Self {
        Self::new()
    }
}

impl Flag {
    /// A flag that says "awake".
    pub fn new() -> Self {
        Self { sleeping: Arc::new(AtomicBool::new(false)) }
    }

    /// Receiver: announces sleep, then asks `nothing_waits` once more. `true` means: wait for the bell now.
    pub fn prepare(&self, nothing_waits: impl FnOnce() -> bool) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if nothing_waits() {
            return true;
        }
        self.sleeping.store(false, Ordering::Relaxed);
        false
    }

    /// Sender: whether the receiver must be woken. At most one sender gets `true` per sleep.
    pub fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        // The load first: an awake receiver costs its senders no exclusive access to the line.
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel)
    }
}

/// A sender's end of a doorbell. Cheap to clone: one per thread that feeds the receiver.
#[derive(Debug)]
pub struct Bell {
    flag: Flag,
    socket: UnixStream,
}

impl Bell {
    /// Wakes the receiver if it sleeps. Call once per turn, after the pushes of that turn.
    pub fn ring(&self) {
        if self.flag.must_wake() {
            // WouldBlock means that unread bytes wake the receiver already; any other error means that it is gone.
            let _ = (&self.socket).write(&[1]);
        }
    }

    /// Another handle to the same bell. Errors: when the process is out of descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { flag: self.flag.clone(), socket: self.socket.try_clone()? })
    }
}

/// The receiver's end of a doorbell.
#[derive(Debug)]
pub struct Sleeper {
    flag: Flag,
    socket: UnixStream,
}

/// Makes a doorbell. Errors: when the process is out of descriptors.
pub fn doorbell() -> io::Result<(Bell, Sleeper)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    let flag = Flag::new();
    Ok((Bell { flag: flag.clone(), socket: ours }, Sleeper { flag, socket: theirs }))
}

impl Sleeper {
    /// As [`Flag::prepare`].
    pub fn prepare(&self, nothing_waits: impl FnOnce() -> bool) -> bool {
        self.flag.prepare(nothing_waits)
    }

    /// Blocks this thread until the bell rings or `timeout_us` microseconds pass (`None`: until it rings).
    /// Only after [`Self::prepare`] said `true`. For threads without a runtime of their own.
    pub fn wait(&self, timeout_us: Option<u64>) {
        let timeout = timeout_us.map(|us| rustix::event::Timespec {
            tv_sec: i64::try_from(us / 1_000_000).unwrap_or(i64::MAX),
            tv_nsec: ((us % 1_000_000) * 1_000) as _,
        });
        let mut fds = [rustix::event::PollFd::new(&self.socket, rustix::event::PollFlags::IN)];
        // An interrupted poll is a spurious wake-up, which every caller must bear anyway.
        let _ = rustix::event::poll(&mut fds, timeout.as_ref());
        self.woken();
        let mut bytes = [0_u8; 64];
        while matches!((&self.socket).read(&mut bytes), Ok(n) if n == bytes.len()) {}
    }

    /// Says that the receiver is awake again, after waiting by other means on [`Self::try_clone_socket`].
    pub fn woken(&self) {
        self.flag.sleeping.store(false, Ordering::Relaxed);
    }

    /// The socket on which a byte arrives when the bell rings. Errors: when the process is out of descriptors.
    pub fn try_clone_socket(&self) -> io::Result<UnixStream> {
        self.socket.try_clone()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::lane;

    #[test]
    fn a_sleeping_receiver_gets_every_value() {
        const COUNT: u32 = 20_000;
        let (mut sender, mut receiver) = lane(16);
        let (bell, sleeper) = doorbell().unwrap();
        let pusher = std::thread::spawn(move || {
            for i in 0..COUNT {
                let mut value = i;
                while let Err(back) = sender.push(value) {
                    value = back;
                    std::thread::yield_now();
                }
                bell.ring();
            }
        });
        for expected in 0..COUNT {
            let value = loop {
                match receiver.pop() {
                    Some(value) => break value,
                    None if sleeper.prepare(|| receiver.is_empty()) => sleeper.wait(None),
                    None => {}
                }
            };
            assert_eq!(value, expected);
        }
        pusher.join().unwrap();
    }

    #[test]
    fn an_awake_receiver_is_not_rung() {
        let (bell, sleeper) = doorbell().unwrap();
        bell.ring();
        let mut byte = [0];
        assert_eq!((&sleeper.socket).read(&mut byte).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(sleeper.prepare(|| true));
        bell.ring();
        bell.ring();
        assert_eq!((&sleeper.socket).read(&mut [0; 8]).unwrap(), 1, "one byte per sleep");
    }
}
