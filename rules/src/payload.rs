//! Payloads: bytes of a message to a JSON value.

use distric_model::limits::NESTING_MAX;
use serde_json::Value;

use crate::decision::{PayloadError, PayloadFormat};

/// Reads a payload of any form, as [`parse`] reads JSON.
///
/// Errors: as there, or what [`PayloadFormat::to_json`] refuses.
pub(crate) fn parse_form(format: PayloadFormat, payload: &[u8]) -> Result<Value, PayloadError> {
    parse(&format.to_json(payload)?)
}

/// Reads a payload. Of two members with one name the last one counts.
///
/// Errors: not JSON (with the byte at which reading failed), a number beyond the range of a double, or nested too deep.
pub(crate) fn parse(payload: &[u8]) -> Result<Value, PayloadError> {
    let value: Value = serde_json::from_slice(payload).map_err(|error| {
        let message = error.to_string();
        if message.starts_with("recursion limit") {
            return PayloadError::TooDeep { limit: NESTING_MAX };
        }
        let offset = if error.is_eof() { payload.len() } else { offset(payload, error.line(), error.column()) };
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message).to_string();
        PayloadError::NotJson { offset, message }
    })?;
    if depth_within(&value, NESTING_MAX) { Ok(value) } else { Err(PayloadError::TooDeep { limit: NESTING_MAX }) }
}

/// The byte offset of a line and column, both from 1, columns counting bytes.
fn offset(payload: &[u8], line: usize, column: usize) -> usize {
    let line_start =
        if line <= 1 { 0 } else { payload.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(line - 2).map_or(0, |(i, _)| i + 1) };
    (line_start + column.saturating_sub(1)).min(payload.len())
}

fn depth_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| depth_within(item, levels - 1)),
        Value::Object(members) => levels > 0 && members.values().all(|member| depth_within(member, levels - 1)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_json_is_refused_with_its_byte() {
        for (payload, offset) in [("{\"a\":1,}", 7), ("{\"a\":\n\n tru }", 11), ("", 0), ("{} x", 3), ("\"\u{e9}", 3), ("{\"a\":1e400}", 9)]
        {
            match parse(payload.as_bytes()) {
                Err(PayloadError::NotJson { offset: found, .. }) => assert_eq!(found, offset, "{payload:?}"),
                other => panic!("{payload:?}: {other:?}"),
            }
        }
        let error = parse(b"{\"a\" 1}").unwrap_err();
        assert_eq!(error.to_string(), "the payload is not valid JSON at byte 5: expected `:`");
        assert!(matches!(parse(b"\"\xff\""), Err(PayloadError::NotJson { .. })));
    }

    #[test]
    fn depth_is_bounded_and_the_last_member_counts() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(parse(deep(NESTING_MAX).as_bytes()).is_ok());
        for levels in [NESTING_MAX + 1, 200, 100_000] {
            assert_eq!(parse(deep(levels).as_bytes()), Err(PayloadError::TooDeep { limit: NESTING_MAX }));
        }
        assert_eq!(parse(br#"{"a":1,"a":2}"#).unwrap()["a"], 2);
    }
}
