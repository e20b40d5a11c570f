//! Reads without the log: a leader proves that it still led after the question came (Ongaro 2014, section 6.4).
//!
//! Each read waits for a round of heartbeats that was *begun* after it arrived; a majority that answers that round had no
//! other leader then. Rounds are numbered, and answers carry the number, so a delayed answer to an older round
//! proves nothing.

use std::collections::VecDeque;

use crate::door::{ReadId, ReadReady};
use crate::position::LogIndex;

/// Questions that wait for their proof, oldest first.
#[derive(Default)]
pub(crate) struct Reads {
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    id: ReadId,
    /// What was committed when it was asked, and at least the leader's first entry: before that is committed, a
    /// leader does not know what its predecessors committed.
    index: LogIndex,
    /// The round that proves it.
    round: u64,
}

impl Reads {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a question. Returns whether a round must begin for it now; with one under way for others it waits for
    /// the next, so that however many reads cost one round at a time.
    pub(crate) fn ask(&mut self, id: ReadId, index: LogIndex, round: u64) -> bool {
        let is_first = self.waiting.back().is_none_or(|last| last.round <= round);
        let is_idle = self.waiting.front().is_none_or(|first| first.round > round);
        self.waiting.push_back(Waiting { id, index, round: round + 1 });
        is_first && is_idle
    }

    /// Answers what is proven by `confirmed` and committed up to `commit`.
    pub(crate) fn release(&mut self, confirmed: u64, commit: LogIndex, out: &mut Vec<ReadReady>) {
        while let Some(read) = self.waiting.pop_front_if(|read| read.round <= confirmed && read.index <= commit) {
            out.push(ReadReady { id: read.id, index: read.index });
        }
    }

    /// Whether somebody waits for a round that has not begun, and nobody for one under way.
    pub(crate) fn wants_round(&self, round: u64) -> bool {
        self.waiting.front().is_some_and(|first| first.round > round)
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = ReadId> {
        self.waiting.drain(..).map(|read| read.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_begun_before_the_question_does_not_answer_it() {
        // Ongaro 2014, section 6.4: the heartbeats are exchanged after the read was received.
        let mut reads = Reads::default();
        let mut out = Vec::new();
        assert!(reads.ask(ReadId(1), LogIndex(5), 3));
        reads.release(3, LogIndex(9), &mut out);
        assert!(out.is_empty());
        // Round 4 is under way for the first; the second waits for round 5.
        assert!(!reads.ask(ReadId(2), LogIndex(6), 4));
        reads.release(4, LogIndex(9), &mut out);
        assert_eq!(out, [ReadReady { id: ReadId(1), index: LogIndex(5) }]);
        assert!(reads.wants_round(4));
        reads.release(5, LogIndex(5), &mut out);
        assert_eq!(out.len(), 1, "not before its index is committed");
        reads.release(5, LogIndex(6), &mut out);
        assert_eq!(out.len(), 2);
    }
}
