//! Records: the bytes of an entry and of a group's own state, with version and checksum.
//!
//! All numbers are little-endian, so a store can be read on any machine. The CRC-32 (IEEE) covers the whole record but itself.
//! LMDB has no checksums of its own, and a page that the disk returns changed must not become an entry.

use bytes::Bytes;
use distric_model::{ClusterId, GroupId, NodeId};
use distric_raft::{Entry, EntryKind, HardState, LogIndex, Position, Term};

use crate::error::Corruption;
use crate::identity::Identity;

/// Appends the record of `entry` to `out`.
///
/// Layout: version u8, kind u8, zero u16, group u32, term u64, index u64, crc u32, data.
pub(crate) fn encode_entry(group: GroupId, entry: &Entry, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[RECORD_VERSION, entry.kind.number(), 0, 0]);
    out.extend_from_slice(&group.0.to_le_bytes());
    out.extend_from_slice(&entry.term.0.to_le_bytes());
    out.extend_from_slice(&entry.index.0.to_le_bytes());
    let crc = checksum(&out[start..], &entry.data);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&entry.data);
}

/// Reads the record found where the entry `index` of `group` belongs. Errors: how it is wrong.
pub(crate) fn decode_entry(group: GroupId, index: LogIndex, record: &[u8]) -> Result<Entry, Corruption> {
    let (head, data) = checked(record, ENTRY_HEAD_BYTES)?;
    let found_group = GroupId(u32_at(head, 4));
    let found_index = LogIndex(u64_at(head, 16));
    if !(found_group == group && found_index == index) {
        return Err(Corruption::Misplaced { group: found_group, index: found_index });
    }
    let kind = EntryKind::from_number(head[1]).ok_or(Corruption::Unknown { what: "kind", number: head[1] })?;
    Ok(Entry { index, term: Term(u64_at(head, 8)), kind, data: Bytes::copy_from_slice(data) })
}

/// A group's own record: its hard state and where its log begins and ends. Written with every write of the group, so
/// that a lost end of the log shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupRecord {
    pub hard_state: HardState,
    pub base: Position,
    pub last: Position,
}

/// Layout: version u8, has_vote u8, zero u16, group u32, term u64, commit u64, base term and index u64 each, last term
/// and index u64 each, crc u32, vote 16 bytes (zero when there is none).
pub(crate) fn encode_group(group: GroupId, record: &GroupRecord) -> Vec<u8> {
    let mut out = Vec::with_capacity(GROUP_HEAD_BYTES + 16);
    out.extend_from_slice(&[RECORD_VERSION, u8::from(record.hard_state.vote.is_some()), 0, 0]);
    out.extend_from_slice(&group.0.to_le_bytes());
    for number in [
        record.hard_state.term.0,
        record.hard_state.commit.0,
        record.base.term.0,
        record.base.index.0,
        record.last.term.0,
        record.last.index.0,
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let vote = record.hard_state.vote.map_or([0; 16], NodeId::to_bytes);
    let crc = checksum(&out, &vote);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&vote);
    out
}

/// Reads the record found where that of `group` belongs. Errors: how it is wrong.
pub(crate) fn decode_group(group: GroupId, record: &[u8]) -> Result<GroupRecord, Corruption> {
    let (head, vote) = checked(record, GROUP_HEAD_BYTES)?;
    let found_group = GroupId(u32_at(head, 4));
    if found_group != group {
        return Err(Corruption::Misplaced { group: found_group, index: LogIndex::ZERO });
    }
    let vote = match head[1] {
        0 => None,
        1 => {
            let bytes: [u8; 16] = vote.try_into().map_err(|_| Corruption::Short { found_bytes: record.len() })?;
            Some(NodeId::from_bytes(bytes).map_err(|_| Corruption::Unknown { what: "vote", number: bytes[6] })?)
        }
        number => return Err(Corruption::Unknown { what: "vote", number }),
    };
    let position = |at| Position::new(Term(u64_at(head, at)), LogIndex(u64_at(head, at + 8)));
    Ok(GroupRecord {
        hard_state: HardState { term: Term(u64_at(head, 8)), vote, commit: LogIndex(u64_at(head, 16)) },
        base: position(24),
        last: position(40),
    })
}

/// Layout: version u8, zero 3 bytes, crc u32, cluster 16 bytes, node 16 bytes.
pub(crate) fn encode_identity(identity: &Identity) -> Vec<u8> {
    let mut ids = identity.cluster.to_bytes().to_vec();
    ids.extend_from_slice(&identity.node.to_bytes());
    let mut out = vec![RECORD_VERSION, 0, 0, 0];
    let crc = checksum(&out, &ids);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&ids);
    out
}

/// Reads what [`encode_identity`] wrote. Errors: how it is wrong.
pub(crate) fn decode_identity(record: &[u8]) -> Result<Identity, Corruption> {
    let (_, ids) = checked(record, IDENTITY_HEAD_BYTES)?;
    let (cluster, node) = ids.split_first_chunk::<16>().ok_or(Corruption::Short { found_bytes: record.len() })?;
    let node: [u8; 16] = node.try_into().map_err(|_| Corruption::Short { found_bytes: record.len() })?;
    let id = |_| Corruption::Unknown { what: "id", number: 0 };
    Ok(Identity { cluster: ClusterId::from_bytes(*cluster).map_err(id)?, node: NodeId::from_bytes(node).map_err(id)? })
}

/// Splits a record behind its checksum, which ends its head, and checks it.
fn checked(record: &[u8], head_bytes: usize) -> Result<(&[u8], &[u8]), Corruption> {
    let (head, data) = record.split_at_checked(head_bytes).ok_or(Corruption::Short { found_bytes: record.len() })?;
    let (covered, _) = head.split_at(head_bytes - 4);
    let (stored, found) = (u32_at(head, head_bytes - 4), checksum(covered, data));
    if stored != found {
        return Err(Corruption::Checksum { stored, found });
    }
    if head[0] != RECORD_VERSION {
        return Err(Corruption::Unknown { what: "version", number: head[0] });
    }
    Ok((head, data))
}

fn checksum(head: &[u8], data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(data);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the head was checked to be long enough"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the head was checked to be long enough"))
}

const RECORD_VERSION: u8 = 1;
const ENTRY_HEAD_BYTES: usize = 28;
const GROUP_HEAD_BYTES: usize = 60;
const IDENTITY_HEAD_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use distric_model::{Slot, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn sample() -> (GroupId, Entry) {
        let data = Bytes::from_static(b"some bytes of a command");
        (GroupId(3), Entry { index: LogIndex(9), term: Term(4), kind: EntryKind::Command, data })
    }

    proptest! {
        #[test]
        fn every_flipped_bit_of_an_entry_is_noticed(bit in 0_usize..(28 + 23) * 8) {
            let (group, entry) = sample();
            let mut record = Vec::new();
            encode_entry(group, &entry, &mut record);
            prop_assert_eq!(&decode_entry(group, entry.index, &record).unwrap(), &entry);
            record[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode_entry(group, entry.index, &record).is_err());
        }

        #[test]
        fn foreign_bytes_are_never_a_panic(bytes: Vec<u8>) {
            let _ = decode_entry(GroupId(1), LogIndex(1), &bytes);
            let _ = decode_group(GroupId(1), &bytes);
            let _ = decode_identity(&bytes);
        }
    }

    #[test]
    fn a_sound_record_in_the_wrong_place_is_noticed() {
        let (group, entry) = sample();
        let mut record = Vec::new();
        encode_entry(group, &entry, &mut record);
        assert!(matches!(decode_entry(group, LogIndex(8), &record), Err(Corruption::Misplaced { .. })));
        assert!(matches!(decode_entry(GroupId(2), entry.index, &record), Err(Corruption::Misplaced { .. })));
    }

    #[test]
    fn group_records_and_identities_survive_their_bytes() {
        let node = NodeId::new(Timestamp::from_us(5), Slot::truncate(1), 7);
        let record = GroupRecord {
            hard_state: HardState { term: Term(3), vote: Some(node), commit: LogIndex(2) },
            base: Position::new(Term(1), LogIndex(1)),
            last: Position::new(Term(3), LogIndex(8)),
        };
        assert_eq!(decode_group(GroupId(2), &encode_group(GroupId(2), &record)), Ok(record));
        assert!(decode_group(GroupId(1), &encode_group(GroupId(2), &record)).is_err());
        let identity = Identity { cluster: ClusterId::new(Timestamp::from_us(6), Slot::truncate(2), 8), node };
        assert_eq!(decode_identity(&encode_identity(&identity)), Ok(identity));
    }
}
