//! `/api/v1/rules`, `/api/v1/workflow-definitions`, `/api/v1/catalog`: what the cluster does with messages.
//!
//! Every change makes a new catalog version, which is the `ETag` of the answer; `If-Match` refuses a change of another one.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use distric_sdk::Query;
use distric_wire::client::{CommandKind, QueryKind};

use crate::Shim;
use crate::body::{JSON, YAML};
use crate::node::{ask, ask_page, command, read_document, respond};
use crate::params::{self, Params};
use crate::problem::Problem;

type Answer = Result<Response, Problem>;

/// `GET /api/v1/rules`.
pub(crate) async fn list_rules(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Answer {
    list(&shim, QueryKind::Rules, &uri, &headers).await
}

/// `POST /api/v1/rules`: adds the rule in the body, or replaces the one with its id.
pub(crate) async fn create_rule(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap, body: Body) -> Answer {
    change(&shim, CommandKind::PutRule, None, &uri, &headers, Some(body), StatusCode::CREATED).await
}

/// `GET /api/v1/rules/{id}`.
pub(crate) async fn show_rule(State(shim): State<Arc<Shim>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Answer {
    show(&shim, QueryKind::Rule, &id, &uri, &headers).await
}

/// `PUT /api/v1/rules/{id}`.
pub(crate) async fn put_rule(State(shim): State<Arc<Shim>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap, body: Body) -> Answer {
    change(&shim, CommandKind::PutRule, Some(&id), &uri, &headers, Some(body), StatusCode::OK).await
}

/// `DELETE /api/v1/rules/{id}`.
pub(crate) async fn delete_rule(State(shim): State<Arc<Shim>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Answer {
    change(&shim, CommandKind::DeleteRule, Some(&id), &uri, &headers, None, StatusCode::OK).await
}

/// `GET /api/v1/workflow-definitions`.
pub(crate) async fn list_definitions(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Answer {
    list(&shim, QueryKind::WorkflowDefinitions, &uri, &headers).await
}

/// `POST /api/v1/workflow-definitions`: adds a version of the workflow in the body.
pub(crate) async fn create_definition(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap, body: Body) -> Answer {
    change(&shim, CommandKind::PutWorkflow, None, &uri, &headers, Some(body), StatusCode::CREATED).await
}

/// `GET /api/v1/workflow-definitions/{id}`.
pub(crate) async fn show_definition(State(shim): State<Arc<Shim>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Answer {
    show(&shim, QueryKind::WorkflowDefinition, &id, &uri, &headers).await
}

/// `PUT /api/v1/workflow-definitions/{id}`.
pub(crate) async fn put_definition(
    State(shim): State<Arc<Shim>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    change(&shim, CommandKind::PutWorkflow, Some(&id), &uri, &headers, Some(body), StatusCode::OK).await
}

/// `DELETE /api/v1/workflow-definitions/{id}`: running instances go on.
pub(crate) async fn delete_definition(State(shim): State<Arc<Shim>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Answer {
    change(&shim, CommandKind::DeleteWorkflow, Some(&id), &uri, &headers, None, StatusCode::OK).await
}

/// `POST /api/v1/catalog`: all rules and workflows at once, or nothing.
pub(crate) async fn apply(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap, body: Body) -> Answer {
    change(&shim, CommandKind::ApplyCatalog, None, &uri, &headers, Some(body), StatusCode::OK).await
}

/// `GET /api/v1/catalog/history`.
pub(crate) async fn history(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Answer {
    let params = Params::read(&uri, &["limit", "cursor"])?;
    ask_page(&shim, &headers, &params, Query::new(QueryKind::CatalogHistory)).await
}

async fn list(shim: &Shim, kind: QueryKind, uri: &Uri, headers: &HeaderMap) -> Answer {
    let params = Params::read(uri, &["limit", "cursor"])?;
    ask_page(shim, headers, &params, Query::new(kind)).await
}

async fn show(shim: &Shim, kind: QueryKind, id: &str, uri: &Uri, headers: &HeaderMap) -> Answer {
    Params::read(uri, &[])?;
    ask(shim, headers, Query::new(kind).name(params::name(id)?)).await
}

async fn change(
    shim: &Shim,
    kind: CommandKind,
    id: Option<&str>,
    uri: &Uri,
    headers: &HeaderMap,
    body: Option<Body>,
    done: StatusCode,
) -> Answer {
    let params = Params::read(uri, &["dry_run"])?;
    let mut command = command(kind, headers, &params)?;
    command.name = id.map(params::name).transpose()?.map(str::to_owned);
    if let Some(body) = body {
        let (document, media_type) = read_document(shim, headers, body, &[JSON, YAML]).await?;
        command.body = Some(document);
        command.content_type = Some(media_type.to_owned());
    }
    // A rehearsal made nothing.
    let done = if command.dry_run { StatusCode::OK } else { done };
    Ok(respond(done, shim.client.command(command).await?))
}
