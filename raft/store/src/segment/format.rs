//! The bytes of a segment: a header page, then batches of records. All numbers are little-endian.
//!
//! ```text
//! segment  header page of 4096 bytes, then batches, then zeros up to the end
//! batch    head 40 bytes | records | zeros up to a multiple of 8 | trailer 8 bytes
//! head     magic u32, records u32, sequence u64, body bytes u32, zero sectors u32, body crc u32, head crc u32, marker u64
//! record   data bytes u32, crc u32, kind u8, detail u8, zero u16, group u32, index u64, term u64, data
//! trailer  body crc u32, marker u32
//! ```
//!
//! Every checksum starts from the segment's seed, which is drawn anew for each life of a file. So nothing of an earlier
//! life is ever taken for a record of this one, whatever the disk brings back.
//!
//! Torn or rotten: a segment holds zeros before it is written to, so what a power cut left unwritten of a batch is zeros, while
//! damage to what was written is not. The markers are never zero, and the head says how many sectors of the whole batch
//! hold nothing but zeros; a batch with a wrong checksum that lacks its trailer, or has more such sectors, was never
//! finished and so never acknowledged. Any other batch with a wrong checksum was, or may have been: it is reported.

use crc32fast::Hasher;
use distric_model::GroupId;
use distric_raft::{LogIndex, Position, Term};

use crate::error::Corruption;
use crate::identity::Identity;
use crate::record;

/// What the header page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Counts the segments of a store, without gaps; the first is 1.
    pub generation: u32,
    /// Drawn for each life of a file.
    pub nonce: u64,
    /// So much of the file belongs to the segment, the header counted. The file may be longer.
    pub bytes: u64,
    /// The owner, if it was known.
    pub identity: Option<Identity>,
}

/// Why a header page is not one.
#[derive(Debug)]
pub(super) enum HeaderError {
    Newer(u32),
    Damaged(String),
}

impl Header {
    /// Layout: magic 8 bytes, format u32, crc u32 over the page, generation u32, has_owner u32, nonce u64, bytes u64, owner.
    pub fn encode(&self) -> Vec<u8> {
        let mut page = MAGIC.to_vec();
        page.extend_from_slice(&FORMAT.to_le_bytes());
        page.extend_from_slice(&[0; 4]);
        page.extend_from_slice(&self.generation.to_le_bytes());
        page.extend_from_slice(&u32::from(self.identity.is_some()).to_le_bytes());
        page.extend_from_slice(&self.nonce.to_le_bytes());
        page.extend_from_slice(&self.bytes.to_le_bytes());
        if let Some(identity) = &self.identity {
            page.extend_from_slice(&record::encode_identity(identity));
        }
        page.resize(HEADER_BYTES as usize, 0);
        let crc = page_checksum(&page);
        page[12..16].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// Every later format keeps magic, format and checksum where they are, so that it is told from damage.
    pub fn decode(page: &[u8]) -> Result<Self, HeaderError> {
        let damaged = |reason: &str| HeaderError::Damaged(reason.to_owned());
        if page.len() as u64 != HEADER_BYTES || page[..8] != MAGIC {
            return Err(damaged("not the header page of a segment"));
        }
        let (stored, found) = (u32_at(page, 12), page_checksum(page));
        if stored != found {
            return Err(HeaderError::Damaged(format!("header page: checksum {found:08x} instead of {stored:08x}")));
        }
        match u32_at(page, 8) {
            OLDEST_FORMAT..=FORMAT => {}
            found if found > FORMAT => return Err(HeaderError::Newer(found)),
            _ => return Err(damaged("header page: no format has this number")),
        }
        let identity = match u32_at(page, 20) {
            0 => None,
            _ => {
                let owner = record::decode_identity(&page[40..40 + IDENTITY_BYTES]);
                Some(owner.map_err(|reason| HeaderError::Damaged(format!("owner: {reason}")))?)
            }
        };
        Ok(Self { generation: u32_at(page, 16), nonce: u64_at(page, 24), bytes: u64_at(page, 32), identity })
    }

    /// What all checksums of this life of the file start from.
    pub fn seed(&self) -> u32 {
        let mut hasher = Hasher::new();
        hasher.update(&self.generation.to_le_bytes());
        hasher.update(&self.nonce.to_le_bytes());
        hasher.finalize()
    }
}

fn page_checksum(page: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&page[..12]);
    hasher.update(&page[16..]);
    hasher.finalize()
}

/// What a record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// Adds an entry; the detail is its kind.
    Entry = 1,
    /// Says where an entry lies from now on: a copy, made so that the old place can be given up.
    Moved = 2,
    /// Replaces a hard state: term, commit as the index, the vote as data if the detail is 1.
    HardState = 3,
    /// Removes the entries from the index on.
    TruncateFrom = 4,
    /// Removes the entries up to the index, whose entry had the term.
    TruncatePrefix = 5,
    /// At the beginning of a segment: the state of a group as the segments before left it.
    Group = 6,
    /// The owner.
    Identity = 7,
    /// Removes every entry; the log begins anew behind the position.
    Reset = 8,
}

impl RecordKind {
    fn from_number(number: u8) -> Option<Self> {
        use RecordKind::{Entry, Group, HardState, Identity, Moved, Reset, TruncateFrom, TruncatePrefix};
        [Entry, Moved, HardState, TruncateFrom, TruncatePrefix, Group, Identity, Reset].into_iter().find(|kind| *kind as u8 == number)
    }
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub kind: RecordKind,
    pub detail: u8,
    pub group: GroupId,
    pub at: Position,
    pub data: &'a [u8],
}

impl<'a> Record<'a> {
    /// A record without data.
    pub fn bare(kind: RecordKind, group: GroupId, at: Position) -> Self {
        Self { kind, detail: 0, group, at, data: &[] }
    }

    /// Bytes that a record with so much data takes.
    pub const fn bytes(data_bytes: u64) -> u64 {
        RECORD_HEAD_BYTES as u64 + data_bytes
    }

    fn encode(&self, seed: u32, out: &mut Vec<u8>) {
        let start = out.len();
        let data_bytes = u32::try_from(self.data.len()).expect("a batch was checked to be shorter");
        out.extend_from_slice(&data_bytes.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&[self.kind as u8, self.detail, 0, 0]);
        out.extend_from_slice(&self.group.0.to_le_bytes());
        out.extend_from_slice(&self.at.index.0.to_le_bytes());
        out.extend_from_slice(&self.at.term.0.to_le_bytes());
        let crc = record_checksum(seed, &out[start..], self.data);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(self.data);
    }

    /// Reads the record that `bytes` begin with, without its checksum. Errors: how it is wrong.
    fn parse(bytes: &'a [u8]) -> Result<Self, Corruption> {
        let short = Corruption::Short { found_bytes: bytes.len() };
        let (head, rest) = bytes.split_at_checked(RECORD_HEAD_BYTES).ok_or(short.clone())?;
        let data = rest.get(..u32_at(head, 0) as usize).ok_or(short)?;
        let kind = RecordKind::from_number(head[8]).ok_or(Corruption::Unknown { what: "kind", number: head[8] })?;
        let at = Position::new(Term(u64_at(head, 24)), LogIndex(u64_at(head, 16)));
        Ok(Self { kind, detail: head[9], group: GroupId(u32_at(head, 12)), at, data })
    }

    /// Reads the record that `bytes` begin with. Errors: how it is wrong.
    pub fn decode(seed: u32, bytes: &'a [u8]) -> Result<Self, Corruption> {
        let head = bytes.get(..RECORD_HEAD_BYTES).ok_or(Corruption::Short { found_bytes: bytes.len() })?;
        let data = bytes.get(RECORD_HEAD_BYTES..).and_then(|rest| rest.get(..u32_at(head, 0) as usize));
        let data = data.ok_or(Corruption::Short { found_bytes: bytes.len() })?;
        let (stored, found) = (u32_at(head, 4), record_checksum(seed, head, data));
        if stored != found {
            return Err(Corruption::Checksum { stored, found });
        }
        Self::parse(bytes)
    }
}

fn record_checksum(seed: u32, head: &[u8], data: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(seed);
    hasher.update(&head[..4]);
    hasher.update(&head[8..RECORD_HEAD_BYTES]);
    hasher.update(data);
    hasher.finalize()
}

/// A batch while it is put together. The buffer is kept between batches.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    seed: u32,
    sequence: u64,
    records: u32,
    /// Over the heads of the records: each of them holds a checksum of its data, so this covers all of them, their order
    /// and their number, and the data is read once and not twice.
    crc: Hasher,
}

impl Batch {
    pub fn begin(&mut self, seed: u32, sequence: u64) {
        self.bytes.clear();
        self.bytes.resize(BATCH_HEAD_BYTES, 0);
        (self.seed, self.sequence, self.records) = (seed, sequence, 0);
        self.crc = Hasher::new_with_initial(seed);
    }

    pub fn push(&mut self, record: &Record<'_>) {
        let start = self.bytes.len();
        record.encode(self.seed, &mut self.bytes);
        self.crc.update(&self.bytes[start..start + RECORD_HEAD_BYTES]);
        self.records += 1;
    }

    /// Completes the batch for its place in the file.
    pub fn seal(&mut self, file_offset: u64) -> &[u8] {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        let body_bytes = u32::try_from(self.bytes.len() - BATCH_HEAD_BYTES).expect("a batch was checked to be shorter");
        let body_crc = self.crc.clone().finalize();
        self.bytes.extend_from_slice(&body_crc.to_le_bytes());
        self.bytes.extend_from_slice(&TRAILER_MARKER.to_le_bytes());
        // The marks at both ends come first: a sector that holds one of them does not count as zero.
        self.bytes[..4].copy_from_slice(&BATCH_MAGIC.to_le_bytes());
        let mut head = BatchHead { records: self.records, sequence: self.sequence, body_bytes, zero_sectors: 0, body_crc };
        head.zero_sectors = zero_sectors(&self.bytes, file_offset);
        head.encode(self.seed, &mut self.bytes[..BATCH_HEAD_BYTES]);
        &self.bytes
    }
}

/// The beginning of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchHead {
    pub records: u32,
    pub sequence: u64,
    body_bytes: u32,
    zero_sectors: u32,
    body_crc: u32,
}

/// What stands where a batch head should.
#[derive(Debug)]
pub(super) enum HeadFound {
    Head(BatchHead),
    /// Nothing but zeros.
    Nothing,
    /// A part of a head, the rest was never written.
    Torn,
    /// A head that was written and is not what was written.
    Rotten,
}

impl BatchHead {
    fn encode(&self, seed: u32, out: &mut [u8]) {
        out[..4].copy_from_slice(&BATCH_MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&self.records.to_le_bytes());
        out[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        out[16..20].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[20..24].copy_from_slice(&self.zero_sectors.to_le_bytes());
        out[24..28].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = head_checksum(seed, out);
        out[28..32].copy_from_slice(&crc.to_le_bytes());
        out[32..40].copy_from_slice(&HEAD_MARKER.to_le_bytes());
    }

    pub fn find(seed: u32, bytes: &[u8]) -> HeadFound {
        assert!(bytes.len() == BATCH_HEAD_BYTES, "a head of {} bytes", bytes.len());
        if bytes.iter().all(|byte| *byte == 0) {
            return HeadFound::Nothing;
        }
        if u32_at(bytes, 0) == BATCH_MAGIC && u64_at(bytes, 32) == HEAD_MARKER && u32_at(bytes, 28) == head_checksum(seed, bytes) {
            return HeadFound::Head(Self {
                records: u32_at(bytes, 4),
                sequence: u64_at(bytes, 8),
                body_bytes: u32_at(bytes, 16),
                zero_sectors: u32_at(bytes, 20),
                body_crc: u32_at(bytes, 24),
            });
        }
        // Neither end of a written head is zero, and no single damage makes it so.
        if u32_at(bytes, 0) == 0 || bytes[BATCH_HEAD_BYTES - 1] == 0 { HeadFound::Torn } else { HeadFound::Rotten }
    }

    /// Of the whole batch.
    pub fn bytes(&self) -> u64 {
        (BATCH_HEAD_BYTES + TRAILER_BYTES) as u64 + u64::from(self.body_bytes)
    }

    /// Checks the whole batch, which lies at `file_offset`. Errors: see [`BatchError`].
    pub fn check(&self, seed: u32, batch: &[u8], file_offset: u64) -> Result<(), BatchError> {
        assert!(batch.len() as u64 == self.bytes(), "{} bytes of a batch of {}", batch.len(), self.bytes());
        let Err(error) = self.check_body(seed, batch) else { return Ok(()) };
        let is_unfinished = batch.last() == Some(&0) || zero_sectors(batch, file_offset) > self.zero_sectors;
        Err(if is_unfinished { BatchError::Torn } else { error })
    }

    fn check_body(&self, seed: u32, batch: &[u8]) -> Result<(), BatchError> {
        let mut at = BATCH_HEAD_BYTES;
        let body_end = batch.len() - TRAILER_BYTES;
        let mut crc = Hasher::new_with_initial(seed);
        for _ in 0..self.records {
            let bytes = &batch[at..body_end];
            let record = Record::decode(seed, bytes).map_err(|reason| BatchError::Record { place: place_of(bytes), reason })?;
            crc.update(&bytes[..RECORD_HEAD_BYTES]);
            at += RECORD_HEAD_BYTES + record.data.len();
        }
        let trailer = &batch[body_end..];
        let is_padded = body_end - at < ALIGNMENT && batch[at..body_end].iter().all(|byte| *byte == 0);
        let is_closed = u32_at(trailer, 0) == self.body_crc && u32_at(trailer, 4) == TRAILER_MARKER;
        if !(is_padded && is_closed && crc.finalize() == self.body_crc) {
            return Err(BatchError::Frame);
        }
        Ok(())
    }
}

/// What is wrong with a batch that has a sound head.
#[derive(Debug)]
pub(super) enum BatchError {
    /// Never written to its end, so never acknowledged.
    Torn,
    /// A record was damaged; whose it claims to be.
    Record { place: Option<(GroupId, LogIndex)>, reason: Corruption },
    /// The records are sound one by one, but not these, or not all.
    Frame,
}

fn place_of(record: &[u8]) -> Option<(GroupId, LogIndex)> {
    let head = record.get(..RECORD_HEAD_BYTES)?;
    Some((GroupId(u32_at(head, 12)), LogIndex(u64_at(head, 16))))
}

/// The records of a batch that was checked, each with its offset from the beginning of the batch.
pub(super) fn records(batch: &[u8]) -> impl Iterator<Item = (u32, Record<'_>)> {
    let count = u32_at(batch, 4);
    let mut at = BATCH_HEAD_BYTES;
    (0..count).map(move |_| {
        let record = Record::parse(&batch[at..]).expect("the batch was checked");
        let offset = u32::try_from(at).expect("a batch is shorter");
        at += RECORD_HEAD_BYTES + record.data.len();
        (offset, record)
    })
}

fn head_checksum(seed: u32, head: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(seed);
    hasher.update(&head[..28]);
    hasher.finalize()
}

/// How many whole sectors of the file within `bytes`, which lie at `file_offset`, are zero.
fn zero_sectors(bytes: &[u8], file_offset: u64) -> u32 {
    let skip = (SECTOR_BYTES - (file_offset % SECTOR_BYTES as u64) as usize) % SECTOR_BYTES;
    let sectors = bytes.get(skip..).unwrap_or_default().chunks_exact(SECTOR_BYTES);
    let count = sectors.filter(|sector| **sector == ZERO_SECTOR).count();
    u32::try_from(count).expect("a batch is shorter")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the caller has checked the length"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the caller has checked the length"))
}

/// The layout described in this file. Raised when an older program could not read what this one writes.
pub(super) const FORMAT: u32 = 2;
/// Format 1 knows no [`RecordKind::Reset`]; otherwise it is the same.
const OLDEST_FORMAT: u32 = 1;
pub(super) const HEADER_BYTES: u64 = 4_096;
pub(super) const BATCH_HEAD_BYTES: usize = 40;
pub(super) const TRAILER_BYTES: usize = 8;
/// Batches begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;
pub(super) const RECORD_HEAD_BYTES: usize = 32;
/// Head, padding and trailer of a batch take no more.
pub(super) const BATCH_FRAME_BYTES: u64 = (BATCH_HEAD_BYTES + TRAILER_BYTES + ALIGNMENT) as u64;
/// A batch is written by one call and lies in one segment; its lengths and offsets are 32 bits.
pub(super) const BATCH_BYTES_MAX: u64 = 1 << 30;
const MAGIC: [u8; 8] = *b"DISTRLOG";
const BATCH_MAGIC: u32 = 0x4254_4C44;
const HEAD_MARKER: u64 = 0xA5C3_96B5_E1D2_4B5A;
const TRAILER_MARKER: u32 = 0xB5D2_5A96;
const IDENTITY_BYTES: usize = 40;
/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
static ZERO_SECTOR: [u8; SECTOR_BYTES] = [0; SECTOR_BYTES];

#[cfg(test)]
mod tests {
    use super::*;

    fn header(nonce: u64) -> Header {
        Header { generation: 2, nonce, bytes: 1 << 20, identity: None }
    }

    fn batch(seed: u32) -> Vec<u8> {
        let mut batch = Batch::default();
        batch.begin(seed, 7);
        let at = Position::new(Term(1), LogIndex(4));
        batch.push(&Record { detail: 2, data: b"a command", ..Record::bare(RecordKind::Entry, GroupId(1), at) });
        batch.seal(HEADER_BYTES).to_vec()
    }

    #[test]
    fn a_batch_of_an_earlier_life_is_never_one_of_this() {
        let (earlier, now) = (header(1).seed(), header(2).seed());
        let stale = batch(earlier);
        assert!(matches!(BatchHead::find(earlier, &stale[..BATCH_HEAD_BYTES]), HeadFound::Head(_)));
        assert!(!matches!(BatchHead::find(now, &stale[..BATCH_HEAD_BYTES]), HeadFound::Head(_)));
        let record = &stale[BATCH_HEAD_BYTES..];
        assert!(Record::decode(earlier, record).is_ok());
        assert!(matches!(Record::decode(now, record), Err(Corruption::Checksum { .. })));
        // Nor is a sound head of this life with the stale rest behind it.
        let mut mixed = batch(now);
        mixed[BATCH_HEAD_BYTES..].copy_from_slice(record);
        let HeadFound::Head(head) = BatchHead::find(now, &mixed[..BATCH_HEAD_BYTES]) else { panic!("no head") };
        assert!(head.check(now, &mixed, HEADER_BYTES).is_err());
    }

    #[test]
    fn a_header_page_survives_its_bytes_and_every_flipped_bit_is_noticed() {
        let header = header(9);
        let mut page = header.encode();
        assert_eq!(Header::decode(&page).unwrap(), header);
        for bit in 0..page.len() * 8 {
            page[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Header::decode(&page), Err(HeaderError::Damaged(_))), "bit {bit}");
            page[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
