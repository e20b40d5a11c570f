//! REST over the SDK: every request becomes one message, query or command on the binary protocol.
//!
//! In: HTTP/1.1 requests on a listener that somebody else bound.  Out: calls of [`distric_sdk::Client`], and their answers as JSON.
//! May touch: `sdk`, `wire` (names of codes and kinds), `model`, sockets of its own listener.  Never: the node's memory.
//! Lives on: a tokio runtime on a housekeeping core.
//! Invariant: every error is a problem document (RFC 9457) with a stable `code` and a `request_id`.
//! Invariant: what a client may make this hold (connections, requests, bytes, seconds) has a named maximum in [`ShimLimits`].
//! The routes and their bodies are described for users in `docs/http-api.md`. Start reading at [`router`].

mod batch;
mod body;
mod catalog;
mod cluster;
mod edge;
mod envelope;
mod health;
mod incidents;
mod limits;
mod messages;
mod node;
mod params;
pub mod problem;
mod serve;
mod tasks;
mod times;
mod trial;
mod workflows;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use tokio::sync::Semaphore;

pub use limits::ShimLimits;
pub use serve::serve;

/// What the shim needs from its surroundings. Cheap to clone.
#[derive(Clone)]
pub struct ShimState {
    /// The connection to the node.
    pub client: distric_sdk::Client,
    /// Renders the metrics of this process, in the text format of Prometheus or OpenMetrics.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// The version that `/health/live` reports.
    pub version: &'static str,
    /// What clients may ask of the shim.
    pub limits: ShimLimits,
}

impl fmt::Debug for ShimState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShimState").field("version", &self.version).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What the handlers share.
pub(crate) struct Shim {
    pub(crate) client: distric_sdk::Client,
    pub(crate) metrics: Arc<dyn Fn() -> String + Send + Sync>,
    pub(crate) version: &'static str,
    pub(crate) limits: ShimLimits,
    /// One permit per request being handled.
    pub(crate) requests: Semaphore,
}

/// All routes, with limits, request ids and problem documents around them.
pub fn router(state: ShimState) -> Router {
    let ShimState { client, metrics, version, limits } = state;
    let requests = Semaphore::new(limits.requests_in_flight_max);
    let shim = Arc::new(Shim { client, metrics, version, limits, requests });
    Router::new()
        .route("/api/v1/messages", post(messages::submit))
        .route("/api/v1/messages:batch", post(batch::submit))
        .route("/api/v1/messages/{id}", get(messages::show))
        .route("/api/v1/workflows", get(workflows::list).post(workflows::start))
        .route("/api/v1/workflows/{id}", get(workflows::show))
        .route("/api/v1/workflows/{id}/cancel", post(workflows::cancel))
        .route("/api/v1/workflows/{id}/pause", post(workflows::pause))
        .route("/api/v1/workflows/{id}/resume", post(workflows::resume))
        .route("/api/v1/workflows/{id}/retry", post(workflows::retry))
        .route("/api/v1/workflows/{id}/signals/{name}", post(workflows::signal_instance))
        .route("/api/v1/signals/{name}", post(workflows::signal))
        .route("/api/v1/tasks", get(tasks::list))
        .route("/api/v1/tasks/{id}", get(tasks::show))
        .route("/api/v1/tasks/{id}/why", get(tasks::why))
        .route("/api/v1/workflows/{id}/why", get(workflows::why))
        .route("/api/v1/incidents", get(incidents::list))
        .route("/api/v1/incidents:resolve", post(incidents::resolve_found))
        .route("/api/v1/incidents/{id}", get(incidents::show))
        .route("/api/v1/incidents/{id}/resolve", post(incidents::resolve))
        .route("/api/v1/schedules", get(incidents::schedules))
        .route("/api/v1/rules", get(catalog::list_rules).post(catalog::create_rule))
        .route("/api/v1/rules/{id}", get(catalog::show_rule).put(catalog::put_rule).delete(catalog::delete_rule))
        .route("/api/v1/workflow-definitions", get(catalog::list_definitions).post(catalog::create_definition))
        .route(
            "/api/v1/workflow-definitions/{id}",
            get(catalog::show_definition).put(catalog::put_definition).delete(catalog::delete_definition),
        )
        .route("/api/v1/rules/{id}/enable", post(catalog::enable_rule))
        .route("/api/v1/rules/{id}/disable", post(catalog::disable_rule))
        .route("/api/v1/catalog", get(catalog::export).post(catalog::apply))
        .route("/api/v1/catalog/statistics", get(catalog::statistics))
        .route("/api/v1/catalog/rollback", post(catalog::rollback))
        .route("/api/v1/catalog/history", get(catalog::history))
        .route("/api/v1/trial", get(trial::show).put(trial::set_share).delete(trial::end))
        .route("/api/v1/trial/samples", get(trial::samples))
        .route("/api/v1/trial/promote", post(trial::promote))
        .route("/api/v1/trial/{mode}", post(trial::start))
        .route("/api/v1/cluster/status", get(cluster::status))
        .route("/api/v1/cluster/nodes", get(cluster::nodes))
        .route("/api/v1/workers", get(cluster::workers))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(edge::no_route)
        .method_not_allowed_fallback(edge::no_method)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&shim), edge::around))
        .with_state(shim)
}
