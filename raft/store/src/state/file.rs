//! A checkpoint as a file, for another node: copied in one read transaction while writes go on, and checked as a whole before use.
//!
//! ```text
//! magic 8 bytes, format u32, group u32, term u64, index u64, membership bytes u32, membership
//! records: key bytes u16 (never 0), value bytes u32, key, value
//! end: 0 u16, records u64, crc u32 over everything before
//! ```
//! Numbers are little-endian.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crc32fast::Hasher;
use distric_model::GroupId;
use distric_model::limits::CHANGE_KEY_BYTES_MAX;
use distric_raft::{LogIndex, Membership, Position, Snapshot, Term};

use super::{OwnedRecord, StateStore};
use crate::error::DeviceError;

/// Copies a group's checkpoint to a file at `path`, which is replaced. Returns what it holds; `None` when there is no checkpoint.
///
/// Errors: a damaged record, or the file cannot be written. Neither is final: the store was only read.
pub fn write_snapshot(store: &dyn StateStore, group: GroupId, path: &Path) -> Result<Option<Snapshot>, DeviceError> {
    let Some(snapshot) = store.snapshot(group).cloned() else { return Ok(None) };
    let failed = |source| DeviceError::Io { op: "write snapshot", path: path.to_owned(), source };
    let mut out = Summed { out: BufWriter::new(File::create(path).map_err(failed)?), crc: Hasher::new() };
    let mut written = out.head(group, &snapshot);
    store.read(group, &mut |records| {
        let mut count = 0_u64;
        for (key, value) in records {
            if written.is_err() {
                return;
            }
            written = out.record(key, value);
            count += 1;
        }
        if written.is_ok() {
            written = out.end(count);
        }
    })?;
    written.map_err(failed)?;
    Ok(Some(snapshot))
}

struct Summed {
    out: BufWriter<File>,
    crc: Hasher,
}

impl Summed {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.out.write_all(bytes)
    }

    fn head(&mut self, group: GroupId, snapshot: &Snapshot) -> io::Result<()> {
        let membership = snapshot.membership.encode();
        self.put(MAGIC)?;
        self.put(&FORMAT.to_le_bytes())?;
        self.put(&group.0.to_le_bytes())?;
        self.put(&snapshot.position.term.0.to_le_bytes())?;
        self.put(&snapshot.position.index.0.to_le_bytes())?;
        self.put(&(membership.len() as u32).to_le_bytes())?;
        self.put(&membership)
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.put(&(key.len() as u16).to_le_bytes())?;
        self.put(&(value.len() as u32).to_le_bytes())?;
        self.put(key)?;
        self.put(value)
    }

    fn end(&mut self, count: u64) -> io::Result<()> {
        self.put(&0_u16.to_le_bytes())?;
        self.put(&count.to_le_bytes())?;
        let crc = self.crc.clone().finalize();
        self.out.write_all(&crc.to_le_bytes())?;
        self.out.flush()
    }
}

/// A checkpoint in a file that was read once from end to end and found sound.
#[derive(Debug)]
pub struct SnapshotFile {
    path: PathBuf,
    bytes: u64,
    group: GroupId,
    snapshot: Snapshot,
    head_bytes: u64,
}

impl SnapshotFile {
    /// Opens and checks the file. Errors: what is wrong with it.
    pub fn open(path: &Path) -> Result<Self, DeviceError> {
        let failed = |source| DeviceError::Io { op: "read snapshot", path: path.to_owned(), source };
        let damaged = |reason: &str| DeviceError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
        let bytes = fs::metadata(path).map_err(failed)?.len();
        let summed = bytes.checked_sub(4).ok_or_else(|| damaged("too short to be a snapshot"))?;
        let mut file = BufReader::with_capacity(READ_BYTES, File::open(path).map_err(failed)?);
        let (mut crc, mut left) = (Hasher::new(), summed);
        let mut buffer = vec![0; READ_BYTES];
        while left > 0 {
            let count = usize::try_from(left.min(READ_BYTES as u64)).expect("it was bounded");
            file.read_exact(&mut buffer[..count]).map_err(failed)?;
            crc.update(&buffer[..count]);
            left -= count as u64;
        }
        let mut stored = [0; 4];
        file.read_exact(&mut stored).map_err(failed)?;
        if u32::from_le_bytes(stored) != crc.finalize() {
            return Err(damaged("the snapshot does not have its checksum"));
        }
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let mut head = [0; HEAD_BYTES];
        file.read_exact(&mut head).map_err(|_| damaged("the snapshot has no head"))?;
        if head[..8] != *MAGIC {
            return Err(damaged("not a snapshot"));
        }
        match u32_at(&head, 8) {
            FORMAT => {}
            found => return Err(DeviceError::NewerFormat { found, supported: FORMAT }),
        }
        let membership_bytes = u32_at(&head, 32);
        if u64::from(membership_bytes) > bytes {
            return Err(damaged("the snapshot's head names more bytes than it has"));
        }
        let mut membership = vec![0; membership_bytes as usize];
        file.read_exact(&mut membership).map_err(|_| damaged("the snapshot's head is cut"))?;
        let membership = Membership::decode(&membership).map_err(|_| damaged("the snapshot's members cannot be read"))?;
        let position = Position::new(Term(u64_at(&head, 16)), LogIndex(u64_at(&head, 24)));
        let head_bytes = HEAD_BYTES as u64 + u64::from(membership_bytes);
        let group = GroupId(u32_at(&head, 12));
        Ok(Self { path: path.to_owned(), bytes, group, snapshot: Snapshot { position, membership }, head_bytes })
    }

    /// Whose checkpoint it is.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// What it holds.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// How long the file is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The records, in the order of their keys. The iterator ends behind the first error.
    pub fn records(&self) -> Result<impl Iterator<Item = Result<OwnedRecord, DeviceError>> + use<>, DeviceError> {
        let path = self.path.clone();
        let failed = move |source| DeviceError::Io { op: "read snapshot", path: path.clone(), source };
        let mut file = BufReader::with_capacity(READ_BYTES, File::open(&self.path).map_err(&failed)?);
        io::copy(&mut (&mut file).take(self.head_bytes), &mut io::sink()).map_err(&failed)?;
        let mut left = self.bytes;
        let mut ended = false;
        Ok(std::iter::from_fn(move || {
            if ended {
                return None;
            }
            match next_record(&mut file, &mut left) {
                Ok(Some(record)) => Some(Ok(record)),
                Ok(None) => {
                    ended = true;
                    None
                }
                Err(error) => {
                    ended = true;
                    Some(Err(failed(error)))
                }
            }
        }))
    }
}

/// `left`: so many bytes can still come, whatever a length says.
fn next_record(file: &mut impl Read, left: &mut u64) -> io::Result<Option<OwnedRecord>> {
    let mut key_bytes = [0; 2];
    file.read_exact(&mut key_bytes)?;
    let key_bytes = usize::from(u16::from_le_bytes(key_bytes));
    if key_bytes == 0 {
        return Ok(None);
    }
    let mut value_bytes = [0; 4];
    file.read_exact(&mut value_bytes)?;
    let value_bytes = u32::from_le_bytes(value_bytes);
    let wanted = key_bytes as u64 + u64::from(value_bytes);
    if key_bytes > CHANGE_KEY_BYTES_MAX || wanted > *left {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a record is longer than it can be"));
    }
    *left -= wanted;
    let (mut key, mut value) = (vec![0; key_bytes], vec![0; value_bytes as usize]);
    file.read_exact(&mut key)?;
    file.read_exact(&mut value)?;
    Ok(Some((key, value)))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the head has a fixed length"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the head has a fixed length"))
}

const MAGIC: &[u8; 8] = b"DISTRSNP";
const FORMAT: u32 = 1;
const HEAD_BYTES: usize = 8 + 4 + 4 + 8 + 8 + 4;
const READ_BYTES: usize = 64 << 10;
