//! What a log store found on disk, and what a replica starts from.

use crate::entry::{Entry, EntryKind};
use crate::membership::Membership;
use crate::position::{HardState, LogIndex, Position, Term};
use crate::snapshot::Snapshot;

/// Consecutive entries of one term: from `first` up to the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermRun {
    /// The first index.
    pub first: LogIndex,
    /// The term of all.
    pub term: Term,
}

/// The durable state of one replica. Default: an empty log, for a member that is going to be filled by a leader.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The stored hard state.
    pub hard_state: HardState,
    /// The last entry that was compacted away; zero when nothing was.
    pub base: Position,
    /// The last entry; equal to `base` when the log is empty.
    pub last: Position,
    /// The terms of all entries after `base`.
    pub term_runs: Vec<TermRun>,
    /// All membership entries after `base`, in order.
    pub memberships: Vec<Entry>,
    /// The newest durable checkpoint of the state machine, which the log store knows nothing of: to be filled in by
    /// whoever has it. Needed as soon as anything is compacted away; it tells who were members there.
    pub checkpoint: Option<Snapshot>,
    /// The end of the log, in order, without gaps, up to and including `last`; as much as was thought useful.
    pub tail: Vec<Entry>,
}

/// The stored state contradicts itself. A replica that cannot prove its log complete must not vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveredError {
    /// An index is known to be committed, but its entry is gone.
    #[error("entry {commit} was committed but the log ends at {last}")]
    CommittedEntryMissing {
        /// The stored commit index.
        commit: LogIndex,
        /// The last entry.
        last: LogIndex,
    },
    /// The log holds a term that the hard state has not reached.
    #[error("the log ends in term {last} but the stored term is {stored}")]
    TermLost {
        /// Of the last entry.
        last: Term,
        /// Of the hard state.
        stored: Term,
    },
    /// The pieces do not fit together.
    #[error("the recovered log does not fit together near index {index}")]
    Inconsistent {
        /// Where.
        index: LogIndex,
    },
    /// The log has another entry where it is committed than the checkpoint was made of: one of them is of another group,
    /// or older than what was promised.
    #[error("the checkpoint at {checkpoint} contradicts the log")]
    ForeignCheckpoint {
        /// Where it ends.
        checkpoint: Position,
    },
    /// Entries are compacted away that no checkpoint contains.
    #[error("the log begins behind {base} but the checkpoint ends at {checkpoint}")]
    CheckpointTooOld {
        /// The last entry that is compacted away.
        base: LogIndex,
        /// Where the checkpoint ends.
        checkpoint: LogIndex,
    },
    /// A membership entry cannot be read.
    #[error("the membership entry at index {index} cannot be read")]
    BadMembership {
        /// Which.
        index: LogIndex,
    },
}

impl Recovered {
    /// The state of a founding member before its first run. Store it (hard state and `tail`) before it is used.
    pub fn founding(membership: &Membership) -> Self {
        let entry = membership.founding_entry();
        Self {
            hard_state: HardState { term: entry.term, vote: None, commit: entry.index },
            base: Position::ZERO,
            last: entry.position(),
            term_runs: vec![TermRun { first: entry.index, term: entry.term }],
            memberships: vec![entry.clone()],
            checkpoint: None,
            tail: vec![entry],
        }
    }

    /// Takes in one more entry at the end, while a log is read in order: keeps the term runs, the membership
    /// entries and `last`. The tail is the reader's matter.
    pub fn note(&mut self, entry: &Entry) {
        if self.term_runs.last().is_none_or(|run| run.term != entry.term) {
            self.term_runs.push(TermRun { first: entry.index, term: entry.term });
        }
        if entry.kind == EntryKind::Membership {
            self.memberships.push(entry.clone());
        }
        self.last = entry.position();
    }

    /// Whether the log must begin anew behind the checkpoint: the node stopped between making an installed snapshot
    /// durable and resetting the log. What the log holds is then older, or was never committed.
    /// Errors: what cannot come about in that way.
    pub(crate) fn needs_reset(&self) -> Result<bool, RecoveredError> {
        let Some(checkpoint) = &self.checkpoint else { return Ok(false) };
        let position = checkpoint.position;
        if position.index < self.base.index {
            return Err(RecoveredError::CheckpointTooOld { base: self.base.index, checkpoint: position.index });
        }
        if position.index > self.last.index {
            return Ok(true);
        }
        let run = self.term_runs.iter().rev().find(|run| run.first <= position.index);
        let found = run.map_or(self.base.term, |run| run.term);
        if found == position.term {
            return Ok(false);
        }
        if position.index <= self.hard_state.commit.max(self.base.index) {
            return Err(RecoveredError::ForeignCheckpoint { checkpoint: position });
        }
        Ok(true)
    }

    /// Whether the pieces fit together and nothing that is known to be committed is missing.
    pub fn check(&self) -> Result<(), RecoveredError> {
        let (commit, last) = (self.hard_state.commit, self.last.index);
        if commit > last {
            return Err(RecoveredError::CommittedEntryMissing { commit, last });
        }
        if self.last.term > self.hard_state.term {
            return Err(RecoveredError::TermLost { last: self.last.term, stored: self.hard_state.term });
        }
        let fits = |index| Err(RecoveredError::Inconsistent { index });
        if last < self.base.index {
            return fits(last);
        }
        let mut before = TermRun { first: self.base.index, term: self.base.term };
        for (at, run) in self.term_runs.iter().enumerate() {
            let follows = if at == 0 {
                run.first == self.base.index.next() && run.term >= before.term
            } else {
                run.first > before.first && run.term > before.term
            };
            if !(follows && run.first <= last) {
                return fits(run.first);
            }
            before = *run;
        }
        let ends_well =
            if last == self.base.index { self.term_runs.is_empty() && self.last == self.base } else { before.term == self.last.term };
        if !ends_well {
            return fits(last);
        }
        if let Some(end) = self.tail.last()
            && end.position() != self.last
        {
            return fits(end.index);
        }
        for pair in self.tail.windows(2) {
            if pair[1].index != pair[0].index.next() || pair[1].term < pair[0].term {
                return fits(pair[1].index);
            }
        }
        for entry in &self.memberships {
            if Membership::decode(&entry.data).is_err() {
                return Err(RecoveredError::BadMembership { index: entry.index });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_lost_a_committed_entry_or_a_term_is_refused() {
        let mut state = Recovered::founding(&Membership::default());
        assert_eq!(state.check(), Ok(()));
        state.hard_state.commit = LogIndex(2);
        assert!(matches!(state.check(), Err(RecoveredError::CommittedEntryMissing { .. })));
        state.hard_state.commit = LogIndex(0);
        state.hard_state.term = Term(0);
        assert!(matches!(state.check(), Err(RecoveredError::TermLost { .. })));
    }

    #[test]
    fn a_checkpoint_ahead_of_the_log_replaces_it_and_one_that_contradicts_what_is_committed_is_refused() {
        let at = |term, index| Some(Snapshot { position: Position::new(Term(term), LogIndex(index)), membership: Membership::default() });
        let mut state = Recovered::founding(&Membership::default());
        for (checkpoint, expected) in [(at(1, 1), Ok(false)), (at(4, 7), Ok(true)), (None, Ok(false))] {
            state.checkpoint = checkpoint;
            assert_eq!(state.needs_reset(), expected);
        }
        state.checkpoint = at(2, 1);
        assert!(matches!(state.needs_reset(), Err(RecoveredError::ForeignCheckpoint { .. })));
        state.hard_state.commit = LogIndex(0);
        assert_eq!(state.needs_reset(), Ok(true), "what was never committed gives way");
        state.base = Position::new(Term(1), LogIndex(3));
        state.last = state.base;
        assert!(matches!(state.needs_reset(), Err(RecoveredError::CheckpointTooOld { .. })));
    }
}
