//! How far one follower is, and what may be sent to it.
//!
//! Three states. `Probe`: the place where the logs part is being searched; one append at a time. `Stream`: appends
//! follow each other without waiting, within a window of messages and bytes. A refusal or a found loss leads back to
//! `Probe`, an acknowledgement to `Stream`. `Snapshot`: what comes next is compacted away; nothing is sent but the offer of a
//! snapshot, again after every answered heartbeat until an acknowledgement shows that the follower is in the log again.
//! Invariant: `matched < next`.   Invariant: `matched` never decreases in a term.

use std::collections::VecDeque;

use distric_model::Instant;

use crate::config::Config;
use crate::position::LogIndex;
use crate::snapshot::Snapshot;

pub(crate) struct Progress {
    /// The follower's disk equals the leader's log up to here.
    pub(crate) matched: LogIndex,
    /// The next entry to send.
    pub(crate) next: LogIndex,
    pub(crate) flow: Flow,
    /// When it was last heard of.
    pub(crate) heard_at: Instant,
    /// Entries for it must be loaded first.
    pub(crate) wants_load: bool,
    /// The last round of heartbeats that it answered in this term.
    pub(crate) confirmed_round: u64,
    /// Heartbeats in a row at which it lacked little.
    pub(crate) caught_up_rounds: u32,
    /// It is no member any more, by the entry at this index, and told so until the time named.
    pub(crate) departing: Option<(LogIndex, Instant)>,
    /// A heartbeat sent behind appends: its answer tells whether those arrived.
    beat: Option<Beat>,
    /// The commit index that it was told of, as far as it can use it.
    pub(crate) told_commit: LogIndex,
}

pub(crate) enum Flow {
    Probe {
        /// The one append that is out.
        sent: Option<Probing>,
    },
    Stream {
        window: Window,
    },
    Snapshot(Delivery),
}

/// How far the delivery of a snapshot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The driver was asked for one.
    Wanted,
    /// The follower was told of this one so many times, the last time in the round of heartbeats named.
    Offered { snapshot: Snapshot, round: u64, times: u32 },
    /// The driver had none in that round.
    Failed { round: u64 },
}

/// What a heartbeat's answer calls for while a snapshot is being delivered.
pub(crate) enum Again {
    Nothing,
    Want,
    Offer(Snapshot),
}

pub(crate) struct Probing {
    /// The last entry in it, or the one before when it was empty.
    last: LogIndex,
    /// The heartbeat round during which it went out.
    round: u64,
}

struct Beat {
    round: u64,
    sent_upto: LogIndex,
}

/// Unanswered appends, oldest first.
#[derive(Default)]
pub(crate) struct Window {
    appends: VecDeque<(LogIndex, u64)>,
    bytes: u64,
}

impl Window {
    pub(crate) fn push(&mut self, last: LogIndex, bytes: u64) {
        self.bytes += bytes;
        self.appends.push_back((last, bytes));
    }

    /// Forgets the appends that an acknowledgement up to `matched` answers.
    fn free(&mut self, matched: LogIndex) {
        while let Some((_, bytes)) = self.appends.pop_front_if(|(last, _)| *last <= matched) {
            self.bytes -= bytes;
        }
    }

    pub(crate) fn messages(&self) -> usize {
        self.appends.len()
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Progress {
    /// A follower of whom nothing is known: it is tried with the end of the leader's log.
    pub(crate) fn new(last: LogIndex, now: Instant) -> Self {
        let flow = Flow::Probe { sent: None };
        Self {
            matched: LogIndex::ZERO,
            next: last.next(),
            flow,
            heard_at: now,
            wants_load: false,
            confirmed_round: 0,
            caught_up_rounds: 0,
            departing: None,
            beat: None,
            told_commit: LogIndex::ZERO,
        }
    }

    /// Whether it streams and nothing is on its way to it.
    pub(crate) fn is_idle_stream(&self) -> bool {
        matches!(&self.flow, Flow::Stream { window } if window.messages() == 0)
    }

    /// Whether an append may be sent now.
    pub(crate) fn may_send(&self, config: &Config) -> bool {
        match &self.flow {
            Flow::Probe { sent } => sent.is_none(),
            Flow::Stream { window } => window.messages() < config.in_flight_messages_max && window.bytes() < config.in_flight_bytes_max,
            Flow::Snapshot(_) => false,
        }
    }

    /// An append with entries up to `last` (the one before `next` when it was empty) went out.
    pub(crate) fn on_sent(&mut self, last: LogIndex, bytes: u64, round: u64) {
        match &mut self.flow {
            // The place is not known yet, so `next` stays.
            Flow::Probe { sent } => *sent = Some(Probing { last, round }),
            Flow::Stream { window } => {
                window.push(last, bytes);
                self.next = last.next();
            }
            Flow::Snapshot(_) => panic!("entries sent to a follower that needs a snapshot"),
        }
    }

    /// What it needs next is compacted away.
    pub(crate) fn become_snapshot(&mut self) {
        self.flow = Flow::Snapshot(Delivery::Wanted);
        self.beat = None;
    }

    /// The follower is known to be equal as far as the log reaches back: entries can go on from `matched`.
    pub(crate) fn leave_snapshot(&mut self) {
        if matches!(self.flow, Flow::Snapshot(_)) {
            self.next = self.matched.next();
            self.flow = Flow::Stream { window: Window::default() };
        }
    }

    /// The entry behind which this follower will go on once its snapshot is installed.
    pub(crate) fn pinned(&self) -> Option<LogIndex> {
        match &self.flow {
            Flow::Snapshot(Delivery::Offered { snapshot, .. }) => Some(snapshot.position.index),
            _ => None,
        }
    }

    /// A heartbeat of `round` was answered: what to say about the snapshot, should it have been lost.
    pub(crate) fn again(&mut self, answered: u64, current: u64) -> Again {
        match &mut self.flow {
            Flow::Snapshot(Delivery::Offered { snapshot, round, times }) if answered > *round => {
                *round = current;
                *times += 1;
                // The driver may have dropped it for a newer one, which nobody can fetch by the old name.
                if times.is_multiple_of(OFFERS_MAX) { Again::Want } else { Again::Offer(snapshot.clone()) }
            }
            Flow::Snapshot(delivery @ Delivery::Failed { .. }) => {
                let Delivery::Failed { round } = delivery else { return Again::Nothing };
                if answered <= *round {
                    return Again::Nothing;
                }
                *delivery = Delivery::Wanted;
                Again::Want
            }
            _ => Again::Nothing,
        }
    }

    /// The follower's disk is known to be equal up to `matched`. Returns whether that is news.
    /// `answers_append`: it was said in answer to an append, which ends a probe even without news.
    pub(crate) fn on_matched(&mut self, matched: LogIndex, answers_append: bool) -> bool {
        let is_news = matched > self.matched;
        if matched < self.matched {
            return false;
        }
        self.matched = matched;
        match &mut self.flow {
            Flow::Stream { window } => {
                window.free(matched);
                self.next = self.next.max(matched.next());
            }
            Flow::Probe { sent } if is_news || answers_append => {
                // An answered probe was taken whole, even if only part of it is durable yet.
                let taken = sent.as_ref().filter(|_| answers_append).map_or(matched, |sent| sent.last.max(matched));
                self.next = taken.next();
                self.flow = Flow::Stream { window: Window::default() };
            }
            Flow::Probe { .. } => {}
            // Whether that is enough only the log can say.
            Flow::Snapshot(_) => self.next = self.next.max(matched.next()),
        }
        is_news
    }

    /// Whether a refusal of `prev` speaks of what was sent last, and not of something answered since.
    pub(crate) fn is_refusal_current(&self, prev: LogIndex) -> bool {
        match self.flow {
            Flow::Probe { .. } => prev == self.next.prev(),
            Flow::Stream { .. } => prev > self.matched,
            Flow::Snapshot(_) => false,
        }
    }

    /// Searches from `next` on.
    pub(crate) fn become_probe(&mut self, next: LogIndex) {
        self.next = next.max(self.matched.next());
        self.flow = Flow::Probe { sent: None };
        self.beat = None;
    }

    /// A heartbeat of `round` goes out. One is watched at a time, so that a long way does not hide its answer.
    pub(crate) fn on_heartbeat_sent(&mut self, round: u64) {
        if self.beat.is_none() {
            self.beat = Some(Beat { round, sent_upto: self.next.prev() });
        }
    }

    /// The answer to a heartbeat of `round` from a follower that has received entries up to `received`. Returns
    /// whether something sent before that heartbeat was lost; a probe is then free again, a stream has become one.
    pub(crate) fn on_heartbeat_answered(&mut self, round: u64, received: LogIndex) -> bool {
        let watched = self.beat.take_if(|beat| round >= beat.round);
        match &mut self.flow {
            Flow::Probe { sent } => sent.take_if(|sent| round > sent.round).is_some(),
            Flow::Stream { .. } => {
                let is_lost = watched.is_some_and(|beat| received < beat.sent_upto && self.matched < beat.sent_upto);
                if is_lost {
                    self.become_probe(received.next().min(self.next));
                }
                is_lost
            }
            Flow::Snapshot(_) => false,
        }
    }

    pub(crate) fn assert_invariants(&self) {
        assert!(self.matched < self.next, "matched {} is not before next {}", self.matched, self.next);
    }
}

/// So often one snapshot is offered before the driver is asked which it has.
const OFFERS_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn streaming() -> Progress {
        let mut progress = Progress::new(LogIndex(10), Instant::default());
        assert!(progress.on_matched(LogIndex(10), true));
        progress
    }

    #[test]
    fn an_acknowledgement_frees_everything_it_covers_and_an_older_one_changes_nothing() {
        let mut progress = streaming();
        for last in [12, 14, 16] {
            progress.on_sent(LogIndex(last), 100, 1);
        }
        assert!(progress.on_matched(LogIndex(14), true));
        assert!(!progress.on_matched(LogIndex(12), true));
        assert_eq!(progress.matched, LogIndex(14));
        let Flow::Stream { window } = &progress.flow else { panic!("a stream stays one") };
        assert_eq!((window.messages(), window.bytes()), (1, 100));
    }

    #[test]
    fn a_lost_append_is_noticed_by_a_heartbeat_sent_behind_it_and_not_by_one_before() {
        let mut progress = streaming();
        progress.on_heartbeat_sent(1);
        progress.on_sent(LogIndex(12), 100, 1);
        assert!(!progress.on_heartbeat_answered(1, LogIndex(10)));
        progress.on_heartbeat_sent(2);
        assert!(progress.on_heartbeat_answered(2, LogIndex(10)));
        assert_eq!(progress.next, LogIndex(11));
    }

    #[test]
    fn a_snapshot_is_offered_again_once_per_answered_round_and_left_by_an_acknowledgement() {
        // Raft section 7: the leader sends a snapshot when it has discarded the next entry it needs to send.
        let mut progress = streaming();
        progress.become_snapshot();
        assert!(matches!(progress.again(9, 9), Again::Nothing), "the driver has not answered yet");
        let snapshot = Snapshot { position: crate::Position::new(crate::Term(2), LogIndex(20)), membership: crate::Membership::default() };
        progress.flow = Flow::Snapshot(Delivery::Offered { snapshot, round: 4, times: 1 });
        assert_eq!(progress.pinned(), Some(LogIndex(20)));
        assert!(matches!(progress.again(4, 6), Again::Nothing));
        assert!(matches!(progress.again(5, 6), Again::Offer(_)));
        assert!(matches!(progress.again(6, 6), Again::Nothing));
        let wants = (7..20).filter(|round| matches!(progress.again(*round, *round), Again::Want)).count();
        assert_eq!(wants, 1, "the driver is asked again now and then");
        assert!(progress.on_matched(LogIndex(20), true));
        progress.leave_snapshot();
        assert_eq!(progress.next, LogIndex(21));
        progress.flow = Flow::Snapshot(Delivery::Failed { round: 7 });
        assert!(matches!(progress.again(7, 8), Again::Nothing));
        assert!(matches!(progress.again(8, 8), Again::Want));
        assert!(matches!(progress.flow, Flow::Snapshot(Delivery::Wanted)));
    }

    #[test]
    fn refusals_of_what_was_answered_since_are_not_current() {
        let progress = streaming();
        assert!(!progress.is_refusal_current(LogIndex(10)));
        assert!(progress.is_refusal_current(LogIndex(11)));
    }
}
