//! A flow: one connection, its messages in flight, and what became of them.

use std::collections::BTreeMap;

use distric_sdk::{RawConnection, RawReader, RawWriter};
use distric_wire::client::{GoAway, Ping, Pong, Rejection, Response, SubmitOutcome};
use distric_wire::{Flags, Frame, Message, encode};
use hdrhistogram::Histogram;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::Pace;
use crate::schedule::Schedule;
use crate::template::Template;

/// Encoded bytes that may wait for the socket before no further message is taken from the schedule.
const WRITE_BUFFER_BYTES_MAX: usize = 256 << 10;
/// Most messages in flight on one connection, whatever is asked for and granted.
const IN_FLIGHT_MAX: usize = 65_536;
/// The longest latency that is told apart, microseconds: ten minutes.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Kinds of refusal that are counted apart; the rest is one more.
const REJECTION_KINDS_MAX: usize = 64;

/// The times of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) start: Instant,
    pub(crate) measure_from: Instant,
    /// Nothing is meant to be sent from here on.
    pub(crate) measure_until: Instant,
    /// What is unanswered now stays so.
    pub(crate) give_up_at: Instant,
}

/// What became of messages. Latency and lag are those of messages meant to be sent inside of the measurement.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// From the intended time to the answer, microseconds; unanswered ones with the time they waited so far.
    pub(crate) latency_us: Histogram<u64>,
    /// From the intended time to the moment of sending, microseconds.
    pub(crate) lag_us: Histogram<u64>,
    /// Answers that came inside of the measurement.
    pub(crate) answered_in_window: u64,
    /// Acknowledgements that came inside of the measurement.
    pub(crate) acked_in_window: u64,
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    /// Of those: no rule matched.
    pub(crate) unmatched: u64,
    pub(crate) rejected: BTreeMap<String, u64>,
    pub(crate) unanswered: u64,
    /// Due, and never sent, because nothing was answered.
    pub(crate) unsent: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are legal constants");
        Self {
            latency_us: histogram(),
            lag_us: histogram(),
            answered_in_window: 0,
            acked_in_window: 0,
            sent: 0,
            acked: 0,
            unmatched: 0,
            rejected: BTreeMap::new(),
            unanswered: 0,
            unsent: 0,
        }
    }

    /// Adds the tally of another flow.
    pub(crate) fn add(&mut self, other: &Self) {
        self.latency_us.add(&other.latency_us).expect("all histograms have the same bounds");
        self.lag_us.add(&other.lag_us).expect("all histograms have the same bounds");
        self.answered_in_window += other.answered_in_window;
        self.acked_in_window += other.acked_in_window;
        self.sent += other.sent;
        self.acked += other.acked;
        self.unmatched += other.unmatched;
        self.unanswered += other.unanswered;
        self.unsent += other.unsent;
        for (name, count) in &other.rejected {
            *self.rejected.entry(name.clone()).or_default() += count;
        }
    }

    fn reject(&mut self, name: &str) {
        let is_known = self.rejected.contains_key(name) || self.rejected.len() < REJECTION_KINDS_MAX;
        *self.rejected.entry(if is_known { name } else { "(others)" }.to_owned()).or_default() += 1;
    }
}

/// See the module.
pub(crate) struct Flow {
    reader: RawReader,
    writer: RawWriter,
    pulse: Option<watch::Receiver<u64>>,
    state: State,
}

/// Everything but the sockets.
struct State {
    template: Template,
    schedule: Schedule,
    window: Window,
    /// Intended times of what is in flight; the place is the message id.
    intended: Vec<Option<Instant>>,
    free: Vec<u32>,
    next_number: u64,
    out: Vec<u8>,
    written: usize,
    tally: Tally,
    /// The server asked to leave.
    is_leaving: bool,
}

impl Flow {
    pub(crate) fn new(
        connection: RawConnection,
        template: Template,
        schedule: Schedule,
        pulse: Option<watch::Receiver<u64>>,
        window: Window,
        pace: Pace,
    ) -> Self {
        let welcome = connection.welcome();
        let by_bytes = usize::try_from(welcome.bytes_in_flight_max).unwrap_or(usize::MAX) / template.frame_bytes();
        let granted = (welcome.frames_in_flight_max as usize).min(by_bytes).clamp(1, IN_FLIGHT_MAX);
        let in_flight_max = match pace {
            Pace::InFlight(asked) => granted.min(asked.get() as usize),
            Pace::Rate(_) => granted,
        };
        let (reader, writer) = connection.into_split();
        let state = State {
            template,
            schedule,
            window,
            intended: vec![None; in_flight_max],
            free: (0..in_flight_max as u32).rev().collect(),
            next_number: 0,
            out: Vec::with_capacity(WRITE_BUFFER_BYTES_MAX),
            written: 0,
            tally: Tally::new(),
            is_leaving: false,
        };
        Self { reader, writer, pulse, state }
    }

    /// Most messages that it has in flight.
    pub(crate) fn in_flight_max(&self) -> usize {
        self.state.intended.len()
    }

    /// Sends and counts to the end; says why it ended early, if it did.
    pub(crate) async fn run(mut self) -> (Tally, Option<distric_sdk::Error>) {
        let failure = self.drive().await.err();
        self.state.close(Instant::now());
        (self.state.tally, failure)
    }

    async fn drive(&mut self) -> Result<(), distric_sdk::Error> {
        let Self { reader, writer, pulse, state } = self;
        loop {
            let now = Instant::now();
            state.advance(now);
            while state.written < state.out.len() {
                match writer.try_write(&state.out[state.written..])? {
                    0 => break,
                    count => state.written += count,
                }
            }
            if state.written == state.out.len() {
                state.out.clear();
                state.written = 0;
            }
            if state.is_done(now) {
                return Ok(());
            }
            let waits_for_time = !state.free.is_empty() && !state.schedule.is_over(now) && !state.is_leaving;
            let waits_for_socket = state.written < state.out.len();
            let is_leaving = state.is_leaving;
            let Window { measure_until, give_up_at, .. } = state.window;
            let until = if now < measure_until { measure_until } else { give_up_at };
            tokio::select! {
                biased;
                count = reader.read_frames(|frame| state.on_frame(&frame, Instant::now())) => if count? == 0 {
                    return if is_leaving { Ok(()) } else { Err(distric_sdk::Error::Closed) };
                },
                ready = writer.writable(), if waits_for_socket => ready?,
                Some(()) = next_pulse(pulse), if waits_for_time => {}
                () = sleep_until(until) => if until == give_up_at {
                    return Ok(());
                },
            }
        }
    }
}

async fn next_pulse(pulse: &mut Option<watch::Receiver<u64>>) -> Option<()> {
    pulse.as_mut()?.changed().await.ok()
}

impl State {
    /// Encodes what is due, as far as there is room.
    fn advance(&mut self, now: Instant) {
        let timestamp_us = now_us();
        while self.out.len() < WRITE_BUFFER_BYTES_MAX
            && !self.is_leaving
            && let Some(slot) = self.free.last().copied()
            && let Some(intended) = self.schedule.take_due(now)
        {
            self.free.pop();
            self.template.put(self.next_number, u64::from(slot), timestamp_us, &mut self.out);
            self.next_number += 1;
            self.intended[slot as usize] = Some(intended);
            self.tally.sent += 1;
            if intended >= self.window.measure_from {
                self.tally.lag_us.saturating_record(us_between(intended, now));
            }
        }
    }

    fn is_done(&self, now: Instant) -> bool {
        (self.schedule.is_over(now) || self.is_leaving) && self.free.len() == self.intended.len()
    }

    fn on_frame(&mut self, frame: &Frame<'_>, now: Instant) {
        match frame.header.message_type {
            Response::TYPE => self.on_response(frame, now),
            Rejection::TYPE => self.on_rejection(frame, now),
            Ping::TYPE => {
                let token = Ping::decode(frame.payload).map_or(0, |ping| ping.token);
                encode(&Pong { token }, frame.header.message_id, now_us(), Flags::NONE, &mut self.out);
            }
            GoAway::TYPE => self.is_leaving = true,
            _ => {}
        }
    }

    fn on_response(&mut self, frame: &Frame<'_>, now: Instant) {
        if self.answer(frame.header.message_id, now) {
            self.tally.acked += 1;
            self.tally.acked_in_window += u64::from(self.is_measured(now));
            let outcome = Response::decode(frame.payload).map(|response| response.outcome);
            self.tally.unmatched += u64::from(outcome == Ok(SubmitOutcome::Unmatched.number()));
        }
    }

    fn on_rejection(&mut self, frame: &Frame<'_>, now: Instant) {
        if self.answer(frame.header.message_id, now) {
            let name = Rejection::decode(frame.payload).map_or("(undecodable)", |rejection| rejection.name);
            self.tally.reject(name);
        }
    }

    /// Takes a message out of flight; `false` when none has this id.
    fn answer(&mut self, id: u64, now: Instant) -> bool {
        let place = usize::try_from(id).ok().and_then(|place| self.intended.get_mut(place));
        let Some(intended) = place.and_then(Option::take) else { return false };
        self.free.push(id as u32);
        if intended >= self.window.measure_from {
            self.tally.latency_us.saturating_record(us_between(intended, now));
        }
        self.tally.answered_in_window += u64::from(self.is_measured(now));
        true
    }

    fn is_measured(&self, now: Instant) -> bool {
        now >= self.window.measure_from && now < self.window.measure_until
    }

    /// The end: what is unanswered, and what was due and not sent, counts with the time that it waited so far; to leave it out would favour a server
    /// that stalls.
    fn close(&mut self, now: Instant) {
        let unanswered: Vec<Instant> = self.intended.iter_mut().filter_map(Option::take).collect();
        self.tally.unanswered += unanswered.len() as u64;
        let mut late = unanswered;
        if matches!(self.schedule, Schedule::Open { .. }) {
            while let Some(intended) = self.schedule.take_due(now) {
                self.tally.unsent += 1;
                late.push(intended);
            }
        }
        for intended in late.into_iter().filter(|intended| *intended >= self.window.measure_from) {
            self.tally.latency_us.saturating_record(us_between(intended, now));
        }
    }
}

fn us_between(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}

/// The calendar clock, microseconds since the Unix epoch.
fn now_us() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
