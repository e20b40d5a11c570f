//! `http` and `webhook` against a scripted server on this machine.

use std::sync::{Arc, Mutex};

use distric_model::limits::TASK_OUTPUT_BYTES_MAX;
use distric_worker::signature::verify;
use distric_worker::{Clients, TaskContext, TaskFailure, http, webhook};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What arrived at the server.
#[derive(Clone, Debug)]
struct Seen {
    head: String,
    body: Vec<u8>,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &&str| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        self.head.lines().skip(1).find(named).map(|line| line.split_once(':').unwrap().1.trim())
    }
}

/// A server that answers its connections, one after the other, with the given bytes; `None` never answers.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    async fn answering(answers: Vec<Option<Vec<u8>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                record.lock().unwrap().push(request);
                match answer {
                    Some(bytes) => {
                        let _ = stream.write_all(&bytes).await;
                        let _ = stream.shutdown().await;
                    }
                    None => {
                        let _ = stream.read(&mut [0; 1]).await;
                    }
                }
            }
        });
        Self { url, seen }
    }

    async fn once(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Self {
        Self::answering(vec![Some(answer(status, headers, body.as_ref()))]).await
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

async fn read_request(stream: &mut TcpStream) -> Seen {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.unwrap();
        bytes.extend_from_slice(&chunk[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            assert!(count > 0, "the request ended in its head");
            continue;
        };
        let mut seen = Seen { head: String::from_utf8(bytes[..end].to_vec()).unwrap(), body: bytes[end + 4..].to_vec() };
        let length: usize = seen.header("content-length").map_or(0, |text| text.parse().unwrap());
        while seen.body.len() < length {
            let count = stream.read(&mut chunk).await.unwrap();
            assert!(count > 0, "the request ended in its body");
            seen.body.extend_from_slice(&chunk[..count]);
        }
        return seen;
    }
}

const TASK: &str = "0190163d-8694-739b-aea5-966c26f8ad91";
const INSTANCE: &str = "0190163d-8694-7f01-8000-000000000001";

fn context(config: Value) -> TaskContext {
    TaskContext {
        task_id: TASK.parse().unwrap(),
        instance_id: INSTANCE.parse().unwrap(),
        namespace: "default".to_owned(),
        workflow: "orders".to_owned(),
        workflow_version: 1,
        task: "notify".to_owned(),
        task_type: "http".to_owned(),
        attempt: 2,
        fencing_token: 9,
        config,
        timeout_ms: 0,
        idempotency_key: "key-17".to_owned(),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
    }
}

async fn check_webhook(config: Value) -> Result<Value, TaskFailure> {
    webhook::run(&Clients::default(), &context(config), &json!({"order": 17, "name": "Zo\u{eb}"})).await
}

async fn check_http(config: Value) -> Result<Value, TaskFailure> {
    http::run(&Clients::default(), &context(config)).await
}

#[tokio::test]
async fn an_http_task_sends_its_identity_and_reads_json() {
    let server = Server::once("200 OK", "Content-Type: application/json; charset=utf-8\r\nX-A: 1\r\nX-A: 2\r\n", r#"{"ok":true}"#).await;
    let output = check_http(json!({"url": format!("{}/pay?a=b", server.url), "body": {"sum": 5}})).await.unwrap();
    assert_eq!(output["status"], 200);
    assert_eq!(output["body"], json!({"ok": true}));
    assert_eq!(output["headers"]["x-a"], "1, 2");
    let seen = &server.seen()[0];
    assert!(seen.head.starts_with("POST /pay?a=b HTTP/1.1"), "{}", seen.head);
    assert_eq!(seen.header("idempotency-key"), Some("key-17"));
    assert_eq!(seen.header("traceparent"), Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    assert!(seen.header("user-agent").unwrap().starts_with("distric/"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.body, br#"{"sum":5}"#);
}

#[tokio::test]
async fn headers_of_the_task_win_over_the_defaults() {
    let server = Server::once("204 No Content", "", "").await;
    let headers = json!({"Idempotency-Key": "mine", "User-Agent": "shop/1", "Content-Type": "text/csv"});
    let output = check_http(json!({"url": server.url, "method": "put", "headers": headers, "body": "a,b"})).await.unwrap();
    assert_eq!((&output["status"], &output["body"]), (&json!(204), &Value::Null));
    let seen = &server.seen()[0];
    assert!(seen.head.starts_with("PUT / "));
    assert_eq!(seen.header("idempotency-key"), Some("mine"));
    assert_eq!(seen.header("user-agent"), Some("shop/1"));
    assert_eq!(seen.header("content-type"), Some("text/csv"));
}

#[tokio::test]
async fn text_is_text_and_bytes_are_base64() {
    let server = Server::once("200 OK", "Content-Type: text/plain\r\n", "gr\u{fc}n").await;
    assert_eq!(check_http(json!({"url": server.url})).await.unwrap()["body"], "gr\u{fc}n");
    let server = Server::once("200 OK", "", [0xff, 0x00]).await;
    let output = check_http(json!({"url": server.url})).await.unwrap();
    assert_eq!((&output["body"], &output["body_base64"]), (&Value::Null, &json!("/wA=")));
}

#[tokio::test]
async fn statuses_decide_what_is_tried_again() {
    for (status, headers, retryable, wait) in [
        ("503 Service Unavailable", "Retry-After: 7\r\n", true, Some(7_000)),
        ("500 Internal Server Error", "", true, None),
        ("429 Too Many Requests", "Retry-After: 1\r\n", true, Some(1_000)),
        ("404 Not Found", "", false, None),
        ("304 Not Modified", "", false, None),
    ] {
        let server = Server::once(status, headers, "").await;
        let failure = check_http(json!({"url": format!("{}/a?secret=1", server.url)})).await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable, failure.retry_after_ms), ("http_status", retryable, wait), "{status}");
        assert!(failure.message.contains(&status[..3]) && !failure.message.contains("secret"), "{}", failure.message);
    }
    let server = Server::once("404 Not Found", "", "gone").await;
    assert_eq!(check_http(json!({"url": server.url, "expect_status": [200, 404]})).await.unwrap()["status"], 404);
    let server = Server::once("400 Bad Request", "", "no such account").await;
    assert!(check_http(json!({"url": server.url})).await.unwrap_err().message.ends_with(": no such account"));
}

#[tokio::test]
async fn an_unreachable_host_and_a_silent_one_are_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let failure = check_http(json!({"url": url})).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("connect_failed", true), "{}", failure.message);

    let server = Server::answering(vec![None]).await;
    let failure = check_http(json!({"url": server.url, "timeout": "60ms"})).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("exchange_timeout", true), "{}", failure.message);

    let server = Server::answering(vec![Some(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec())]).await;
    let failure = check_http(json!({"url": server.url})).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("connection_lost", true), "{}", failure.message);
}

#[tokio::test]
async fn an_answer_is_bounded_whether_it_says_its_length_or_not() {
    let large = vec![b'x'; TASK_OUTPUT_BYTES_MAX + 1];
    let server = Server::once("200 OK", "", &large).await;
    assert_eq!(check_http(json!({"url": server.url})).await.unwrap_err().code, "output_too_large");
    let mut endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
    endless.extend_from_slice(&large);
    let server = Server::answering(vec![Some(endless)]).await;
    let failure = check_http(json!({"url": server.url})).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("output_too_large", false));
}

#[tokio::test]
async fn an_answer_that_lies_about_being_json_fails() {
    let server = Server::once("200 OK", "Content-Type: application/problem+json\r\n", "{oops").await;
    let failure = check_http(json!({"url": server.url})).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("bad_response", false));
}

#[tokio::test]
async fn redirects_are_followed_by_http_up_to_a_limit_and_never_by_webhook() {
    let target = Server::once("200 OK", "", "there").await;
    let server = Server::once("302 Found", &format!("Location: {}/next\r\n", target.url), "").await;
    assert_eq!(check_http(json!({"url": server.url})).await.unwrap()["body"], "there");

    let round = answer("302 Found", "Location: /again\r\n", b"");
    let server = Server::answering(vec![Some(round); 8]).await;
    let failure = check_http(json!({"url": server.url})).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("too_many_redirects", false), "{}", failure.message);
    assert_eq!(server.seen().len(), 6, "the first request and five redirects");

    let target = Server::once("200 OK", "", "").await;
    let server = Server::once("307 Temporary Redirect", &format!("Location: {}\r\n", target.url), "").await;
    let failure = check_webhook(json!({"url": server.url})).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("http_status", false));
    assert!(target.seen().is_empty());
}

#[tokio::test]
async fn a_webhook_delivers_the_input_signed_and_named() {
    let server = Server::once("200 OK", "", "thanks").await;
    let config = json!({"url": format!("{}/hook", server.url), "secret": "s3cret"});
    let output = check_webhook(config).await.unwrap();
    assert_eq!(output, json!({"delivered": true, "status": 200}));
    let seen = &server.seen()[0];
    assert!(seen.head.starts_with("POST /hook "));
    assert_eq!(serde_json::from_slice::<Value>(&seen.body).unwrap(), json!({"order": 17, "name": "Zo\u{eb}"}));
    let expected = [
        ("idempotency-key", "key-17"),
        ("x-distric-task", TASK),
        ("x-distric-instance", INSTANCE),
        ("x-distric-attempt", "2"),
        ("content-type", "application/json"),
    ];
    for (name, value) in expected {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    let signature = seen.header("x-distric-signature").unwrap();
    let at_s: u64 = signature.strip_prefix("t=").unwrap().split(',').next().unwrap().parse().unwrap();
    assert_eq!(verify(b"s3cret", signature, &seen.body, at_s, 0), Ok(()));
}

#[tokio::test]
async fn a_webhook_without_a_secret_is_not_signed_and_an_empty_one_is_refused() {
    let server = Server::once("202 Accepted", "", "").await;
    let config = json!({"url": server.url, "body": {"a": 1}});
    check_webhook(config).await.unwrap();
    assert_eq!(server.seen()[0].header("x-distric-signature"), None);
    assert_eq!(server.seen()[0].body, br#"{"a":1}"#);
    let config = json!({"url": server.url, "secret": ""});
    let failure = check_webhook(config).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("bad_config", false));
}

#[tokio::test]
async fn mistakes_in_the_config_are_named_before_anything_is_sent() {
    for (config, part) in [
        (json!({}), "`url`"),
        (json!({"url": "http://h/", "methode": "GET"}), "methode"),
        (json!({"url": "http://h/", "method": "FETCH"}), "config.method"),
        (json!({"url": "gopher://h/"}), "config.url"),
        (json!({"url": "http://h/", "expect_status": "ok"}), "config.expect_status"),
        (json!({"url": "http://h/", "timeout": "never"}), "config.timeout"),
        (json!({"url": "http://h/", "headers": {"Host": "x"}}), "config.headers.Host"),
    ] {
        let failure = check_http(config).await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("bad_config", false));
        assert!(failure.message.contains(part), "{}", failure.message);
    }
}
