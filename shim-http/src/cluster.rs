//! `/api/v1/cluster`, `/api/v1/workers`: who is here and who leads.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use distric_sdk::Query;
use distric_wire::client::QueryKind;

use crate::Shim;
use crate::node::{ask, ask_page};
use crate::params::Params;
use crate::problem::Problem;

/// `GET /api/v1/cluster/status`.
pub(crate) async fn status(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    Params::read(&uri, &[])?;
    ask(&shim, &headers, Query::new(QueryKind::ClusterStatus)).await
}

/// `GET /api/v1/cluster/nodes`.
pub(crate) async fn nodes(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    Params::read(&uri, &[])?;
    ask(&shim, &headers, Query::new(QueryKind::Nodes)).await
}

/// `GET /api/v1/workers`.
pub(crate) async fn workers(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let params = Params::read(&uri, &["status", "limit", "cursor"])?;
    ask_page(&shim, &headers, &params, Query::new(QueryKind::Workers)).await
}
