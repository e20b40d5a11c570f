//! Around every request: its id, its place among those in flight, and the form of its errors.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use distric_wire::Code;

use crate::Shim;
use crate::problem::Problem;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken over from the caller, bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// When a caller may try again after the shim had its hands full, milliseconds.
const BUSY_RETRY_MS: u64 = 1_000;

/// Gives the request an id, a permit and, when it fails, a problem document.
pub(crate) async fn around(State(shim): State<Arc<Shim>>, request: Request, next: Next) -> Response {
    let request_id = request_id(request.headers());
    let instance = request.uri().path().to_owned();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let mut response = match shim.requests.try_acquire() {
        Ok(_) if is_of_another_site(&request) => foreign().into_response(),
        Ok(_permit) => next.run(request).await,
        // Whoever watches the node must see it best when it is busiest.
        Err(_) if is_watching(&instance) => next.run(request).await,
        Err(_) => busy(&shim).into_response(),
    };
    let problem = response.extensions_mut().remove::<Problem>().or_else(|| unexplained(&response));
    if let Some(problem) = problem {
        tracing::debug!(%method, route = route.as_deref().unwrap_or("none"), status = problem.status.as_u16(), code = problem.code,
            request_id, detail = problem.detail, "request refused");
        let allow = response.headers_mut().remove(ALLOW);
        response = problem.render(&instance, &request_id);
        // The router knows which methods the route has.
        response.headers_mut().extend(allow.map(|methods| (ALLOW, methods)));
    }
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(REQUEST_ID, value);
    }
    response
}

/// The answer to a path that no route has.
pub(crate) async fn no_route(request: Request) -> Problem {
    Problem::with_status(StatusCode::NOT_FOUND, "unknown_route", format!("there is no {}", request.uri().path()))
}

/// The answer to a method that a route does not have; the router adds `Allow`.
pub(crate) async fn no_method(request: Request) -> Problem {
    let detail = format!("{} is not possible on {}", request.method(), request.uri().path());
    Problem::with_status(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

fn is_watching(path: &str) -> bool {
    path.starts_with("/health/") || path == "/metrics"
}

/// Whether a browser sends this change for a page of another site. Such a page may post to any address that its visitor
/// can reach, this machine's included, without reading the answer; `Origin` is how the browser tells.
fn is_of_another_site(request: &Request) -> bool {
    let Some(origin) = request.headers().get(ORIGIN).filter(|_| !request.method().is_safe()) else {
        return false;
    };
    let site = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, site)| site);
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).or(request.uri().authority().map(|host| host.as_str()));
    site.is_none() || site != host
}

fn foreign() -> Problem {
    Problem::with_status(StatusCode::FORBIDDEN, "cross_origin", "changes are not taken from pages of other sites (Origin is not Host)")
}

fn busy(shim: &Shim) -> Problem {
    let max = shim.limits.requests_in_flight_max;
    Problem::new(Code::Overloaded, format!("{max} requests are being handled, which is the limit")).retry_after_ms(BUSY_RETRY_MS)
}

/// An error that some layer below made without a problem; none of ours does.
fn unexplained(response: &Response) -> Option<Problem> {
    let status = response.status();
    // 503 with a body of its own is how readiness says DOWN.
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|value| value == crate::body::JSON);
    let explained = is_json && status == StatusCode::SERVICE_UNAVAILABLE;
    if !(status.is_client_error() || status.is_server_error()) || explained {
        return None;
    }
    let code = if status.is_client_error() { Code::BadArgument } else { Code::Internal };
    let words = status.canonical_reason().unwrap_or("the request could not be handled");
    Some(Problem::with_status(status, code.name(), words))
}

/// The caller's id when it is short and printable, else a random one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).map(str::trim);
    match given {
        Some(id) if !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX => id.to_owned(),
        _ => {
            let mut bytes = [0; 16];
            // Without randomness an id is still better than none: it only names the request in logs.
            let _ = getrandom::fill(&mut bytes);
            uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
        }
    }
}
