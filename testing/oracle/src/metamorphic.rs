//! Rewritings of rules, messages and reloads that must not change an answer.

use serde_json::{Value, json};

use crate::draw::Draw;

/// The rules with each condition rewritten, by the name of the rewriting.
pub fn rewritten_rules(rules: &[Value], draw: &mut Draw) -> Vec<(&'static str, Vec<Value>)> {
    let each = |rewrite: &dyn Fn(&Value) -> Value| -> Vec<Value> { rules.iter().map(|rule| with_condition(rule, rewrite)).collect() };
    let mut shuffled = rules.to_vec();
    draw.shuffle(&mut shuffled);
    vec![
        ("shuffled rules", shuffled),
        ("double negation", each(&|condition| not(&not(condition)))),
        ("De Morgan", each(&de_morgan)),
        ("reversed lists", each(&reversed)),
    ]
}

fn with_condition(rule: &Value, rewrite: &dyn Fn(&Value) -> Value) -> Value {
    let mut rule = rule.clone();
    for key in ["when", "conditions"] {
        if let Some(condition) = rule.get(key) {
            let list = if condition.is_array() { json!({ "all": condition }) } else { condition.clone() };
            rule[key] = rewrite(&list);
        }
    }
    rule
}

fn not(condition: &Value) -> Value {
    json!({ "not": condition })
}

fn members(condition: &Value, key: &str) -> Option<Vec<Value>> {
    condition.get(key)?.as_array().cloned()
}

/// `all` is not any of the negations, and the other way round, at every level.
fn de_morgan(condition: &Value) -> Value {
    for (key, other) in [("all", "any"), ("any", "all")] {
        if let Some(list) = members(condition, key) {
            return not(&json!({ other: list.iter().map(|inner| not(&de_morgan(inner))).collect::<Vec<_>>() }));
        }
    }
    match condition.get("not") {
        Some(inner) => not(&de_morgan(inner)),
        None => condition.clone(),
    }
}

fn reversed(condition: &Value) -> Value {
    for key in ["all", "any"] {
        if let Some(list) = members(condition, key) {
            return json!({ key: list.iter().rev().map(reversed).collect::<Vec<_>>() });
        }
    }
    match condition.get("not") {
        Some(inner) => not(&reversed(inner)),
        None => condition.clone(),
    }
}

/// The message as text with the members of every object in another order, names escaped, members that no rule reads, and space around.
pub fn rewritten_message(message: &Value, draw: &mut Draw) -> String {
    let mut text = String::new();
    write(message, true, draw, &mut text);
    text
}

fn space(draw: &mut Draw, text: &mut String) {
    (0..draw.below(3)).for_each(|_| text.push_str(draw.pick::<&str>(&[" ", "\n", "\t", "\r"])));
}

fn write(value: &Value, is_top: bool, draw: &mut Draw, text: &mut String) {
    space(draw, text);
    match value {
        Value::Object(map) => {
            let mut list: Vec<(String, Value)> = map.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            if is_top {
                list.push(("no rule reads it".into(), json!({ "a": [1, { "a": "\u{1f600}\\" }] })));
                list.push(("A".into(), json!("a")));
            }
            draw.shuffle(&mut list);
            text.push('{');
            for (i, (name, value)) in list.iter().enumerate() {
                text.push_str(if i > 0 { "," } else { "" });
                space(draw, text);
                string(name, draw, text);
                space(draw, text);
                text.push(':');
                write(value, false, draw, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                text.push_str(if i > 0 { "," } else { "" });
                write(item, false, draw, text);
            }
            text.push(']');
        }
        Value::String(plain) => string(plain, draw, text),
        other => text.push_str(&other.to_string()),
    }
    space(draw, text);
}

/// A string, some of its characters escaped.
fn string(plain: &str, draw: &mut Draw, text: &mut String) {
    if !draw.chance(0.3) {
        text.push_str(&Value::from(plain).to_string());
        return;
    }
    text.push('"');
    for unit in plain.encode_utf16() {
        text.push_str(&format!("\\u{unit:04x}"));
    }
    text.push('"');
}

/// A reload: what the catalog holds after it.
pub type Step = Vec<Value>;

/// Catalogs on the way from nothing to these rules, ending with them: whole, in parts, with some taken out and put back.
pub fn reloads(rules: &[Value], draw: &mut Draw) -> Vec<(&'static str, Vec<Step>)> {
    let whole = rules.to_vec();
    let (front, back) = rules.split_at(rules.len() / 2);
    let mut removed = whole.clone();
    if !removed.is_empty() {
        removed.remove(draw.below(whole.len()));
    }
    let later: Vec<Value> = whole.iter().enumerate().filter(|(i, _)| i % 8 != 3).map(|(_, rule)| rule.clone()).collect();
    let mut merged = back.to_vec();
    merged.extend_from_slice(front);
    vec![
        ("split in two", vec![front.to_vec(), whole.clone()]),
        ("merged the other way round", vec![back.to_vec(), merged]),
        ("one rule removed and put back", vec![whole.clone(), removed, whole.clone()]),
        ("one rule in eight comes later", vec![later, whole]),
    ]
}
