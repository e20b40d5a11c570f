//! What a disk and a power cut can do to a segment store, and what the store says to it.

pub(super) mod crash;
mod model;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use distric_model::{ClusterId, NodeId, Slot, Timestamp};
use distric_raft::{Entry, EntryKind, HardState, Term};

use super::format::{FORMAT, HEADER_BYTES};
use super::*;
use crate::error::Corruption;

const GROUP: GroupId = GroupId(3);
const QUIET: GroupId = GroupId(9);
const SMALL: SegmentOptions = SegmentOptions {
    segment_bytes: 32 << 10,
    opening_bytes: 16 << 10,
    prepares_ahead: true,
    reserve_bytes: 0,
    log_bytes_max: 64 << 20,
    live_segments_max: 4,
    move_bytes_max: 2 << 10,
    entries_max: 1 << 20,
};

fn entry(index: u64, data_bytes: usize) -> Entry {
    let data = Bytes::from(format!("entry-{index:05}-{}", "z".repeat(data_bytes)));
    Entry { index: LogIndex(index), term: Term(1), kind: EntryKind::Command, data }
}

fn write_to(group: GroupId, from: u64, upto: u64, data_bytes: usize) -> GroupWrite {
    let node = NodeId::new(Timestamp::from_us(5), Slot::truncate(1), 7);
    let hard_state = Some(HardState { term: Term(1), vote: Some(node), commit: LogIndex(from.saturating_sub(1)) });
    GroupWrite { group, hard_state, entries: (from..=upto).map(|index| entry(index, data_bytes)).collect(), ..GroupWrite::default() }
}

fn write(from: u64, upto: u64) -> GroupWrite {
    write_to(GROUP, from, upto, 10)
}

/// In memory where there is such a file system: the sweeps open thousands of stores, and a flush has nothing to prove here.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open(dir: &Path) -> Result<SegmentStore, DeviceError> {
    SegmentStore::open(dir, SMALL)
}

fn last(store: &SegmentStore, group: GroupId) -> u64 {
    store.index.groups.get(&group).map_or(0, |group| group.last().index.0)
}

fn assert_whole(store: &mut SegmentStore, group: GroupId, first: u64, upto: u64) {
    let found = store.read(group, LogIndex(first), LogIndex(u64::MAX), u64::MAX).unwrap();
    assert_eq!(found.iter().map(|entry| entry.index.0).collect::<Vec<_>>(), (first..=upto).collect::<Vec<_>>());
    assert!(found.iter().all(|entry| entry.data.starts_with(format!("entry-{:05}-", entry.index.0).as_bytes())));
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|item| item.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "segment"));
    found.sort();
    found
}

/// The state of the group with one batch more, and the file with and without it.
struct LastBatch {
    dir: tempfile::TempDir,
    path: PathBuf,
    before: Vec<u8>,
    after: Vec<u8>,
    range: std::ops::Range<usize>,
}

fn last_batch(last_write: GroupWrite) -> LastBatch {
    let dir = scratch();
    let mut store = open(dir.path()).unwrap();
    store.write(&[write(1, 3)]).unwrap();
    store.write(&[write(4, 4)]).unwrap();
    let path = store.segments[&1].path.clone();
    let before = fs::read(&path).unwrap();
    let start = store.segments[&1].end as usize;
    store.write(&[last_write]).unwrap();
    let end = store.segments[&1].end as usize;
    LastBatch { path: path.clone(), before, after: fs::read(path).unwrap(), range: start..end, dir }
}

#[test]
fn a_write_torn_at_any_byte_leaves_exactly_what_was_acknowledged() {
    let case = last_batch(write(5, 9));
    for cut in case.range.clone() {
        let mut image = case.before.clone();
        image[..cut].copy_from_slice(&case.after[..cut]);
        fs::write(&case.path, image).unwrap();
        let mut store = open(case.dir.path()).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert_whole(&mut store, GROUP, 1, 4);
        store.write(&[write(5, 6)]).unwrap();
        drop(store);
        assert_whole(&mut open(case.dir.path()).unwrap(), GROUP, 1, 6);
    }
}

/// Sectors arrive in any order: each subset of those that the batch touches, but all of them.
#[test]
fn a_write_of_which_any_sectors_are_missing_leaves_exactly_what_was_acknowledged() {
    let mut last_write = write_to(GROUP, 5, 6, 1_500);
    // A batch that holds zeros of its own.
    last_write.entries[1].data = Bytes::from([&b"entry-00006-"[..], &[0; 1_800]].concat());
    let case = last_batch(last_write);
    let sectors: Vec<usize> = (case.range.start / 512..case.range.end.div_ceil(512)).collect();
    assert!(sectors.len() >= 7, "{} sectors", sectors.len());
    let differs: Vec<bool> = sectors.iter().map(|sector| case.before[sector * 512..][..512] != case.after[sector * 512..][..512]).collect();
    for subset in 0_u32..1 << sectors.len() {
        let mut image = case.before.clone();
        let is_written = |position: usize| subset & (1 << position) != 0;
        for (_, sector) in sectors.iter().enumerate().filter(|(position, _)| is_written(*position)) {
            image[sector * 512..][..512].copy_from_slice(&case.after[sector * 512..][..512]);
        }
        let is_complete = (0..sectors.len()).all(|position| is_written(position) || !differs[position]);
        fs::write(&case.path, image).unwrap();
        let mut store = open(case.dir.path()).unwrap_or_else(|error| panic!("sectors {subset:b}: {error}"));
        assert_whole(&mut store, GROUP, 1, if is_complete { 6 } else { 4 });
    }
}

#[test]
fn a_flipped_bit_anywhere_in_what_was_acknowledged_is_reported() {
    let mut last_write = write_to(GROUP, 5, 6, 40);
    last_write.entries[0].data = Bytes::from(vec![0; 1_100]);
    let case = last_batch(last_write);
    for at in 0..case.range.end {
        let mut image = case.after.clone();
        image[at] ^= 1 << (at % 8);
        fs::write(&case.path, &image).unwrap();
        let error = open(case.dir.path()).err().unwrap_or_else(|| panic!("byte {at} flipped, nothing said"));
        assert!(matches!(error, DeviceError::Corrupt { .. } | DeviceError::Damaged { .. }), "byte {at}: {error}");
        assert_eq!(fs::read(&case.path).unwrap(), image, "a damaged store is left as it is");
    }
    // Also while running.
    fs::write(&case.path, &case.after).unwrap();
    let mut store = open(case.dir.path()).unwrap();
    let at = case.after.windows(11).position(|found| found == b"entry-00003").unwrap();
    let file = File::options().write(true).open(&case.path).unwrap();
    file.write_all_at(b"entry-00004", at as u64).unwrap();
    let error = store.read(GROUP, LogIndex(1), LogIndex(9), u64::MAX).unwrap_err();
    let expected = |error| matches!(error, DeviceError::Corrupt { group: GROUP, index: LogIndex(3), reason: Corruption::Checksum { .. } });
    assert!(expected(error));
    drop(store);
    assert!(expected(open(case.dir.path()).err().unwrap()));
}

#[test]
fn zeros_over_an_acknowledged_batch_are_damage_once_a_later_one_was_written() {
    let case = last_batch(write(5, 9));
    let middle = case.before.windows(11).position(|found| found == b"entry-00004").unwrap();
    for range in [middle..middle + 30, HEADER_BYTES as usize..HEADER_BYTES as usize + 100, HEADER_BYTES as usize..case.range.start] {
        let mut image = case.after.clone();
        image[range.clone()].fill(0);
        fs::write(&case.path, image).unwrap();
        let error = open(case.dir.path()).err().unwrap_or_else(|| panic!("{range:?} lost, nothing said"));
        assert!(matches!(error, DeviceError::Corrupt { .. } | DeviceError::Damaged { .. }), "{error}");
    }
}

/// Fills segments of group 3 and compacts behind, so that files go through several lives.
fn churn(store: &mut SegmentStore, from: u64, upto: u64) {
    for index in from..=upto {
        store.write(&[write_to(GROUP, index, index, 3_000)]).unwrap();
        if index % 5 == 0 {
            store.truncate_prefix(GROUP, LogIndex(index - 3)).unwrap();
        }
        while index % 3 == 0 && store.upkeep().unwrap() {}
    }
}

#[test]
fn files_live_again_and_nothing_of_an_earlier_life_comes_back() {
    let dir = scratch();
    let mut store = open(dir.path()).unwrap();
    churn(&mut store, 1, 200);
    assert!(store.current > 12, "only {} segments", store.current);
    assert!(segment_files(dir.path()).len() <= 5, "{:?}", segment_files(dir.path()));
    let first = store.index.groups[&GROUP].base.index.0 + 1;
    assert_whole(&mut store, GROUP, first, 200);
    while store.upkeep().unwrap() {}
    let prepared = store.segments.last_key_value().unwrap().1;
    let image = fs::read(&prepared.path).unwrap();
    assert!(image[HEADER_BYTES as usize..].iter().all(|byte| *byte == 0), "a prepared segment holds zeros only");
    let (current, end) = (store.current, store.segments[&store.current].end);
    drop(store);
    // An older life behind the end, as if the zeros had never been written: the whole content of another segment, shifted
    // to where the next batch would stand.
    let segments = segment_files(dir.path());
    let old = fs::read(&segments[0]).unwrap();
    let path = segments.iter().find(|path| path.ends_with(format!("{current:08x}.segment"))).unwrap();
    let mut image = fs::read(path).unwrap();
    let count = (image.len() - end as usize).min(old.len() - HEADER_BYTES as usize);
    image[end as usize..][..count].copy_from_slice(&old[HEADER_BYTES as usize..][..count]);
    fs::write(path, &image).unwrap();
    if let Ok(mut store) = open(dir.path()) {
        assert_whole(&mut store, GROUP, first, 200);
        store.write(&[write(201, 201)]).unwrap();
        drop(store);
        assert_whole(&mut open(dir.path()).unwrap(), GROUP, first, 201);
    }
}

#[test]
fn a_missing_segment_is_reported_wherever_it_was() {
    let dir = scratch();
    let mut store = open(dir.path()).unwrap();
    for index in 1..=40 {
        store.write(&[write_to(GROUP, index, index, 3_000)]).unwrap();
    }
    drop(store);
    let segments = segment_files(dir.path());
    assert!(segments.len() > 5);
    for path in &segments[..segments.len() - 1] {
        let aside = dir.path().join("aside");
        fs::rename(path, &aside).unwrap();
        let error = open(dir.path()).err().unwrap();
        let is_first = *path == segments[0];
        assert!(matches!(error, DeviceError::Damaged { .. }) || is_first && matches!(error, DeviceError::Corrupt { .. }), "{error}");
        fs::rename(aside, path).unwrap();
    }
    assert_whole(&mut open(dir.path()).unwrap(), GROUP, 1, 40);
}

#[test]
fn a_quiet_group_is_moved_so_that_the_others_get_their_files_back() {
    for has_upkeep in [true, false] {
        let dir = scratch();
        let mut store = open(dir.path()).unwrap();
        store.write(&[write_to(QUIET, 1, 3, 10), write(1, 1)]).unwrap();
        for index in 2..=200 {
            store.write(&[write_to(GROUP, index, index, 3_000)]).unwrap();
            store.truncate_prefix(GROUP, LogIndex(index - 1)).unwrap();
            while has_upkeep && store.upkeep().unwrap() {}
            let in_use = u64::from(store.current - store.oldest()) + 1;
            assert!(in_use <= SMALL.live_segments_max + 1, "{in_use} segments in use at entry {index}");
        }
        assert_whole(&mut store, QUIET, 1, 3);
        drop(store);
        let mut store = open(dir.path()).unwrap();
        assert_whole(&mut store, QUIET, 1, 3);
        store.write(&[write_to(QUIET, 4, 4, 10)]).unwrap();
        assert_whole(&mut store, QUIET, 1, 4);
        assert_whole(&mut store, GROUP, 200, 200);
    }
}

#[test]
fn a_log_that_is_only_written_to_is_not_copied() {
    let dir = scratch();
    let mut store = open(dir.path()).unwrap();
    for index in 1..=100 {
        store.write(&[write_to(GROUP, index, index, 1_000)]).unwrap();
        while index % 2 == 0 && store.upkeep().unwrap() {}
    }
    assert_eq!((store.oldest(), store.sequence), (1, 101));
    assert!(u64::from(store.current) > SMALL.live_segments_max / 2 && store.oldest_pinned().is_some());
}

#[test]
fn a_group_that_needs_much_of_the_oldest_file_is_named_and_gives_it_back_when_compacted() {
    let dir = scratch();
    let mut store = open(dir.path()).unwrap();
    assert_eq!(store.oldest_pinned(), None);
    store.write(&[write_to(QUIET, 1, 10, 1_000), write(1, 1)]).unwrap();
    for index in 2..=100 {
        store.write(&[write_to(GROUP, index, index, 3_000)]).unwrap();
        store.truncate_prefix(GROUP, LogIndex(index - 1)).unwrap();
        while store.upkeep().unwrap() {}
    }
    let pinned = store.oldest_pinned().unwrap();
    assert_eq!((pinned.group, pinned.upto), (QUIET, LogIndex(10)));
    assert!(pinned.bytes > 10_000 && pinned.files > SMALL.live_segments_max, "{pinned:?}");
    store.truncate_prefix(pinned.group, pinned.upto).unwrap();
    while store.upkeep().unwrap() {}
    assert!(segment_files(dir.path()).len() <= 3, "{:?}", segment_files(dir.path()));
    assert_eq!(store.oldest_pinned().filter(|pinned| pinned.group == QUIET), None);
}

#[test]
fn a_write_larger_than_a_segment_gets_one_of_its_own() {
    let dir = scratch();
    let mut store = open(dir.path()).unwrap();
    store.write(&[write(1, 2)]).unwrap();
    while store.upkeep().unwrap() {}
    store.write(&[write_to(GROUP, 3, 60, 5_000), write_to(QUIET, 1, 20, 5_000)]).unwrap();
    store.write(&[write(61, 61)]).unwrap();
    while store.upkeep().unwrap() {}
    assert_whole(&mut store, GROUP, 1, 61);
    drop(store);
    let mut store = open(dir.path()).unwrap();
    assert_whole(&mut store, GROUP, 1, 61);
    assert_whole(&mut store, QUIET, 1, 20);
    // The segment that was passed over is empty, and does not stand in the way when it is the oldest.
    store.truncate_prefix(GROUP, LogIndex(2)).unwrap();
    assert!(store.give_up_oldest().unwrap());
    drop(store);
    assert_whole(&mut open(dir.path()).unwrap(), GROUP, 3, 61);
}

#[test]
fn nothing_grows_while_something_is_prepared() {
    let dir = scratch();
    let mut store = open(dir.path()).unwrap();
    while store.upkeep().unwrap() {}
    let lengths = || -> Vec<u64> { segment_files(dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).collect() };
    let before = lengths();
    assert_eq!(before, [SMALL.opening_bytes, SMALL.segment_bytes]);
    for index in 1..=12 {
        store.write(&[write_to(GROUP, index, index, 3_000)]).unwrap();
        assert_eq!(lengths(), before);
    }
    assert_eq!(store.current, 2);
}

#[test]
fn nothing_is_prepared_ahead_that_others_need_the_room_of_and_writes_go_on() {
    let dir = scratch();
    let ahead = |store: &SegmentStore| store.segments.range(store.current + 1..).count();
    let mut store = SegmentStore::open(dir.path(), SegmentOptions { reserve_bytes: u64::MAX, ..SMALL }).unwrap();
    assert!(!store.upkeep().unwrap());
    // Several segments long, each made when it is needed and no longer than that.
    for index in 1..=200 {
        store.write(&[write_to(GROUP, index, index, 500)]).unwrap();
        assert!(!store.upkeep().unwrap());
    }
    assert!(store.current > 4 && ahead(&store) == 0 && store.preparing.is_none());
    assert!(store.segments.values().all(|segment| segment.header.bytes == SMALL.opening_bytes));
    drop(store);
    // The room goes while one is being prepared: what was begun is given back.
    let mut store = SegmentStore::open(dir.path(), SegmentOptions { segment_bytes: 12 << 20, ..SMALL }).unwrap();
    assert!(store.upkeep().unwrap());
    let begun = store.preparing.as_ref().expect("a third is done").path.clone();
    store.options.reserve_bytes = u64::MAX;
    assert!(!store.upkeep().unwrap());
    assert!(!begun.exists() && store.preparing.is_none());
    assert_whole(&mut store, GROUP, 1, 200);
}

#[test]
fn a_full_store_says_so_and_writes_no_more() {
    let dir = scratch();
    let options = SegmentOptions { log_bytes_max: 100 << 10, ..SMALL };
    let mut store = SegmentStore::open(dir.path(), options).unwrap();
    let mut next = 1;
    let error = loop {
        while store.upkeep().unwrap() {}
        match store.write(&[write_to(GROUP, next, next, 3_000)]) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, DeviceError::Full { limit_bytes, .. } if limit_bytes == options.log_bytes_max), "{error}");
    assert!(matches!(store.write(&[]), Err(DeviceError::Failed)));
    assert!(matches!(store.upkeep(), Err(DeviceError::Failed)));
    assert_whole(&mut store, GROUP, 1, next - 1);
    drop(store);
    assert_whole(&mut open(dir.path()).unwrap(), GROUP, 1, next - 1);
    let options = SegmentOptions { entries_max: next, ..SMALL };
    let error = SegmentStore::open(dir.path(), options).unwrap().write(&[write(next, next + 1)]).unwrap_err();
    assert!(matches!(error, DeviceError::Full { op: "index in memory", .. }), "{error}");
}

#[test]
fn an_error_of_the_device_names_what_was_tried_and_where_and_is_final() {
    let dir = scratch();
    let mut store = open(dir.path()).unwrap();
    store.write(&[write(1, 1)]).unwrap();
    let path = store.segments[&1].path.clone();
    store.segments.get_mut(&1).unwrap().file = File::options().read(true).write(true).open("/dev/full").unwrap();
    let error = store.write(&[write(2, 2)]).unwrap_err();
    let DeviceError::Io { op: "write", path: found, source } = &error else { panic!("{error}") };
    assert_eq!((found, source.kind()), (&path, std::io::ErrorKind::StorageFull));
    assert!(matches!(store.write(&[write(2, 2)]), Err(DeviceError::Failed)));
    assert!(matches!(store.truncate_prefix(GROUP, LogIndex(1)), Err(DeviceError::Failed)));
    // A directory that is gone when the next segment is due.
    let dir = scratch();
    let mut store = open(dir.path()).unwrap();
    fs::remove_dir_all(dir.path()).unwrap();
    let error = store.write(&[write_to(GROUP, 1, 10, 3_000)]).unwrap_err();
    assert!(matches!(&error, DeviceError::Io { op: "create", .. }), "{error}");
}

#[test]
fn a_store_of_a_later_format_is_refused_and_left_as_it_is() {
    let dir = scratch();
    let mut store = open(dir.path()).unwrap();
    store.write(&[write(1, 1)]).unwrap();
    drop(store);
    let path = segment_files(dir.path()).remove(0);
    let mut image = fs::read(&path).unwrap();
    image[8] = 7;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&image[..12]);
    hasher.update(&image[16..HEADER_BYTES as usize]);
    image[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
    fs::write(&path, &image).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, DeviceError::NewerFormat { found: 7, supported: FORMAT }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), image);
    File::options().write(true).open(&path).unwrap().set_len(9_000).unwrap();
    assert!(matches!(open(dir.path()).err().unwrap(), DeviceError::NewerFormat { .. } | DeviceError::Damaged { .. }));
}

#[test]
fn a_second_owner_is_kept_out_and_a_foreign_file_too() {
    let dir = scratch();
    let owner = |n| Identity {
        cluster: ClusterId::new(Timestamp::from_us(n), Slot::truncate(0), n),
        node: NodeId::new(Timestamp::from_us(n), Slot::truncate(0), n),
    };
    let mut store = open(dir.path()).unwrap();
    store.set_identity(owner(1)).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, DeviceError::Io { op: "lock", .. }), "{error}");
    while store.upkeep().unwrap() {}
    drop(store);
    // The second file names the owner; one of another owner does not fit.
    let other = scratch();
    let mut store = open(other.path()).unwrap();
    store.set_identity(owner(2)).unwrap();
    while store.upkeep().unwrap() {}
    drop(store);
    fs::copy(&segment_files(other.path())[1], &segment_files(dir.path())[1]).unwrap();
    assert!(matches!(open(dir.path()).err().unwrap(), DeviceError::ForeignIdentity { .. }));
}
