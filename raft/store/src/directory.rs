//! The directory of a store: one process at a time, and names that survive a power cut.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Keeps other processes out for as long as the file is open; the lock goes with the process, however it ends.
pub(crate) fn lock(dir: &Path) -> io::Result<File> {
    let lock = File::options().create(true).truncate(false).write(true).open(dir.join("owner.lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process has this store open")),
        Err(fs::TryLockError::Error(source)) => Err(source),
    }
}

/// Makes the names of new files durable, which syncing the files does not.
pub(crate) fn sync_with_parent(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}
