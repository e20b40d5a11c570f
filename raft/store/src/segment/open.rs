//! Opening: what lies in the directory becomes a store, or an error.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::files::{self, Files, damaged, io_error};
use super::format::{self, BATCH_BYTES_MAX, Batch, FORMAT, HEADER_BYTES, Header, HeaderError};
use super::index::Index;
use super::scan;
use super::{Segment, SegmentOptions, SegmentStore};
use crate::error::DeviceError;

impl SegmentStore {
    /// Opens the store in `dir`, or founds one there. The directory is made if need be and locked against others. All segments
    /// are read and checked once; what a power cut left unfinished is removed.
    ///
    /// Errors: `NewerFormat` for a store of a later version; `Corrupt` or `Damaged` for the first damage that a power cut does
    /// not explain, and then nothing has been changed; otherwise what the operating system said.
    pub fn open(dir: &Path, options: SegmentOptions) -> Result<Self, DeviceError> {
        let valid = options.segment_bytes > 2 * HEADER_BYTES && options.opening_bytes > 2 * HEADER_BYTES;
        assert!(valid && options.segment_bytes <= BATCH_BYTES_MAX, "segments of {} bytes", options.segment_bytes);
        let files = Files::open(dir)?;
        let listing = files.list()?;
        if listing.segments.is_empty() && listing.free.iter().any(|path| files::was_segment(path)) {
            return Err(damaged(dir, "all segments are missing".to_owned()));
        }
        let mut store = Self {
            files,
            options,
            index: Index::default(),
            segments: BTreeMap::new(),
            current: 0,
            sequence: 1,
            last_batch_at: HEADER_BYTES,
            free: listing.free,
            preparing: None,
            is_denied: false,
            batch: Batch::default(),
            failed: false,
        };
        for (generation, path) in listing.segments {
            let expected = store.segments.last_key_value().map_or(generation, |(last, _)| last + 1);
            if generation != expected {
                return Err(damaged(&store.files.segment_path(expected), "the segment is missing".to_owned()));
            }
            store.segments.insert(generation, open_segment(path, generation)?);
        }
        if store.segments.is_empty() {
            store.current = store.prepare_now(options.opening_bytes)?;
        } else {
            store.scan()?;
        }
        Ok(store)
    }

    fn scan(&mut self) -> Result<(), DeviceError> {
        let oldest = self.oldest();
        self.current = oldest;
        if oldest > 1 {
            self.sequence = self.first_sequence()?;
        }
        let mut batches = 0;
        let mut torn: Option<u32> = None;
        for (generation, segment) in &mut self.segments {
            let extent = scan::read_batches(segment.source(), batches == 0, &mut self.sequence, &mut self.index)?;
            segment.end = extent.end;
            if extent.batches > 0 {
                if let Some(torn) = torn {
                    let reason = format!("a batch in segment {torn} is unfinished, later ones are there");
                    return Err(damaged(&segment.path, reason));
                }
                self.current = *generation;
                self.last_batch_at = extent.last_batch_at;
            }
            batches += extent.batches;
            if extent.is_torn {
                torn = Some(*generation);
            }
            if let Some(identity) = segment.header.identity {
                let known = *self.index.identity.get_or_insert(identity);
                if known != identity {
                    return Err(DeviceError::ForeignIdentity { found: identity, given: known });
                }
            }
        }
        if let Some((group, index)) = self.index.first_unknown() {
            return Err(scan::missing(group, index));
        }
        self.clean_and_flush()
    }

    /// The number of the first batch; it is not known from elsewhere when segments before it were given up.
    fn first_sequence(&self) -> Result<u64, DeviceError> {
        for segment in self.segments.values() {
            let mut head = [0; format::BATCH_HEAD_BYTES];
            segment.file.read_exact_at(&mut head, HEADER_BYTES).map_err(|source| io_error("read", &segment.path, source))?;
            match format::BatchHead::find(segment.seed, &head) {
                format::HeadFound::Head(head) => return Ok(head.sequence),
                // Prepared, too small for what came, and passed over.
                format::HeadFound::Nothing => {}
                format::HeadFound::Torn | format::HeadFound::Rotten => {
                    return Err(damaged(&segment.path, "its first batch is damaged".to_owned()));
                }
            }
        }
        Err(damaged(self.files.dir(), "segments were given up, and those after them hold nothing".to_owned()))
    }

    /// Removes what is left of an unfinished batch, and makes durable what was read.
    fn clean_and_flush(&mut self) -> Result<(), DeviceError> {
        // First everything is looked at, then something is changed.
        let mut remains = Vec::new();
        let is_open_ended = |generation: u32, segment: &Segment| generation >= self.current || segment.end == HEADER_BYTES;
        for (generation, segment) in self.segments.iter().filter(|(generation, segment)| is_open_ended(**generation, segment)) {
            if let Some(upto) = scan::remains(segment.source(), segment.end, self.sequence)? {
                remains.push((*generation, upto));
            }
        }
        for (generation, upto) in remains {
            let segment = &self.segments[&generation];
            files::write_zeros(&segment.file, &segment.path, segment.end, upto)?;
        }
        // The last batch may not be on the disk: only the process had ended, or its flush had failed and the kernel holds it for
        // clean. From now on it is relied upon, so it is written once more. Those before it were flushed before it was written.
        let current = &self.segments[&self.current];
        let mut last = vec![0; usize::try_from(current.end - self.last_batch_at).expect("a batch fits in memory")];
        current.file.read_exact_at(&mut last, self.last_batch_at).map_err(|source| io_error("read", &current.path, source))?;
        files::write(&current.file, &current.path, &last, self.last_batch_at)?;
        files::flush(&current.file, &current.path)
    }
}

fn open_segment(path: PathBuf, generation: u32) -> Result<Segment, DeviceError> {
    let file = files::open(&path)?;
    let length = files::length(&file, &path)?;
    if length < HEADER_BYTES {
        return Err(damaged(&path, format!("a segment of only {length} bytes")));
    }
    let mut page = vec![0; HEADER_BYTES as usize];
    file.read_exact_at(&mut page, 0).map_err(|source| io_error("read", &path, source))?;
    let header = Header::decode(&page).map_err(|error| match error {
        HeaderError::Newer(found) => DeviceError::NewerFormat { found, supported: FORMAT },
        HeaderError::Damaged(reason) => damaged(&path, reason),
    })?;
    if header.generation != generation {
        return Err(damaged(&path, format!("it holds segment {}", header.generation)));
    }
    if !(header.bytes <= length && header.bytes > HEADER_BYTES && header.bytes <= 2 * BATCH_BYTES_MAX) {
        return Err(damaged(&path, format!("{length} bytes of a segment of {}", header.bytes)));
    }
    Ok(Segment { file, path, seed: header.seed(), header, end: HEADER_BYTES })
}
