//! Envelopes: around a payload by headers, or around it in the body.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use distric_model::MessageId;
use distric_model::limits::{HEADERS_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX};
use distric_sdk::Submission;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::params::{self, Params, TEXT_BYTES_MAX, bounded, header};
use crate::problem::Problem;
use crate::times;

const EVENT_TYPE: HeaderName = HeaderName::from_static("x-distric-event-type");
const SOURCE: HeaderName = HeaderName::from_static("x-distric-source");
const ROUTING_KEY: HeaderName = HeaderName::from_static("x-distric-routing-key");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-distric-timestamp");
const MESSAGE_ID: HeaderName = HeaderName::from_static("x-distric-message-id");
/// What is before the name of a message header in the name of an HTTP header.
const HEADER_PREFIX: &str = "x-distric-header-";

/// A message with its envelope, as it is written in a body. Unknown members are errors: a misspelt idempotency key would
/// otherwise double messages.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Envelope<'a> {
    message_id: Option<String>,
    namespace: Option<String>,
    event_type: Option<String>,
    source: Option<String>,
    timestamp: Option<Value>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(borrow)]
    payload: &'a RawValue,
    routing_key: Option<String>,
    idempotency_key: Option<String>,
    traceparent: Option<String>,
}

/// What a request's headers and `?event_type=` say about its message, or about all messages of its batch. Errors: 400.
pub(crate) fn from_headers(headers: &HeaderMap, params: &Params) -> Result<Submission, Problem> {
    let mut envelope = Submission::new(Bytes::new());
    envelope.namespace = params::namespace(headers)?;
    envelope.event_type = match header(headers, &EVENT_TYPE, NAME_BYTES_MAX)? {
        Some(event_type) => Some(event_type),
        None => params.text("event_type")?.map(|text| bounded("event_type", text, NAME_BYTES_MAX)).transpose()?.map(str::to_owned),
    };
    envelope.source = header(headers, &SOURCE, TEXT_BYTES_MAX)?;
    envelope.routing_key = header(headers, &ROUTING_KEY, KEY_BYTES_MAX)?;
    envelope.idempotency_key = params::idempotency_key(headers)?;
    envelope.traceparent = params::traceparent(headers);
    if let Some(text) = header(headers, &TIMESTAMP, TEXT_BYTES_MAX)? {
        envelope.timestamp_us = Some(timestamp_us(TIMESTAMP.as_str(), &Value::String(text))?);
    }
    if let Some(text) = header(headers, &MESSAGE_ID, TEXT_BYTES_MAX)? {
        envelope.message_id = Some(message_id(MESSAGE_ID.as_str(), &text)?);
    }
    for name in headers.keys() {
        if let Some(short) = name.as_str().strip_prefix(HEADER_PREFIX).filter(|short| !short.is_empty()) {
            let value = header(headers, name, TEXT_BYTES_MAX)?.unwrap_or_default();
            envelope.headers.push((short.to_owned(), value));
        }
    }
    check_headers(&envelope.headers)?;
    Ok(envelope)
}

impl Envelope<'_> {
    /// The message: what the envelope leaves out is as in `around`, what the request's headers said. Errors: 400.
    pub(crate) fn into_submission(self, around: &Submission) -> Result<Submission, Problem> {
        let mut message = around.clone();
        message.payload = Bytes::copy_from_slice(self.payload.get().as_bytes());
        if let Some(namespace) = self.namespace {
            params::check_namespace("namespace", &namespace)?;
            message.namespace = Some(namespace);
        }
        let texts = [
            ("event_type", self.event_type, NAME_BYTES_MAX, &mut message.event_type),
            ("source", self.source, TEXT_BYTES_MAX, &mut message.source),
            ("routing_key", self.routing_key, KEY_BYTES_MAX, &mut message.routing_key),
            ("idempotency_key", self.idempotency_key, KEY_BYTES_MAX, &mut message.idempotency_key),
            ("traceparent", self.traceparent, TEXT_BYTES_MAX, &mut message.traceparent),
        ];
        for (field, given, bytes_max, target) in texts {
            if let Some(text) = given.filter(|text| !text.is_empty()) {
                bounded(field, &text, bytes_max)?;
                *target = Some(text);
            }
        }
        if let Some(text) = &self.message_id {
            message.message_id = Some(message_id("message_id", text)?);
        }
        if let Some(value) = &self.timestamp {
            message.timestamp_us = Some(timestamp_us("timestamp", value)?);
        }
        for (name, value) in self.headers {
            bounded("headers", &name, NAME_BYTES_MAX)?;
            message.headers.retain(|(earlier, _)| *earlier != name);
            message.headers.push((name, value));
        }
        check_headers(&message.headers)?;
        Ok(message)
    }
}

fn check_headers(headers: &[(String, String)]) -> Result<(), Problem> {
    if headers.len() <= HEADERS_MAX {
        return Ok(());
    }
    Err(Problem::argument("headers", format!("{} headers exceed the limit of {HEADERS_MAX}", headers.len())))
}

/// RFC 3339 text, or whole microseconds since the Unix epoch as a number or text.
fn timestamp_us(field: &str, value: &Value) -> Result<u64, Problem> {
    let us = match value {
        Value::Number(us) => us.as_u64(),
        Value::String(text) => text.parse().ok().or_else(|| times::parse_rfc3339(text)),
        _ => None,
    };
    us.ok_or_else(|| Problem::argument(field, "must be RFC 3339 text or whole microseconds since the Unix epoch"))
}

fn message_id(field: &str, text: &str) -> Result<uuid::Uuid, Problem> {
    text.parse().map(MessageId::uuid).map_err(|error: distric_model::IdError| Problem::argument(field, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around() -> Submission {
        let headers =
            [("x-distric-event-type", "outer"), ("x-distric-source", "shop"), ("x-distric-header-tier", "gold"), ("idempotency-key", "k")];
        let headers: HeaderMap = headers.into_iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        from_headers(&headers, &Params::read(&"/x".parse().unwrap(), &[]).unwrap()).unwrap()
    }

    fn message(text: &str) -> Result<Submission, String> {
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        envelope.into_submission(&around()).map_err(|problem| problem.detail)
    }

    #[test]
    fn headers_make_an_envelope() {
        let envelope = around();
        assert_eq!(envelope.event_type.as_deref(), Some("outer"));
        assert_eq!(envelope.source.as_deref(), Some("shop"));
        assert_eq!(envelope.headers, [("tier".to_owned(), "gold".to_owned())]);
        assert_eq!(envelope.idempotency_key.as_deref(), Some("k"));
    }

    #[test]
    fn members_of_the_body_win_over_headers_and_the_payload_is_kept_byte_for_byte() {
        let message = message(
            r#"{"event_type": "inner", "payload": {"n": 1.50 }, "headers": {"tier": "blue"}, "timestamp": "1970-01-01T00:00:01Z"}"#,
        )
        .unwrap();
        assert_eq!(message.event_type.as_deref(), Some("inner"));
        assert_eq!(message.source.as_deref(), Some("shop"));
        assert_eq!(&message.payload[..], b"{\"n\": 1.50 }");
        assert_eq!(message.headers, [("tier".to_owned(), "blue".to_owned())]);
        assert_eq!(message.timestamp_us, Some(1_000_000));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            (r#"{"event_type": "a"}"#, "payload"),
            (r#"{"payload": 1, "idempotancy_key": "k"}"#, "idempotancy_key"),
            (r#"{"payload": 1, "namespace": "a b"}"#, "namespace"),
            (r#"{"payload": 1, "timestamp": "yesterday"}"#, "timestamp"),
            (r#"{"payload": 1, "timestamp": -1}"#, "timestamp"),
            (r#"{"payload": 1, "message_id": "x"}"#, "message_id"),
        ] {
            assert!(message(text).unwrap_err().contains(part), "{text}");
        }
        let long = format!(r#"{{"payload": 1, "routing_key": "{}"}}"#, "r".repeat(KEY_BYTES_MAX + 1));
        assert!(message(&long).unwrap_err().contains("256"));
    }
}
