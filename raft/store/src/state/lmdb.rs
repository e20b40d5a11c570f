//! Checkpoints in an LMDB environment of their own, beside that of the log: a checkpoint never holds up a flush of the log's.
//!
//! Database `state` maps (group big-endian, key) to a record: the value behind a CRC-32 over group, key and value. Database `meta` holds
//! the format version, the owner, and for each group where its checkpoint stands. One checkpoint is one transaction.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Bound;
use std::path::Path;

use distric_model::{Change, GroupId};
use distric_raft::{LogIndex, Membership, Position, Snapshot, Term};
use heed::{Env, RwTxn, WithoutTls};

use super::{OwnedRecord, RecordIter, StateStore, is_news};
use crate::directory;
use crate::error::DeviceError;
use crate::identity::Identity;
use crate::lmdb::files::{Files, PAGE_BYTES, Records, found_or_check};
use crate::lmdb::unsafe_env;
use crate::record;

/// Sizes of the environment, bytes.
#[derive(Clone, Copy, Debug)]
pub struct StateOptions {
    /// The memory map's first size. Address space only.
    pub map_bytes: u64,
    /// The map doubles when it runs short, up to this size; then the store is full.
    pub map_bytes_max: u64,
}

impl Default for StateOptions {
    fn default() -> Self {
        Self { map_bytes: 1 << 30, map_bytes_max: 256 << 30 }
    }
}

/// A [`StateStore`] in an LMDB environment of its own directory.
pub struct LmdbStateStore {
    env: Env<WithoutTls>,
    state: Records,
    meta: Records,
    snapshots: BTreeMap<GroupId, Snapshot>,
    identity: Option<Identity>,
    files: Files,
    map_bytes: u64,
    failed: bool,
    /// One record, reused.
    scratch: Vec<u8>,
    /// Held open: its lock keeps other processes out.
    _lock: File,
}

impl LmdbStateStore {
    /// Opens the store in `dir`, or founds one there.
    ///
    /// Errors: as for the log in LMDB.
    pub fn open(dir: &Path, options: StateOptions) -> Result<Self, DeviceError> {
        let files = Files::new(dir, options.map_bytes_max);
        fs::create_dir_all(dir).map_err(|source| files.io("create directory", source))?;
        let lock = directory::lock(dir).map_err(|source| files.io("lock", source))?;
        let is_new = !files.data.exists();
        let map_bytes = usize::try_from(round_up(options.map_bytes)).expect("addresses have 64 bits here");
        let env = unsafe_env::open(dir, map_bytes).map_err(|error| files.engine("open", error))?;
        files.assert_whole(&env)?;
        let (state, meta) = found_or_check(&env, &files, "state")?;
        if is_new {
            directory::sync_with_parent(dir).map_err(|source| files.io("sync directory", source))?;
        }
        let map_bytes = env.info().map_size as u64;
        let mut store = Self {
            env,
            state,
            meta,
            snapshots: BTreeMap::new(),
            identity: None,
            files,
            map_bytes,
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
        for item in self.meta.prefix_iter(&txn, SNAPSHOT_KEY_PREFIX).map_err(engine)? {
            let (key, bytes) = item.map_err(engine)?;
            let number = key.strip_prefix(SNAPSHOT_KEY_PREFIX).and_then(|number| number.try_into().ok());
            let group = number.map(|number| GroupId(u32::from_be_bytes(number)));
            let group = group.ok_or_else(|| self.files.damaged(format!("checkpoint key of {} bytes", key.len())))?;
            let snapshot = decode_snapshot(group, bytes)
                .ok_or_else(|| self.files.damaged(format!("{group}: the checkpoint's position is damaged")))?;
            self.snapshots.insert(group, snapshot);
        }
        Ok(())
    }

    fn make_room(&mut self, more_bytes: u64) -> Result<(), DeviceError> {
        let used = (self.env.info().last_page_number as u64 + 1) * PAGE_BYTES;
        let wanted = used + 2 * more_bytes + ROOM_BYTES;
        let limit = self.files.map_bytes_max;
        if wanted > self.map_bytes && self.map_bytes < limit {
            let map_bytes = round_up((self.map_bytes * 2).max(wanted).min(limit));
            let size = usize::try_from(map_bytes).expect("addresses have 64 bits here");
            unsafe_env::resize(&mut self.env, size).map_err(|error| self.files.engine("grow map", error))?;
            self.map_bytes = map_bytes;
        }
        Ok(())
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

    fn put(&self, txn: &mut RwTxn<'_>, group: GroupId, key: &[u8], value: &[u8], scratch: &mut Vec<u8>) -> Result<(), DeviceError> {
        scratch.clear();
        scratch.extend_from_slice(&checksum(group, key, value).to_le_bytes());
        scratch.extend_from_slice(value);
        self.state.put(txn, &state_key(group, key), scratch).map_err(|error| self.files.engine("write", error))
    }

    /// The end of a transaction: the group stands at `snapshot` now.
    fn commit_at(&self, mut txn: RwTxn<'_>, group: GroupId, snapshot: &Snapshot) -> Result<(), DeviceError> {
        let put = self.meta.put(&mut txn, &snapshot_key(group), &encode_snapshot(group, snapshot));
        put.map_err(|error| self.files.engine("write", error))?;
        txn.commit().map_err(|error| self.files.engine("commit", error))
    }
}

impl StateStore for LmdbStateStore {
    fn groups(&self) -> Vec<GroupId> {
        self.snapshots.keys().copied().collect()
    }

    fn snapshot(&self, group: GroupId) -> Option<&Snapshot> {
        self.snapshots.get(&group)
    }

    fn commit(&mut self, group: GroupId, snapshot: &Snapshot, changes: &[Change]) -> Result<bool, DeviceError> {
        if !is_news(self.snapshot(group), snapshot) {
            return Ok(false);
        }
        let bytes_of = |change: &Change| change.key.len() + change.value.as_ref().map_or(0, Vec::len) + RECORD_EXTRA_BYTES;
        let bytes: usize = changes.iter().map(bytes_of).sum();
        self.guarded(|store| {
            store.make_room(bytes as u64)?;
            let mut scratch = std::mem::take(&mut store.scratch);
            let mut txn = store.env.write_txn().map_err(|error| store.files.engine("write", error))?;
            for change in changes {
                match &change.value {
                    Some(value) => store.put(&mut txn, group, &change.key, value, &mut scratch)?,
                    None => {
                        let gone = store.state.delete(&mut txn, &state_key(group, &change.key));
                        gone.map_err(|error| store.files.engine("write", error))?;
                    }
                }
            }
            store.commit_at(txn, group, snapshot)?;
            store.scratch = scratch;
            store.snapshots.insert(group, snapshot.clone());
            Ok(true)
        })
    }

    fn replace(
        &mut self,
        group: GroupId,
        snapshot: &Snapshot,
        bytes: u64,
        records: &mut dyn Iterator<Item = Result<OwnedRecord, DeviceError>>,
    ) -> Result<bool, DeviceError> {
        if !is_news(self.snapshot(group), snapshot) {
            return Ok(false);
        }
        let mut bad = None;
        let done = self.guarded(|store| {
            store.make_room(bytes)?;
            let mut scratch = std::mem::take(&mut store.scratch);
            let mut txn = store.env.write_txn().map_err(|error| store.files.engine("write", error))?;
            let (first, last) = bounds(group);
            let range = (Bound::Included(&first[..]), Bound::Excluded(&last[..]));
            store.state.delete_range(&mut txn, &range).map_err(|error| store.files.engine("write", error))?;
            for record in records {
                match record {
                    Ok((key, value)) => store.put(&mut txn, group, &key, &value, &mut scratch)?,
                    // The transaction is dropped: nothing has changed.
                    Err(error) => {
                        bad = Some(error);
                        return Ok(false);
                    }
                }
            }
            store.commit_at(txn, group, snapshot)?;
            store.scratch = scratch;
            store.snapshots.insert(group, snapshot.clone());
            Ok(true)
        })?;
        bad.map_or(Ok(done), Err)
    }

    fn read(&self, group: GroupId, with: &mut dyn FnMut(&mut RecordIter<'_>)) -> Result<(), DeviceError> {
        let engine = |error| self.files.engine("read", error);
        let txn = self.env.read_txn().map_err(engine)?;
        let prefix = group.0.to_be_bytes();
        let mut scan = self.state.prefix_iter(&txn, &prefix).map_err(engine)?;
        let mut error = None;
        let mut records = std::iter::from_fn(|| {
            if error.is_some() {
                return None;
            }
            match scan.next()? {
                Ok((key, record)) => {
                    let (key, found) = (&key[prefix.len()..], record.split_first_chunk::<4>());
                    let sound = found.filter(|(stored, value)| u32::from_le_bytes(**stored) == checksum(group, key, value));
                    if sound.is_none() {
                        error = Some(self.files.damaged(format!("{group}: the checkpoint record {} is damaged", hex(key))));
                    }
                    sound.map(|(_, value)| (key, value))
                }
                Err(failed) => {
                    error = Some(engine(failed));
                    None
                }
            }
        });
        with(&mut records);
        error.map_or(Ok(()), Err)
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

/// Layout: crc u32 over group and the rest, term u64, index u64, membership.
fn encode_snapshot(group: GroupId, snapshot: &Snapshot) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.extend_from_slice(&snapshot.position.term.0.to_le_bytes());
    rest.extend_from_slice(&snapshot.position.index.0.to_le_bytes());
    rest.extend_from_slice(&snapshot.membership.encode());
    let mut out = checksum(group, b"", &rest).to_le_bytes().to_vec();
    out.extend_from_slice(&rest);
    out
}

fn decode_snapshot(group: GroupId, bytes: &[u8]) -> Option<Snapshot> {
    let (stored, rest) = bytes.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*stored) != checksum(group, b"", rest) {
        return None;
    }
    let (term, rest) = rest.split_first_chunk::<8>()?;
    let (index, membership) = rest.split_first_chunk::<8>()?;
    let position = Position::new(Term(u64::from_le_bytes(*term)), LogIndex(u64::from_le_bytes(*index)));
    Some(Snapshot { position, membership: Membership::decode(membership).ok()? })
}

fn checksum(group: GroupId, key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&group.0.to_le_bytes());
    hasher.update(&(key.len() as u32).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

fn state_key(group: GroupId, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + key.len());
    out.extend_from_slice(&group.0.to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// From a group's first possible key up to the next group's.
fn bounds(group: GroupId) -> (Vec<u8>, Vec<u8>) {
    (state_key(group, b""), state_key(GroupId(group.0 + 1), b""))
}

fn snapshot_key(group: GroupId) -> Vec<u8> {
    let mut key = SNAPSHOT_KEY_PREFIX.to_vec();
    key.extend_from_slice(&group.0.to_be_bytes());
    key
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn round_up(bytes: u64) -> u64 {
    bytes.next_multiple_of(MAP_UNIT_BYTES)
}

const IDENTITY_KEY: &[u8] = b"identity";
const SNAPSHOT_KEY_PREFIX: &[u8] = b"c/";
/// Beside key and value: group, checksum, LMDB's node.
const RECORD_EXTRA_BYTES: usize = 32;
/// What one transaction may need beyond its records.
const ROOM_BYTES: u64 = 4 << 20;
/// Map sizes are multiples of this, which suits every page size in use.
const MAP_UNIT_BYTES: u64 = 1 << 20;
