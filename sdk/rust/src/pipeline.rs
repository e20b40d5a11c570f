//! One connection's requests: queue, credit, encoding, matching of answers. No sockets and no waiting in here.
//!
//! In: jobs and frames.  Out: bytes to write, and answers to whoever asked.
//! Invariant: requests in flight never exceed the credit of the Welcome, neither in number nor in bytes.
//! Invariant: jobs leave in the order in which they came, also after a reconnect.
//! Start reading at [`Pipeline::advance`] and [`Pipeline::on_frame`].

use std::collections::VecDeque;

use bytes::Bytes;
use distric_wire::client::{self as wire, BatchOutcome, BatchResponse, GoAway, Ping, Pong, QueryReply, Response, SubmitBatch, Subscribe};
use distric_wire::{DecodeError, Frame, FrameLimits, HEADER_BYTES, Items, Message};
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use crate::dial::{PING_ID, Welcome, put_frame};
use crate::error::{Error, ProtocolError, Rejection};
use crate::job::{Answer, Event, Job, Request, Subscription, Work};
use crate::options::SUBSCRIPTIONS_MAX;
use crate::pending::{PENDING_MAX, Pending};
use crate::request::Reply;
use crate::submission::Receipt;

/// Encoded bytes that may wait for the socket before no further request is encoded; one frame may go beyond.
const WRITE_BUFFER_BYTES_MAX: usize = 256 << 10;
/// A write buffer that one large frame blew up beyond this is given back once it is empty, bytes.
const WRITE_BUFFER_KEPT_BYTES: usize = 1 << 20;

/// What the connection's task must know about a frame.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Nothing.
    Nothing,
    /// The server is about to close; it still answers for this long, milliseconds.
    GoAway { grace_ms: u64 },
    /// The server refused the connection as a whole.
    Refused(Rejection),
}

#[derive(Clone, Copy, Debug)]
struct Credit {
    frames_max: usize,
    bytes_max: usize,
    frame_bytes_max: usize,
    compress: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Pipeline {
    /// Taken from the queue, not yet sent.
    held: VecDeque<Job>,
    pending: Pending<Job>,
    credit: Credit,
    subscriptions: usize,
    /// The server is going away: nothing new is sent.
    closing: bool,
    out: Vec<u8>,
    written: usize,
    scratch: Vec<u8>,
    /// The turn's reading of the clock.
    pub(crate) now: Instant,
}

impl Pipeline {
    pub(crate) fn new() -> Self {
        Self {
            held: VecDeque::new(),
            pending: Pending::new(),
            credit: Credit { frames_max: 0, bytes_max: 0, frame_bytes_max: 0, compress: false },
            subscriptions: 0,
            closing: false,
            out: Vec::new(),
            written: 0,
            scratch: Vec::new(),
            now: Instant::now(),
        }
    }

    /// A new connection: its credit counts from now on.
    pub(crate) fn open(&mut self, welcome: &Welcome) {
        assert!(self.pending.is_empty(), "what the last connection left unanswered was taken back");
        self.credit = Credit {
            // A server that grants nothing would make the client wait for ever.
            frames_max: (welcome.frames_in_flight_max as usize).clamp(1, PENDING_MAX),
            bytes_max: usize::try_from(welcome.bytes_in_flight_max).unwrap_or(usize::MAX),
            frame_bytes_max: HEADER_BYTES + welcome.frame_bytes_max as usize,
            compress: welcome.compresses(),
        };
        self.closing = false;
        self.out.clear();
        self.written = 0;
    }

    /// How many more jobs may be taken from the queue now.
    pub(crate) fn room(&self) -> usize {
        if self.closing
            || !self.held.is_empty()
            || self.out.len() >= WRITE_BUFFER_BYTES_MAX
            || self.pending.bytes() >= self.credit.bytes_max
        {
            return 0;
        }
        self.credit.frames_max.saturating_sub(self.pending.len())
    }

    /// Takes a job; [`Self::advance`] sends it.
    pub(crate) fn hold(&mut self, job: Job) {
        self.held.push_back(job);
    }

    /// Encodes held jobs as far as the credit goes.
    pub(crate) fn advance(&mut self) {
        while !self.closing && self.out.len() < WRITE_BUFFER_BYTES_MAX && self.pending.len() < self.credit.frames_max {
            let Some(job) = self.held.pop_front() else { return };
            if job.is_abandoned() {
                continue;
            }
            let frame_bytes = match &job {
                Job::Request(request) => request.work.frame_bytes(request.resend),
                Job::Subscribe(subscription) => HEADER_BYTES + subscribe_of(subscription).payload_bytes(),
            };
            if let Some(error) = self.refusal(&job, frame_bytes) {
                job.refuse(error);
                continue;
            }
            if self.pending.bytes() + frame_bytes > self.credit.bytes_max {
                self.held.push_front(job);
                return;
            }
            self.send(job, frame_bytes);
        }
    }

    /// Why a job can never be sent on this connection, if so.
    fn refusal(&self, job: &Job, frame_bytes: usize) -> Option<Error> {
        let too_large =
            |limit_name, limit: usize| Some(Error::TooLarge { limit_name, limit_value: limit as u64, bytes: frame_bytes as u64 });
        if frame_bytes > self.credit.frame_bytes_max {
            return too_large("frame_bytes_max", self.credit.frame_bytes_max);
        }
        if frame_bytes > self.credit.bytes_max {
            return too_large("bytes_in_flight_max", self.credit.bytes_max);
        }
        // An open stream takes credit for as long as it lives: half is kept for requests.
        let subscriptions_max = SUBSCRIPTIONS_MAX.min(self.credit.frames_max / 2).max(1);
        if matches!(job, Job::Subscribe(_)) && self.subscriptions >= subscriptions_max {
            return Some(Error::TooManySubscriptions { max: subscriptions_max });
        }
        None
    }

    fn send(&mut self, mut job: Job, frame_bytes: usize) {
        let id = self.pending.next_id().expect("fewer than PENDING_MAX are in flight: the credit is clamped to it");
        match &mut job {
            Job::Request(request) => {
                put_request(request, id, self.credit.compress, &mut self.scratch, &mut self.out);
                request.sends += 1;
            }
            Job::Subscribe(subscription) => {
                put_frame(&subscribe_of(subscription), id, self.credit.compress, &mut self.out);
                self.subscriptions += 1;
            }
        }
        let inserted = self.pending.insert(frame_bytes, self.now, job);
        assert!(inserted == id, "the table kept its word: frame {id}, entry {inserted}");
    }

    /// Asks the server for a sign of life.
    pub(crate) fn ping(&mut self) {
        put_frame(&Ping { token: 0 }, PING_ID, false, &mut self.out);
    }

    /// Bytes to write.
    pub(crate) fn unwritten(&self) -> &[u8] {
        &self.out[self.written..]
    }

    /// `count` bytes more were written.
    pub(crate) fn wrote(&mut self, count: usize) {
        self.written += count;
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
            if self.out.capacity() > WRITE_BUFFER_KEPT_BYTES {
                self.out = Vec::new();
            }
        }
    }

    /// Nothing new is sent on this connection any more; answers are still taken.
    pub(crate) fn close(&mut self) {
        self.closing = true;
    }

    /// Whether requests wait for an answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.pending.len() == self.subscriptions
    }

    /// When the oldest unanswered request was sent.
    pub(crate) fn oldest_sent_at(&self) -> Option<Instant> {
        self.pending.iter().filter(|entry| matches!(entry.job, Job::Request(_))).map(|entry| entry.sent_at).min()
    }

    /// The connection is gone. What was unanswered will be sent again first, in its order, marked as such; what is not safe to send twice, or
    /// was sent `sends_max` times, ends with `OutcomeUnknown`. Event streams end; their readers ask again.
    pub(crate) fn lost(&mut self, sends_max: u32) {
        self.subscriptions = 0;
        for entry in self.pending.drain().into_iter().rev() {
            match entry.job {
                Job::Subscribe(_) => {}
                job if job.is_abandoned() => {}
                Job::Request(mut request) if request.work.is_resend_safe() && request.sends < sends_max => {
                    request.resend = true;
                    self.held.push_front(Job::Request(request));
                }
                job => job.refuse(Error::OutcomeUnknown),
            }
        }
    }

    /// Forgets held jobs that nobody waits for.
    pub(crate) fn forget_abandoned(&mut self) {
        self.held.retain(|job| !job.is_abandoned());
    }

    /// Number of jobs held.
    pub(crate) fn held_len(&self) -> usize {
        self.held.len()
    }

    /// Takes one frame. An answer that does not decode ends its request, not the connection: the frame itself was whole.
    pub(crate) fn on_frame(&mut self, frame: &Frame<'_>, limits: FrameLimits) -> Heard {
        let mut scratch = std::mem::take(&mut self.scratch);
        let id = frame.header.message_id;
        let heard =
            match frame.decompressed(&mut scratch, limits).and_then(|payload| self.on_payload(frame.header.message_type, id, payload)) {
                Ok(heard) => heard,
                Err(error) => {
                    self.fail(id, error.into());
                    Heard::Nothing
                }
            };
        self.scratch = scratch;
        heard
    }

    fn on_payload(&mut self, message_type: u16, id: u64, payload: &[u8]) -> Result<Heard, DecodeError> {
        match message_type {
            Response::TYPE => {
                let receipt = Receipt::of_wire(&Response::decode(payload)?);
                self.settle(id, Ok(Answer::Receipt(receipt)));
            }
            BatchResponse::TYPE => {
                let outcomes = outcomes_of(&BatchResponse::decode(payload)?)?;
                self.settle(id, Ok(Answer::Batch(outcomes)));
            }
            QueryReply::TYPE => {
                let reply = Reply::of_wire(&QueryReply::decode(payload)?);
                self.settle(id, Ok(Answer::Reply(reply)));
            }
            wire::Rejection::TYPE => return Ok(self.on_rejection(id, &wire::Rejection::decode(payload)?)),
            wire::Event::TYPE => self.on_event(id, &wire::Event::decode(payload)?),
            Pong::TYPE => self.settle(id, Ok(Answer::Pong)),
            Ping::TYPE => {
                let token = Ping::decode(payload)?.token;
                put_frame(&Pong { token }, id, false, &mut self.out);
            }
            GoAway::TYPE => return Ok(Heard::GoAway { grace_ms: GoAway::decode(payload)?.grace_ms }),
            // Of a later version, or of another family: a reader skips what it does not know.
            message_type => self.fail(id, ProtocolError::Unexpected { message_type }),
        }
        Ok(Heard::Nothing)
    }

    fn on_rejection(&mut self, id: u64, rejection: &wire::Rejection<'_>) -> Heard {
        let rejection = Rejection::of_wire(rejection);
        match self.take(id) {
            Some(job) => job.refuse(Error::Rejected(Box::new(rejection))),
            None if rejection.code.ends_connection() => return Heard::Refused(rejection),
            None => tracing::debug!(code = %rejection.name, id, "a rejection of nothing that is in flight"),
        }
        Heard::Nothing
    }

    fn on_event(&mut self, id: u64, event: &wire::Event<'_>) {
        let Some(Job::Subscribe(subscription)) = self.pending.find(id).map(|entry| &entry.job) else { return };
        let sent = subscription.events.try_send(Ok(Event {
            index: event.index,
            kind: event.kind.to_owned(),
            at_us: event.at_us,
            body: Bytes::copy_from_slice(event.body),
            last: event.last,
        }));
        let overrun = matches!(sent, Err(TrySendError::Full(_)));
        if event.last {
            self.take(id);
        } else if overrun {
            // The reader is slower than the instance: the stream breaks here, and the reader asks again. The server still holds the
            // credit of this subscription, so its entry stays, with nobody listening.
            let (nobody, _) = tokio::sync::mpsc::channel(1);
            if let Some(Job::Subscribe(subscription)) = self.pending.find(id).map(|entry| &mut entry.job) {
                subscription.events = nobody;
            }
        }
    }

    fn take(&mut self, id: u64) -> Option<Job> {
        let entry = self.pending.remove(id)?;
        if matches!(entry.job, Job::Subscribe(_)) {
            self.subscriptions -= 1;
        }
        Some(entry.job)
    }

    fn settle(&mut self, id: u64, answer: Result<Answer, Error>) {
        if let Some(Job::Request(request)) = self.take(id) {
            request.settle(answer);
        }
    }

    fn fail(&mut self, id: u64, error: ProtocolError) {
        match self.take(id) {
            Some(job) => job.refuse(error.into()),
            None => tracing::debug!(id, %error, "ignored a frame"),
        }
    }
}

fn subscribe_of(subscription: &Subscription) -> Subscribe<'_> {
    Subscribe { kind: subscription.kind.number(), namespace: subscription.namespace.as_deref(), id: subscription.id }
}

/// Appends the frame of a request.
fn put_request(request: &Request, id: u64, compress: bool, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    match &request.work {
        Work::Submit(submission) => put_frame(&submission.wire(request.resend), id, compress, out),
        Work::Batch(submissions) => {
            // All items into one buffer, then views of it: two allocations a batch.
            scratch.clear();
            let mut ends = Vec::with_capacity(submissions.len());
            for submission in submissions {
                submission.wire(request.resend).encode_payload(scratch);
                ends.push(scratch.len());
            }
            let mut start = 0;
            let items: Vec<&[u8]> = ends.iter().map(|end| &scratch[std::mem::replace(&mut start, *end)..*end]).collect();
            put_frame(&SubmitBatch { messages: Items::of(&items) }, id, compress, out);
        }
        Work::Query(query) => put_frame(&query.wire(), id, compress, out),
        Work::Command(command) => put_frame(&command.wire(), id, compress, out),
        Work::Ping => put_frame(&Ping { token: id }, id, compress, out),
    }
}

fn outcomes_of(response: &BatchResponse<'_>) -> Result<Vec<Result<Receipt, Rejection>>, DecodeError> {
    response
        .items
        .iter()
        .map(|item| {
            Ok(match BatchOutcome::decode(item)? {
                BatchOutcome::Response(response) => Ok(Receipt::of_wire(&response)),
                BatchOutcome::Rejection(rejection) => Err(Rejection::of_wire(&rejection)),
            })
        })
        .collect()
}
