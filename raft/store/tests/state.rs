//! What every store of checkpoints promises.

use distric_model::{Change, ClusterId, GroupId, NodeId, Slot, Timestamp};
use distric_raft::{LogIndex, Membership, Position, Snapshot, Term};
use distric_raft_store::{
    DeviceError, Identity, LmdbStateStore, MemoryStateStore, OwnedRecord, SnapshotFile, StateOptions, StateStore, write_snapshot,
};

const GROUP: GroupId = GroupId(7);

fn node(n: u64) -> NodeId {
    NodeId::new(Timestamp::from_us(n), Slot::truncate(0), n)
}

fn at(index: u64) -> Snapshot {
    let membership = Membership::new(vec![node(1), node(2)], vec![node(3)]).unwrap();
    Snapshot { position: Position::new(Term(3), LogIndex(index)), membership }
}

fn put(key: &str, value: &str) -> Change {
    Change::put(key.as_bytes().to_vec(), value.as_bytes().to_vec())
}

fn records(store: &dyn StateStore, group: GroupId) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    store.read(group, &mut |records| found.extend(records.map(|(key, value)| (text(key), text(value))))).unwrap();
    found
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn checkpoints_build_on_each_other(mut open: impl FnMut(Option<Box<dyn StateStore>>) -> Box<dyn StateStore>) {
    let mut store = open(None);
    assert!(store.groups().is_empty() && store.snapshot(GROUP).is_none());
    assert!(store.commit(GROUP, &at(10), &[put("b", "1"), put("a", "1"), put("c", "1")]).unwrap());
    assert!(store.commit(GroupId(6), &at(5), &[put("z", "6")]).unwrap());
    assert!(store.commit(GroupId(8), &at(5), &[put("a", "8")]).unwrap());
    let mut store = open(Some(store));
    assert_eq!(records(&*store, GROUP), pairs(&[("a", "1"), ("b", "1"), ("c", "1")]));
    let gone = Change::removed(b"c".to_vec());
    assert!(store.commit(GROUP, &at(20), &[put("a", "2"), gone.clone(), Change::removed(b"never".to_vec()), put("a", "3")]).unwrap());
    // A late one, from before an installed snapshot, changes nothing.
    assert!(!store.commit(GROUP, &at(20), &[put("a", "late")]).unwrap());
    assert!(!store.commit(GROUP, &at(15), &[put("a", "late")]).unwrap());
    let store = open(Some(store));
    assert_eq!(records(&*store, GROUP), pairs(&[("a", "3"), ("b", "1")]));
    assert_eq!(store.snapshot(GROUP), Some(&at(20)));
    assert_eq!(store.groups(), [GroupId(6), GROUP, GroupId(8)]);
    assert_eq!(records(&*store, GroupId(8)), pairs(&[("a", "8")]));
}

fn a_snapshot_replaces_everything_or_nothing(mut open: impl FnMut(Option<Box<dyn StateStore>>) -> Box<dyn StateStore>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let mut leader = MemoryStateStore::new();
    assert_eq!(write_snapshot(&leader, GROUP, &path).unwrap(), None);
    leader.commit(GROUP, &at(30), &[put("a", "new"), put("d", ""), put("e", "long enough to be seen")]).unwrap();
    assert_eq!(write_snapshot(&leader, GROUP, &path).unwrap(), Some(at(30)));

    let mut store = open(None);
    store.commit(GROUP, &at(10), &[put("a", "1"), put("b", "1")]).unwrap();
    store.commit(GroupId(8), &at(5), &[put("a", "8")]).unwrap();
    let file = SnapshotFile::open(&path).unwrap();
    assert_eq!((file.group(), file.snapshot()), (GROUP, &at(30)));
    // An error among the records leaves what was there.
    let broken = || DeviceError::Damaged { path: path.clone(), reason: "made for this test".to_owned() };
    let mut half = [Ok((b"x".to_vec(), b"1".to_vec())), Err(broken())].into_iter();
    assert!(store.replace(GROUP, file.snapshot(), 100, &mut half).is_err());
    let mut store = open(Some(store));
    assert_eq!((records(&*store, GROUP), store.snapshot(GROUP)), (pairs(&[("a", "1"), ("b", "1")]), Some(&at(10))));

    assert!(store.replace(GROUP, file.snapshot(), file.bytes(), &mut file.records().unwrap()).unwrap());
    let mut store = open(Some(store));
    assert_eq!(records(&*store, GROUP), pairs(&[("a", "new"), ("d", ""), ("e", "long enough to be seen")]));
    assert_eq!((store.snapshot(GROUP), records(&*store, GroupId(8))), (Some(&at(30)), pairs(&[("a", "8")])));
    assert!(!store.replace(GROUP, &at(29), 0, &mut std::iter::empty::<Result<OwnedRecord, DeviceError>>()).unwrap());
    assert_eq!(records(&*store, GROUP).len(), 3);
}

fn the_owner_is_kept(mut open: impl FnMut(Option<Box<dyn StateStore>>) -> Box<dyn StateStore>) {
    let owner = Identity { cluster: ClusterId::new(Timestamp::from_us(1), Slot::truncate(0), 1), node: node(1) };
    let mut store = open(None);
    store.set_identity(owner).unwrap();
    let mut store = open(Some(store));
    store.set_identity(owner).unwrap();
    assert!(matches!(store.set_identity(Identity { node: node(2), ..owner }), Err(DeviceError::ForeignIdentity { .. })));
    assert_eq!(store.identity(), Some(owner));
}

macro_rules! every_store {
    ($($claim:ident),* $(,)?) => {
        mod memory { $(#[test] fn $claim() {
            super::$claim(|store| store.unwrap_or_else(|| Box::new(super::MemoryStateStore::new())));
        })* }
        mod lmdb { $(#[test] fn $claim() {
            let dir = tempfile::tempdir().unwrap();
            super::$claim(|store| {
                drop(store);
                Box::new(super::LmdbStateStore::open(dir.path(), super::StateOptions::default()).unwrap())
            });
        })* }
    };
}

every_store!(checkpoints_build_on_each_other, a_snapshot_replaces_everything_or_nothing, the_owner_is_kept);

#[test]
fn every_flipped_bit_of_a_snapshot_file_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let mut store = MemoryStateStore::new();
    store.commit(GROUP, &at(30), &[put("a", "1"), put("b", "2")]).unwrap();
    write_snapshot(&store, GROUP, &path).unwrap();
    let sound = std::fs::read(&path).unwrap();
    for bit in 0..sound.len() * 8 {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &bytes).unwrap();
        assert!(SnapshotFile::open(&path).is_err(), "bit {bit}");
    }
    for len in 0..sound.len() {
        std::fs::write(&path, &sound[..len]).unwrap();
        assert!(SnapshotFile::open(&path).is_err(), "cut to {len} bytes");
    }
}

#[test]
fn a_record_that_the_disk_changed_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = LmdbStateStore::open(dir.path(), StateOptions::default()).unwrap();
    store.commit(GROUP, &at(10), &[put("key", "a value that can be found in the file")]).unwrap();
    drop(store);
    let path = dir.path().join("data.mdb");
    let mut bytes = std::fs::read(&path).unwrap();
    let needle = b"a value that can be found";
    let places: Vec<usize> = (0..bytes.len() - needle.len()).filter(|at| bytes[*at..].starts_with(needle)).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| bytes[*at] = b'X');
    std::fs::write(&path, &bytes).unwrap();
    let store = LmdbStateStore::open(dir.path(), StateOptions::default()).unwrap();
    let error = store.read(GROUP, &mut |records| assert_eq!(records.count(), 0)).unwrap_err();
    assert!(error.to_string().contains("6b6579"), "names the key: {error}");
}
