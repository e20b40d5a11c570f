//! Positioned trees of YAML and JSON, for every language of the project: rules, workflows, configuration.
//!
//! In: text of a file or a request.  Out: a [`Document`] whose every node knows its line and column, or one [`Problem`].
//! Invariant: a tree is at most `NESTING_MAX` deep, has at most [`DOCUMENT_NODES_MAX`] nodes and no duplicate keys.
//!
//! YAML is read by the 1.2 core schema (`no` is a string, `1_000` too). JSON has a reader of its own, because escapes
//! such as `"\ud83d\ude00"` are JSON but not YAML. Start reading at [`parse_documents`]; read a tree with [`Cursor`].

mod json;
mod problem;
mod read;
mod scalar;
mod yaml;

use serde_json::{Number, Value};

pub use problem::{PROBLEMS_MAX, Problem, Problems, Severity, did_you_mean};
pub use read::{Cursor, Members};

/// Largest text that is read, bytes. A catalog of 100,000 rules takes about 30 MiB.
pub const DOCUMENT_BYTES_MAX: usize = 64 << 20;
/// Most nodes in all documents of one text, copies made by aliases included.
pub const DOCUMENT_NODES_MAX: usize = 8 << 20;
/// Most nodes that the aliases of one text may copy: bounds the "billion laughs" expansion.
pub const ALIAS_NODES_MAX: usize = 100_000;
/// Most YAML documents in one text.
pub const DOCUMENTS_MAX: usize = 1_024;

/// A place in a text. Both count from 1; columns count characters. Zero means "not from a text".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// One YAML or JSON document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its outermost value.
    pub root: Node,
}

/// One value and the place where it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: NodeValue,
    /// Where it starts. For a value reached through a YAML alias: where the anchored value starts.
    pub at: Position,
}

/// The key of a map's member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its text. A YAML key that is not a string (`1:`, `true:`) is its text as written.
    pub text: String,
    /// Where it starts.
    pub at: Position,
}

/// The seven shapes of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeValue {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A finite number.
    Number(Number),
    /// Text.
    String(String),
    /// A list, in order.
    List(Vec<Node>),
    /// Members in the order of the text; keys are unique.
    Map(Vec<(Key, Node)>),
}

/// Reads a text that holds exactly one document.
///
/// JSON when `source_name` ends in `.json`, or when the text starts with `{` or `[` and is JSON; else YAML.
/// An empty text is one `null`. Errors: the first thing that is wrong, with its place; also a second document.
pub fn parse_document(source_name: &str, text: &str) -> Result<Document, Problem> {
    let mut documents = parse_documents(source_name, text)?;
    if let Some(second) = documents.get(1) {
        return Err(Problem::error(source_name, second.root.at, "", "a second document starts here", Some("one document".into())));
    }
    Ok(documents.pop().unwrap_or(Document { root: Node { value: NodeValue::Null, at: Position { line: 1, column: 1 } } }))
}

/// Reads every document of a text: one for JSON, any number up to [`DOCUMENTS_MAX`] for YAML. Empty documents are left out.
///
/// Errors: the first thing that is wrong, with its place; or the name of the budget that was exceeded.
pub fn parse_documents(source_name: &str, text: &str) -> Result<Vec<Document>, Problem> {
    if text.len() > DOCUMENT_BYTES_MAX {
        let message = format!("the text has {} bytes, more than DOCUMENT_BYTES_MAX", text.len());
        return Err(Problem::error(source_name, Position::default(), "", message, Some(format!("at most {DOCUMENT_BYTES_MAX} bytes"))));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if source_name.ends_with(".json") {
        return json::parse(text).map(|root| vec![Document { root }]).map_err(|fault| fault.into_problem(source_name));
    }
    if text.trim_start().starts_with(['{', '[']) {
        // A flow collection is YAML as well, so a text that is not JSON gets a second chance.
        let fault = match json::parse(text) {
            Ok(root) => return Ok(vec![Document { root }]),
            Err(fault) => fault,
        };
        let yaml_by_name = source_name.ends_with(".yaml") || source_name.ends_with(".yml");
        return yaml::parse(text).map_err(|yaml_fault| if yaml_by_name { yaml_fault } else { fault }.into_problem(source_name));
    }
    yaml::parse(text).map_err(|fault| fault.into_problem(source_name))
}

impl Node {
    /// A tree with no places (line 0), from a JSON text; `None` when it is none.
    pub(crate) fn from_json_text(text: &str) -> Option<Self> {
        json::parse_without_places(text).ok()
    }

    /// A tree with no places (line 0), from a JSON value.
    pub fn from_json(value: &Value) -> Self {
        let value = match value {
            Value::Null => NodeValue::Null,
            Value::Bool(b) => NodeValue::Bool(*b),
            Value::Number(n) => NodeValue::Number(n.clone()),
            Value::String(s) => NodeValue::String(s.clone()),
            Value::Array(items) => NodeValue::List(items.iter().map(Self::from_json).collect()),
            Value::Object(members) => NodeValue::Map(
                members.iter().map(|(key, value)| (Key { text: key.clone(), at: Position::default() }, Self::from_json(value))).collect(),
            ),
        };
        Self { value, at: Position::default() }
    }

    /// The tree as a JSON value, without its places.
    pub fn to_json(&self) -> Value {
        match &self.value {
            NodeValue::Null => Value::Null,
            NodeValue::Bool(b) => Value::Bool(*b),
            NodeValue::Number(n) => Value::Number(n.clone()),
            NodeValue::String(s) => Value::String(s.clone()),
            NodeValue::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            NodeValue::Map(members) => Value::Object(members.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect()),
        }
    }

    /// The member with this key, when the node is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            NodeValue::Map(members) => members.iter().find(|(k, _)| k.text == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// Its text, when it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            NodeValue::String(s) => Some(s),
            _ => None,
        }
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.value == NodeValue::Null
    }

    /// The name of its shape for a message: `a string`, `a list`.
    pub fn kind(&self) -> &'static str {
        match self.value {
            NodeValue::Null => "null",
            NodeValue::Bool(_) => "a boolean",
            NodeValue::Number(_) => "a number",
            NodeValue::String(_) => "a string",
            NodeValue::List(_) => "a list",
            NodeValue::Map(_) => "a map",
        }
    }
}

/// What a reader found wrong, before the source's name is known to it.
#[derive(Debug)]
struct Fault {
    at: Position,
    message: String,
    expected: Option<String>,
}

impl Fault {
    fn new(at: Position, message: impl Into<String>, expected: Option<&str>) -> Self {
        Self { at, message: message.into(), expected: expected.map(Into::into) }
    }

    fn into_problem(self, source_name: &str) -> Problem {
        Problem::error(source_name, self.at, "", self.message, self.expected)
    }
}

/// Maps of so few members are searched by comparing each two.
const FEW_MEMBERS: usize = 16;

/// Finds the second of two equal keys in the order of the text. O(n log n), since lookup tables have many members.
fn duplicate_key(members: &[(Key, Node)]) -> Option<Fault> {
    let is_new = |i: usize| members[..i].iter().all(|(known, _)| known.text != members[i].0.text);
    if members.len() <= FEW_MEMBERS && (0..members.len()).all(is_new) {
        return None;
    }
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|a, b| (&members[*a].0.text, a).cmp(&(&members[*b].0.text, b)));
    let second = order.windows(2).filter(|pair| members[pair[0]].0.text == members[pair[1]].0.text).map(|pair| pair[1]).min()?;
    let key = &members[second].0;
    let first = members.iter().find(|(k, _)| k.text == key.text).map_or(key.at, |(k, _)| k.at);
    Some(Fault::new(key.at, format!("the key `{}` is given twice, first at line {} column {}", key.text, first.line, first.column), None))
}

#[cfg(test)]
mod tests;
