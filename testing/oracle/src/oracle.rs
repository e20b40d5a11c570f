//! The naive evaluator: every rule on every message, by the definition of the language.
//!
//! Paths are split at dots; lists on the way are entered. What a path reaches are its *nodes*; nodes with lists opened and objects dropped
//! are its *leaves*. A field without nodes is missing. `payload.x` means `x` unless the payload has a member `payload`; `event_type` is
//! the payload's member, else the envelope's; `$event_type` the envelope's, else the payload's.

use std::cmp::Reverse;

use serde_json::Value;

use crate::predicates::Predicate;

/// What a message carries beside its payload.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// The envelope's event type.
    pub event_type: Option<&'a str>,
    /// Headers; names are compared without regard to ASCII case.
    pub headers: &'a [(&'a str, &'a str)],
}

/// Rules, read from their JSON.
#[derive(Debug)]
pub struct Oracle {
    rules: Vec<(String, Condition)>,
}

#[derive(Debug)]
enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Leaf(String, Box<Predicate>),
}

impl Oracle {
    /// Reads rules with `id`, `priority`, `when` or `conditions`, `event_type`, `enabled`.
    ///
    /// Errors: what it does not know, in words. A rule with `after`, `transform` or `on_match` is among that: what such rules see depends
    /// on others, and this evaluator looks at each rule alone.
    pub fn read(rules: &[Value]) -> Result<Self, String> {
        let mut read = Vec::new();
        for rule in rules {
            let id = rule["id"].as_str().ok_or_else(|| format!("a rule without id: {rule}"))?;
            for key in ["after", "transform", "on_match"] {
                if rule.get(key).is_some() {
                    return Err(format!("{id}: `{key}` is not for this evaluator"));
                }
            }
            if rule["enabled"] == Value::Bool(false) {
                continue;
            }
            let written = rule.get("when").or_else(|| rule.get("conditions")).unwrap_or(&Value::Null);
            let condition =
                if written.is_null() { Condition::All(Vec::new()) } else { Condition::read(written).map_err(|e| format!("{id}: {e}"))? };
            let condition = match rule["event_type"].as_str() {
                None => condition,
                Some(event_type) => Condition::All(vec![
                    Condition::Leaf("$event_type".into(), Box::new(Predicate::read("equals", &Value::from(event_type))?)),
                    condition,
                ]),
            };
            read.push((Reverse(rule["priority"].as_i64().unwrap_or(0)), id.to_string(), condition));
        }
        read.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        Ok(Self { rules: read.into_iter().map(|(_, id, condition)| (id, condition)).collect() })
    }

    /// The ids of all rules that match, higher priority first, then by id.
    pub fn matches(&self, beside: Beside<'_>, payload: &Value) -> Vec<&str> {
        self.rules.iter().filter(|(_, condition)| condition.holds(beside, payload)).map(|(id, _)| id.as_str()).collect()
    }
}

impl Condition {
    fn read(written: &Value) -> Result<Self, String> {
        let list = |list: &Value| list.as_array().ok_or("not a list")?.iter().map(Self::read).collect::<Result<Vec<_>, String>>();
        if written.is_array() {
            return list(written).map(Self::All);
        }
        if let Some(inner) = written.get("all") {
            return list(inner).map(Self::All);
        }
        if let Some(inner) = written.get("any") {
            return list(inner).map(Self::Any);
        }
        if let Some(inner) = written.get("not") {
            return Self::read(inner).map(|condition| Self::Not(Box::new(condition)));
        }
        let field = written["field"].as_str().ok_or_else(|| format!("no field in {written}"))?;
        let op = written.get("op").or_else(|| written.get("operator")).and_then(Value::as_str).ok_or("no operator")?;
        let value = written.get("value").unwrap_or(&Value::Bool(true));
        Ok(Self::Leaf(field.into(), Box::new(Predicate::read(op, value)?)))
    }

    fn holds(&self, beside: Beside<'_>, payload: &Value) -> bool {
        match self {
            Self::All(list) => list.iter().all(|condition| condition.holds(beside, payload)),
            Self::Any(list) => list.iter().any(|condition| condition.holds(beside, payload)),
            Self::Not(condition) => !condition.holds(beside, payload),
            Self::Leaf(field, predicate) => predicate.holds(&nodes_of(field, beside, payload)),
        }
    }
}

/// The nodes that a path as written leads to.
fn nodes_of(field: &str, beside: Beside<'_>, payload: &Value) -> Vec<Value> {
    let of_payload = |segments: &[String]| if payload.is_object() { nodes(payload, segments) } else { Vec::new() };
    let event_type = ["event_type".to_string()];
    if field == "$event_type" {
        return beside.event_type.map_or_else(|| of_payload(&event_type), |text| vec![text.into()]);
    }
    if let Some(name) = field.strip_prefix("$headers.") {
        let of_name = beside.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        return of_name.map(|(_, value)| Value::from(*value)).collect();
    }
    let mut segments = split(field);
    if segments.len() > 1 && segments[0] == "payload" && payload.get("payload").is_none() {
        segments.remove(0);
    }
    let found = of_payload(&segments);
    match beside.event_type {
        Some(text) if segments == event_type && found.is_empty() => vec![text.into()],
        _ => found,
    }
}

/// Members between dots; `\.` is a dot in a name.
fn split(field: &str) -> Vec<String> {
    field.replace("\\.", "\u{0}").split('.').map(|segment| segment.replace('\u{0}', ".")).collect()
}

fn nodes(value: &Value, segments: &[String]) -> Vec<Value> {
    match (segments, value) {
        ([], value) => vec![value.clone()],
        ([name, rest @ ..], Value::Object(members)) => members.get(name).map(|member| nodes(member, rest)).unwrap_or_default(),
        (_, Value::Array(items)) => items.iter().flat_map(|item| nodes(item, segments)).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde_json::json;

    use super::*;

    #[test]
    fn it_says_what_the_fixtures_say() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules/tests/fixtures");
        let mut compared_count = 0;
        for name in ["simple-7", "simple-42", "regex-7", "regex-42", "mixed-7", "mixed-42", "nested-7", "nested-42"] {
            let read = |file: &str| fs::read_to_string(folder.join(name).join(file)).unwrap();
            let rules: Value = serde_json::from_str(&read("rules.json")).unwrap();
            let oracle = Oracle::read(rules["rules"].as_array().unwrap()).unwrap();
            let (messages, expected) = (read("messages.jsonl"), read("expected.jsonl"));
            for (message, expected) in messages.lines().zip(expected.lines()) {
                let expected: Value = serde_json::from_str(expected).unwrap();
                let payload = serde_json::from_str(message).unwrap();
                assert_eq!(json!(oracle.matches(Beside::default(), &payload)), expected["ids"], "{name}: {message}");
                compared_count += 1;
            }
        }
        assert!(compared_count > 1_000, "{compared_count}");
    }

    #[test]
    fn paths_reach_what_the_guide_says() {
        let payload = json!({ "a": [{ "b": 1 }, { "b": [2, 3] }], "x.y": 4, "event_type": "own" });
        let beside = Beside { event_type: Some("given"), headers: &[("H", "one"), ("h", "two")] };
        let reached = |field: &str| json!(nodes_of(field, beside, &payload));
        assert_eq!(reached("a.b"), json!([1, [2, 3]]));
        assert_eq!(reached("payload.a.b"), json!([1, [2, 3]]));
        assert_eq!(reached(r"x\.y"), json!([4]));
        assert_eq!((reached("event_type"), reached("$event_type")), (json!(["own"]), json!(["given"])));
        assert_eq!(reached("$headers.h"), json!(["one", "two"]));
        assert_eq!(json!(nodes_of("event_type", beside, &json!([1]))), json!(["given"]));
    }
}
