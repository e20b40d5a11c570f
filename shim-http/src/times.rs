//! Times of the node (`*_at_us`, microseconds since the Unix epoch) as people read them (`*_at`, RFC 3339).
//!
//! Done without knowing the documents: every integer member whose name ends in `_at_us` loses the `_us` and becomes text,
//! except within the members that hold what a user wrote.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde_json::{Map, Value};

const SUFFIX_US: &str = "_us";
const SUFFIX_AT_US: &str = "_at_us";
/// Members with documents of users: their names mean what the user meant.
const OPAQUE: [&str; 9] = ["body", "config", "derived", "headers", "input", "output", "params", "payload", "set"];

/// Whether a document may have a time in it; where not, its bytes can be passed on untouched.
pub(crate) fn has_times(document: &[u8]) -> bool {
    let needle = b"_at_us\"";
    document.windows(needle.len()).any(|window| window == needle)
}

/// Rewrites all times of a document. Its depth is bounded by the parser that made it.
pub(crate) fn humanise(document: &mut Value) {
    match document {
        Value::Array(items) => items.iter_mut().for_each(humanise),
        Value::Object(members) => {
            let names: Vec<String> = members.keys().filter(|name| name.ends_with(SUFFIX_AT_US)).cloned().collect();
            for name in names {
                rename(members, &name);
            }
            for (name, member) in members {
                if !OPAQUE.contains(&name.as_str()) {
                    humanise(member);
                }
            }
        }
        _ => {}
    }
}

fn rename(members: &mut Map<String, Value>, name: &str) {
    let Some(text) = members.get(name).and_then(Value::as_i64).and_then(rfc3339) else {
        return;
    };
    members.remove(name);
    members.insert(name[..name.len() - SUFFIX_US.len()].to_owned(), Value::String(text));
}

/// `2026-01-31T12:00:00.000001Z`; `None` before 1970 and after the year 9999, which RFC 3339 cannot write.
pub(crate) fn rfc3339(us: i64) -> Option<String> {
    let timestamp = Timestamp::from_microsecond(us).ok().filter(|_| us >= 0)?;
    let mut text = String::with_capacity(27);
    DateTimePrinter::new().precision(Some(6)).print_timestamp(&timestamp, &mut text).ok()?;
    Some(text)
}

/// Microseconds since the epoch of an RFC 3339 text. `None` when it is none, or before 1970.
pub(crate) fn parse_rfc3339(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<Timestamp>().ok()?.as_microsecond()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_become_text_wherever_they_are() {
        let mut document = json!({"accepted_at_us": 1_700_000_000_000_001_u64, "tasks": [{"started_at_us": 0, "retry_at_us": null}]});
        humanise(&mut document);
        let expected = json!({"accepted_at": "2023-11-14T22:13:20.000001Z", "tasks": [{"started_at": "1970-01-01T00:00:00.000000Z", "retry_at_us": null}]});
        assert_eq!(document, expected);
    }

    #[test]
    fn what_users_wrote_and_what_is_no_time_stays() {
        let untouched = json!({"payload": {"paid_at_us": 5}, "output": [{"x_at_us": 1}], "duration_us": 7, "at_us": 5, "b_at_us": "text", "c_at_us": u64::MAX});
        let mut document = untouched.clone();
        humanise(&mut document);
        assert_eq!(document, untouched);
    }

    #[test]
    fn printing_and_parsing_agree() {
        // The last one is in December 9999.
        for us in [0, 1, 1_700_000_000_000_001, 253_402_000_000_999_999] {
            assert_eq!(parse_rfc3339(&rfc3339(us).unwrap()), Some(us as u64));
        }
        assert_eq!(rfc3339(-1), None);
        assert_eq!(rfc3339(i64::MAX), None);
        assert_eq!(parse_rfc3339("1969-12-31T23:59:59Z"), None);
        assert_eq!(parse_rfc3339("2024-02-30T00:00:00Z"), None);
        assert_eq!(parse_rfc3339("2023-11-14T23:13:20.5+01:00"), Some(1_700_000_000_500_000));
    }

    #[test]
    fn only_documents_with_times_are_looked_at() {
        assert!(has_times(br#"{"a_at_us":1}"#));
        assert!(!has_times(br#"{"a_at":1,"b":"at_us"}"#));
    }
}
