//! What can go wrong, in four kinds: the server refused, the connection failed, time ran out, the peer broke the protocol.

use std::fmt;
use std::io;

use distric_wire::{Code, DecodeError, FrameError};

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused the request and said why; nothing was changed, unless the code is `outcome_unknown`.
    #[error("{0}")]
    Rejected(Box<Rejection>),
    /// The connection could not be made or broke, and resending did not help.
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    /// No answer within the request timeout. The request may still take effect: ask again with the same idempotency key.
    #[error("no answer within {after_ms} ms{}", connection.as_ref().map(|c| format!(" ({c})")).unwrap_or_default())]
    Timeout {
        /// The request timeout that passed, milliseconds.
        after_ms: u64,
        /// Why there is no connection at present, when there is none.
        connection: Option<String>,
    },
    /// The connection broke after the request was sent, and this request is not safe to send twice.
    #[error("the connection broke before the answer came, and this request is not safe to send twice")]
    OutcomeUnknown,
    /// The request does not fit into what the server accepts.
    #[error("request of {bytes} bytes exceeds {limit_name} of {limit_value} bytes")]
    TooLarge {
        /// Name of the limit.
        limit_name: &'static str,
        /// Its value, bytes.
        limit_value: u64,
        /// Size of the request, bytes.
        bytes: u64,
    },
    /// More event streams are open on one connection than [`crate::SUBSCRIPTIONS_MAX`] or the server's credit allow.
    #[error("too many event streams are open on this connection: at most {max}")]
    TooManySubscriptions {
        /// The most that may be open now.
        max: usize,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// The peer broke the protocol.
    #[error("{0}")]
    Protocol(#[from] ProtocolError),
}

impl Error {
    /// The server's refusal, when there is one.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }
}

/// A connection could not be made, or broke.
#[derive(Debug, thiserror::Error)]
#[error("{op} {address}: {source}")]
pub struct ConnectionError {
    /// The other end, as given by the caller.
    pub address: String,
    /// What was being done: `connect to`, `read from`, `write to`.
    pub op: &'static str,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl ConnectionError {
    pub(crate) fn new(address: &str, op: &'static str, source: io::Error) -> Self {
        Self { address: address.to_owned(), op, source }
    }
}

/// The peer sent something that this version of the protocol does not allow here.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// Bytes that are not a frame.
    #[error("bad frame: {0}")]
    Frame(#[from] FrameError),
    /// A frame whose payload does not decode.
    #[error("bad message: {0}")]
    Decode(#[from] DecodeError),
    /// A message of this type has no meaning at this point.
    #[error("unexpected message of type {message_type:#06x}")]
    Unexpected {
        /// Its type.
        message_type: u16,
    },
    /// The server chose a protocol version that was not offered.
    #[error("the server chose protocol version {version}, which was not offered")]
    Version {
        /// What it chose.
        version: u16,
    },
    /// The answer to a batch has another number of items than the batch.
    #[error("a batch of {sent} messages was answered with {answered} outcomes")]
    BatchLength {
        /// Messages sent.
        sent: usize,
        /// Outcomes received.
        answered: usize,
    },
}

/// A refusal by the server: a code to match on, words to show, and what would help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The code; [`Code::Internal`] when a newer server sent one that this library does not know (then see `name`).
    pub code: Code,
    /// The code's stable name, as the server sent it.
    pub name: String,
    /// The reason in words.
    pub reason: String,
    /// The limit that was hit.
    pub limit_name: Option<String>,
    /// That limit's value, in the unit its name ends with.
    pub limit_value: Option<u64>,
    /// How long to wait before it makes sense to try again, milliseconds.
    pub retry_after_ms: Option<u64>,
    /// Where the right leader listens, `host:port`.
    pub leader_address: Option<String>,
    /// Path or tag of the field at fault.
    pub field: Option<String>,
    /// Line in the submitted document, 1-based.
    pub line: Option<u32>,
    /// Column in the submitted document, 1-based.
    pub column: Option<u32>,
}

impl Rejection {
    /// A refusal made on this side, before anything was sent.
    pub(crate) fn local(code: Code, reason: String) -> Self {
        Self {
            code,
            name: code.name().to_owned(),
            reason,
            limit_name: None,
            limit_value: None,
            retry_after_ms: None,
            leader_address: None,
            field: None,
            line: None,
            column: None,
        }
    }

    pub(crate) fn of_wire(wire: &distric_wire::client::Rejection<'_>) -> Self {
        Self {
            code: wire.known_code().unwrap_or(Code::Internal),
            name: wire.name.to_owned(),
            reason: wire.reason.to_owned(),
            limit_name: wire.limit_name.map(str::to_owned),
            limit_value: wire.limit_value,
            retry_after_ms: wire.retry_after_ms,
            leader_address: wire.leader_address.map(str::to_owned),
            field: wire.field.map(str::to_owned),
            line: wire.line,
            column: wire.column,
        }
    }

    /// Whether the same request with the same idempotency key may succeed later or elsewhere.
    pub fn is_retryable(&self) -> bool {
        match self.code {
            Code::OutcomeUnknown | Code::Unavailable | Code::Draining | Code::Overloaded | Code::TooManyInFlight | Code::WrongLeader => {
                true
            }
            // These say when, or waiting does not help.
            Code::RateLimited | Code::DedupeFull | Code::StorageFull => self.retry_after_ms.is_some(),
            _ => false,
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)?;
        if let Some(field) = &self.field {
            write!(f, " (at {field}")?;
            if let Some(line) = self.line {
                write!(f, ", line {line}, column {}", self.column.unwrap_or(1))?;
            }
            f.write_str(")")?;
        }
        if let (Some(name), Some(value)) = (&self.limit_name, self.limit_value) {
            write!(f, " (limit {name} = {value})")?;
        }
        if let Some(ms) = self.retry_after_ms {
            write!(f, " (try again in {ms} ms)")?;
        }
        Ok(())
    }
}

impl std::error::Error for Rejection {}
