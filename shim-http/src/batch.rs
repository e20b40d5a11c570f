//! `/api/v1/messages:batch`: many messages in, one outcome for each.
//!
//! An item that is an object with a member `payload` is an envelope around that payload; any other item is a payload
//! itself. In a body of type `application/vnd.distric.message+json` every item is an envelope.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use distric_model::limits::KEY_BYTES_MAX;
use distric_sdk::Submission;
use distric_wire::Code;
use serde::Serialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::body::{self, BodyLimit, JSON, MESSAGE_JSON, NDJSON};
use crate::envelope::{self, Envelope};
use crate::messages::Accepted;
use crate::node::respond_json;
use crate::params::{Params, bounded};
use crate::problem::{Document, Problem};
use crate::{Shim, ShimLimits};

/// The body of the answer.
#[derive(Serialize)]
struct Outcomes<'a> {
    accepted: usize,
    refused: usize,
    items: Vec<Item<'a>>,
}

/// The outcome of one message, in the order of the request.
#[derive(Serialize)]
struct Item<'a> {
    index: usize,
    /// The status that the message alone would have been answered with.
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Accepted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Document<'a>>,
}

/// `POST /api/v1/messages:batch`.
pub(crate) async fn submit(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let params = Params::read(&uri, &["event_type"])?;
    let media_type = body::media_type(&headers, &[JSON, NDJSON, MESSAGE_JSON])?;
    let around = envelope::from_headers(&headers, &params)?;
    if around.message_id.is_some() {
        return Err(Problem::argument("x-distric-message-id", "a batch has many messages: give each its own message_id"));
    }
    let limits = &shim.limits;
    let limit = BodyLimit { name: "batch_bytes_max", bytes_max: limits.batch_bytes_max, timeout_ms: limits.body_timeout_ms };
    let bytes = body::read(&headers, body, limit).await?;
    let text = body::check_utf8(&bytes)?;
    let mut messages = read_items(text, media_type, &around, limits)?;

    let (positions, good): (Vec<usize>, Vec<Submission>) =
        messages.iter_mut().enumerate().filter_map(|(at, message)| Some((at, message.as_mut().ok().map(std::mem::take)?))).unzip();
    let mut outcomes: Vec<Option<Result<Accepted, Problem>>> = messages.into_iter().map(|message| message.err().map(Err)).collect();
    if !good.is_empty() {
        let answers = shim.client.submit_batch(good).await?;
        for (at, answer) in positions.into_iter().zip(answers) {
            outcomes[at] = Some(answer.map(Accepted::from).map_err(|rejection| Problem::from(&rejection)));
        }
    }
    let unanswered = || Err(Problem::new(Code::OutcomeUnknown, "the node did not answer for this message: send it again with its key"));
    let outcomes: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(unanswered)).collect();
    Ok(respond_outcomes(outcomes))
}

fn respond_outcomes(outcomes: Vec<Result<Accepted, Problem>>) -> Response {
    let mut problems = Vec::with_capacity(outcomes.len());
    let mut receipts = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        let (receipt, problem) = match outcome {
            Ok(receipt) => (Some(receipt), None),
            Err(problem) => (None, Some(problem)),
        };
        receipts.push(receipt);
        problems.push(problem);
    }
    let refused = problems.iter().flatten().count();
    let items: Vec<Item<'_>> = receipts
        .into_iter()
        .zip(&problems)
        .enumerate()
        .map(|(index, (receipt, problem))| Item {
            index,
            status: problem.as_ref().map_or(StatusCode::ACCEPTED, |problem| problem.status).as_u16(),
            receipt,
            problem: problem.as_ref().map(|problem| problem.document(None, None)),
        })
        .collect();
    respond_json(StatusCode::OK, &Outcomes { accepted: items.len() - refused, refused, items })
}

/// The messages of a body. Errors: of the whole body, when it is no array, or has too many items.
fn read_items(text: &str, media_type: &str, around: &Submission, limits: &ShimLimits) -> Result<Vec<Result<Submission, Problem>>, Problem> {
    let envelopes_only = media_type == MESSAGE_JSON;
    if media_type == NDJSON {
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
        check_count(lines().count(), limits)?;
        let item = |(at, line): (usize, &str)| match serde_json::from_str::<&RawValue>(line) {
            Ok(raw) => read_item(raw, at, around, envelopes_only, limits),
            Err(error) => Err(body::bad_json(line, &error)),
        };
        return Ok(lines().enumerate().map(item).collect());
    }
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| body::bad_json(text, &error))?;
    check_count(items.len(), limits)?;
    Ok(items.into_iter().enumerate().map(|(at, raw)| read_item(raw, at, around, envelopes_only, limits)).collect())
}

fn check_count(count: usize, limits: &ShimLimits) -> Result<(), Problem> {
    if count > limits.batch_messages_max {
        let what = format!("a batch of {count} messages");
        return Err(Problem::too_large(&what, "batch_messages_max", limits.batch_messages_max, "messages"));
    }
    if count == 0 { Err(Problem::new(Code::BadPayload, "the batch is empty")) } else { Ok(()) }
}

fn read_item(raw: &RawValue, at: usize, around: &Submission, envelopes_only: bool, limits: &ShimLimits) -> Result<Submission, Problem> {
    if raw.get().len() > limits.message_bytes_max {
        return Err(Problem::too_large("the message", "message_bytes_max", limits.message_bytes_max, "bytes"));
    }
    let mut around = around.clone();
    // One key for the batch stands for one key per message: the same batch sent again is the same messages.
    if let Some(key) = &around.idempotency_key {
        let key = format!("{key}-{at}");
        bounded("idempotency-key", &key, KEY_BYTES_MAX)?;
        around.idempotency_key = Some(key);
    }
    if envelopes_only || has_payload(raw) {
        let envelope: Envelope<'_> = serde_json::from_str(raw.get()).map_err(|error| body::bad_json(raw.get(), &error))?;
        return envelope.into_submission(&around);
    }
    Ok(Submission { payload: Bytes::copy_from_slice(raw.get().as_bytes()), ..around })
}

/// Whether the value is an object with a member `payload`, without building it.
fn has_payload(raw: &RawValue) -> bool {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = bool;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
            let mut found = false;
            while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                found |= name == "payload";
                map.next_value::<IgnoredAny>()?;
            }
            Ok(found)
        }
    }
    raw.get().starts_with('{') && serde_json::Deserializer::from_str(raw.get()).deserialize_map(Members).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, media_type: &str) -> Result<Vec<Result<Submission, String>>, String> {
        let around = Submission::new("").event_type("outer").idempotency_key("k");
        let items = read_items(text, media_type, &around, &ShimLimits::default()).map_err(|problem| problem.detail)?;
        Ok(items.into_iter().map(|item| item.map_err(|problem| problem.detail)).collect())
    }

    #[test]
    fn an_item_is_an_envelope_when_it_has_a_payload() {
        let items = read(r#"[{"amount": 1}, {"event_type": "inner", "payload": {"amount": 2}}, 7, {"pay\u006coad": 3}]"#, JSON).unwrap();
        let texts: Vec<_> = items.iter().map(|item| String::from_utf8_lossy(&item.as_ref().unwrap().payload).into_owned()).collect();
        assert_eq!(texts, [r#"{"amount": 1}"#, r#"{"amount": 2}"#, "7", "3"]);
        let types: Vec<_> = items.iter().map(|item| item.as_ref().unwrap().event_type.as_deref().unwrap()).collect();
        assert_eq!(types, ["outer", "inner", "outer", "outer"]);
    }

    #[test]
    fn the_key_of_a_batch_makes_one_key_per_message() {
        let items = read("[1, {\"payload\": 2, \"idempotency_key\": \"own\"}]", JSON).unwrap();
        let keys: Vec<_> = items.iter().map(|item| item.as_ref().unwrap().idempotency_key.as_deref().unwrap()).collect();
        assert_eq!(keys, ["k-0", "own"]);
    }

    #[test]
    fn a_bad_line_does_not_spoil_the_others() {
        let items = read("{\"a\":1}\n\n{oops\n{\"payload\":1,\"typo\":2}\r\n2", NDJSON).unwrap();
        assert_eq!(items.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, true]);
        assert!(items[2].as_ref().unwrap_err().contains("typo"));
    }

    #[test]
    fn every_item_is_an_envelope_where_the_type_says_so() {
        let items = read(r#"[{"amount": 1}, {"payload": 1}]"#, MESSAGE_JSON).unwrap();
        assert!(items[0].is_err() && items[1].is_ok());
    }

    #[test]
    fn the_whole_body_is_refused_when_it_is_no_list_or_too_long() {
        assert!(read("{}", JSON).is_err());
        assert!(read("[]", JSON).unwrap_err().contains("empty"));
        assert!(read(&format!("[{}1]", "1,".repeat(1_024)), JSON).unwrap_err().contains("1024"));
        assert!(read(&"1\n".repeat(1_025), NDJSON).unwrap_err().contains("1025"));
    }
}
