//! One descriptor, borrowed for one system call.

use std::os::fd::{BorrowedFd, RawFd};

/// A view of a descriptor that the caller keeps open for as long as it uses the view.
pub fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: callers pass descriptors of sockets that their own tasks hold open across the call; -1 is never passed, since
    // every one of them comes from an open socket.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
