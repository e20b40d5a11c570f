//! Connections of the HTTP edge: kept alive, bounded, drained.

mod fake;

use std::sync::Arc;
use std::time::Duration;

use distric_shim_http::{ShimLimits, ShimState, serve};
use fake::{Answer, Fake};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A running server, and what stops it.
struct Running {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

async fn run(fake: &Fake, limits: ShimLimits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let state = ShimState { client: fake.client.clone(), metrics: Arc::new(String::new), version: "0", limits };
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(async move {
        serve(listener, state, async {
            let _ = stopped.await;
        })
        .await;
    });
    Running { address, stop, served }
}

/// Writes and returns what comes back until `end` was seen or the connection closed.
async fn exchange(stream: &mut TcpStream, request: &str, end: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(end) {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            break;
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let fake = Fake::answering(|_| Answer::Receipt(1, &[])).await;
    let running = run(&fake, ShimLimits::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    for _ in 0..3 {
        let request = "POST /api/v1/messages HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        let answer = exchange(&mut stream, request, "workflows_triggered").await;
        assert!(answer.starts_with("HTTP/1.1 202 Accepted"), "{answer}");
    }
    assert_eq!(fake.asked().len(), 3);
}

#[tokio::test]
async fn a_head_that_does_not_arrive_ends_the_connection() {
    let fake = Fake::answering(|_| Answer::Silence).await;
    let running = run(&fake, ShimLimits { head_timeout_ms: 40, ..ShimLimits::default() }).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let answer = exchange(&mut stream, "GET /health/live HTTP/1.1\r\nHost:", "never").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_a_problem() {
    let fake = Fake::answering(|_| Answer::Silence).await;
    let running = run(&fake, ShimLimits { body_timeout_ms: 40, ..ShimLimits::default() }).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let request = "POST /api/v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n{";
    let answer = exchange(&mut stream, request, "body_timeout").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn an_announced_large_body_is_refused_before_it_is_read() {
    let fake = Fake::answering(|_| Answer::Silence).await;
    let running = run(&fake, ShimLimits::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let request = "POST /api/v1/messages HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n";
    let answer = exchange(&mut stream, request, "message_bytes_max").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_head_beyond_its_limit_is_refused() {
    let fake = Fake::answering(|_| Answer::Silence).await;
    let running = run(&fake, ShimLimits { head_bytes_max: 8 << 10, ..ShimLimits::default() }).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let request = format!("GET /health/live HTTP/1.1\r\nHost: h\r\nX-Long: {}\r\n\r\n", "x".repeat(10 << 10));
    let answer = exchange(&mut stream, &request, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let fake = Fake::answering(|_| Answer::Silence).await;
    let running = run(&fake, ShimLimits { connections_max: 1, ..ShimLimits::default() }).await;
    let live = "GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut first = TcpStream::connect(running.address).await.unwrap();
    assert!(exchange(&mut first, live, "UP").await.contains("200 OK"));
    let mut second = TcpStream::connect(running.address).await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(50), exchange(&mut second, live, "UP")).await;
    assert!(waiting.is_err(), "the second connection was served beside the first");
    drop(first);
    assert!(exchange(&mut second, "", "UP").await.contains("200 OK"));
}

#[tokio::test]
async fn shutdown_lets_open_requests_finish_and_closes_idle_connections() {
    let (entered, mut entering) = tokio::sync::mpsc::unbounded_channel();
    let script = move |_: &fake::Asked| {
        entered.send(()).unwrap();
        Answer::Silence
    };
    let fake = Fake::answering(script).await;
    let running = run(&fake, ShimLimits { drain_ms: 5_000, ..ShimLimits::default() }).await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    assert!(exchange(&mut idle, "GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n", "UP").await.contains("200 OK"));
    let mut open = TcpStream::connect(running.address).await.unwrap();
    // The node never answers; the client's own timeout of 2 s ends the request.
    open.write_all(b"GET /api/v1/rules HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    entering.recv().await.unwrap();
    running.stop.send(()).unwrap();
    assert_eq!(exchange(&mut idle, "", "never").await, "", "the idle connection was closed");
    let answer = exchange(&mut open, "", "never").await;
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    running.served.await.unwrap();
    assert!(TcpStream::connect(running.address).await.is_err(), "nobody listens any more");
}
