//! The worker's two pools of outgoing connections.
//!
//! Built on first use: reading the system's certificates costs milliseconds and memory that a worker without
//! outgoing tasks should not pay. Proxy settings of the environment are ignored: what a task calls is what its
//! config says, on every worker alike.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::redirect::Policy;

use crate::TaskFailure;
use crate::failure::{self, Code};

/// Most redirects that an `http` task follows.
pub const REDIRECTS_MAX: usize = 5;
/// Time to reach a host, milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// Time an idle connection is kept, milliseconds. Below the usual 60 s of servers, so that they rarely close first.
const POOL_IDLE_MS: u64 = 30_000;
/// Most idle connections kept per host.
const POOL_IDLE_PER_HOST_MAX: usize = 32;

/// How outgoing requests introduce themselves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The `User-Agent` of requests that do not set their own.
    pub user_agent: String,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { user_agent: concat!("distric/", env!("CARGO_PKG_VERSION")).to_owned() }
    }
}

/// A client could not be built, not even without certificates.
#[derive(Clone, Debug, thiserror::Error)]
#[error("outgoing HTTP is not available on this worker: {reason}")]
pub struct ClientsError {
    /// The TLS or HTTP library's words.
    pub reason: String,
}

impl From<ClientsError> for TaskFailure {
    /// Retryable: another worker may do better.
    fn from(error: ClientsError) -> Self {
        failure::passing(Code::Internal, error.to_string(), None)
    }
}

/// Pools for `http` (follows redirects) and `webhook` (does not: a signed body is for the named host only).
/// Cheap to clone; clones share the pools.
#[derive(Clone, Debug, Default)]
pub struct Clients(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    options: ClientOptions,
    following: OnceLock<Result<reqwest::Client, ClientsError>>,
    direct: OnceLock<Result<reqwest::Client, ClientsError>>,
}

impl Clients {
    /// Pools that introduce themselves by `options`. Opens nothing yet.
    pub fn new(options: ClientOptions) -> Self {
        Self(Arc::new(Inner { options, ..Inner::default() }))
    }

    /// The client that follows up to [`REDIRECTS_MAX`] redirects. Errors: [`ClientsError`].
    pub fn following(&self) -> Result<&reqwest::Client, ClientsError> {
        let build = || build(&self.0.options, Policy::limited(REDIRECTS_MAX));
        self.0.following.get_or_init(build).as_ref().map_err(Clone::clone)
    }

    /// The client that follows no redirect. Errors: [`ClientsError`].
    pub fn direct(&self) -> Result<&reqwest::Client, ClientsError> {
        self.0.direct.get_or_init(|| build(&self.0.options, Policy::none())).as_ref().map_err(Clone::clone)
    }
}

fn build(options: &ClientOptions, redirects: Policy) -> Result<reqwest::Client, ClientsError> {
    let builder = || {
        reqwest::Client::builder()
            .no_proxy()
            .user_agent(options.user_agent.as_str())
            .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
            .pool_idle_timeout(Duration::from_millis(POOL_IDLE_MS))
            .pool_max_idle_per_host(POOL_IDLE_PER_HOST_MAX)
            .tcp_nodelay(true)
    };
    let error = |error: reqwest::Error| ClientsError { reason: crate::exchange::chain(&error) };
    match builder().redirect(redirects).build() {
        Ok(client) => Ok(client),
        // A host without a certificate bundle can still call `http:`; with no root to trust, `https:` fails per request.
        Err(missing) => {
            tracing::warn!(reason = %crate::exchange::chain(&missing), "no trusted certificates: tasks cannot call https");
            builder().redirect(Policy::none()).tls_certs_only([]).build().map_err(error)
        }
    }
}
