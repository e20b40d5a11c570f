//! What every log store must do, asked of each of them in the same words.

use std::path::Path;

use bytes::Bytes;
use distric_model::{ClusterId, GroupId, NodeId, Slot, Timestamp};
use distric_raft::{Entry, EntryKind, HardState, LogIndex, Membership, Position, Recovered, Term, TermRun};
use distric_raft_store::{
    DeviceError, GroupWrite, Identity, LmdbOptions, LmdbStore, LogStore, MemoryStore, SegmentOptions, SegmentStore, TAIL_BYTES_MAX,
};

/// A store that can be closed and opened again.
trait Subject {
    type Store: LogStore;
    fn open(&self) -> Self::Store;
    fn reopen(&self, store: Self::Store) -> Self::Store;
}

struct Memory;

impl Subject for Memory {
    type Store = MemoryStore;
    fn open(&self) -> MemoryStore {
        MemoryStore::new()
    }
    fn reopen(&self, mut store: MemoryStore) -> MemoryStore {
        store.crash();
        store
    }
}

struct Lmdb(tempfile::TempDir);

impl Subject for Lmdb {
    type Store = LmdbStore;
    fn open(&self) -> LmdbStore {
        let options = LmdbOptions { opening_bytes: 1 << 20, ..LmdbOptions::default() };
        LmdbStore::open(Path::new(self.0.path()), options).unwrap()
    }
    fn reopen(&self, store: LmdbStore) -> LmdbStore {
        drop(store);
        self.open()
    }
}

struct Segments(tempfile::TempDir);

impl Subject for Segments {
    type Store = SegmentStore;
    fn open(&self) -> SegmentStore {
        let options = SegmentOptions { segment_bytes: 1 << 20, opening_bytes: 64 << 10, ..SegmentOptions::default() };
        SegmentStore::open(Path::new(self.0.path()), options).unwrap()
    }
    fn reopen(&self, store: SegmentStore) -> SegmentStore {
        drop(store);
        self.open()
    }
}

macro_rules! conformance {
    ($($claim:ident),* $(,)?) => {
        mod memory { $(#[test] fn $claim() { super::$claim(&super::Memory); })* }
        mod lmdb { $(#[test] fn $claim() { super::$claim(&super::Lmdb(tempfile::tempdir().unwrap())); })* }
        mod segment { $(#[test] fn $claim() { super::$claim(&super::Segments(tempfile::tempdir().unwrap())); })* }
    };
}

conformance!(
    a_new_store_is_empty,
    entries_and_hard_state_come_back,
    a_suffix_is_replaced,
    a_cut_can_leave_nothing,
    a_hard_state_alone_is_kept,
    many_groups_share_a_write_and_keep_apart,
    one_group_may_be_written_twice_in_one_write,
    reads_are_paged_by_bytes,
    reads_outside_of_the_log_are_empty,
    the_tail_is_bounded_and_the_terms_are_complete,
    membership_entries_are_always_recovered,
    a_prefix_is_removed,
    a_log_begins_anew_behind_a_snapshot,
    an_owner_is_kept_and_another_refused,
    a_log_without_its_term_is_refused,
);

const GROUP: GroupId = GroupId(7);

fn node(n: u64) -> NodeId {
    NodeId::new(Timestamp::from_us(n), Slot::truncate(0), n)
}

fn entry(term: u64, index: u64) -> Entry {
    let data = Bytes::from(format!("command {index} of term {term}"));
    Entry { index: LogIndex(index), term: Term(term), kind: EntryKind::Command, data }
}

fn hard(term: u64, commit: u64) -> Option<HardState> {
    Some(HardState { term: Term(term), vote: Some(node(term)), commit: LogIndex(commit) })
}

fn write(group: GroupId, hard_state: Option<HardState>, cut: Option<u64>, entries: Vec<Entry>) -> GroupWrite {
    GroupWrite { group, hard_state, truncate_from: cut.map(LogIndex), entries, ..GroupWrite::default() }
}

fn all(store: &mut impl LogStore, group: GroupId) -> Vec<Entry> {
    store.read(group, LogIndex(1), LogIndex(u64::MAX), u64::MAX).unwrap()
}

fn recovered(store: &mut impl LogStore, group: GroupId) -> Recovered {
    store.recover().unwrap().into_iter().find(|(found, _)| *found == group).unwrap().1
}

fn a_new_store_is_empty(subject: &impl Subject) {
    let mut store = subject.open();
    assert!(store.recover().unwrap().is_empty());
    assert!(all(&mut store, GROUP).is_empty());
    assert_eq!(store.identity(), None);
    store.write(&[]).unwrap();
    assert!(subject.reopen(store).recover().unwrap().is_empty());
}

fn entries_and_hard_state_come_back(subject: &impl Subject) {
    let mut store = subject.open();
    store.write(&[write(GROUP, hard(2, 1), None, vec![entry(1, 1), entry(1, 2), entry(2, 3)])]).unwrap();
    store.write(&[write(GROUP, None, None, vec![entry(2, 4)])]).unwrap();
    let mut store = subject.reopen(store);
    let found = recovered(&mut store, GROUP);
    assert_eq!(Some(found.hard_state), hard(2, 1));
    assert_eq!((found.base, found.last), (Position::ZERO, Position::new(Term(2), LogIndex(4))));
    assert_eq!(found.term_runs, [TermRun { first: LogIndex(1), term: Term(1) }, TermRun { first: LogIndex(3), term: Term(2) }]);
    assert_eq!(found.tail, [entry(1, 1), entry(1, 2), entry(2, 3), entry(2, 4)]);
    assert_eq!(all(&mut store, GROUP), found.tail);
}

fn a_suffix_is_replaced(subject: &impl Subject) {
    let mut store = subject.open();
    store.write(&[write(GROUP, hard(1, 0), None, (1..=5).map(|index| entry(1, index)).collect())]).unwrap();
    store.write(&[write(GROUP, hard(2, 1), Some(3), vec![entry(2, 3)])]).unwrap();
    let mut store = subject.reopen(store);
    assert_eq!(all(&mut store, GROUP), [entry(1, 1), entry(1, 2), entry(2, 3)]);
    assert_eq!(recovered(&mut store, GROUP).last, Position::new(Term(2), LogIndex(3)));
    // Behind the end there is nothing to cut.
    store.write(&[write(GROUP, None, Some(9), vec![entry(2, 4)])]).unwrap();
    assert_eq!(all(&mut store, GROUP).len(), 4);
}

fn a_cut_can_leave_nothing(subject: &impl Subject) {
    let mut store = subject.open();
    store.write(&[write(GROUP, hard(1, 0), None, vec![entry(1, 1), entry(1, 2)])]).unwrap();
    store.write(&[write(GROUP, hard(2, 0), Some(1), vec![])]).unwrap();
    let mut store = subject.reopen(store);
    assert!(all(&mut store, GROUP).is_empty());
    assert_eq!(recovered(&mut store, GROUP).last, Position::ZERO);
    store.write(&[write(GROUP, None, None, vec![entry(2, 1)])]).unwrap();
    assert_eq!(all(&mut store, GROUP), [entry(2, 1)]);
}

fn a_hard_state_alone_is_kept(subject: &impl Subject) {
    let mut store = subject.open();
    store.write(&[write(GROUP, hard(4, 0), None, vec![])]).unwrap();
    let mut store = subject.reopen(store);
    assert_eq!(Some(recovered(&mut store, GROUP).hard_state), hard(4, 0));
    let unvoted = HardState { term: Term(5), vote: None, commit: LogIndex(0) };
    store.write(&[write(GROUP, Some(unvoted), None, vec![])]).unwrap();
    assert_eq!(recovered(&mut subject.reopen(store), GROUP).hard_state, unvoted);
}

fn many_groups_share_a_write_and_keep_apart(subject: &impl Subject) {
    let mut store = subject.open();
    let groups = [GroupId(0), GroupId(1), GroupId(2), GroupId(255), GroupId(256), GroupId(1_023)];
    for round in 1..=20 {
        let writes: Vec<GroupWrite> = groups.iter().map(|group| write(*group, hard(round, 0), None, vec![entry(round, round)])).collect();
        store.write(&writes).unwrap();
    }
    store.write(&[write(GroupId(1), hard(30, 0), Some(11), vec![])]).unwrap();
    let mut store = subject.reopen(store);
    let found: Vec<(GroupId, u64)> = store.recover().unwrap().into_iter().map(|(group, found)| (group, found.last.index.0)).collect();
    assert_eq!(found, groups.map(|group| (group, if group == GroupId(1) { 10 } else { 20 })));
    for group in groups {
        let expected: Vec<Entry> = (1..=if group == GroupId(1) { 10 } else { 20 }).map(|round| entry(round, round)).collect();
        assert_eq!(all(&mut store, group), expected);
    }
}

fn one_group_may_be_written_twice_in_one_write(subject: &impl Subject) {
    let mut store = subject.open();
    let first = write(GROUP, hard(1, 0), None, vec![entry(1, 1), entry(1, 2)]);
    let second = write(GROUP, hard(2, 1), Some(2), vec![entry(2, 2), entry(2, 3)]);
    store.write(&[first, second]).unwrap();
    let mut store = subject.reopen(store);
    assert_eq!(all(&mut store, GROUP), [entry(1, 1), entry(2, 2), entry(2, 3)]);
    assert_eq!(Some(recovered(&mut store, GROUP).hard_state), hard(2, 1));
}

fn reads_are_paged_by_bytes(subject: &impl Subject) {
    let mut store = subject.open();
    let entries: Vec<Entry> = (1..=50).map(|index| entry(1, index)).collect();
    let other = write(GroupId(8), hard(1, 0), None, vec![entry(1, 1)]);
    store.write(&[write(GROUP, hard(1, 0), None, entries.clone()), other]).unwrap();
    let mut found: Vec<Entry> = Vec::new();
    let mut pages = 0;
    while let Some(page) =
        Some(store.read(GROUP, LogIndex(found.len() as u64 + 1), LogIndex(50), 500).unwrap()).filter(|page| !page.is_empty())
    {
        let bytes: u64 = page.iter().map(Entry::cost_bytes).sum();
        assert!(bytes >= 500 || found.len() + page.len() == 50, "a page of {bytes} bytes");
        assert!(bytes < 500 + page.last().unwrap().cost_bytes(), "a page of {bytes} bytes");
        found.extend(page);
        pages += 1;
    }
    assert_eq!(found, entries);
    assert!(pages > 5);
    assert_eq!(store.read(GROUP, LogIndex(3), LogIndex(50), 0).unwrap(), [entry(1, 3)], "one entry comes however small the page is");
    assert_eq!(store.read(GROUP, LogIndex(3), LogIndex(4), u64::MAX).unwrap(), [entry(1, 3), entry(1, 4)]);
}

fn reads_outside_of_the_log_are_empty(subject: &impl Subject) {
    let mut store = subject.open();
    store.write(&[write(GROUP, hard(1, 0), None, vec![entry(1, 1)])]).unwrap();
    assert!(store.read(GROUP, LogIndex(2), LogIndex(9), u64::MAX).unwrap().is_empty());
    assert!(store.read(GROUP, LogIndex(0), LogIndex(9), u64::MAX).unwrap().is_empty());
    assert!(store.read(GROUP, LogIndex(1), LogIndex(0), u64::MAX).unwrap().is_empty());
    assert!(store.read(GroupId(6), LogIndex(1), LogIndex(9), u64::MAX).unwrap().is_empty());
}

fn the_tail_is_bounded_and_the_terms_are_complete(subject: &impl Subject) {
    let mut store = subject.open();
    let large = |index: u64| Entry { data: Bytes::from(vec![b'x'; 400_000]), ..entry(1 + index / 10, index) };
    for index in 1..=25 {
        store.write(&[write(GROUP, hard(9, 0), None, vec![large(index)])]).unwrap();
    }
    let found = recovered(&mut subject.reopen(store), GROUP);
    assert_eq!(found.term_runs.iter().map(|run| run.first.0).collect::<Vec<_>>(), [1, 10, 20]);
    let bytes: u64 = found.tail.iter().map(Entry::cost_bytes).sum();
    assert!(bytes <= TAIL_BYTES_MAX && bytes + 400_064 > TAIL_BYTES_MAX, "a tail of {bytes} bytes");
    assert_eq!(found.tail.last().unwrap().index, LogIndex(25));
    assert_eq!(found.check(), Ok(()));
}

fn membership_entries_are_always_recovered(subject: &impl Subject) {
    let mut store = subject.open();
    let membership = Membership::new(vec![node(1), node(2), node(3)], vec![]).unwrap();
    let founding = membership.founding_entry();
    store.write(&[write(GROUP, hard(1, 1), None, vec![founding.clone()])]).unwrap();
    let large = |index: u64| Entry { data: Bytes::from(vec![b'x'; 1 << 20]), ..entry(1, index) };
    store.write(&[write(GROUP, None, None, (2..=8).map(large).collect())]).unwrap();
    let found = recovered(&mut subject.reopen(store), GROUP);
    assert_eq!(found.memberships, [founding]);
    assert!(found.tail.first().unwrap().index > LogIndex(2));
}

fn a_prefix_is_removed(subject: &impl Subject) {
    let mut store = subject.open();
    store.write(&[write(GROUP, hard(2, 5), None, (1..=6).map(|index| entry(1 + index / 4, index)).collect())]).unwrap();
    store.write(&[write(GroupId(8), hard(1, 0), None, vec![entry(1, 1)])]).unwrap();
    store.truncate_prefix(GROUP, LogIndex(4)).unwrap();
    store.truncate_prefix(GROUP, LogIndex(2)).unwrap();
    store.truncate_prefix(GroupId(99), LogIndex(2)).unwrap();
    let mut store = subject.reopen(store);
    let found = recovered(&mut store, GROUP);
    assert_eq!((found.base, found.last), (Position::new(Term(2), LogIndex(4)), Position::new(Term(2), LogIndex(6))));
    assert_eq!(found.tail, [entry(2, 5), entry(2, 6)]);
    assert!(store.read(GROUP, LogIndex(4), LogIndex(6), u64::MAX).unwrap().is_empty());
    assert_eq!(store.read(GROUP, LogIndex(5), LogIndex(6), u64::MAX).unwrap().len(), 2);
    assert_eq!(all(&mut store, GroupId(8)), [entry(1, 1)]);
    // Everything may go, and the log goes on behind it.
    store.truncate_prefix(GROUP, LogIndex(6)).unwrap();
    store.write(&[write(GROUP, None, None, vec![entry(3, 7)])]).unwrap_or_else(|error| panic!("{error}"));
    store.write(&[write(GROUP, hard(3, 6), None, vec![])]).unwrap();
    let found = recovered(&mut subject.reopen(store), GROUP);
    assert_eq!((found.base.index, found.last.index, found.tail.len()), (LogIndex(6), LogIndex(7), 1));
}

fn a_log_begins_anew_behind_a_snapshot(subject: &impl Subject) {
    let mut store = subject.open();
    store.write(&[write(GROUP, hard(2, 5), None, (1..=6).map(|index| entry(1 + index / 4, index)).collect())]).unwrap();
    store.write(&[write(GroupId(8), hard(1, 0), None, vec![entry(1, 1)])]).unwrap();
    let base = Position::new(Term(3), LogIndex(100));
    let anew = |entries| GroupWrite { reset_to: Some(base), ..write(GROUP, hard(3, 100), None, entries) };
    store.write(&[anew(vec![entry(3, 101), entry(4, 102)]), write(GROUP, hard(4, 101), Some(102), vec![entry(4, 102)])]).unwrap();
    let mut store = subject.reopen(store);
    let found = recovered(&mut store, GROUP);
    assert_eq!((found.base, found.last), (base, Position::new(Term(4), LogIndex(102))));
    assert_eq!(found.tail, [entry(3, 101), entry(4, 102)]);
    assert!(store.read(GROUP, LogIndex(1), LogIndex(6), u64::MAX).unwrap().is_empty());
    assert_eq!(all(&mut store, GroupId(8)), [entry(1, 1)]);
    // To somewhere within what is there, and of a group that nobody has heard of.
    let base = Position::new(Term(3), LogIndex(101));
    store.write(&[GroupWrite { reset_to: Some(base), ..write(GROUP, None, None, vec![]) }]).unwrap();
    store.write(&[GroupWrite { reset_to: Some(base), ..write(GroupId(9), hard(3, 101), None, vec![]) }]).unwrap();
    let mut store = subject.reopen(store);
    for group in [GROUP, GroupId(9)] {
        let found = recovered(&mut store, group);
        assert_eq!((found.base, found.last, found.tail.len()), (base, base, 0));
    }
    store.write(&[write(GROUP, hard(5, 101), None, vec![entry(5, 102)])]).unwrap();
    assert_eq!(recovered(&mut subject.reopen(store), GROUP).tail, [entry(5, 102)]);
}

fn an_owner_is_kept_and_another_refused(subject: &impl Subject) {
    let mut store = subject.open();
    let owner = Identity { cluster: ClusterId::new(Timestamp::from_us(1), Slot::truncate(0), 1), node: node(1) };
    store.set_identity(owner).unwrap();
    store.set_identity(owner).unwrap();
    let mut store = subject.reopen(store);
    assert_eq!(store.identity(), Some(owner));
    let other = Identity { node: node(2), ..owner };
    assert!(matches!(store.set_identity(other), Err(DeviceError::ForeignIdentity { found, given }) if found == owner && given == other));
    assert_eq!(store.identity(), Some(owner));
    store.write(&[write(GROUP, hard(1, 0), None, vec![])]).unwrap();
}

/// An entry that is durable without its term could let an old leader overwrite what was committed.
fn a_log_without_its_term_is_refused(subject: &impl Subject) {
    let mut store = subject.open();
    store.write(&[write(GROUP, hard(1, 0), None, vec![entry(2, 1)])]).unwrap();
    let error = subject.reopen(store).recover().unwrap_err();
    assert!(matches!(error, DeviceError::Corrupt { group: GROUP, .. }), "{error}");
}

/// `cargo test -p distric-raft-store --test conformance -- --ignored --nocapture`: what one write costs here.
#[test]
#[ignore = "a measurement"]
fn what_a_write_costs() {
    let dir = tempfile::tempdir_in(std::env::var("RAFT_STORE_BENCH_DIR").unwrap_or_else(|_| ".".to_owned())).unwrap();
    let began = std::time::Instant::now();
    let mut store = LmdbStore::open(dir.path(), LmdbOptions::default()).unwrap();
    println!("opened and prepared in {} ms", began.elapsed().as_millis());
    while store.upkeep().unwrap() {}
    let data = Bytes::from(vec![b'x'; 300]);
    let mut next = [1_u64; 5];
    for (groups, each) in [(1, 1), (5, 1), (1, 20), (5, 20), (1, 200), (5, 200)] {
        let mut micros: Vec<u128> = Vec::new();
        let began = std::time::Instant::now();
        while began.elapsed().as_millis() < 1_000 {
            let fill = |group: usize| {
                let from = next[group];
                let entries = (from..from + each).map(|index| Entry { data: data.clone(), ..entry(1, index) }).collect();
                write(GroupId(group as u32), hard(1, 0), None, entries)
            };
            let writes: Vec<GroupWrite> = (0..groups).map(fill).collect();
            let one = std::time::Instant::now();
            store.write(&writes).unwrap();
            micros.push(one.elapsed().as_micros());
            (0..groups).for_each(|group| next[group] += each);
        }
        micros.sort_unstable();
        let at = |percent: usize| micros[micros.len() * percent / 100];
        let rate = micros.len() as u128 * groups as u128 * u128::from(each) * 1_000 / began.elapsed().as_millis();
        println!("{groups} groups x {each:>3} entries: {rate:>7} entries/s, p50 {:>5} us, p99 {:>6} us", at(50), at(99));
    }
}
