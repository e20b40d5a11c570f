//! Transforms: fields that a matching rule derives, for later rules of its chain and for the workflows.
//!
//! A transform is evaluated once, on what its rule sees, to an [`Effect`]; effects are then replayed on the original payload.
//! Reading enters arrays, and so does writing: `items.flag` is set in every object of the list `items`. What stands in
//! the way of a write and is no object gives way to one.

use serde_json::{Map, Value, json};

use crate::document::{Cursor, Members, NodeValue, Position, Problems};
use crate::expr::{Expr, ExprError, Template};
use crate::path::{Path, dotted};

/// Most transforms of one rule.
pub const TRANSFORMS_MAX: usize = 256;
/// Most values that the transforms of one message may write, copies into lists and into the views of later rules counted each.
pub const DERIVED_VALUES_MAX: usize = 1 << 18;
/// Bytes of text that count as one more value.
const TEXT_BYTES_PER_VALUE: usize = 64;

/// One transform as written, checked.
#[derive(Clone, Debug)]
pub(crate) enum Transform {
    /// Writes a constant or a template.
    Set { to: Vec<String>, value: Value, template: Template },
    /// Writes what another path holds: its value, or the list of its values when there are several.
    Copy { from: Path, to: Vec<String> },
    /// Copies and removes the source.
    Rename { from: Vec<String>, to: Vec<String> },
    /// Takes a member away.
    Remove { path: Vec<String> },
    /// Writes the value of an expression.
    Compute { to: Vec<String>, expr: Expr },
    /// Writes what a table holds for the first value of a path that is a key of it, else the default.
    Lookup { key: Path, table: String, to: Vec<String>, default: Option<Value> },
}

/// A change of the payload with its values worked out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect<'r> {
    Set(&'r [String], Value),
    Remove(&'r [String]),
}

const KINDS: [&str; 6] = ["set", "copy", "rename", "remove", "compute", "lookup"];

impl Transform {
    /// Reads one transform. `tables` are the names of the lookups; a name that is not there is an error.
    pub fn parse(cursor: &Cursor<'_>, problems: &mut Problems, tables: Option<&[&str]>) -> Option<Self> {
        let NodeValue::Map(pairs) = &cursor.node.value else {
            cursor.error(
                problems,
                format!("found {}", cursor.node.kind()),
                Some("a map with one of set, copy, rename, remove, compute, lookup"),
            );
            return None;
        };
        let Some(kind) = KINDS.into_iter().find(|kind| pairs.iter().any(|(key, _)| key.text == *kind)) else {
            let near = pairs.iter().find_map(|(key, _)| crate::document::did_you_mean(&key.text, &KINDS));
            let near = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
            cursor.error(problems, format!("not a transform{near}"), Some("one of set, copy, rename, remove, compute, lookup"));
            return None;
        };
        match kind {
            "set" => parse_set(&cursor.map(problems, &["set", "value"])?, problems),
            "copy" => {
                let members = cursor.map(problems, &["copy", "to"])?;
                let (from, to) = (source(&members, "copy", problems), target(&members, "to", problems));
                Some(Self::Copy { from: from?, to: to? })
            }
            "rename" => {
                let members = cursor.map(problems, &["rename", "to"])?;
                let (from, to) = (target(&members, "rename", problems), target(&members, "to", problems));
                Some(Self::Rename { from: from?, to: to? })
            }
            "remove" => target(&cursor.map(problems, &["remove"])?, "remove", problems).map(|path| Self::Remove { path }),
            "compute" => parse_compute(&cursor.map(problems, &["compute", "expr"])?, problems),
            _ => parse_lookup(&cursor.map(problems, &["lookup", "in", "to", "default"])?, problems, tables),
        }
    }

    /// Canonical JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Set { to, value, .. } => json!({ "set": dotted(to), "value": value }),
            Self::Copy { from, to } => json!({ "copy": from.to_string(), "to": dotted(to) }),
            Self::Rename { from, to } => json!({ "rename": dotted(from), "to": dotted(to) }),
            Self::Remove { path } => json!({ "remove": dotted(path) }),
            Self::Compute { to, expr } => json!({ "compute": dotted(to), "expr": expr.text() }),
            Self::Lookup { key, table, to, default } => {
                let mut map = json!({ "lookup": key.to_string(), "in": table, "to": dotted(to) });
                if let Some(default) = default {
                    map["default"] = default.clone();
                }
                map
            }
        }
    }

    /// Whether it reads this path of the envelope, directly or in an expression.
    pub fn reads(&self, path: &Path) -> bool {
        let named = |references: Vec<String>| references.contains(&path.to_string());
        match self {
            Self::Set { template, .. } => named(template.references()),
            Self::Compute { expr, .. } => named(expr.references()),
            Self::Copy { from: read, .. } | Self::Lookup { key: read, .. } => read == path,
            Self::Rename { .. } | Self::Remove { .. } => false,
        }
    }

    /// Where it writes, or what it takes away.
    pub fn writes(&self) -> &[String] {
        match self {
            Self::Set { to, .. } | Self::Copy { to, .. } | Self::Rename { to, .. } | Self::Compute { to, .. } | Self::Lookup { to, .. } => {
                to
            }
            Self::Remove { path } => path,
        }
    }

    /// The lookup table that it reads.
    pub fn table(&self) -> Option<&str> {
        match self {
            Self::Lookup { table, .. } => Some(table),
            _ => None,
        }
    }
}

fn parse_set(members: &Members<'_>, problems: &mut Problems) -> Option<Transform> {
    let to = target(members, "set", problems);
    let Some(value_at) = members.get_or_null("value") else {
        problems.error(members.at(), members.path(), "`value` is missing", Some("any value; strings may hold ${expressions}"));
        return None;
    };
    let value = value_at.node.to_json();
    let template = compile_template(&value, &value_at, problems);
    Some(Transform::Set { to: to?, value, template: template? })
}

fn parse_compute(members: &Members<'_>, problems: &mut Problems) -> Option<Transform> {
    let to = target(members, "compute", problems);
    let at = members.required(problems, "expr")?;
    let text = at.string_or(problems, "an expression such as amount * 2")?;
    match Expr::parse(text) {
        Ok(expr) => Some(Transform::Compute { to: to?, expr }),
        Err(error) => {
            expression_problem(&error, &at, problems);
            None
        }
    }
}

fn parse_lookup(members: &Members<'_>, problems: &mut Problems, tables: Option<&[&str]>) -> Option<Transform> {
    let (key, to) = (source(members, "lookup", problems), target(members, "to", problems));
    let at = members.required(problems, "in")?;
    let table = at.string_or(problems, "the name of a lookup table")?;
    if let Some(tables) = tables {
        check_table(table, &at, tables, problems);
    }
    let default = members.get_or_null("default").map(|at| at.node.to_json());
    Some(Transform::Lookup { key: key?, table: table.into(), to: to?, default })
}

fn check_table(table: &str, at: &Cursor<'_>, tables: &[&str], problems: &mut Problems) {
    if !tables.contains(&table) {
        unknown_table(table, at.at(), &at.path, tables, problems);
    }
}

/// Adds the problem that a lookup names a table that is not there.
pub(crate) fn unknown_table(table: &str, at: Position, path: &str, tables: &[&str], problems: &mut Problems) {
    let near = crate::document::did_you_mean(table, tables).map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
    let expected = if tables.is_empty() { "a table under `lookups`".to_string() } else { format!("one of {}", tables.join(", ")) };
    problems.error(at, path, format!("unknown lookup table `{table}`{near}"), Some(&expected));
}

fn source(members: &Members<'_>, key: &str, problems: &mut Problems) -> Option<Path> {
    let at = members.required(problems, key)?;
    Path::parse(at.string_or(problems, "a path such as user.age")?).map_err(|message| at.error(problems, message, None)).ok()
}

fn target(members: &Members<'_>, key: &str, problems: &mut Problems) -> Option<Vec<String>> {
    let at = members.required(problems, key)?;
    let text = at.string_or(problems, "a path of the payload such as risk.level")?;
    Path::parse_target(text).map_err(|message| at.error(problems, message, Some("a path of the payload such as risk.level"))).ok()
}

/// Compiles a template, adding a problem when an expression in it is wrong.
pub(crate) fn compile_template(value: &Value, at: &Cursor<'_>, problems: &mut Problems) -> Option<Template> {
    Template::compile(value).map_err(|error| expression_problem(&error, at, problems)).ok()
}

fn expression_problem(error: &ExprError, at: &Cursor<'_>, problems: &mut Problems) {
    let place = if error.line > 1 { format!("line {} column {}", error.line, error.column) } else { format!("column {}", error.column) };
    at.error(problems, format!("bad expression: {} (at {place} of the expression)", error.message), None);
}

/// What writing may still cost: one per value, and one per 64 bytes of text.
#[derive(Debug)]
pub(crate) struct WriteBudget(usize);

impl Default for WriteBudget {
    fn default() -> Self {
        Self(DERIVED_VALUES_MAX)
    }
}

impl WriteBudget {
    fn take(&mut self, cost: usize) -> bool {
        match self.0.checked_sub(cost) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

impl Effect<'_> {
    /// Applies the change. False when the budget is spent: then some places may not have been written.
    pub fn apply(&self, payload: &mut Value, budget: &mut WriteBudget) -> bool {
        match self {
            Self::Set(path, value) => {
                let cost = cost(value);
                set(payload, path, value, cost, budget)
            }
            Self::Remove(path) => {
                remove(payload, path);
                true
            }
        }
    }
}

/// How many values a value is, long texts counting more.
fn cost(value: &Value) -> usize {
    1 + match value {
        Value::String(text) => text.len() / TEXT_BYTES_PER_VALUE,
        Value::Array(items) => items.iter().map(cost).sum(),
        Value::Object(members) => members.iter().map(|(key, value)| key.len() / TEXT_BYTES_PER_VALUE + cost(value)).sum(),
        _ => 0,
    }
}

fn set(target: &mut Value, path: &[String], value: &Value, cost: usize, budget: &mut WriteBudget) -> bool {
    let Some((first, rest)) = path.split_first() else {
        if !budget.take(cost) {
            return false;
        }
        *target = value.clone();
        return true;
    };
    if let Value::Array(items) = target {
        return items.iter_mut().filter(|item| item.is_object() || item.is_array()).all(|item| set(item, path, value, cost, budget));
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    match target.as_object_mut() {
        Some(members) => set(members.entry(first.as_str()).or_insert(Value::Null), rest, value, cost, budget),
        None => true,
    }
}

fn remove(target: &mut Value, path: &[String]) {
    match target {
        Value::Array(items) => items.iter_mut().for_each(|item| remove(item, path)),
        Value::Object(members) => match path {
            [last] => {
                members.remove(last);
            }
            [first, rest @ ..] => {
                if let Some(inner) = members.get_mut(first) {
                    remove(inner, rest);
                }
            }
            [] => {}
        },
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        Path::parse_target(text).unwrap()
    }

    fn after_set(mut payload: Value, to: &str, value: Value) -> Value {
        assert!(Effect::Set(&path(to), value).apply(&mut payload, &mut WriteBudget::default()));
        payload
    }

    #[test]
    fn writing_makes_objects_and_enters_lists() {
        assert_eq!(after_set(json!({}), "a.b", json!(1)), json!({"a": {"b": 1}}));
        assert_eq!(after_set(json!({"a": 5, "c": 1}), "a.b", json!(1)), json!({"a": {"b": 1}, "c": 1}));
        assert_eq!(after_set(json!({"a": [{"x": 0}, 7, [{}]]}), "a.b", json!(1)), json!({"a": [{"x": 0, "b": 1}, 7, [{"b": 1}]]}));
        assert_eq!(after_set(json!(null), "a", json!(1)), json!({"a": 1}));
        assert_eq!(after_set(json!({}), r"a\.b", json!(1)), json!({"a.b": 1}));
    }

    #[test]
    fn removing_takes_away_what_is_there() {
        let mut payload = json!({"a": [{"b": 1, "c": 2}, 3], "d": {"e": 1}});
        for gone in ["a.b", "d.e", "x.y"] {
            Effect::Remove(&path(gone)).apply(&mut payload, &mut WriteBudget::default());
        }
        assert_eq!(payload, json!({"a": [{"c": 2}, 3], "d": {}}));
    }

    #[test]
    fn copies_into_many_places_are_bounded() {
        let mut payload = json!({ "a": vec![json!({}); 1_000] });
        let big = Value::Array(vec![json!(1); 1_000]);
        assert!(!Effect::Set(&path("a.b"), big).apply(&mut payload, &mut WriteBudget::default()));
    }
}
