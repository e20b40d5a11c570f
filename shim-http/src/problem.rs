//! Problem documents (RFC 9457): the one form of every error, and the one table from codes to statuses.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use distric_sdk::{Error, Rejection};
use distric_wire::Code;
use serde::Serialize;

/// The media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// Start of the `type` of a problem; the rest is its code.
const TYPE_PREFIX: &str = "urn:distric:problem:";

/// The status of each code that a node may refuse with.
pub const fn status_of(code: Code) -> StatusCode {
    match code {
        // The frame was the shim's own: neither the caller nor the node can help it.
        Code::BadFrame | Code::BadMessage | Code::UnsupportedVersion | Code::NotHello => StatusCode::BAD_GATEWAY,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::BadPayload | Code::BadArgument => StatusCode::BAD_REQUEST,
        Code::SchemaViolation | Code::BadCatalog | Code::UnknownWorkflow => StatusCode::UNPROCESSABLE_ENTITY,
        // As the IETF draft on the Idempotency-Key header asks for a key that comes back with another payload.
        Code::IdempotencyConflict => StatusCode::UNPROCESSABLE_ENTITY,
        Code::UnknownKind => StatusCode::NOT_IMPLEMENTED,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Conflict => StatusCode::CONFLICT,
        Code::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        Code::OutcomeUnknown => StatusCode::GATEWAY_TIMEOUT,
        // The shim's connection is shared by all its callers: its credit is no caller's rate.
        Code::TooManyInFlight | Code::Overloaded | Code::WrongLeader | Code::Unavailable | Code::Draining | Code::DedupeFull => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// One detail of a problem: where, and which limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Detail {
    /// What is wrong there.
    pub message: String,
    /// The member, parameter or header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Line in the body, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in the body, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// Byte of the body, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<usize>,
    /// The limit that was hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
}

/// A named maximum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: u64,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status of the answer.
    pub status: StatusCode,
    /// The stable code, in snake_case.
    pub code: String,
    /// What happened, in words.
    pub detail: String,
    /// Where, as far as it is known.
    pub errors: Vec<Detail>,
    /// When another try may help, milliseconds from now.
    pub retry_after_ms: Option<u64>,
}

impl Problem {
    /// A problem with the status and name of a code of the protocol.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self::with_status(status_of(code), code.name(), detail)
    }

    /// A problem that only HTTP knows.
    pub fn with_status(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), detail: detail.into(), errors: Vec::new(), retry_after_ms: None }
    }

    /// A mistake in one parameter, header or member.
    pub fn argument(field: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(Code::BadArgument, format!("{field}: {message}")).and(Detail {
            message,
            field: Some(field.to_owned()),
            ..Detail::default()
        })
    }

    /// Something beyond a limit, counted in `unit`.
    pub fn too_large(what: &str, name: &str, value: usize, unit: &str) -> Self {
        let message = format!("{what} exceeds the limit of {value} {unit}");
        let limit = Some(Limit { name: name.to_owned(), value: value as u64 });
        Self::new(Code::TooLarge, message.clone()).and(Detail { message, limit, ..Detail::default() })
    }

    /// Adds a detail.
    pub fn and(mut self, detail: Detail) -> Self {
        self.errors.push(detail);
        self
    }

    /// Says when another try may help.
    pub fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// The document, with the members that only the edge knows.
    pub(crate) fn document(&self, instance: Option<&str>, request_id: Option<&str>) -> Document<'_> {
        Document {
            r#type: format!("{TYPE_PREFIX}{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: &self.code,
            instance: instance.map(str::to_owned),
            request_id: request_id.map(str::to_owned),
            retry_after_ms: self.retry_after_ms,
            errors: &self.errors,
        }
    }

    /// The whole answer.
    pub(crate) fn render(&self, instance: &str, request_id: &str) -> Response {
        let document = serde_json::to_vec(&self.document(Some(instance), Some(request_id))).unwrap_or_default();
        let mut response = Response::new(Body::from(document));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(ms) = self.retry_after_ms {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
        }
        response
    }
}

/// The members of RFC 9457, section 3.1, and our own.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Detail],
}

/// The edge writes the document, since it knows the request's id and path: here the problem only travels.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<&Rejection> for Problem {
    fn from(rejection: &Rejection) -> Self {
        let mut problem = Self::new(rejection.code, rejection.reason.as_str());
        // A newer node may know more codes; its name says more than `internal`.
        if !rejection.name.is_empty() {
            problem.code.clone_from(&rejection.name);
        }
        problem.retry_after_ms = rejection.retry_after_ms;
        let limit = match (&rejection.limit_name, rejection.limit_value) {
            (Some(name), Some(value)) => Some(Limit { name: name.clone(), value }),
            _ => None,
        };
        if rejection.field.is_some() || rejection.line.is_some() || limit.is_some() {
            let (field, line, column) = (rejection.field.clone(), rejection.line, rejection.column);
            problem = problem.and(Detail { message: rejection.reason.clone(), field, line, column, offset: None, limit });
        }
        problem
    }
}

/// Time after which a caller may try again when the node cannot be reached, milliseconds. An election takes about as long.
const UNREACHABLE_RETRY_MS: u64 = 1_000;

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Rejected(rejection) => Self::from(&*rejection),
            Error::Connection(error) => {
                Self::new(Code::Unavailable, format!("the node cannot be reached: {error}")).retry_after_ms(UNREACHABLE_RETRY_MS)
            }
            error @ (Error::Timeout { .. } | Error::OutcomeUnknown) => {
                let detail = format!("{error}; it may have been done: send it again with the same Idempotency-Key");
                Self::new(Code::OutcomeUnknown, detail).retry_after_ms(UNREACHABLE_RETRY_MS)
            }
            Error::TooLarge { limit_name, limit_value, bytes } => {
                let message = format!("request of {bytes} bytes exceeds the limit of {limit_value} bytes");
                let limit = Some(Limit { name: limit_name.to_owned(), value: limit_value });
                Self::new(Code::TooLarge, message.clone()).and(Detail { message, limit, ..Detail::default() })
            }
            error @ Error::TooManySubscriptions { .. } => {
                Self::new(Code::TooManyInFlight, error.to_string()).retry_after_ms(UNREACHABLE_RETRY_MS)
            }
            error @ Error::Closed => Self::new(Code::Draining, error.to_string()).retry_after_ms(UNREACHABLE_RETRY_MS),
            Error::Protocol(error) => Self::new(Code::BadMessage, format!("the node's answer cannot be read: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of `docs/http-api.md`.
    const TABLE: [(Code, u16); 27] = [
        (Code::BadFrame, 502),
        (Code::BadMessage, 502),
        (Code::UnsupportedVersion, 502),
        (Code::NotHello, 502),
        (Code::Unauthenticated, 401),
        (Code::Forbidden, 403),
        (Code::TooLarge, 413),
        (Code::TooManyInFlight, 503),
        (Code::RateLimited, 429),
        (Code::Overloaded, 503),
        (Code::BadPayload, 400),
        (Code::SchemaViolation, 422),
        (Code::UnknownKind, 501),
        (Code::NotFound, 404),
        (Code::Conflict, 409),
        (Code::IdempotencyConflict, 422),
        (Code::PreconditionFailed, 412),
        (Code::WrongLeader, 503),
        (Code::OutcomeUnknown, 504),
        (Code::Unavailable, 503),
        (Code::Draining, 503),
        (Code::BadCatalog, 422),
        (Code::UnknownWorkflow, 422),
        (Code::DedupeFull, 503),
        (Code::StorageFull, 507),
        (Code::Internal, 500),
        (Code::BadArgument, 400),
    ];

    #[test]
    fn every_code_has_the_status_of_the_table() {
        assert_eq!(TABLE.len(), Code::ALL.len(), "a code is missing from the table");
        for &code in Code::ALL {
            let (_, status) = TABLE.iter().find(|(row, _)| *row == code).unwrap_or_else(|| panic!("{code} has no row"));
            assert_eq!(status_of(code).as_u16(), *status, "{code}");
        }
    }

    #[test]
    fn the_documentation_has_every_row_of_the_table() {
        let page = include_str!("../../docs/http-api.md");
        for (code, status) in TABLE {
            let row = format!("| `{code}` | {status} |");
            assert!(page.contains(&row), "docs/http-api.md lacks {row}");
        }
    }

    #[test]
    fn what_passes_never_gets_a_status_that_says_it_does_not() {
        for &code in Code::ALL.iter().filter(|code| code.is_transient()) {
            assert!(matches!(status_of(code).as_u16(), 429 | 503 | 504 | 507), "{code}");
        }
    }

    #[test]
    fn a_rejection_keeps_its_place_and_its_limit() {
        let rejection = Rejection {
            code: Code::TooLarge,
            name: "too_large".to_owned(),
            reason: "message of 9 bytes".to_owned(),
            limit_name: Some("message_bytes_max".to_owned()),
            limit_value: Some(8),
            retry_after_ms: Some(1_500),
            leader_address: None,
            field: Some("payload".to_owned()),
            line: Some(3),
            column: Some(4),
        };
        let problem = Problem::from(&rejection);
        let document = serde_json::to_value(problem.document(Some("/a"), Some("r"))).unwrap();
        assert_eq!(document["type"], "urn:distric:problem:too_large");
        assert_eq!((&document["status"], &document["instance"], &document["request_id"]), (&413.into(), &"/a".into(), &"r".into()));
        let detail = serde_json::json!({"message": "message of 9 bytes", "field": "payload", "line": 3, "column": 4,
            "limit": {"name": "message_bytes_max", "value": 8}});
        assert_eq!(document["errors"], serde_json::json!([detail]));
        assert_eq!(problem.render("/a", "r").headers()["retry-after"], "2", "whole seconds, rounded up");
    }
}
