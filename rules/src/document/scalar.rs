//! Scalars: the text of an unquoted value to its type, by the YAML 1.2.2 core schema (section 10.3.2).

use serde_json::Number;

use super::NodeValue;

/// Reads an unquoted scalar. Errors: the number is not finite or beyond what a double holds.
pub(super) fn resolve(text: &str) -> Result<NodeValue, &'static str> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => NodeValue::Null,
        "true" | "True" | "TRUE" => NodeValue::Bool(true),
        "false" | "False" | "FALSE" => NodeValue::Bool(false),
        _ => match number(text)? {
            Some(number) => NodeValue::Number(number),
            None => NodeValue::String(text.into()),
        },
    })
}

/// Reads an integer or a float of the core schema; `None` when the text is neither.
pub(super) fn number(text: &str) -> Result<Option<Number>, &'static str> {
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.')) {
        return Ok(None);
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
                return Ok(None);
            }
            return u64::from_str_radix(digits, radix).map(|n| Some(n.into())).map_err(|_| "the number is too large for 64 bits");
        }
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err("the number is not finite");
    }
    if !is_decimal(unsigned) {
        return Ok(None);
    }
    if unsigned.bytes().all(|b| b.is_ascii_digit()) {
        let plain = text.strip_prefix('+').unwrap_or(text);
        if let Ok(n) = plain.parse::<u64>() {
            return Ok(Some(n.into()));
        }
        if let Ok(n) = plain.parse::<i64>() {
            return Ok(Some(n.into()));
        }
    }
    let value: f64 = text.parse().map_err(|_| "the number cannot be read")?;
    Number::from_f64(value).map(Some).ok_or("the number is beyond the range of a double")
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (text, None),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let mantissa_ok = match mantissa.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()),
        None => !mantissa.is_empty() && digits(mantissa),
    };
    mantissa_ok && exponent.is_none_or(|e| !e.is_empty() && digits(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_follow_the_core_schema() {
        // YAML 1.2.2, section 10.3.2
        for (text, json) in [
            ("", "null"),
            ("~", "null"),
            ("Null", "null"),
            ("nul", "\"nul\""),
            ("TRUE", "true"),
            ("no", "\"no\""),
            ("on", "\"on\""),
            ("0", "0"),
            ("-17", "-17"),
            ("+12", "12"),
            ("0o14", "12"),
            ("0xff", "255"),
            ("0x", "\"0x\""),
            ("1_000", "\"1_000\""),
            ("1.", "1.0"),
            (".5", "0.5"),
            ("-1.5e3", "-1500.0"),
            ("1e", "\"1e\""),
            ("1.2.3", "\"1.2.3\""),
            ("12e03", "12000.0"),
            (".", "\".\""),
            ("-", "\"-\""),
            ("30s", "\"30s\""),
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551616", "1.8446744073709552e+19"),
            ("2026-01-01", "\"2026-01-01\""),
            ("10.0.0.1", "\"10.0.0.1\""),
        ] {
            let node = super::super::Node { value: resolve(text).unwrap(), at: Default::default() };
            assert_eq!(node.to_json().to_string(), json, "{text:?}");
        }
        for text in [".inf", "-.INF", ".nan", "1e999", "0xffffffffffffffffff"] {
            assert!(resolve(text).is_err(), "{text:?}");
        }
    }
}
