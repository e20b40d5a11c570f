//! `/api/v1/incidents`: instances that failed: list, look at, resolve; `/api/v1/schedules`: what starts by itself.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use distric_model::InstanceId;
use distric_sdk::Query;
use distric_wire::client::QueryKind;

use crate::Shim;
use crate::node::{ask, ask_page};
use crate::params::{self, Params};
use crate::problem::Problem;
use crate::workflows;

/// `GET /api/v1/incidents`.
pub(crate) async fn list(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let params = Params::read(&uri, &["workflow", "rule", "message", "key", "code", "task", "from", "until", "limit", "cursor"])?;
    let mut query = Query::new(QueryKind::Incidents);
    query.name = params.text("workflow")?.map(params::name).transpose()?.map(str::to_owned);
    query.filter = params::filter(&params)?;
    ask_page(&shim, &headers, &params, query).await
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

/// `GET /api/v1/schedules`.
pub(crate) async fn schedules(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    Params::read(&uri, &[])?;
    ask(&shim, &headers, Query::new(QueryKind::Schedules)).await
}
