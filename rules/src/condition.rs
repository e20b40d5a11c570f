//! Conditions: trees of AND, OR and NOT over comparisons, in three spellings with one meaning.

use std::sync::Arc;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::document::{Cursor, NodeValue, Problems, did_you_mean};
use crate::operator::Operator;
use crate::path::Path;
use crate::pattern::{Pattern, Wildcard, parse_instant};
use crate::predicate::{Interval, Predicate, Scalars, lower_case};

/// A condition as written, checked.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    /// All hold; an empty list holds.
    All(Vec<Condition>),
    /// At least one holds; an empty list does not.
    Any(Vec<Condition>),
    /// The other does not hold. There is no third value.
    Not(Box<Condition>),
    /// A comparison.
    Compare(Arc<Comparison>),
}

/// One comparison: a field, an operator, a value.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    pub field: Path,
    pub operator: Operator,
    /// The value in canonical form: numbers unquoted.
    pub value: Value,
    pub predicate: Predicate,
}

const LEAF_KEYS: [&str; 4] = ["field", "operator", "op", "value"];
const SPELLINGS: &str = "a list, or a map with `field`, `all`, `any`, `not` or `combinator`";

impl Condition {
    /// A condition that always holds.
    pub fn always() -> Self {
        Self::All(Vec::new())
    }

    /// Reads any spelling. Every problem below is added; `None` when there was an error.
    pub fn parse(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<Self> {
        match &cursor.node.value {
            NodeValue::List(_) => Some(Self::All(parse_list(cursor, problems)?)),
            NodeValue::Map(members) => {
                let has = |key: &str| members.iter().any(|(k, _)| k.text == key);
                if LEAF_KEYS.into_iter().any(has) {
                    return Comparison::parse(cursor, problems).map(|comparison| Self::Compare(Arc::new(comparison)));
                }
                if has("combinator") || has("conditions") {
                    return parse_combinator(cursor, problems);
                }
                for key in ["all", "any", "not"] {
                    if has(key) {
                        let inner = cursor.map(problems, &[key])?.get_or_null(key)?;
                        return match key {
                            "all" => parse_list(&inner, problems).map(Self::All),
                            "any" => parse_list(&inner, problems).map(Self::Any),
                            _ => Self::parse(&inner, problems).map(|condition| Self::Not(Box::new(condition))),
                        };
                    }
                }
                let near = members.iter().find_map(|(key, _)| did_you_mean(&key.text, &["field", "all", "any", "not", "combinator"]));
                let near = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
                cursor.error(problems, format!("not a condition{near}"), Some(SPELLINGS));
                None
            }
            _ => {
                cursor.error(problems, format!("found {}", cursor.node.kind()), Some(SPELLINGS));
                None
            }
        }
    }

    /// Canonical JSON: `all`, `any`, `not`, and `field`, `operator`, `value`.
    pub fn to_json(&self) -> Value {
        match self {
            Self::All(list) => json!({ "all": list.iter().map(Self::to_json).collect::<Vec<_>>() }),
            Self::Any(list) => json!({ "any": list.iter().map(Self::to_json).collect::<Vec<_>>() }),
            Self::Not(condition) => json!({ "not": condition.to_json() }),
            Self::Compare(c) => json!({ "field": c.field.to_string(), "operator": c.operator.name(), "value": c.value }),
        }
    }

    /// The comparisons that must all hold: those reached through ANDs only.
    pub fn conjuncts(&self) -> Vec<&Comparison> {
        let mut found = Vec::new();
        self.collect_conjuncts(&mut found);
        found
    }

    fn collect_conjuncts<'a>(&'a self, found: &mut Vec<&'a Comparison>) {
        match self {
            Self::All(list) => list.iter().for_each(|condition| condition.collect_conjuncts(found)),
            Self::Compare(comparison) => found.push(comparison),
            Self::Any(_) | Self::Not(_) => {}
        }
    }
}

fn parse_list(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<Vec<Condition>> {
    let items = cursor.list(problems)?;
    let parsed: Vec<Option<Condition>> = items.iter().map(|item| Condition::parse(item, problems)).collect();
    parsed.into_iter().collect()
}

fn parse_combinator(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<Condition> {
    let members = cursor.map(problems, &["combinator", "conditions"])?;
    let combinator = members.required(problems, "combinator");
    let word = combinator.as_ref().and_then(|c| c.word(problems, &["AND", "OR", "NOT", "and", "or", "not"]));
    let list_at = members.required(problems, "conditions")?;
    let mut list = parse_list(&list_at, problems)?;
    match word? % 3 {
        0 => Some(Condition::All(list)),
        1 => Some(Condition::Any(list)),
        _ if list.len() == 1 => Some(Condition::Not(Box::new(list.remove(0)))),
        _ => {
            list_at.error(problems, format!("NOT over {} conditions", list.len()), Some("exactly one condition"));
            None
        }
    }
}

impl Comparison {
    /// `event_type: x` is this comparison.
    pub fn event_type_equals(event_type: &str) -> Self {
        let value = Value::String(event_type.into());
        let predicate = Predicate::Among(Scalars::of([&value]));
        Self { field: Path::EventType, operator: Operator::Equals, value, predicate }
    }

    fn parse(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<Self> {
        let members = cursor.map(problems, &LEAF_KEYS)?;
        let field = members.required(problems, "field").and_then(|c| parse_field(&c, problems));
        let operator = match members.alias(problems, &["operator", "op"]) {
            Some(c) => parse_operator(&c, problems),
            None => {
                cursor.error(problems, "`operator` is missing", None);
                None
            }
        }?;
        let value_at = members.get_or_null("value");
        let (value, predicate) = match value_at {
            Some(value_at) => parse_value(operator, &value_at, problems)?,
            None if operator == Operator::Exists => (Value::Bool(true), Predicate::Exists(true)),
            None => {
                cursor.error(problems, "`value` is missing", Some(expected_value(operator)));
                return None;
            }
        };
        Some(Self { field: field?, operator, value, predicate })
    }
}

fn parse_field(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<Path> {
    match Path::parse(cursor.string_or(problems, "a path such as user.age")?) {
        Ok(path) => {
            if matches!(&path, Path::Payload(segments) if segments.iter().any(String::is_empty)) {
                cursor.warning(problems, "the path names a member whose name is empty", None);
            }
            Some(path)
        }
        Err(message) => {
            cursor.error(problems, message, None);
            None
        }
    }
}

fn parse_operator(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<Operator> {
    let text = cursor.string_or(problems, "the name of an operator")?;
    let found = Operator::parse(text);
    if found.is_none() {
        let names = Operator::names();
        let message = match did_you_mean(text, &names) {
            Some(near) => format!("unknown operator `{text}`, did you mean `{near}`?"),
            None => format!("unknown operator `{text}`"),
        };
        cursor.error(problems, message, Some(&format!("one of {}", names.join(", "))));
    }
    found
}

/// What a value of this operator looks like, for messages.
fn expected_value(operator: Operator) -> &'static str {
    match operator {
        Operator::Equals | Operator::NotEquals | Operator::Contains => "a string, a number, a boolean or null",
        Operator::In | Operator::NotIn => "a list of strings, numbers, booleans or nulls",
        Operator::GreaterThan | Operator::LessThan | Operator::GreaterOrEqual | Operator::LessOrEqual => "a number",
        Operator::InRange => "[low, high], each a number or null",
        Operator::Prefix | Operator::Suffix | Operator::Wildcard | Operator::EqualsIgnoreCase => "a string",
        Operator::Regex => "a regular expression",
        Operator::Cidr => "a network such as 10.0.0.0/8, or a list of networks",
        Operator::Exists => "true or false",
        Operator::Length => "a number, or a comparison such as { operator: greater_than, value: 3 }",
        Operator::Before | Operator::After => "an instant such as 2026-01-31T09:30:00Z",
    }
}

/// Reads the value that fits the operator; gives its canonical form and the predicate.
fn parse_value(operator: Operator, cursor: &Cursor<'_>, problems: &mut Problems) -> Option<(Value, Predicate)> {
    let expected = expected_value(operator);
    match operator {
        Operator::Equals | Operator::NotEquals => {
            let value = parse_scalar(cursor, problems, expected)?;
            let set = Scalars::of([&value]);
            Some((value, if operator == Operator::Equals { Predicate::Among(set) } else { Predicate::NotAmong(set) }))
        }
        Operator::In | Operator::NotIn => {
            let NodeValue::List(_) = cursor.node.value else { return wrong(cursor, problems, expected) };
            let items = cursor.list(problems)?;
            let values: Vec<Option<Value>> =
                items.iter().map(|item| parse_scalar(item, problems, "a string, a number, a boolean or null")).collect();
            let values: Vec<Value> = values.into_iter().collect::<Option<_>>()?;
            if values.is_empty() {
                cursor.warning(problems, "the list is empty", Some("at least one value"));
            }
            let set = Scalars::of(&values);
            Some((Value::Array(values), if operator == Operator::In { Predicate::Among(set) } else { Predicate::NotAmong(set) }))
        }
        Operator::GreaterThan | Operator::LessThan | Operator::GreaterOrEqual | Operator::LessOrEqual => {
            let (value, n) = parse_number(cursor, problems, expected)?;
            let interval = match operator {
                Operator::GreaterThan => Interval { low: n, low_included: false, ..Interval::ALL },
                Operator::GreaterOrEqual => Interval { low: n, ..Interval::ALL },
                Operator::LessThan => Interval { high: n, high_included: false, ..Interval::ALL },
                _ => Interval { high: n, ..Interval::ALL },
            };
            Some((value, Predicate::Within(interval)))
        }
        Operator::InRange => parse_range(cursor, problems, expected),
        Operator::Prefix | Operator::Suffix | Operator::Wildcard | Operator::EqualsIgnoreCase | Operator::Regex => {
            parse_text_pattern(operator, cursor, problems, expected)
        }
        Operator::Contains => {
            let value = parse_scalar(cursor, problems, expected)?;
            let element = Scalars::of([&value]);
            let text = value.as_str().map(String::from);
            warn_if_matches_all(text.as_deref() == Some(""), cursor, problems, "text");
            Some((value, Predicate::Contains { text, element }))
        }
        Operator::Cidr => parse_networks(cursor, problems, expected),
        Operator::Exists => {
            let exists = cursor.bool(problems)?;
            Some((Value::Bool(exists), Predicate::Exists(exists)))
        }
        Operator::Length => parse_length(cursor, problems, expected),
        Operator::Before | Operator::After => {
            let text = cursor.string_or(problems, expected)?;
            let Some(instant) = parse_instant(text) else {
                cursor.error(problems, format!("`{text}` is not an instant of RFC 3339"), Some(expected));
                return None;
            };
            let predicate = if operator == Operator::Before { Predicate::Before(instant) } else { Predicate::After(instant) };
            Some((Value::String(text.into()), predicate))
        }
    }
}

fn wrong<T>(cursor: &Cursor<'_>, problems: &mut Problems, expected: &str) -> Option<T> {
    cursor.error(problems, format!("found {}", cursor.node.kind()), Some(expected));
    None
}

fn parse_scalar(cursor: &Cursor<'_>, problems: &mut Problems, expected: &str) -> Option<Value> {
    match cursor.node.value {
        NodeValue::List(_) | NodeValue::Map(_) => wrong(cursor, problems, expected),
        _ => Some(cursor.node.to_json()),
    }
}

/// A number, or a number in quotes, which is read as the number it spells.
fn parse_number(cursor: &Cursor<'_>, problems: &mut Problems, expected: &str) -> Option<(Value, f64)> {
    match &cursor.node.value {
        NodeValue::Number(number) => Some((cursor.node.to_json(), number.as_f64()?)),
        NodeValue::String(text) => {
            let number = serde_json::from_str::<serde_json::Number>(text.trim()).ok();
            let Some((number, double)) = number.and_then(|n| n.as_f64().map(|double| (n, double))) else {
                cursor.error(problems, format!("`{text}` is not a number"), Some(expected));
                return None;
            };
            Some((Value::Number(number), double))
        }
        _ => wrong(cursor, problems, expected),
    }
}

fn parse_range(cursor: &Cursor<'_>, problems: &mut Problems, expected: &str) -> Option<(Value, Predicate)> {
    let NodeValue::List(nodes) = &cursor.node.value else { return wrong(cursor, problems, expected) };
    if nodes.len() != 2 {
        cursor.error(problems, format!("found a list of {}", nodes.len()), Some(expected));
        return None;
    }
    let mut interval = Interval::ALL;
    let mut values = Vec::new();
    for (i, bound) in cursor.list(problems)?.iter().enumerate() {
        let value = if bound.node.is_null() {
            Value::Null
        } else {
            let (value, number) = parse_number(bound, problems, "a number or null")?;
            if i == 0 {
                interval.low = number
            } else {
                interval.high = number
            }
            value
        };
        values.push(value);
    }
    if interval.is_empty() {
        cursor.warning(problems, "no number lies in this range: its low end is above its high end", None);
    }
    Some((Value::Array(values), Predicate::Within(interval)))
}

fn parse_text_pattern(operator: Operator, cursor: &Cursor<'_>, problems: &mut Problems, expected: &str) -> Option<(Value, Predicate)> {
    let text = cursor.string_or(problems, expected)?;
    let (predicate, matches_all) = match operator {
        Operator::Prefix => (Predicate::Prefix(text.into()), text.is_empty()),
        Operator::Suffix => (Predicate::Suffix(text.into()), text.is_empty()),
        Operator::EqualsIgnoreCase => (Predicate::IgnoreCase(lower_case(text)), false),
        Operator::Wildcard => {
            let wildcard = Wildcard::parse(text);
            let all = wildcard.matches_all();
            (Predicate::Wildcard(wildcard), all)
        }
        _ => match Pattern::compile(text) {
            Ok(pattern) => {
                let all = pattern.matches_all();
                (Predicate::Regex(pattern), all)
            }
            Err(message) => {
                cursor.error(problems, message, None);
                return None;
            }
        },
    };
    warn_if_matches_all(matches_all, cursor, problems, operator.name());
    Some((Value::String(text.into()), predicate))
}

fn warn_if_matches_all(matches_all: bool, cursor: &Cursor<'_>, problems: &mut Problems, what: &str) {
    if matches_all {
        cursor.warning(problems, format!("this {what} matches every string"), Some("`exists`, if that is meant"));
    }
}

fn parse_networks(cursor: &Cursor<'_>, problems: &mut Problems, expected: &str) -> Option<(Value, Predicate)> {
    let items = match &cursor.node.value {
        NodeValue::List(_) => cursor.list(problems)?,
        NodeValue::String(_) => vec![cursor.clone()],
        _ => return wrong(cursor, problems, expected),
    };
    let mut nets = Vec::new();
    let mut all_good = true;
    for item in &items {
        let Some(text) = item.string_or(problems, "a network such as 10.0.0.0/8") else {
            all_good = false;
            continue;
        };
        let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
        let Some(net) = net else {
            item.error(problems, format!("`{text}` is not a network"), Some("a network such as 10.0.0.0/8"));
            all_good = false;
            continue;
        };
        if net.trunc() != net {
            item.warning(problems, format!("`{text}` has bits beyond its prefix; it is read as {}", net.trunc()), None);
        }
        nets.push(net);
    }
    all_good.then(|| (cursor.node.to_json(), Predicate::Cidr(nets)))
}

/// `length` with a number, with `{ operator, value }`, or with `{ greater_than: 3 }`.
fn parse_length(cursor: &Cursor<'_>, problems: &mut Problems, expected: &str) -> Option<(Value, Predicate)> {
    let comparison = |operator: Operator, value: Value| json!({ "operator": operator.name(), "value": value });
    let NodeValue::Map(pairs) = &cursor.node.value else {
        let (value, _) = parse_number(cursor, problems, expected)?;
        let predicate = Predicate::Among(Scalars::of([&value]));
        return Some((comparison(Operator::Equals, value), Predicate::Length(Box::new(predicate))));
    };
    let short = match pairs.as_slice() {
        [(key, _)] => Operator::parse(&key.text).map(|operator| (operator, key.text.as_str())),
        _ => None,
    };
    let (operator, value_at) = match short {
        Some((operator, key)) => (operator, cursor.any_map(problems)?.get_or_null(key)?),
        None => {
            let members = cursor.map(problems, &["operator", "op", "value"])?;
            let Some(at) = members.alias(problems, &["operator", "op"]) else {
                cursor.error(problems, "`operator` is missing", Some(expected));
                return None;
            };
            (parse_operator(&at, problems)?, members.required(problems, "value")?)
        }
    };
    let is_set = matches!(operator, Operator::Equals | Operator::NotEquals | Operator::In | Operator::NotIn);
    if !is_set && !operator.is_ordering() {
        cursor.error(problems, format!("`{}` does not compare lengths", operator.name()), Some("a comparison of numbers"));
        return None;
    }
    let (value, predicate) = parse_value(operator, &value_at, problems)?;
    Some((comparison(operator, value), Predicate::Length(Box::new(predicate))))
}
