//! Bodies: read within a size and a time, of a media type that the route takes, and well-formed.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use distric_wire::Code;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::value::RawValue;

use crate::problem::{Detail, Problem};

/// The media type of a message with its envelope around it.
pub(crate) const MESSAGE_JSON: &str = "application/vnd.distric.message+json";
pub(crate) const JSON: &str = "application/json";
pub(crate) const YAML: &str = "application/yaml";
pub(crate) const NDJSON: &str = "application/x-ndjson";
/// MessagePack.
pub(crate) const MSGPACK: &str = "application/msgpack";

/// A named maximum of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimit {
    pub(crate) name: &'static str,
    pub(crate) bytes_max: usize,
    pub(crate) timeout_ms: u64,
}

/// Reads a whole body.
///
/// Errors: 413 beyond the limit, before anything is read when the length is announced; 408 when it does not arrive in time;
/// 400 when the connection breaks within it.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit: BodyLimit) -> Result<Bytes, Problem> {
    let too_large = || Problem::too_large("the body", limit.name, limit.bytes_max, "bytes");
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > limit.bytes_max as u64) {
        return Err(too_large());
    }
    let whole = Limited::new(body, limit.bytes_max).collect();
    match tokio::time::timeout(Duration::from_millis(limit.timeout_ms), whole).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if is_length_limit(&*error) => Err(too_large()),
        Ok(Err(error)) => Err(Problem::new(Code::BadArgument, format!("the body did not arrive whole: {error}"))),
        Err(_) => {
            let detail = format!("the body did not arrive within {} ms", limit.timeout_ms);
            Err(Problem::with_status(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail))
        }
    }
}

fn is_length_limit(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    // One wrapper lies between where a body came through the router.
    error.is::<LengthLimitError>() || error.source().is_some_and(|source| source.is::<LengthLimitError>())
}

/// The media type of the body, one of `accepted`; without a header it is the first of them.
///
/// Errors: 415, naming what is accepted.
pub(crate) fn media_type(headers: &HeaderMap, accepted: &[&'static str]) -> Result<&'static str, Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(accepted[0]);
    };
    let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let (essence, parameters) = text.split_once(';').unwrap_or((&text, ""));
    let canonical = match essence.trim() {
        "application/x-yaml" | "text/yaml" | "text/x-yaml" => YAML,
        "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => NDJSON,
        "text/json" => JSON,
        "application/x-msgpack" | "application/vnd.msgpack" => MSGPACK,
        other => other,
    };
    let charset = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("charset="));
    let is_utf8 = charset.is_none_or(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii"));
    match accepted.iter().find(|accepted| **accepted == canonical) {
        Some(media_type) if is_utf8 => Ok(media_type),
        _ => {
            let given = text.chars().take(100).collect::<String>();
            let detail = format!("Content-Type {given:?} is not one of {} in UTF-8", accepted.join(", "));
            Err(Problem::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail))
        }
    }
}

/// Checks that the bytes are one JSON value. Errors: 400 with line, column and offset.
pub(crate) fn check_json(bytes: &[u8]) -> Result<&RawValue, Problem> {
    let text = check_utf8(bytes)?;
    serde_json::from_str(text).map_err(|error| bad_json(text, &error))
}

/// Checks that the bytes are text. Errors: 400 with the offset of the first byte that is none.
pub(crate) fn check_utf8(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|error| {
        let message = format!("the body is not UTF-8 at byte {}", error.valid_up_to());
        Problem::new(Code::BadPayload, message.clone()).and(Detail { message, offset: Some(error.valid_up_to()), ..Detail::default() })
    })
}

/// What serde_json says about `text`, with the offset that it does not tell.
pub(crate) fn bad_json(text: &str, error: &serde_json::Error) -> Problem {
    let message = format!("the body is not what it should be: {error}");
    let lines_before = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    let offset = (lines_before + error.column().saturating_sub(1)).min(text.len());
    let (line, column) = (u32::try_from(error.line()).ok(), u32::try_from(error.column()).ok());
    Problem::new(Code::BadPayload, message.clone()).and(Detail { message, line, column, offset: Some(offset), ..Detail::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_type(content_type: &str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())])
    }

    #[test]
    fn a_media_type_is_matched_without_its_parameters_and_by_its_other_names() {
        assert_eq!(media_type(&HeaderMap::new(), &[JSON, YAML]).unwrap(), JSON);
        assert_eq!(media_type(&of_type("Application/JSON; charset=UTF-8"), &[JSON]).unwrap(), JSON);
        assert_eq!(media_type(&of_type("text/yaml"), &[JSON, YAML]).unwrap(), YAML);
        for bad in ["application/x-www-form-urlencoded", "application/json; charset=latin1", "application/yaml", ""] {
            let problem = media_type(&of_type(bad), &[JSON]).unwrap_err();
            assert_eq!(problem.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
            assert!(problem.detail.contains(JSON), "{}", problem.detail);
        }
    }

    #[test]
    fn bad_json_is_refused_with_its_place() {
        let place = |bytes: &[u8]| check_json(bytes).unwrap_err().errors.remove(0);
        let detail = place(b"{\"a\": 1,\n \"b\": nope}");
        assert_eq!((detail.line, detail.offset), (Some(2), Some(16)), "{detail:?}");
        assert_eq!(place(b"{\"a\": \"\xff\"}").offset, Some(7));
        assert_eq!(place(b"").offset, Some(0));
        assert_eq!(place(b"{} x").offset, Some(3));
        assert!(check_json(b" [1, {\"a\": null}] ").is_ok());
        assert!(check_json("[".repeat(100_000).as_bytes()).is_err(), "deep nesting is an error, not a crash");
    }

    #[tokio::test]
    async fn a_body_is_bounded_in_bytes_and_time() {
        let limit = BodyLimit { name: "message_bytes_max", bytes_max: 4, timeout_ms: 20 };
        assert_eq!(read(&HeaderMap::new(), Body::from("1234"), limit).await.unwrap(), "1234");
        let problem = read(&HeaderMap::new(), Body::from("12345"), limit).await.unwrap_err();
        assert_eq!(problem.errors[0].limit.as_ref().unwrap().value, 4);
        let announced = HeaderMap::from_iter([(CONTENT_LENGTH, "5".parse().unwrap())]);
        assert_eq!(read(&announced, Body::empty(), limit).await.unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
