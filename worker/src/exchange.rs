//! One outgoing request and its answer, bounded in time and bytes; what went wrong becomes a [`TaskFailure`].

use std::error::Error;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use distric_model::limits::TASK_OUTPUT_BYTES_MAX;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, StatusCode, Url};

use crate::config::ExpectStatus;
use crate::failure::{self, Code};
use crate::log::cut;
use crate::output::too_large;
use crate::{TaskContext, TaskFailure};

/// Longest wait that a `Retry-After` may ask for, milliseconds; longer ones are shortened to it.
pub(crate) const RETRY_AFTER_MS_MAX: u64 = 60 * 60 * 1_000;
/// How much of an unexpected answer's body is quoted in the failure, bytes.
const EXCERPT_BYTES_MAX: usize = 256;

/// A request that is ready to go.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    pub(crate) timeout: Duration,
    pub(crate) expect: ExpectStatus,
}

/// An answer with an expected status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Request {
    /// Adds the identity of the attempt, where the task has not set those headers itself.
    ///
    /// The idempotency key is the same over all attempts of a task: the other side may drop a repeat by it.
    pub(crate) fn identify(&mut self, context: &TaskContext) {
        let identity = [("idempotency-key", Some(context.idempotency_key.as_str())), ("traceparent", context.traceparent.as_deref())];
        for (name, value) in identity {
            // A key that a header cannot carry is left out, never altered: an altered key would be another key.
            if let Some(Ok(value)) = value.filter(|value| !value.is_empty()).map(HeaderValue::from_str) {
                self.headers.entry(HeaderName::from_static(name)).or_insert(value);
            }
        }
    }

    /// Sends it once and reads the whole answer.
    ///
    /// Errors: retryable `connect_failed`, `connection_lost`, `exchange_timeout`; `http_status`, retryable for 408, 425,
    /// 429 and 5xx, with the wait that `Retry-After` asks for; `too_many_redirects`; `output_too_large`.
    pub(crate) async fn send(self, client: &Client) -> Result<Answer, TaskFailure> {
        let target = format!("{} {}", self.method, printable(&self.url));
        let mut request = client.request(self.method, self.url).headers(self.headers).timeout(self.timeout);
        if let Some(body) = self.body {
            request = request.body(body);
        }
        let mut response = request.send().await.map_err(|error| broken(&target, self.timeout, error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        if !self.expect.contains(status.as_u16()) {
            return Err(unexpected(&target, &mut response).await);
        }
        if response.content_length().is_some_and(|bytes| bytes > TASK_OUTPUT_BYTES_MAX as u64) {
            return Err(too_large("the answer's body"));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| broken(&target, self.timeout, error))? {
            if body.len() + chunk.len() > TASK_OUTPUT_BYTES_MAX {
                return Err(too_large("the answer's body"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body: body.freeze() })
    }
}

/// An address without its user, password, query and fragment: those may hold secrets, and failures are kept in history.
fn printable(url: &Url) -> String {
    let mut text = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
    if let Some(port) = url.port() {
        let _ = write!(text, ":{port}");
    }
    text + url.path()
}

/// The failure of an exchange that has no whole answer.
fn broken(target: &str, timeout: Duration, error: reqwest::Error) -> TaskFailure {
    let error = error.without_url();
    // Order matters: a time-out while connecting is both, and the name of the phase tells more.
    if error.is_connect() {
        failure::passing(Code::ConnectFailed, format!("{target}: cannot connect: {}", chain(&error)), None)
    } else if error.is_timeout() {
        failure::passing(Code::ExchangeTimeout, format!("{target}: no whole answer within {} ms", timeout.as_millis()), None)
    } else if error.is_redirect() {
        failure::permanent(Code::TooManyRedirects, format!("{target}: {}", chain(&error)))
    } else if error.is_builder() {
        failure::permanent(Code::BadConfig, format!("{target}: {}", chain(&error)))
    } else {
        failure::passing(Code::ConnectionLost, format!("{target}: the connection broke: {}", chain(&error)), None)
    }
}

/// The failure of an answer with a status that the task does not expect.
async fn unexpected(target: &str, response: &mut reqwest::Response) -> TaskFailure {
    let status = response.status();
    let mut message = format!("{target} answered {status}");
    // The first chunk is enough to quote from; an error while reading it tells nothing that the status does not.
    if let Ok(Some(chunk)) = response.chunk().await {
        let text = String::from_utf8_lossy(&chunk);
        let text = cut(text.trim(), EXCERPT_BYTES_MAX);
        if !text.is_empty() {
            let _ = write!(message, ": {text}");
        }
    }
    if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| retry_after_ms(value.to_str().ok()?, now));
        failure::passing(Code::HttpStatus, message, wait)
    } else {
        failure::permanent(Code::HttpStatus, message)
    }
}

/// The wait that a `Retry-After` value asks for, milliseconds: seconds, or a date after `now_s` (RFC 9110, section 10.2.3).
fn retry_after_ms(value: &str, now_s: u64) -> Option<u64> {
    let value = value.trim();
    let seconds = match value.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
            u64::try_from(date.as_second()).ok()?.saturating_sub(now_s)
        }
    };
    Some(seconds.saturating_mul(1_000).min(RETRY_AFTER_MS_MAX))
}

/// An error and its causes on one line; the outermost alone often says no more than "error sending request".
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after_ms("3", 0), Some(3_000));
        assert_eq!(retry_after_ms("Wed, 21 Oct 2015 07:28:00 GMT", 1_445_412_470), Some(10_000));
        assert_eq!(retry_after_ms("Wed, 21 Oct 2015 07:28:00 GMT", 2_000_000_000), Some(0));
        assert_eq!(retry_after_ms("18446744073709551615", 0), Some(RETRY_AFTER_MS_MAX));
        assert_eq!(retry_after_ms("soon", 0), None);
    }

    #[test]
    fn an_address_in_a_failure_holds_no_secret() {
        let url = Url::parse("https://user:word@host.example:8443/a/b?token=1#f").unwrap();
        assert_eq!(printable(&url), "https://host.example:8443/a/b");
    }
}
