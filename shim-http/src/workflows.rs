//! `/api/v1/workflows`: instances of workflows: list, look at, start, cancel, pause, resume, retry, signal; `/api/v1/signals`: signals by key.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use distric_model::InstanceId;
use distric_model::limits::{KEY_BYTES_MAX, NAME_BYTES_MAX};
use distric_sdk::{Command, Query};
use distric_wire::client::{CommandKind, QueryKind};
use serde::{Deserialize, Serialize};
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
    /// How long until it begins: a duration.
    delay: Option<serde_json::Value>,
    /// When it begins: RFC 3339.
    at: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelBody {
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryBody<'a> {
    from: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    version: Option<u64>,
    /// Other versions of the workflows that it calls; null for the latest.
    calls: Option<BTreeMap<String, Option<u64>>>,
    reason: Option<String>,
}

#[derive(Serialize)]
struct Retried<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<BTreeMap<String, Option<u64>>>,
}

/// `GET /api/v1/workflows`.
pub(crate) async fn list(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let params = Params::read(&uri, &["status", "workflow", "rule", "message", "key", "code", "from", "until", "limit", "cursor"])?;
    let mut query = Query::new(QueryKind::Instances);
    query.filter = params::filter(&params)?;
    query.name = params.text("workflow")?.map(params::name).transpose()?.map(str::to_owned);
    ask_page(&shim, &headers, &params, query).await
}

/// `GET /api/v1/workflows/{id}`.
pub(crate) async fn show(State(shim): State<Arc<Shim>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    Params::read(&uri, &[])?;
    ask(&shim, &headers, Query::new(QueryKind::Instance).id(params::id(&id, InstanceId::uuid)?)).await
}

/// `GET /api/v1/workflows/{id}/why`: why it is where it is: its keys, its open tasks.
pub(crate) async fn why(State(shim): State<Arc<Shim>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    Params::read(&uri, &[])?;
    ask(&shim, &headers, Query::new(QueryKind::WhyInstance).id(params::id(&id, InstanceId::uuid)?)).await
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
    command.delay_ms = start.delay.map(|delay| duration_ms(&delay)).transpose()?;
    command.start_at_us = start.at.map(|at| instant_us(&at)).transpose()?;
    command.name = Some(start.workflow);
    // The version that the start is for; without one the node takes the newest.
    command.if_match = start.version;
    command.body = Some(start.input.map_or(Bytes::from_static(b"{}"), |input| Bytes::copy_from_slice(input.get().as_bytes())));
    Ok(respond(StatusCode::ACCEPTED, shim.client.command(command).await?))
}

/// Seconds, or text such as `90s`. Errors: 400.
fn duration_ms(delay: &serde_json::Value) -> Result<u64, Problem> {
    let wrong = || Problem::argument("delay", "must be a duration: seconds, or text such as 250ms, 10s, 2m, 1h");
    let (number, unit_ms) = match delay {
        serde_json::Value::Number(number) => (number.as_f64().ok_or_else(wrong)?, 1_000.0),
        serde_json::Value::String(text) => {
            let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
            let unit_ms = match &text[digits..] {
                "ms" => 1.0,
                "s" => 1_000.0,
                "m" => 60_000.0,
                "h" => 3_600_000.0,
                "d" => 86_400_000.0,
                _ => return Err(wrong()),
            };
            (text[..digits].parse::<f64>().map_err(|_| wrong())?, unit_ms)
        }
        _ => return Err(wrong()),
    };
    if !(0.0..=1e15).contains(&(number * unit_ms)) { Err(wrong()) } else { Ok((number * unit_ms).round() as u64) }
}

fn instant_us(text: &str) -> Result<u64, Problem> {
    crate::times::parse_rfc3339(text).ok_or_else(|| Problem::argument("at", "must be an RFC 3339 instant such as 2030-01-31T12:00:00Z"))
}

/// `POST /api/v1/workflows/{id}/cancel`, with an optional `{"reason": "..."}`.
pub(crate) async fn cancel(
    State(shim): State<Arc<Shim>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    with_reason(&shim, CommandKind::CancelInstance, &id, &uri, &headers, body).await
}

/// `POST /api/v1/workflows/{id}/pause`, with an optional `{"reason": "..."}`.
pub(crate) async fn pause(
    State(shim): State<Arc<Shim>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    with_reason(&shim, CommandKind::PauseInstance, &id, &uri, &headers, body).await
}

/// `POST /api/v1/workflows/{id}/resume`, with an optional `{"reason": "..."}`.
pub(crate) async fn resume(
    State(shim): State<Arc<Shim>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    with_reason(&shim, CommandKind::ResumeInstance, &id, &uri, &headers, body).await
}

/// `POST /api/v1/workflows/{id}/retry`, with an optional `{"from", "input", "version", "calls", "reason"}`.
pub(crate) async fn retry(
    State(shim): State<Arc<Shim>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let params = Params::read(&uri, &[])?;
    let id = params::id(&id, InstanceId::uuid)?;
    let command = retry_command(&shim, &headers, &params, body).await?.id(id);
    Ok(respond(StatusCode::OK, shim.client.command(command).await?))
}

/// The retry that a request describes, without the instance. Errors: 400, 408, 413, 415.
pub(crate) async fn retry_command(shim: &Shim, headers: &HeaderMap, params: &Params, body: Body) -> Result<Command, Problem> {
    let mut command = command(CommandKind::RetryInstance, headers, params)?;
    let bytes = body::read(headers, body, document_limit(shim)).await?;
    if !bytes.is_empty() {
        body::media_type(headers, &[JSON])?;
        let text = body::check_utf8(&bytes)?;
        let RetryBody { from, input, version, calls, reason } = serde_json::from_str(text).map_err(|error| body::bad_json(text, &error))?;
        if let Some(reason) = reason {
            bounded("reason", &reason, TEXT_BYTES_MAX)?;
            command.reason = Some(reason);
        }
        command.if_match = version.or(command.if_match);
        let said = Retried { from, input, calls };
        command.body = Some(Bytes::from(serde_json::to_vec(&said).expect("text and parsed JSON can be written")));
    }
    Ok(command)
}

/// A command on one instance whose body says at most why.
async fn with_reason(shim: &Shim, kind: CommandKind, id: &str, uri: &Uri, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    let params = Params::read(uri, &["dry_run"])?;
    let mut command = command(kind, headers, &params)?;
    command.id = Some(params::id(id, InstanceId::uuid)?);
    let limit = body::BodyLimit { name: "cancel_bytes_max", bytes_max: 4 * TEXT_BYTES_MAX, timeout_ms: shim.limits.body_timeout_ms };
    let bytes = body::read(headers, body, limit).await?;
    if !bytes.is_empty() {
        body::media_type(headers, &[JSON])?;
        let text = body::check_utf8(&bytes)?;
        let CancelBody { reason } = serde_json::from_str(text).map_err(|error| body::bad_json(text, &error))?;
        if let Some(reason) = reason {
            bounded("reason", &reason, TEXT_BYTES_MAX)?;
            command.reason = Some(reason);
        }
    }
    Ok(respond(StatusCode::OK, shim.client.command(command).await?))
}

fn document_limit(shim: &Shim) -> body::BodyLimit {
    body::BodyLimit { name: "document_bytes_max", bytes_max: shim.limits.document_bytes_max, timeout_ms: shim.limits.body_timeout_ms }
}

/// `POST /api/v1/signals/{name}` with `{"key": "…", "payload": …, "ttl": "…"}`.
pub(crate) async fn signal(
    State(shim): State<Arc<Shim>>,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    send_signal(&shim, name, None, &uri, &headers, body).await
}

/// `POST /api/v1/workflows/{id}/signals/{name}` with an optional `{"payload": …, "ttl": "…"}`.
pub(crate) async fn signal_instance(
    State(shim): State<Arc<Shim>>,
    Path((id, name)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let id = params::id(&id, InstanceId::uuid)?;
    send_signal(&shim, name, Some(id), &uri, &headers, body).await
}

async fn send_signal(
    shim: &Shim,
    name: String,
    id: Option<uuid::Uuid>,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let params = Params::read(uri, &[])?;
    let mut command = command(CommandKind::Signal, headers, &params)?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Problem::argument("name", format!("must be 1 to {NAME_BYTES_MAX} bytes")));
    }
    command.name = Some(name);
    command.id = id;
    let bytes = body::read(headers, body, document_limit(shim)).await?;
    if !bytes.is_empty() {
        body::media_type(headers, &[JSON])?;
        body::check_utf8(&bytes)?;
        command.body = Some(bytes);
    }
    Ok(respond(StatusCode::ACCEPTED, shim.client.command(command).await?))
}
