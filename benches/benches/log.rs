//! What one durable write costs, in both log stores: entries a second, and the time of a write.
//!
//! ```text
//! TMPDIR=/a/real/disk cargo bench -p distric-benches --bench log [-- DIRECTORY]
//! ```
//!
//! A table, not criterion: what counts is the distribution of single flushes and not a mean. The stores take turns (A B A B)
//! in one run, so that a disturbance of the machine hits both. *Paced*: what upkeep has to do is done between the writes and not
//! timed, as on a node that is idle now and then. *Saturated*: nothing but writes, so each store prepares space on the
//! writer's time. In every cell the log is compacted behind the writer, and that is timed with the write behind which it happens.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use distric_model::GroupId;
use distric_raft::{Entry, EntryKind, HardState, LogIndex, Term};
use distric_raft_store::{GroupWrite, LmdbOptions, LmdbStore, LogStore, SegmentOptions, SegmentStore};

const ENTRY_BYTES: usize = 300;
const BATCHES: [u64; 4] = [1, 10, 100, 1_000];
const ROUNDS: usize = 2;
const CELL: Duration = Duration::from_millis(1_500);
/// Entries are compacted away in steps of this many.
const KEPT_ENTRIES: u64 = 50_000;

type Open = fn(&Path) -> Box<dyn LogStore>;

const STORES: [(&str, Open); 2] = [
    ("lmdb", |dir| Box::new(LmdbStore::open(dir, LmdbOptions::default()).expect("the directory is new"))),
    ("segment", |dir| Box::new(SegmentStore::open(dir, SegmentOptions::default()).expect("the directory is new"))),
];

/// One store, one size of batch, one way.
#[derive(Default)]
struct Cell {
    micros: Vec<u64>,
    seconds: f64,
}

fn main() {
    // The runner passes `--bench`; the first other word is the directory.
    let given = std::env::args().skip(1).find(|word| !word.starts_with('-')).map(PathBuf::from);
    let parent = given.unwrap_or_else(std::env::temp_dir);
    println!("{} B entries, {} ms a cell, {ROUNDS} turns, in {}, load {}", ENTRY_BYTES, CELL.as_millis(), parent.display(), load());
    println!("| store | way | batch | entries/s | p50 µs | p99 µs | p99.9 µs |\n|---|---|---|---|---|---|---|");
    for is_paced in [true, false] {
        for batch in BATCHES {
            let mut cells = [Cell::default(), Cell::default()];
            for _ in 0..ROUNDS {
                for ((_, open), cell) in STORES.iter().zip(&mut cells) {
                    let dir = tempfile::tempdir_in(&parent).expect("a directory to measure in");
                    measure(open(dir.path()).as_mut(), batch, is_paced, cell);
                }
            }
            for ((name, _), cell) in STORES.iter().zip(cells) {
                println!("| {name} | {} | {batch} | {} |", if is_paced { "paced" } else { "saturated" }, row(cell, batch));
            }
        }
    }
    println!("load at the end {}", load());
}

fn measure(store: &mut dyn LogStore, batch: u64, is_paced: bool, cell: &mut Cell) {
    let data = Bytes::from(vec![b'x'; ENTRY_BYTES]);
    while store.upkeep().expect("the disk holds it") {}
    let mut next = 1;
    let mut compacted = 0;
    let mut spent = Duration::ZERO;
    while spent < CELL {
        let entry = |index| Entry { index: LogIndex(index), term: Term(1), kind: EntryKind::Command, data: data.clone() };
        let entries = (next..next + batch).map(entry).collect();
        let hard_state = Some(HardState { term: Term(1), vote: None, commit: LogIndex(next - 1) });
        let write = [GroupWrite { group: GroupId(1), hard_state, entries, ..GroupWrite::default() }];
        let began = Instant::now();
        store.write(&write).expect("the disk holds it");
        next += batch;
        if next - compacted > 2 * KEPT_ENTRIES {
            compacted = next - KEPT_ENTRIES;
            store.truncate_prefix(GroupId(1), LogIndex(compacted)).expect("the disk holds it");
        }
        let took = began.elapsed();
        spent += took;
        cell.micros.push(u64::try_from(took.as_micros()).expect("a write ends"));
        while is_paced && store.upkeep().expect("the disk holds it") {}
    }
    cell.seconds += spent.as_secs_f64();
}

fn row(mut cell: Cell, batch: u64) -> String {
    cell.micros.sort_unstable();
    let at = |per_mille: usize| cell.micros[(cell.micros.len() * per_mille / 1_000).min(cell.micros.len() - 1)];
    let rate = cell.micros.len() as f64 * batch as f64 / cell.seconds;
    format!("{rate:.0} | {} | {} | {}", at(500), at(990), at(999))
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
