//! Scheduling of the log writer, whom a busy core delays more than the disk does, and of work that can wait, a little or for long.
//!
//! A woken thread of normal priority waits for the running one's slice, up to a tick. Real-time scheduling ends that where it is
//! permitted; a short slice (Linux 6.12 and later, no privilege needed) mends the median where it is not.

/// What the kernel granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// SCHED_FIFO, lowest real-time priority.
    RealTime,
    /// A slice of [`SLICE_NS`] under the fair scheduler.
    ShortSlice,
    /// Nothing.
    Normal,
}

impl Granted {
    /// For the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RealTime => "fifo",
            Self::ShortSlice => "short_slice",
            Self::Normal => "normal",
        }
    }
}

/// The slice asked for, nanoseconds: the shortest that the kernel takes.
pub const SLICE_NS: u64 = 100_000;

/// `struct sched_attr` of sched_setattr(2), first version.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    sched_policy: u32,
    sched_flags: u64,
    sched_nice: i32,
    sched_priority: u32,
    sched_runtime: u64,
    sched_deadline: u64,
    sched_period: u64,
}

const SCHED_OTHER: u32 = 0;
const SCHED_FIFO: u32 = 1;
const SCHED_IDLE: u32 = 5;
/// Children start with normal scheduling again.
const SCHED_FLAG_RESET_ON_FORK: u64 = 1;

/// Asks the kernel for the best that the calling thread may have, and says what it got.
pub fn request_low_latency() -> Granted {
    let fifo = SchedAttr { sched_policy: SCHED_FIFO, sched_priority: 1, sched_flags: SCHED_FLAG_RESET_ON_FORK, ..SchedAttr::default() };
    if set_own(fifo) {
        return Granted::RealTime;
    }
    let slice = SchedAttr { sched_policy: SCHED_OTHER, sched_runtime: SLICE_NS, ..SchedAttr::default() };
    if set_own(slice) { Granted::ShortSlice } else { Granted::Normal }
}

/// How nice work is that somebody waits for, but for which no message should wait: a ninth of a core that is busy otherwise.
const BACKGROUND_NICE: i32 = 10;

/// Has the calling thread, and the threads that it starts, give way to others; whether the kernel agreed.
pub fn request_background() -> bool {
    set_own(SchedAttr { sched_policy: SCHED_OTHER, sched_nice: BACKGROUND_NICE, ..SchedAttr::default() })
}

/// Has the calling thread run only where nobody else wants to; whether the kernel agreed.
pub fn request_idle() -> bool {
    set_own(SchedAttr { sched_policy: SCHED_IDLE, ..SchedAttr::default() })
}

fn set_own(attributes: SchedAttr) -> bool {
    let attributes = SchedAttr { size: size_of::<SchedAttr>() as u32, ..attributes };
    // SAFETY: sched_setattr reads `size` bytes from the pointer, which lives across the call and has that size; thread id 0 is
    // the caller; nothing is written to our memory.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(&attributes), 0) == 0 }
}
