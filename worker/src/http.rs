//! `http`: one HTTP request.
//!
//! Config: `url`; `method` (default `GET`, or `POST` when there is a body); `headers`; `body` (text goes as it is, any
//! other JSON as JSON); `expect_status` (statuses and classes such as `"2xx"`, default `2xx`); `timeout` (seconds, or
//! text such as `"10s"`; default 30 s). Sends `Idempotency-Key`, `traceparent` and `User-Agent` unless `headers` has them.
//! Output: `{"status": 200, "headers": {...}, "body": ...}`: JSON when the answer says so, text when it is UTF-8, else
//! `body` is null and `body_base64` holds the bytes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::clients::Clients;
use crate::config::{self, ExpectStatus, bad};
use crate::exchange::{Answer, Request};
use crate::failure::{self, Code};
use crate::{TaskContext, TaskFailure, output};

const METHODS: [Method; 7] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpConfig {
    method: Option<String>,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    body: Option<Value>,
    expect_status: Option<Value>,
    timeout: Option<Value>,
}

/// Runs one `http` task. Errors: see [`failure::Code`]; connection trouble, 5xx and 429 are retryable.
pub async fn run(clients: &Clients, context: &TaskContext) -> Result<Value, TaskFailure> {
    let request = request(context)?;
    let answer = request.send(clients.following()?).await?;
    output::bounded(output_of(&answer)?)
}

fn request(context: &TaskContext) -> Result<Request, TaskFailure> {
    let config: HttpConfig = config::read(&context.config)?;
    let mut headers = config::headers(&config.headers)?;
    let body = config.body.as_ref().and_then(|body| body_of(body, &mut headers));
    let default = if body.is_some() { Method::POST } else { Method::GET };
    let mut request = Request {
        method: config.method.as_deref().map_or(Ok(default), method)?,
        url: config::url(&config.url)?,
        headers,
        body,
        timeout: config::timeout(config.timeout.as_ref())?,
        expect: ExpectStatus::read(config.expect_status.as_ref())?,
    };
    request.identify(context);
    Ok(request)
}

fn method(name: &str) -> Result<Method, TaskFailure> {
    let upper = name.trim().to_ascii_uppercase();
    METHODS
        .into_iter()
        .find(|method| method.as_str() == upper)
        .ok_or_else(|| bad("method", format_args!("{name:?} is not one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")))
}

/// The bytes of a body, and their content type unless the task chose one; `null` is no body.
pub(crate) fn body_of(body: &Value, headers: &mut HeaderMap) -> Option<Bytes> {
    let (bytes, content_type) = match body {
        Value::Null => return None,
        Value::String(text) => (Bytes::copy_from_slice(text.as_bytes()), "text/plain; charset=utf-8"),
        other => (Bytes::from(other.to_string()), "application/json"),
    };
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
    Some(bytes)
}

fn output_of(answer: &Answer) -> Result<Value, TaskFailure> {
    let mut output = Map::new();
    output.insert("status".to_owned(), Value::from(answer.status.as_u16()));
    output.insert("headers".to_owned(), Value::Object(headers_of(&answer.headers)));
    let body = if answer.body.is_empty() {
        Value::Null
    } else if is_json(&answer.headers) {
        serde_json::from_slice(&answer.body)
            .map_err(|error| failure::permanent(Code::BadResponse, format!("the answer says it is JSON, but is not: {error}")))?
    } else if let Ok(text) = std::str::from_utf8(&answer.body) {
        Value::from(text)
    } else {
        output.insert("body_base64".to_owned(), Value::from(STANDARD.encode(&answer.body)));
        Value::Null
    };
    output.insert("body".to_owned(), body);
    Ok(Value::Object(output))
}

/// Names in lower case; several values of one name joined by a comma, as HTTP allows.
fn headers_of(headers: &HeaderMap) -> Map<String, Value> {
    let mut object = Map::new();
    for name in headers.keys() {
        let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        object.insert(name.as_str().to_owned(), Value::from(values.join(", ")));
    }
    object
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(text) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}
