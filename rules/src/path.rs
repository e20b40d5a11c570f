//! Paths: which part of a message a rule looks at.
//!
//! A plain path names members of the payload, with dots between them; `\.` is a dot inside a name. Arrays on the way
//! are entered. `$namespace`, `$event_type`, `$source`, `$timestamp` and `$headers.<name>` name parts of the envelope.

use std::fmt;

use crate::document::did_you_mean;
use crate::index::values::{hash, mix};

/// Most members that a path may name.
pub(crate) const PATH_SEGMENTS_MAX: usize = 32;
/// Longest path, bytes.
pub(crate) const PATH_BYTES_MAX: usize = 1_024;

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Path {
    /// Members of the payload; at least one.
    Payload(Vec<String>),
    /// `$namespace`
    Namespace,
    /// `$event_type`
    EventType,
    /// `$source`
    Source,
    /// `$timestamp`
    Timestamp,
    /// `$headers.<name>`; the rest of the path is the name, dots included.
    Header(String),
}

const ENVELOPE: [&str; 5] = ["$namespace", "$event_type", "$source", "$timestamp", "$headers.<name>"];

impl Path {
    /// Equal for equal paths.
    pub fn hash(&self, state: u64) -> u64 {
        match self {
            Self::Payload(segments) => segments.iter().fold(mix(1, state), |state, segment| mix(hash(segment.as_bytes()), state)),
            Self::Namespace => mix(2, state),
            Self::EventType => mix(3, state),
            Self::Source => mix(4, state),
            Self::Timestamp => mix(5, state),
            Self::Header(name) => mix(hash(name.as_bytes()), mix(6, state)),
        }
    }

    /// Reads a path as a rule writes it. Errors: a message for the author.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the path is empty".into());
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(format!("the path is longer than {PATH_BYTES_MAX} bytes"));
        }
        if text.starts_with('$') {
            return Self::parse_envelope(text);
        }
        let segments = segments(text);
        if segments.len() > PATH_SEGMENTS_MAX {
            return Err(format!("the path has more than {PATH_SEGMENTS_MAX} members"));
        }
        Ok(Self::Payload(segments))
    }

    fn parse_envelope(text: &str) -> Result<Self, String> {
        match text {
            "$namespace" => return Ok(Self::Namespace),
            "$event_type" => return Ok(Self::EventType),
            "$source" => return Ok(Self::Source),
            "$timestamp" => return Ok(Self::Timestamp),
            _ => {}
        }
        if let Some(name) = text.strip_prefix("$headers.").filter(|name| !name.is_empty()) {
            return Ok(Self::Header(name.replace("\\.", ".")));
        }
        let near = did_you_mean(text, &ENVELOPE).map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
        Err(format!("unknown envelope field `{text}`{near} (a payload member of this name is written `payload.{text}`)"))
    }

    /// The path where a transform may write: members of the payload. A leading `payload` is left out, as in reading.
    pub fn parse_target(text: &str) -> Result<Vec<String>, String> {
        match Self::parse(text)? {
            Self::Payload(segments) if segments.iter().any(String::is_empty) => Err("a member has no name".into()),
            Self::Payload(mut segments) => {
                if segments.len() > 1 && segments[0] == "payload" {
                    segments.remove(0);
                }
                Ok(segments)
            }
            _ => Err("the envelope cannot be changed".into()),
        }
    }
}

/// Splits at every dot without a backslash before it. Every other backslash is part of the name.
fn segments(text: &str) -> Vec<String> {
    let mut segments = vec![String::new()];
    let mut rest = text;
    while let Some(dot) = rest.find('.') {
        let last = segments.last_mut().expect("there is always a segment being written");
        if let Some(name) = rest[..dot].strip_suffix('\\') {
            last.push_str(name);
            last.push('.');
        } else {
            last.push_str(&rest[..dot]);
            segments.push(String::new());
        }
        rest = &rest[dot + 1..];
    }
    segments.last_mut().expect("there is always a segment being written").push_str(rest);
    segments
}

/// Members joined by dots, as a rule writes them.
pub(crate) fn dotted(segments: &[String]) -> String {
    segments.iter().map(|segment| segment.replace('.', "\\.")).collect::<Vec<_>>().join(".")
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payload(segments) => f.write_str(&dotted(segments)),
            Self::Namespace => f.write_str("$namespace"),
            Self::EventType => f.write_str("$event_type"),
            Self::Source => f.write_str("$source"),
            Self::Timestamp => f.write_str("$timestamp"),
            Self::Header(name) => write!(f, "$headers.{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_separate_members_and_a_backslash_keeps_them() {
        for (text, expected) in [
            ("a", vec!["a"]),
            ("a.b.c", vec!["a", "b", "c"]),
            (r"a\.b.c", vec!["a.b", "c"]),
            (r"a\b.c\", vec![r"a\b", r"c\"]),
            ("a..b", vec!["a", "", "b"]),
            ("payload.$ref", vec!["payload", "$ref"]),
        ] {
            let path = Path::parse(text).unwrap();
            assert_eq!(path, Path::Payload(expected.into_iter().map(String::from).collect()));
            assert_eq!(path.to_string(), text);
        }
        assert_eq!(Path::parse("$headers.x.y").unwrap(), Path::Header("x.y".into()));
        assert_eq!(Path::parse_target("payload.a").unwrap(), ["a"]);
    }

    #[test]
    fn unknown_envelope_fields_are_refused() {
        let problem = Path::parse("$event_typ").unwrap_err();
        assert_eq!(
            problem,
            "unknown envelope field `$event_typ`, did you mean `$event_type`? (a payload member of this name is written `payload.$event_typ`)"
        );
        for text in ["", "$", "$headers", "$headers.", "$payload"] {
            assert!(Path::parse(text).is_err(), "{text}");
        }
        assert!(Path::parse_target("$source").is_err() && Path::parse_target("a..b").is_err());
    }
}
