//! Asking the node and telling it: its documents become bodies, its versions become tags.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use distric_sdk::{Command, Query, Reply};
use distric_wire::client::CommandKind;
use serde::Serialize;
use serde_json::{Value, json};

use crate::body::{self, BodyLimit, JSON};
use crate::params::{self, Params};
use crate::problem::Problem;
use crate::{Shim, times};

/// Asks, and answers 200 with the node's document, or 304 when the caller has it. Errors: the node's.
pub(crate) async fn ask(shim: &Shim, headers: &HeaderMap, mut query: Query) -> Result<Response, Problem> {
    query.namespace = params::namespace(headers)?;
    let reply = shim.client.query(query).await?;
    if let Some(version) = reply.version.filter(|version| params::none_match_has(headers, *version)) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().insert(ETAG, etag(version));
        return Ok(response);
    }
    Ok(respond(StatusCode::OK, reply))
}

/// Asks for one page of a list: `status`, `limit`, `cursor` as in `params`. Errors: the node's, and 400.
pub(crate) async fn ask_page(shim: &Shim, headers: &HeaderMap, params: &Params, mut query: Query) -> Result<Response, Problem> {
    query.status = params.text("status")?.map(str::to_owned);
    query.limit = params.limit()?;
    query.cursor = params.text("cursor")?.map(str::to_owned);
    ask(shim, headers, query).await
}

/// A command with all that a request's headers and parameters say about it: `Idempotency-Key`, `If-Match`, `?dry_run=`,
/// `X-Distric-Author`, `X-Distric-Reason`, namespace and trace. Errors: 400.
pub(crate) fn command(kind: CommandKind, headers: &HeaderMap, params: &Params) -> Result<Command, Problem> {
    let mut command = Command::new(kind);
    command.namespace = params::namespace(headers)?;
    command.idempotency_key = params::idempotency_key(headers)?;
    command.if_match = params::if_match(headers)?;
    command.dry_run = params.flag("dry_run")?;
    command.author = params::header(headers, &params::AUTHOR, params::TEXT_BYTES_MAX)?;
    command.reason = params::header(headers, &params::REASON, params::TEXT_BYTES_MAX)?;
    command.traceparent = params::traceparent(headers);
    Ok(command)
}

/// Reads a document of one of the media types into the command. Errors: 400, 408, 413, 415.
pub(crate) async fn read_document(
    shim: &Shim,
    headers: &HeaderMap,
    body: Body,
    accepted: &[&'static str],
) -> Result<(Bytes, &'static str), Problem> {
    let media_type = body::media_type(headers, accepted)?;
    let limits = &shim.limits;
    let limit = BodyLimit { name: "document_bytes_max", bytes_max: limits.document_bytes_max, timeout_ms: limits.body_timeout_ms };
    let document = body::read(headers, body, limit).await?;
    // Of YAML only the node knows more than that it is text.
    if media_type == body::YAML {
        body::check_utf8(&document).map(drop)?
    } else {
        body::check_json(&document).map(drop)?
    }
    Ok((document, media_type))
}

/// An answer with the node's document in it.
pub(crate) fn respond(status: StatusCode, reply: Reply) -> Response {
    let Reply { content_type, body, next_cursor, version } = reply;
    let is_json = content_type.is_empty() || content_type.starts_with(JSON);
    let body = if is_json { edited(body, next_cursor) } else { body };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let media_type = HeaderValue::from_str(&content_type).ok().filter(|_| !is_json).unwrap_or(HeaderValue::from_static(JSON));
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    if let Some(version) = version {
        response.headers_mut().insert(ETAG, etag(version));
    }
    response
}

/// An answer with a document of our own.
pub(crate) fn respond_json(status: StatusCode, document: &impl Serialize) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_vec(document).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// The document with times for people, and with the cursor of the next page. Untouched, byte for byte, when it has neither.
fn edited(body: Bytes, next_cursor: Option<String>) -> Bytes {
    if next_cursor.is_none() && !times::has_times(&body) {
        return body;
    }
    let Ok(mut document) = serde_json::from_slice::<Value>(&body) else {
        return body;
    };
    times::humanise(&mut document);
    if let Some(cursor) = next_cursor {
        match &mut document {
            Value::Object(members) => {
                members.insert("next_cursor".to_owned(), Value::String(cursor));
            }
            items => document = json!({"items": items.take(), "next_cursor": cursor}),
        }
    }
    Bytes::from(document.to_string())
}

fn etag(version: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("digits in quotation marks are a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(body: &str, cursor: Option<&str>) -> String {
        String::from_utf8(edited(Bytes::from(body.to_owned()), cursor.map(str::to_owned)).to_vec()).unwrap()
    }

    #[test]
    fn a_document_without_times_or_cursor_is_untouched() {
        let odd = "{ \"n\": 123456789012345678901234567890, \"a\":1.0 }";
        assert_eq!(edit(odd, None), odd);
    }

    #[test]
    fn a_page_says_where_the_next_one_begins() {
        assert_eq!(edit(r#"{"tasks":[]}"#, Some("c")), r#"{"next_cursor":"c","tasks":[]}"#);
        assert_eq!(edit("[1]", Some("c")), r#"{"items":[1],"next_cursor":"c"}"#);
        assert_eq!(edit(r#"{"a_at_us":0}"#, None), r#"{"a_at":"1970-01-01T00:00:00.000000Z"}"#);
    }
}
