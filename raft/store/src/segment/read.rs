//! Reading entries back, each checked against its checksum and its place.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use distric_model::GroupId;
use distric_raft::{Entry, EntryKind, LogIndex, Recovered};

use super::files::io_error;
use super::format::Record;
use super::index::{GroupIndex, Place};
use super::{SegmentStore, scan};
use crate::error::{Corruption, DeviceError};
use crate::store::TAIL_BYTES_MAX;

impl SegmentStore {
    /// Reads entries that lie at `places`, the first of which has the index `first`.
    pub(super) fn read_entries<'a>(
        &self,
        group: GroupId,
        first: LogIndex,
        places: impl Iterator<Item = &'a Place>,
    ) -> Result<Vec<Entry>, DeviceError> {
        let mut entries = Vec::new();
        let mut places = places.peekable();
        let mut span = Vec::new();
        let mut buffer = Vec::new();
        let mut index = first;
        while let Some(place) = places.next() {
            // Neighbours are read by one call.
            span.clear();
            span.push(*place);
            let start = u64::from(place.offset);
            let mut end = place.record_end();
            while let Some(next) = places.next_if(|next| {
                let next_start = u64::from(next.offset);
                let is_near = next_start >= end && next_start - end <= READ_GAP_BYTES_MAX;
                next.generation == place.generation && is_near && next.record_end() - start <= READ_BYTES_MAX
            }) {
                span.push(*next);
                end = next.record_end();
            }
            let segment = self.segments.get(&place.generation).ok_or_else(|| scan::missing(group, index))?;
            buffer.resize(usize::try_from(end - start).expect("segments fit in memory"), 0);
            segment.file.read_exact_at(&mut buffer, start).map_err(|source| io_error("read", &segment.path, source))?;
            for place in &span {
                let from = (place.offset - span[0].offset) as usize;
                let upto = usize::try_from(place.record_end() - start).expect("within the buffer");
                let entry = decode_entry(segment.seed, group, index, &buffer[from..upto]);
                entries.push(entry.map_err(|reason| DeviceError::Corrupt { group, index, reason })?);
                index = index.next();
            }
        }
        Ok(entries)
    }

    pub(super) fn recover_group(&self, id: GroupId, group: &GroupIndex) -> Result<Recovered, DeviceError> {
        let mut found = group.outline();
        for (index, place) in group.places().filter(|(_, place)| place.kind == EntryKind::Membership) {
            found.memberships.extend(self.read_entries(id, index, std::iter::once(place))?);
        }
        let mut bytes = 0;
        let mut tail: VecDeque<&Place> = VecDeque::new();
        for (_, place) in group.places().rev() {
            bytes += cost_bytes(place);
            if !(tail.is_empty() || bytes <= TAIL_BYTES_MAX) {
                break;
            }
            tail.push_front(place);
        }
        let first = LogIndex(group.last().index.0 + 1 - tail.len() as u64);
        found.tail = self.read_entries(id, first, tail.into_iter())?;
        let contradiction = |error| DeviceError::Corrupt { group: id, index: found.last.index, reason: Corruption::Contradiction(error) };
        found.check().map_err(contradiction)?;
        Ok(found)
    }
}

/// Errors: how the record is not that of the entry.
fn decode_entry(seed: u32, group: GroupId, index: LogIndex, bytes: &[u8]) -> Result<Entry, Corruption> {
    let record = Record::decode(seed, bytes)?;
    if !(record.group == group && record.at.index == index) {
        return Err(Corruption::Misplaced { group: record.group, index: record.at.index });
    }
    let kind = EntryKind::from_number(record.detail).ok_or(Corruption::Unknown { what: "kind", number: record.detail })?;
    Ok(Entry { index, term: record.at.term, kind, data: Bytes::copy_from_slice(record.data) })
}

/// What [`Entry::cost_bytes`] says of the entry that lies there.
pub(super) fn cost_bytes(place: &Place) -> u64 {
    let empty = Entry { index: LogIndex::ZERO, term: place.term, kind: place.kind, data: Bytes::new() };
    empty.cost_bytes() + u64::from(place.data_bytes)
}

/// Read by one call, unless one record is larger.
const READ_BYTES_MAX: u64 = 1 << 20;
/// Bytes of other groups and of batch heads that are read along rather than skipped by another call.
const READ_GAP_BYTES_MAX: u64 = 4_096;
