//! Segments ahead of the writer and behind it: prepared, given up, and cleared of what little is still needed.

use distric_raft::LogIndex;

use super::files;
use super::format::{BATCH_BYTES_MAX, HEADER_BYTES, Header, RecordKind};
use super::index::Place;
use super::{Preparing, Segment, SegmentStore, entry_record};
use crate::error::{DeviceError, is_no_room};
use crate::store::Pinned;

impl SegmentStore {
    /// Sees to it that so many bytes fit into the current segment. Returns whether that is a new one.
    pub(super) fn make_room(&mut self, bytes: u64) -> Result<bool, DeviceError> {
        let current = &self.segments[&self.current];
        if bytes <= current.header.bytes - current.end {
            return Ok(false);
        }
        let needed = HEADER_BYTES + bytes + self.index.checkpoint_bytes();
        if needed > BATCH_BYTES_MAX {
            return Err(DeviceError::Full { op: "write of one batch", path: self.files.dir().to_owned(), limit_bytes: BATCH_BYTES_MAX });
        }
        // A prepared one that is too small stays behind, empty, and is given up with its turn.
        let prepared = self.segments.range(self.current + 1..).find(|(_, segment)| segment.header.bytes >= needed);
        self.current = match prepared.map(|(generation, _)| *generation) {
            Some(generation) => generation,
            None => self.prepare_now(needed)?,
        };
        Ok(true)
    }

    /// Prepares a segment of at least `bytes` while somebody waits. Takes over what was begun. Returns its generation.
    pub(super) fn prepare_now(&mut self, bytes: u64) -> Result<u32, DeviceError> {
        let wanted = bytes.max(self.options.opening_bytes).next_multiple_of(HEADER_BYTES);
        let zeroed = self.preparing.as_ref().map_or(0, |preparing| preparing.zeroed_bytes);
        if zeroed < wanted {
            self.prepare_part(wanted)?;
        }
        self.finish_preparing()
    }

    /// Fills the file that is to become the next segment with zeros up to `upto`.
    pub(super) fn prepare_part(&mut self, upto: u64) -> Result<(), DeviceError> {
        if self.bytes_in_use() + upto > self.options.log_bytes_max {
            let limit_bytes = self.options.log_bytes_max;
            return Err(DeviceError::Full { op: "prepare a segment", path: self.files.dir().to_owned(), limit_bytes });
        }
        let preparing = match &mut self.preparing {
            Some(preparing) => preparing,
            None => {
                let (file, path) = match self.free.pop() {
                    Some(path) => (files::open(&path)?, path),
                    None => {
                        let path = self.files.new_path(self.next_generation());
                        (files::create(&path)?, path)
                    }
                };
                self.preparing.insert(Preparing { file, path, zeroed_bytes: 0 })
            }
        };
        files::write_zeros(&preparing.file, &preparing.path, preparing.zeroed_bytes, upto)?;
        preparing.zeroed_bytes = upto;
        Ok(())
    }

    /// Makes a segment of what is prepared: header page, then the name.
    pub(super) fn finish_preparing(&mut self) -> Result<u32, DeviceError> {
        let Preparing { file, path, zeroed_bytes } = self.preparing.take().expect("a file was prepared");
        let generation = self.next_generation();
        let header = Header { generation, nonce: files::draw_nonce()?, bytes: zeroed_bytes, identity: self.index.identity };
        files::write(&file, &path, &header.encode(), 0)?;
        files::flush(&file, &path)?;
        let name = self.files.segment_path(generation);
        self.files.rename(&path, &name)?;
        self.segments.insert(generation, Segment { file, path: name, header, seed: header.seed(), end: HEADER_BYTES });
        Ok(generation)
    }

    pub(super) fn bytes_in_use(&self) -> u64 {
        self.segments.values().map(|segment| segment.header.bytes).sum()
    }

    fn next_generation(&self) -> u32 {
        let last = self.segments.last_key_value().map_or(0, |(generation, _)| *generation);
        last.checked_add(1).expect("2^32 segments are more than a disk sees in its life")
    }

    pub(super) fn oldest(&self) -> u32 {
        *self.segments.first_key_value().expect("there is a segment").0
    }

    /// Gives up the oldest segment if nothing in it is needed. Returns whether it did.
    pub(super) fn give_up_oldest(&mut self) -> Result<bool, DeviceError> {
        let oldest = self.oldest();
        // The current one holds at least one durable batch, which begins with everybody's state.
        if oldest >= self.current || self.index.live_in(oldest).entries > 0 {
            return Ok(false);
        }
        let segment = self.segments.remove(&oldest).expect("it was found");
        let path = self.files.free_path(oldest);
        // Durable before the content is touched, and one after the other: what is left never has a gap.
        self.files.rename(&segment.path, &path)?;
        let is_of_use = files::length(&segment.file, &path)? >= self.options.segment_bytes;
        if is_of_use && self.options.prepares_ahead && self.free.len() < FREE_FILES_MAX {
            self.free.push(path);
        } else {
            self.files.remove(&path)?;
        }
        Ok(true)
    }

    /// Copies what is needed of the oldest segment to the end, when too many are in use because of it and it is little.
    /// The copies are durable before the segment can be given up. Returns whether it did.
    pub(super) fn move_from_oldest(&mut self) -> Result<bool, DeviceError> {
        let oldest = self.oldest();
        let in_use = u64::from(self.current - oldest) + 1;
        let live = self.index.live_in(oldest);
        // A copy must give back much more than it takes, or a log that is only written to would be copied round and round.
        let little = self.options.move_bytes_max.min(self.segments[&oldest].header.bytes / MOVE_GAIN_MIN);
        if in_use <= self.options.live_segments_max || oldest == self.current || live.bytes > little {
            return Ok(false);
        }
        let mut moved = Vec::new();
        for (id, group) in self.index.groups.iter().filter(|(_, group)| group.live_in(oldest).entries > 0) {
            let places: Vec<(LogIndex, &Place)> = group.places().filter(|(_, place)| place.generation == oldest).collect();
            for run in places.chunk_by(|one, next| next.0 == one.0.next()) {
                let entries = self.read_entries(*id, run[0].0, run.iter().map(|(_, place)| *place))?;
                moved.extend(entries.into_iter().map(|entry| (*id, entry)));
            }
        }
        assert!(moved.len() as u64 == live.entries, "{} entries of {} found", moved.len(), live.entries);
        self.commit(live.bytes, |batch| {
            for (group, entry) in &moved {
                batch.push(&entry_record(RecordKind::Moved, *group, entry));
            }
        })?;
        Ok(true)
    }

    /// What upkeep would have done, on the writer's time, once for each new segment.
    pub(super) fn make_up_for_upkeep(&mut self) -> Result<(), DeviceError> {
        if !self.give_up_oldest()? && self.move_from_oldest()? {
            self.give_up_oldest()?;
        }
        Ok(())
    }

    /// See [`crate::LogStore::upkeep`].
    pub(super) fn do_upkeep(&mut self) -> Result<bool, DeviceError> {
        if self.give_up_oldest()? || self.move_from_oldest()? {
            return Ok(true);
        }
        let is_ahead = self.segments.range(self.current + 1..).next().is_some();
        let has_room = self.bytes_in_use() + self.options.segment_bytes <= self.options.log_bytes_max;
        if !self.options.prepares_ahead || self.is_denied || is_ahead || !has_room {
            while self.free.len() > FREE_FILES_MAX {
                let path = self.free.remove(0);
                self.files.remove(&path)?;
            }
            return Ok(false);
        }
        let zeroed = self.preparing.as_ref().map_or(0, |preparing| preparing.zeroed_bytes);
        let upto = (zeroed + PREPARE_STEP_BYTES).min(self.options.segment_bytes).max(zeroed);
        // A file that was a segment has its blocks already.
        let held_bytes = match (&self.preparing, self.free.last()) {
            (Some(begun), _) => files::length(&begun.file, &begun.path)?,
            (None, Some(path)) => files::length(&files::open(path)?, path)?,
            (None, None) => 0,
        };
        let takes_bytes = self.options.segment_bytes.saturating_sub(held_bytes);
        if takes_bytes > 0 && self.files.available_bytes()? < takes_bytes.saturating_add(self.options.reserve_bytes) {
            self.give_back()?;
            return Ok(false);
        }
        if upto > zeroed {
            match self.prepare_part(upto) {
                // Nothing needs the room yet: what is being written still fits, and the write that no longer does will say so.
                Err(DeviceError::Io { op: files::PREPARE, source, .. }) if is_no_room(&source) => {
                    self.is_denied = true;
                    self.give_back()?;
                    return Ok(false);
                }
                prepared => prepared?,
            }
        }
        if upto >= self.options.segment_bytes {
            self.finish_preparing()?;
        }
        Ok(true)
    }

    /// Gives back the room of a segment that was begun ahead.
    fn give_back(&mut self) -> Result<(), DeviceError> {
        self.preparing.take().map_or(Ok(()), |begun| self.files.remove(&begun.path))
    }

    /// See [`crate::LogStore::oldest_pinned`].
    pub(super) fn needy_of_oldest(&self) -> Option<Pinned> {
        let oldest = self.oldest();
        if oldest >= self.current {
            return None;
        }
        let files = u64::from(self.current - oldest) + 1;
        let needy = self.index.groups.iter().max_by_key(|(_, group)| group.live_in(oldest).bytes);
        let (id, group) = needy.filter(|(_, group)| group.live_in(oldest).entries > 0)?;
        let last = group.places().rfind(|(_, place)| place.generation == oldest);
        let (upto, _) = last.expect("a group with live entries there has a place there");
        Some(Pinned { group: *id, upto, bytes: group.live_in(oldest).bytes, files })
    }
}

/// A segment is cleared when no more than one part in so many of it is needed.
const MOVE_GAIN_MIN: u64 = 8;
/// Given-up files that are kept for their blocks.
const FREE_FILES_MAX: usize = 2;
/// How much is filled with zeros at a time: some milliseconds.
const PREPARE_STEP_BYTES: u64 = 4 << 20;
