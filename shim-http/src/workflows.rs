//! `/api/v1/workflows`: instances of workflows: list, look at, start, cancel.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use distric_model::InstanceId;
use distric_model::limits::{KEY_BYTES_MAX, NAME_BYTES_MAX};
use distric_sdk::Query;
use distric_wire::client::{CommandKind, QueryKind};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Shim;
use crate::body::{self, JSON};
use crate::node::{ask, ask_page, command, read_document, respond};
use crate::params::{self, Params, TEXT_BYTES_MAX, bounded};
use crate::problem::Problem;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartBody<'a> {
    workflow: String,
    version: Option<u64>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    idempotency_key: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelBody {
    reason: Option<String>,
}

/// `GET /api/v1/workflows`.
pub(crate) async fn list(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let params = Params::read(&uri, &["status", "workflow", "limit", "cursor"])?;
    let mut query = Query::new(QueryKind::Instances);
    query.name = params.text("workflow")?.map(params::name).transpose()?.map(str::to_owned);
    ask_page(&shim, &headers, &params, query).await
}

/// `GET /api/v1/workflows/{id}`.
pub(crate) async fn show(State(shim): State<Arc<Shim>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    Params::read(&uri, &[])?;
    ask(&shim, &headers, Query::new(QueryKind::Instance).id(params::id(&id, InstanceId::uuid)?)).await
}

/// `POST /api/v1/workflows`: starts one without a rule.
pub(crate) async fn start(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let params = Params::read(&uri, &["dry_run"])?;
    let mut command = command(CommandKind::StartWorkflow, &headers, &params)?;
    let (bytes, _) = read_document(&shim, &headers, body, &[JSON]).await?;
    let text = body::check_utf8(&bytes)?;
    let start: StartBody<'_> = serde_json::from_str(text).map_err(|error| body::bad_json(text, &error))?;
    if !distric_model::namespace::is_identifier(&start.workflow, NAME_BYTES_MAX) {
        return Err(Problem::argument("workflow", format!("must be 1 to {NAME_BYTES_MAX} characters of A-Z a-z 0-9 . _ -")));
    }
    if let Some(key) = start.idempotency_key.filter(|key| !key.is_empty()) {
        bounded("idempotency_key", &key, KEY_BYTES_MAX)?;
        command.idempotency_key = Some(key);
    }
    command.name = Some(start.workflow);
    // The version that the start is for; without one the node takes the newest.
    command.if_match = start.version;
    command.body = Some(start.input.map_or(Bytes::from_static(b"{}"), |input| Bytes::copy_from_slice(input.get().as_bytes())));
    Ok(respond(StatusCode::ACCEPTED, shim.client.command(command).await?))
}

/// `POST /api/v1/workflows/{id}/cancel`, with an optional `{"reason": "..."}`.
pub(crate) async fn cancel(
    State(shim): State<Arc<Shim>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let params = Params::read(&uri, &["dry_run"])?;
    let mut command = command(CommandKind::CancelInstance, &headers, &params)?;
    command.id = Some(params::id(&id, InstanceId::uuid)?);
    let limit = body::BodyLimit { name: "cancel_bytes_max", bytes_max: 4 * TEXT_BYTES_MAX, timeout_ms: shim.limits.body_timeout_ms };
    let bytes = body::read(&headers, body, limit).await?;
    if !bytes.is_empty() {
        body::media_type(&headers, &[JSON])?;
        let text = body::check_utf8(&bytes)?;
        let CancelBody { reason } = serde_json::from_str(text).map_err(|error| body::bad_json(text, &error))?;
        if let Some(reason) = reason {
            bounded("reason", &reason, TEXT_BYTES_MAX)?;
            command.reason = Some(reason);
        }
    }
    Ok(respond(StatusCode::OK, shim.client.command(command).await?))
}
