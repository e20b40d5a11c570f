//! Zeros ahead of the writer.
//!
//! A file that grows makes every flush wait for the file system's journal as well. Pages written over blocks that
//! already hold zeros only need the data flush: measured twice the throughput and a tenth of the p99 (ext4, virtual disk).
//! Reserving blocks without writing them (`fallocate`) does not help: the conversion of an unwritten extent is a
//! journal entry too.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// Appends zeros until the file is `upto_bytes` long, and flushes them. Returns the file's length. Never writes
/// before the present end, where LMDB's pages are. Errors: what the file system said; room taken by this call is given back then, so that
/// zeros which nobody needs yet do not leave others without any.
pub(super) fn extend_with_zeros(path: &Path, upto_bytes: u64) -> io::Result<u64> {
    let mut file = File::options().write(true).open(path)?;
    let mut at = file.seek(SeekFrom::End(0))?;
    if at >= upto_bytes {
        return Ok(at);
    }
    let before = at;
    let zeros = vec![0_u8; CHUNK_BYTES];
    let mut append = || {
        while at < upto_bytes {
            let count = usize::try_from(upto_bytes - at).map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES));
            file.write_all(&zeros[..count])?;
            at += count as u64;
        }
        file.sync_all()
    };
    let appended = append();
    if appended.is_err() {
        file.set_len(before)?;
    }
    appended.map(|()| at)
}

const CHUNK_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_come_behind_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        std::fs::write(&path, b"page").unwrap();
        assert_eq!(extend_with_zeros(&path, 10).unwrap(), 10);
        assert_eq!(extend_with_zeros(&path, 7).unwrap(), 10);
        assert_eq!(std::fs::read(&path).unwrap(), b"page\0\0\0\0\0\0");
    }
}
