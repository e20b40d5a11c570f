//! The files of a segment store, and every call that changes one.
//!
//! `{generation}.segment` is a segment with a sound header page, filled with zeros behind what is written.
//! `*.free` is a file without meaning: one being filled with zeros, or one given up that keeps its blocks for the next life.
//! A file changes its meaning by a rename, made durable before anything relies on it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::directory;
use crate::error::DeviceError;

/// The directory of a store.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    /// Held open: its lock keeps other processes out.
    _lock: File,
}

/// What lies in the directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub segments: BTreeMap<u32, PathBuf>,
    pub free: Vec<PathBuf>,
}

impl Files {
    /// Makes the directory if need be, and locks it.
    pub fn open(dir: &Path) -> Result<Self, DeviceError> {
        fs::create_dir_all(dir).map_err(|source| io_error("create directory", dir, source))?;
        let lock = directory::lock(dir).map_err(|source| io_error("lock", dir, source))?;
        directory::sync_with_parent(dir).map_err(|source| io_error("sync directory", dir, source))?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn list(&self) -> Result<Listing, DeviceError> {
        let failed = |source| io_error("list", &self.dir, source);
        let mut found = Listing::default();
        for item in fs::read_dir(&self.dir).map_err(failed)? {
            let path = item.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(number) = name.strip_suffix(SEGMENT_SUFFIX) {
                let generation = u32::from_str_radix(number, 16).ok().filter(|generation| name == segment_name(*generation));
                let generation = generation.ok_or_else(|| damaged(&path, "no segment has this name".to_owned()))?;
                found.segments.insert(generation, path);
            } else if name.ends_with(FREE_SUFFIX) {
                found.free.push(path);
            }
        }
        found.free.sort();
        Ok(found)
    }

    /// What the disk has left for this process.
    pub fn available_bytes(&self) -> Result<u64, DeviceError> {
        let found = rustix::fs::statvfs(&self.dir).map_err(|source| io_error("ask for free space", &self.dir, source.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    pub fn segment_path(&self, generation: u32) -> PathBuf {
        self.dir.join(segment_name(generation))
    }

    /// The name of a file that had been that segment.
    pub fn free_path(&self, generation: u32) -> PathBuf {
        self.dir.join(format!("{generation:08x}{FREE_SUFFIX}"))
    }

    /// The name of a file that has never been a segment, made to become that one.
    pub fn new_path(&self, generation: u32) -> PathBuf {
        self.dir.join(format!("{NEW_PREFIX}{generation:08x}{FREE_SUFFIX}"))
    }

    /// Renames, durably.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), DeviceError> {
        fs::rename(from, to).map_err(|source| io_error("rename", from, source))?;
        seen(Step::Name);
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(|source| io_error("sync directory", &self.dir, source))?;
        seen(Step::NamesAreDurable);
        Ok(())
    }

    /// Removes a free file. Not durable by itself: a free file that comes back has no meaning either.
    pub fn remove(&self, path: &Path) -> Result<(), DeviceError> {
        fs::remove_file(path).map_err(|source| io_error("remove", path, source))?;
        seen(Step::Name);
        Ok(())
    }
}

/// Opens for reading and writing.
pub(super) fn open(path: &Path) -> Result<File, DeviceError> {
    File::options().read(true).write(true).open(path).map_err(|source| io_error("open", path, source))
}

/// Makes a new file.
pub(super) fn create(path: &Path) -> Result<File, DeviceError> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
    seen(Step::Name);
    file.map_err(|source| io_error("create", path, source))
}

pub(super) fn length(file: &File, path: &Path) -> Result<u64, DeviceError> {
    file.metadata().map(|data| data.len()).map_err(|source| io_error("ask for the length", path, source))
}

pub(super) fn write(file: &File, path: &Path, bytes: &[u8], at: u64) -> Result<(), DeviceError> {
    file.write_all_at(bytes, at).map_err(|source| io_error("write", path, source))?;
    seen(Step::Content);
    Ok(())
}

/// Writes zeros over `from..upto` of a file and flushes them, its length too if it grew.
pub(super) fn write_zeros(file: &File, path: &Path, from: u64, upto: u64) -> Result<(), DeviceError> {
    let zeros = vec![0_u8; usize::try_from(upto - from).map_or(ZEROS_BYTES, |bytes| bytes.min(ZEROS_BYTES))];
    let mut at = from;
    while at < upto {
        let count = usize::try_from(upto - at).map_or(ZEROS_BYTES, |rest| rest.min(ZEROS_BYTES));
        file.write_all_at(&zeros[..count], at).map_err(|source| io_error(PREPARE, path, source))?;
        at += count as u64;
    }
    seen(Step::Content);
    flush(file, path)
}

/// Makes the content durable, and with it what is needed to read it. Never tried again after a failure.
pub(super) fn flush(file: &File, path: &Path) -> Result<(), DeviceError> {
    file.sync_data().map_err(|source| io_error("flush", path, source))?;
    seen(Step::ContentIsDurable(path));
    Ok(())
}

pub(super) fn io_error(op: &'static str, path: &Path, source: io::Error) -> DeviceError {
    DeviceError::Io { op, path: path.to_owned(), source }
}

pub(super) fn damaged(path: &Path, reason: String) -> DeviceError {
    DeviceError::Damaged { path: path.to_owned(), reason }
}

/// Whether a free file once was a segment.
pub(super) fn was_segment(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| !name.starts_with(NEW_PREFIX))
}

fn segment_name(generation: u32) -> String {
    format!("{generation:08x}{SEGMENT_SUFFIX}")
}

/// Eight bytes that no earlier life of a file has had.
pub(super) fn draw_nonce() -> Result<u64, DeviceError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 8];
    let drawn = File::open(path).and_then(|mut source| io::Read::read_exact(&mut source, &mut bytes));
    drawn.map_err(|source| io_error("draw a nonce", path, source))?;
    Ok(u64::from_le_bytes(bytes))
}

/// What was just done to the directory, for tests that cut the power behind every step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    Name,
    NamesAreDurable,
    Content,
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests look at it"))]
    ContentIsDurable(&'a Path),
}

#[cfg(not(test))]
fn seen(_step: Step<'_>) {}

#[cfg(test)]
fn seen(step: Step<'_>) {
    super::tests::crash::observe(step);
}

/// What [`write_zeros`] says it was doing.
pub(super) const PREPARE: &str = "prepare";
const SEGMENT_SUFFIX: &str = ".segment";
const FREE_SUFFIX: &str = ".free";
const NEW_PREFIX: &str = "new-";
/// Written by one call.
const ZEROS_BYTES: usize = 1 << 20;
