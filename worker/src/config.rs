//! Reading a task's `config`: every mistake names the member and what was expected.

use std::collections::BTreeMap;
use std::time::Duration;

use distric_rules::document::Node;
use distric_rules::parse_duration_ms;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use crate::TaskFailure;
use crate::failure::{self, Code};

/// Longest time one outgoing exchange may be given, milliseconds.
pub(crate) const EXCHANGE_TIMEOUT_MS_MAX: u64 = 60 * 60 * 1_000;
/// Time one outgoing exchange is given when its task does not say, milliseconds.
pub(crate) const EXCHANGE_TIMEOUT_MS_DEFAULT: u64 = 30_000;
/// Most headers that one outgoing request may set.
pub(crate) const REQUEST_HEADERS_MAX: usize = 64;

/// Headers that belong to the connection, not to the task.
const HEADERS_RESERVED: [&str; 8] = ["connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// Reads the whole config as `T`; `null` counts as an empty object.
pub(crate) fn read<'a, T: Deserialize<'a>>(config: &'a Value) -> Result<T, TaskFailure> {
    static EMPTY: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| Value::Object(serde_json::Map::new()));
    let config = if config.is_null() { &*EMPTY } else { config };
    T::deserialize(config).map_err(|error| failure::permanent(Code::BadConfig, format!("config: {error}")))
}

/// A refusal of the member `config.{member}`.
pub(crate) fn bad(member: &str, problem: impl std::fmt::Display) -> TaskFailure {
    failure::permanent(Code::BadConfig, format!("config.{member}: {problem}"))
}

/// How long an exchange may take, in the form of every duration of the project: seconds, or text such as `250ms` or `1m30s`.
///
/// Errors: `bad_config` when it is no duration, zero, or above [`EXCHANGE_TIMEOUT_MS_MAX`].
pub(crate) fn timeout(value: Option<&Value>) -> Result<Duration, TaskFailure> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Ok(Duration::from_millis(EXCHANGE_TIMEOUT_MS_DEFAULT));
    };
    let ms = parse_duration_ms(&Node::from_json(value)).map_err(|problem| bad("timeout", problem))?;
    if !(1..=EXCHANGE_TIMEOUT_MS_MAX).contains(&ms) {
        return Err(bad("timeout", format_args!("must lie between 1 ms and {EXCHANGE_TIMEOUT_MS_MAX} ms")));
    }
    Ok(Duration::from_millis(ms))
}

/// The request headers of a task; text, numbers and truth values become header values, `null` leaves one out.
///
/// Errors: `bad_config` for a name or value HTTP does not allow, a header of the connection, or too many of them.
pub(crate) fn headers(given: &BTreeMap<String, Value>) -> Result<HeaderMap, TaskFailure> {
    if given.len() > REQUEST_HEADERS_MAX {
        return Err(bad("headers", format_args!("{} headers exceed the limit of {REQUEST_HEADERS_MAX}", given.len())));
    }
    let mut headers = HeaderMap::with_capacity(given.len() + 4);
    for (name, value) in given {
        let member = format!("headers.{name}");
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad(&member, "not a header name"))?;
        if HEADERS_RESERVED.contains(&header.as_str()) {
            return Err(bad(&member, "is set by the connection and cannot be chosen"));
        }
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            Value::Array(_) | Value::Object(_) => return Err(bad(&member, "expected text, a number or a truth value")),
        };
        let mut text = HeaderValue::from_str(&text).map_err(|_| bad(&member, "has characters that a header cannot carry"))?;
        text.set_sensitive(header.as_str() == "authorization" || header.as_str().ends_with("-key"));
        headers.insert(header, text);
    }
    Ok(headers)
}

/// An address that a task may call: absolute, `http` or `https`, with a host.
pub(crate) fn url(text: &str) -> Result<reqwest::Url, TaskFailure> {
    let url = reqwest::Url::parse(text.trim()).map_err(|error| bad("url", format_args!("{error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("url", format_args!("scheme {:?} is not http or https", url.scheme())));
    }
    if !url.has_host() {
        return Err(bad("url", "names no host"));
    }
    Ok(url)
}

/// Which statuses count as success: numbers (`404`) and classes (`2xx`), one or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpectStatus(Vec<StatusRange>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StatusRange {
    first: u16,
    last: u16,
}

impl ExpectStatus {
    /// Reads `config.expect_status`; absent means `2xx`.
    pub(crate) fn read(value: Option<&Value>) -> Result<Self, TaskFailure> {
        let ranges = match value {
            None | Some(Value::Null) => vec![StatusRange { first: 200, last: 299 }],
            Some(Value::Array(list)) if list.is_empty() => return Err(bad("expect_status", "the list is empty")),
            Some(Value::Array(list)) => list.iter().map(StatusRange::read).collect::<Result<_, _>>()?,
            Some(one) => vec![StatusRange::read(one)?],
        };
        Ok(Self(ranges))
    }

    /// Whether `status` is among them.
    pub(crate) fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| (range.first..=range.last).contains(&status))
    }
}

impl StatusRange {
    fn read(value: &Value) -> Result<Self, TaskFailure> {
        let refused = || bad("expect_status", format_args!("{value} is neither a status such as 200 nor a class such as \"2xx\""));
        let text = match value {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.trim().to_ascii_lowercase(),
            _ => return Err(refused()),
        };
        if let Some(class) = text.strip_suffix("xx") {
            let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class)).ok_or_else(refused)?;
            return Ok(Self { first: class * 100, last: class * 100 + 99 });
        }
        let status: u16 = text.parse().ok().filter(|status| (100..=599).contains(status)).ok_or_else(refused)?;
        Ok(Self { first: status, last: status })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_timeout_is_seconds_or_a_duration() {
        let ms = |value: Value| timeout(Some(&value)).map(|d| d.as_millis()).map_err(|e| e.message);
        assert_eq!(ms(json!(5)), Ok(5_000));
        assert_eq!(ms(json!(0.25)), Ok(250));
        assert_eq!(ms(json!("250ms")), Ok(250));
        assert_eq!(ms(json!("1m30s")), Ok(90_000));
        assert_eq!(ms(json!("1.5s")), Ok(1_500));
        for bad in [json!("soon"), json!("5 parsecs"), json!(0), json!(-1), json!("2h"), json!(true), json!("NaNs"), json!("infs")] {
            assert!(ms(bad.clone()).unwrap_err().starts_with("config.timeout: "), "{bad} was accepted");
        }
        assert_eq!(timeout(None).unwrap(), Duration::from_millis(EXCHANGE_TIMEOUT_MS_DEFAULT));
    }

    #[test]
    fn expected_statuses_are_numbers_and_classes() {
        let default = ExpectStatus::read(None).unwrap();
        assert!(default.contains(204) && !default.contains(301));
        let mixed = ExpectStatus::read(Some(&json!(["2xx", 404, "410"]))).unwrap();
        assert!(mixed.contains(299) && mixed.contains(404) && mixed.contains(410) && !mixed.contains(400));
        for bad in [json!([]), json!("6xx"), json!("xx"), json!(99), json!(600), json!([[200]]), json!(2.5)] {
            assert!(ExpectStatus::read(Some(&bad)).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn headers_that_http_or_the_connection_would_not_bear_are_refused() {
        let one = |name: &str, value: Value| headers(&BTreeMap::from([(name.to_owned(), value)]));
        assert_eq!(one("X-Try", json!(2)).unwrap()["x-try"], "2");
        assert!(one("X-Nothing", json!(null)).unwrap().is_empty());
        for (name, value) in [("Host", json!("a")), ("a b", json!("a")), ("X-A", json!("a\nb")), ("X-A", json!({}))] {
            let failure = one(name, value).unwrap_err();
            assert_eq!((failure.code.as_str(), failure.retryable), ("bad_config", false));
            assert!(failure.message.contains(name), "{}", failure.message);
        }
        let many = (0..=REQUEST_HEADERS_MAX).map(|i| (format!("x-{i}"), json!(1))).collect();
        assert!(headers(&many).unwrap_err().message.contains("64"));
    }

    #[test]
    fn an_address_is_absolute_http_with_a_host() {
        assert!(url("http://127.0.0.1:1/a?b=c").is_ok());
        for bad in ["", "/relative", "ftp://host/", "file:///etc/passwd", "http://"] {
            assert!(url(bad).unwrap_err().message.starts_with("config.url: "), "{bad} was accepted");
        }
    }
}
