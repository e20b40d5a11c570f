//! Reading a segment from its beginning: which batches are sound, and what stands behind the last of them.
//!
//! A batch is only written after the one before it was flushed. So a sound batch proves everything before it, and what is
//! not sound with a later batch behind it was acknowledged and is damaged. Nothing is ever skipped.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use distric_model::GroupId;
use distric_raft::LogIndex;

use super::files::{damaged, io_error};
use super::format::{ALIGNMENT, BATCH_HEAD_BYTES, BatchError, BatchHead, HEADER_BYTES, HeadFound, TRAILER_BYTES, records};
use super::index::Index;
use crate::error::{Corruption, DeviceError};

/// A segment to be read.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub file: &'a File,
    pub path: &'a Path,
    pub generation: u32,
    pub seed: u32,
    /// Where the segment ends in the file.
    pub bytes: u64,
}

/// How far the sound batches of a segment go.
#[derive(Debug)]
pub(super) struct Extent {
    /// Behind the last one.
    pub end: u64,
    /// Where the last one begins.
    pub last_batch_at: u64,
    /// How many there are.
    pub batches: u64,
    /// Whether the next one was begun.
    pub is_torn: bool,
}

/// Reads all sound batches from the beginning and tells the index of each. `sequence` is the number that the next batch must
/// have, and counts on; `is_first` when no batch was read before.
///
/// Errors: the first damage that a power cut does not explain.
pub(super) fn read_batches(source: Source<'_>, is_first: bool, sequence: &mut u64, index: &mut Index) -> Result<Extent, DeviceError> {
    let mut window = Window::new(source);
    let mut extent = Extent { end: HEADER_BYTES, last_batch_at: HEADER_BYTES, batches: 0, is_torn: false };
    let frame_bytes = (BATCH_HEAD_BYTES + TRAILER_BYTES) as u64;
    while extent.end + frame_bytes <= source.bytes {
        let at = extent.end;
        let wrong = |what: &str| damaged(source.path, format!("batch {sequence} at offset {at}: {what}"));
        let head = match BatchHead::find(source.seed, window.bytes(at, BATCH_HEAD_BYTES as u64)?) {
            HeadFound::Head(head) => head,
            HeadFound::Nothing => break,
            HeadFound::Torn => {
                extent.is_torn = true;
                break;
            }
            HeadFound::Rotten => return Err(wrong("its head is not what was written")),
        };
        if head.sequence != *sequence {
            return Err(wrong(&format!("batch {} stands there; what is between them is gone", head.sequence)));
        }
        if head.bytes() > source.bytes - at {
            return Err(wrong("it does not fit into its segment"));
        }
        let batch = window.bytes(at, head.bytes())?;
        match head.check(source.seed, batch, at) {
            Ok(()) => {}
            Err(BatchError::Torn) => {
                extent.is_torn = true;
                break;
            }
            Err(BatchError::Record { place: Some((group, index)), reason }) => return Err(DeviceError::Corrupt { group, index, reason }),
            Err(BatchError::Record { place: None, reason }) => return Err(wrong(&reason.to_string())),
            Err(BatchError::Frame) => return Err(wrong("its records are not those that were written")),
        }
        let start = u32::try_from(at).expect("segments are shorter");
        for (offset, record) in records(batch) {
            let learned = index.learn(source.generation, start + offset, is_first && extent.batches == 0, &record);
            learned.map_err(|reason| DeviceError::Corrupt { group: record.group, index: record.at.index, reason })?;
        }
        *sequence += 1;
        extent.batches += 1;
        extent.last_batch_at = at;
        extent.end += head.bytes();
    }
    Ok(extent)
}

/// Where the bytes behind `end` that are not zero stop; `None` when all are zero.
///
/// Errors: a later batch stands there, so the one that should stand at `end` was acknowledged and is gone.
pub(super) fn remains(source: Source<'_>, end: u64, sequence: u64) -> Result<Option<u64>, DeviceError> {
    let mut window = Window::new(source);
    let mut last = None;
    let mut at = end;
    while at < source.bytes {
        let count = WINDOW_BYTES.min(source.bytes - at);
        let bytes = window.bytes(at, count)?;
        // Most of it is zeros, looked at in large pieces.
        let pieces = bytes.chunks(PIECE_BYTES).enumerate();
        let used: Vec<u64> =
            pieces.filter(|(_, piece)| **piece != ZEROS[..piece.len()]).map(|(piece, _)| (piece * PIECE_BYTES) as u64).collect();
        for piece in used {
            let piece_end = (at + piece + PIECE_BYTES as u64).min(source.bytes);
            last = Some(piece_end);
            let mut candidate = (at + piece).next_multiple_of(ALIGNMENT as u64);
            while candidate < piece_end && candidate + BATCH_HEAD_BYTES as u64 <= source.bytes {
                if let HeadFound::Head(head) = BatchHead::find(source.seed, window.bytes(candidate, BATCH_HEAD_BYTES as u64)?)
                    && candidate > end
                    && head.sequence >= sequence
                {
                    let reason = format!("batch {sequence} at offset {end} is gone, batch {} behind it is there", head.sequence);
                    return Err(damaged(source.path, reason));
                }
                candidate += ALIGNMENT as u64;
            }
        }
        at += count;
    }
    Ok(last)
}

/// The entry of the index that was never met.
pub(super) fn missing(group: GroupId, index: LogIndex) -> DeviceError {
    DeviceError::Corrupt { group, index, reason: Corruption::Missing }
}

/// Reads forward in large pieces.
struct Window<'a> {
    source: Source<'a>,
    from: u64,
    buffer: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(source: Source<'a>) -> Self {
        Self { source, from: 0, buffer: Vec::new() }
    }

    fn bytes(&mut self, at: u64, count: u64) -> Result<&[u8], DeviceError> {
        let is_there = at >= self.from && at + count <= self.from + self.buffer.len() as u64;
        if !is_there {
            let wanted = count.max(WINDOW_BYTES).min(self.source.bytes - at).max(count);
            self.buffer.resize(usize::try_from(wanted).expect("a batch fits in memory"), 0);
            self.from = at;
            let done = self.source.file.read_exact_at(&mut self.buffer, at);
            done.map_err(|source| io_error("read", self.source.path, source))?;
        }
        let start = usize::try_from(at - self.from).expect("within the buffer");
        Ok(&self.buffer[start..start + usize::try_from(count).expect("within the buffer")])
    }
}

/// Read by one call.
const WINDOW_BYTES: u64 = 1 << 20;
const PIECE_BYTES: usize = 4_096;
static ZEROS: [u8; PIECE_BYTES] = [0; PIECE_BYTES];
