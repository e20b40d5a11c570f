//! The log in segment files: one append-only stream of records for all groups, one flush for each `write`.
//!
//! A `write` becomes one batch: one call that writes it over zeros, one `fdatasync`. A file never grows and never changes its name
//! on that way, so the flush does not wait for the file system's journal; the next segment is filled with zeros and given
//! its name ahead, by [`LogStore::upkeep`]. A batch lies in one segment; one that is larger than a segment gets a segment
//! of its own size.
//!
//! Hard states are records of the same stream, written before the entries that they precede. The first batch of a segment begins
//! with the state of every group, so a segment that no entry needs can be given up: its file goes back to zeros and becomes
//! a later segment. Segments are given up from the oldest, so a group that writes little and compacts late would keep
//! all of them; see [`LogStore::oldest_pinned`] and [`SegmentOptions::move_bytes_max`].
//!
//! After a power cut a batch that was never finished is removed; it was never acknowledged. Any other damage is an error.
//! How the two are told apart: `format.rs`; it takes for granted that a disk does not harm bytes of a sector that were there
//! before, when it writes that sector again with the same bytes in their place.
//!
//! Start reading at [`SegmentStore::commit`].

mod files;
mod format;
mod index;
mod open;
mod read;
mod scan;
mod space;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use distric_model::GroupId;
use distric_raft::{Entry, LogIndex, Position, Recovered};

use crate::error::DeviceError;
use crate::identity::Identity;
use crate::record;
use crate::store::{GroupWrite, LogStore, Pinned};
use files::Files;
use format::{BATCH_FRAME_BYTES, Batch, Header, Record, RecordKind};
use index::{Index, Place};
use read::cost_bytes;

/// Size of a segment unless told otherwise. Larger ones make moving to the next rarer, smaller ones give space back sooner.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// Sizes of a segment store.
#[derive(Clone, Copy, Debug)]
pub struct SegmentOptions {
    /// Size of a segment that was prepared ahead, bytes; at most 1 GiB.
    pub segment_bytes: u64,
    /// Size of the segment that a new store begins with, and of one that is prepared while a write waits, bytes: some
    /// milliseconds. It is larger when the write needs more.
    pub opening_bytes: u64,
    /// Whether [`LogStore::upkeep`] prepares the next segment.
    pub prepares_ahead: bool,
    /// No segment is prepared ahead that would leave others less than this on the disk, bytes. What a write needs is taken all the same.
    pub reserve_bytes: u64,
    /// All segments together take no more, bytes; then the store is full.
    pub log_bytes_max: u64,
    /// When more segments than this are in use, what little is needed of the oldest is moved.
    pub live_segments_max: u64,
    /// That little, bytes; and no more than an eighth of the segment. A group that needs more of the oldest segment keeps it until it is compacted.
    pub move_bytes_max: u64,
    /// Most entries of all groups, each of which takes 24 bytes of memory; then the store is full.
    pub entries_max: u64,
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            opening_bytes: 4 << 20,
            prepares_ahead: true,
            reserve_bytes: SEGMENT_BYTES,
            log_bytes_max: 256 << 30,
            live_segments_max: 8,
            move_bytes_max: 4 << 20,
            entries_max: 64 << 20,
        }
    }
}

/// A [`LogStore`] in segment files of its own directory.
pub struct SegmentStore {
    files: Files,
    options: SegmentOptions,
    index: Index,
    /// In use and prepared ones, without gaps.
    segments: BTreeMap<u32, Segment>,
    /// The one that is written to; those behind it are prepared.
    current: u32,
    /// Number of the next batch.
    sequence: u64,
    /// Where the last batch began when the store was opened.
    last_batch_at: u64,
    /// Given up, kept for their blocks.
    free: Vec<PathBuf>,
    preparing: Option<Preparing>,
    /// The disk had no room to prepare ahead although it said that it had: a quota, perhaps. It is not tried again in this run.
    is_denied: bool,
    batch: Batch,
    failed: bool,
}

struct Segment {
    file: File,
    path: PathBuf,
    header: Header,
    seed: u32,
    /// Behind the last batch.
    end: u64,
}

impl Segment {
    fn source(&self) -> scan::Source<'_> {
        scan::Source { file: &self.file, path: &self.path, generation: self.header.generation, seed: self.seed, bytes: self.header.bytes }
    }
}

/// A file on its way to become a segment.
struct Preparing {
    file: File,
    path: PathBuf,
    /// Zeros up to here, durably.
    zeroed_bytes: u64,
}

impl SegmentStore {
    /// Writes one batch and makes it durable. `bytes_max` bounds the records that `fill` adds.
    fn commit(&mut self, bytes_max: u64, fill: impl FnOnce(&mut Batch)) -> Result<(), DeviceError> {
        let is_new = self.make_room(bytes_max + BATCH_FRAME_BYTES)?;
        let segment = self.segments.get_mut(&self.current).expect("there is a current segment");
        self.batch.begin(segment.seed, self.sequence);
        if is_new {
            self.index.checkpoint(&mut self.batch);
        }
        fill(&mut self.batch);
        let batch = self.batch.seal(segment.end);
        assert!(batch.len() as u64 <= segment.header.bytes - segment.end, "a batch of {} bytes found no room", batch.len());
        files::write(&segment.file, &segment.path, batch, segment.end)?;
        files::flush(&segment.file, &segment.path)?;
        let start = u32::try_from(segment.end).expect("segments are shorter");
        for (offset, record) in format::records(batch) {
            let learned = self.index.learn(self.current, start + offset, false, &record);
            learned.expect("what the writer adds follows what is there");
        }
        segment.end += batch.len() as u64;
        self.sequence += 1;
        Ok(())
    }

    /// The contract of the door, held before anything is written.
    fn assert_follows(&self, writes: &[GroupWrite]) {
        let mut ends: BTreeMap<GroupId, (LogIndex, LogIndex)> = BTreeMap::new();
        for write in writes {
            let known = || {
                self.index.groups.get(&write.group).map_or((LogIndex::ZERO, LogIndex::ZERO), |group| (group.base.index, group.last().index))
            };
            let (base, last) = ends.entry(write.group).or_insert_with(known);
            if let Some(reset) = write.reset_to {
                (*base, *last) = (reset.index, reset.index);
            }
            if let Some(cut) = write.truncate_from
                && cut <= *last
            {
                assert!(cut > *base, "{}: cut at {cut} into what is compacted up to {base}", write.group);
                *last = cut.prev();
            }
            for entry in &write.entries {
                assert!(entry.index == last.next(), "{}: entry {} behind {last}", write.group, entry.index);
                *last = entry.index;
            }
        }
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
}

impl LogStore for SegmentStore {
    fn recover(&mut self) -> Result<Vec<(GroupId, Recovered)>, DeviceError> {
        self.index.groups.iter().map(|(id, group)| Ok((*id, self.recover_group(*id, group)?))).collect()
    }

    fn write(&mut self, writes: &[GroupWrite]) -> Result<(), DeviceError> {
        self.assert_follows(writes);
        let bytes: u64 = writes.iter().map(write_bytes).sum();
        self.guarded(|store| {
            if bytes == 0 {
                return Ok(());
            }
            let more: u64 = writes.iter().map(|write| write.entries.len() as u64).sum();
            if more > 0 && store.index.entries() + more > store.options.entries_max {
                let limit_bytes = store.options.entries_max * size_of::<Place>() as u64;
                return Err(DeviceError::Full { op: "index in memory", path: store.files.dir().to_owned(), limit_bytes });
            }
            let before = store.current;
            store.commit(bytes, |batch| writes.iter().for_each(|write| push_write(batch, write)))?;
            if store.current != before {
                store.make_up_for_upkeep()?;
            }
            Ok(())
        })
    }

    fn read(&mut self, group: GroupId, from: LogIndex, upto: LogIndex, bytes_max: u64) -> Result<Vec<Entry>, DeviceError> {
        let Some(known) = self.index.groups.get(&group) else { return Ok(Vec::new()) };
        let last = upto.min(known.last().index);
        if !(from > known.base.index && from <= last) {
            return Ok(Vec::new());
        }
        let mut bytes = 0;
        let mut count = 0;
        let mut index = from;
        while index <= last
            && let Some(place) = known.place(index)
        {
            count += 1;
            bytes += cost_bytes(place);
            if bytes >= bytes_max {
                break;
            }
            index = index.next();
        }
        let skipped = usize::try_from(from.since(known.base.index)).expect("an index in memory fits in memory") - 1;
        self.read_entries(group, from, known.places().skip(skipped).take(count).map(|(_, place)| place))
    }

    fn truncate_prefix(&mut self, group: GroupId, upto: LogIndex) -> Result<(), DeviceError> {
        let Some(known) = self.index.groups.get(&group) else { return Ok(()) };
        let upto = upto.min(known.last().index);
        let Some(place) = known.place(upto) else { return Ok(()) };
        let at = Position::new(place.term, upto);
        self.guarded(|store| store.commit(Record::bytes(0), |batch| batch.push(&Record::bare(RecordKind::TruncatePrefix, group, at))))
    }

    fn upkeep(&mut self) -> Result<bool, DeviceError> {
        self.guarded(Self::do_upkeep)
    }

    fn oldest_pinned(&self) -> Option<Pinned> {
        self.needy_of_oldest()
    }

    fn identity(&self) -> Option<Identity> {
        self.index.identity
    }

    fn set_identity(&mut self, identity: Identity) -> Result<(), DeviceError> {
        match self.index.identity {
            Some(found) if found == identity => Ok(()),
            Some(found) => Err(DeviceError::ForeignIdentity { found, given: identity }),
            None => self.guarded(|store| {
                let data = record::encode_identity(&identity);
                let record = Record { data: &data, ..Record::bare(RecordKind::Identity, GroupId::META, Position::ZERO) };
                store.commit(Record::bytes(data.len() as u64), |batch| batch.push(&record))
            }),
        }
    }
}

/// Bytes of the records of a write, rounded up.
fn write_bytes(write: &GroupWrite) -> u64 {
    let hard_state = write.hard_state.map_or(0, |_| Record::bytes(VOTE_BYTES));
    let cut = write.truncate_from.map_or(0, |_| Record::bytes(0));
    let reset = write.reset_to.map_or(0, |_| Record::bytes(0));
    hard_state + reset + cut + write.entries.iter().map(|entry| Record::bytes(entry.data.len() as u64)).sum::<u64>()
}

fn push_write(batch: &mut Batch, write: &GroupWrite) {
    if let Some(hard_state) = write.hard_state {
        let vote = hard_state.vote.map(|vote| vote.to_bytes());
        let at = Position::new(hard_state.term, hard_state.commit);
        let data = vote.as_ref().map_or(&[][..], |vote| vote);
        batch.push(&Record { detail: u8::from(vote.is_some()), data, ..Record::bare(RecordKind::HardState, write.group, at) });
    }
    if let Some(base) = write.reset_to {
        batch.push(&Record::bare(RecordKind::Reset, write.group, base));
    }
    if let Some(cut) = write.truncate_from {
        batch.push(&Record::bare(RecordKind::TruncateFrom, write.group, Position { index: cut, ..Position::ZERO }));
    }
    for entry in &write.entries {
        batch.push(&entry_record(RecordKind::Entry, write.group, entry));
    }
}

fn entry_record(kind: RecordKind, group: GroupId, entry: &Entry) -> Record<'_> {
    Record { detail: entry.kind.number(), data: &entry.data, ..Record::bare(kind, group, entry.position()) }
}

const VOTE_BYTES: u64 = 16;
