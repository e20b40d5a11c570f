//! A server of a few lines: speaks wire frames, and does what the test's script says.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::time::Duration;

use distric_sdk::{BackoffOptions, ClientOptions, RetryOptions};
use distric_wire::client::{Hello, Response, Submit, Welcome};
use distric_wire::{Flags, FrameLimits, Header, Message, encode, parse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use uuid::Uuid;

/// Longest wait for anything in a test: far beyond what a loaded machine needs, so that only a fault meets it.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Fake {
    listener: TcpListener,
}

impl Fake {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Client options for this server, impatient ones.
    pub fn options(&self) -> ClientOptions {
        let backoff = BackoffOptions { backoff_ms_min: 2, backoff_ms_max: 20 };
        ClientOptions {
            retry: RetryOptions { attempts_max: 5, backoff },
            request_timeout_ms: 15_000,
            ..ClientOptions::new([self.address()])
        }
    }

    /// The next connection, not greeted.
    pub async fn accept_silent(&self) -> Peer {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("somebody connects").unwrap();
        Peer { stream, bytes: Vec::new() }
    }

    /// The next connection, greeted with room for many requests.
    pub async fn accept(&self) -> Peer {
        self.accept_with(Welcome { node_id: self.node_id(), ..welcome() }).await
    }

    /// Each fake is another node.
    pub fn node_id(&self) -> Uuid {
        Uuid::from_u128(self.address().bytes().fold(0, |hash, byte| hash * 31 + u128::from(byte)))
    }

    pub async fn accept_with(&self, welcome: Welcome<'_>) -> Peer {
        let mut peer = self.accept_silent().await;
        let hello = peer.recv().await;
        assert_eq!(hello.message_type(), Hello::TYPE);
        peer.send(hello.id(), &welcome).await;
        peer
    }
}

pub fn welcome() -> Welcome<'static> {
    Welcome {
        version: 1,
        role: "leader",
        shard_count: 1,
        frame_bytes_max: 1 << 20,
        frames_in_flight_max: 1_024,
        bytes_in_flight_max: 8 << 20,
        server_version: "fake",
        ..Welcome::default()
    }
}

pub struct Peer {
    stream: TcpStream,
    bytes: Vec<u8>,
}

pub struct Received {
    pub header: Header,
    pub payload: Vec<u8>,
}

impl Received {
    pub fn id(&self) -> u64 {
        self.header.message_id
    }

    pub fn message_type(&self) -> u16 {
        self.header.message_type
    }

    pub fn decode<'a, M: Message<'a>>(&'a self) -> M {
        assert_eq!(self.header.message_type, M::TYPE, "another message than {} came", M::NAME);
        M::decode(&self.payload).unwrap()
    }

    pub fn submit(&self) -> Submit<'_> {
        self.decode()
    }
}

impl Peer {
    fn parsed(&mut self) -> Option<Received> {
        let (received, consumed) = {
            let (frame, consumed) = parse(&self.bytes, FrameLimits::AUTHENTICATED).unwrap()?;
            let mut scratch = Vec::new();
            let payload = frame.decompressed(&mut scratch, FrameLimits::AUTHENTICATED).unwrap().to_vec();
            (Received { header: frame.header, payload }, consumed)
        };
        self.bytes.drain(..consumed);
        Some(received)
    }

    /// The next frame, or `None` when the other side closed.
    pub async fn try_recv(&mut self) -> Option<Received> {
        loop {
            if let Some(received) = self.parsed() {
                return Some(received);
            }
            let count = timeout(PATIENCE, self.stream.read_buf(&mut self.bytes)).await.expect("a frame comes").ok()?;
            if count == 0 {
                return None;
            }
        }
    }

    pub async fn recv(&mut self) -> Received {
        self.try_recv().await.expect("the connection is open")
    }

    /// The next frame of this type; others (heartbeats, pings) are skipped.
    pub async fn recv_only<'a, M: Message<'a>>(&mut self) -> Received {
        loop {
            let received = self.recv().await;
            if received.message_type() == M::TYPE {
                return received;
            }
        }
    }

    /// Asserts that no frame comes for a while.
    pub async fn assert_quiet(&mut self, ms: u64) {
        if let Some(received) = self.parsed() {
            panic!("a frame of type {:#x} came", received.message_type());
        }
        let read = timeout(Duration::from_millis(ms), self.stream.read_buf(&mut self.bytes)).await;
        assert!(read.is_err(), "bytes came: {read:?}");
    }

    pub async fn send<'a, M: Message<'a>>(&mut self, id: u64, message: &M) {
        let mut bytes = Vec::new();
        encode(message, id, 0, Flags::NONE, &mut bytes);
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// Acknowledges a submit; the catalog version tells the answers apart.
    pub async fn accept_submit(&mut self, id: u64, catalog_version: u64) {
        self.send(id, &response(1, catalog_version)).await;
    }
}

pub fn response(outcome: u8, catalog_version: u64) -> Response<'static> {
    Response { outcome, message_id: Uuid::from_u128(7), catalog_version, ..Response::default() }
}

/// Waits for something in a test, but not for ever.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it happens soon")
}
