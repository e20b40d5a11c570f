//! `/api/v1/rules`, `/api/v1/workflow-definitions`, `/api/v1/catalog`: what the cluster does with messages.
//!
//! Every change makes a new catalog version, which is the `ETag` of the answer; `If-Match` refuses a change of another one.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use distric_sdk::Query;
use distric_wire::Code;
use distric_wire::client::{CommandKind, QueryKind};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::Shim;
use crate::body::{self, JSON, YAML};
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
    let params = Params::read(&uri, &["dry_run"])?;
    let mut command = command(CommandKind::ApplyCatalog, &headers, &params)?;
    let (bytes, _) = read_document(&shim, &headers, body, &[JSON]).await?;
    command.body = Some(sources(body::check_utf8(&bytes)?)?);
    command.content_type = Some(JSON.to_owned());
    Ok(respond(StatusCode::OK, shim.client.command(command).await?))
}

/// The body of `POST /api/v1/catalog`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sets<'a> {
    #[serde(borrow)]
    rules: Option<&'a RawValue>,
    #[serde(borrow)]
    workflows: Option<&'a RawValue>,
}

/// A document as the node takes it: its text, and what to call it in problems.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    name: Option<String>,
    text: String,
}

/// Both sets as named texts. Each may come as text (YAML or JSON), as `{"name", "text"}`, or as the document itself.
fn sources(text: &str) -> Result<Bytes, Problem> {
    let sets: Sets<'_> = serde_json::from_str(text).map_err(|error| body::bad_json(text, &error))?;
    if sets.rules.is_none() && sets.workflows.is_none() {
        return Err(Problem::new(Code::BadPayload, "the body has neither `rules` nor `workflows`"));
    }
    let document = json!({"rules": source(sets.rules, "rules"), "workflows": source(sets.workflows, "workflows")});
    Ok(Bytes::from(document.to_string()))
}

/// A set as a named text, however it was given.
pub(crate) fn source(set: Option<&RawValue>, name: &str) -> Option<Source> {
    let set = set?;
    let named = serde_json::from_str::<Source>(set.get()).ok();
    let text = || serde_json::from_str::<String>(set.get()).unwrap_or_else(|_| set.get().to_owned());
    let source = named.unwrap_or_else(|| Source { name: None, text: text() });
    Some(Source { name: source.name.or_else(|| Some(name.to_owned())), ..source })
}

/// `GET /api/v1/catalog`: everything as it can be applied again, now or at `?version=`. In pages.
pub(crate) async fn export(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Answer {
    let params = Params::read(&uri, &["version", "cursor"])?;
    let mut query = Query::new(QueryKind::CatalogExport);
    query.version = version(&params)?;
    ask_page(&shim, &headers, &params, query).await
}

/// `GET /api/v1/catalog/statistics`: how often rules matched on this node.
pub(crate) async fn statistics(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Answer {
    Params::read(&uri, &[])?;
    ask(&shim, &headers, Query::new(QueryKind::RuleStatistics)).await
}

/// `POST /api/v1/catalog/rollback?version=N`.
pub(crate) async fn rollback(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Answer {
    let params = Params::read(&uri, &["version", "dry_run"])?;
    let mut command = command(CommandKind::RollbackCatalog, &headers, &params)?;
    command.version = Some(version(&params)?.ok_or_else(|| Problem::argument("version", "say which version to go back to"))?);
    Ok(respond(StatusCode::OK, shim.client.command(command).await?))
}

/// `POST /api/v1/rules/{id}/enable`.
pub(crate) async fn enable_rule(State(shim): State<Arc<Shim>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Answer {
    change(&shim, CommandKind::EnableRule, Some(&id), &uri, &headers, None, StatusCode::OK).await
}

/// `POST /api/v1/rules/{id}/disable`: it stays, and takes no part.
pub(crate) async fn disable_rule(State(shim): State<Arc<Shim>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Answer {
    change(&shim, CommandKind::DisableRule, Some(&id), &uri, &headers, None, StatusCode::OK).await
}

/// The parameter `version`. Errors: 400.
pub(crate) fn version(params: &Params) -> Result<Option<u64>, Problem> {
    let number = |text: &str| text.parse().map_err(|_| Problem::argument("version", "must be a version of the catalog, such as 7"));
    params.text("version")?.map(number).transpose()
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn read(text: &str) -> Result<Value, String> {
        sources(text).map(|bytes| serde_json::from_slice(&bytes).unwrap()).map_err(|problem| problem.detail)
    }

    #[test]
    fn a_set_is_text_or_named_text_or_the_document_itself() {
        let rules = |name: &str, text: &str| json!({"rules": {"name": name, "text": text}, "workflows": null});
        assert_eq!(read(r#"{"rules": "rules: []\n"}"#).unwrap(), rules("rules", "rules: []\n"));
        assert_eq!(read(r#"{"rules": {"name": "a.yaml", "text": "rules: []"}}"#).unwrap(), rules("a.yaml", "rules: []"));
        assert_eq!(read(r#"{"rules": {"rules": [ ]}}"#).unwrap(), rules("rules", r#"{"rules": [ ]}"#));
        assert_eq!(read(r#"{"rules": [{"id": "a"}], "workflows": null}"#).unwrap(), rules("rules", r#"[{"id": "a"}]"#));
    }

    #[test]
    fn a_body_without_sets_or_with_others_is_refused() {
        assert!(read("{}").unwrap_err().contains("neither"));
        assert!(read(r#"{"rule": []}"#).unwrap_err().contains("rule"));
    }
}
