//! Schemas: what the input and the parameters of a workflow must look like, as JSON Schema (draft 2020-12 unless `$schema` says otherwise).
//!
//! They are judged when an entry is applied, so what a judgement costs has a bound: a schema whose references are written out has at most
//! [`SCHEMA_NODES_MAX`] parts, which rules recursion out, and schema times document at most [`SCHEMA_WORK_MAX`]. Patterns are matched in
//! linear time. Nothing is fetched: references lead to places of the schema itself.

use std::fmt;

use distric_rules::document::{Cursor, NodeValue, Problems};
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::octets::Octets;

/// Most bytes of a schema, as canonical JSON.
pub const SCHEMA_BYTES_MAX: usize = 64 << 10;
/// Most parts of a schema, each reference counted as what it leads to.
pub const SCHEMA_NODES_MAX: usize = 2_000;
/// Most parts of a schema times bytes of a document: what is larger is not judged and refused.
pub const SCHEMA_WORK_MAX: usize = 1 << 28;
/// Longest sentence about what does not fit, characters.
const MESSAGE_CHARS_MAX: usize = 400;
/// Most memory of one pattern, bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Keywords with one schema.
const ONE: [&str; 10] =
    ["additionalItems", "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then", "contentSchema"];
/// Keywords with a list of schemas; `items` was one of them.
const LISTS: [&str; 5] = ["allOf", "anyOf", "items", "oneOf", "prefixItems"];
/// Keywords with schemas by name; those in `dependencies` may be lists of names.
const MAPS: [&str; 4] = ["dependencies", "dependentSchemas", "patternProperties", "properties"];
/// Keywords whose cost or meaning cannot be seen from where they stand.
const REFUSED: [&str; 7] =
    ["$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef", "unevaluatedItems", "unevaluatedProperties"];

/// What is wrong with a schema, and where in it: a JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SchemaProblem {
    pub pointer: String,
    pub message: String,
}

/// A schema, ready to judge.
pub struct Schema {
    validator: Validator,
    nodes_count: usize,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("nodes_count", &self.nodes_count).finish_non_exhaustive()
    }
}

impl Schema {
    /// Compiles a schema. Errors: the first thing that is wrong with it.
    pub(super) fn compile(schema: &Value) -> Result<Self, SchemaProblem> {
        let bytes = schema.to_string().len();
        let problem = |pointer: &str, message: String| SchemaProblem { pointer: pointer.to_owned(), message };
        if bytes > SCHEMA_BYTES_MAX {
            return Err(problem("", format!("the schema has {bytes} bytes, more than SCHEMA_BYTES_MAX, {SCHEMA_BYTES_MAX}")));
        }
        let mut scale = Scale { root: schema, inside: Vec::new(), nodes_count: 0 };
        scale.weigh(schema, &mut String::new())?;
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        let validator = jsonschema::options().with_pattern_options(patterns).should_validate_formats(false).build(schema);
        let validator = validator.map_err(|error| problem(error.instance_path().as_str(), cut(error.to_string())))?;
        Ok(Self { validator, nodes_count: scale.nodes_count })
    }

    /// Judges a JSON text; an empty one is `absent`. Errors: what does not fit, with its place below `name`. The same on every replica.
    pub fn judge(&self, name: &str, document: &Octets, absent: Value) -> Result<(), String> {
        if document.len().saturating_mul(self.nodes_count) > SCHEMA_WORK_MAX {
            let bytes = document.len();
            return Err(format!("{name}: {bytes} bytes are too many for a schema of {} parts (SCHEMA_WORK_MAX)", self.nodes_count));
        }
        let document = if document.is_empty() { absent } else { document.to_json().unwrap_or(Value::Null) };
        if self.validator.is_valid(&document) {
            return Ok(());
        }
        // Of several errors the first by place, whatever order they are found in.
        let errors = self.validator.iter_errors(&document).map(|error| (error.instance_path().to_string(), error.to_string()));
        let (path, message) = errors.min().unwrap_or_default();
        Err(cut(format!("{name}{path}: {message}")))
    }
}

/// Checks a schema of a text: its first problem goes where it stands.
pub(super) fn check(cursor: &Cursor<'_>, problems: &mut Problems) {
    if let Err(SchemaProblem { pointer, message }) = Schema::compile(&cursor.node.to_json()) {
        place_in(cursor, &pointer).error(problems, message, None);
    }
}

/// The place that a pointer leads to, as far as it leads.
fn place_in<'a>(cursor: &Cursor<'a>, pointer: &str) -> Cursor<'a> {
    let mut place = cursor.clone();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        let mut ignored = Problems::new("");
        let next = match place.node.value {
            NodeValue::Map(_) => place.any_map(&mut ignored).and_then(|members| members.get(&step)),
            NodeValue::List(_) => {
                place.list(&mut ignored).and_then(|items| step.parse().ok().and_then(|index: usize| items.get(index).cloned()))
            }
            _ => None,
        };
        let Some(next) = next else { break };
        place = next;
    }
    place
}

/// What a schema comes to when its references are written out.
struct Scale<'a> {
    root: &'a Value,
    /// The references that are being written out.
    inside: Vec<&'a str>,
    nodes_count: usize,
}

impl<'a> Scale<'a> {
    /// Counts a schema at `pointer`. Recurses no deeper than [`SCHEMA_NODES_MAX`].
    fn weigh(&mut self, schema: &'a Value, pointer: &mut String) -> Result<(), SchemaProblem> {
        let problem = |pointer: &str, message: String| Err(SchemaProblem { pointer: pointer.to_owned(), message });
        self.nodes_count += 1;
        if self.nodes_count > SCHEMA_NODES_MAX {
            let message = "with its references written out the schema has more parts than SCHEMA_NODES_MAX";
            return problem(pointer, format!("{message}, {SCHEMA_NODES_MAX}"));
        }
        let members = match schema {
            Value::Bool(_) => return Ok(()),
            Value::Object(members) => members,
            _ => return problem(pointer, "a schema is a map, true or false".to_owned()),
        };
        if let Some(name) = REFUSED.into_iter().find(|name| members.contains_key(*name)) {
            return problem(&format!("{pointer}/{name}"), format!("`{name}` is not supported"));
        }
        if members.contains_key("$id") && !pointer.is_empty() {
            return problem(&format!("{pointer}/$id"), "`$id` is supported at the top only".to_owned());
        }
        let length = pointer.len();
        if let Some(reference) = members.get("$ref") {
            pointer.push_str("/$ref");
            self.weigh_reference(reference, pointer)?;
            pointer.truncate(length);
        }
        for (name, member) in members {
            let inner: Vec<(String, &'a Value)> = match member {
                Value::Array(items) if LISTS.contains(&&**name) => {
                    (0..).zip(items).map(|(at, item): (usize, _)| (format!("/{at}"), item)).collect()
                }
                Value::Object(named) if MAPS.contains(&&**name) => {
                    let schemas = named.iter().filter(|(_, schema)| !schema.is_array());
                    schemas.map(|(key, schema)| (format!("/{}", key.replace('~', "~0").replace('/', "~1")), schema)).collect()
                }
                _ if ONE.contains(&&**name) => vec![(String::new(), member)],
                _ => Vec::new(),
            };
            for (step, schema) in inner {
                pointer.extend(["/", name, &step]);
                self.weigh(schema, pointer)?;
                pointer.truncate(length);
            }
        }
        Ok(())
    }

    fn weigh_reference(&mut self, reference: &'a Value, pointer: &mut String) -> Result<(), SchemaProblem> {
        let problem = |message: String| Err(SchemaProblem { pointer: pointer.clone(), message });
        let target = reference.as_str().and_then(|text| text.strip_prefix('#')).filter(|path| !path.contains('%'));
        let Some(path) = target else {
            return problem(format!("found {reference}, expected a place of this schema, such as \"#/$defs/amount\""));
        };
        let Some(schema) = self.root.pointer(path) else { return problem(format!("there is no `{path}` in this schema")) };
        if path.is_empty() || self.inside.contains(&path) {
            return problem(format!("`#{path}` leads back to itself: a schema that holds itself has no bound"));
        }
        self.inside.push(path);
        self.weigh(schema, pointer)?;
        self.inside.pop();
        Ok(())
    }
}

fn cut(text: String) -> String {
    if text.chars().count() <= MESSAGE_CHARS_MAX {
        return text;
    }
    text.chars().take(MESSAGE_CHARS_MAX).chain("…".chars()).collect()
}
