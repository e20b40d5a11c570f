//! Durations as people write them: `5`, `5.5` (seconds), `250ms`, `10s`, `2m`, `1h`, `1d`, `1m30s`.

use crate::document::{Cursor, Node, NodeValue, Problems};

/// Longest duration that can be written, milliseconds: 3,660 days.
pub const DURATION_MS_MAX: u64 = 3_660 * 24 * 60 * 60 * 1_000;

const EXPECTED: &str = "a duration such as 5, 5.5 (seconds), 250ms, 10s, 2m, 1h";
const UNITS: [(&str, f64); 5] = [("ms", 1.0), ("s", 1e3), ("m", 60e3), ("h", 3_600e3), ("d", 86_400e3)];

/// The duration of a node in milliseconds, rounded to the nearest.
///
/// A number, or text of digits alone, counts seconds. Errors: a message for the author, when it is no duration,
/// negative, or longer than [`DURATION_MS_MAX`].
pub fn parse_duration_ms(node: &Node) -> Result<u64, String> {
    let ms = match &node.value {
        NodeValue::Number(number) => number.as_f64().map(|seconds| seconds * 1e3),
        NodeValue::String(text) => text_ms(text.trim()),
        _ => return Err(format!("found {}", node.kind())),
    };
    let written = || node.to_json().to_string();
    let ms = ms.ok_or_else(|| format!("{} is not a duration", written()))?;
    if !(ms >= 0.0 && ms <= DURATION_MS_MAX as f64) {
        return Err(format!("{} is not between 0 and 3660 days", written()));
    }
    Ok(ms.round() as u64)
}

/// Reads a duration of at least `ms_min` milliseconds, adding a problem when it is none.
pub fn read_duration_ms(cursor: &Cursor<'_>, problems: &mut Problems, ms_min: u64) -> Option<u64> {
    match parse_duration_ms(cursor.node) {
        Ok(ms) if ms >= ms_min => Some(ms),
        Ok(_) => {
            cursor.error(problems, "the duration is too short", Some(&format!("at least {ms_min}ms")));
            None
        }
        Err(message) => {
            cursor.error(problems, message, Some(EXPECTED));
            None
        }
    }
}

fn text_ms(text: &str) -> Option<f64> {
    if text.is_empty() {
        return None;
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (amount, tail) = rest.split_at(digits_end);
        if !amount.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let amount: f64 = amount.parse().ok()?;
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let scale = match unit {
            "" if amount_is_all(text, next, tail) => 1e3,
            _ => UNITS.iter().find(|(name, _)| *name == unit)?.1,
        };
        total += amount * scale;
        rest = next;
    }
    Some(total)
}

/// Whether the text was one number without a unit: only then does it count seconds.
fn amount_is_all(text: &str, next: &str, tail: &str) -> bool {
    next.is_empty() && tail.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// A duration as canonical text: the largest unit that divides it.
pub fn duration_text(ms: u64) -> String {
    for (unit, scale) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms > 0 && ms.is_multiple_of(scale) {
            return format!("{}{unit}", ms / scale);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_spellings_of_a_duration() {
        for (written, ms) in [
            (json!(5), 5_000),
            (json!(5.5), 5_500),
            (json!(0), 0),
            (json!("250ms"), 250),
            (json!("10s"), 10_000),
            (json!("2m"), 120_000),
            (json!("1h"), 3_600_000),
            (json!("1d"), 86_400_000),
            (json!("1m30s"), 90_000),
            (json!("1.5s"), 1_500),
            (json!("30"), 30_000),
        ] {
            assert_eq!(parse_duration_ms(&Node::from_json(&written)), Ok(ms), "{written}");
            assert_eq!(parse_duration_ms(&Node::from_json(&json!(duration_text(ms)))), Ok(ms), "{written}");
        }
        for written in [
            json!("fast"),
            json!(""),
            json!("5 s"),
            json!("-5s"),
            json!(-1),
            json!("10x"),
            json!("s"),
            json!("1m30"),
            json!(null),
            json!([1]),
            json!("99999d"),
            json!("1..2s"),
        ] {
            assert!(parse_duration_ms(&Node::from_json(&written)).is_err(), "{written}");
        }
    }
}
