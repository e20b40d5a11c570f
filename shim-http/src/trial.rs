//! `/api/v1/trial`: a candidate beside the catalog, as a shadow that judges or a canary that decides for a share of the messages.
//!
//! One candidate at a time is on trial in a cluster. Shares are in percent here and in hundredths of a percent at the node.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use distric_sdk::Query;
use distric_wire::Code;
use distric_wire::client::{CommandKind, QueryKind};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::Shim;
use crate::body::{self, JSON};
use crate::catalog::{source, version};
use crate::node::{ask, command, read_document, respond};
use crate::params::Params;
use crate::problem::Problem;

type Answer = Result<Response, Problem>;

/// `GET /api/v1/trial`: the candidate, and what this node counted about both.
pub(crate) async fn show(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Answer {
    Params::read(&uri, &[])?;
    ask(&shim, &headers, Query::new(QueryKind::Trial)).await
}

/// `GET /api/v1/trial/samples`: messages about which this node's catalog and a shadow differ.
pub(crate) async fn samples(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Answer {
    Params::read(&uri, &[])?;
    ask(&shim, &headers, Query::new(QueryKind::TrialSamples)).await
}

/// `POST /api/v1/trial/{mode}`: puts the candidate in the body beside the catalog; `shadow` or `canary`.
pub(crate) async fn start(State(shim): State<Arc<Shim>>, Path(mode): Path<String>, uri: Uri, headers: HeaderMap, body: Body) -> Answer {
    let kind = match mode.as_str() {
        "shadow" => CommandKind::StartShadow,
        "canary" => CommandKind::StartCanary,
        _ => return Err(Problem::argument("mode", "a trial is a `shadow` or a `canary`")),
    };
    let params = Params::read(&uri, &["dry_run"])?;
    let mut command = command(kind, &headers, &params)?;
    let (bytes, _) = read_document(&shim, &headers, body, &[JSON]).await?;
    command.body = Some(candidate(body::check_utf8(&bytes)?, kind)?);
    let status = if command.dry_run { StatusCode::OK } else { StatusCode::CREATED };
    Ok(respond(status, shim.client.command(command).await?))
}

/// `PUT /api/v1/trial`: another share for the candidate.
pub(crate) async fn set_share(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap, body: Body) -> Answer {
    let params = Params::read(&uri, &["version", "dry_run"])?;
    let mut command = command(CommandKind::SetTrial, &headers, &params)?;
    command.version = version(&params)?;
    let (bytes, _) = read_document(&shim, &headers, body, &[JSON]).await?;
    command.body = Some(new_share(body::check_utf8(&bytes)?)?);
    Ok(respond(StatusCode::OK, shim.client.command(command).await?))
}

/// `POST /api/v1/trial/promote`: makes the candidate the catalog.
pub(crate) async fn promote(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Answer {
    act(&shim, CommandKind::PromoteTrial, &uri, &headers).await
}

/// `DELETE /api/v1/trial`: takes the candidate away.
pub(crate) async fn end(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap) -> Answer {
    act(&shim, CommandKind::EndTrial, &uri, &headers).await
}

async fn act(shim: &Shim, kind: CommandKind, uri: &Uri, headers: &HeaderMap) -> Answer {
    let params = Params::read(uri, &["version", "dry_run"])?;
    let mut command = command(kind, headers, &params)?;
    command.version = version(&params)?;
    Ok(respond(StatusCode::OK, shim.client.command(command).await?))
}

/// The body that starts a trial.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Candidate<'a> {
    #[serde(borrow)]
    rules: Option<&'a RawValue>,
    percent: Option<f64>,
}

/// The body that changes its share.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Share {
    percent: f64,
}

/// A candidate as the node takes it. A canary without a share is refused: it would decide about everything.
fn candidate(text: &str, kind: CommandKind) -> Result<Bytes, Problem> {
    let given: Candidate<'_> = serde_json::from_str(text).map_err(|error| body::bad_json(text, &error))?;
    let Some(rules) = source(given.rules, "candidate") else {
        return Err(Problem::new(Code::BadPayload, "the body has no `rules`"));
    };
    let share = match given.percent {
        Some(percent) => hundredths(percent)?,
        None if kind == CommandKind::StartShadow => hundredths(100.0)?,
        None => return Err(Problem::argument("percent", "say for which share of the messages the canary decides, 0.01 to 100")),
    };
    Ok(Bytes::from(json!({ "rules": rules, "share": share }).to_string()))
}

fn new_share(text: &str) -> Result<Bytes, Problem> {
    let given: Share = serde_json::from_str(text).map_err(|error| body::bad_json(text, &error))?;
    Ok(Bytes::from(json!({ "share": hundredths(given.percent)? }).to_string()))
}

/// A share in percent as the node counts it.
fn hundredths(percent: f64) -> Result<u32, Problem> {
    let hundredths = (percent * 100.0).round();
    if (1.0..=10_000.0).contains(&hundredths) {
        return Ok(hundredths as u32);
    }
    Err(Problem::argument("percent", format!("{percent} is not between 0.01 and 100")))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn read(text: &str, kind: CommandKind) -> Result<Value, String> {
        candidate(text, kind).map(|bytes| serde_json::from_slice(&bytes).unwrap()).map_err(|problem| problem.detail)
    }

    #[test]
    fn a_candidate_is_rules_and_a_share() {
        let expected = |share: u32| json!({ "rules": { "name": "candidate", "text": "rules: []" }, "share": share });
        assert_eq!(read(r#"{"rules": "rules: []"}"#, CommandKind::StartShadow), Ok(expected(10_000)));
        assert_eq!(read(r#"{"rules": "rules: []", "percent": 2.5}"#, CommandKind::StartCanary), Ok(expected(250)));
        let named = read(r#"{"rules": {"name": "c.yaml", "text": "rules: []"}, "percent": 100}"#, CommandKind::StartCanary).unwrap();
        assert_eq!(named["rules"]["name"], "c.yaml");
        for (text, part) in [
            (r#"{"rules": "rules: []"}"#, "which share"),
            (r#"{"rules": "rules: []", "percent": 0}"#, "between"),
            (r#"{"rules": "rules: []", "percent": 100.01}"#, "between"),
            (r#"{"percent": 5}"#, "no `rules`"),
            (r#"{"rules": "rules: []", "share": 5}"#, "share"),
        ] {
            let detail = read(text, CommandKind::StartCanary).unwrap_err();
            assert!(detail.contains(part), "{text}: {detail}");
        }
    }

    #[test]
    fn a_share_is_a_percentage() {
        assert_eq!(new_share(r#"{"percent": 0.01}"#).unwrap(), r#"{"share":1}"#);
        assert!(new_share(r#"{"percent": -1}"#).is_err());
        assert!(new_share("{}").is_err());
    }
}
