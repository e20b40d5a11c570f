//! What a request says beside its body: parameters, headers, ids in its path. Every mistake is named.

use std::str::FromStr;

use axum::extract::Query;
use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, Uri};
use distric_model::limits::{KEY_BYTES_MAX, NAME_BYTES_MAX, NAMESPACE_BYTES_MAX};
use distric_model::namespace::is_identifier;
use distric_wire::Code;
use uuid::Uuid;

use crate::problem::{Detail, Limit, Problem};

/// Most items on one page of a list.
pub(crate) const LIST_LIMIT_MAX: u32 = 1_000;
/// Longest free text in a header or parameter, bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 1_024;

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const NAMESPACE: HeaderName = HeaderName::from_static("x-distric-namespace");
pub(crate) const AUTHOR: HeaderName = HeaderName::from_static("x-distric-author");
pub(crate) const REASON: HeaderName = HeaderName::from_static("x-distric-reason");

/// The parameters of a request, all of which its route knows.
#[derive(Debug)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads the query string.
    ///
    /// Errors: 400 for a parameter that is not among `known` (a misspelt filter must not silently filter nothing), for one
    /// that is given twice, and for a query string that does not decode.
    pub(crate) fn read(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::new(Code::BadArgument, format!("the query string does not decode: {error}")))?;
        for (at, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() { "this route takes none".to_owned() } else { format!("known are {}", known.join(", ")) };
                return Err(Problem::argument(name, format!("unknown parameter; {known}")));
            }
            if pairs[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::argument(name, "given more than once"));
            }
        }
        Ok(Self(pairs))
    }

    /// A parameter's text; empty counts as absent. Errors: 400 when longer than [`TEXT_BYTES_MAX`].
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let Some((_, value)) = self.0.iter().find(|(key, value)| key == name && !value.is_empty()) else {
            return Ok(None);
        };
        bounded(name, value, TEXT_BYTES_MAX).map(Some)
    }

    /// The page size, 1 to [`LIST_LIMIT_MAX`]. Errors: 400.
    pub(crate) fn limit(&self) -> Result<Option<u32>, Problem> {
        let Some(text) = self.text("limit")? else {
            return Ok(None);
        };
        match text.parse() {
            Ok(limit) if (1..=LIST_LIMIT_MAX).contains(&limit) => Ok(Some(limit)),
            _ => Err(Problem::argument("limit", format!("must be a whole number from 1 to {LIST_LIMIT_MAX}"))),
        }
    }

    /// A truth value, false when absent. Errors: 400.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Problem::argument(name, "must be true or false")),
        }
    }
}

/// The text of a header, `None` when absent or empty.
///
/// Errors: 400 when it is not UTF-8, given twice with different values, or longer than `bytes_max`.
pub(crate) fn header(headers: &HeaderMap, name: &HeaderName, bytes_max: usize) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.any(|other| other != value) {
        return Err(Problem::argument(name.as_str(), "given more than once with different values"));
    }
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| Problem::argument(name.as_str(), "is not UTF-8"))?.trim();
    if text.is_empty() {
        return Ok(None);
    }
    bounded(name.as_str(), text, bytes_max).map(|text| Some(text.to_owned()))
}

/// The header `Idempotency-Key`. Errors: 400 when longer than [`KEY_BYTES_MAX`].
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    header(headers, &IDEMPOTENCY_KEY, KEY_BYTES_MAX)
}

/// The header `X-Distric-Namespace`. Errors: 400 when it is no namespace.
pub(crate) fn namespace(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(name) = header(headers, &NAMESPACE, TEXT_BYTES_MAX)? else {
        return Ok(None);
    };
    check_namespace(NAMESPACE.as_str(), &name)?;
    Ok(Some(name))
}

/// Errors: 400 when `name` is not the form of a namespace.
pub(crate) fn check_namespace(field: &str, name: &str) -> Result<(), Problem> {
    if is_identifier(name, NAMESPACE_BYTES_MAX) {
        Ok(())
    } else {
        Err(Problem::argument(field, format!("must be 1 to {NAMESPACE_BYTES_MAX} characters of A-Z a-z 0-9 . _ -")))
    }
}

/// The header `traceparent` (W3C Trace Context), ignored when malformed, as that standard asks.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?.trim();
    let is_hex = |part: &str, len| part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    let whole = parts.len() >= 4 && is_hex(parts[0], 2) && is_hex(parts[1], 32) && is_hex(parts[2], 16) && is_hex(parts[3], 2);
    (whole && text.len() <= TEXT_BYTES_MAX).then(|| text.to_owned())
}

/// The version in `If-Match`: `"7"`, `W/"7"` or `7`; `*` is no condition on the version. Errors: 400.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    match header(headers, &IF_MATCH, TEXT_BYTES_MAX)?.as_deref() {
        None | Some("*") => Ok(None),
        Some(text) => match version_of(text) {
            Some(version) => Ok(Some(version)),
            None => Err(Problem::argument("if-match", "must be one version, as an ETag of this server gives it, such as \"7\"")),
        },
    }
}

/// Whether `If-None-Match` names this version.
pub(crate) fn none_match_has(headers: &HeaderMap, version: u64) -> bool {
    let Some(text) = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    text.split(',').any(|tag| tag.trim() == "*" || version_of(tag) == Some(version))
}

fn version_of(tag: &str) -> Option<u64> {
    let tag = tag.trim();
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(tag).parse().ok()
}

/// An id from the path, checked by one of the model's id types. Errors: 400.
pub(crate) fn id<T: FromStr<Err = distric_model::IdError>>(text: &str, uuid: impl Fn(T) -> Uuid) -> Result<Uuid, Problem> {
    text.parse().map(uuid).map_err(|error| Problem::argument("id", error.to_string()))
}

/// A name from the path. Errors: 400 when it cannot be one.
pub(crate) fn name(text: &str) -> Result<&str, Problem> {
    if is_identifier(text, NAME_BYTES_MAX) {
        Ok(text)
    } else {
        Err(Problem::argument("id", format!("must be 1 to {NAME_BYTES_MAX} characters of A-Z a-z 0-9 . _ -")))
    }
}

/// Passes text on that is within its limit. Errors: 400, naming the limit.
pub(crate) fn bounded<'a>(field: &str, text: &'a str, bytes_max: usize) -> Result<&'a str, Problem> {
    if text.len() <= bytes_max {
        return Ok(text);
    }
    let message = format!("{} bytes exceed the limit of {bytes_max} bytes", text.len());
    let limit = Some(Limit { name: format!("{field}_bytes_max"), value: bytes_max as u64 });
    let detail = Detail { message: message.clone(), field: Some(field.to_owned()), limit, ..Detail::default() };
    Err(Problem::new(Code::BadArgument, format!("{field}: {message}")).and(detail))
}

/// What else a list shall contain only, as the node takes it: `rule`, `message`, `key`, `code`, `task`, `from` and `until` (RFC 3339).
///
/// Errors: 400 for an instant that is none. `None` when nothing is said.
pub(crate) fn filter(params: &Params) -> Result<Option<bytes::Bytes>, Problem> {
    let mut members = serde_json::Map::new();
    for name in ["rule", "message", "key", "code", "task"] {
        if let Some(text) = params.text(name)? {
            members.insert(name.to_owned(), text.into());
        }
    }
    for (name, member) in [("from", "from_us"), ("until", "until_us")] {
        if let Some(text) = params.text(name)? {
            let at = crate::times::parse_rfc3339(text)
                .ok_or_else(|| Problem::argument(name, "must be an RFC 3339 instant such as 2030-01-31T12:00:00Z"))?;
            members.insert(member.to_owned(), at.into());
        }
    }
    Ok((!members.is_empty()).then(|| bytes::Bytes::from(serde_json::Value::Object(members).to_string())))
}

#[cfg(test)]
mod tests {
    use distric_model::TaskId;

    use super::*;

    fn with(name: &HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.clone(), value.parse().unwrap())])
    }

    fn params(query: &str) -> Result<Params, Problem> {
        Params::read(&format!("/x?{query}").parse().unwrap(), &["status", "limit", "dry_run"])
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused() {
        assert_eq!(params("status=a%20b&limit=").unwrap().text("status").unwrap(), Some("a b"));
        assert!(params("stats=a").unwrap_err().detail.contains("known are status, limit"));
        assert!(params("status=a&status=b").unwrap_err().detail.contains("more than once"));
    }

    #[test]
    fn limits_and_flags_are_checked() {
        assert_eq!(params("limit=1000").unwrap().limit().unwrap(), Some(1_000));
        for bad in ["0", "1001", "-1", "ten"] {
            assert!(params(&format!("limit={bad}")).unwrap().limit().is_err(), "{bad}");
        }
        assert!(params("dry_run=true").unwrap().flag("dry_run").unwrap());
        assert!(params("dry_run=yes").unwrap().flag("dry_run").is_err());
    }

    #[test]
    fn a_long_idempotency_key_is_refused_with_its_limit() {
        assert_eq!(idempotency_key(&with(&IDEMPOTENCY_KEY, "k-1")).unwrap().as_deref(), Some("k-1"));
        let problem = idempotency_key(&with(&IDEMPOTENCY_KEY, &"k".repeat(KEY_BYTES_MAX + 1))).unwrap_err();
        assert_eq!((problem.status.as_u16(), problem.errors[0].limit.as_ref().unwrap().value), (400, 256));
    }

    #[test]
    fn a_version_is_read_from_any_form_of_tag() {
        for tag in ["\"7\"", "W/\"7\"", "7"] {
            assert_eq!(if_match(&with(&IF_MATCH, tag)).unwrap(), Some(7), "{tag}");
        }
        assert_eq!(if_match(&with(&IF_MATCH, "*")).unwrap(), None);
        assert!(if_match(&with(&IF_MATCH, "\"abc\"")).is_err());
        assert!(none_match_has(&with(&IF_NONE_MATCH, "\"1\", \"7\""), 7));
        assert!(!none_match_has(&with(&IF_NONE_MATCH, "\"1\""), 7));
    }

    #[test]
    fn a_malformed_traceparent_is_ignored() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(traceparent(&with(&TRACEPARENT, good)).as_deref(), Some(good));
        for bad in ["", "00", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", "hello-world-a-b"] {
            assert_eq!(traceparent(&with(&TRACEPARENT, bad)), None, "{bad}");
        }
    }

    #[test]
    fn ids_are_uuids_of_version_7() {
        assert!(id("0190163d-8694-739b-aea5-966c26f8ad91", TaskId::uuid).is_ok());
        assert!(id("f47ac10b-58cc-4372-a567-0e02b2c3d479", TaskId::uuid).unwrap_err().detail.contains("version 7"));
        assert!(name("a/b").is_err() && name("").is_err() && name("fraud-check_2.x").is_ok());
    }
}
