//! The log in LMDB: one environment, one transaction and so one group commit per `write`, for all groups.
//!
//! Database `log` maps (group, index), both big-endian so that a group's log is one range in order, to a record;
//! database `meta` holds the format version, the owner and each group's own record. A group's record is written in the
//! same transaction as its entries, so an entry is never durable before the term that it belongs to.
//! One key space for all groups, not one database per group with append mode: five groups then share a tree, nothing is
//! created while running, and the half-filled pages that it costs were not measurable beside the flush.
//!
//! Full synchronisation always. Relaxed modes (NOSYNC, NOMETASYNC) may undo the last commit when the system fails, and
//! the last commit is what was just promised.

pub(crate) mod files;
#[cfg(test)]
mod tests;
pub(crate) mod unsafe_env;
mod zero_fill;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::{Bound, RangeInclusive};
use std::path::Path;

use distric_model::GroupId;
use distric_raft::{Entry, LogIndex, Position, Recovered};
use heed::{Env, RoTxn, RwTxn, WithoutTls};

use self::files::{Files, PAGE_BYTES, Records, found_or_check};

use crate::directory;
use crate::error::{Corruption, DeviceError};
use crate::identity::Identity;
use crate::record::{self, GroupRecord};
use crate::store::{GroupWrite, LogStore, TAIL_BYTES_MAX};

/// Sizes of an LMDB store, all in bytes.
#[derive(Clone, Copy, Debug)]
pub struct LmdbOptions {
    /// The data file is filled with zeros up to this size when the store is opened. Measured at 64 MiB: half a second
    /// on a busy virtual disk, so the start only does a part.
    pub opening_bytes: u64,
    /// So many bytes ahead of what is in use are filled with zeros by [`LogStore::upkeep`], and on the writer's time
    /// when there was none for upkeep. Zero switches both off.
    pub ahead_bytes: u64,
    /// The memory map's first size. Address space only.
    pub map_bytes: u64,
    /// The map doubles when it runs short, up to this size; then the store is full.
    pub map_bytes_max: u64,
}

impl Default for LmdbOptions {
    fn default() -> Self {
        Self { opening_bytes: 16 << 20, ahead_bytes: 64 << 20, map_bytes: 1 << 30, map_bytes_max: 256 << 30 }
    }
}

/// A [`LogStore`] in an LMDB environment of its own directory.
pub struct LmdbStore {
    env: Env<WithoutTls>,
    log: Log,
    meta: Log,
    groups: BTreeMap<GroupId, GroupRecord>,
    identity: Option<Identity>,
    files: Files,
    options: LmdbOptions,
    map_bytes: u64,
    /// Length of the data file, all of it written once.
    prepared_bytes: u64,
    /// There was no room to make ahead.
    is_disk_full: bool,
    failed: bool,
    /// One record, reused.
    scratch: Vec<u8>,
    /// Held open: its lock keeps other processes out.
    _lock: File,
}

type Log = Records;

impl LmdbStore {
    /// Opens the store in `dir`, or founds one there. The directory is made if need be and locked against others.
    ///
    /// Errors: `NewerFormat` for a store of a later version, `Damaged` or `Corrupt` when its own records are not
    /// sound, otherwise what the operating system said. The logs themselves are checked by [`LogStore::recover`].
    pub fn open(dir: &Path, options: LmdbOptions) -> Result<Self, DeviceError> {
        let files = Files::new(dir, options.map_bytes_max);
        fs::create_dir_all(dir).map_err(|source| files.io("create directory", source))?;
        let lock = directory::lock(dir).map_err(|source| files.io("lock", source))?;
        let is_new = !files.data.exists();
        // LMDB takes a larger map from the file itself when an earlier run had grown it.
        let env = unsafe_env::open(dir, to_usize(round_up(options.map_bytes))).map_err(|error| files.engine("open", error))?;
        files.assert_whole(&env)?;
        let (log, meta) = found_or_check(&env, &files, "log")?;
        if is_new {
            directory::sync_with_parent(dir).map_err(|source| files.io("sync directory", source))?;
        }
        let prepared_bytes = zero_fill::extend_with_zeros(&files.data, options.opening_bytes.min(options.map_bytes))
            .map_err(|source| files.io("prepare", source))?;
        let map_bytes = env.info().map_size as u64;
        let mut store = Self {
            env,
            log,
            meta,
            groups: BTreeMap::new(),
            identity: None,
            files,
            options,
            map_bytes,
            prepared_bytes,
            is_disk_full: false,
            failed: false,
            scratch: Vec::new(),
            _lock: lock,
        };
        store.load_meta()?;
        Ok(store)
    }

    fn load_meta(&mut self) -> Result<(), DeviceError> {
        let engine = |error| self.files.engine("read", error);
        let txn = self.env.read_txn().map_err(engine)?;
        if let Some(bytes) = self.meta.get(&txn, IDENTITY_KEY).map_err(engine)? {
            let identity = record::decode_identity(bytes).map_err(|reason| self.files.damaged(format!("owner: {reason}")))?;
            self.identity = Some(identity);
        }
        for item in self.meta.prefix_iter(&txn, GROUP_KEY_PREFIX).map_err(engine)? {
            let (key, bytes) = item.map_err(engine)?;
            let group = key
                .strip_prefix(GROUP_KEY_PREFIX)
                .and_then(|number| number.try_into().ok())
                .map(|number| GroupId(u32::from_be_bytes(number)))
                .ok_or_else(|| self.files.damaged(format!("group key of {} bytes", key.len())))?;
            let found =
                record::decode_group(group, bytes).map_err(|reason| DeviceError::Corrupt { group, index: LogIndex::ZERO, reason })?;
            self.groups.insert(group, found);
        }
        Ok(())
    }

    /// Writes in one transaction. The records of the touched groups are returned to be remembered after the commit.
    fn write_all(&mut self, writes: &[GroupWrite]) -> Result<BTreeMap<GroupId, GroupRecord>, DeviceError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let engine = |error| self.files.engine("write", error);
        let mut txn = self.env.write_txn().map_err(engine)?;
        let mut touched = BTreeMap::new();
        for write in writes {
            let known = || self.groups.get(&write.group).copied().unwrap_or_default();
            let group = touched.entry(write.group).or_insert_with(known);
            self.write_group(&mut txn, group, write, &mut scratch)?;
        }
        for (group, found) in &touched {
            self.meta.put(&mut txn, &group_key(*group), &record::encode_group(*group, found)).map_err(engine)?;
        }
        txn.commit().map_err(|error| self.files.engine("commit", error))?;
        self.scratch = scratch;
        Ok(touched)
    }

    fn write_group(
        &self,
        txn: &mut RwTxn<'_>,
        group: &mut GroupRecord,
        write: &GroupWrite,
        scratch: &mut Vec<u8>,
    ) -> Result<(), DeviceError> {
        let engine = |error| self.files.engine("write", error);
        if let Some(hard_state) = write.hard_state {
            group.hard_state = hard_state;
        }
        if let Some(base) = write.reset_to {
            if group.last.index > group.base.index {
                delete(self.log, txn, write.group, group.base.index.next()..=group.last.index).map_err(engine)?;
            }
            (group.base, group.last) = (base, base);
        }
        if let Some(cut) = write.truncate_from
            && cut <= group.last.index
        {
            assert!(cut > group.base.index, "{}: cut at {cut} into what is compacted up to {}", write.group, group.base.index);
            delete(self.log, txn, write.group, cut..=group.last.index).map_err(engine)?;
            group.last = self.position_at(txn, write.group, cut.prev(), group)?;
        }
        for entry in &write.entries {
            assert!(entry.index == group.last.index.next(), "{}: entry {} behind {}", write.group, entry.index, group.last.index);
            scratch.clear();
            record::encode_entry(write.group, entry, scratch);
            self.log.put(txn, &log_key(write.group, entry.index), scratch).map_err(engine)?;
            group.last = entry.position();
        }
        Ok(())
    }

    /// The position of an entry that must exist, or of the base.
    fn position_at(
        &self,
        txn: &RoTxn<'_, WithoutTls>,
        group: GroupId,
        index: LogIndex,
        known: &GroupRecord,
    ) -> Result<Position, DeviceError> {
        if index == known.base.index {
            return Ok(known.base);
        }
        let bytes = self.log.get(txn, &log_key(group, index)).map_err(|error| self.files.engine("read", error))?;
        let entry = bytes.ok_or(Corruption::Missing).and_then(|bytes| record::decode_entry(group, index, bytes));
        entry.map(|entry| entry.position()).map_err(|reason| DeviceError::Corrupt { group, index, reason })
    }

    /// Makes sure that `more_bytes` of records fit: grows the map, and the prepared part of the file.
    fn make_room(&mut self, more_bytes: u64) -> Result<(), DeviceError> {
        // Copied pages on the way to the root, free-list pages, half-filled leaves.
        let wanted = self.used_bytes() + 2 * more_bytes + ROOM_BYTES;
        let limit = self.options.map_bytes_max;
        if wanted > self.map_bytes && self.map_bytes < limit {
            let map_bytes = round_up((self.map_bytes * 2).max(wanted).min(limit));
            unsafe_env::resize(&mut self.env, to_usize(map_bytes)).map_err(|error| self.files.engine("grow map", error))?;
            self.map_bytes = map_bytes;
        }
        if self.options.ahead_bytes > 0 && wanted > self.prepared_bytes {
            self.prepare(wanted)?;
        }
        Ok(())
    }

    /// Zeros up to `upto_bytes` and one more step, so that the next writes have some.
    fn prepare(&mut self, upto_bytes: u64) -> Result<(), DeviceError> {
        let upto = round_up(upto_bytes + PREPARE_STEP_BYTES).min(self.map_bytes);
        let done = zero_fill::extend_with_zeros(&self.files.data, upto);
        self.prepared_bytes = done.map_err(|source| self.files.io("prepare", source))?;
        Ok(())
    }

    fn used_bytes(&self) -> u64 {
        (self.env.info().last_page_number as u64 + 1) * PAGE_BYTES
    }

    /// Remembers a failure: after it nothing is written.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, DeviceError>) -> Result<T, DeviceError> {
        if self.failed {
            return Err(DeviceError::Failed);
        }
        // Set first, so that a panic in between counts as a failure too.
        self.failed = true;
        let done = work(self)?;
        self.failed = false;
        Ok(done)
    }

    /// Removes one bounded part of a prefix; returns the new first index.
    fn truncate_part(&mut self, group: GroupId, known: GroupRecord, upto: LogIndex) -> Result<GroupRecord, DeviceError> {
        let engine = |error| self.files.engine("compact", error);
        let mut txn = self.env.write_txn().map_err(engine)?;
        let base = self.position_at(&txn, group, upto, &known)?;
        delete(self.log, &mut txn, group, known.base.index.next()..=upto).map_err(engine)?;
        let found = GroupRecord { base, ..known };
        self.meta.put(&mut txn, &group_key(group), &record::encode_group(group, &found)).map_err(engine)?;
        txn.commit().map_err(|error| self.files.engine("commit", error))?;
        Ok(found)
    }
}

impl LogStore for LmdbStore {
    fn recover(&mut self) -> Result<Vec<(GroupId, Recovered)>, DeviceError> {
        let engine = |error| self.files.engine("read", error);
        let txn = self.env.read_txn().map_err(engine)?;
        let mut all = Vec::with_capacity(self.groups.len());
        let mut scan = self.log.iter(&txn).map_err(engine)?.peekable();
        let mut scan = std::iter::from_fn(move || scan.next());
        let mut ahead = scan.next().transpose().map_err(engine)?;
        for (group, known) in &self.groups {
            let mut reader = TailReader::new(*group, known);
            while let Some((key, bytes)) = ahead {
                let (found_group, index) = split_key(key).ok_or_else(|| self.files.damaged(format!("key of {} bytes", key.len())))?;
                if found_group > *group {
                    break;
                }
                if found_group < *group {
                    return Err(reader.outside(found_group, index));
                }
                reader.take(index, bytes)?;
                ahead = scan.next().transpose().map_err(engine)?;
            }
            all.push((*group, reader.finish()?));
        }
        match ahead {
            Some((key, _)) => {
                let (group, index) = split_key(key).ok_or_else(|| self.files.damaged(format!("key of {} bytes", key.len())))?;
                let reason = Corruption::Outside { first: LogIndex::ZERO, last: LogIndex::ZERO };
                Err(DeviceError::Corrupt { group, index, reason })
            }
            None => Ok(all),
        }
    }

    fn write(&mut self, writes: &[GroupWrite]) -> Result<(), DeviceError> {
        let bytes = writes.iter().map(GroupWrite::cost_bytes).sum();
        self.guarded(|store| {
            store.make_room(bytes)?;
            let touched = store.write_all(writes)?;
            store.groups.extend(touched);
            Ok(())
        })
    }

    fn read(&mut self, group: GroupId, from: LogIndex, upto: LogIndex, bytes_max: u64) -> Result<Vec<Entry>, DeviceError> {
        let mut found = Vec::new();
        let Some(known) = self.groups.get(&group) else { return Ok(found) };
        if !(from > known.base.index && from <= upto.min(known.last.index)) {
            return Ok(found);
        }
        let engine = |error| self.files.engine("read", error);
        let txn = self.env.read_txn().map_err(engine)?;
        let (first, last) = (log_key(group, from), log_key(group, upto.min(known.last.index)));
        let range = (Bound::Included(&first[..]), Bound::Included(&last[..]));
        let mut expected = from;
        let mut bytes = 0;
        for item in self.log.range(&txn, &range).map_err(engine)? {
            let (key, record) = item.map_err(engine)?;
            if split_key(key) != Some((group, expected)) {
                return Err(DeviceError::Corrupt { group, index: expected, reason: Corruption::Missing });
            }
            let entry =
                record::decode_entry(group, expected, record).map_err(|reason| DeviceError::Corrupt { group, index: expected, reason })?;
            bytes += entry.cost_bytes();
            found.push(entry);
            if bytes >= bytes_max {
                return Ok(found);
            }
            expected = expected.next();
        }
        if expected <= upto.min(known.last.index) {
            return Err(DeviceError::Corrupt { group, index: expected, reason: Corruption::Missing });
        }
        Ok(found)
    }

    fn truncate_prefix(&mut self, group: GroupId, upto: LogIndex) -> Result<(), DeviceError> {
        let Some(mut known) = self.groups.get(&group).copied() else { return Ok(()) };
        let upto = upto.min(known.last.index);
        self.guarded(|store| {
            // In parts: one huge delete would hold up everybody's commit and may exceed what a transaction may touch.
            while known.base.index < upto {
                store.make_room(0)?;
                let part = known.base.index.plus(TRUNCATE_ENTRIES_MAX).min(upto);
                known = store.truncate_part(group, known, part)?;
                store.groups.insert(group, known);
            }
            Ok(())
        })
    }

    fn upkeep(&mut self) -> Result<bool, DeviceError> {
        let is_short = |store: &Self| store.prepared_bytes < (store.used_bytes() + store.options.ahead_bytes).min(store.map_bytes);
        if self.options.ahead_bytes == 0 || self.is_disk_full || !is_short(self) {
            return Ok(false);
        }
        let has_room = self.guarded(|store| match store.prepare(store.prepared_bytes) {
            Ok(()) => Ok(true),
            // Nothing needs the room yet: what is being written still fits, and the write that no longer does will say so. It is not tried again
            // in this run: each try would write megabytes to give them back.
            Err(DeviceError::Io { source, .. }) if source.kind() == io::ErrorKind::StorageFull => {
                store.is_disk_full = true;
                Ok(false)
            }
            Err(error) => Err(error),
        })?;
        Ok(has_room && is_short(self))
    }

    fn identity(&self) -> Option<Identity> {
        self.identity
    }

    fn set_identity(&mut self, identity: Identity) -> Result<(), DeviceError> {
        match self.identity {
            Some(found) if found == identity => Ok(()),
            Some(found) => Err(DeviceError::ForeignIdentity { found, given: identity }),
            None => self.guarded(|store| {
                let engine = |error| store.files.engine("write", error);
                let mut txn = store.env.write_txn().map_err(engine)?;
                store.meta.put(&mut txn, IDENTITY_KEY, &record::encode_identity(&identity)).map_err(engine)?;
                txn.commit().map_err(|error| store.files.engine("commit", error))?;
                store.identity = Some(identity);
                Ok(())
            }),
        }
    }
}

/// Checks the records of one group as they come in order, and keeps the end of them.
struct TailReader {
    group: GroupId,
    known: GroupRecord,
    recovered: Recovered,
    tail: std::collections::VecDeque<Entry>,
    tail_bytes: u64,
}

impl TailReader {
    fn new(group: GroupId, known: &GroupRecord) -> Self {
        let recovered = Recovered { hard_state: known.hard_state, base: known.base, last: known.base, ..Recovered::default() };
        Self { group, known: *known, recovered, tail: Default::default(), tail_bytes: 0 }
    }

    fn take(&mut self, index: LogIndex, bytes: &[u8]) -> Result<(), DeviceError> {
        let expected = self.recovered.last.index.next();
        if index <= self.known.base.index || index > self.known.last.index {
            return Err(self.outside(self.group, index));
        }
        if index != expected {
            return Err(self.corrupt(expected, Corruption::Missing));
        }
        let entry = record::decode_entry(self.group, index, bytes).map_err(|reason| self.corrupt(index, reason))?;
        self.recovered.note(&entry);
        self.tail_bytes += entry.cost_bytes();
        self.tail.push_back(entry);
        while self.tail_bytes > TAIL_BYTES_MAX && self.tail.len() > 1 {
            let dropped = self.tail.pop_front().expect("it has more than one");
            self.tail_bytes -= dropped.cost_bytes();
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Recovered, DeviceError> {
        if self.recovered.last != self.known.last {
            return Err(self.corrupt(self.recovered.last.index.next(), Corruption::Missing));
        }
        self.recovered.tail = std::mem::take(&mut self.tail).into();
        let checked = self.recovered.check();
        checked.map_err(|error| self.corrupt(self.recovered.last.index, error.into()))?;
        Ok(self.recovered)
    }

    fn outside(&self, group: GroupId, index: LogIndex) -> DeviceError {
        let (first, last) = (self.known.base.index.next(), self.known.last.index);
        DeviceError::Corrupt { group, index, reason: Corruption::Outside { first, last } }
    }

    fn corrupt(&self, index: LogIndex, reason: Corruption) -> DeviceError {
        DeviceError::Corrupt { group: self.group, index, reason }
    }
}

fn delete(log: Log, txn: &mut RwTxn<'_>, group: GroupId, indexes: RangeInclusive<LogIndex>) -> heed::Result<usize> {
    let (first, last) = (log_key(group, *indexes.start()), log_key(group, *indexes.end()));
    let range = (Bound::Included(&first[..]), Bound::Included(&last[..]));
    log.delete_range(txn, &range)
}

fn log_key(group: GroupId, index: LogIndex) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&group.0.to_be_bytes());
    key[4..].copy_from_slice(&index.0.to_be_bytes());
    key
}

fn split_key(key: &[u8]) -> Option<(GroupId, LogIndex)> {
    let (group, index) = key.split_first_chunk::<4>()?;
    Some((GroupId(u32::from_be_bytes(*group)), LogIndex(u64::from_be_bytes(index.try_into().ok()?))))
}

fn group_key(group: GroupId) -> [u8; 6] {
    let mut key = [0; 6];
    key[..2].copy_from_slice(GROUP_KEY_PREFIX);
    key[2..].copy_from_slice(&group.0.to_be_bytes());
    key
}

fn round_up(bytes: u64) -> u64 {
    bytes.next_multiple_of(MAP_UNIT_BYTES)
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("addresses have 64 bits here")
}

const IDENTITY_KEY: &[u8] = b"identity";
const GROUP_KEY_PREFIX: &[u8] = b"g/";
/// Map sizes are multiples of this, which suits every page size in use.
const MAP_UNIT_BYTES: u64 = 1 << 20;
/// What one transaction may need beyond its records.
const ROOM_BYTES: u64 = 4 << 20;
/// How much is filled with zeros at a time: some milliseconds.
const PREPARE_STEP_BYTES: u64 = 4 << 20;
/// Most entries removed in one transaction.
const TRUNCATE_ENTRIES_MAX: u64 = 10_000;
