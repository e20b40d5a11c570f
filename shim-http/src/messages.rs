//! `/api/v1/messages`: one message in, its outcome out; what became of it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header::LOCATION};
use axum::response::Response;
use distric_model::MessageId;
use distric_sdk::{Outcome, Query, Receipt};
use distric_wire::client::QueryKind;
use serde::Serialize;
use uuid::Uuid;

use crate::Shim;
use crate::body::{self, BodyLimit, JSON, MESSAGE_JSON, MSGPACK};
use crate::envelope::{self, Envelope};
use crate::node::{ask, respond_json};
use crate::params::{self, Params};
use crate::problem::Problem;

/// The body of a 202.
#[derive(Debug, Serialize)]
pub(crate) struct Accepted {
    message_id: Uuid,
    status: &'static str,
    workflows_triggered: Vec<String>,
    instances: Vec<Uuid>,
    catalog_version: u64,
}

impl From<Receipt> for Accepted {
    fn from(receipt: Receipt) -> Self {
        Self {
            message_id: receipt.message_id,
            // A message that matched nothing was accepted, with nothing to do: the empty list says so.
            status: if receipt.outcome == Outcome::Repeat { "repeat" } else { "accepted" },
            workflows_triggered: receipt.workflows,
            instances: receipt.instances,
            catalog_version: receipt.catalog_version,
        }
    }
}

/// `POST /api/v1/messages`.
pub(crate) async fn submit(State(shim): State<Arc<Shim>>, uri: Uri, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let params = Params::read(&uri, &["event_type"])?;
    let media_type = body::media_type(&headers, &[JSON, MESSAGE_JSON, MSGPACK])?;
    let around = envelope::from_headers(&headers, &params)?;
    let limits = &shim.limits;
    let limit = BodyLimit { name: "message_bytes_max", bytes_max: limits.message_bytes_max, timeout_ms: limits.body_timeout_ms };
    let bytes = body::read(&headers, body, limit).await?;
    let message = if media_type == MESSAGE_JSON {
        let text = body::check_utf8(&bytes)?;
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| body::bad_json(text, &error))?;
        envelope.into_submission(&around)?
    } else if media_type == MSGPACK {
        // The node reads it, and says at which byte it is wrong.
        distric_sdk::Submission { payload: bytes, content_type: Some(MSGPACK.to_owned()), ..around }
    } else {
        body::check_json(&bytes)?;
        distric_sdk::Submission { payload: bytes, ..around }
    };
    let accepted = Accepted::from(shim.client.submit(message).await?);
    let location = format!("/api/v1/messages/{}", accepted.message_id);
    let mut response = respond_json(StatusCode::ACCEPTED, &accepted);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// `GET /api/v1/messages/{id}`.
pub(crate) async fn show(State(shim): State<Arc<Shim>>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    Params::read(&uri, &[])?;
    ask(&shim, &headers, Query::new(QueryKind::Message).id(params::id(&id, MessageId::uuid)?)).await
}
