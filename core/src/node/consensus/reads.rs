//! Reads: from where on may this node answer questions about a group? (Ongaro 2014, section 6.4)
//!
//! The leader says up to where its log was committed when the question came, having made sure that it leads; whoever has applied that
//! much may answer. A question changes nothing, so one whose answer is lost is simply asked again.

use std::collections::BTreeMap;

use distric_model::{Instant, NodeId};
use distric_raft::ReadId;

use super::route::{HOLD_MS_MAX, HOLD_PAUSE_MS};
use crate::node::letters::AskId;

/// A question to another node that is not answered is asked again after this long, milliseconds.
const ANSWER_MS_MAX: u64 = 1_000;

/// One question of a shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub id: AskId,
    pub since: Instant,
}

/// Whom an answer is for.
#[derive(Debug)]
pub(super) enum For {
    Readers(Vec<Reader>),
    Peer { node: NodeId, id: u64 },
}

#[derive(Debug)]
struct Asked {
    whom: For,
    to: NodeId,
    term: u64,
    at: Instant,
}

/// The reads of one group.
#[derive(Debug, Default)]
pub(super) struct Reads {
    waiting: Vec<Reader>,
    /// By number: own questions to the leader, and questions of peers to the replica here.
    asked: BTreeMap<u64, Asked>,
    next: u64,
    hold_until: Option<Instant>,
}

impl Reads {
    /// A shard wants to know.
    pub fn push(&mut self, now: Instant, id: AskId) {
        self.waiting.push(Reader { id, since: now });
    }

    /// Whether something is to be looked after.
    pub fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || !self.asked.is_empty()
    }

    /// When something is due although nothing happens, on node `me`: what was asked of the replica here is always answered.
    pub fn next_wake(&self, me: NodeId) -> Option<Instant> {
        let waiting = self.waiting.first().map(|reader| {
            let expires = reader.since.plus_ms(HOLD_MS_MAX);
            self.hold_until.map_or(expires, |until| until.min(expires))
        });
        let asked = self.asked.values().find(|asked| asked.to != me).map(|asked| asked.at.plus_ms(ANSWER_MS_MAX));
        waiting.into_iter().chain(asked).min()
    }

    /// Questions that waited too long. A pause that is over is forgotten, also when there is nobody to ask: a time in the past would
    /// keep its caller awake.
    pub fn expire(&mut self, now: Instant) -> Vec<AskId> {
        self.hold_until.take_if(|until| *until <= now);
        let is_late = |reader: &Reader| reader.since.plus_ms(HOLD_MS_MAX) <= now;
        let late = self.waiting.iter().filter(|reader| is_late(reader)).map(|reader| reader.id).collect();
        self.waiting.retain(|reader| !is_late(reader));
        late
    }

    /// Asks again what was asked of someone who does not lead any more, or was not answered. Questions to the replica here always are.
    pub fn recall(&mut self, now: Instant, me: NodeId, leader: Option<NodeId>, term: u64) {
        let is_lost =
            |asked: &Asked| asked.to != me && (Some(asked.to) != leader || asked.term != term || asked.at.plus_ms(ANSWER_MS_MAX) <= now);
        let lost: Vec<u64> = self.asked.iter().filter(|(_, asked)| is_lost(asked)).map(|(number, _)| *number).collect();
        for number in lost {
            self.put_back(now, number);
        }
    }

    /// One question for all that wait. `None`: nobody waits, or not yet.
    pub fn ask(&mut self, now: Instant, to: NodeId, term: u64) -> Option<ReadId> {
        if self.waiting.is_empty() || self.hold_until.is_some_and(|until| until > now) {
            return None;
        }
        self.hold_until = None;
        let whom = For::Readers(std::mem::take(&mut self.waiting));
        Some(self.enter(whom, to, term, now))
    }

    /// A peer asks the replica here.
    pub fn ask_for_peer(&mut self, now: Instant, me: NodeId, term: u64, node: NodeId, id: u64) -> ReadId {
        self.enter(For::Peer { node, id }, me, term, now)
    }

    fn enter(&mut self, whom: For, to: NodeId, term: u64, at: Instant) -> ReadId {
        let number = self.next;
        self.next += 1;
        self.asked.insert(number, Asked { whom, to, term, at });
        ReadId(number)
    }

    /// An answer has come.
    pub fn close(&mut self, number: u64) -> Option<For> {
        self.asked.remove(&number).map(|asked| asked.whom)
    }

    /// A question was refused: a peer's is handed back, own ones wait and are asked again.
    pub fn put_back(&mut self, now: Instant, number: u64) -> Option<(NodeId, u64)> {
        match self.close(number)? {
            For::Peer { node, id } => Some((node, id)),
            For::Readers(mut readers) => {
                readers.append(&mut self.waiting);
                self.waiting = readers;
                self.hold_until = Some(now.plus_ms(HOLD_PAUSE_MS));
                None
            }
        }
    }
}
