//! One HTTP/1.1 exchange over a fresh connection, written by hand so that the server's own libraries are not on both sides.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// Longest wait for one answer.
pub const HTTP_WITHIN: Duration = Duration::from_secs(10);
/// A body above this is sent only after the server had a chance to refuse it, bytes.
const LARGE_BODY_BYTES: usize = 1 << 20;
/// That chance.
const EARLY_ANSWER_WITHIN: Duration = Duration::from_millis(300);
/// Largest answer, bytes.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// An answer.
#[derive(Clone, Debug)]
pub struct HttpReply {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

impl HttpReply {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON. Panics when it is not.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Sends one request and reads the answer to its end. Panics when there is none.
#[track_caller]
pub fn http(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> HttpReply {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    // A server may refuse a large body by its announced length and close: bytes sent after that would destroy the answer.
    let is_answered = body.len() > LARGE_BODY_BYTES && {
        stream.set_read_timeout(Some(EARLY_ANSWER_WITHIN)).expect("a timeout above zero is legal");
        stream.peek(&mut [0]).is_ok_and(|read| read > 0)
    };
    stream.set_read_timeout(Some(HTTP_WITHIN)).expect("a timeout above zero is legal");
    if !is_answered {
        stream.write_all(body.as_bytes()).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    }
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    parse(&String::from_utf8_lossy(&answer)).unwrap_or_else(|| panic!("{method} {path}: not an HTTP answer"))
}

fn parse(answer: &str) -> Option<HttpReply> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { unchunk(body)? } else { body.to_owned() };
    Some(HttpReply { status, headers, body })
}

fn unchunk(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(after.get(..size)?);
        rest = after.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let reply = parse("HTTP/1.1 202 Accepted\r\nContent-Type: a/b\r\n\r\n{\"a\":1}").unwrap();
        assert_eq!((reply.status, reply.header("content-type"), reply.json()["a"].as_u64()), (202, Some("a/b"), Some(1)));
        let chunked = parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").unwrap();
        assert_eq!(chunked.body, "abcde");
        assert!(parse("hello").is_none());
    }
}
