//! `/health/live`, `/health/ready`, `/metrics`: for whoever watches the node. Never refused for want of a permit.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use distric_sdk::{Query, Reply};
use distric_wire::client::QueryKind;
use serde_json::{Value, json};

use crate::Shim;
use crate::node::{respond, respond_json};

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS_TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /health/live`: this process answers.
pub(crate) async fn live(State(shim): State<Arc<Shim>>) -> Response {
    respond_json(StatusCode::OK, &json!({"status": "UP", "version": shim.version}))
}

/// `GET /health/ready`: the node's own checks; 503 unless it says UP or DEGRADED.
pub(crate) async fn ready(State(shim): State<Arc<Shim>>) -> Response {
    let patience = Duration::from_millis(shim.limits.health_timeout_ms);
    let reason = match tokio::time::timeout(patience, shim.client.query(Query::new(QueryKind::Health))).await {
        Ok(Ok(reply)) => return readiness(reply),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} ms", shim.limits.health_timeout_ms),
    };
    down(&reason)
}

fn readiness(reply: Reply) -> Response {
    let document: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    match document.get("status").and_then(Value::as_str) {
        Some("UP" | "DEGRADED") => respond(StatusCode::OK, reply),
        Some(_) => respond(StatusCode::SERVICE_UNAVAILABLE, reply),
        None => down("the node's health report has no status"),
    }
}

fn down(reason: &str) -> Response {
    let report = json!({"status": "DOWN", "checks": {"node": {"status": "DOWN", "reason": reason}}});
    respond_json(StatusCode::SERVICE_UNAVAILABLE, &report)
}

/// `GET /metrics`.
pub(crate) async fn metrics(State(shim): State<Arc<Shim>>) -> Response {
    let text = (shim.metrics)();
    // OpenMetrics ends with this mark, the older format must not have it: the text itself says which it is.
    let media_type = if text.trim_end().ends_with("# EOF") { OPENMETRICS_TEXT } else { PROMETHEUS_TEXT };
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
