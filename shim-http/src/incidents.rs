//! `/api/v1/incidents`: instances that failed: list, look at, resolve; `/api/v1/schedules`: what starts by itself.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use distric_model::InstanceId;
use distric_sdk::Query;
use distric_wire::client::QueryKind;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::Shim;
use crate::node::{ask, ask_page, respond_json};
use crate::params::{self, Params};
use crate::problem::{Document, Problem};
use crate::workflows;

/// Incidents that one request resolves when it does not say.
const RESOLVED_DEFAULT: u32 = 100;

/// `GET /api/v1/incidents`.
pub(crate) async fn list(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let params = Params::read(&uri, &["workflow", "rule", "message", "key", "code", "task", "from", "until", "limit", "cursor"])?;
    ask_page(&shim, &headers, &params, incidents_of(&params)?).await
}

/// The incidents that a request's parameters describe. Errors: 400.
fn incidents_of(params: &Params) -> Result<Query, Problem> {
    let mut query = Query::new(QueryKind::Incidents);
    query.name = params.text("workflow")?.map(params::name).transpose()?.map(str::to_owned);
    query.filter = params::filter(params)?;
    Ok(query)
}

/// `GET /api/v1/incidents/{id}`, by the id of the instance.
pub(crate) async fn show(State(shim): State<Arc<Shim>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    Params::read(&uri, &[])?;
    ask(&shim, &headers, Query::new(QueryKind::Incident).id(params::id(&id, InstanceId::uuid)?)).await
}

/// `POST /api/v1/incidents/{id}/resolve`: the retry of its instance.
pub(crate) async fn resolve(
    State(shim): State<Arc<Shim>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    workflows::retry(State(shim), Path(id), uri, headers, body).await
}

/// The body of an answer about many.
#[derive(Serialize)]
struct Resolved<'a> {
    /// Nothing was changed.
    dry_run: bool,
    retried: usize,
    refused: usize,
    items: Vec<Item<'a>>,
    /// Where the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// What became of one incident, in the order of their instances.
#[derive(Serialize)]
struct Item<'a> {
    instance: Uuid,
    workflow: &'a Value,
    task: &'a Value,
    error: &'a Value,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Document<'a>>,
}

/// `POST /api/v1/incidents:resolve`: the retry of all on one page of what the parameters find; with `?dry_run=true` only which these are.
pub(crate) async fn resolve_found(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    const SELECTING: &str = "workflow, rule, message, key, code, task, from or until";
    let known = ["workflow", "rule", "message", "key", "code", "task", "from", "until", "limit", "cursor", "dry_run"];
    let params = Params::read(&uri, &known)?;
    let mut command = workflows::retry_command(&shim, &headers, &params, body).await?;
    let dry_run = std::mem::take(&mut command.dry_run);
    // One key would make all of them one. A request that is sent again finds only what is still open.
    command.idempotency_key = None;
    let mut query = incidents_of(&params)?;
    if query.name.is_none() && query.filter.is_none() {
        return Err(Problem::argument("workflow", format!("nothing says which incidents are meant: give at least one of {SELECTING}")));
    }
    query.namespace = params::namespace(&headers)?;
    query.limit = Some(params.limit()?.unwrap_or(RESOLVED_DEFAULT));
    query.cursor = params.text("cursor")?.map(str::to_owned);
    // All of the page are found before the first is retried: one that fails again is not found twice.
    let page = shim.client.query(query).await?;
    let document: Value = serde_json::from_slice(&page.body).unwrap_or_default();
    let rows = document.as_array().or_else(|| document["items"].as_array()).map_or(&[][..], Vec::as_slice);
    let found: Vec<(Uuid, &Value)> = rows.iter().filter_map(|row| Some((row["instance"].as_str()?.parse().ok()?, row))).collect();
    let mut outcomes: Vec<Option<Problem>> = Vec::with_capacity(found.len());
    for (id, _) in &found {
        let refusal = if dry_run { None } else { shim.client.command(command.clone().id(*id)).await.err().map(Problem::from) };
        outcomes.push(refusal);
    }
    let refused = outcomes.iter().flatten().count();
    let items = found.iter().zip(&outcomes).map(|((id, row), problem)| Item {
        instance: *id,
        workflow: &row["workflow"],
        task: &row["task"],
        error: &row["error"],
        outcome: match problem {
            _ if dry_run => "would_retry",
            None => "retried",
            Some(_) => "refused",
        },
        problem: problem.as_ref().map(|problem| problem.document(None, None)),
    });
    let items: Vec<Item<'_>> = items.collect();
    let retried = if dry_run { 0 } else { items.len() - refused };
    Ok(respond_json(StatusCode::OK, &Resolved { dry_run, retried, refused, items, next_cursor: page.next_cursor }))
}

/// `GET /api/v1/schedules`.
pub(crate) async fn schedules(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    Params::read(&uri, &[])?;
    ask(&shim, &headers, Query::new(QueryKind::Schedules)).await
}
