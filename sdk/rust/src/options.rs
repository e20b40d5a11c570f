//! How a client or worker connects, waits and tries again.

use std::fmt;

use crate::backoff::BackoffOptions;

/// Most requests that may wait for the connection, by default; more callers wait in line.
pub const QUEUE_DEPTH_MAX: usize = 4_096;
/// Bytes of large requests (above [`LARGE_REQUEST_BYTES`]) that may wait or be in flight at once, for one connection.
pub const LARGE_REQUESTS_BYTES_MAX: usize = 64 << 20;
/// Requests up to this size are bounded by their number only: 4,096 of them are 64 MiB.
pub const LARGE_REQUEST_BYTES: usize = 16 << 10;
/// Most event streams open on one connection; never more than half of the server's credit.
pub const SUBSCRIPTIONS_MAX: usize = 1_024;
/// Most addresses of leaders that one client keeps connections to.
pub const LEADER_LINKS_MAX: usize = 8;

/// How to connect, and how patiently.
#[derive(Clone)]
pub struct ClientOptions {
    /// Where coordinators listen, `host:port`, tried in turn. At least one.
    pub addresses: Vec<String>,
    /// How this client names itself to the server.
    pub name: String,
    /// The API key, when the server wants one. Never printed.
    pub api_key: Option<String>,
    /// Namespace of requests that name none; `None` leaves it to the server (`default`).
    pub namespace: Option<String>,
    /// Longest wait for one answer, resends included, milliseconds.
    pub request_timeout_ms: u64,
    /// Longest wait for one connection and its welcome, milliseconds.
    pub connect_timeout_ms: u64,
    /// After this long without a byte from the server it is asked for a sign of life; after twice as long the
    /// connection is given up, milliseconds.
    pub keepalive_ms: u64,
    /// Most requests that wait for the connection; further callers wait in line.
    pub queue_depth_max: usize,
    /// Sending again after a lost connection or a refusal that passes.
    pub retry: RetryOptions,
}

/// When and how often a request is sent again.
#[derive(Clone, Debug)]
pub struct RetryOptions {
    /// Most times one request is sent, the first included.
    pub attempts_max: u32,
    /// Waits between attempts, and between attempts to connect. A server's `retry_after_ms` lengthens them.
    pub backoff: BackoffOptions,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self { attempts_max: 10, backoff: BackoffOptions::default() }
    }
}

impl ClientOptions {
    /// The defaults, for these addresses.
    pub fn new<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self { addresses: addresses.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Sets the name under which the server knows this client.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the namespace of requests that name none.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Sets the API key.
    pub fn api_key(mut self, api_key: impl Into<String>) -> Self {
        self.api_key = Some(api_key.into());
        self
    }

    /// Sets the longest wait for one answer, milliseconds.
    pub fn request_timeout_ms(mut self, ms: u64) -> Self {
        self.request_timeout_ms = ms;
        self
    }
}

impl Default for ClientOptions {
    /// One coordinator on this machine, 30 s for a request, 5 s for a connection.
    fn default() -> Self {
        Self {
            addresses: vec!["127.0.0.1:7400".to_owned()],
            name: "distric-sdk".to_owned(),
            api_key: None,
            namespace: None,
            request_timeout_ms: 30_000,
            connect_timeout_ms: 5_000,
            keepalive_ms: 5_000,
            queue_depth_max: QUEUE_DEPTH_MAX,
            retry: RetryOptions::default(),
        }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("addresses", &self.addresses)
            .field("name", &self.name)
            .field("api_key", &self.api_key.as_ref().map(|_| "(secret)"))
            .field("namespace", &self.namespace)
            .field("request_timeout_ms", &self.request_timeout_ms)
            .field("connect_timeout_ms", &self.connect_timeout_ms)
            .field("keepalive_ms", &self.keepalive_ms)
            .field("queue_depth_max", &self.queue_depth_max)
            .field("retry", &self.retry)
            .finish()
    }
}
