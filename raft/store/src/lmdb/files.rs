//! What every LMDB environment of ours has in common: its files, its two databases, its format version, its errors.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use heed::types::Bytes as ByteSlice;
use heed::{CommitOrAbort, Database, Env, MdbError, WithoutTls};

use crate::error::DeviceError;

/// One of the databases of an environment: bytes to bytes.
pub(crate) type Records = Database<'static, ByteSlice, ByteSlice>;

/// Where an environment is, and what it may take.
pub(crate) struct Files {
    pub dir: PathBuf,
    pub data: PathBuf,
    /// The map grows up to this.
    pub map_bytes_max: u64,
}

impl Files {
    pub fn new(dir: &Path, map_bytes_max: u64) -> Self {
        Self { dir: dir.to_owned(), data: dir.join("data.mdb"), map_bytes_max }
    }

    pub fn io(&self, op: &'static str, source: io::Error) -> DeviceError {
        DeviceError::Io { op, path: self.dir.clone(), source }
    }

    pub fn damaged(&self, reason: String) -> DeviceError {
        DeviceError::Damaged { path: self.data.clone(), reason }
    }

    pub fn engine(&self, op: &'static str, error: heed::Error) -> DeviceError {
        match error {
            heed::Error::Io(source) => DeviceError::Io { op, path: self.data.clone(), source },
            heed::Error::Mdb(MdbError::MapFull) => DeviceError::Full { op, path: self.data.clone(), limit_bytes: self.map_bytes_max },
            other => self.damaged(format!("{op}: {other}")),
        }
    }

    /// A file that was cut short would end the process with a signal at the first touch of a lost page.
    pub fn assert_whole(&self, env: &Env<WithoutTls>) -> Result<(), DeviceError> {
        let wanted = (env.info().last_page_number as u64 + 1) * PAGE_BYTES;
        let found = fs::metadata(&self.data).map_err(|source| self.io("stat", source))?.len();
        if found < wanted { Err(self.damaged(format!("{found} bytes long, {wanted} are in use"))) } else { Ok(()) }
    }
}

/// Opens both databases. A new environment gets them and the format version in one commit; in an old one the
/// version is checked before anything else is read.
pub(crate) fn found_or_check(env: &Env<WithoutTls>, files: &Files, records: &str) -> Result<(Records, Records), DeviceError> {
    let txn = env.write_txn().map_err(|error| files.engine("open", error))?;
    let mut format = Ok(());
    let opened = env
        .create_databases_and_commit(txn, |opener, txn| {
            let meta = opener.create_database::<ByteSlice, ByteSlice>(txn, Some("meta"))?;
            let log = opener.create_database::<ByteSlice, ByteSlice>(txn, Some(records))?;
            match meta.get(txn, FORMAT_KEY)? {
                Some(bytes) => format = check_format(bytes).map_err(|found| (found, bytes.len())),
                None if meta.is_empty(txn)? && log.is_empty(txn)? => meta.put(txn, FORMAT_KEY, &FORMAT.to_le_bytes())?,
                None => format = Err((None, 0)),
            }
            Ok::<_, heed::Error>(if format.is_ok() { CommitOrAbort::Commit((log, meta)) } else { CommitOrAbort::Abort(()) })
        })
        .map_err(|error| files.engine("open", error))?;
    match (opened, format) {
        (CommitOrAbort::Commit(databases), Ok(())) => Ok(databases),
        (_, Err((Some(found), _))) => Err(DeviceError::NewerFormat { found, supported: FORMAT }),
        (_, Err((None, bytes))) => Err(files.damaged(format!("a format record of {bytes} bytes"))),
        (CommitOrAbort::Abort(()), Ok(())) => Err(files.damaged("opening was given up".to_owned())),
    }
}

/// Errors: the version, if it is a later one; nothing, if it is no version.
fn check_format(bytes: &[u8]) -> Result<(), Option<u32>> {
    let found = u32::from_le_bytes(bytes.try_into().map_err(|_| None)?);
    match found {
        0 => Err(None),
        _ if found > FORMAT => Err(Some(found)),
        _ => Ok(()),
    }
}

/// The layout of these environments. Raised when an older program could not read what this one writes.
pub(crate) const FORMAT: u32 = 1;
pub(crate) const FORMAT_KEY: &[u8] = b"format";
/// LMDB takes the system's page size; only used to estimate, and to notice a cut file.
pub(crate) const PAGE_BYTES: u64 = 4_096;
