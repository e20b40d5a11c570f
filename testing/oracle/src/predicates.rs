//! What each operator asks of a field's nodes, written down as plainly as can be.

use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;

use regex_automata::nfa::thompson::pikevm::{Cache, PikeVM};
use serde_json::Value;

/// An operator with its value.
pub enum Predicate {
    /// `equals`, `in`: some leaf is one of these.
    Among(Vec<Value>),
    /// `not_equals`, `not_in`: there is a node, and no leaf is one of these.
    NotAmong(Vec<Value>),
    /// An ordering: some leaf is a number that compares so.
    Number(Ordering, f64),
    /// `in_range`.
    Between(f64, f64),
    /// Some leaf is a text that fits.
    Text(TextTest),
    /// A text node has it inside, or a list node has it as an element.
    Contains(Value),
    /// `exists`.
    Exists(bool),
    /// The length of a text or list node fulfils another.
    Length(Box<Predicate>),
}

/// How numbers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// Above.
    Greater,
    /// Below.
    Less,
    /// Not below.
    GreaterOrEqual,
    /// Not above.
    LessOrEqual,
}

/// What is asked of a text.
pub enum TextTest {
    /// It begins so.
    Prefix(String),
    /// It ends so.
    Suffix(String),
    /// `*` stands for anything, `\` takes the next character as it is.
    Wildcard(Vec<WildcardPart>),
    /// Lower-case forms are equal.
    IgnoreCase(String),
    /// An address in one of these networks.
    Cidr(Vec<(IpAddr, u32)>),
    /// An instant before (`true`) or after this one, nanoseconds since the epoch.
    Instant(bool, i128),
    /// Some part matches; simulated without any optimisation.
    Regex(Box<(PikeVM, RefCell<Cache>)>),
}

/// A part of a wildcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WildcardPart {
    /// Any text.
    Any,
    /// This character.
    One(char),
}

impl fmt::Debug for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Predicate")
    }
}

impl Predicate {
    /// Reads an operator and its value. Errors: what is not known, in words.
    pub fn read(op: &str, value: &Value) -> Result<Self, String> {
        let wrong = || format!("`{op}` with {value}");
        let number = || value.as_f64().ok_or_else(wrong);
        let text = || value.as_str().ok_or_else(wrong);
        let list = || value.as_array().cloned().ok_or_else(wrong);
        Ok(match op {
            "equals" => Self::Among(vec![value.clone()]),
            "in" => Self::Among(list()?),
            "not_equals" => Self::NotAmong(vec![value.clone()]),
            "not_in" => Self::NotAmong(list()?),
            "greater_than" | "gt" => Self::Number(Ordering::Greater, number()?),
            "less_than" => Self::Number(Ordering::Less, number()?),
            "greater_or_equal" => Self::Number(Ordering::GreaterOrEqual, number()?),
            "less_or_equal" => Self::Number(Ordering::LessOrEqual, number()?),
            "in_range" => {
                let end = |i: usize, open: f64| if value[i].is_null() { Ok(open) } else { value[i].as_f64().ok_or_else(wrong) };
                Self::Between(end(0, f64::NEG_INFINITY)?, end(1, f64::INFINITY)?)
            }
            "contains" => Self::Contains(value.clone()),
            "exists" => Self::Exists(value.as_bool().ok_or_else(wrong)?),
            "prefix" => Self::Text(TextTest::Prefix(text()?.into())),
            "suffix" => Self::Text(TextTest::Suffix(text()?.into())),
            "wildcard" => Self::Text(TextTest::Wildcard(wildcard(text()?))),
            "equals_ignore_case" => Self::Text(TextTest::IgnoreCase(lower(text()?))),
            "before" | "after" => Self::Text(TextTest::Instant(op == "before", instant(text()?).ok_or_else(wrong)?)),
            "cidr" => {
                let written = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
                let networks: Option<Vec<_>> = written.iter().map(|net| network(net.as_str()?)).collect();
                Self::Text(TextTest::Cidr(networks.ok_or_else(wrong)?))
            }
            "regex" => {
                let ascii = text()?.replace(r"\d", "[0-9]").replace(r"\w", "[0-9A-Za-z_]").replace(r"\s", r"[\t\n\x0B\x0C\r ]");
                let machine = PikeVM::new(&ascii).map_err(|error| error.to_string())?;
                let cache = machine.create_cache();
                Self::Text(TextTest::Regex(Box::new((machine, RefCell::new(cache)))))
            }
            "length" => Self::Length(Box::new(match value {
                Value::Object(members) if members.len() == 1 => {
                    let (op, value) = members.iter().next().ok_or_else(wrong)?;
                    Self::read(op, value)?
                }
                Value::Object(_) => Self::read(value["operator"].as_str().ok_or_else(wrong)?, &value["value"])?,
                _ => Self::read("equals", value)?,
            })),
            _ => return Err(format!("unknown operator `{op}`")),
        })
    }

    /// Whether it holds for these nodes.
    pub fn holds(&self, nodes: &[Value]) -> bool {
        let leaves: Vec<&Value> = nodes.iter().flat_map(leaves).collect();
        match self {
            Self::Among(values) => leaves.iter().any(|leaf| values.iter().any(|value| same(leaf, value))),
            Self::NotAmong(values) => !nodes.is_empty() && !leaves.iter().any(|leaf| values.iter().any(|value| same(leaf, value))),
            Self::Number(ordering, bound) => leaves.iter().filter_map(|leaf| leaf.as_f64()).any(|n| match ordering {
                Ordering::Greater => n > *bound,
                Ordering::Less => n < *bound,
                Ordering::GreaterOrEqual => n >= *bound,
                Ordering::LessOrEqual => n <= *bound,
            }),
            Self::Between(low, high) => leaves.iter().filter_map(|leaf| leaf.as_f64()).any(|n| *low <= n && n <= *high),
            Self::Text(test) => leaves.iter().filter_map(|leaf| leaf.as_str()).any(|text| test.fits(text)),
            Self::Contains(value) => nodes.iter().any(|node| match node {
                Value::String(text) => value.as_str().is_some_and(|part| text.contains(part)),
                Value::Array(_) => self::leaves(node).into_iter().any(|leaf| same(leaf, value)),
                _ => false,
            }),
            Self::Exists(exists) => nodes.is_empty() != *exists,
            Self::Length(inner) => nodes.iter().any(|node| match node {
                Value::String(text) => inner.holds(&[Value::from(text.chars().count())]),
                Value::Array(items) => inner.holds(&[Value::from(items.len())]),
                _ => false,
            }),
        }
    }
}

fn leaves(node: &Value) -> Vec<&Value> {
    match node {
        Value::Array(items) => items.iter().flat_map(leaves).collect(),
        Value::Object(_) => Vec::new(),
        leaf => vec![leaf],
    }
}

/// Numbers compare as doubles, nothing is converted, and lists and objects equal nothing.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(_) | Value::Object(_), _) => false,
        _ => a == b,
    }
}

impl TextTest {
    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_str()),
            Self::Wildcard(parts) => fits_wildcard(parts, &text.chars().collect::<Vec<_>>()),
            Self::IgnoreCase(folded) => lower(text) == *folded,
            Self::Cidr(networks) => text.parse().is_ok_and(|address| networks.iter().any(|network| is_in(*network, address))),
            Self::Instant(before, bound) => instant(text).is_some_and(|at| if *before { at < *bound } else { at > *bound }),
            Self::Regex(machine) => machine.0.is_match(&mut machine.1.borrow_mut(), text),
        }
    }
}

fn lower(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

fn wildcard(text: &str) -> Vec<WildcardPart> {
    let mut parts = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        parts.push(match c {
            '*' => WildcardPart::Any,
            '\\' if matches!(chars.peek(), Some('*' | '\\')) => WildcardPart::One(chars.next().unwrap_or('\\')),
            c => WildcardPart::One(c),
        });
    }
    parts
}

fn fits_wildcard(parts: &[WildcardPart], text: &[char]) -> bool {
    match parts {
        [] => text.is_empty(),
        [WildcardPart::Any, rest @ ..] => (0..=text.len()).any(|skipped| fits_wildcard(rest, &text[skipped..])),
        [WildcardPart::One(c), rest @ ..] => text.first() == Some(c) && fits_wildcard(rest, &text[1..]),
    }
}

fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().ok()?;
    let bits = bits.map_or(Some(if address.is_ipv4() { 32 } else { 128 }), |bits| bits.parse().ok())?;
    Some((address, bits))
}

fn is_in((network, bits): (IpAddr, u32), address: IpAddr) -> bool {
    let spelled = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().map(|octet| format!("{octet:08b}")).concat(),
        IpAddr::V6(v6) => v6.octets().map(|octet| format!("{octet:08b}")).concat(),
    };
    network.is_ipv4() == address.is_ipv4() && spelled(network)[..bits as usize] == spelled(address)[..bits as usize]
}

/// RFC 3339 as nanoseconds since the epoch; proleptic Gregorian.
fn instant(text: &str) -> Option<i128> {
    let number = |from: usize, to: usize| text.get(from..to).filter(|part| part.bytes().all(|b| b.is_ascii_digit()))?.parse::<i128>().ok();
    let is = |at: usize, chars: &str| text.get(at..at + 1).is_some_and(|c| chars.contains(c));
    if !(is(4, "-") && is(7, "-") && is(10, "Tt ") && is(13, ":") && is(16, ":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of = |month: i128| match month {
        2 => 28 + i128::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !((1..=12).contains(&month) && (1..=days_of(month)).contains(&day) && hour < 24 && minute < 60 && second < 60) {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanoseconds = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits: String = fraction.chars().take_while(char::is_ascii_digit).collect();
        if digits.is_empty() || digits.len() > 9 {
            return None;
        }
        nanoseconds = format!("{digits:0<9}").parse().ok()?;
        rest = &fraction[digits.len()..];
    }
    let offset_minutes = match rest {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = rest.get(1..)?.split_once(':')?;
            if hours.len() != 2 || minutes.len() != 2 {
                return None;
            }
            let minutes = hours.parse::<i128>().ok()? * 60 + minutes.parse::<i128>().ok()?;
            match rest.as_bytes()[0] {
                b'+' => minutes,
                b'-' => -minutes,
                _ => return None,
            }
        }
    };
    let years = year - 1;
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (1..month).map(days_of).sum::<i128>() + day - 1 - 719_162;
    Some((((days * 24 + hour) * 60 + minute - offset_minutes) * 60 + second) * 1_000_000_000 + nanoseconds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(op: &str, value: Value, nodes: &[Value]) -> bool {
        Predicate::read(op, &value).unwrap().holds(nodes)
    }

    #[test]
    fn operators_are_what_the_guide_says() {
        assert!(holds("equals", json!(1), &[json!([2, [1.0]])]) && !holds("equals", json!("1"), &[json!(1)]));
        assert!(!holds("not_equals", json!(1), &[]) && holds("not_equals", json!(1), &[json!([])]));
        assert!(holds("contains", json!("b"), &[json!("abc")]) && !holds("contains", json!("b"), &[json!(["abc"])]));
        assert!(holds("exists", json!(true), &[json!(null)]) && holds("exists", json!(false), &[]));
        assert!(holds("length", json!({ "gt": 1 }), &[json!("éé")]) && !holds("length", json!(2), &[json!([1])]));
        assert!(holds("in_range", json!([null, 2]), &[json!(2)]) && !holds("in_range", json!([1, 2]), &[json!("1")]));
        assert!(holds("wildcard", json!("a*c"), &[json!("abbc")]) && !holds("wildcard", json!("a*c"), &[json!("abcd")]));
        assert!(holds("cidr", json!("10.0.0.0/8"), &[json!("10.9.1.1")]) && !holds("cidr", json!("10.0.0.0/8"), &[json!("11.0.0.1")]));
        assert!(holds("cidr", json!("2001:db8::/33"), &[json!("2001:db8:7fff::1")]));
        assert!(holds("regex", json!(r"^\d+$"), &[json!("12")]) && !holds("regex", json!(r"^\d+$"), &[json!("12\n")]));
        assert!(holds("before", json!("2026-01-01T00:00:00Z"), &[json!("2026-01-01T00:59:59.9+01:00")]));
        assert_eq!(instant("1970-01-02T00:00:01Z"), Some(86_401_000_000_000));
        assert_eq!((instant("2023-02-29T00:00:00Z"), instant("2024-02-29T00:00:00Z").is_some()), (None, true));
        assert!(Predicate::read("like", &json!("x")).is_err());
    }
}
