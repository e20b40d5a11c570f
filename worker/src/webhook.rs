//! `webhook`: tells another system that something happened.
//!
//! Config: `url`; `body` (default: the task's input), sent as JSON by `POST`; `headers`; `secret` (then the delivery is
//! signed, see [`crate::signature`]); `expect_status` (default `2xx`); `timeout` (default 30 s). Redirects are not
//! followed. Every delivery carries `Idempotency-Key` (the same over all attempts), `X-Distric-Task`,
//! `X-Distric-Instance`, `X-Distric-Attempt` and `traceparent`.
//! Output: `{"delivered": true, "status": 200}`.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clients::Clients;
use crate::config::{self, ExpectStatus, bad};
use crate::exchange::Request;
use crate::signature::{SIGNATURE_HEADER, sign};
use crate::{TaskContext, TaskFailure};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookConfig {
    url: String,
    body: Option<Value>,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    secret: Option<String>,
    expect_status: Option<Value>,
    timeout: Option<Value>,
}

/// Runs one `webhook` task. Errors: see [`crate::failure::Code`]; connection trouble, 5xx and 429 are retryable.
pub async fn run(clients: &Clients, context: &TaskContext, input: &Value) -> Result<Value, TaskFailure> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let answer = request(context, input, now_s)?.send(clients.direct()?).await?;
    Ok(json!({"delivered": true, "status": answer.status.as_u16()}))
}

fn request(context: &TaskContext, input: &Value, now_s: u64) -> Result<Request, TaskFailure> {
    let config: WebhookConfig = config::read(&context.config)?;
    let body = Bytes::from(config.body.as_ref().unwrap_or(input).to_string());
    let mut headers = config::headers(&config.headers)?;
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    let origin = [
        ("x-distric-task", context.task_id.to_string()),
        ("x-distric-instance", context.instance_id.to_string()),
        ("x-distric-attempt", context.attempt.to_string()),
    ];
    for (name, value) in origin {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    match config.secret.as_deref() {
        None => {}
        Some("") => return Err(bad("secret", "is empty: leave it out to send without a signature")),
        Some(secret) => {
            let value = HeaderValue::from_str(&sign(secret.as_bytes(), now_s, &body)).expect("a signature is printable ASCII");
            headers.insert(HeaderName::from_static(SIGNATURE_HEADER), value);
        }
    }
    let mut request = Request {
        method: Method::POST,
        url: config::url(&config.url)?,
        headers,
        body: Some(body),
        timeout: config::timeout(config.timeout.as_ref())?,
        expect: ExpectStatus::read(config.expect_status.as_ref())?,
    };
    request.identify(context);
    Ok(request)
}
