//! Power cuts behind every step: making, renaming, filling, giving up files, and every write.
//!
//! The store tells each step as it happens. Behind each, two disks are kept: one on which everything arrived, and one on
//! which nothing arrived that was not flushed. Both must open and hold what was acknowledged.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use super::super::files::Step;
use super::*;

thread_local! {
    static DISK: RefCell<Option<Disk>> = const { RefCell::new(None) };
}

/// Content of every file by name.
type Image = BTreeMap<String, Vec<u8>>;

struct Disk {
    dir: PathBuf,
    durable_content: BTreeMap<u64, Vec<u8>>,
    durable_names: BTreeMap<String, u64>,
    /// Entries of group 3 and 9 that were acknowledged: first (compacted below it), last.
    acknowledged: [(u64, u64); 2],
    steps: Vec<([(u64, u64); 2], Image)>,
}

pub fn observe(step: Step<'_>) {
    DISK.with_borrow_mut(|disk| {
        if let Some(disk) = disk {
            disk.note(step);
        }
    });
}

fn names(dir: &Path) -> BTreeMap<String, u64> {
    let items = fs::read_dir(dir).unwrap().map(|item| item.unwrap());
    items.map(|item| (item.file_name().into_string().unwrap(), item.metadata().unwrap().ino())).collect()
}

impl Disk {
    fn note(&mut self, step: Step<'_>) {
        match step {
            Step::ContentIsDurable(path) => {
                self.durable_content.insert(fs::metadata(path).unwrap().ino(), fs::read(path).unwrap());
            }
            Step::NamesAreDurable => self.durable_names = names(&self.dir),
            Step::Name | Step::Content => {}
        }
        let everything = names(&self.dir).into_keys().map(|name| (name.clone(), fs::read(self.dir.join(&name)).unwrap()));
        self.steps.push((self.acknowledged, everything.collect()));
        let content = |inode: &u64| self.durable_content.get(inode).cloned().unwrap_or_default();
        let durable = self.durable_names.iter().map(|(name, inode)| (name.clone(), content(inode)));
        self.steps.push((self.acknowledged, durable.collect()));
    }
}

const TINY: SegmentOptions =
    SegmentOptions { segment_bytes: 16 << 10, opening_bytes: 12 << 10, live_segments_max: 2, move_bytes_max: 1 << 10, ..SMALL };

fn acknowledge(change: impl FnOnce(&mut [(u64, u64); 2])) {
    DISK.with_borrow_mut(|disk| change(&mut disk.as_mut().unwrap().acknowledged));
}

#[test]
fn a_power_cut_behind_any_step_leaves_what_was_acknowledged() {
    for has_upkeep in [true, false] {
        let dir = scratch();
        let disk = Disk {
            dir: dir.path().to_owned(),
            durable_content: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            acknowledged: [(1, 0); 2],
            steps: Vec::new(),
        };
        DISK.set(Some(disk));
        let mut store = SegmentStore::open(dir.path(), TINY).unwrap();
        store.write(&[write_to(QUIET, 1, 2, 10)]).unwrap();
        acknowledge(|to| to[1].1 = 2);
        for index in 1..=40 {
            let data_bytes = if index == 20 { 30_000 } else { 2_000 };
            store.write(&[write_to(GROUP, index, index, data_bytes)]).unwrap();
            acknowledge(|to| to[0].1 = index);
            if index % 4 == 0 {
                // The first entry may be gone as soon as it is asked for.
                acknowledge(|to| to[0].0 = index - 1);
                store.truncate_prefix(GROUP, LogIndex(index - 2)).unwrap();
            }
            while has_upkeep && index % 2 == 0 && store.upkeep().unwrap() {}
        }
        assert!(store.current > 5);
        drop(store);
        let steps = DISK.take().unwrap().steps;
        assert!(steps.len() > 100, "{} steps", steps.len());
        for (number, (acknowledged, image)) in steps.into_iter().enumerate() {
            check(number, acknowledged, &image);
        }
    }
}

fn check(number: usize, acknowledged: [(u64, u64); 2], image: &Image) {
    let dir = scratch();
    for (name, content) in image {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let files: Vec<&String> = image.keys().collect();
    let mut store = SegmentStore::open(dir.path(), TINY).unwrap_or_else(|error| panic!("step {number}, {files:?}: {error}"));
    for (group, (first, upto)) in [GROUP, QUIET].into_iter().zip(acknowledged) {
        let found = last(&store, group);
        assert!(found >= upto && found <= upto + 2, "step {number}, {files:?}: {group} ends at {found}, {upto} acknowledged");
        if found >= first {
            assert_whole(&mut store, group, first, found);
        }
        let next = found + 1;
        store.write(&[write_to(group, next, next, 2_000)]).unwrap();
    }
    while store.upkeep().unwrap() {}
    store.recover().unwrap();
}
