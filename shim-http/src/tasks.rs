//! `/api/v1/tasks`: list, look at, ask why.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use distric_model::TaskId;
use distric_sdk::Query;
use distric_wire::client::QueryKind;

use crate::Shim;
use crate::node::{ask, ask_page};
use crate::params::{self, Params};
use crate::problem::Problem;

/// `GET /api/v1/tasks`.
pub(crate) async fn list(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let params = Params::read(&uri, &["status", "limit", "cursor"])?;
    ask_page(&shim, &headers, &params, Query::new(QueryKind::Tasks)).await
}

/// `GET /api/v1/tasks/{id}`.
pub(crate) async fn show(State(shim): State<Arc<Shim>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    Params::read(&uri, &[])?;
    ask(&shim, &headers, Query::new(QueryKind::Task).id(params::id(&id, TaskId::uuid)?)).await
}

/// `GET /api/v1/tasks/{id}/why`: why it runs where it runs, or does not run.
pub(crate) async fn why(State(shim): State<Arc<Shim>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    Params::read(&uri, &[])?;
    ask(&shim, &headers, Query::new(QueryKind::WhyTask).id(params::id(&id, TaskId::uuid)?)).await
}
