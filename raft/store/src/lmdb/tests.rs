//! What a disk can do to an LMDB store, and what the store says to it.

use bytes::Bytes;
use distric_raft::{EntryKind, HardState, Term};

use super::files::FORMAT;
use super::*;

const GROUP: GroupId = GroupId(3);
const SMALL: LmdbOptions = LmdbOptions { opening_bytes: 0, ahead_bytes: 0, map_bytes: 16 << 20, map_bytes_max: 64 << 20 };

fn entries(from: u64, upto: u64, data_bytes: usize) -> Vec<Entry> {
    let entry = |index| Entry {
        index: LogIndex(index),
        term: Term(1),
        kind: EntryKind::Command,
        data: Bytes::from(format!("entry-{index:05}-{}", "z".repeat(data_bytes))),
    };
    (from..=upto).map(entry).collect()
}

fn write(from: u64, upto: u64) -> GroupWrite {
    let hard_state = Some(HardState { term: Term(1), vote: None, commit: LogIndex(1) });
    GroupWrite { group: GROUP, hard_state, entries: entries(from, upto, 10), ..GroupWrite::default() }
}

/// Replaces bytes in the data file wherever they stand.
fn tamper(dir: &Path, what: &[u8], with: &[u8]) {
    let path = dir.join("data.mdb");
    let mut bytes = fs::read(&path).unwrap();
    let places: Vec<usize> = bytes.windows(what.len()).enumerate().filter(|(_, found)| *found == what).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "nothing to tamper with");
    places.iter().for_each(|at| bytes[*at..*at + with.len()].copy_from_slice(with));
    fs::write(&path, bytes).unwrap();
}

fn stored(dir: &Path) -> LmdbStore {
    let mut store = LmdbStore::open(dir, SMALL).unwrap();
    store.write(&[write(1, 5)]).unwrap();
    store
}

#[test]
fn a_flipped_bit_is_reported_with_group_and_index() {
    let dir = tempfile::tempdir().unwrap();
    drop(stored(dir.path()));
    tamper(dir.path(), b"entry-00004", b"entry-00005");
    let mut store = LmdbStore::open(dir.path(), SMALL).unwrap();
    let expected = |error| matches!(error, DeviceError::Corrupt { group: GROUP, index: LogIndex(4), reason: Corruption::Checksum { .. } });
    assert!(expected(store.recover().unwrap_err()));
    assert_eq!(store.read(GROUP, LogIndex(1), LogIndex(3), u64::MAX).unwrap().len(), 3);
    assert!(expected(store.read(GROUP, LogIndex(1), LogIndex(5), u64::MAX).unwrap_err()));
}

#[test]
fn a_missing_entry_is_reported_in_the_middle_and_at_the_end() {
    for index in [LogIndex(3), LogIndex(5)] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = stored(dir.path());
        let mut txn = store.env.write_txn().unwrap();
        assert!(store.log.delete(&mut txn, &log_key(GROUP, index)).unwrap());
        txn.commit().unwrap();
        let expected =
            |error| matches!(error, DeviceError::Corrupt { group: GROUP, index: found, reason: Corruption::Missing } if found == index);
        assert!(expected(store.recover().unwrap_err()));
        assert!(expected(store.read(GROUP, LogIndex(1), LogIndex(9), u64::MAX).unwrap_err()));
    }
}

#[test]
fn records_that_nobody_owns_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = stored(dir.path());
    for (group, index) in [(GROUP, LogIndex(6)), (GroupId(1), LogIndex(1)), (GroupId(9), LogIndex(1))] {
        let mut txn = store.env.write_txn().unwrap();
        store.log.put(&mut txn, &log_key(group, index), b"stray").unwrap();
        txn.commit().unwrap();
        let error = store.recover().unwrap_err();
        assert!(
            matches!(error, DeviceError::Corrupt { group: found, reason: Corruption::Outside { .. }, .. } if found == group),
            "{error}"
        );
        let mut txn = store.env.write_txn().unwrap();
        store.log.delete(&mut txn, &log_key(group, index)).unwrap();
        txn.commit().unwrap();
    }
    assert_eq!(store.recover().unwrap().len(), 1);
}

#[test]
fn a_store_of_a_later_format_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(stored(dir.path()));
    tamper(dir.path(), b"format\x01\0\0\0", b"format\x07\0\0\0");
    let before = fs::read(dir.path().join("data.mdb")).unwrap();
    let error = LmdbStore::open(dir.path(), SMALL).err().unwrap();
    assert!(matches!(error, DeviceError::NewerFormat { found: 7, supported: FORMAT }), "{error}");
    assert_eq!(fs::read(dir.path().join("data.mdb")).unwrap(), before);
}

#[test]
fn a_file_cut_short_or_of_garbage_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(stored(dir.path()));
    let data = dir.path().join("data.mdb");
    File::options().write(true).open(&data).unwrap().set_len(3 * PAGE_BYTES).unwrap();
    assert!(matches!(LmdbStore::open(dir.path(), SMALL).err().unwrap(), DeviceError::Damaged { .. }));
    fs::write(&data, vec![7; 64 << 10]).unwrap();
    assert!(matches!(LmdbStore::open(dir.path(), SMALL).err().unwrap(), DeviceError::Damaged { .. }));
}

#[test]
fn a_second_owner_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let _first = stored(dir.path());
    let error = LmdbStore::open(dir.path(), SMALL).err().unwrap();
    assert!(matches!(error, DeviceError::Io { op: "lock", .. }), "{error}");
}

#[test]
fn the_map_grows_until_its_limit_and_a_full_store_writes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = LmdbStore::open(dir.path(), SMALL).unwrap();
    let mut next = 1;
    let error = loop {
        let write = GroupWrite { group: GROUP, entries: entries(next, next + 9, 100_000), ..GroupWrite::default() };
        match store.write(&[write]) {
            Ok(()) => next += 10,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, DeviceError::Full { limit_bytes, .. } if limit_bytes == SMALL.map_bytes_max), "{error}");
    assert!(next * 100_000 > 40 << 20, "full after {next} entries");
    assert!(matches!(store.write(&[]), Err(DeviceError::Failed)));
    // What was promised before is still there after a restart with more room.
    drop(store);
    let mut store = LmdbStore::open(dir.path(), LmdbOptions { map_bytes_max: 256 << 20, ..SMALL }).unwrap();
    assert_eq!(store.groups[&GROUP].last.index, LogIndex(next - 1));
    store.write(&[GroupWrite { group: GROUP, entries: entries(next, next + 99, 100_000), ..GroupWrite::default() }]).unwrap();
}

#[test]
fn the_file_is_prepared_ahead_and_never_before_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let options = LmdbOptions { opening_bytes: 6 << 20, ahead_bytes: 10 << 20, ..SMALL };
    let mut store = LmdbStore::open(dir.path(), options).unwrap();
    let length = || fs::metadata(dir.path().join("data.mdb")).unwrap().len();
    assert_eq!(length(), 6 << 20);
    // In quiet times.
    while store.upkeep().unwrap() {}
    assert!(length() >= 10 << 20 && length() < 16 << 20, "{} bytes", length());
    // Or while writing, if there are none.
    let mut next = 1;
    while next <= 700 {
        store.write(&[GroupWrite { group: GROUP, entries: entries(next, next, 20_000), ..GroupWrite::default() }]).unwrap();
        assert!(store.used_bytes() <= length(), "{} bytes used of {}", store.used_bytes(), length());
        next += 1;
    }
    assert!(store.used_bytes() > 12 << 20, "only {} bytes used", store.used_bytes());
    assert_eq!(store.read(GROUP, LogIndex(1), LogIndex(next), u64::MAX).unwrap().len() as u64, next - 1);
}

#[test]
fn compaction_in_parts_removes_all_of_a_long_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = LmdbStore::open(dir.path(), SMALL).unwrap();
    let count = 2 * TRUNCATE_ENTRIES_MAX + 500;
    store.write(&[write(1, count)]).unwrap();
    store.truncate_prefix(GROUP, LogIndex(count - 3)).unwrap();
    assert_eq!(store.read(GROUP, LogIndex(count - 2), LogIndex(count), u64::MAX).unwrap().len(), 3);
    assert_eq!(store.log.len(&store.env.read_txn().unwrap()).unwrap(), 3);
}
