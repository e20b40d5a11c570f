//! Messages going in, receipts coming back.

use bytes::Bytes;
use distric_wire::Headers;
use distric_wire::client::{Response, Submit, SubmitOutcome};
use serde::Serialize;
use uuid::Uuid;

/// One message to submit. Without an idempotency key the client draws a random one, so that a resend never doubles it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submission {
    /// Namespace; the client's default when `None`.
    pub namespace: Option<String>,
    /// Id of the message (UUIDv7); made by the server when `None`.
    pub message_id: Option<Uuid>,
    /// Event type; the payload's member `event_type` when `None`.
    pub event_type: Option<String>,
    /// Who sent it.
    pub source: Option<String>,
    /// The sender's time of the event, microseconds since the Unix epoch.
    pub timestamp_us: Option<u64>,
    /// Headers, in order.
    pub headers: Vec<(String, String)>,
    /// Content type of the payload; `application/json` when `None`.
    pub content_type: Option<String>,
    /// The payload as it is sent.
    pub payload: Bytes,
    /// Messages with one routing key keep their order.
    pub routing_key: Option<String>,
    /// Two submissions with one key, in one namespace, take effect once.
    pub idempotency_key: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

impl Submission {
    /// A message with this payload, JSON unless [`Self::content_type`] says otherwise.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), ..Self::default() }
    }

    /// A message with this JSON value as its payload.
    pub fn json(payload: &serde_json::Value) -> Self {
        Self::new(payload.to_string())
    }

    /// Sets the namespace.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Sets the message id, a UUIDv7.
    pub fn message_id(mut self, id: Uuid) -> Self {
        self.message_id = Some(id);
        self
    }

    /// Sets the event type.
    pub fn event_type(mut self, event_type: impl Into<String>) -> Self {
        self.event_type = Some(event_type.into());
        self
    }

    /// Sets who sent it.
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Sets the sender's time of the event, microseconds since the Unix epoch.
    pub fn timestamp_us(mut self, timestamp_us: u64) -> Self {
        self.timestamp_us = Some(timestamp_us);
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the content type of the payload.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// Sets the routing key: messages with one routing key keep their order.
    pub fn routing_key(mut self, key: impl Into<String>) -> Self {
        self.routing_key = Some(key.into());
        self
    }

    /// Sets the idempotency key: two submissions with one key, in one namespace, take effect once.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Sets the W3C trace context.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// The message as the wire sees it.
    pub(crate) fn wire(&self, resend: bool) -> Submit<'_> {
        Submit {
            namespace: self.namespace.as_deref(),
            message_id: self.message_id,
            event_type: self.event_type.as_deref(),
            source: self.source.as_deref(),
            timestamp_us: self.timestamp_us,
            headers: Headers::of_owned(&self.headers),
            content_type: self.content_type.as_deref(),
            payload: &self.payload,
            routing_key: self.routing_key.as_deref(),
            idempotency_key: self.idempotency_key.as_deref(),
            traceparent: self.traceparent.as_deref(),
            resend,
            acked_below: None,
        }
    }
}

/// How an accepted message fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Accepted and durable.
    Accepted,
    /// Accepted before under the same idempotency key; this is the first outcome again.
    Repeat,
    /// Accepted; no rule matched, nothing was started and nothing kept.
    Unmatched,
}

/// The server's acknowledgement of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// How it fared.
    pub outcome: Outcome,
    /// Its id.
    pub message_id: Uuid,
    /// Version of the catalog that decided.
    pub catalog_version: u64,
    /// The rules that matched, in priority order.
    pub rules: Vec<String>,
    /// The workflows that were started; `instances` has the same order.
    pub workflows: Vec<String>,
    /// The instances that were started.
    pub instances: Vec<Uuid>,
}

impl Receipt {
    /// Whether this is the first outcome again, because the key had been used before.
    pub fn is_repeat(&self) -> bool {
        self.outcome == Outcome::Repeat
    }

    pub(crate) fn of_wire(wire: &Response<'_>) -> Self {
        Self {
            outcome: match SubmitOutcome::from_number(wire.outcome) {
                Some(SubmitOutcome::Repeat) => Outcome::Repeat,
                Some(SubmitOutcome::Unmatched) => Outcome::Unmatched,
                // A newer server may split acceptance further; this side still knows that it was accepted.
                Some(SubmitOutcome::Accepted) | None => Outcome::Accepted,
            },
            message_id: wire.message_id,
            catalog_version: wire.catalog_version,
            rules: wire.rules.iter().map(str::to_owned).collect(),
            workflows: wire.workflows.iter().map(str::to_owned).collect(),
            instances: wire.instances.iter().collect(),
        }
    }
}
