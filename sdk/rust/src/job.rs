//! What a caller hands to the connection's task, and what comes back.

use bytes::Bytes;
use distric_wire::HEADER_BYTES;
use distric_wire::client::{Ping, Submit, SubscribeKind};
use distric_wire::tlv::FIELD_HEADER_BYTES;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use uuid::Uuid;

use crate::error::{Error, Rejection};
use crate::request::{Command, Query, Reply};
use crate::submission::{Receipt, Submission};

/// A request's content. Stays whole until it is answered, so that it can be sent again.
#[derive(Debug)]
pub(crate) enum Work {
    Submit(Box<Submission>),
    Batch(Vec<Submission>),
    Query(Box<Query>),
    Command(Box<Command>),
    Ping,
}

impl Work {
    /// Bytes of its frame before compression.
    pub(crate) fn frame_bytes(&self, resend: bool) -> usize {
        let payload_bytes = match self {
            Self::Submit(submission) => submission.wire(resend).payload_bytes(),
            Self::Batch(submissions) => {
                let items: usize = submissions.iter().map(|s| batch_item_bytes(&s.wire(resend))).sum();
                FIELD_HEADER_BYTES + items
            }
            Self::Query(query) => query.wire().payload_bytes(),
            Self::Command(command) => command.wire().payload_bytes(),
            Self::Ping => Ping { token: 0 }.payload_bytes(),
        };
        HEADER_BYTES + payload_bytes
    }

    /// Whether sending it twice has the effect and the answer of sending it once.
    pub(crate) fn is_resend_safe(&self) -> bool {
        match self {
            Self::Command(command) => command.is_resend_safe(),
            // Submissions carry an idempotency key, drawn by the client when the caller gave none.
            Self::Submit(_) | Self::Batch(_) | Self::Query(_) | Self::Ping => true,
        }
    }
}

/// Bytes that one message takes in a batch.
pub(crate) fn batch_item_bytes(submit: &Submit<'_>) -> usize {
    FIELD_HEADER_BYTES + submit.payload_bytes()
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) work: Work,
    /// It may have been sent before: to be said to the server.
    pub(crate) resend: bool,
    /// How many times it was sent.
    pub(crate) sends: u32,
    pub(crate) reply: oneshot::Sender<Settled>,
    /// Its share of the bytes that large requests may hold; given back when it is settled.
    pub(crate) _share: Option<OwnedSemaphorePermit>,
}

impl Request {
    /// Answers the caller, who may be gone, and gives the work back.
    pub(crate) fn settle(self, answer: Result<Answer, Error>) {
        let _ = self.reply.send(Settled { work: self.work, answer });
    }
}

/// The end of a request: the answer, and the work for another try.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) work: Work,
    pub(crate) answer: Result<Answer, Error>,
}

/// A good answer.
#[derive(Debug)]
pub(crate) enum Answer {
    Receipt(Receipt),
    Batch(Vec<Result<Receipt, Rejection>>),
    Reply(Reply),
    Pong,
}

/// Something that happened to an instance, in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Log index at which it happened; several events may share one.
    pub index: u64,
    /// What happened, such as `task.completed`.
    pub kind: String,
    /// When, machine time, microseconds since the Unix epoch.
    pub at_us: u64,
    /// The details, a JSON document.
    pub body: Bytes,
    /// Nothing more will happen.
    pub last: bool,
}

/// A wish for events.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) kind: SubscribeKind,
    pub(crate) namespace: Option<String>,
    pub(crate) id: Uuid,
    /// Closed without a last event: the connection was lost, or the reader was too slow; ask again.
    pub(crate) events: mpsc::Sender<Result<Event, Error>>,
}

/// What the connection's task works on.
#[derive(Debug)]
pub(crate) enum Job {
    Request(Request),
    Subscribe(Subscription),
}

impl Job {
    /// Nobody waits for it any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        match self {
            Self::Request(request) => request.reply.is_closed(),
            Self::Subscribe(subscription) => subscription.events.is_closed(),
        }
    }

    /// Tells whoever waits that it cannot be done.
    pub(crate) fn refuse(self, error: Error) {
        match self {
            Self::Request(request) => request.settle(Err(error)),
            Self::Subscribe(subscription) => {
                let _ = subscription.events.try_send(Err(error));
            }
        }
    }
}
