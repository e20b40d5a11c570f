//! How far one follower is, and what may be sent to it.
//!
//! Two states. `Probe`: the place where the logs part is being searched; one append at a time. `Stream`: appends
//! follow each other without waiting, within a window of messages and bytes. A refusal or a found loss leads back to
//! `Probe`, an acknowledgement to `Stream`.
//! Invariant: `matched < next`.   Invariant: `matched` never decreases in a term.

use std::collections::VecDeque;

use distric_model::Instant;

use crate::config::Config;
use crate::position::LogIndex;

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
    /// A heartbeat sent behind appends: its answer tells whether those arrived.
    beat: Option<Beat>,
}

pub(crate) enum Flow {
    Probe {
        /// The one append that is out.
        sent: Option<Probing>,
    },
    Stream {
        window: Window,
    },
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
        Self { matched: LogIndex::ZERO, next: last.next(), flow, heard_at: now, wants_load: false, beat: None }
    }

    /// Whether an append may be sent now.
    pub(crate) fn may_send(&self, config: &Config) -> bool {
        match &self.flow {
            Flow::Probe { sent } => sent.is_none(),
            Flow::Stream { window } => window.messages() < config.in_flight_messages_max && window.bytes() < config.in_flight_bytes_max,
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
        }
        is_news
    }

    /// Whether a refusal of `prev` speaks of what was sent last, and not of something answered since.
    pub(crate) fn is_refusal_current(&self, prev: LogIndex) -> bool {
        match self.flow {
            Flow::Probe { .. } => prev == self.next.prev(),
            Flow::Stream { .. } => prev > self.matched,
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
        }
    }

    pub(crate) fn assert_invariants(&self) {
        assert!(self.matched < self.next, "matched {} is not before next {}", self.matched, self.next);
    }
}

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
    fn refusals_of_what_was_answered_since_are_not_current() {
        let progress = streaming();
        assert!(!progress.is_refusal_current(LogIndex(10)));
        assert!(progress.is_refusal_current(LogIndex(11)));
    }
}
