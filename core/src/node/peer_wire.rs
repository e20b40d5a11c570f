//! Between [`PeerLetter`]s and frames of the raft family. The page is `docs/peer-protocol.md`.
//!
//! In: letters, or a frame's type and payload.  Out: the other.
//! Invariant: whatever bytes come, decoding gives letters that a peer could have sent, or an error.

use bytes::Bytes;
use distric_model::{GroupId, NodeId};
use distric_raft::{
    AppendOutcome, Body, Entry, EntryKind, Heartbeat, HeartbeatReply, LogIndex, Membership, Message, Position, Snapshot, Term,
};
use distric_wire::peer::{
    AppendEntries, AppendEntriesResponse, Forward, ForwardRefused, HeartbeatResponses, Heartbeats, InstallSnapshot, MoveLeader, ReadIndex,
    ReadIndexResponse, RequestVote, RequestVoteResponse, TimeoutNow,
};
use distric_wire::{DecodeError, Flags, PeerMessage};

use super::envelope::ProposalNumber;
use super::peer::{Forwarded, PeerLetter};

/// Bytes of one heartbeat in a [`Heartbeats`] frame.
const BEAT_BYTES: usize = 4 + 8 + 8 + 8;
/// Bytes of one answer in a [`HeartbeatResponses`] frame.
const BEAT_REPLY_BYTES: usize = 4 + 8 + 8 + 8 + 8;
/// Bytes of an entry before its data.
const ENTRY_HEAD_BYTES: usize = 8 + 1 + 4;

/// A frame that is no letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerWireError {
    /// The payload is not what its type says.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// No letter of this version: another family, or the opening of a connection.
    #[error("message type {found:#06x} is not one that a coordinator sends on an open connection")]
    Type {
        /// The type.
        found: u16,
    },
    /// A field's bytes are not what the page says.
    #[error("{message}: {field} is malformed")]
    Field {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
    },
}

/// Collects the letters of one turn for one peer: each is one frame, but heartbeats, of which a frame holds those of all groups.
#[derive(Debug, Default)]
pub struct Packer {
    beats: Vec<u8>,
    replies: Vec<u8>,
    scratch: Vec<u8>,
}

impl Packer {
    /// Appends a letter's frame, or keeps the letter for [`Self::finish`].
    pub fn push(&mut self, letter: &PeerLetter, at_us: u64, out: &mut Vec<u8>) {
        match letter {
            PeerLetter::Raft(group, message) => self.push_raft(group.0, message, at_us, out),
            PeerLetter::Propose(Forwarded { group, term, number, command, .. }) => {
                put(&Forward { group: group.0, term: *term, number: number.0, command }, at_us, out);
            }
            PeerLetter::Refused { group, term, number, overloaded } => {
                put(&ForwardRefused { group: group.0, term: *term, number: number.0, overloaded: *overloaded }, at_us, out);
            }
            PeerLetter::ReadIndex { group, id } => put(&ReadIndex { group: group.0, id: *id }, at_us, out),
            PeerLetter::ReadAt { group, id, index } => {
                put(&ReadIndexResponse { group: group.0, id: *id, index: index.map(|index| index.0) }, at_us, out);
            }
            PeerLetter::MoveLeader { group, target } => put(&MoveLeader { group: group.0, target: target.uuid() }, at_us, out),
        }
    }

    /// Appends what was kept.
    pub fn finish(&mut self, at_us: u64, out: &mut Vec<u8>) {
        if !self.beats.is_empty() {
            put(&Heartbeats { beats: &self.beats }, at_us, out);
            self.beats.clear();
        }
        if !self.replies.is_empty() {
            put(&HeartbeatResponses { beats: &self.replies }, at_us, out);
            self.replies.clear();
        }
    }

    fn push_raft(&mut self, group: u32, message: &Message, at_us: u64, out: &mut Vec<u8>) {
        let term = message.term.0;
        let mut vote = |kind: u8, last: &Position| {
            put(&RequestVote { group, term, kind, last_term: last.term.0, last_index: last.index.0 }, at_us, out);
        };
        match &message.body {
            Body::PreVote { last } => vote(0, last),
            Body::Vote { last } => vote(1, last),
            Body::VoteByLeave { last } => vote(2, last),
            Body::PreVoteReply { granted } => put(&RequestVoteResponse { group, term, pre_vote: true, granted: *granted }, at_us, out),
            Body::VoteReply { granted } => put(&RequestVoteResponse { group, term, pre_vote: false, granted: *granted }, at_us, out),
            Body::Append { prev, entries, commit } => {
                self.scratch.clear();
                for entry in entries {
                    self.scratch.extend_from_slice(&entry.term.0.to_be_bytes());
                    self.scratch.push(entry.kind.number());
                    self.scratch.extend_from_slice(&(entry.data.len() as u32).to_be_bytes());
                    self.scratch.extend_from_slice(&entry.data);
                }
                let (prev_term, prev_index) = (prev.term.0, prev.index.0);
                put(&AppendEntries { group, term, prev_term, prev_index, commit: commit.0, entries: &self.scratch }, at_us, out);
            }
            Body::AppendReply(outcome) => {
                let mut response = AppendEntriesResponse { group, term, ..AppendEntriesResponse::default() };
                match outcome {
                    AppendOutcome::Matched { matched } => response.index = matched.0,
                    AppendOutcome::Refused { prev, hint } => {
                        response.outcome = 1;
                        (response.index, response.hint_term, response.hint_index) = (prev.0, hint.term.0, hint.index.0);
                    }
                    AppendOutcome::Stale => response.outcome = 2,
                }
                put(&response, at_us, out);
            }
            Body::Heartbeat(Heartbeat { commit, round }) => {
                self.beats.extend_from_slice(&group.to_be_bytes());
                [term, commit.0, *round].iter().for_each(|word| self.beats.extend_from_slice(&word.to_be_bytes()));
            }
            Body::HeartbeatReply(HeartbeatReply { round, matched, received }) => {
                self.replies.extend_from_slice(&group.to_be_bytes());
                [term, *round, matched.0, received.0].iter().for_each(|word| self.replies.extend_from_slice(&word.to_be_bytes()));
            }
            Body::TimeoutNow => put(&TimeoutNow { group, term }, at_us, out),
            Body::Snapshot(Snapshot { position, membership }) => {
                let membership = membership.encode();
                let (last_term, last_index) = (position.term.0, position.index.0);
                put(&InstallSnapshot { group, term, last_term, last_index, membership: &membership }, at_us, out);
            }
        }
    }
}

fn put<'a, M: distric_wire::Message<'a>>(message: &M, at_us: u64, out: &mut Vec<u8>) {
    distric_wire::encode(message, 0, at_us, Flags::NONE, out);
}

/// Reads the letters of one frame. `boot`: the sender's, as it said when the connection was opened.
pub fn unpack(message_type: u16, payload: &[u8], boot: u64, mut deliver: impl FnMut(PeerLetter)) -> Result<(), PeerWireError> {
    let message = PeerMessage::decode(message_type, payload)?.ok_or(PeerWireError::Type { found: message_type })?;
    let mut raft = |group: u32, term: u64, body: Body| deliver(PeerLetter::Raft(GroupId(group), Message { term: Term(term), body }));
    match message {
        PeerMessage::RequestVote(RequestVote { group, term, kind, last_term, last_index }) => {
            let last = position(last_term, last_index);
            let body = match kind {
                0 => Body::PreVote { last },
                1 => Body::Vote { last },
                2 => Body::VoteByLeave { last },
                _ => return Err(PeerWireError::Field { message: "RequestVote", field: "kind" }),
            };
            raft(group, term, body);
        }
        PeerMessage::RequestVoteResponse(RequestVoteResponse { group, term, pre_vote, granted }) => {
            raft(group, term, if pre_vote { Body::PreVoteReply { granted } } else { Body::VoteReply { granted } });
        }
        PeerMessage::AppendEntries(AppendEntries { group, term, prev_term, prev_index, commit, entries }) => {
            let prev = position(prev_term, prev_index);
            let entries = entries_of(prev, entries)?;
            raft(group, term, Body::Append { prev, entries, commit: LogIndex(commit) });
        }
        PeerMessage::AppendEntriesResponse(AppendEntriesResponse { group, term, outcome, index, hint_term, hint_index }) => {
            let outcome = match outcome {
                0 => AppendOutcome::Matched { matched: LogIndex(index) },
                1 => AppendOutcome::Refused { prev: LogIndex(index), hint: position(hint_term, hint_index) },
                2 => AppendOutcome::Stale,
                _ => return Err(PeerWireError::Field { message: "AppendEntriesResponse", field: "outcome" }),
            };
            raft(group, term, Body::AppendReply(outcome));
        }
        PeerMessage::InstallSnapshot(InstallSnapshot { group, term, last_term, last_index, membership }) => {
            let membership =
                Membership::decode(membership).map_err(|_| PeerWireError::Field { message: "InstallSnapshot", field: "membership" })?;
            raft(group, term, Body::Snapshot(Snapshot { position: position(last_term, last_index), membership }));
        }
        PeerMessage::Heartbeats(Heartbeats { beats }) => {
            for beat in words::<BEAT_BYTES, 3>(beats, "Heartbeats")? {
                let (group, [term, commit, round]) = beat;
                raft(group, term, Body::Heartbeat(Heartbeat { commit: LogIndex(commit), round }));
            }
        }
        PeerMessage::HeartbeatResponses(HeartbeatResponses { beats }) => {
            for beat in words::<BEAT_REPLY_BYTES, 4>(beats, "HeartbeatResponses")? {
                let (group, [term, round, matched, received]) = beat;
                let reply = HeartbeatReply { round, matched: LogIndex(matched), received: LogIndex(received) };
                raft(group, term, Body::HeartbeatReply(reply));
            }
        }
        PeerMessage::TimeoutNow(TimeoutNow { group, term }) => raft(group, term, Body::TimeoutNow),
        PeerMessage::Forward(Forward { group, term, number, command }) => deliver(PeerLetter::Propose(Forwarded {
            group: GroupId(group),
            term,
            boot,
            number: ProposalNumber(number),
            command: Bytes::copy_from_slice(command),
        })),
        PeerMessage::ForwardRefused(ForwardRefused { group, term, number, overloaded }) => {
            deliver(PeerLetter::Refused { group: GroupId(group), term, number: ProposalNumber(number), overloaded });
        }
        PeerMessage::ReadIndex(ReadIndex { group, id }) => deliver(PeerLetter::ReadIndex { group: GroupId(group), id }),
        PeerMessage::ReadIndexResponse(ReadIndexResponse { group, id, index }) => {
            deliver(PeerLetter::ReadAt { group: GroupId(group), id, index: index.map(LogIndex) });
        }
        PeerMessage::MoveLeader(MoveLeader { group, target }) => {
            let target = NodeId::from_uuid(target).map_err(|_| PeerWireError::Field { message: "MoveLeader", field: "target" })?;
            deliver(PeerLetter::MoveLeader { group: GroupId(group), target });
        }
        PeerMessage::PeerHello(_) | PeerMessage::PeerWelcome(_) | PeerMessage::FetchSnapshot(_) | PeerMessage::SnapshotChunk(_) => {
            return Err(PeerWireError::Type { found: message_type });
        }
    }
    Ok(())
}

fn position(term: u64, index: u64) -> Position {
    Position::new(Term(term), LogIndex(index))
}

/// The entries of one append: one copy for all of them, which they share.
fn entries_of(prev: Position, packed: &[u8]) -> Result<Vec<Entry>, PeerWireError> {
    let malformed = PeerWireError::Field { message: "AppendEntries", field: "entries" };
    let all = Bytes::copy_from_slice(packed);
    let mut entries = Vec::new();
    let mut at = 0;
    let mut index = prev.index;
    while at < all.len() {
        let head: &[u8; ENTRY_HEAD_BYTES] = all[at..].first_chunk().ok_or_else(|| malformed.clone())?;
        let term = u64::from_be_bytes(*head.first_chunk().expect("the head has thirteen bytes"));
        let kind = EntryKind::from_number(head[8]).ok_or_else(|| malformed.clone())?;
        let bytes = u32::from_be_bytes(*head.last_chunk().expect("the head has thirteen bytes")) as usize;
        at += ENTRY_HEAD_BYTES;
        if all.len() - at < bytes {
            return Err(malformed);
        }
        index = LogIndex(index.0.checked_add(1).ok_or_else(|| malformed.clone())?);
        entries.push(Entry { index, term: Term(term), kind, data: all.slice(at..at + bytes) });
        at += bytes;
    }
    Ok(entries)
}

/// Records of a group's number and `WORDS` words.
fn words<'a, const BYTES: usize, const WORDS: usize>(
    packed: &'a [u8],
    message: &'static str,
) -> Result<impl Iterator<Item = (u32, [u64; WORDS])> + 'a, PeerWireError> {
    let (records, rest) = packed.as_chunks::<BYTES>();
    if !rest.is_empty() {
        return Err(PeerWireError::Field { message, field: "beats" });
    }
    Ok(records.iter().map(|record| {
        let group = u32::from_be_bytes(*record.first_chunk().expect("a record begins with four bytes of a group"));
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(record[4..].as_chunks::<8>().0) {
            *word = u64::from_be_bytes(*bytes);
        }
        (group, words)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use distric_model::{Slot, Timestamp};
    use distric_wire::{FrameLimits, parse};

    fn node(number: u64) -> NodeId {
        NodeId::new(Timestamp::from_us(1), Slot::truncate(0), number)
    }

    fn letters() -> Vec<PeerLetter> {
        let raft = |body| PeerLetter::Raft(GroupId(3), Message { term: Term(7), body });
        let entry =
            |index, kind, data: &'static [u8]| Entry { index: LogIndex(index), term: Term(6), kind, data: Bytes::from_static(data) };
        let entries = vec![entry(11, EntryKind::Noop, b""), entry(12, EntryKind::Command, b"command")];
        let membership = Membership::new(vec![node(1), node(2)], vec![node(3)]).unwrap();
        vec![
            raft(Body::PreVote { last: position(6, 10) }),
            raft(Body::Vote { last: position(6, 10) }),
            raft(Body::VoteByLeave { last: position(6, 10) }),
            raft(Body::PreVoteReply { granted: true }),
            raft(Body::VoteReply { granted: false }),
            raft(Body::Append { prev: position(6, 10), entries, commit: LogIndex(9) }),
            raft(Body::AppendReply(AppendOutcome::Matched { matched: LogIndex(12) })),
            raft(Body::AppendReply(AppendOutcome::Refused { prev: LogIndex(10), hint: position(5, 4) })),
            raft(Body::AppendReply(AppendOutcome::Stale)),
            raft(Body::TimeoutNow),
            raft(Body::Snapshot(Snapshot { position: position(6, 10), membership })),
            PeerLetter::Propose(Forwarded {
                group: GroupId(3),
                term: 7,
                boot: 99,
                number: ProposalNumber(5),
                command: Bytes::from_static(b"command"),
            }),
            PeerLetter::Refused { group: GroupId(3), term: 7, number: ProposalNumber(5), overloaded: true },
            PeerLetter::ReadIndex { group: GroupId(3), id: 4 },
            PeerLetter::ReadAt { group: GroupId(3), id: 4, index: Some(LogIndex(12)) },
            PeerLetter::ReadAt { group: GroupId(3), id: 4, index: None },
            PeerLetter::MoveLeader { group: GroupId(3), target: node(2) },
            raft(Body::Heartbeat(Heartbeat { commit: LogIndex(9), round: 2 })),
            raft(Body::Heartbeat(Heartbeat { commit: LogIndex(10), round: 3 })),
            raft(Body::HeartbeatReply(HeartbeatReply { round: 2, matched: LogIndex(9), received: LogIndex(10) })),
        ]
    }

    fn packed() -> Vec<u8> {
        let (mut packer, mut out) = (Packer::default(), Vec::new());
        letters().iter().for_each(|letter| packer.push(letter, 5, &mut out));
        packer.finish(5, &mut out);
        out
    }

    #[test]
    fn every_letter_survives_the_wire() {
        let (bytes, mut at, mut found, mut frames) = (packed(), 0, Vec::new(), 0);
        while let Some((frame, consumed)) = parse(&bytes[at..], FrameLimits::AUTHENTICATED).unwrap() {
            unpack(frame.header.message_type, frame.payload, 99, |letter| found.push(letter)).unwrap();
            (at, frames) = (at + consumed, frames + 1);
        }
        assert_eq!(at, bytes.len());
        assert_eq!(found, letters());
        assert_eq!(frames, letters().len() - 1, "the heartbeats of a turn share a frame");
    }

    #[test]
    fn changed_bytes_give_an_error_or_a_letter_and_never_a_panic() {
        let (bytes, mut at) = (packed(), 0);
        while let Some((frame, consumed)) = parse(&bytes[at..], FrameLimits::AUTHENTICATED).unwrap() {
            for position in 0..frame.payload.len() {
                for change in [0x01, 0x80, 0xff] {
                    let mut payload = frame.payload.to_vec();
                    payload[position] ^= change;
                    let _ = unpack(frame.header.message_type, &payload, 1, |_| {});
                    let _ = unpack(frame.header.message_type, &payload[..position], 1, |_| {});
                }
            }
            at += consumed;
        }
    }

    #[test]
    fn frames_of_others_are_refused_by_name() {
        let error = unpack(0x4001, &[], 1, |_| {}).unwrap_err();
        assert_eq!(error, PeerWireError::Type { found: 0x4001 });
        let mut payload = Vec::new();
        Heartbeats { beats: &[0; BEAT_BYTES + 1] }.encode_payload(&mut payload);
        let error = unpack(0x1006, &payload, 1, |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "Heartbeats: beats is malformed");
    }
}
